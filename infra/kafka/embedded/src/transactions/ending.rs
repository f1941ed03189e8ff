//! Ending a transaction: the decision, then the markers, then forgetting the decision.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::entry::{Entry, Open, Phase};
use super::{Identity, Transactions, unavailable};
use crate::clock::now_ms;
use crate::durability::SyncTarget;
use crate::error::Refusal;
use crate::log::{AppendError, Marker, Partition};
use crate::state::{Decision, JournalRecord, LastOutcome, TopicPartition};

/// Markers are made durable together, this long after the first of them.
const MARKERS_SETTLE: Duration = Duration::from_secs(1);

impl Transactions {
    /// `EndTxn`.
    pub async fn end(
        &self,
        id: &str,
        producer: Identity,
        committed: bool,
        fenced: ResponseError,
    ) -> Result<(), Refusal> {
        let entry = self
            .get(id)
            .ok_or(ResponseError::InvalidProducerIdMapping)?;
        let _turn = entry.turn.lock().await;
        let phase = entry.read(|live| {
            live.check(producer.producer_id, producer.epoch, fenced)?;
            Ok::<_, Refusal>(live.phase.clone())
        })?;
        match (phase, committed) {
            (Phase::Open(_), _) => self.end_holding_turn(&entry, committed, false).await,
            // The answer to the first request was lost.
            (Phase::Idle(LastOutcome::Committed), true)
            | (Phase::Idle(LastOutcome::Aborted), false) => Ok(()),
            (
                Phase::Ending {
                    committed: decided, ..
                },
                _,
            ) if decided == committed => Err(ResponseError::ConcurrentTransactions.into()),
            _ => Err(Refusal::new(
                ResponseError::InvalidTxnState,
                format!("transactional id {id:?} has no open transaction to end"),
            )),
        }
    }

    /// Ends the open transaction of `entry`, whose turn the caller holds. With `fence` its producer is shut out: the epoch
    /// goes up and the markers carry the new one.
    pub(super) async fn end_holding_turn(
        &self,
        entry: &Arc<Entry>,
        committed: bool,
        fence: bool,
    ) -> Result<(), Refusal> {
        // From here on nothing can be added: appends need the phase to be open.
        let taken = entry.update(|live| {
            let Phase::Open(open) = live.phase.clone() else {
                return None;
            };
            live.phase = Phase::Ending {
                committed,
                open: open.clone(),
                decision: None,
            };
            Some((open, live.producer_id, live.epoch))
        });
        let Some((open, producer_id, epoch)) = taken else {
            return Err(ResponseError::InvalidTxnState.into());
        };
        let marker_epoch = if fence {
            epoch.saturating_add(1)
        } else {
            epoch
        };
        let producer = Identity {
            producer_id,
            epoch: marker_epoch,
        };
        let decision = match self.decide(entry, &open, producer, committed).await {
            Ok(decision) => decision,
            Err(refusal) => {
                // Not decided: the transaction is as open as before, and the client may try again.
                entry.update(|live| live.phase = Phase::Open(open));
                return Err(refusal);
            }
        };
        entry.update(|live| {
            live.epoch = live.epoch.max(marker_epoch);
            live.previous_epoch = None;
            live.updated_at_ms = decision.decided_at_ms;
        });
        if let Err(error) = self.write_markers(&decision) {
            tracing::warn!(transactional_id = entry.id, %error, "markers not written yet; trying again until they are");
            entry.update(|live| {
                live.phase = Phase::Ending {
                    committed,
                    open,
                    decision: Some(decision.sequence),
                };
            });
            self.housekeeping.notify_one();
            return Ok(());
        }
        entry.update(|live| live.phase = Phase::Idle(outcome(committed)));
        self.housekeeping.notify_one();
        Ok(())
    }

