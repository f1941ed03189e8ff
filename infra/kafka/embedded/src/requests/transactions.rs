//! `InitProducerId`, `AddPartitionsToTxn`, `AddOffsetsToTxn`, `TxnOffsetCommit`, `EndTxn`.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::group_offsets::{OfferedOffset, sort_offers};
use crate::broker::Broker;
use crate::error::{Refusal, wire_code};
use crate::transactions::Identity;
use crate::wire::Context;

/// Older clients do not know the code that says "another producer has taken over".
fn fenced_code(context: &Context, known_since: i16) -> ResponseError {
    if context.version >= known_since {
        ResponseError::ProducerFenced
    } else {
        ResponseError::InvalidProducerEpoch
    }
}

fn for_version(refusal: Refusal, context: &Context, known_since: i16) -> Refusal {
    match refusal.code {
        ResponseError::ProducerFenced => Refusal {
            code: fenced_code(context, known_since),
            ..refusal
        },
        _ => refusal,
    }
}

/// Serves `InitProducerId`.
pub async fn init_producer_id(
    broker: &Arc<Broker>,
    request: InitProducerIdRequest,
    context: &Context,
) -> InitProducerIdResponse {
    let known = (request.producer_id.0 >= 0 && request.producer_epoch >= 0).then_some(Identity {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    });
    let outcome = match &request.transactional_id {
        None => broker.transactions.new_producer().await,
        Some(id) if id.is_empty() => Err(ResponseError::InvalidRequest.into()),
        Some(id) => {
            let fenced = fenced_code(context, 4);
            broker
                .transactions
                .init(id, request.transaction_timeout_ms, known, fenced)
                .await
        }
    };
    let response = InitProducerIdResponse::default();
    match outcome {
        Ok(identity) => response
            .with_producer_id(ProducerId(identity.producer_id))
            .with_producer_epoch(identity.epoch),
        Err(refusal) => {
            tracing::debug!(transactional_id = ?request.transactional_id, error = %refusal, "no producer id given");
            response
                .with_error_code(refusal.code.code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        }
    }
}

/// Serves `AddPartitionsToTxn`: all of the partitions or none.
pub async fn add_partitions_to_txn(
    broker: &Arc<Broker>,
    request: AddPartitionsToTxnRequest,
    context: &Context,
) -> AddPartitionsToTxnResponse {
    let mut known = Vec::new();
    let mut unknown = false;
    for topic in &request.v3_and_below_topics {
        for index in &topic.partitions {
            let exists = broker.topics.partition(&topic.name, *index).is_some();
            unknown |= !exists;
            known.push(((topic.name.to_string(), *index), exists));
        }
    }
    let outcome = if unknown {
        Err(ResponseError::OperationNotAttempted.into())
    } else {
        let producer = Identity {
            producer_id: request.v3_and_below_producer_id.0,
            epoch: request.v3_and_below_producer_epoch,
        };
        let partitions = known.iter().map(|(partition, _)| partition.clone());
        broker
            .transactions
            .add_partitions(&request.v3_and_below_transactional_id, producer, partitions)
            .await
    };
    let code = wire_code(&outcome.map_err(|refusal| for_version(refusal, context, 2)));
    let mut exists = known.into_iter().map(|(_, exists)| exists);
    let mut response = AddPartitionsToTxnResponse::default();
    for topic in request.v3_and_below_topics {
        let mut answered = AddPartitionsToTxnTopicResult::default().with_name(topic.name);
        for index in topic.partitions {
            let code = if exists.next() == Some(false) {
                ResponseError::UnknownTopicOrPartition.code()
            } else {
                code
            };
            answered.results_by_partition.push(
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(index)
                    .with_partition_error_code(code),
            );
        }
        response.results_by_topic_v3_and_below.push(answered);
    }
    response
}

/// Serves `AddOffsetsToTxn`.
pub async fn add_offsets_to_txn(
    broker: &Arc<Broker>,
    request: AddOffsetsToTxnRequest,
    context: &Context,
) -> AddOffsetsToTxnResponse {
    let producer = Identity {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let outcome = if request.group_id.is_empty() {
        Err(ResponseError::InvalidGroupId.into())
    } else {
        broker
            .transactions
            .add_group(
                &request.transactional_id,
                producer,
                request.group_id.to_string(),
            )
            .await
    };
    let outcome = outcome.map_err(|refusal| for_version(refusal, context, 2));
    AddOffsetsToTxnResponse::default().with_error_code(wire_code(&outcome))
}

/// Serves `TxnOffsetCommit`: the offsets become the group's when the transaction commits.
pub async fn txn_offset_commit(
    broker: &Arc<Broker>,
    request: TxnOffsetCommitRequest,
    _: &Context,
) -> TxnOffsetCommitResponse {
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
    let mut codes = add_offers(broker, &request, offers).into_iter();
    let mut response = TxnOffsetCommitResponse::default();
    for topic in request.topics {
        let mut answered = TxnOffsetCommitResponseTopic::default().with_name(topic.name);
        for partition in topic.partitions {
            let code = codes
                .next()
                .unwrap_or(ResponseError::UnknownServerError.code());
            answered.partitions.push(
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code),
            );
        }
        response.topics.push(answered);
    }
    response
}

fn add_offers(
    broker: &Broker,
    request: &TxnOffsetCommitRequest,
    offers: Vec<OfferedOffset>,
) -> Vec<i16> {
    let count = offers.len();
    let instance_id = request.group_instance_id.as_deref();
    let checked = broker.groups.check_transactional_commit(
        &request.group_id,
        &request.member_id,
        instance_id,
        request.generation_id,
    );
    if let Err(code) = checked {
        return vec![code.code(); count];
    }
    let (kept, codes) = sort_offers(broker, offers);
    let producer = Identity {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    match broker.transactions.add_offsets(
        &request.transactional_id,
        producer,
        &request.group_id,
        kept,
    ) {
        Ok(()) => codes,
        Err(refusal) => vec![refusal.code.code(); count],
    }
}

/// Serves `EndTxn`.
pub async fn end_txn(
    broker: &Arc<Broker>,
    request: EndTxnRequest,
    context: &Context,
) -> EndTxnResponse {
    let producer = Identity {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let fenced = fenced_code(context, 2);
    let outcome = broker
        .transactions
        .end(
            &request.transactional_id,
            producer,
            request.committed,
            fenced,
        )
        .await;
    if let Err(refusal) = &outcome {
        tracing::debug!(transactional_id = %request.transactional_id.0, error = %refusal, "transaction not ended");
    }
    EndTxnResponse::default().with_error_code(wire_code(&outcome))
}
