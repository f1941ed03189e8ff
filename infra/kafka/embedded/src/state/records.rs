//! The records of the journal, and the state that follows from them.
//!
//! Invariant: the state is nothing but the records applied in order, and [`ClusterState::to_records`] gives records that
//! lead to the same state, which is how the journal is compacted.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A topic and the number of one of its partitions.
pub type TopicPartition = (String, i32);

/// An offset that a consumer group committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: i64,
    /// Leader epoch that the consumer knew, or -1.
    pub leader_epoch: i32,
    /// What the consumer wanted kept with it.
    pub metadata: String,
    /// When it was committed, milliseconds since 1970.
    pub committed_at_ms: i64,
}

/// Offsets by group, as a transaction carries them.
pub type OffsetsByGroup = BTreeMap<String, Vec<(TopicPartition, CommittedOffset)>>;

/// A topic as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState {
    /// Identity of this incarnation.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// Settings that differ from the defaults.
    pub configs: BTreeMap<String, String>,
    /// First offsets that deletions of records or retention have left, by partition.
    #[serde(default)]
    pub log_starts: BTreeMap<i32, i64>,
}

/// How the last transaction of an id ended, as far as a repeat of `EndTxn` needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastOutcome {
    /// None yet under this epoch.
    #[default]
    None,
    /// It was committed.
    Committed,
    /// It was aborted.
    Aborted,
}

/// A transactional id as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionalIdState {
    /// The producer id that it has.
    pub producer_id: i64,
    /// The epoch in force.
    pub epoch: i16,
    /// After this long an open transaction is aborted.
    pub timeout_ms: i32,
    /// A transaction has begun and is not decided; since when, milliseconds since 1970.
    #[serde(default)]
    pub open_since_ms: Option<i64>,
    /// How the last one ended.
    #[serde(default)]
    pub last_outcome: LastOutcome,
    /// When it was last used, milliseconds since 1970.
    pub updated_at_ms: i64,
}

/// A transaction whose fate is sealed. Until its markers are known to be durable it stays in the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its number.
    pub sequence: u64,
    /// Whose it is.
    pub transactional_id: String,
    /// The producer that wrote it.
    pub producer_id: i64,
    /// The epoch that its markers carry.
    pub producer_epoch: i16,
    /// Committed, or aborted.
    pub committed: bool,
    /// Its partitions, each with an offset that lies after its last record there and not after its marker.
    pub partitions: Vec<(TopicPartition, i64)>,
    /// Offsets that become the groups' with it.
    #[serde(default)]
    pub offsets: OffsetsByGroup,
    /// When it was decided, milliseconds since 1970.
    pub decided_at_ms: i64,
}

/// What the journal holds of a consumer group besides its offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMembership {
    /// The group's image, written and read by the group coordinator.
    pub image: serde_json::Value,
}