    /// The one moment at which the transaction is committed or aborted.
    async fn decide(
        &self,
        entry: &Entry,
        open: &Open,
        producer: Identity,
        committed: bool,
    ) -> Result<Decision, Refusal> {
        let partitions: Vec<Arc<Partition>> = open
            .partitions
            .iter()
            .filter_map(|(topic, index)| self.topics.partition(topic, *index))
            .collect();
        if committed {
            let targets = partitions
                .iter()
                .map(|partition| -> Arc<dyn SyncTarget> { Arc::<Partition>::clone(partition) });
            self.syncer
                .sync_all(targets)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        let mut decision = Decision {
            sequence: 0,
            transactional_id: entry.id.clone(),
            producer_id: producer.producer_id,
            producer_epoch: producer.epoch,
            committed,
            partitions: partitions
                .iter()
                .map(|partition| (name_of(partition), partition.log().next_offset()))
                .collect(),
            offsets: BTreeMap::new(),
            decided_at_ms: now_ms(),
        };
        if committed {
            for (group, offsets) in &open.offsets {
                decision
                    .offsets
                    .insert(group.clone(), offsets.clone().into_iter().collect());
            }
        }
        let mut numbered = decision.clone();
        self.journal
            .append_with(|state| {
                numbered.sequence = state.next_decision;
                decision.sequence = state.next_decision;
                JournalRecord::TransactionDecided(numbered)
            })
            .map_err(|error| unavailable(&error))?;
        if committed {
            self.journal
                .sync_with(&self.syncer)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        Ok(decision)
    }

    /// Writes the markers that are missing. Safe to repeat: a partition in which the transaction is no longer open has one.
    pub(super) fn write_markers(&self, decision: &Decision) -> Result<(), AppendError> {
        let marker = if decision.committed {
            Marker::Commit
        } else {
            Marker::Abort
        };
        for ((topic, index), end_offset) in &decision.partitions {
            let Some(partition) = self.topics.partition(topic, *index) else {
                continue;
            };
            let mut log = partition.log();
            let still_open = log.producers().open_transactions().into_iter().any(
                |(producer_id, _, first_offset)| {
                    producer_id == decision.producer_id && first_offset < *end_offset
                },
            );
            let fences = log
                .producers()
                .epoch_of(decision.producer_id)
                .is_some_and(|epoch| epoch < decision.producer_epoch);
            if still_open || fences {
                log.append_marker(
                    decision.producer_id,
                    decision.producer_epoch,
                    marker,
                    now_ms(),
                )?;
            }
            drop(log);
            partition.wake_watchers();
        }
        Ok(())
    }

    /// Looks after time-outs, markers that could not be written, and decisions that can be let go, until the broker stops.
    pub async fn housekeep(self: Arc<Self>) {
        let mut settle_at: Option<Instant> = None;
        loop {
            let next_timeout = self.abort_timed_out().await;
            let undecided = self.journal.read(|state| !state.decisions.is_empty());
            settle_at = if undecided {
                Some(settle_at.unwrap_or_else(|| Instant::now() + MARKERS_SETTLE))
            } else {
                None
            };
            if settle_at.is_some_and(|at| at <= Instant::now()) {
                self.settle_markers().await;
                settle_at = None;
                continue;
            }
            let wake_at = match (next_timeout, settle_at) {
                (Some(timeout), Some(settle)) => Some(timeout.min(settle)),
                (timeout, settle) => timeout.or(settle),
            };
            match wake_at {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, self.housekeeping.notified()).await;
                }
                None => self.housekeeping.notified().await,
            }
        }
    }

    /// Writes what markers are missing, makes all of them durable, and lets the decisions go.
    pub async fn settle_markers(&self) {
        if self.journal.is_offline() {
            // Whether the disk has the decisions is unknown; the next start will know.
            return;
        }
        let decisions: Vec<Decision> = self
            .journal
            .read(|state| state.decisions.values().cloned().collect());
        let mut settled = Vec::new();
        let mut touched: HashSet<TopicPartition> = HashSet::new();
        for decision in decisions {
            if let Err(error) = self.write_markers(&decision) {
                tracing::debug!(sequence = decision.sequence, %error, "markers still not written");
                continue;
            }
            self.finish_ending(&decision);
            touched.extend(
                decision
                    .partitions
                    .iter()
                    .map(|(partition, _)| partition.clone()),
            );
            settled.push(decision.sequence);
        }
        if settled.is_empty() {
            return;
        }
        let partitions = touched
            .iter()
            .filter_map(|(topic, index)| self.topics.partition(topic, *index));
        let targets = partitions.map(|partition| -> Arc<dyn SyncTarget> { partition });
        if let Err(error) = self.syncer.sync_all(targets).await {
            tracing::error!(%error, "markers not durable; their decisions stay in the journal");
            return;
        }
        if let Err(error) = self
            .journal
            .append(JournalRecord::MarkersDurable { sequences: settled })
        {
            tracing::debug!(%error, "settled decisions not let go yet");
        }
    }

    /// After markers that could not be written at once: the id is free for its next transaction.
    fn finish_ending(&self, decision: &Decision) {
        let Some(entry) = self.get(&decision.transactional_id) else {
            return;
        };
        entry.update(|live| {
            let waits_for = |phase: &Phase| match phase {
                Phase::Ending { decision, .. } => *decision,
                Phase::Idle(_) | Phase::Open(_) => None,
            };
            if waits_for(&live.phase) == Some(decision.sequence) {
                live.phase = Phase::Idle(outcome(decision.committed));
            }
        });
    }

    /// Aborts what has been open for too long and fences its producer; returns when the next one is due.
    async fn abort_timed_out(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for entry in self.all() {
            let deadline_of = |entry: &Entry| {
                entry.read(|live| match &live.phase {
                    Phase::Open(open) => open.deadline,
                    Phase::Idle(_) | Phase::Ending { .. } => None,
                })
            };
            let Some(deadline) = deadline_of(&entry) else {
                continue;
            };
            if deadline > Instant::now() {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
                continue;
            }
            let _turn = entry.turn.lock().await;
            if deadline_of(&entry).is_none_or(|deadline| deadline > Instant::now()) {
                continue;
            }
            tracing::info!(
                transactional_id = entry.id,
                "transaction timed out; aborting it and fencing its producer"
            );
            if let Err(refusal) = self.end_holding_turn(&entry, false, true).await {
                tracing::warn!(transactional_id = entry.id, error = %refusal, "timed-out transaction not aborted yet");
                next = Some(Instant::now() + MARKERS_SETTLE);
            }
        }
        next
    }
}

fn outcome(committed: bool) -> LastOutcome {
    if committed {
        LastOutcome::Committed
    } else {
        LastOutcome::Aborted
    }
}

fn name_of(partition: &Partition) -> TopicPartition {
    (partition.topic.clone(), partition.index)
}
