//! `Produce`: append now, answer when the records are as durable as promised.
//!
//! Records of a transaction are not synced here: the commit syncs them before it is decided, and until then a crash aborts
//! them anyway.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};

use super::text;
use crate::broker::Broker;
use crate::clock::now_ms;
use crate::durability::SyncTarget;
use crate::error::Refusal;
use crate::log::{AppendError, Appended, CheckedBatch, Partition};

/// A produce whose records are in the log and not yet acknowledged.
pub struct PendingProduce {
    acks: i16,
    topics: Vec<(TopicName, Vec<PendingPartition>)>,
}

struct PendingPartition {
    index: i32,
    outcome: Result<Appended, Refusal>,
    /// What has to be synced before the acknowledgement.
    unsynced: Option<Arc<Partition>>,
}

/// Appends what the request brings.
pub fn append(broker: &Broker, request: ProduceRequest) -> PendingProduce {
    let acks = request.acks;
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let partition = broker.topics.partition(&topic.name, data.index);
            let outcome = match (&partition, data.records) {
                _ if !(-1..=1).contains(&acks) => Err(Refusal::new(
                    ResponseError::InvalidRequiredAcks,
                    format!("acks is {acks}; use 0, 1 or all"),
                )),
                (None, _) => Err(ResponseError::UnknownTopicOrPartition.into()),
                (_, None) => Err(Refusal::new(
                    ResponseError::InvalidRecord,
                    "the request has no records",
                )),
                (Some(partition), Some(records)) => append_one(broker, partition, records),
            };
            let unsynced = match &outcome {
                Ok((_, false)) => partition,
                _ => None,
            };
            partitions.push(PendingPartition {
                index: data.index,
                outcome: outcome.map(|done| done.0),
                unsynced,
            });
        }
        topics.push((topic.name, partitions));
    }
    PendingProduce { acks, topics }
}

/// Appends one batch; returns whether it belongs to a transaction.
fn append_one(
    broker: &Broker,
    partition: &Arc<Partition>,
    records: Bytes,
) -> Result<(Appended, bool), Refusal> {
    let topic = broker
        .topics
        .get(&partition.topic)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let refused = |error: AppendError| {
        tracing::debug!(topic = partition.topic, index = partition.index, %error, "batch refused");
        Refusal::new(error.code(), error.to_string())
    };
    let batch = CheckedBatch::check(records, &topic.config()).map_err(refused)?;
    let (producer_id, epoch, transactional) = batch.producer();
    let write = || {
        let appended = partition.log().append(&batch, now_ms());
        partition.wake_watchers();
        appended
    };
    let appended = if transactional {
        let entry = broker
            .transactions
            .by_producer(producer_id)
            .ok_or(ResponseError::InvalidProducerIdMapping)?;
        let name = (partition.topic.clone(), partition.index);
        entry.while_open(producer_id, epoch, &name, write)?
    } else {
        write()
    };
    let appended = appended.inspect_err(|error| {
        if let AppendError::Storage(source) = error {
            tracing::error!(topic = partition.topic, index = partition.index, error = %source, "append failed and was rolled back");
        }
    });
    Ok((appended.map_err(refused)?, transactional))
}

impl PendingProduce {
    /// The producer asked for no acknowledgement.
    pub fn wants_no_answer(&self) -> bool {
        self.acks == 0
    }

    /// Waits for the disk and acknowledges.
    pub async fn settle(self, broker: &Broker) -> ProduceResponse {
        let unsynced = self
            .topics
            .iter()
            .flat_map(|(_, partitions)| partitions)
            .filter_map(|pending| pending.unsynced.clone());
        let targets: Vec<Arc<dyn SyncTarget>> = unsynced
            .map(|partition| -> Arc<dyn SyncTarget> { partition })
            .collect();
        let synced = broker.syncer.sync_all(targets).await;
        let mut response = ProduceResponse::default();
        for (name, partitions) in self.topics {
            let mut topic = TopicProduceResponse::default().with_name(name);
            for pending in partitions {
                let outcome = match (&synced, pending.unsynced) {
                    (Err(error), Some(_)) => Err(Refusal::new(
                        ResponseError::KafkaStorageError,
                        error.to_string(),
                    )),
                    _ => pending.outcome,
                };
                topic
                    .partition_responses
                    .push(describe(pending.index, outcome));
            }
            response.responses.push(topic);
        }
        response
    }
}

fn describe(index: i32, outcome: Result<Appended, Refusal>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match outcome {
        Ok(appended) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(appended.log_start_offset),
        Err(refusal) => response
            .with_error_code(refusal.code.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message(Some(text(refusal.message))),
    }
}
