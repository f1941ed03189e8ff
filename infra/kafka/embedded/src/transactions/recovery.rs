//! What a start does with transactions: finish what was decided, abort what was not.

use std::collections::BTreeMap;

use super::Transactions;
use super::entry::Phase;
use crate::clock::now_ms;
use crate::log::{AppendError, Marker};
use crate::state::{Decision, JournalError, JournalRecord, LastOutcome};

/// A start could not bring the transactions to an end.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A marker could not be written.
    #[error("a transaction marker could not be written: {0}")]
    Marker(#[from] AppendError),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Transactions {
    /// Writes the markers of decided transactions and aborts every other one, fencing its producer. `machine_died` says
    /// that writes which were not synced may be missing: then no id can tell how its last transaction ended.
    pub async fn recover(&self, machine_died: bool) -> Result<(), RecoveryError> {
        let decisions: Vec<Decision> = self
            .journal
            .read(|state| state.decisions.values().cloned().collect());
        for decision in &decisions {
            self.write_markers(decision)?;
        }
        self.fence_open_ids()?;
        self.abort_strays()?;
        if machine_died {
            for entry in self.all() {
                entry.update(|live| live.phase = Phase::Idle(LastOutcome::None));
            }
        }
        self.settle_markers().await;
        Ok(())
    }

    /// Ids that had begun a transaction: their epoch goes up, whether or not a record was written.
    fn fence_open_ids(&self) -> Result<(), RecoveryError> {
        let open: Vec<String> = self.journal.read(|state| {
            let open = state
                .transactional_ids
                .iter()
                .filter(|(_, id)| id.open_since_ms.is_some());
            open.map(|(name, _)| name.clone()).collect()
        });
        for id in open {
            let Some(entry) = self.get(&id) else {
                continue;
            };
            let (producer_id, epoch) = entry.update(|live| {
                live.epoch = live.epoch.saturating_add(1);
                live.phase = Phase::Idle(LastOutcome::Aborted);
                (live.producer_id, live.epoch)
            });
            let mut partitions = Vec::new();
            for partition in self
                .topics
                .all()
                .iter()
                .flat_map(|topic| topic.partitions())
            {
                let log = partition.log();
                if log
                    .producers()
                    .open_transactions()
                    .iter()
                    .any(|open| open.0 == producer_id)
                {
                    partitions.push((
                        (partition.topic.clone(), partition.index),
                        log.next_offset(),
                    ));
                }
            }
            tracing::info!(
                transactional_id = id,
                partitions = partitions.len(),
                "aborting the transaction that the last run left open"
            );
            let mut decision = Decision {
                sequence: 0,
                transactional_id: id,
                producer_id,
                producer_epoch: epoch,
                committed: false,
                partitions,
                offsets: BTreeMap::new(),
                decided_at_ms: now_ms(),
            };
            let mut numbered = decision.clone();
            self.journal.append_with(|state| {
                numbered.sequence = state.next_decision;
                decision.sequence = state.next_decision;
                JournalRecord::TransactionDecided(numbered)
            })?;
            self.write_markers(&decision)?;
        }
        Ok(())
    }

    /// Transactions that are open in a partition and that the journal knows nothing of.
    fn abort_strays(&self) -> Result<(), RecoveryError> {
        for partition in self
            .topics
            .all()
            .iter()
            .flat_map(|topic| topic.partitions())
        {
            let mut log = partition.log();
            for (producer_id, epoch, first_offset) in log.producers().open_transactions() {
                tracing::warn!(
                    topic = partition.topic,
                    index = partition.index,
                    producer_id,
                    first_offset,
                    "aborting a transaction that the journal does not know"
                );
                log.append_marker(
                    producer_id,
                    epoch.saturating_add(1),
                    Marker::Abort,
                    now_ms(),
                )?;
                if let Some(entry) = self.by_producer(producer_id) {
                    entry.update(|live| live.epoch = live.epoch.max(epoch.saturating_add(1)));
                }
            }
        }
        Ok(())
    }
}
