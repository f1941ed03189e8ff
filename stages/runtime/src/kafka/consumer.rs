//! The consumer's thread: it polls always, whatever the stage does, so `max.poll.interval.ms` is never exceeded.
//!
//! A type per state: [`Consuming`] takes messages, [`Draining`] takes none and waits for what is in flight, then the
//! consumer leaves its group.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rdkafka::{
    Message as _, Timestamp,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    client::{is_outage, list_of},
    lag,
    producer::SharedConsumer,
    shared::Shared,
    tracker::Tracker,
    worker::Taken,
};
use crate::{
    options::RetryOptions,
    readiness::Dependency,
    record::{Header, InRecord, TopicPartition},
    retry_schedule::due_at,
    telemetry,
};

const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// While partitions are paused the queue may have room again at any moment.
const PAUSED_POLL_TIMEOUT: Duration = Duration::from_millis(5);
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Takes messages.
pub(crate) struct Consuming {
    pub consumer: SharedConsumer,
    pub shared: Arc<Shared>,
    pub taken: mpsc::UnboundedSender<Taken>,
    /// What it reads.
    pub topics: Vec<String>,
    /// What it writes.
    pub written: Vec<String>,
    pub bootstrap_servers: String,
    pub retry_topic: String,
    pub retry: RetryOptions,
    pub queue_capacity: usize,
    pub drain_timeout: Duration,
    pub shutdown: CancellationToken,
    /// Whether somebody else has this instance's name; told once, because it stays so.
    pub fenced: AtomicBool,
}

/// Takes no more; waits for what is in flight.
pub(crate) struct Draining {
    consumer: SharedConsumer,
    shared: Arc<Shared>,
    // The worker goes on until this is dropped.
    _taken: mpsc::UnboundedSender<Taken>,
    drain_timeout: Duration,
}

/// What the loop knows beside the books.
#[derive(Default)]
struct Flow {
    // Every partition is paused because the queue is full.
    is_full: bool,
    // Retry partitions whose next record is not due yet.
    parked: HashMap<TopicPartition, (DateTime<Utc>, InRecord)>,
    seen_assignment: u64,
    topic_names: Vec<Arc<str>>,
}

impl Consuming {
    /// Consumes until the shutdown is asked for.
    pub fn run(self) -> Draining {
        if self.wait_for_topics() {
            let mut flow = Flow::default();
            let mut next_check = Instant::now() + HEALTH_CHECK_INTERVAL;
            while !self.shutdown.is_cancelled() {
                self.turn(&mut flow);
                if !self.shared.readiness.is_ready() && Instant::now() >= next_check {
                    self.check_health();
                    next_check = Instant::now() + HEALTH_CHECK_INTERVAL;
                }
            }
        }
        Draining {
            consumer: self.consumer,
            shared: self.shared,
            _taken: self.taken,
            drain_timeout: self.drain_timeout,
        }
    }

    fn turn(&self, flow: &mut Flow) {
        let timeout = if flow.is_full {
            PAUSED_POLL_TIMEOUT
        } else {
            POLL_TIMEOUT
        };
        match self.consumer.poll(timeout) {
            Some(Ok(message)) => {
                let record = to_record(&message, flow);
                self.take_or_park(flow, record);
            }
            Some(Err(error)) => self.note(&error),
            None => {}
        }
        self.keep_up_with_assignment(flow);
        self.release_due(flow);
        self.press_back(flow);
    }

    /// A record of the retry topic that is not due pauses its partition; nothing else waits for it.
    fn take_or_park(&self, flow: &mut Flow, record: InRecord) {
        if *record.source.topic == *self.retry_topic
            && let Some(due) = due_at(&record, &self.retry).filter(|due| *due > Utc::now())
        {
            let source = record.source.clone();
            self.pause([&source]);
            self.shared.change_lag(|lag| lag.parked(&source));
            flow.parked.insert(source, (due, record));
            return;
        }
        self.take(record);
    }

