//! The log engine: segment files of record batches, their recovery, reading, retention and compaction.
//!
//! A [`Partition`] wraps one [`PartitionLog`] in a lock and wakes the fetches that wait for it. The lock is held for one
//! write or for planning a read, never across a wait.

mod appending;
mod batch;
mod compaction;
mod error;
mod partition;
mod producers;
mod reading;
mod records;
mod retention;
mod segment;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

pub use appending::{Appended, CheckedBatch};
pub use batch::{LEADER_EPOCH, Marker};
pub use error::AppendError;
pub use partition::{PartitionLog, sync_directory};
pub use reading::Isolation;

use crate::durability::SyncTarget;

/// Largest batch that a topic can be configured to take: it has to fit into a frame.
pub const MAX_BATCH_BYTES: usize = 31 * 1024 * 1024;

/// One partition of one topic.
pub struct Partition {
    /// The topic's name.
    pub topic: String,
    /// Number of the partition in its topic.
    pub index: i32,
    log: Mutex<PartitionLog>,
    watchers: Mutex<Vec<(u64, Arc<Notify>)>>,
    next_watcher: AtomicU64,
}

impl Partition {
    /// Wraps an opened log.
    pub fn new(topic: String, index: i32, log: PartitionLog) -> Self {
        Self {
            topic,
            index,
            log: Mutex::new(log),
            watchers: Mutex::new(Vec::new()),
            next_watcher: AtomicU64::new(0),
        }
    }

    /// The log, locked. Never hold it across an await.
    pub fn log(&self) -> MutexGuard<'_, PartitionLog> {
        self.log.lock()
    }

    /// Has `notify` woken whenever the partition may have something new to read, until the watch is dropped.
    pub fn watch(self: &Arc<Self>, notify: &Arc<Notify>) -> Watch {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        self.watchers.lock().push((id, Arc::clone(notify)));
        Watch {
            partition: Arc::clone(self),
            id,
        }
    }

    /// Wakes the fetches that wait for this partition.
    pub fn wake_watchers(&self) {
        for (_, notify) in self.watchers.lock().iter() {
            notify.notify_one();
        }
    }
}

impl SyncTarget for Partition {
    fn sync(&self) -> io::Result<()> {
        let (file, end) = self.log().sync_point();
        if self.log().durable_end() >= end {
            return Ok(());
        }
        let outcome = file.sync_data();
        let mut log = self.log();
        match &outcome {
            Ok(()) => log.mark_durable(end),
            Err(error) => log.take_offline(error.to_string()),
        }
        drop(log);
        self.wake_watchers();
        outcome
    }

    fn name(&self) -> String {
        format!("{}-{}", self.topic, self.index)
    }
}

/// Keeps a fetch registered with a partition.
pub struct Watch {
    partition: Arc<Partition>,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.partition
            .watchers
            .lock()
            .retain(|(id, _)| *id != self.id);
    }
}
