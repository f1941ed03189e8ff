//! How many messages wait in the partitions that are assigned now.
//!
//! Invariant: a partition counts from the moment it is ours to the moment it is not, whether or not a message of it ever came.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::Consumer,
    error::KafkaError,
    statistics::{Partition, Statistics},
};

use super::membership::SharedConsumer;
use crate::record::TopicPartition;

/// How long the broker may take to say how much waits. The consumer's thread does not poll meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What waits, by partition; nothing yet where the broker was not asked.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    unread: BTreeMap<TopicPartition, Option<u64>>,
    /// Each has a record that was read and is not due yet.
    parked: BTreeSet<TopicPartition>,
}

impl Lag {
    pub fn assigned(&mut self, sources: &[TopicPartition]) {
        for source in sources {
            self.unread.insert(source.clone(), None);
        }
    }

    pub fn given_up(&mut self, sources: &[TopicPartition]) {
        for source in sources {
            self.unread.remove(source);
            self.parked.remove(source);
        }
    }

    pub fn parked(&mut self, source: &TopicPartition) {
        self.parked.insert(source.clone());
    }

    pub fn released(&mut self, source: &TopicPartition) {
        self.parked.remove(source);
    }

    /// Takes in what is known of a partition, if it is ours still.
    pub fn measured(&mut self, source: &TopicPartition, unread: u64) {
        if let Some(known) = self.unread.get_mut(source) {
            *known = Some(unread);
        }
    }

    /// Takes in what librdkafka knows. `is_idle` says that nothing is in work.
    pub fn observed(&mut self, statistics: &Statistics, is_idle: bool) {
        for (topic, state) in &statistics.topics {
            for (number, state) in &state.partitions {
                let source = TopicPartition {
                    topic: topic.as_str().into(),
                    partition: *number,
                };
                let may_be_done = is_idle && !self.parked.contains(&source);
                if let Some(unread) = unread(state, may_be_done) {
                    self.measured(&source, unread);
                }
            }
        }
    }

    /// Those of which nothing is known.
    pub fn unmeasured(&self) -> Vec<TopicPartition> {
        let unknown = self.unread.iter().filter(|(_, unread)| unread.is_none());
        unknown.map(|(source, _)| source.clone()).collect()
    }

    pub fn partitions(&self) -> usize {
        self.unread.len()
    }

    pub fn total(&self) -> u64 {
        self.unread.values().flatten().sum::<u64>() + self.parked.len() as u64
    }
}

/// How much of a partition waits; `None` where librdkafka does not know yet.
///
/// Transaction markers take offsets too, and a stage that has read everything must not seem to lag behind by them: where all that
/// was fetched has been handed out and the next fetch begins at the end, nothing waits. A paused partition, whose next fetch
/// begins where the one before the pause ended, is never idle.
fn unread(partition: &Partition, may_be_done: bool) -> Option<u64> {
    if !partition.desired || partition.ls_offset < 0 {
        return None;
    }
    let is_at_end = partition.next_offset >= partition.ls_offset;
    if may_be_done && is_at_end && partition.fetchq_cnt == 0 {
        return Some(0);
    }
    let next = partition.app_offset.max(partition.committed_offset);
    (next >= 0).then(|| u64::try_from(partition.ls_offset - next).unwrap_or_default())
}

/// Asks the broker how much of `sources` their group has not committed.
pub(super) fn ask(
    consumer: &SharedConsumer,
    sources: &[TopicPartition],
) -> Result<Vec<(TopicPartition, u64)>, KafkaError> {
    let committed = consumer.committed_offsets(super::client::list_of(sources), ANSWER_TIMEOUT)?;
    let ends = consumer.offsets_for_times(all_at(sources, Offset::End)?, ANSWER_TIMEOUT)?;
    let fresh: Vec<TopicPartition> = sources
        .iter()
        .filter(|source| offset_in(&committed, source).is_none())
        .cloned()
        .collect();
    let beginnings = if fresh.is_empty() {
        TopicPartitionList::new()
    } else {
        consumer.offsets_for_times(all_at(&fresh, Offset::Beginning)?, ANSWER_TIMEOUT)?
    };
    let unread = sources.iter().filter_map(|source| {
        let end = offset_in(&ends, source)?;
        let next = offset_in(&committed, source).or_else(|| offset_in(&beginnings, source))?;
        Some((
            source.clone(),
            u64::try_from(end - next).unwrap_or_default(),
        ))
    });
    Ok(unread.collect())
}

fn all_at(sources: &[TopicPartition], at: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(sources.len());
    for source in sources {
        list.add_partition_offset(&source.topic, source.partition, at)?;
    }
    Ok(list)
}

fn offset_in(list: &TopicPartitionList, source: &TopicPartition) -> Option<i64> {
    match list
        .find_partition(&source.topic, source.partition)?
        .offset()
    {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition {
            topic: "images-ingested".into(),
            partition,
        }
    }

    #[test]
    fn what_is_given_up_counts_no_more_and_what_came_late_of_it_neither() {
        let mut lag = Lag::default();
        lag.assigned(&[place(0), place(1)]);
        assert_eq!((lag.total(), lag.unmeasured().len()), (0, 2));
        lag.measured(&place(0), 70);
        lag.measured(&place(1), 5);
        lag.parked(&place(0));
        assert_eq!((lag.total(), lag.partitions()), (76, 2));
        lag.given_up(&[place(0)]);
        lag.measured(&place(0), 70);
        assert_eq!((lag.total(), lag.partitions()), (5, 1));
        lag.assigned(&[place(1)]);
        assert_eq!(
            lag.unmeasured(),
            [place(1)],
            "it may have moved on meanwhile"
        );
    }
}
