//! Publishes what a database says is to be published: once each, with ids that were fixed when the row was written.
//!
//! Invariants: a row is marked only after its record is committed to the log; rows go out in order, a round of them in one
//! transaction. The same transaction commits the round's ids as the metadata of a group's offset, so that after a crash, or
//! an answer that never came, the log itself says which rows it has. The next round begins only after the last one was marked,
//! so the ids of one round are enough.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use atelier_schemas::topics::IMAGE_TASKS;
use fail::fail_point;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{sync::Notify, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    kafka::{
        client::base_config,
        producer::{TransactionError, TransactionalProducer},
        trouble::Trouble,
    },
    log_access::QuietEvents,
    options::KafkaOptions,
    record::OutRecord,
    telemetry,
};

/// A row of an outbox, as a record.
#[derive(Clone, Debug)]
pub struct PendingRecord {
    /// What the database knows it by.
    pub id: Uuid,
    /// What is to be published.
    pub record: OutRecord,
}

/// Where rows come from. The gateway implements it on its ledger.
#[async_trait]
pub trait OutboxSource: Send + Sync + 'static {
    /// What can go wrong with the database.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The oldest rows that are not published yet, in order.
    async fn pending(&self, limit: usize) -> Result<Vec<PendingRecord>, Self::Error>;

    /// Marks rows as published.
    async fn published(&self, ids: &[Uuid]) -> Result<(), Self::Error>;
}

/// Most rows of one round: their ids must fit into an offset's metadata, of which a broker takes 4,096 bytes.
const ROUND_ROWS: usize = 100;

/// The group whose offset remembers the last round; also the transactional id, so that of two relays one is fenced.
pub(crate) const GROUP: &str = "atelier-outbox";

/// How long one step with the broker may take before it counts as away.
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// How the relay works.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// How often it looks without being woken.
    pub interval: Duration,
    /// Longest wait after a failure.
    pub max_backoff: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            max_backoff: Duration::from_secs(10),
        }
    }
}

