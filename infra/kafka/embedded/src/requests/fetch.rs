//! `Fetch`: slices of the segment files, at once when there is enough, else as soon as there is.
//!
//! Sessions are not kept: every answer has session id 0, and every request names its partitions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::find_partition;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::log::{Isolation, Partition, Watch};
use crate::wire::Context;

/// A waiting fetch is answered after this long whatever it asks for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Serves a fetch.
pub async fn fetch(
    broker: &Arc<Broker>,
    request: FetchRequest,
    context: &Context,
) -> FetchResponse {
    if request.session_id != 0 && context.version >= 7 {
        return FetchResponse::default()
            .with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    let deadline = Instant::now() + wait;
    let wanted_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let woken = Arc::new(Notify::new());
    let mut watches: Option<Vec<Watch>> = None;
    loop {
        let reading = read_all(broker, &request);
        if reading.bytes >= wanted_bytes || reading.failed || Instant::now() >= deadline {
            return FetchResponse::default().with_responses(reading.topics);
        }
        if watches.is_none() {
            // Watch first and read again: what came in between must not be slept over.
            watches = Some(watch_all(broker, &request, &woken));
            continue;
        }
        drop(reading);
        // Either something has come, or the deadline has: both are looked at above.
        let _ = timeout_at(deadline, woken.notified()).await;
    }
}

#[derive(Default)]
struct Reading {
    topics: Vec<FetchableTopicResponse>,
    bytes: usize,
    failed: bool,
}

fn read_all(broker: &Broker, request: &FetchRequest) -> Reading {
    let isolation = Isolation::from_wire(request.isolation_level);
    let asked_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut left_bytes = asked_bytes.min(broker.options.max_fetch_bytes);
    let mut reading = Reading::default();
    for topic in &request.topics {
        let mut answered = FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_topic_id(topic.topic_id);
        for wanted in &topic.partitions {
            let data = match read_one(
                broker,
                topic,
                wanted,
                isolation,
                left_bytes,
                reading.bytes == 0,
            ) {
                Ok(data) => data,
                Err(refusal) => {
                    reading.failed = true;
                    refused(wanted.partition, &refusal)
                }
            };
            let bytes = data.records.as_ref().map_or(0, Bytes::len);
            left_bytes = left_bytes.saturating_sub(bytes);
            reading.bytes += bytes;
            answered.partitions.push(data);
        }
        reading.topics.push(answered);
    }
    reading
}

fn read_one(
    broker: &Broker,
    topic: &FetchTopic,
    wanted: &FetchPartition,
    isolation: Isolation,
    left_bytes: usize,
    is_first: bool,
) -> Result<PartitionData, Refusal> {
    let partition = find_partition(broker, &topic.topic, topic.topic_id, wanted.partition)?;
    let plan = partition.log().plan_read(wanted.fetch_offset, isolation);
    let plan = plan.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let watermarks = plan.watermarks;
    let max_bytes = usize::try_from(wanted.partition_max_bytes)
        .unwrap_or(0)
        .min(left_bytes);
    let slice = plan.carry_out(max_bytes, is_first).map_err(|error| {
        tracing::error!(topic = partition.topic, index = partition.index, %error, "read failed");
        Refusal::new(ResponseError::KafkaStorageError, error.to_string())
    })?;
    let aborted = (isolation == Isolation::ReadCommitted).then(|| {
        let described = slice.aborted.iter().map(|transaction| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(transaction.producer_id))
                .with_first_offset(transaction.first_offset)
        });
        described.collect()
    });
    Ok(PartitionData::default()
        .with_partition_index(wanted.partition)
        .with_high_watermark(watermarks.high_watermark)
        .with_last_stable_offset(watermarks.last_stable)
        .with_log_start_offset(watermarks.log_start)
        .with_preferred_read_replica(BrokerId(-1))
        .with_aborted_transactions(aborted)
        .with_records(Some(slice.records)))
}

fn refused(index: i32, refusal: &Refusal) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(refusal.code.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(Bytes::new()))
}

fn watch_all(broker: &Broker, request: &FetchRequest, woken: &Arc<Notify>) -> Vec<Watch> {
    let mut watches = Vec::new();
    for topic in &request.topics {
        for wanted in &topic.partitions {
            let found: Result<Arc<Partition>, Refusal> =
                find_partition(broker, &topic.topic, topic.topic_id, wanted.partition);
            if let Ok(partition) = found {
                watches.push(partition.watch(woken));
            }
        }
    }
    watches
}
