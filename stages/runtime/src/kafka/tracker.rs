//! Which offsets may be committed: the bookkeeping of every assigned partition.
//!
//! Invariants: an offset is committed only when every taken offset before it in its partition is settled; results of a
//! partition that was given up are never committed, even when it comes back (each assignment has its own epoch).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::record::{OutRecord, TopicPartition};

#[derive(Debug)]
enum SlotState {
    Queued,
    Started,
    Settled(Arc<[OutRecord]>),
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    state: SlotState,
}

#[derive(Debug)]
struct Partition {
    epoch: u64,
    stopped: bool,
    slots: VecDeque<Slot>,
}

/// What one transaction commits of one partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionCommit {
    pub source: TopicPartition,
    pub epoch: u64,
    /// One past the last offset whose result is in the transaction.
    pub next_offset: i64,
    pub messages: usize,
    pub outputs: Vec<Arc<[OutRecord]>>,
}

/// The books of one stage instance.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    partitions: BTreeMap<TopicPartition, Partition>,
    last_epoch: u64,
    in_flight: usize,
    first_served: usize,
}

impl Tracker {
    /// A partition is ours from now on.
    pub fn assign(&mut self, source: TopicPartition) {
        self.give_up(&source);
        self.last_epoch += 1;
        self.partitions.insert(
            source,
            Partition {
                epoch: self.last_epoch,
                stopped: false,
                slots: VecDeque::new(),
            },
        );
    }

    /// A message was read. Its epoch, or `None` where the partition is not ours or takes no more.
    pub fn take(&mut self, source: &TopicPartition, offset: i64) -> Option<u64> {
        let partition = self
            .partitions
            .get_mut(source)
            .filter(|partition| !partition.stopped)?;
        debug_assert!(
            partition
                .slots
                .back()
                .is_none_or(|last| last.offset < offset),
            "offsets come in order"
        );
        partition.slots.push_back(Slot {
            offset,
            state: SlotState::Queued,
        });
        self.in_flight += 1;
        Some(partition.epoch)
    }

    /// Work on a message begins; false where its partition was given up or stopped meanwhile.
    pub fn start(&mut self, source: &TopicPartition, epoch: u64, offset: i64) -> bool {
        let Some(slot) = self.slot(source, epoch, offset) else {
            return false;
        };
        slot.state = SlotState::Started;
        true
    }

    /// A result is known. Ignored where the partition was given up meanwhile. Whether its partition has something to commit
    /// by it: not where an earlier message is not settled yet, or was and waits already.
    pub fn settle(
        &mut self,
        source: &TopicPartition,
        epoch: u64,
        offset: i64,
        outputs: Vec<OutRecord>,
    ) -> bool {
        let Some(slot) = self.slot(source, epoch, offset) else {
            return false;
        };
        slot.state = SlotState::Settled(outputs.into());
        let partition = self.partitions.get(source);
        partition
            .and_then(|partition| partition.slots.front())
            .is_some_and(|first| first.offset == offset)
    }

    /// Whether anything can be committed.
    pub fn is_ready(&self) -> bool {
        self.partitions.values().any(|partition| {
            let first = partition.slots.front();
            first.is_some_and(|slot| matches!(slot.state, SlotState::Settled(_)))
        })
    }

    /// What can be committed now, of at most `max_messages` messages. Nothing changes until [`Self::committed`].
    pub fn ready(&mut self, max_messages: usize) -> Vec<PartitionCommit> {
        let mut room = max_messages.max(1);
        let mut commits = Vec::new();
        let count = self.partitions.len().max(1);
        // Another partition is first every time, so that a busy one starves nobody.
        self.first_served = (self.first_served + 1) % count;
        let in_turn = self
            .partitions
            .iter()
            .cycle()
            .skip(self.first_served)
            .take(self.partitions.len());
        for (source, partition) in in_turn {
            let mut outputs = Vec::new();
            let mut next_offset = 0;
            for slot in partition.slots.iter().take(room) {
                let SlotState::Settled(settled) = &slot.state else {
                    break;
                };
                next_offset = slot.offset + 1;
                outputs.push(Arc::clone(settled));
            }
            if !outputs.is_empty() {
                room -= outputs.len();
                let messages = outputs.len();
                commits.push(PartitionCommit {
                    source: source.clone(),
                    epoch: partition.epoch,
                    next_offset,
                    messages,
                    outputs,
                });
            }
        }
        commits
    }

