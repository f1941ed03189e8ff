//! Step by step: each stage in turn until nothing moves.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use atelier_schemas::{
    Envelope, Event,
    topics::{dead_letter_topic, retry_topic},
};
use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::{LocalOptions, NotAnEvent, read_event, root_envelope, root_record};
use crate::{
    AnyStage, Counts, Readiness,
    batch::BatchFormer,
    execute::{Admitted, Executor, Settled, Work},
    record::{InRecord, OutRecord, TopicPartition},
    retry_schedule::due_at,
};

struct Reader {
    executor: Executor,
    topics: Vec<String>,
    /// The one that is read only while nothing else is to do.
    bulk_topic: Option<String>,
    positions: HashMap<String, usize>,
    // Records of the retry topic that are not due yet, with their due times.
    parked: Vec<(DateTime<Utc>, InRecord)>,
}

/// A chain of stages over topics in memory, each with one partition.
pub struct LocalRunner {
    options: LocalOptions,
    readers: Vec<Reader>,
    topics: BTreeMap<String, Vec<InRecord>>,
}

impl LocalRunner {
    /// Runs `stages` on the project's topic table, on a clock that passes only when everybody waits.
    pub fn new(stages: Vec<Arc<dyn AnyStage>>) -> Self {
        Self::with_options(stages, LocalOptions::default())
    }

    /// Runs `stages` as `options` say.
    pub fn with_options(stages: Vec<Arc<dyn AnyStage>>, options: LocalOptions) -> Self {
        let readers = stages
            .into_iter()
            .map(|stage| {
                let name = stage.stage_name();
                let (held_back, inputs): (Vec<_>, Vec<_>) = options
                    .table
                    .inputs_of(name)
                    .into_iter()
                    .partition(|topic| topic.held_back);
                let mut topics: Vec<String> =
                    inputs.iter().map(|topic| topic.name.clone()).collect();
                topics.push(retry_topic(name));
                let bulk_topic = held_back.first().map(|topic| topic.name.clone());
                let executor = Executor::new(
                    stage,
                    &options.table,
                    options.retry.clone(),
                    options.clock.clone(),
                    Readiness::new(name),
                    &options.cancelled,
                );
                Reader {
                    executor,
                    topics,
                    bulk_topic,
                    positions: HashMap::new(),
                    parked: Vec::new(),
                }
            })
            .collect();
        Self {
            options,
            readers,
            topics: BTreeMap::new(),
        }
    }

    /// Publishes an event, as an upstream system would; returns its envelope.
    ///
    /// # Errors
    /// Where the event does not serialise (a float is not finite).
    pub fn submit(&mut self, event: impl Into<Event>) -> Result<Envelope, serde_json::Error> {
        let event = event.into();
        let envelope = root_envelope("/atelier/local", &event, self.options.clock.now());
        self.append(root_record(&event, &envelope)?);
        Ok(envelope)
    }

    /// Appends any record, well formed or not.
    pub fn append(&mut self, record: OutRecord) {
        let timestamp = self.options.clock.now();
        let log = self.topics.entry(record.topic.clone()).or_default();
        let offset = i64::try_from(log.len()).unwrap_or(i64::MAX);
        let source = TopicPartition {
            topic: record.topic.into(),
            partition: 0,
        };
        log.push(InRecord {
            source,
            offset,
            key: record.key,
            headers: record.headers,
            value: record.value,
            timestamp,
        });
    }

    /// Runs until every record is worked, retries included.
    pub async fn run(&mut self) {
        loop {
            let mut moved = false;
            for index in 0..self.readers.len() {
                let due = self.take_due(index);
                moved |= self.step(index, due).await;
            }
            // Only then are the queues behind every stage short.
            for index in 0..self.readers.len() {
                if !moved {
                    let bulk = self.take_bulk(index);
                    moved = self.step(index, bulk).await;
                }
            }
            if moved {
                continue;
            }
            let next_due = self
                .readers
                .iter()
                .flat_map(|reader| &reader.parked)
                .map(|(due, _)| *due)
                .min();
            let Some(due) = next_due else { return };
            let wait = (due - self.options.clock.now())
                .to_std()
                .unwrap_or_default();
            self.options.clock.sleep(wait).await;
        }
    }

