//! What can be set, with units and defaults.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to reach the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct KafkaOptions {
    /// Addresses of brokers, `host:port`, separated by commas. Default `127.0.0.1:9092`.
    pub bootstrap_servers: String,
    /// How the brokers hand out partitions: `classic`, which every broker knows, or `consumer`, KIP-848 of Kafka 4, where a new
    /// member or a lost one stops nobody else; session time-outs are then the broker's `group.consumer.*` settings.
    pub group_protocol: GroupProtocol,
    /// Copies of each partition of the topics that `atelier topics apply` makes. Absent: as infra/kafka/topics.toml says, 1.
    /// With three brokers, 3.
    pub replication_factor: Option<i32>,
    /// Copies that must have a record before it is acknowledged. Absent: as the brokers say. With three brokers, 2: any one
    /// may be lost, and nothing with it.
    pub min_insync_replicas: Option<i32>,
    /// Further librdkafka properties for every client, over everything else. Default none.
    pub properties: BTreeMap<String, String>,
    /// How this process and the brokers make themselves known to each other.
    pub security: SecurityOptions,
}

/// How this process and the brokers make themselves known to each other. The embedded broker has nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct SecurityOptions {
    /// What the brokers' listener speaks. `plaintext`: nothing is encrypted and nobody is asked; `ssl`: TLS; `sasl_plaintext`: a
    /// user name and a password (SCRAM), nothing encrypted; `sasl_ssl`: both.
    pub protocol: SecurityProtocol,
    /// PEM file of the authorities that the brokers' certificates may come from. Absent: the system's (ca-certificates).
    pub ca_file: Option<PathBuf>,
    /// PEM file of this process's own certificate, where brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of the private key to `certificate_file`, not encrypted: let only this user read it.
    pub key_file: Option<PathBuf>,
    /// How the password is proven.
    pub mechanism: SaslMechanism,
    /// Name of the SCRAM user. Absent: environment variable `ATELIER_KAFKA_USERNAME`.
    pub username: Option<String>,
    /// File that holds the user's password. Absent: environment variable `ATELIER_KAFKA_PASSWORD`. It is read whenever a
    /// connection is set up anew; a password never stands in this configuration.
    pub password_file: Option<PathBuf>,
}

/// What the brokers' listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Nothing is encrypted and nobody is asked.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// A user name and a password, nothing encrypted.
    SaslPlaintext,
    /// A user name and a password by TLS.
    SaslSsl,
}

/// How a password is proven without sending it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[default]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Without the values of properties that may be secrets: options are logged.
impl fmt::Debug for KafkaOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secret = |name: &str| {
            ["password", "secret", "token", ".pem"]
                .iter()
                .any(|word| name.contains(word))
        };
        let properties: BTreeMap<&str, &str> = self
            .properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .map(|(name, value)| (name, if is_secret(name) { "redacted" } else { value }))
            .collect();
        formatter
            .debug_struct("KafkaOptions")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_protocol", &self.group_protocol)
            .field("replication_factor", &self.replication_factor)
            .field("min_insync_replicas", &self.min_insync_replicas)
            .field("properties", &properties)
            .field("security", &self.security)
            .finish()
    }
}

/// How partitions are handed out among the members of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// The members agree among themselves.
    #[default]
    Classic,
    /// The broker decides (KIP-848).
    Consumer,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            bootstrap_servers: "127.0.0.1:9092".to_owned(),
            group_protocol: GroupProtocol::default(),
            replication_factor: None,
            min_insync_replicas: None,
            properties: BTreeMap::new(),
            security: SecurityOptions::default(),
        }
    }
}

impl KafkaOptions {
    /// The brokers at `bootstrap_servers`, nothing else set.
    pub fn at(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            ..Self::default()
        }
    }
}

/// How one stage runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct StageRuntimeOptions {
    /// Tells this process from others of the same stage; part of the transactional id, so it must be unique per stage and
    /// stay the same over restarts (a Kubernetes pod name, say). Default `0`.
    pub instance_id: String,
    /// Whether a process that is started again within the session time-out gets its partitions back without a rebalance
    /// (`group.instance.id`). The partitions of one that is stopped for good wait for the session time-out. Default false.
    pub static_membership: bool,
    /// Most messages that are taken but not committed yet; then partitions are paused. Default 1000.
    pub queue_capacity: usize,
    /// Most calls of the stage's `handle` that run at once, and as many again for bulk messages where they have a topic of
    /// their own. More than 1 suits cheap or waiting work; results are still committed in offset order. Default 1.
    pub max_in_flight: usize,
    /// Bulk messages (`image-tasks-bulk`) are let in while fewer than so many images, whoever's they are, wait or are worked in
    /// the stages behind: the most bulk images that one somebody waits for finds before it. At least 1. Default 16.
    pub bulk_under_way: usize,
    /// How long a shutdown or a rebalance waits for work in flight, in milliseconds; what is not done is abandoned and done
    /// again elsewhere. Default 20000.
    pub drain_timeout_ms: u64,
    /// What happens after a failure.
    pub retry: RetryOptions,
    /// How outputs and offsets are committed.
    pub transaction: TransactionOptions,
}

