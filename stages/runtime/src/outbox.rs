//! Publishes what a database says is to be published: at least once, with ids that were fixed when the row was written.
//!
//! Invariants: a row is marked only after the broker acknowledged its record; rows go out in order, and behind a row that
//! fails nothing of the same round is marked.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    kafka::{client::base_config, producer::kafka_headers},
    log_access::{LogAccessError, QuietEvents, failed},
    options::KafkaOptions,
    record::OutRecord,
    telemetry,
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

/// A row of an outbox, as a record.
#[derive(Clone, Debug)]
pub struct PendingRecord<Id> {
    /// What the database knows it by.
    pub id: Id,
    /// What is to be published.
    pub record: OutRecord,
}

/// Where rows come from. The gateway implements it on its ledger.
#[async_trait]
pub trait OutboxSource: Send + Sync + 'static {
    /// What a row is known by.
    type Id: Send + Sync;
    /// What can go wrong with the database.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The oldest rows that are not published yet, in order.
    async fn pending(&self, limit: usize) -> Result<Vec<PendingRecord<Self::Id>>, Self::Error>;

    /// Marks rows as published.
    async fn published(&self, ids: &[Self::Id]) -> Result<(), Self::Error>;
}

/// How the relay works.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// Most rows in one round.
    pub round_rows: usize,
    /// How often it looks without being woken.
    pub interval: Duration,
    /// Longest wait after a failure.
    pub max_backoff: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            round_rows: 200,
            interval: Duration::from_millis(500),
            max_backoff: Duration::from_secs(10),
        }
    }
}

/// Publishes rows until `shutdown`. `wake` makes it look at once: ring it after a row was written.
pub async fn relay<S: OutboxSource>(
    publisher: &Publisher,
    source: &S,
    options: RelayOptions,
    wake: &Arc<Notify>,
    shutdown: &CancellationToken,
) {
    let mut failures: u32 = 0;
    while !shutdown.is_cancelled() {
        let wait = match round(publisher, source, options.round_rows).await {
            Ok(published) => {
                if failures > 0 {
                    tracing::info!("outbox: publishing again");
                }
                failures = 0;
                telemetry::outbox_published(published);
                if published == options.round_rows {
                    Duration::ZERO
                } else {
                    options.interval
                }
            }
            Err(reason) => {
                if failures == 0 {
                    tracing::warn!(reason, "outbox: waiting; nothing is lost");
                }
                failures = failures.saturating_add(1);
                (options.interval * failures).min(options.max_backoff)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = wake.notified(), if failures == 0 => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn round<S: OutboxSource>(
    publisher: &Publisher,
    source: &S,
    limit: usize,
) -> Result<usize, String> {
    let rows = source
        .pending(limit)
        .await
        .map_err(|error| error.to_string())?;
    if rows.is_empty() {
        return Ok(0);
    }
    let (ids, records): (Vec<S::Id>, Vec<OutRecord>) =
        rows.into_iter().map(|row| (row.id, row.record)).unzip();
    let results = publisher.publish(&records).await;
    let first_failure = results
        .iter()
        .position(Result::is_err)
        .unwrap_or(results.len());
    source
        .published(&ids[..first_failure])
        .await
        .map_err(|error| error.to_string())?;
    match results.into_iter().nth(first_failure) {
        Some(Err(error)) => Err(error.to_string()),
        _ => Ok(first_failure),
    }
}
