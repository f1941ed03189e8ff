//! The transaction coordinator: producer ids and epochs, what an open transaction touches, and its one moment of truth.
//!
//! A commit goes so: the records are made durable; then **one** journal record with the decision, the offsets and the
//! partitions is made durable; then the client is answered and markers are written. Before that record the transaction
//! never happened; after it, it has, and a start writes the markers that are missing. Later, in the background, the
//! markers are made durable and the decision is let go.

mod ending;
mod entry;
mod recovery;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use entry::{Entry, Phase};

use crate::clock::now_ms;
use crate::durability::Syncer;
use crate::error::Refusal;
use crate::state::{
    CommittedOffset, Journal, JournalRecord, LastOutcome, TopicPartition, TransactionalIdState,
};
use crate::topics::Topics;
use entry::{Live, Open};

/// Producer ids are reserved in the journal by this many, so that giving one out needs no write.
const PRODUCER_ID_BLOCK: i64 = 1_000;
/// `transaction.max.timeout.ms`
pub const MAX_TIMEOUT_MS: i32 = 15 * 60 * 1_000;
/// Kafka moves to a new producer id when the epoch comes to its end.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// What a producer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The producer id.
    pub producer_id: i64,
    /// The epoch.
    pub epoch: i16,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<String, Arc<Entry>>,
    by_producer: HashMap<i64, Arc<Entry>>,
}

struct ProducerIds {
    next: i64,
    reserved: i64,
}

/// The coordinator of all transactional ids.
pub struct Transactions {
    journal: Arc<Journal>,
    syncer: Arc<Syncer>,
    topics: Arc<Topics>,
    table: RwLock<Table>,
    producer_ids: Mutex<ProducerIds>,
    /// Wakes the task that looks after time-outs and markers.
    pub(crate) housekeeping: Notify,
}

impl Transactions {
    /// Takes over what the journal knows. Call [`Transactions::recover`] before anything is served.
    pub fn new(journal: Arc<Journal>, syncer: Arc<Syncer>, topics: Arc<Topics>) -> Self {
        let (ids, next) =
            journal.read(|state| (state.transactional_ids.clone(), state.next_producer_id));
        let mut table = Table::default();
        for (id, state) in ids {
            let entry = Arc::new(Entry::from_state(id.clone(), &state));
            table
                .by_producer
                .insert(state.producer_id, Arc::clone(&entry));
            table.by_id.insert(id, entry);
        }
        Self {
            journal,
            syncer,
            topics,
            table: RwLock::new(table),
            producer_ids: Mutex::new(ProducerIds {
                next,
                reserved: next,
            }),
            housekeeping: Notify::new(),
        }
    }

    /// The entry of a transactional id.
    pub fn get(&self, id: &str) -> Option<Arc<Entry>> {
        self.table.read().by_id.get(id).cloned()
    }

    /// The entry that has this producer id.
    pub fn by_producer(&self, producer_id: i64) -> Option<Arc<Entry>> {
        self.table.read().by_producer.get(&producer_id).cloned()
    }

