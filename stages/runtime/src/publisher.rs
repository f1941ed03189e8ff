//! Publishing outside of a stage's transaction.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};

use crate::{
    kafka::{client::base_config, producer::kafka_headers},
    log_access::{LogAccessError, QuietEvents, failed},
    options::KafkaOptions,
    record::OutRecord,
};

/// An idempotent producer, for records that belong to no stage's transaction.
#[derive(Clone)]
pub struct Publisher {
    producer: FutureProducer<QuietEvents>,
    kafka: KafkaOptions,
}

impl Publisher {
    /// A publisher. It does not wait for the broker.
    ///
    /// # Errors
    /// Where the properties make no client.
    pub fn new(kafka: &KafkaOptions) -> Result<Self, LogAccessError> {
        let producer = base_config(kafka, "atelier-publisher")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "10000")
            .set("message.max.bytes", "100000000")
            .set("partitioner", "murmur2_random")
            .create_with_context(QuietEvents)
            .map_err(|source| failed("making a producer", kafka, source))?;
        Ok(Self {
            producer,
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
            sent.map(drop).map_err(|(error, _)| self.failed(error))
        });
        join_all(sending).await
    }

    fn failed(&self, source: KafkaError) -> LogAccessError {
        failed("publishing", &self.kafka, source)
    }
}
