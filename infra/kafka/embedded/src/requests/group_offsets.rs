//! `OffsetCommit`, `OffsetFetch`, `OffsetDelete`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};

use super::{text, topic_name};
use crate::broker::Broker;
use crate::clock::now_ms;
use crate::groups::Phase;
use crate::state::{CommittedOffset, TopicPartition};
use crate::wire::Context;

/// `offset.metadata.max.bytes`
const MAX_METADATA_BYTES: usize = 4_096;

/// One offset of a request, whether it came in a transaction or not.
pub struct OfferedOffset {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub index: i32,
    /// The next record to read.
    pub offset: i64,
    /// Leader epoch that the consumer knew.
    pub leader_epoch: i32,
    /// What the consumer wants kept with it.
    pub metadata: String,
}

/// Splits offers into those that can be kept and, in the order of the request, the code for each.
pub fn sort_offers(
    broker: &Broker,
    offers: Vec<OfferedOffset>,
) -> (Vec<(TopicPartition, CommittedOffset)>, Vec<i16>) {
    let committed_at_ms = now_ms();
    let (mut kept, mut codes) = (Vec::new(), Vec::new());
    for offer in offers {
        let code = if broker.topics.partition(&offer.topic, offer.index).is_none() {
            ResponseError::UnknownTopicOrPartition.code()
        } else if offer.metadata.len() > MAX_METADATA_BYTES {
            ResponseError::OffsetMetadataTooLarge.code()
        } else {
            let OfferedOffset {
                topic,
                index,
                offset,
                leader_epoch,
                metadata,
            } = offer;
            kept.push((
                (topic, index),
                CommittedOffset {
                    offset,
                    leader_epoch,
                    metadata,
                    committed_at_ms,
                },
            ));
            0
        };
        codes.push(code);
    }
    (kept, codes)
}

/// Serves `OffsetCommit`.
pub async fn offset_commit(
    broker: &Arc<Broker>,
    request: OffsetCommitRequest,
    _: &Context,
) -> OffsetCommitResponse {
    let mut offers = Vec::new();
    for topic in &request.topics {
        offers.extend(topic.partitions.iter().map(|partition| {
            OfferedOffset {
                topic: topic.name.to_string(),
                index: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition
                    .committed_metadata
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            }
        }));
    }
    let mut codes = commit_offers(broker, &request, offers).await.into_iter();
    let mut response = OffsetCommitResponse::default();
    for topic in &request.topics {
        let mut answered = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        for partition in &topic.partitions {
            let code = codes
                .next()
                .unwrap_or(ResponseError::UnknownServerError.code());
            answered.partitions.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code),
            );
        }
        response.topics.push(answered);
    }
    response
}

async fn commit_offers(
    broker: &Broker,
    request: &OffsetCommitRequest,
    offers: Vec<OfferedOffset>,
) -> Vec<i16> {
    let count = offers.len();
    if request.group_id.is_empty() {
        return vec![ResponseError::InvalidGroupId.code(); count];
    }
    let instance_id = request.group_instance_id.as_deref();
    let generation = request.generation_id_or_member_epoch;
    let checked = broker.groups.check_commit(
        &request.group_id,
        &request.member_id,
        instance_id,
        generation,
    );
    if let Err(code) = checked {
        return vec![code.code(); count];
    }
    let (kept, codes) = sort_offers(broker, offers);
    if kept.is_empty() {
        return codes;
    }
    match broker.groups.commit(&request.group_id, kept).await {
        Ok(()) => codes,
        Err(refusal) => {
            tracing::error!(group = %request.group_id.0, error = %refusal, "offsets not committed");
            vec![refusal.code.code(); count]
        }
    }
}

type WantedTopics = Option<Vec<(String, Vec<i32>)>>;

/// Serves `OffsetFetch`.
pub async fn offset_fetch(
    broker: &Arc<Broker>,
    request: OffsetFetchRequest,
    context: &Context,
) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    if context.version >= 8 {
        let answered = request.groups.into_iter().map(|group| {
            let wanted: WantedTopics = group.topics.map(|topics| {
                topics
                    .into_iter()
                    .map(|topic| (topic.name.to_string(), topic.partition_indexes))
                    .collect()
            });
            let topics = read_offsets(broker, &group.group_id, wanted, request.require_stable);
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id)
                .with_topics(topics)
        });
        return response.with_groups(answered.collect());
    }
    let wanted: WantedTopics = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| (topic.name.to_string(), topic.partition_indexes))
            .collect()
    });
    let topics = read_offsets(broker, &request.group_id, wanted, request.require_stable);
    let older = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(if context.version >= 5 {
                    partition.committed_leader_epoch
                } else {
                    -1
                })
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    response.with_topics(older.collect())
}

fn read_offsets(
    broker: &Broker,
    group: &GroupId,
    wanted: WantedTopics,
    require_stable: bool,
) -> Vec<OffsetFetchResponseTopics> {
    let committed = broker.groups.offsets(group);
    let wanted = wanted.unwrap_or_else(|| {
        let mut by_topic: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (topic, index) in committed.keys() {
            by_topic.entry(topic.clone()).or_default().push(*index);
        }
        by_topic.into_iter().collect()
    });
    let describe = |topic: &str, index: i32| {
        let partition = (topic.to_owned(), index);
        let answer = OffsetFetchResponsePartitions::default().with_partition_index(index);
        if require_stable && broker.transactions.has_pending_offset(group, &partition) {
            return answer
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(text("")))
                .with_error_code(ResponseError::UnstableOffsetCommit.code());
        }
        match committed.get(&partition) {
            Some(known) => answer
                .with_committed_offset(known.offset)
                .with_committed_leader_epoch(known.leader_epoch)
                .with_metadata(Some(text(&*known.metadata))),
            None => answer
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(text(""))),
        }
    };
    let answered = wanted.into_iter().map(|(topic, indexes)| {
        let partitions = indexes
            .into_iter()
            .map(|index| describe(&topic, index))
            .collect();
        OffsetFetchResponseTopics::default()
            .with_name(topic_name(&*topic))
            .with_partitions(partitions)
    });
    answered.collect()
}

/// Serves `OffsetDelete`: not for partitions of topics that a member subscribes to. The assignors' metadata is the
/// clients' own, so a group with members is refused as a whole.
pub async fn offset_delete(
    broker: &Arc<Broker>,
    request: OffsetDeleteRequest,
    _: &Context,
) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default();
    if !broker.groups.is_known(&request.group_id) {
        return response.with_error_code(ResponseError::GroupIdNotFound.code());
    }
    if broker
        .groups
        .get(&request.group_id)
        .is_some_and(|group| group.lock().phase != Phase::Empty)
    {
        return response.with_error_code(ResponseError::NonEmptyGroup.code());
    }
    let mut partitions = Vec::new();
    for topic in &request.topics {
        partitions.extend(
            topic
                .partitions
                .iter()
                .map(|partition| (topic.name.to_string(), partition.partition_index)),
        );
    }
    let code = match broker
        .groups
        .delete_offsets(&request.group_id, partitions)
        .await
    {
        Ok(()) => 0,
        Err(refusal) => refusal.code.code(),
    };
    let answered = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    response.with_topics(answered.collect())
}