    fn take(&self, record: InRecord) {
        let epoch = self
            .shared
            .change(|tracker| tracker.take(&record.source, record.offset));
        if let Some(epoch) = epoch {
            // The worker lives as long as the sender.
            let _ = self.taken.send((record, epoch));
        }
    }

    fn release_due(&self, flow: &mut Flow) {
        let now = Utc::now();
        let due: Vec<TopicPartition> = flow
            .parked
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(source, _)| source.clone())
            .collect();
        for source in due {
            if let Some((_, record)) = flow.parked.remove(&source) {
                self.shared.change_lag(|lag| lag.released(&source));
                self.take(record);
                if !flow.is_full {
                    self.resume([&source]);
                }
            }
        }
    }

    /// A full stage pauses its partitions and keeps polling.
    fn press_back(&self, flow: &mut Flow) {
        let in_flight = self.shared.in_flight();
        if !flow.is_full && in_flight >= self.queue_capacity {
            flow.is_full = true;
            self.pause(&self.shared.look(Tracker::assigned));
        } else if flow.is_full && in_flight <= self.queue_capacity / 2 {
            flow.is_full = false;
            let assigned = self.shared.look(Tracker::assigned);
            self.resume(
                assigned
                    .iter()
                    .filter(|source| !flow.parked.contains_key(source)),
            );
        }
    }

    fn keep_up_with_assignment(&self, flow: &mut Flow) {
        let version = self.shared.assignment_version();
        if version == flow.seen_assignment {
            return;
        }
        flow.seen_assignment = version;
        let assigned = self.shared.look(Tracker::assigned);
        flow.parked.retain(|source, _| assigned.contains(source));
        if flow.is_full {
            self.pause(&assigned);
        }
        self.measure_new();
    }

    /// Learns how much waits in partitions that have just come, which their first message would tell too late.
    fn measure_new(&self) {
        let new = self.shared.change_lag(|lag| lag.unmeasured());
        if new.is_empty() {
            return;
        }
        match lag::ask(&self.consumer, &new) {
            Ok(measured) => self.shared.change_lag(|lag| {
                for (source, unread) in &measured {
                    lag.measured(source, *unread);
                }
            }),
            // The next statistics tell it.
            Err(error) => {
                tracing::debug!(stage = self.shared.readiness.stage(), %error, "lag");
            }
        }
    }

    fn pause<'a>(&self, sources: impl IntoIterator<Item = &'a TopicPartition>) {
        if let Err(error) = self.consumer.pause(&list_of(sources)) {
            tracing::debug!(stage = self.shared.readiness.stage(), %error, "pause");
        }
    }

    fn resume<'a>(&self, sources: impl IntoIterator<Item = &'a TopicPartition>) {
        if let Err(error) = self.consumer.resume(&list_of(sources)) {
            tracing::debug!(stage = self.shared.readiness.stage(), %error, "resume");
        }
    }

    fn note(&self, error: &KafkaError) {
        let readiness = &self.shared.readiness;
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => {
                readiness.lost(
                    Dependency::Topics,
                    format!("{error}; run `atelier topics apply`"),
                );
            }
            Some(code) if is_outage(code) => {
                readiness.lost(Dependency::Consumer, self.unreachable(error));
            }
            Some(RDKafkaErrorCode::Fatal) => {
                // It comes back at once with every poll.
                std::thread::sleep(POLL_TIMEOUT);
                self.check_health();
            }
            // librdkafka connects again by itself; when no broker is left it says so.
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut,
            ) => {
                tracing::debug!(stage = readiness.stage(), %error, "kafka consumer");
            }
            _ => tracing::warn!(stage = readiness.stage(), %error, "kafka consumer"),
        }
    }

    fn unreachable(&self, error: &KafkaError) -> String {
        format!(
            "kafka at {} cannot be reached: {error}; is it running?",
            self.bootstrap_servers
        )
    }

    /// Subscribes once every topic exists. False where the shutdown came first.
    fn wait_for_topics(&self) -> bool {
        while !self.shutdown.is_cancelled() {
            if self.check_health() {
                let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
                match self.consumer.subscribe(&names) {
                    Ok(()) => return true,
                    Err(error) => self.note(&error),
                }
            }
            // Serves the client's events meanwhile.
            let _ = self.consumer.poll(Duration::from_millis(500));
        }
        false
    }

    /// Asks the broker for the topics, and says what is missing.
    fn check_health(&self) -> bool {
        let readiness = &self.shared.readiness;
        let metadata = match self.consumer.fetch_metadata(None, Duration::from_secs(2)) {
            Ok(metadata) => metadata,
            Err(error) => {
                readiness.lost(Dependency::Consumer, self.unreachable(&error));
                return false;
            }
        };
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            if code == RDKafkaErrorCode::FencedInstanceId
                && !self.fenced.swap(true, Ordering::Relaxed)
            {
                telemetry::fenced(readiness.stage(), "consumer");
            }
            readiness.lost(
                Dependency::Consumer,
                format!("{reason}; where another process has this instance_id, give each its own, then start this one again"),
            );
            return false;
        }
        readiness.found(Dependency::Consumer);
        let there: Vec<&str> = metadata
            .topics()
            .iter()
            .map(rdkafka::metadata::MetadataTopic::name)
            .collect();
        let mut missing: Vec<&str> = self
            .topics
            .iter()
            .chain(&self.written)
            .map(String::as_str)
            .filter(|topic| !there.contains(topic))
            .collect();
        missing.dedup();
        if missing.is_empty() {
            readiness.found(Dependency::Topics);
            return true;
        }
        readiness.lost(
            Dependency::Topics,
            format!(
                "missing topics {}; run `atelier topics apply`",
                missing.join(", ")
            ),
        );
        false
    }
}