impl Default for StageRuntimeOptions {
    fn default() -> Self {
        Self {
            instance_id: "0".to_owned(),
            static_membership: false,
            queue_capacity: 1000,
            max_in_flight: 1,
            bulk_under_way: 16,
            drain_timeout_ms: 20_000,
            retry: RetryOptions::default(),
            transaction: TransactionOptions::default(),
        }
    }
}

impl StageRuntimeOptions {
    /// How long a shutdown or a rebalance waits for work in flight.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

/// What happens after a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct RetryOptions {
    /// How often a message is tried in place before it goes to the retry topic, at least 1. Default 3.
    pub in_place_tries: u32,
    /// Wait before the second try in place, in milliseconds; doubles with every further one. Default 100.
    pub in_place_backoff_ms: u64,
    /// Longest wait between tries in place, in milliseconds. Default 2000.
    pub in_place_max_backoff_ms: u64,
    /// Attempts (the first, and each by way of the retry topic) before a message goes to the dead letters. Default 5.
    pub max_attempts: u32,
    /// Wait in the retry topic before the second attempt, in milliseconds; fourfold with every further one. Default 5000.
    pub delay_ms: u64,
    /// Longest wait in the retry topic, in milliseconds. Default 300000.
    pub max_delay_ms: u64,
    /// First wait while something that every message needs is away, in milliseconds; doubles. Default 250.
    pub unavailable_backoff_ms: u64,
    /// Longest wait between two looks at what is away, in milliseconds. Default 15000.
    pub unavailable_max_backoff_ms: u64,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            in_place_tries: 3,
            in_place_backoff_ms: 100,
            in_place_max_backoff_ms: 2_000,
            max_attempts: 5,
            delay_ms: 5_000,
            max_delay_ms: 300_000,
            unavailable_backoff_ms: 250,
            unavailable_max_backoff_ms: 15_000,
        }
    }
}

impl RetryOptions {
    /// The wait after the `tries`-th try in place (from 1).
    pub fn in_place_backoff(&self, tries: u32) -> Duration {
        growing(
            self.in_place_backoff_ms,
            2,
            tries.saturating_sub(1),
            self.in_place_max_backoff_ms,
        )
    }

    /// The wait in the retry topic after the `attempt`-th attempt (from 1).
    pub fn delay(&self, attempt: u32) -> Duration {
        growing(
            self.delay_ms,
            4,
            attempt.saturating_sub(1),
            self.max_delay_ms,
        )
    }

    /// The wait after the `looks`-th look at what is away (from 1).
    pub fn unavailable_backoff(&self, looks: u32) -> Duration {
        growing(
            self.unavailable_backoff_ms,
            2,
            looks.saturating_sub(1),
            self.unavailable_max_backoff_ms,
        )
    }
}

fn growing(first_ms: u64, factor: u64, steps: u32, most_ms: u64) -> Duration {
    Duration::from_millis(
        first_ms
            .saturating_mul(factor.saturating_pow(steps))
            .min(most_ms),
    )
}

/// How outputs and offsets are committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct TransactionOptions {
    /// Most input messages whose results share one transaction. Default 500.
    pub max_messages: usize,
    /// How long the first result waits for more to share its transaction, in milliseconds. 0 commits at once; what is
    /// finished during a commit shares the next one anyway. Default 0.
    pub linger_ms: u64,
    /// After how long the broker aborts a transaction whose producer is gone, in milliseconds. Readers of the outputs wait
    /// for so long after a crash on another machine. Default 10000.
    pub timeout_ms: u64,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            max_messages: 500,
            linger_ms: 0,
            timeout_ms: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limits() {
        let retry = RetryOptions::default();
        let delays: Vec<u128> = (1..6)
            .map(|attempt| retry.delay(attempt).as_millis())
            .collect();
        assert_eq!(delays, [5_000, 20_000, 80_000, 300_000, 300_000]);
        assert_eq!(retry.in_place_backoff(1).as_millis(), 100);
        assert_eq!(retry.in_place_backoff(2).as_millis(), 200);
        assert_eq!(retry.unavailable_backoff(u32::MAX).as_millis(), 15_000);
    }

    #[test]
    fn secrets_among_the_properties_are_not_shown() {
        let secrets = [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
        ];
        let mut options = KafkaOptions::at("127.0.0.1:1");
        options.properties = secrets
            .map(|name| (name.to_owned(), "open sesame".to_owned()))
            .into();
        options
            .properties
            .insert("socket.timeout.ms".into(), "77".into());
        let shown = format!("{options:?}");
        assert!(!shown.contains("sesame") && shown.contains("77"), "{shown}");
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error =
            serde_json::from_str::<StageRuntimeOptions>(r#"{"queue_capacityy": 3}"#).unwrap_err();
        assert!(error.to_string().contains("queue_capacityy"), "{error}");
    }
}
