//! Publishing outside of a stage's transaction.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};

use crate::{
    kafka::{client::base_config, producer::kafka_headers, trouble::Trouble},
    log_access::{LogAccessError, QuietEvents, failed},
    options::KafkaOptions,
    record::OutRecord,
};

/// An idempotent producer, for records that belong to no stage's transaction.
#[derive(Clone)]
pub struct Publisher {
    producer: FutureProducer<QuietEvents>,
    trouble: Trouble,
    kafka: KafkaOptions,
}

impl Publisher {
    /// A publisher. It does not wait for the broker.
    ///
    /// # Errors
    /// Where the properties make no client.
    pub fn new(kafka: &KafkaOptions) -> Result<Self, LogAccessError> {
        let events = QuietEvents::of(kafka);
        let trouble = events.trouble.clone();
        let producer = base_config(kafka, "atelier-publisher")?
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "10000")
            .set("message.max.bytes", "100000000")
            .set("partitioner", "murmur2_random")
            .create_with_context(events)
            .map_err(|source| failed("making a producer", kafka, source))?;
        Ok(Self {
            producer,
            trouble,
            kafka: kafka.clone(),
        })
    }

    /// Publishes records in order and answers, for each, whether the broker has it.
    pub async fn publish(&self, records: &[OutRecord]) -> Vec<Result<(), LogAccessError>> {
        let sending = records.iter().map(|record| async move {
            let mut message: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(&record.topic).headers(kafka_headers(record));
            if let Some(key) = &record.key {
                message = message.key(key);
            }
            if let Some(value) = &record.value {
                message = message.payload(value);
            }
            let sent = self
                .producer
                .send(message, Timeout::After(Duration::from_secs(10)))
                .await;
            sent.map(drop)
                .map_err(|(error, _)| self.failed(&record.topic, error))
        });
        join_all(sending).await
    }

    fn failed(&self, topic: &str, source: KafkaError) -> LogAccessError {
        let trouble = &self.trouble;
        let reason = match source.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                Some(trouble.forbidden(&format!("topic `{topic}`")))
            }
            _ => trouble.text(),
        };
        LogAccessError::Kafka {
            operation: "publishing",
            bootstrap_servers: self.kafka.bootstrap_servers.clone(),
            reason: reason.unwrap_or_else(|| source.to_string()),
            source,
        }
    }
}