    /// A transaction is through.
    pub fn committed(&mut self, commits: &[PartitionCommit]) {
        for commit in commits {
            let current = self
                .partitions
                .get(&commit.source)
                .is_some_and(|partition| partition.epoch == commit.epoch);
            if current {
                self.drop_below(&commit.source, commit.next_offset);
            }
        }
    }

    /// Forgets messages that the broker says are committed already.
    pub fn drop_below(&mut self, source: &TopicPartition, committed_offset: i64) {
        let Some(partition) = self.partitions.get_mut(source) else {
            return;
        };
        while partition
            .slots
            .front()
            .is_some_and(|slot| slot.offset < committed_offset)
        {
            partition.slots.pop_front();
            self.in_flight -= 1;
        }
    }

    /// Takes no more from these partitions, and gives up what has not been started. What was started may still be committed.
    pub fn stop(&mut self, sources: &[TopicPartition]) {
        for source in sources {
            let Some(partition) = self.partitions.get_mut(source) else {
                continue;
            };
            partition.stopped = true;
            let first_queued = partition
                .slots
                .iter()
                .position(|slot| matches!(slot.state, SlotState::Queued));
            if let Some(first_queued) = first_queued {
                // What stands behind a message that is given up can not be committed either.
                self.in_flight -= partition.slots.len() - first_queued;
                partition.slots.truncate(first_queued);
            }
        }
    }

    /// These partitions are not ours any more. How many messages were lost with them.
    pub fn revoke(&mut self, sources: &[TopicPartition]) -> usize {
        sources.iter().map(|source| self.give_up(source)).sum()
    }

    /// Whether nothing of these partitions is in flight.
    pub fn is_drained(&self, sources: &[TopicPartition]) -> bool {
        sources.iter().all(|source| {
            self.partitions
                .get(source)
                .is_none_or(|partition| partition.slots.is_empty())
        })
    }

    /// Messages that are taken and not committed yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Messages of one topic that are taken and not committed yet.
    pub fn in_flight_of(&self, topic: &str) -> usize {
        let of_topic = self
            .partitions
            .iter()
            .filter(|(source, _)| *source.topic == *topic);
        of_topic.map(|(_, partition)| partition.slots.len()).sum()
    }

    /// The number of the assignment by which a partition is ours.
    pub fn epoch(&self, source: &TopicPartition) -> Option<u64> {
        self.partitions.get(source).map(|partition| partition.epoch)
    }

    /// Every partition that is ours.
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    fn give_up(&mut self, source: &TopicPartition) -> usize {
        let lost = self
            .partitions
            .remove(source)
            .map_or(0, |partition| partition.slots.len());
        self.in_flight -= lost;
        lost
    }

