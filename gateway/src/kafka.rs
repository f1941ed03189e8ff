//! The log by way of a Kafka broker: [`EventLog`] and [`Line`] on the runtime's access to it.
//!
//! Invariant: nothing here joins a consumer group or moves an offset, so that looking disturbs no stage; readers read
//! committed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use atelier_runtime::{
    KafkaOptions, LogAccessError, OutRecord,
    encode::error_header,
    letters::{self, LetterError, LetterReader},
    outbox::{self, OutboxSource, PendingRecord, RelayOptions},
    record::{Header, InRecord},
    replay::{Repair, Replayer},
    tail,
};
use atelier_schemas::{Envelope, TopicTable, topics::TASK_EVENTS};
use atelier_stores::{Ledger, LedgerError, ledger::OutboxRow};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    error::GATEWAY,
    log::{DeadLetter, EventLog, Line, LogError, LogRecord, Position, StageQueues},
};

/// Offsets of each partition that are read at once when a client catches up: what bounds the memory for it.
const WINDOW_OFFSETS: i64 = 500;

/// A broker, as the gateway uses it.
#[derive(Clone)]
pub struct KafkaLog {
    options: KafkaOptions,
    replayer: Arc<Replayer>,
    // Two readers, so that a long list of dead letters does not hold up the queues.
    queues: Arc<Mutex<LetterReader>>,
    letters: Arc<Mutex<LetterReader>>,
}

impl KafkaLog {
    /// Clients of the broker at `options`. It need not be there yet.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] where the properties make no client.
    pub fn connect(options: &KafkaOptions) -> Result<Self, LogError> {
        let refused = |error: LetterError| unavailable(options, &error);
        let reader = || {
            LetterReader::new(options, TopicTable::embedded())
                .map(|reader| Arc::new(Mutex::new(reader)))
        };
        Ok(Self {
            replayer: Arc::new(
                Replayer::new(options).map_err(|error| unavailable(options, &error))?,
            ),
            queues: reader().map_err(refused)?,
            letters: reader().map_err(refused)?,
            options: options.clone(),
        })
    }

