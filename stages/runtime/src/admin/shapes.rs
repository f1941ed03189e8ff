//! What the brokers' metadata says of the log.

use std::collections::BTreeMap;

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{Metadata, MetadataTopic},
};

use super::GROUP;
use crate::{
    kafka::client::base_config,
    log_access::{ANSWER_TIMEOUT, LogAccessError, QuietEvents, failed, heard},
    options::KafkaOptions,
};

/// A topic.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub partitions: i32,
    /// Of the partition that has the fewest.
    pub copies: i32,
}

/// The whole log.
pub(super) struct Shapes {
    pub brokers: usize,
    pub topics: BTreeMap<String, Shape>,
}

/// Asks for everything. Blocks.
///
/// # Errors
/// [`LogAccessError`] where the brokers do not answer, or do not let us see one of `wanted`.
pub(super) fn ask(kafka: &KafkaOptions, wanted: &[String]) -> Result<Shapes, LogAccessError> {
    let consumer: BaseConsumer<QuietEvents> = base_config(kafka, GROUP)?
        .create_with_context(QuietEvents::of(kafka))
        .map_err(|source| failed("making a client", kafka, source))?;
    let metadata = fetch(&consumer, None, kafka)?;
    let topics: BTreeMap<String, Shape> = metadata
        .topics()
        .iter()
        .map(|topic| (topic.name().to_owned(), shape_of(topic)))
        .collect();
    // What may not be seen is left out of the list; only a question by name tells it from what is missing.
    for name in wanted.iter().filter(|name| !topics.contains_key(*name)) {
        let metadata = fetch(&consumer, Some(name), kafka)?;
        let said = metadata.topics().iter().filter_map(MetadataTopic::error);
        for code in said.map(RDKafkaErrorCode::from) {
            if code == RDKafkaErrorCode::TopicAuthorizationFailed {
                let trouble = &consumer.context().trouble;
                let reason = trouble.forbidden(&format!("topic `{name}`"));
                return Err(refused(kafka, reason, KafkaError::MetadataFetch(code)));
            }
        }
    }
    Ok(Shapes {
        brokers: metadata.brokers().len(),
        topics,
    })
}

fn fetch(
    consumer: &BaseConsumer<QuietEvents>,
    topic: Option<&str>,
    kafka: &KafkaOptions,
) -> Result<Metadata, LogAccessError> {
    consumer
        .fetch_metadata(topic, ANSWER_TIMEOUT)
        .map_err(|source| {
            let reason = heard(consumer).unwrap_or_else(|| source.to_string());
            refused(kafka, reason, source)
        })
}

fn refused(kafka: &KafkaOptions, reason: String, source: KafkaError) -> LogAccessError {
    LogAccessError::Kafka {
        operation: "asking for topics",
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        reason,
        source,
    }
}

fn shape_of(topic: &MetadataTopic) -> Shape {
    let count = |items: usize| i32::try_from(items).unwrap_or(i32::MAX);
    let copies = topic
        .partitions()
        .iter()
        .map(|partition| count(partition.replicas().len()));
    Shape {
        partitions: count(topic.partitions().len()),
        copies: copies.min().unwrap_or(0),
    }
}
