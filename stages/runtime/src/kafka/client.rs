//! Client configurations, and what librdkafka says put into our log without repeating itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use atelier_schemas::topics::retry_topic;
use rdkafka::{
    ClientConfig, ClientContext, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryResult, ProducerContext},
};

use super::{security::SecurityError, shared::Shared, trouble::Trouble};
use crate::{
    options::{GroupProtocol, KafkaOptions, StageRuntimeOptions},
    readiness::Dependency,
    record::TopicPartition,
    telemetry,
};

/// The properties that every client has: ours first, then those that were set by hand.
pub(crate) fn base_config(
    kafka: &KafkaOptions,
    client_id: &str,
) -> Result<ClientConfig, SecurityError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("client.id", client_id)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "2000")
        .set("allow.auto.create.topics", "false")
        // New partitions, and topics that were made anew, are seen after so long.
        .set("topic.metadata.refresh.interval.ms", "10000")
        // The contexts listen for those that a listener of another protocol closes; the log has them at debug only.
        .set("log.connection.close", "true")
        .set_log_level(RDKafkaLogLevel::Info);
    kafka.security.apply(&mut config)?;
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    Ok(config)
}

/// The consumer of a stage's group.
pub(crate) fn consumer_config(
    kafka: &KafkaOptions,
    stage: &str,
    options: &StageRuntimeOptions,
) -> Result<ClientConfig, SecurityError> {
    let mut defaults = KafkaOptions {
        properties: consumer_defaults(kafka, options),
        ..kafka.clone()
    };
    defaults.properties.extend(kafka.properties.clone());
    let mut config = base_config(
        &defaults,
        &format!("atelier-{stage}-{}", options.instance_id),
    )?;
    config
        .set("group.id", group_id(stage))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "false");
    if options.static_membership {
        config.set(
            "group.instance.id",
            transactional_id(stage, &options.instance_id),
        );
    }
    Ok(config)
}

fn consumer_defaults(
    kafka: &KafkaOptions,
    options: &StageRuntimeOptions,
) -> BTreeMap<String, String> {
    // A rebalance may wait for the drain while nobody polls.
    let max_poll_interval_ms = (options.drain_timeout_ms * 2).max(300_000).to_string();
    let mut defaults = vec![
        ("max.poll.interval.ms", max_poll_interval_ms.as_str()),
        ("statistics.interval.ms", "1000"),
        ("fetch.error.backoff.ms", "100"),
        ("fetch.queue.backoff.ms", "100"),
        ("queued.min.messages", "2000"),
    ];
    // Each topic by itself is shared out evenly. The other assignors count partitions, whatever is on them: of two instances one
    // could get all of the input and the other all of the retry topic.
    defaults.extend(match kafka.group_protocol {
        GroupProtocol::Classic => vec![
            ("partition.assignment.strategy", "range"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "1500"),
        ],
        // librdkafka refuses the settings of the other protocol: the broker has them.
        GroupProtocol::Consumer => vec![
            ("group.protocol", "consumer"),
            ("group.remote.assignor", "range"),
        ],
    });
    defaults
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The transactional producer of a stage's instance.
pub(crate) fn producer_config(
    kafka: &KafkaOptions,
    stage: &str,
    options: &StageRuntimeOptions,
) -> Result<ClientConfig, SecurityError> {
    let mut config = base_config(kafka, &format!("atelier-{stage}-{}", options.instance_id))?;
    config
        .set(
            "transactional.id",
            transactional_id(stage, &options.instance_id),
        )
        .set(
            "transaction.timeout.ms",
            options.transaction.timeout_ms.to_string(),
        )
        .set(
            "message.timeout.ms",
            options.transaction.timeout_ms.to_string(),
        )
        // So that records that are handed over together go out together; a fraction of what the offsets take meanwhile.
        .set("linger.ms", "0.5")
        // A transaction that begins while the broker still writes the last one's markers is asked to come back: it takes
        // milliseconds, and the default would wait 100.
        .set("retry.backoff.ms", "5")
        // What was delivered need not be reported one by one.
        .set("delivery.report.only.error", "true")
        // The same partition for a key as Java's clients choose.
        .set("partitioner", "murmur2_random")
        // The topics decide how large a record may be; the executor knows their limits.
        .set("message.max.bytes", "100000000")
        .set("queue.buffering.max.messages", "1000000");
    Ok(config)
}

/// The consumer group of a stage.
pub fn group_id(stage: &str) -> String {
    stage.to_owned()
}

pub(crate) fn transactional_id(stage: &str, instance_id: &str) -> String {
    format!("{}{instance_id}", transactional_id_prefix(stage))
}

/// What the transactional ids of all instances of a stage begin with.
pub(crate) fn transactional_id_prefix(stage: &str) -> String {
    format!("atelier-{stage}-")
}

/// Puts librdkafka's own lines into the log at debug: what matters reaches the log by way of [`crate::Readiness`].
pub(crate) fn log_client_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning
        | RDKafkaLogLevel::Notice
        | RDKafkaLogLevel::Info
        | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// Whether an error means that no broker can be used.
pub(crate) fn is_outage(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL
    )
}