    /// Every record of a topic, in order.
    pub fn records(&self, topic: &str) -> &[InRecord] {
        self.topics.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Every event of a topic, in order.
    ///
    /// # Errors
    /// [`NotAnEvent`] at the first record that is none.
    pub fn events(&self, topic: &str) -> Result<Vec<(Envelope, Event)>, NotAnEvent> {
        self.records(topic)
            .iter()
            .map(|record| {
                let read = OutRecord {
                    topic: topic.to_owned(),
                    key: record.key.clone(),
                    headers: record.headers.clone(),
                    value: record.value.clone(),
                };
                read_event(&read, record.timestamp)
            })
            .collect()
    }

    /// Every dead letter of a stage.
    pub fn dead_letters(&self, stage: &str) -> &[InRecord] {
        self.records(&dead_letter_topic(stage))
    }

    /// The books of a stage; `None` where it is not among those that run.
    pub fn counts(&self, stage: &str) -> Option<Counts> {
        let reader = self
            .readers
            .iter()
            .find(|reader| reader.executor.stage_name() == stage)?;
        Some(reader.executor.accounting().counts())
    }

    /// One stage works on `records`; whether there were any.
    async fn step(&mut self, index: usize, records: Vec<InRecord>) -> bool {
        let moved = !records.is_empty();
        let settled = work_off(&self.readers[index].executor, records).await;
        for output in settled.into_iter().flat_map(|settled| settled.outputs) {
            self.append(output);
        }
        moved
    }

    fn take_due(&mut self, index: usize) -> Vec<InRecord> {
        let now = self.options.clock.now();
        let reader = &mut self.readers[index];
        let (mut due, parked): (Vec<_>, Vec<_>) = std::mem::take(&mut reader.parked)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        reader.parked = parked;
        due.sort_by_key(|(at, _)| *at);
        let mut due: Vec<InRecord> = due.into_iter().map(|(_, record)| record).collect();
        for topic in &reader.topics {
            let log = self.topics.get(topic).map_or(&[][..], Vec::as_slice);
            let position = reader.positions.entry(topic.clone()).or_default();
            for record in &log[*position..] {
                match due_at(record, &self.options.retry).filter(|at| *at > now) {
                    Some(at) => reader.parked.push((at, record.clone())),
                    None => due.push(record.clone()),
                }
            }
            *position = log.len();
        }
        due
    }

    fn take_bulk(&mut self, index: usize) -> Vec<InRecord> {
        let reader = &mut self.readers[index];
        let Some(topic) = &reader.bulk_topic else {
            return Vec::new();
        };
        let log = self.topics.get(topic).map_or(&[][..], Vec::as_slice);
        let position = reader.positions.entry(topic.clone()).or_default();
        let unread = &log[*position..];
        let taken = &unread[..unread.len().min(self.options.bulk_under_way.max(1))];
        *position += taken.len();
        taken.to_vec()
    }
}

async fn work_off(executor: &Executor, records: Vec<InRecord>) -> Vec<Settled> {
    let results = Mutex::new(Vec::with_capacity(records.len()));
    let settle = |settled| {
        results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(settled);
    };
    let mut former: BatchFormer<Work> = BatchFormer::new(crate::Batching {
        max_delay_ms: 0,
        ..executor.batching()
    });
    let now = Instant::now();
    for record in records {
        match executor.admit(record, 0) {
            Admitted::Work(work) => {
                let pixels = work.pixels();
                former.push(work, pixels, now);
            }
            Admitted::Settled(settled) => settle(settled),
        }
    }
    let gate = Arc::new(Semaphore::new(1));
    while let Some(batch) = former.take(now) {
        // The gate is never closed here.
        let Ok(permit) = Arc::clone(&gate).acquire_owned().await else {
            break;
        };
        executor.execute(batch, permit, &gate, &settle).await;
    }
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
