//! `ListOffsets` and `OffsetForLeaderEpoch`: where a partition begins, ends, and is at a time.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use uuid::Uuid;

use super::find_partition;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::log::{Isolation, LEADER_EPOCH};
use crate::wire::Context;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

/// Serves `ListOffsets`.
pub async fn list_offsets(
    broker: &Arc<Broker>,
    request: ListOffsetsRequest,
    context: &Context,
) -> ListOffsetsResponse {
    let isolation = Isolation::from_wire(request.isolation_level);
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let mut answered = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let found = look_up(
                broker,
                &topic.name,
                wanted.partition_index,
                wanted.timestamp,
                isolation,
            );
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index);
            answered.partitions.push(match found {
                Ok((offset, timestamp)) => {
                    let has_epoch = offset >= 0 && context.version >= 4;
                    let known_epoch = if has_epoch { LEADER_EPOCH } else { -1 };
                    answer
                        .with_offset(offset)
                        .with_timestamp(timestamp)
                        .with_leader_epoch(known_epoch)
                }
                Err(refusal) => answer
                    .with_error_code(refusal.code.code())
                    .with_offset(-1)
                    .with_timestamp(-1),
            });
        }
        response.topics.push(answered);
    }
    response
}

/// Offset and timestamp; -1 and -1 when no record is late enough.
fn look_up(
    broker: &Broker,
    topic: &str,
    index: i32,
    timestamp: i64,
    isolation: Isolation,
) -> Result<(i64, i64), Refusal> {
    let partition = find_partition(broker, topic, Uuid::nil(), index)?;
    let lookup = {
        let log = partition.log();
        match timestamp {
            EARLIEST => return Ok((log.log_start(), -1)),
            LATEST => {
                let end = match isolation {
                    Isolation::ReadUncommitted => log.next_offset(),
                    Isolation::ReadCommitted => log.last_stable_offset(),
                };
                return Ok((end, -1));
            }
            MAX_TIMESTAMP => log.plan_latest_time_lookup(),
            wanted if wanted >= 0 => log.plan_time_lookup(wanted),
            unknown => {
                let message = format!("timestamp {unknown} has no meaning here");
                return Err(Refusal::new(ResponseError::InvalidRequest, message));
            }
        }
    };
    let Some(lookup) = lookup else {
        return Ok((-1, -1));
    };
    let found = lookup
        .carry_out()
        .map_err(|error| Refusal::new(ResponseError::KafkaStorageError, error.to_string()))?;
    let upper_offset = partition.log().upper_offset(isolation);
    Ok(found
        .filter(|(offset, _)| *offset < upper_offset)
        .unwrap_or((-1, -1)))
}

/// Serves `OffsetForLeaderEpoch`: there is one epoch, and it ends where the log does.
pub async fn offset_for_leader_epoch(
    broker: &Arc<Broker>,
    request: OffsetForLeaderEpochRequest,
    _: &Context,
) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut answered = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone());
        for wanted in topic.partitions {
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            let found = find_partition(broker, &topic.topic, Uuid::nil(), wanted.partition);
            answered.partitions.push(match found {
                Err(refusal) => answer
                    .with_error_code(refusal.code.code())
                    .with_leader_epoch(-1)
                    .with_end_offset(-1),
                Ok(_) if wanted.current_leader_epoch > LEADER_EPOCH => {
                    let code = ResponseError::UnknownLeaderEpoch.code();
                    answer
                        .with_error_code(code)
                        .with_leader_epoch(-1)
                        .with_end_offset(-1)
                }
                Ok(_) if wanted.leader_epoch != LEADER_EPOCH => {
                    answer.with_leader_epoch(-1).with_end_offset(-1)
                }
                Ok(partition) => answer
                    .with_leader_epoch(LEADER_EPOCH)
                    .with_end_offset(partition.log().next_offset()),
            });
        }
        response.topics.push(answered);
    }
    response
}
