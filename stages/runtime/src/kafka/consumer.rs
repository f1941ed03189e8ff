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
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    admission::Admission,
    client::list_of,
    lag,
    membership::{Exile, FORGOTTEN_AFTER, Membership, SharedConsumer},
    shared::Shared,
    tracker::Tracker,
    worker::Taken,
};
use crate::{
    options::RetryOptions,
    record::{Header, InRecord, TopicPartition},
    retry_schedule::due_at,
};

pub(super) const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// While partitions are paused the queue may have room again at any moment.
const PAUSED_POLL_TIMEOUT: Duration = Duration::from_millis(5);
/// How long a full queue is waited for before the partitions are paused, which makes librdkafka forget, and fetch again, all
/// that it has fetched beyond it.
const PATIENCE_BEFORE_PAUSE: Duration = Duration::from_millis(100);
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Takes messages.
pub(crate) struct Consuming {
    /// The one that counts.
    pub consumer: SharedConsumer,
    pub membership: Arc<Membership>,
    pub shared: Arc<Shared>,
    pub taken: mpsc::UnboundedSender<Taken>,
    /// What it reads.
    pub topics: Vec<String>,
    /// What it writes.
    pub written: Vec<String>,
    pub bootstrap_servers: String,
    pub retry_topic: String,
    /// Lets bulk messages in, where they have a topic of their own.
    pub admission: Option<Arc<Admission>>,
    pub retry: RetryOptions,
    pub queue_capacity: usize,
    pub drain_timeout: Duration,
    pub shutdown: CancellationToken,
    /// Whether the consumer was fenced by another of its name; counted once.
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
    // Messages that were in flight when the last one was taken.
    in_flight: usize,
    // Every partition is paused because the queue is full.
    is_full: bool,
    // Paused partitions whose next record waits.
    parked: HashMap<TopicPartition, Parked>,
    seen_assignment: u64,
    topic_names: Vec<Arc<str>>,
}

/// A record that waits, with the assignment that it was read in.
struct Parked {
    until: Until,
    record: InRecord,
    epoch: u64,
}

/// What a parked record waits for.
#[derive(Clone, Copy)]
enum Until {
    Due(DateTime<Utc>),
    /// Short queues behind the stage.
    Admitted,
}

impl Consuming {
    /// Consumes until the shutdown is asked for.
    pub fn run(mut self) -> Draining {
        if self.wait_for_topics() {
            let (mut flow, mut exile) = (Flow::default(), Exile::default());
            let mut next_check = Instant::now() + HEALTH_CHECK_INTERVAL;
            while !self.shutdown.is_cancelled() {
                self.turn(&mut flow);
                if Instant::now() < next_check {
                    continue;
                }
                if !self.shared.readiness.is_ready() {
                    self.check_health();
                }
                self.come_back(&mut exile);
                next_check = Instant::now() + HEALTH_CHECK_INTERVAL;
            }
        }
        Draining {
            consumer: self.consumer,
            shared: self.shared,
            _taken: self.taken,
            drain_timeout: self.drain_timeout,
        }
    }

    /// Where librdkafka has ended the consumer, or forgotten it: makes its successor, after a pause.
    fn come_back(&mut self, exile: &mut Exile) {
        let is_ended = self.consumer.client().fatal_error().is_some();
        let is_time = if is_ended {
            exile.is_over(Instant::now())
        } else {
            self.is_forgotten()
        };
        if !is_time {
            return;
        }
        self.shared.waits_outside();
        let renewed = self.membership.renew(&mut self.consumer);
        match renewed.and_then(|()| self.subscribe()) {
            Ok(()) => {
                self.fenced.store(false, Ordering::Relaxed);
                let reason = if is_ended { "ended" } else { "forgotten" };
                tracing::info!(
                    stage = self.shared.readiness.stage(),
                    reason,
                    "the consumer is of no more use and is made anew"
                );
            }
            Err(error) => self.note(&error),
        }
    }

    /// Whether the consumer has waited for its group for longer than any group takes.
    fn is_forgotten(&self) -> bool {
        let is_long = |waited: Duration| waited >= FORGOTTEN_AFTER;
        let can_be_told =
            self.membership.is_told_when_let_in() || !self.shared.readiness.is_ready();
        can_be_told && self.shared.outside_for().is_some_and(is_long)
    }