/// The consumer's callbacks.
#[derive(Clone)]
pub(crate) struct ConsumerEvents {
    pub shared: Arc<Shared>,
    pub bootstrap_servers: String,
    pub drain_timeout: Duration,
    pub trouble: Trouble,
}

impl ConsumerEvents {
    fn stage(&self) -> &'static str {
        self.shared.readiness.stage()
    }
}

impl ClientContext for ConsumerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.trouble.hear_line(facility, line);
        log_client_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.hear(&error, reason);
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            let group = format!("consumer group `{}`", group_id(self.stage()));
            let readiness = &self.shared.readiness;
            readiness.lost(Dependency::Group, self.trouble.forbidden(&group));
        } else if code.is_some_and(is_outage) {
            let text = self.trouble.text().unwrap_or_else(|| {
                format!(
                    "kafka at {} cannot be reached: {reason}; is it running?",
                    self.bootstrap_servers
                )
            });
            self.shared.readiness.lost(Dependency::Consumer, text);
        } else {
            tracing::debug!(stage = self.stage(), %error, reason, "kafka consumer");
        }
    }

    fn stats(&self, statistics: Statistics) {
        let is_idle = self.shared.in_flight() == 0;
        self.shared
            .change_lag(|lag| lag.observed(&statistics, is_idle));
    }
}

impl ConsumerContext for ConsumerEvents {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else {
            return;
        };
        let sources = sources_of(list);
        let lost_already = consumer.assignment_lost();
        let change = if lost_already { "lost" } else { "revoked" };
        // What is lost belongs to somebody else: nothing of it may be committed, so there is nothing to wait for.
        let timeout = if lost_already {
            Duration::ZERO
        } else {
            self.drain_timeout
        };
        let drained = self.shared.drain(&sources, timeout);
        let abandoned = self.shared.given_up(&sources);
        telemetry::rebalance(self.stage(), change);
        if lost_already {
            self.shared.waits_outside();
            // A broker that stands still keeps its connections: this is the first that is seen of it. The health check of the
            // consumer's thread says when it is back.
            let text = format!(
                "kafka at {} did not answer within the session time-out, and the partitions are somebody else's",
                self.bootstrap_servers
            );
            self.shared.readiness.lost(Dependency::Consumer, text);
        }
        tracing::info!(
            stage = self.stage(),
            partitions = sources.len(),
            drained,
            abandoned,
            change,
            "partitions given up"
        );
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else {
            return;
        };
        let sources = sources_of(list);
        telemetry::rebalance(self.stage(), "assigned");
        tracing::info!(
            stage = self.stage(),
            partitions = sources.len(),
            "partitions assigned"
        );
        self.shared.assigned(sources);
        self.shared.readiness.found(Dependency::Consumer);
        self.shared.readiness.found(Dependency::Group);
    }
}

/// The producer's callbacks: remembers what could not be delivered.
pub(crate) struct ProducerEvents {
    undelivered: std::sync::Mutex<Option<String>>,
    trouble: Trouble,
}

impl ProducerEvents {
    pub fn new(trouble: Trouble) -> Self {
        Self {
            undelivered: std::sync::Mutex::default(),
            trouble,
        }
    }

    /// The first failed delivery since the last call.
    pub fn take_undelivered(&self) -> Option<String> {
        self.undelivered
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }
}

impl ClientContext for ProducerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // Only this line says which topic it was; the transaction's own error does not.
        if facility == "ADDPARTS"
            && line.contains("authorization failed")
            && let Some(topic) = line.split('"').nth(1)
        {
            let text = self.trouble.forbidden(&format!("topic `{topic}`"));
            *self
                .undelivered
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(text);
        }
        self.trouble.hear_line(facility, line);
        log_client_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.hear(&error, reason);
        tracing::debug!(target: "librdkafka", %error, reason, "kafka producer");
    }
}

impl ProducerContext for ProducerEvents {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            use rdkafka::Message as _;
            let text = format!(
                "record of {} bytes for `{}`: {error}",
                message.payload_len(),
                message.topic()
            );
            self.undelivered
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .get_or_insert(text);
        }
    }
}

/// What a stage subscribes to.
pub(crate) fn subscriptions(table: &atelier_schemas::TopicTable, stage: &str) -> Vec<String> {
    let mut topics: Vec<String> = table
        .inputs_of(stage)
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    topics.push(retry_topic(stage));
    topics
}

pub(crate) fn sources_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|element| TopicPartition {
            topic: element.topic().into(),
            partition: element.partition(),
        })
        .collect()
}

pub(crate) fn list_of<'a>(
    sources: impl IntoIterator<Item = &'a TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for source in sources {
        list.add_partition(&source.topic, source.partition);
    }
    list
}
