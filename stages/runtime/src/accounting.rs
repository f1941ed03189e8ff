//! The books of a stage: nothing is ever dropped.
//!
//! Invariant, once nothing is in flight: taken = emitted + skipped + retried + dead letters + cancelled +
//! abandoned.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Worked.
    Emitted,
    /// Nothing to do.
    Skipped,
    /// In the retry topic.
    Retried,
    /// In the dead letters.
    DeadLettered,
    /// Dropped, because its task is cancelled; `persist` tells its end.
    Cancelled,
}

impl Verdict {
    /// The `outcome` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emitted => "emitted",
            Self::Skipped => "skipped",
            Self::Retried => "retried",
            Self::DeadLettered => "dead_lettered",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Counts since the stage started. A message that is done again after a crash or rebalance counts again.
#[derive(Debug, Default)]
pub struct Accounting {
    taken: AtomicU64,
    emitted: AtomicU64,
    skipped: AtomicU64,
    retried: AtomicU64,
    dead_lettered: AtomicU64,
    cancelled: AtomicU64,
    abandoned: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that came in.
    pub taken: u64,
    /// Messages that were worked.
    pub emitted: u64,
    /// Messages with nothing to do.
    pub skipped: u64,
    /// Messages that went to the retry topic.
    pub retried: u64,
    /// Messages that went to the dead letters.
    pub dead_lettered: u64,
    /// Messages that were dropped, because their tasks are cancelled.
    pub cancelled: u64,
    /// Messages that were given back undone, at a rebalance or shutdown.
    pub abandoned: u64,
}

impl Accounting {
    pub(crate) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn settle(&self, verdict: Verdict) {
        let count = match verdict {
            Verdict::Emitted => &self.emitted,
            Verdict::Skipped => &self.skipped,
            Verdict::Retried => &self.retried,
            Verdict::DeadLettered => &self.dead_lettered,
            Verdict::Cancelled => &self.cancelled,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            taken: read(&self.taken),
            emitted: read(&self.emitted),
            skipped: read(&self.skipped),
            retried: read(&self.retried),
            dead_lettered: read(&self.dead_lettered),
            cancelled: read(&self.cancelled),
            abandoned: read(&self.abandoned),
        }
    }
}

impl Counts {
    /// Whether everything that came in is accounted for.
    pub fn balance(&self) -> bool {
        self.taken
            == self.emitted
                + self.skipped
                + self.retried
                + self.dead_lettered
                + self.cancelled
                + self.abandoned
    }
}
