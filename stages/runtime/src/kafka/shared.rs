//! What a stage's threads share: the books behind a lock, and a bell that rings when they change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

// Unlike the standard library's, its bell costs no system call where nobody waits for it.
use parking_lot::{Condvar, Mutex};

use super::{
    lag::Lag,
    tracker::{PartitionCommit, Tracker},
};
use crate::{
    execute::{Settled, Work},
    readiness::Readiness,
    record::TopicPartition,
    telemetry,
};

/// Shared by the consumer's thread, the worker and the committer's thread.
#[derive(Debug)]
pub(crate) struct Shared {
    tracker: Mutex<Tracker>,
    lag: Mutex<Lag>,
    changed: Condvar,
    assignment_version: AtomicU64,
    finished: AtomicBool,
    /// Since when the consumer has waited for its group to let it in, where it does.
    outside_since: Mutex<Option<Instant>>,
    pub readiness: Readiness,
}

impl Shared {
    pub fn new(readiness: Readiness) -> Arc<Self> {
        Arc::new(Self {
            tracker: Mutex::default(),
            lag: Mutex::default(),
            changed: Condvar::new(),
            assignment_version: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            outside_since: Mutex::default(),
            readiness,
        })
    }

    /// Changes the books and rings the bell.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tracker) -> T) -> T {
        let result = change(&mut self.tracker.lock());
        self.changed.notify_all();
        result
    }

    /// A message was read. Its epoch, or `None` where the partition is not ours or takes no more; and how many are in flight
    /// then. Nobody waits for it.
    pub fn take(&self, source: &TopicPartition, offset: i64) -> (Option<u64>, usize) {
        let mut tracker = self.tracker.lock();
        let epoch = tracker.take(source, offset);
        (epoch, tracker.in_flight())
    }

    /// Looks into the books.
    pub fn look<T>(&self, look: impl FnOnce(&Tracker) -> T) -> T {
        look(&self.tracker.lock())
    }

    /// Messages that are taken and not committed yet.
    pub fn in_flight(&self) -> usize {
        self.look(Tracker::in_flight)
    }

    /// Grows with every change of the assignment.
    pub fn assignment_version(&self) -> u64 {
        self.assignment_version.load(Ordering::SeqCst)
    }

    /// The consumer begins to wait for its group to let it in.
    pub fn waits_outside(&self) {
        *self.outside_since.lock() = Some(Instant::now());
    }

    /// How long the consumer has waited for its group to let it in; `None` where it is in.
    pub fn outside_for(&self) -> Option<Duration> {
        self.outside_since.lock().map(|since| since.elapsed())
    }

    pub fn assigned(&self, sources: Vec<TopicPartition>) {
        *self.outside_since.lock() = None;
        self.change_lag(|lag| lag.assigned(&sources));
        self.change(|tracker| {
            sources
                .into_iter()
                .for_each(|source| tracker.assign(source));
        });
        self.assignment_version.fetch_add(1, Ordering::SeqCst);
    }

    /// These are somebody else's from now on. The number of messages that were abandoned with them.
    pub fn given_up(&self, sources: &[TopicPartition]) -> usize {
        let abandoned = self.change(|tracker| tracker.revoke(sources));
        self.change_lag(|lag| lag.given_up(sources));
        abandoned
    }

    /// Changes what is known of the lag, and tells it.
    pub fn change_lag<T>(&self, change: impl FnOnce(&mut Lag) -> T) -> T {
        let mut lag = self.lag.lock();
        let result = change(&mut lag);
        let (partitions, unread) = (lag.partitions(), lag.total());
        drop(lag);
        telemetry::backlog(self.readiness.stage(), partitions, unread, self.in_flight());
        result
    }

    /// Stops taking from `sources` and waits until what was started is committed. Whether that was so in time.
    pub fn drain(&self, sources: &[TopicPartition], timeout: Duration) -> bool {
        self.change(|tracker| tracker.stop(sources));
        self.assignment_version.fetch_add(1, Ordering::SeqCst);
        let deadline = Instant::now() + timeout;
        let mut tracker = self.tracker.lock();
        let is_open = |tracker: &mut Tracker| !tracker.is_drained(sources);
        let waited = self
            .changed
            .wait_while_until(&mut tracker, is_open, deadline);
        !waited.timed_out()
    }

    /// Waits until no more than `most` messages are in flight. Whether that was so in time.
    pub fn wait_for_room(&self, most: usize, timeout: Duration) -> bool {
        let mut tracker = self.tracker.lock();
        let is_full = |tracker: &mut Tracker| tracker.in_flight() > most;
        let waited = self.changed.wait_while_for(&mut tracker, is_full, timeout);
        !waited.timed_out()
    }

    /// Marks the messages as started, and returns those whose partitions are still ours.
    pub fn start(&self, batch: Vec<Work>) -> (Vec<Work>, usize) {
        let mut tracker = self.tracker.lock();
        let before = batch.len();
        let ours: Vec<Work> = batch
            .into_iter()
            .filter(|work| tracker.start(work.source(), work.ticket(), work.offset()))
            .collect();
        let lost = before - ours.len();
        (ours, lost)
    }

    pub fn settle(&self, settled: Settled) {
        let Settled {
            source,
            offset,
            ticket,
            outputs,
            ..
        } = settled;
        let can_be_committed = self.tracker.lock().settle(&source, ticket, offset, outputs);
        if can_be_committed {
            self.changed.notify_all();
        }
    }

    /// Waits until something can be committed. Whether there was something in time.
    pub fn wait_until_ready(&self, timeout: Duration) -> bool {
        let mut tracker = self.tracker.lock();
        let has_nothing = |tracker: &mut Tracker| !tracker.is_ready();
        let waited = self
            .changed
            .wait_while_for(&mut tracker, has_nothing, timeout);
        !waited.timed_out()
    }

    /// What can be committed now.
    pub fn ready(&self, max_messages: usize) -> Vec<PartitionCommit> {
        self.tracker.lock().ready(max_messages)
    }

    pub fn committed(&self, commits: &[PartitionCommit]) {
        self.change(|tracker| tracker.committed(commits));
    }

    /// The consumer's thread has drained: the committer may end.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }
}