    fn slot(&mut self, source: &TopicPartition, epoch: u64, offset: i64) -> Option<&mut Slot> {
        let partition = self
            .partitions
            .get_mut(source)
            .filter(|partition| partition.epoch == epoch)?;
        let index = partition
            .slots
            .binary_search_by_key(&offset, |slot| slot.offset)
            .ok()?;
        partition.slots.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    fn place(partition: i32) -> TopicPartition {
        TopicPartition {
            topic: "images".into(),
            partition,
        }
    }

    #[test]
    fn a_gap_holds_back_what_follows() {
        let mut tracker = Tracker::default();
        tracker.assign(place(0));
        let epochs: Vec<u64> = [3, 5, 9]
            .iter()
            .map(|offset| tracker.take(&place(0), *offset).unwrap())
            .collect();
        tracker.settle(&place(0), epochs[2], 9, vec![]);
        tracker.settle(&place(0), epochs[0], 3, vec![]);
        let commits = tracker.ready(10);
        assert_eq!((commits[0].next_offset, commits[0].messages), (4, 1));
        tracker.committed(&commits);
        assert!(tracker.ready(10).is_empty());
        tracker.settle(&place(0), epochs[1], 5, vec![]);
        assert_eq!(tracker.ready(10)[0].next_offset, 10);
    }

    #[test]
    fn results_of_an_earlier_assignment_are_not_committed() {
        let mut tracker = Tracker::default();
        tracker.assign(place(0));
        let epoch = tracker.take(&place(0), 0).unwrap();
        assert_eq!(tracker.revoke(&[place(0)]), 1);
        tracker.assign(place(0));
        tracker.take(&place(0), 0).unwrap();
        tracker.settle(&place(0), epoch, 0, vec![]);
        assert!(tracker.ready(10).is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(i32),
        Start(usize),
        Settle(usize),
        Commit { max_messages: usize, succeeds: bool },
        Stop(i32),
        Reassign(i32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3_i32).prop_map(Step::Take),
            4 => any::<usize>().prop_map(Step::Start),
            6 => any::<usize>().prop_map(Step::Settle),
            3 => (1..9_usize, any::<bool>()).prop_map(|(max_messages, succeeds)| Step::Commit { max_messages, succeeds }),
            1 => (0..3_i32).prop_map(Step::Stop),
            1 => (0..3_i32).prop_map(Step::Reassign),
        ]
    }

    proptest! {
        /// A log of three partitions is read by a tracker that may lose its assignment at any step; afterwards every
        /// offset before each committed one was settled, in order, exactly once.
        #[test]
        fn commits_are_ordered_gapless_and_never_from_a_lost_assignment(steps in prop::collection::vec(step(), 0..300)) {
            let mut tracker = Tracker::default();
            let mut position: HashMap<i32, i64> = HashMap::new();
            let mut committed: HashMap<i32, i64> = HashMap::new();
            let mut committed_offsets: HashMap<i32, Vec<i64>> = HashMap::new();
            let mut open: Vec<(i32, u64, i64)> = Vec::new();
            let mut settled: BTreeSet<(i32, u64, i64)> = BTreeSet::new();
            for partition in 0..3 {
                tracker.assign(place(partition));
            }
            for step in steps {
                match step {
                    Step::Take(partition) => {
                        let offset = *position.entry(partition).or_default();
                        if let Some(epoch) = tracker.take(&place(partition), offset) {
                            // Transaction markers take offsets too.
                            position.insert(partition, offset + 1 + i64::from(offset % 7 == 3));
                            open.push((partition, epoch, offset));
                        }
                    }
                    Step::Start(index) => if !open.is_empty() {
                        let (partition, epoch, offset) = open[index % open.len()];
                        tracker.start(&place(partition), epoch, offset);
                    },
                    Step::Settle(index) => if !open.is_empty() {
                        let one = open.swap_remove(index % open.len());
                        settled.insert(one);
                        tracker.settle(&place(one.0), one.1, one.2, vec![]);
                    },
                    Step::Commit { max_messages, succeeds } => {
                        let commits = tracker.ready(max_messages);
                        prop_assert!(commits.iter().map(|commit| commit.messages).sum::<usize>() <= max_messages);
                        if succeeds {
                            for commit in &commits {
                                let partition = commit.source.partition;
                                let from = committed.get(&partition).copied().unwrap_or(0);
                                prop_assert!(commit.next_offset > from);
                                let offsets: Vec<i64> = settled.iter()
                                    .filter(|(p, epoch, offset)| *p == partition && *epoch == commit.epoch && (from..commit.next_offset).contains(offset))
                                    .map(|(_, _, offset)| *offset).collect();
                                prop_assert_eq!(offsets.len(), commit.messages);
                                committed_offsets.entry(partition).or_default().extend(offsets);
                                committed.insert(partition, commit.next_offset);
                            }
                            tracker.committed(&commits);
                        }
                    }
                    Step::Stop(partition) => tracker.stop(&[place(partition)]),
                    Step::Reassign(partition) => {
                        tracker.revoke(&[place(partition)]);
                        prop_assert!(tracker.is_drained(&[place(partition)]));
                        tracker.assign(place(partition));
                        position.insert(partition, committed.get(&partition).copied().unwrap_or(0));
                    }
                }
            }
            for offsets in committed_offsets.values() {
                prop_assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "once and in order: {:?}", offsets);
            }
            for partition in 0..3 {
                tracker.revoke(&[place(partition)]);
            }
            prop_assert_eq!(tracker.in_flight(), 0);
        }
    }
}
