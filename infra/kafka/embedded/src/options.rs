//! What the broker can be told at its start.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::durability::Durability;

/// The broker's settings. [`BrokerOptions::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Where everything is kept. Made if it is not there.
    pub data_dir: PathBuf,
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `host:port` that clients are told to connect to, where it is not the address listened on.
    pub advertise: Option<(String, u16)>,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Listen beyond loopback although anyone who gets there can do everything.
    pub allow_remote: bool,
    /// Create topics that a client asks about (and that it allows to be created).
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator leaves it to the broker.
    pub default_partitions: i32,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// Session time-outs, in milliseconds, that a group member may ask for.
    pub session_timeout_ms: RangeInclusive<i64>,
    /// How often retention and compaction are looked after.
    pub maintenance_interval: Duration,
    /// Largest frame of a produce, in bytes.
    pub max_request_bytes: usize,
    /// Largest answer to a fetch, in bytes, apart from a single batch that is larger.
    pub max_fetch_bytes: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// The journal is rewritten when it has this many bytes and has doubled since the last time.
    pub journal_compact_bytes: u64,
}

impl BrokerOptions {
    /// The defaults, for a broker on this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertise: None,
            durability: Durability::Fsync,
            allow_remote: false,
            auto_create_topics: false,
            default_partitions: 1,
            initial_rebalance_delay: Duration::from_millis(50),
            session_timeout_ms: 1_000..=1_800_000,
            maintenance_interval: Duration::from_secs(30),
            max_request_bytes: 32 * 1024 * 1024,
            max_fetch_bytes: 16 * 1024 * 1024,
            max_connections: 1_024,
            journal_compact_bytes: 8 * 1024 * 1024,
        }
    }

    /// The settings under Kafka's names where it has them, for `DescribeConfigs`.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let durability = match self.durability {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
        };
        vec![
            (
                "auto.create.topics.enable",
                self.auto_create_topics.to_string(),
            ),
            ("broker.id", crate::broker::NODE_ID.0.to_string()),
            ("durability", durability.to_owned()),
            ("fetch.max.bytes", self.max_fetch_bytes.to_string()),
            (
                "group.initial.rebalance.delay.ms",
                self.initial_rebalance_delay.as_millis().to_string(),
            ),
            (
                "group.max.session.timeout.ms",
                self.session_timeout_ms.end().to_string(),
            ),
            (
                "group.min.session.timeout.ms",
                self.session_timeout_ms.start().to_string(),
            ),
            ("listeners", format!("PLAINTEXT://{}", self.listen)),
            ("log.dirs", self.data_dir.display().to_string()),
            (
                "log.retention.check.interval.ms",
                self.maintenance_interval.as_millis().to_string(),
            ),
            ("max.connections", self.max_connections.to_string()),
            ("num.partitions", self.default_partitions.to_string()),
            (
                "socket.request.max.bytes",
                self.max_request_bytes.to_string(),
            ),
            (
                "transaction.max.timeout.ms",
                crate::transactions::MAX_TIMEOUT_MS.to_string(),
            ),
        ]
    }
}
