//! What a stage's threads share: the books behind a lock, and a bell that rings when they change.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

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
            readiness,
        })
    }

    /// Changes the books and rings the bell.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tracker) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Looks into the books.
    pub fn look<T>(&self, look: impl FnOnce(&Tracker) -> T) -> T {
        look(&self.lock())
    }

    /// Messages that are taken and not committed yet.
    pub fn in_flight(&self) -> usize {
        self.look(Tracker::in_flight)
    }

    /// Grows with every change of the assignment.
    pub fn assignment_version(&self) -> u64 {
        self.assignment_version.load(Ordering::SeqCst)
    }

    pub fn assigned(&self, sources: Vec<TopicPartition>) {
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
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut tracker = self.lock();
        while !tracker.is_drained(sources) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            tracker = self
                .changed
                .wait_timeout(tracker, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Marks the messages as started, and returns those whose partitions are still ours.
    pub fn start(&self, batch: Vec<Work>) -> (Vec<Work>, usize) {
        let mut tracker = self.lock();
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
        self.change(|tracker| tracker.settle(&source, ticket, offset, outputs));
    }

    /// What can be committed now. Waits up to `timeout` for something.
    pub fn ready(&self, max_messages: usize, timeout: Duration) -> Vec<PartitionCommit> {
        let mut tracker = self.lock();
        let commits = tracker.ready(max_messages);
        if !commits.is_empty() {
            return commits;
        }
        tracker = self
            .changed
            .wait_timeout(tracker, timeout)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        tracker.ready(max_messages)
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

    fn lock(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