    fn subscribe(&self) -> Result<(), KafkaError> {
        self.shared.waits_outside();
        let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&names)
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
        self.release_parked(flow);
        self.press_back(flow);
    }

    /// A record that has to wait pauses its partition; nothing else waits for it.
    fn take_or_park(&self, flow: &mut Flow, record: InRecord) {
        let Some(epoch) = self.shared.look(|tracker| tracker.epoch(&record.source)) else {
            return;
        };
        let Some(until) = self.waits_until(&record) else {
            self.take(flow, record);
            return;
        };
        let source = record.source.clone();
        self.pause([&source]);
        self.shared.change_lag(|lag| lag.parked(&source));
        let parked = Parked {
            until,
            record,
            epoch,
        };
        flow.parked.insert(source, parked);
    }

    fn waits_until(&self, record: &InRecord) -> Option<Until> {
        if *record.source.topic == *self.retry_topic {
            let due = due_at(record, &self.retry).filter(|due| *due > Utc::now());
            return due.map(Until::Due);
        }
        let admission = self.admission.as_ref()?;
        let is_refused = *record.source.topic == *admission.topic() && !admission.take();
        is_refused.then_some(Until::Admitted)
    }

    fn take(&self, flow: &mut Flow, record: InRecord) {
        if let (Some(epoch), in_flight) = self.shared.take(&record.source, record.offset) {
            // The worker lives as long as the sender.
            let _ = self.taken.send((record, epoch));
            flow.in_flight = in_flight;
        }
    }

    fn release_parked(&self, flow: &mut Flow) {
        if flow.parked.is_empty() {
            return;
        }
        let now = Utc::now();
        let mut ready: Vec<(DateTime<Utc>, TopicPartition)> = flow
            .parked
            .iter()
            .filter(|(_, parked)| match parked.until {
                Until::Due(at) => at <= now,
                Until::Admitted => !flow.is_full,
            })
            .map(|(source, parked)| (parked.record.timestamp, source.clone()))
            .collect();
        // The oldest first, so that no partition keeps another from being let in.
        ready.sort();
        for (_, source) in ready {
            let is_refused = |admission: &Arc<Admission>| {
                *source.topic == *admission.topic() && !admission.take()
            };
            if self.admission.as_ref().is_some_and(is_refused) {
                continue;
            }
            if let Some(parked) = flow.parked.remove(&source) {
                self.shared.change_lag(|lag| lag.released(&source));
                self.take(flow, parked.record);
                if !flow.is_full {
                    self.resume([&source]);
                }
            }
        }
    }

    /// A full stage pauses its partitions and keeps polling.
    fn press_back(&self, flow: &mut Flow) {
        if !flow.is_full && flow.in_flight >= self.queue_capacity {
            let has_room = self
                .shared
                .wait_for_room(self.queue_capacity / 2, PATIENCE_BEFORE_PAUSE);
            flow.in_flight = self.shared.in_flight();
            if !has_room {
                flow.is_full = true;
                self.pause(&self.shared.look(Tracker::assigned));
            }
        } else if flow.is_full && self.shared.in_flight() <= self.queue_capacity / 2 {
            flow.is_full = false;
            flow.in_flight = 0;
            self.resume_all_but_parked(flow);
        }
    }

    fn resume_all_but_parked(&self, flow: &Flow) {
        let assigned = self.shared.look(Tracker::assigned);
        let free = assigned
            .iter()
            .filter(|source| !flow.parked.contains_key(source));
        self.resume(free);
    }

    fn keep_up_with_assignment(&self, flow: &mut Flow) {
        let version = self.shared.assignment_version();
        if version == flow.seen_assignment {
            return;
        }
        flow.seen_assignment = version;
        // What was read in an earlier assignment is read again.
        self.shared.look(|tracker| {
            flow.parked
                .retain(|source, parked| tracker.epoch(source) == Some(parked.epoch));
        });
        if flow.is_full {
            self.pause(&self.shared.look(Tracker::assigned));
        } else {
            // librdkafka remembers that a partition was paused when it comes back.
            self.resume_all_but_parked(flow);
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

    /// Subscribes once every topic exists. False where the shutdown came first.
    fn wait_for_topics(&self) -> bool {
        // An answer that does not come is better explained by what the connections have said until then.
        let _ = self.consumer.poll(Duration::from_millis(100));
        while !self.shutdown.is_cancelled() {
            if self.check_health() {
                match self.subscribe() {
                    Ok(()) => return true,
                    Err(error) => self.note(&error),
                }
            }
            // Serves the client's events meanwhile.
            let _ = self.consumer.poll(Duration::from_millis(500));
        }
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