impl Draining {
    /// Waits for what is in flight, keeping the group membership alive. The number of messages that were abandoned.
    pub fn finish(self) -> usize {
        let assigned = self.shared.look(Tracker::assigned);
        if let Err(error) = self.consumer.pause(&list_of(&assigned)) {
            tracing::debug!(stage = self.shared.readiness.stage(), %error, "pause");
        }
        let deadline = Instant::now() + self.drain_timeout;
        loop {
            // Polling goes on: a rebalance must not wait for this drain. Nothing that comes is taken.
            if self.shared.drain(&assigned, Duration::from_millis(20)) || Instant::now() >= deadline
            {
                break;
            }
            let _ = self.consumer.poll(Duration::ZERO);
        }
        let abandoned = self.shared.given_up(&assigned);
        self.shared.finish();
        abandoned
    }
}

fn to_record(message: &BorrowedMessage<'_>, flow: &mut Flow) -> InRecord {
    let topic = match flow
        .topic_names
        .iter()
        .find(|name| ***name == *message.topic())
    {
        Some(name) => Arc::clone(name),
        None => {
            let name: Arc<str> = message.topic().into();
            flow.topic_names.push(Arc::clone(&name));
            name
        }
    };
    record_of(message, topic)
}

/// Copies a message out of librdkafka's memory.
pub(crate) fn record_of(message: &BorrowedMessage<'_>, topic: Arc<str>) -> InRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| Header {
                name: header.key.to_owned(),
                value: header.value.map(Bytes::copy_from_slice),
            })
            .collect()
    });
    let timestamp = match message.timestamp() {
        Timestamp::CreateTime(at_ms) | Timestamp::LogAppendTime(at_ms) => {
            DateTime::from_timestamp_millis(at_ms)
        }
        Timestamp::NotAvailable => None,
    };
    InRecord {
        source: TopicPartition {
            topic,
            partition: message.partition(),
        },
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        headers,
        value: message.payload().map(Bytes::copy_from_slice),
        timestamp: timestamp.unwrap_or_else(Utc::now),
    }
}