    /// Calls that block, away from the async threads.
    async fn with_reader<T, F>(
        &self,
        reader: &Arc<Mutex<LetterReader>>,
        call: F,
    ) -> Result<T, LogError>
    where
        T: Send + 'static,
        F: FnOnce(&mut LetterReader) -> Result<T, LetterError> + Send + 'static,
    {
        let reader = Arc::clone(reader);
        let outcome = tokio::task::spawn_blocking(move || {
            call(&mut reader.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await;
        match outcome {
            Ok(outcome) => outcome.map_err(|error| match error {
                LetterError::NotFound {
                    topic,
                    partition,
                    offset,
                } => LogError::NoSuchRecord {
                    topic,
                    partition,
                    offset,
                },
                other => unavailable(&self.options, &other),
            }),
            Err(error) => Err(unavailable(&self.options, &error)),
        }
    }
}

fn unavailable(options: &KafkaOptions, error: &dyn std::error::Error) -> LogError {
    LogError::Unavailable {
        place: options.bootstrap_servers.clone(),
        reason: error.to_string(),
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn relay(
        &self,
        ledger: Arc<dyn Ledger>,
        poll: Duration,
        wake: Arc<Notify>,
        shutdown: CancellationToken,
    ) {
        let options = RelayOptions {
            interval: poll,
            ..RelayOptions::default()
        };
        outbox::relay(
            &self.options,
            &LedgerOutbox(ledger),
            options,
            &wake,
            &shutdown,
        )
        .await;
    }

    async fn end(&self) -> Result<Position, LogError> {
        tail::ends(&self.options, TASK_EVENTS)
            .await
            .map(Position)
            .map_err(|error| unavailable(&self.options, &error))
    }

    fn tail(&self, from: Position) -> BoxStream<'static, Result<LogRecord, LogError>> {
        let options = self.options.clone();
        let records = tail::tail(&self.options, TASK_EVENTS, from.0);
        records
            .map(move |record: Result<InRecord, LogAccessError>| {
                record
                    .map(record_of)
                    .map_err(|error| unavailable(&options, &error))
            })
            .boxed()
    }

    fn read(
        &self,
        from: Position,
        to: Position,
    ) -> BoxStream<'static, Result<LogRecord, LogError>> {
        let windows = Windows {
            options: self.options.clone(),
            at: from,
            to,
        };
        futures::stream::try_unfold(windows, Windows::next)
            .flat_map(|window: Result<Vec<LogRecord>, LogError>| match window {
                Ok(records) => futures::stream::iter(records).map(Ok).boxed(),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }
}

#[async_trait]
impl Line for KafkaLog {
    async fn queues(&self) -> Result<Vec<StageQueues>, LogError> {
        let queues = self.with_reader(&self.queues, LetterReader::queues).await?;
        let rows = queues.into_iter().map(|queue| StageQueues {
            name: queue.stage,
            input_topics: queue.input_topics,
            queued: queue.queued,
            in_retry: queue.in_retry,
            dead_letters: queue.dead_letters,
        });
        Ok(rows.collect())
    }

    async fn dead_letters(
        &self,
        stage: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, LogError> {
        let stage = stage.map(str::to_owned);
        let letters = self
            .with_reader(&self.letters, move |reader| {
                reader.list(stage.as_deref(), limit)
            })
            .await?;
        Ok(letters.into_iter().map(described).collect())
    }

    async fn replay(&self, stage: &str, partition: i32, offset: i64) -> Result<Uuid, LogError> {
        let name = stage.to_owned();
        let letter = self
            .with_reader(&self.letters, move |reader| {
                reader.get(&name, partition, offset)
            })
            .await?;
        let refused = |reason: &str| LogError::NotReplayable {
            topic: letter.record.source.topic.to_string(),
            partition,
            offset,
            reason: reason.to_owned(),
        };
        if letter
            .record
            .header_text(error_header::OMITTED_VALUE_BYTES)
            .is_some()
        {
            return Err(refused(
                "it was too large to be kept whole; submit the task again",
            ));
        }
        let event_id = letter.event_id.ok_or_else(|| {
            refused("its headers are no CloudEvent; repair it with `atelier replay`")
        })?;
        self.replayer
            .replay(&letter, Repair::default())
            .await
            .map_err(|error| unavailable(&self.options, &error))?;
        Ok(event_id)
    }
}

fn described(letter: letters::DeadLetter) -> DeadLetter {
    DeadLetter {
        topic: letter.record.source.topic.to_string(),
        partition: letter.record.source.partition,
        offset: letter.record.offset,
        stage: letter.stage,
        time: letter.time,
        code: letter.code,
        reason: letter.reason,
        message: letter.message,
        event_id: letter.event_id,
        event_type: letter.event_type,
        task_id: letter.task_id,
        image_id: letter.image_id,
        attempt: letter.attempts,
        replay: letter.replay,
    }
}

fn record_of(record: InRecord) -> LogRecord {
    let headers = record
        .headers
        .into_iter()
        .map(|header| (header.name, header.value.unwrap_or_default().to_vec()));
    LogRecord {
        partition: record.source.partition,
        offset: record.offset,
        headers: headers.collect(),
        value: record.value.unwrap_or_default().to_vec(),
        received: record.timestamp,
    }
}

/// A stretch of `task-events`, read a window at a time.
struct Windows {
    options: KafkaOptions,
    at: Position,
    to: Position,
}

impl Windows {
    async fn next(mut self) -> Result<Option<(Vec<LogRecord>, Self)>, LogError> {
        if self.at.reaches(&self.to) {
            return Ok(None);
        }
        let until = self.to.0.iter().map(|(partition, end)| {
            (
                *partition,
                (*end).min(self.at.next(*partition) + WINDOW_OFFSETS),
            )
        });
        let until = Position(until.collect());
        let records = tail::read(
            &self.options,
            TASK_EVENTS,
            self.at.0.clone(),
            until.0.clone(),
        )
        .await;
        let records = records.map_err(|error| unavailable(&self.options, &error))?;
        for (partition, next) in &until.0 {
            self.at.pass(*partition, next - 1);
        }
        Ok(Some((records.into_iter().map(record_of).collect(), self)))
    }
}

/// The ledger's outbox, as the runtime relays it.
struct LedgerOutbox(Arc<dyn Ledger>);

#[async_trait]
impl OutboxSource for LedgerOutbox {
    type Error = LedgerError;

    async fn pending(&self, limit: usize) -> Result<Vec<PendingRecord>, LedgerError> {
        let rows = self
            .0
            .outbox_pending(u32::try_from(limit).unwrap_or(u32::MAX))
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| PendingRecord {
                id: row.event_id,
                record: to_record(row),
            })
            .collect())
    }

    async fn published(&self, ids: &[Uuid]) -> Result<(), LedgerError> {
        if ids.is_empty() {
            Ok(())
        } else {
            self.0.outbox_sent(ids).await
        }
    }
}

fn to_record(row: OutboxRow) -> OutRecord {
    let mut envelope = Envelope::root(
        &format!("/atelier/{GATEWAY}"),
        &row.event_type,
        row.event_id,
        row.task_id,
    );
    envelope.time = row.created_at;
    envelope.traceparent = row.traceparent;
    OutRecord {
        topic: row.topic,
        key: Some(Bytes::from(row.task_id.to_string())),
        headers: envelope
            .to_headers()
            .into_iter()
            .map(|(name, value)| Header {
                name,
                value: Some(Bytes::from(value)),
            })
            .collect(),
        value: Some(Bytes::from(row.value)),
    }
}