/// A consumer group as the journal knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupState {
    /// Its committed offsets.
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Its members after the last completed rebalance.
    pub membership: Option<GroupMembership>,
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JournalRecord {
    /// Producer ids below this one may have been given out.
    ProducerIdsReserved {
        /// The first that has not.
        next: i64,
    },
    /// A topic was created.
    TopicCreated {
        /// Its name.
        name: String,
        /// What it is.
        topic: TopicState,
    },
    /// A topic got more partitions.
    PartitionsCreated {
        /// Its name.
        name: String,
        /// How many it has now.
        partitions: i32,
    },
    /// A topic's settings were replaced.
    TopicConfigured {
        /// Its name.
        name: String,
        /// Settings that differ from the defaults.
        configs: BTreeMap<String, String>,
    },
    /// Records before this offset are gone.
    LogStartMoved {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// First offset that can be read.
        offset: i64,
    },
    /// A topic was deleted; its files may still be there.
    TopicDeleted {
        /// Its name.
        name: String,
        /// Which incarnation.
        id: Uuid,
    },
    /// A deleted topic's files are gone.
    TopicPurged {
        /// Which incarnation.
        id: Uuid,
    },
    /// A transactional id was given a producer id and an epoch.
    TransactionalIdAssigned {
        /// The id.
        id: String,
        /// What it is.
        state: TransactionalIdState,
    },
    /// A transactional id was not used for long.
    TransactionalIdExpired {
        /// The id.
        id: String,
    },
    /// A transaction began.
    TransactionBegan {
        /// The transactional id.
        id: String,
        /// When, milliseconds since 1970.
        at_ms: i64,
    },
    /// The one point at which a transaction becomes committed or aborted.
    TransactionDecided(Decision),
    /// The markers of these decisions are durable.
    MarkersDurable {
        /// Their numbers.
        sequences: Vec<u64>,
    },
    /// Decisions begin with this number (after a compaction).
    DecisionsNumberedFrom {
        /// The next number.
        next: u64,
    },
    /// A group committed offsets.
    OffsetsCommitted {
        /// The group.
        group: String,
        /// The offsets.
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    },
    /// Offsets of a group were deleted.
    OffsetsDeleted {
        /// The group.
        group: String,
        /// Of which partitions.
        partitions: Vec<TopicPartition>,
    },
    /// A group completed a rebalance, or lost its last member.
    GroupSettled {
        /// The group.
        group: String,
        /// Its image; none when it has no members.
        membership: Option<GroupMembership>,
    },
    /// A group was deleted.
    GroupDeleted {
        /// The group.
        group: String,
    },
}

/// Everything that the journal says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// The first producer id that was never given out.
    pub next_producer_id: i64,
    /// Topics by name.
    pub topics: BTreeMap<String, TopicState>,
    /// Deleted topics whose files may still be there.
    pub deleted: BTreeMap<Uuid, String>,
    /// Transactional ids.
    pub transactional_ids: HashMap<String, TransactionalIdState>,
    /// Decisions whose markers are not known to be durable.
    pub decisions: BTreeMap<u64, Decision>,
    /// The number of the next decision.
    pub next_decision: u64,
    /// Groups by name.
    pub groups: BTreeMap<String, GroupState>,
}

impl ClusterState {
    /// Applies one record.
    pub fn apply(&mut self, record: JournalRecord) {
        match record {
            JournalRecord::ProducerIdsReserved { next } => {
                self.next_producer_id = self.next_producer_id.max(next);
            }
            JournalRecord::TopicCreated { .. }
            | JournalRecord::PartitionsCreated { .. }
            | JournalRecord::TopicConfigured { .. }
            | JournalRecord::LogStartMoved { .. }
            | JournalRecord::TopicDeleted { .. }
            | JournalRecord::TopicPurged { .. } => self.apply_to_topics(record),
            JournalRecord::TransactionalIdAssigned { id, state } => {
                self.transactional_ids.insert(id, state);
            }
            JournalRecord::TransactionalIdExpired { id } => {
                self.transactional_ids.remove(&id);
            }
            JournalRecord::TransactionBegan { id, at_ms } => {
                if let Some(state) = self.transactional_ids.get_mut(&id) {
                    state.open_since_ms = Some(at_ms);
                    state.updated_at_ms = at_ms;
                }
            }
            JournalRecord::TransactionDecided(decision) => self.apply_decision(decision),
            JournalRecord::MarkersDurable { sequences } => {
                for sequence in sequences {
                    self.decisions.remove(&sequence);
                }
            }
            JournalRecord::DecisionsNumberedFrom { next } => {
                self.next_decision = self.next_decision.max(next);
            }
            JournalRecord::OffsetsCommitted { group, offsets } => {
                self.groups
                    .entry(group)
                    .or_default()
                    .offsets
                    .extend(offsets);
            }
            JournalRecord::OffsetsDeleted { group, partitions } => {
                if let Some(state) = self.groups.get_mut(&group) {
                    state
                        .offsets
                        .retain(|partition, _| !partitions.contains(partition));
                }
            }
            JournalRecord::GroupSettled { group, membership } => {
                self.groups.entry(group).or_default().membership = membership;
            }
            JournalRecord::GroupDeleted { group } => {
                self.groups.remove(&group);
            }
        }
    }