    /// All entries.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.table.read().by_id.values().cloned().collect()
    }

    /// A producer id for an idempotent producer without transactions.
    pub async fn new_producer(&self) -> Result<Identity, Refusal> {
        Ok(Identity {
            producer_id: self.next_producer_id().await?,
            epoch: 0,
        })
    }

    /// `InitProducerId` of a transactional producer: whoever had the id before is fenced, and what it left open aborted.
    /// `known` is the identity that the producer has already, when it recovers from an error.
    pub async fn init(
        &self,
        id: &str,
        timeout_ms: i32,
        known: Option<Identity>,
        fenced: ResponseError,
    ) -> Result<Identity, Refusal> {
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
            let message =
                format!("transaction.timeout.ms is {timeout_ms}; use 1 to {MAX_TIMEOUT_MS}");
            return Err(Refusal::new(
                ResponseError::InvalidTransactionTimeout,
                message,
            ));
        }
        let Some(entry) = self.get(id) else {
            let producer_id = self.next_producer_id().await?;
            return self.register(id, producer_id, timeout_ms).await;
        };
        let _turn = entry.turn.lock().await;
        if let Some(known) = known {
            let (current, previous) =
                entry.read(|live| ((live.producer_id, live.epoch), live.previous_epoch));
            if known.producer_id == current.0 && previous == Some(known.epoch) {
                return Ok(Identity {
                    producer_id: current.0,
                    epoch: current.1,
                });
            }
            entry
                .read(|live| live.check(known.producer_id, known.epoch, fenced))
                .map_err(|refusal| {
                    if known.producer_id == current.0 {
                        refusal
                    } else {
                        Refusal::new(fenced, refusal.message)
                    }
                })?;
        }
        let is_ending = |live: &Live| matches!(live.phase, Phase::Ending { .. });
        if entry.read(is_ending) {
            return Err(ResponseError::ConcurrentTransactions.into());
        }
        if entry.read(|live| matches!(live.phase, Phase::Open(_))) {
            self.end_holding_turn(&entry, false, true).await?;
        } else {
            entry.update(|live| live.epoch = live.epoch.saturating_add(1));
        }
        // Its markers may not be written yet.
        if entry.read(is_ending) {
            return Err(ResponseError::ConcurrentTransactions.into());
        }
        self.assign(&entry, timeout_ms, known.map(|known| known.epoch))
            .await
    }

    /// Records the entry's epoch, or moves it to a new producer id when the epochs are used up.
    async fn assign(
        &self,
        entry: &Arc<Entry>,
        timeout_ms: i32,
        previous: Option<i16>,
    ) -> Result<Identity, Refusal> {
        let used_up = entry.read(|live| live.epoch) >= LAST_EPOCH;
        let fresh_producer_id = if used_up {
            Some(self.next_producer_id().await?)
        } else {
            None
        };
        let (old, identity) = entry.update(|live| {
            let old = live.producer_id;
            if let Some(producer_id) = fresh_producer_id {
                live.producer_id = producer_id;
                live.epoch = 0;
            }
            live.previous_epoch = previous.filter(|_| fresh_producer_id.is_none());
            live.timeout_ms = timeout_ms;
            live.phase = Phase::Idle(LastOutcome::None);
            live.updated_at_ms = now_ms();
            (
                old,
                Identity {
                    producer_id: live.producer_id,
                    epoch: live.epoch,
                },
            )
        });
        if fresh_producer_id.is_some() {
            let mut table = self.table.write();
            table.by_producer.remove(&old);
            table
                .by_producer
                .insert(identity.producer_id, Arc::clone(entry));
        }
        let record = JournalRecord::TransactionalIdAssigned {
            id: entry.id.clone(),
            state: state_of(entry),
        };
        self.journal
            .commit(&self.syncer, record)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(identity)
    }

    async fn register(
        &self,
        id: &str,
        producer_id: i64,
        timeout_ms: i32,
    ) -> Result<Identity, Refusal> {
        let state = TransactionalIdState {
            producer_id,
            epoch: 0,
            timeout_ms,
            open_since_ms: None,
            last_outcome: LastOutcome::None,
            updated_at_ms: now_ms(),
        };
        let entry = Arc::new(Entry::from_state(id.to_owned(), &state));
        let turn = Arc::clone(&entry.turn);
        let _turn = turn.lock().await;
        {
            let mut table = self.table.write();
            if table.by_id.contains_key(id) {
                // Another connection was first; Kafka's answer makes this one try again.
                return Err(ResponseError::ConcurrentTransactions.into());
            }
            table.by_id.insert(id.to_owned(), Arc::clone(&entry));
            table.by_producer.insert(producer_id, entry);
        }
        let record = JournalRecord::TransactionalIdAssigned {
            id: id.to_owned(),
            state,
        };
        self.journal
            .commit(&self.syncer, record)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(Identity {
            producer_id,
            epoch: 0,
        })
    }

    /// Forgets ids that have had no transaction since `before_ms`; returns them.
    pub async fn forget_unused(&self, before_ms: i64) -> Vec<String> {
        let mut forgotten = Vec::new();
        for entry in self.all() {
            let is_unused = || {
                entry.read(|live| {
                    live.updated_at_ms < before_ms && matches!(live.phase, Phase::Idle(_))
                })
            };
            if !is_unused() {
                continue;
            }
            let _turn = entry.turn.lock().await;
            if is_unused() {
                let mut table = self.table.write();
                table.by_id.remove(&entry.id);
                table
                    .by_producer
                    .remove(&entry.read(|live| live.producer_id));
                forgotten.push(entry.id.clone());
            }
        }
        forgotten
    }

    /// Makes partitions part of the producer's transaction, which begins with the first of them.
    pub async fn add_partitions(
        &self,
        id: &str,
        producer: Identity,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<(), Refusal> {
        self.extend(id, producer, |open| open.partitions.extend(partitions))
            .await
    }

    /// Lets the producer's transaction carry offsets of `group`.
    pub async fn add_group(
        &self,
        id: &str,
        producer: Identity,
        group: String,
    ) -> Result<(), Refusal> {
        self.extend(id, producer, |open| {
            open.groups.insert(group);
        })
        .await
    }

    /// Adds offsets, which become the group's when the transaction commits.
    pub fn add_offsets(
        &self,
        id: &str,
        producer: Identity,
        group: &str,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<(), Refusal> {
        let entry = self
            .get(id)
            .ok_or(ResponseError::InvalidProducerIdMapping)?;
        entry.update(|live| {
            live.check(
                producer.producer_id,
                producer.epoch,
                ResponseError::InvalidProducerEpoch,
            )?;
            match &mut live.phase {
                Phase::Open(open) if open.groups.contains(group) => {
                    open.offsets
                        .entry(group.to_owned())
                        .or_default()
                        .extend(offsets);
                    Ok(())
                }
                _ => Err(ResponseError::InvalidTxnState.into()),
            }
        })
    }

    /// Whether an open transaction carries an offset of this group and partition: the offset known is about to change.
    pub fn has_pending_offset(&self, group: &str, partition: &TopicPartition) -> bool {
        self.all().iter().any(|entry| {
            entry.read(|live| match &live.phase {
                Phase::Open(open) | Phase::Ending { open, .. } => open
                    .offsets
                    .get(group)
                    .is_some_and(|offsets| offsets.contains_key(partition)),
                Phase::Idle(_) => false,
            })
        })
    }

    async fn extend(
        &self,
        id: &str,
        producer: Identity,
        change: impl FnOnce(&mut Open),
    ) -> Result<(), Refusal> {
        let entry = self
            .get(id)
            .ok_or(ResponseError::InvalidProducerIdMapping)?;
        let _turn = entry.turn.lock().await;
        let begins = entry.read(|live| {
            live.check(
                producer.producer_id,
                producer.epoch,
                ResponseError::ProducerFenced,
            )?;
            match live.phase {
                Phase::Ending { .. } => Err(Refusal::from(ResponseError::ConcurrentTransactions)),
                Phase::Open(_) => Ok(false),
                Phase::Idle(_) => Ok(true),
            }
        })?;
        let since_ms = now_ms();
        if begins {
            // Not synced: when the machine dies, so does what the transaction wrote, and the start treats every id as if
            // its last transaction had not been answered.
            let record = JournalRecord::TransactionBegan {
                id: id.to_owned(),
                at_ms: since_ms,
            };
            self.journal
                .append(record)
                .map_err(|error| unavailable(&error))?;
        }
        entry.update(|live| {
            if begins {
                let timeout = Duration::from_millis(u64::try_from(live.timeout_ms).unwrap_or(0));
                let deadline = Instant::now() + timeout;
                live.phase = Phase::Open(Open {
                    since_ms,
                    deadline: Some(deadline),
                    ..Open::default()
                });
                live.updated_at_ms = since_ms;
            }
            if let Phase::Open(open) = &mut live.phase {
                change(open);
            }
        });
        if begins {
            self.housekeeping.notify_one();
        }
        Ok(())
    }

    async fn next_producer_id(&self) -> Result<i64, Refusal> {
        let (producer_id, reserved) = {
            let mut ids = self.producer_ids.lock();
            let reserves = ids.next >= ids.reserved;
            if reserves {
                let next = ids.next + PRODUCER_ID_BLOCK;
                self.journal
                    .append(JournalRecord::ProducerIdsReserved { next })
                    .map_err(|error| unavailable(&error))?;
                ids.reserved = next;
            }
            ids.next += 1;
            (ids.next - 1, reserves)
        };
        if reserved {
            self.journal
                .sync_with(&self.syncer)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        Ok(producer_id)
    }
}

/// What the journal holds of an entry.
fn state_of(entry: &Entry) -> TransactionalIdState {
    entry.read(|live| TransactionalIdState {
        producer_id: live.producer_id,
        epoch: live.epoch,
        timeout_ms: live.timeout_ms,
        open_since_ms: None,
        last_outcome: match &live.phase {
            Phase::Idle(outcome) => *outcome,
            Phase::Open(_) | Phase::Ending { .. } => LastOutcome::None,
        },
        updated_at_ms: live.updated_at_ms,
    })
}

/// A coordinator that cannot write tells its clients to try again, as Kafka's does.
fn unavailable(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(ResponseError::CoordinatorNotAvailable, error.to_string())
}
