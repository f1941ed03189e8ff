//! One transactional id as the running broker knows it.
//!
//! Two locks. `turn` is held by whatever changes the id's fate (begin, end, fence, time out) from its first check to its
//! last write, across waits for the disk. `live` is held for moments; a produce holds it shared while it appends, so that
//! a transaction that is being ended can no longer grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::error::Refusal;
use crate::state::{CommittedOffset, LastOutcome, TopicPartition, TransactionalIdState};

/// What an open transaction has touched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// When it began, milliseconds since 1970.
    pub since_ms: i64,
    /// When it is aborted if it has not ended.
    pub deadline: Option<Instant>,
    /// Partitions that its producer may write to.
    pub partitions: BTreeSet<TopicPartition>,
    /// Groups whose offsets it may carry.
    pub groups: BTreeSet<String>,
    /// The offsets it carries.
    pub offsets: BTreeMap<String, BTreeMap<TopicPartition, CommittedOffset>>,
}

/// Where the id stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// No transaction since the id got its epoch, or the last one has ended so.
    Idle(LastOutcome),
    /// A transaction is open.
    Open(Open),
    /// A transaction is being ended; its markers are not all written.
    Ending {
        /// How.
        committed: bool,
        /// What it touched: until all is written its offsets count as pending.
        open: Open,
        /// The number of the decision, once there is one; an older decision with the same epoch must not end this phase.
        decision: Option<u64>,
    },
}

/// The part that moments change.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The producer id that the id has.
    pub producer_id: i64,
    /// The epoch in force.
    pub epoch: i16,
    /// The epoch before the last one that a producer asked for, so that a repeat of its request is recognised.
    pub previous_epoch: Option<i16>,
    /// After this long an open transaction is aborted.
    pub timeout_ms: i32,
    /// Where the id stands.
    pub phase: Phase,
    /// When it was last used, milliseconds since 1970.
    pub updated_at_ms: i64,
}

/// One transactional id.
pub struct Entry {
    /// The id.
    pub id: String,
    /// Held by whatever changes the id's fate.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    live: RwLock<Live>,
}

impl Entry {
    /// An id as the journal knows it.
    pub fn from_state(id: String, state: &TransactionalIdState) -> Self {
        let live = Live {
            producer_id: state.producer_id,
            epoch: state.epoch,
            previous_epoch: None,
            timeout_ms: state.timeout_ms,
            phase: Phase::Idle(state.last_outcome),
            updated_at_ms: state.updated_at_ms,
        };
        Self {
            id,
            turn: Arc::default(),
            live: RwLock::new(live),
        }
    }

    /// Looks at the live part.
    pub fn read<T>(&self, look: impl FnOnce(&Live) -> T) -> T {
        look(&self.live.read())
    }

    /// Changes the live part.
    pub fn update<T>(&self, change: impl FnOnce(&mut Live) -> T) -> T {
        change(&mut self.live.write())
    }

    /// Runs `append` if this producer may write to the partition in its open transaction, and keeps the transaction from
    /// being ended meanwhile.
    pub fn while_open<T>(
        &self,
        producer_id: i64,
        epoch: i16,
        partition: &TopicPartition,
        append: impl FnOnce() -> T,
    ) -> Result<T, Refusal> {
        let live = self.live.read();
        if live.producer_id != producer_id || epoch != live.epoch {
            return Err(ResponseError::InvalidProducerEpoch.into());
        }
        match &live.phase {
            Phase::Open(open) if open.partitions.contains(partition) => Ok(append()),
            _ => Err(Refusal::new(
                ResponseError::InvalidTxnState,
                format!(
                    "partition {}-{} is not part of an open transaction of {:?}",
                    partition.0, partition.1, self.id
                ),
            )),
        }
    }
}

impl Live {
    /// Refuses a producer that is not the one in force. `fenced` is the code for an epoch that has been left behind.
    pub fn check(
        &self,
        producer_id: i64,
        epoch: i16,
        fenced: ResponseError,
    ) -> Result<(), Refusal> {
        if self.producer_id != producer_id {
            return Err(ResponseError::InvalidProducerIdMapping.into());
        }
        if self.epoch != epoch {
            let message = format!(
                "producer {producer_id} has epoch {}, not {epoch}",
                self.epoch
            );
            return Err(Refusal::new(fenced, message));
        }
        Ok(())
    }
}