/// Publishes rows until `shutdown`. `wake` makes it look at once: ring it after a row was written.
pub async fn relay<S: OutboxSource>(
    kafka: &KafkaOptions,
    source: &S,
    options: RelayOptions,
    wake: &Arc<Notify>,
    shutdown: &CancellationToken,
) {
    #[cfg(feature = "planted-bugs")]
    crate::planted::arm();
    let mut failures: u32 = 0;
    let mut rounds = None;
    while !shutdown.is_cancelled() {
        let wait = match round(&mut rounds, kafka, source, shutdown).await {
            Ok(published) => {
                if failures > 0 {
                    tracing::info!("outbox: publishing again");
                }
                failures = 0;
                telemetry::outbox_published(published);
                if published == ROUND_ROWS {
                    Duration::ZERO
                } else {
                    options.interval
                }
            }
            Err(reason) => {
                // Whether the round was committed is not known; the next connection asks the log.
                rounds = None;
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
    rounds: &mut Option<Arc<Rounds>>,
    kafka: &KafkaOptions,
    source: &S,
    shutdown: &CancellationToken,
) -> Result<usize, String> {
    let text = |error: S::Error| error.to_string();
    let connected = match rounds {
        Some(connected) => Arc::clone(connected),
        None => {
            let (kafka, shutdown) = (kafka.clone(), shutdown.clone());
            let connect = move || {
                let connected = Rounds::connect(&kafka, &shutdown)?;
                let last = connected.last()?;
                Ok::<_, String>((connected, last))
            };
            let (connected, last) = spawn_blocking(connect)
                .await
                .map_err(|error| error.to_string())??;
            source.published(&last).await.map_err(text)?;
            Arc::clone(rounds.insert(Arc::new(connected)))
        }
    };
    let rows = source.pending(ROUND_ROWS).await.map_err(text)?;
    if rows.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    #[cfg(feature = "planted-bugs")]
    if crate::planted::Bug::OutboxMarkedBeforeSent.is_planted() {
        source.published(&ids).await.map_err(text)?;
    }
    fail_point!("outbox::before-publish", |_| Err(
        "failpoint outbox::before-publish".to_owned()
    ));
    let shutdown = shutdown.clone();
    spawn_blocking(move || connected.publish(&rows, &shutdown))
        .await
        .map_err(|error| error.to_string())??;
    fail_point!("outbox::before-mark", |_| Err(
        "failpoint outbox::before-mark".to_owned()
    ));
    source.published(&ids).await.map_err(text)?;
    Ok(ids.len())
}

/// Commits rounds to the log, and knows the last one. Its calls block.
struct Rounds {
    producer: TransactionalProducer,
    group: BaseConsumer<QuietEvents>,
}

impl Rounds {
    /// Fences the relay before this one and ends its transaction.
    fn connect(kafka: &KafkaOptions, shutdown: &CancellationToken) -> Result<Self, String> {
        let trouble = Trouble::new(kafka);
        let group = base_config(kafka, GROUP)
            .map_err(|error| error.to_string())?
            .set("group.id", GROUP)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .create_with_context(QuietEvents::of(kafka))
            .map_err(|error: KafkaError| error.to_string())?;
        let mut config = base_config(kafka, GROUP).map_err(|error| error.to_string())?;
        config
            .set("transactional.id", GROUP)
            .set("transaction.timeout.ms", "10000")
            .set("message.timeout.ms", "10000")
            .set("linger.ms", "0")
            .set("delivery.report.only.error", "true")
            .set("message.max.bytes", "100000000")
            .set("partitioner", "murmur2_random");
        let producer = TransactionalProducer::connect(&config, &trouble, &patience(shutdown))
            .map_err(|error| trouble.text().unwrap_or_else(|| error.to_string()))?;
        Ok(Self { producer, group })
    }

    /// The ids of the last round that was committed.
    fn last(&self) -> Result<Vec<Uuid>, String> {
        let mut place = TopicPartitionList::new();
        place.add_partition(IMAGE_TASKS, 0);
        let said = |error: KafkaError| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                let trouble = &self.group.context().trouble;
                trouble.forbidden(&format!("consumer group `{GROUP}`"))
            }
            _ => error.to_string(),
        };
        let found = self.group.committed_offsets(place, STEP_LIMIT);
        let found = found.map_err(said)?;
        let elements = found.elements();
        let element = elements
            .first()
            .ok_or("the group has no offset to ask for")?;
        element.error().map_err(said)?;
        read_ids(element.metadata())
    }

    fn publish(&self, rows: &[PendingRecord], shutdown: &CancellationToken) -> Result<(), String> {
        let patience = patience(shutdown);
        let committed = self.transaction(rows, &patience);
        if let Err(TransactionError::Abort(_)) = &committed {
            // The next connection would end it too, only later.
            let _ = self.producer.abort(&patience);
        }
        committed.map_err(|error| {
            // What became of a record says more than what became of the transaction.
            let undelivered = self.producer.take_undelivered();
            undelivered.unwrap_or_else(|| error.to_string())
        })
    }

    fn transaction(
        &self,
        rows: &[PendingRecord],
        patience: &dyn Fn(Option<&KafkaError>) -> bool,
    ) -> Result<(), TransactionError> {
        let fatal = |error: KafkaError| TransactionError::Fatal(error.to_string());
        self.producer.begin()?;
        for row in rows {
            self.producer.produce(&row.record)?;
        }
        self.producer.flush(patience)?;
        let mut place = TopicPartitionList::new();
        let mut element = place.add_partition(IMAGE_TASKS, 0);
        // Nobody reads from this group; only the metadata counts.
        element.set_offset(Offset::Offset(0)).map_err(fatal)?;
        element.set_metadata(write_ids(rows));
        let group = self.group.group_metadata().ok_or_else(|| {
            TransactionError::Fatal("librdkafka knows no group for the outbox".to_owned())
        })?;
        self.producer.send_offsets(place, group, patience)?;
        self.producer.commit(patience)
    }
}

/// Goes on until the relay ends, or the step has taken too long.
fn patience(shutdown: &CancellationToken) -> impl Fn(Option<&KafkaError>) -> bool + use<> {
    let (shutdown, since) = (shutdown.clone(), Instant::now());
    move |_| !shutdown.is_cancelled() && since.elapsed() < STEP_LIMIT
}

/// 32 signs for each id.
fn write_ids(rows: &[PendingRecord]) -> String {
    rows.iter().map(|row| row.id.simple().to_string()).collect()
}

fn read_ids(text: &str) -> Result<Vec<Uuid>, String> {
    let (ids, rest) = text.as_bytes().as_chunks::<32>();
    let ids: Option<Vec<Uuid>> = ids
        .iter()
        .map(|id| Uuid::try_parse_ascii(id).ok())
        .collect();
    ids.filter(|_| rest.is_empty()).ok_or_else(|| {
        format!(
            "the offset of group `{GROUP}` was committed by somebody else: its metadata are no ids; delete the group"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_round_fits_into_an_offsets_metadata_and_reads_back() {
        let ids: Vec<Uuid> = (0..ROUND_ROWS).map(|_| Uuid::new_v4()).collect();
        let rows: Vec<PendingRecord> = ids
            .iter()
            .map(|id| PendingRecord {
                id: *id,
                record: OutRecord {
                    topic: IMAGE_TASKS.to_owned(),
                    key: None,
                    headers: Vec::new(),
                    value: None,
                },
            })
            .collect();
        let text = write_ids(&rows);
        assert!(text.len() <= 4096);
        assert_eq!(read_ids(&text).unwrap(), ids);
        assert_eq!(read_ids("").unwrap(), Vec::<Uuid>::new());
        assert!(read_ids("offset 7").is_err());
    }
}