    fn apply_to_topics(&mut self, record: JournalRecord) {
        match record {
            JournalRecord::TopicCreated { name, topic } => {
                self.topics.insert(name, topic);
            }
            JournalRecord::PartitionsCreated { name, partitions } => {
                if let Some(topic) = self.topics.get_mut(&name) {
                    topic.partitions = partitions;
                }
            }
            JournalRecord::TopicConfigured { name, configs } => {
                if let Some(topic) = self.topics.get_mut(&name) {
                    topic.configs = configs;
                }
            }
            JournalRecord::LogStartMoved {
                topic,
                partition,
                offset,
            } => {
                if let Some(state) = self.topics.get_mut(&topic) {
                    let start = state.log_starts.entry(partition).or_insert(offset);
                    *start = offset.max(*start);
                }
            }
            JournalRecord::TopicDeleted { name, id } => {
                self.topics.remove(&name);
                for group in self.groups.values_mut() {
                    group.offsets.retain(|(topic, _), _| *topic != name);
                }
                self.deleted.insert(id, name);
            }
            JournalRecord::TopicPurged { id } => {
                self.deleted.remove(&id);
            }
            _ => {}
        }
    }

    fn apply_decision(&mut self, decision: Decision) {
        if let Some(state) = self.transactional_ids.get_mut(&decision.transactional_id)
            && state.producer_id == decision.producer_id
        {
            state.open_since_ms = None;
            state.epoch = state.epoch.max(decision.producer_epoch);
            state.last_outcome = if decision.committed {
                LastOutcome::Committed
            } else {
                LastOutcome::Aborted
            };
            state.updated_at_ms = decision.decided_at_ms;
        }
        if decision.committed {
            for (group, offsets) in &decision.offsets {
                let known = offsets
                    .iter()
                    .filter(|((topic, _), _)| self.topics.contains_key(topic));
                let target = &mut self.groups.entry(group.clone()).or_default().offsets;
                target.extend(known.cloned());
            }
        }
        self.next_decision = self.next_decision.max(decision.sequence + 1);
        if !decision.partitions.is_empty() {
            // The offsets are the groups' now; what is left to do is the markers.
            self.decisions.insert(
                decision.sequence,
                Decision {
                    offsets: BTreeMap::new(),
                    ..decision
                },
            );
        }
    }

    /// Records that lead to this state.
    pub fn to_records(&self) -> Vec<JournalRecord> {
        let mut records = vec![
            JournalRecord::ProducerIdsReserved {
                next: self.next_producer_id,
            },
            JournalRecord::DecisionsNumberedFrom {
                next: self.next_decision,
            },
        ];
        for (id, name) in &self.deleted {
            records.push(JournalRecord::TopicDeleted {
                name: name.clone(),
                id: *id,
            });
        }
        for (name, topic) in &self.topics {
            records.push(JournalRecord::TopicCreated {
                name: name.clone(),
                topic: topic.clone(),
            });
        }
        for decision in self.decisions.values() {
            records.push(JournalRecord::TransactionDecided(decision.clone()));
        }
        for (id, state) in &self.transactional_ids {
            records.push(JournalRecord::TransactionalIdAssigned {
                id: id.clone(),
                state: state.clone(),
            });
        }
        for (group, state) in &self.groups {
            let offsets = state
                .offsets
                .iter()
                .map(|(partition, offset)| (partition.clone(), offset.clone()));
            records.push(JournalRecord::OffsetsCommitted {
                group: group.clone(),
                offsets: offsets.collect(),
            });
            if state.membership.is_some() {
                records.push(JournalRecord::GroupSettled {
                    group: group.clone(),
                    membership: state.membership.clone(),
                });
            }
        }
        records
    }
}
