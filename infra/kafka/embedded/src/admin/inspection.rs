//! `DescribeProducers`, `DescribeTransactions`, `ListTransactions`, `DescribeLogDirs`: what an operator looks at when a
//! transaction hangs or a disk fills.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest,
    DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use uuid::Uuid;

use crate::broker::Broker;
use crate::clock::now_ms;
use crate::requests::{find_partition, text, topic_name};
use crate::state::LastOutcome;
use crate::transactions::Phase;
use crate::wire::Context;

/// Serves `DescribeProducers`.
pub async fn describe_producers(
    broker: &Arc<Broker>,
    request: DescribeProducersRequest,
    _: &Context,
) -> DescribeProducersResponse {
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let mut answered = TopicResponse::default().with_name(topic.name.clone());
        for index in topic.partition_indexes {
            let answer = PartitionResponse::default().with_partition_index(index);
            answered.partitions.push(
                match find_partition(broker, &topic.name, Uuid::nil(), index) {
                    Err(refusal) => answer.with_error_code(refusal.code.code()),
                    Ok(partition) => {
                        let log = partition.log();
                        let described = log.producers().iter().map(|(id, producer)| {
                            ProducerState::default()
                                .with_producer_id(ProducerId(id))
                                .with_producer_epoch(i32::from(producer.epoch))
                                .with_last_sequence(producer.last_sequence())
                                .with_last_timestamp(producer.last_timestamp_ms)
                                .with_coordinator_epoch(0)
                                .with_current_txn_start_offset(producer.open_since.unwrap_or(-1))
                        });
                        answer.with_active_producers(described.collect())
                    }
                },
            );
        }
        response.topics.push(answered);
    }
    response
}

fn state_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Idle(LastOutcome::None) => "Empty",
        Phase::Idle(LastOutcome::Committed) => "CompleteCommit",
        Phase::Idle(LastOutcome::Aborted) => "CompleteAbort",
        Phase::Open(_) => "Ongoing",
        Phase::Ending {
            committed: true, ..
        } => "PrepareCommit",
        Phase::Ending {
            committed: false, ..
        } => "PrepareAbort",
    }
}

/// Serves `DescribeTransactions`.
pub async fn describe_transactions(
    broker: &Arc<Broker>,
    request: DescribeTransactionsRequest,
    _: &Context,
) -> DescribeTransactionsResponse {
    let described = request.transactional_ids.into_iter().map(|id| {
        let answer = TransactionState::default().with_transactional_id(id.clone());
        let Some(entry) = broker.transactions.get(&id) else {
            return answer.with_error_code(ResponseError::TransactionalIdNotFound.code());
        };
        entry.read(|live| {
            let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
            let mut since_ms = -1;
            if let Phase::Open(open) | Phase::Ending { open, .. } = &live.phase {
                since_ms = open.since_ms;
                for (topic, index) in &open.partitions {
                    by_topic.entry(topic).or_default().push(*index);
                }
            }
            let topics = by_topic.into_iter().map(|(topic, partitions)| {
                TopicData::default()
                    .with_topic(topic_name(topic))
                    .with_partitions(partitions)
            });
            answer
                .with_transaction_state(text(state_name(&live.phase)))
                .with_transaction_timeout_ms(live.timeout_ms)
                .with_transaction_start_time_ms(since_ms)
                .with_producer_id(ProducerId(live.producer_id))
                .with_producer_epoch(live.epoch)
                .with_topics(topics.collect())
        })
    });
    DescribeTransactionsResponse::default().with_transaction_states(described.collect())
}

/// Serves `ListTransactions`.
pub async fn list_transactions(
    broker: &Arc<Broker>,
    request: ListTransactionsRequest,
    context: &Context,
) -> ListTransactionsResponse {
    const STATES: [&str; 6] = [
        "Empty",
        "CompleteCommit",
        "CompleteAbort",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
    ];
    let min_duration_ms = if context.version >= 1 {
        request.duration_filter
    } else {
        -1
    };
    let unknown = request
        .state_filters
        .iter()
        .filter(|state| !STATES.contains(&state.as_str()))
        .cloned();
    let mut listed = Vec::new();
    for entry in broker.transactions.all() {
        entry.read(|live| {
            let state = state_name(&live.phase);
            let running_ms = match &live.phase {
                Phase::Open(open) | Phase::Ending { open, .. } => now_ms() - open.since_ms,
                Phase::Idle(_) => -1,
            };
            let wanted = (request.state_filters.is_empty()
                || request.state_filters.iter().any(|wanted| wanted == state))
                && (request.producer_id_filters.is_empty()
                    || request
                        .producer_id_filters
                        .contains(&ProducerId(live.producer_id)))
                && (min_duration_ms < 0 || running_ms > min_duration_ms);
            if wanted {
                listed.push(
                    ListedTransaction::default()
                        .with_transactional_id(TransactionalId(text(&*entry.id)))
                        .with_producer_id(ProducerId(live.producer_id))
                        .with_transaction_state(text(state)),
                );
            }
        });
    }
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.collect())
        .with_transaction_states(listed)
}

/// Serves `DescribeLogDirs`.
pub async fn describe_log_dirs(
    broker: &Arc<Broker>,
    request: DescribeLogDirsRequest,
    _: &Context,
) -> DescribeLogDirsResponse {
    let wanted = |topic: &str, index: i32| {
        request.topics.as_ref().is_none_or(|topics| {
            topics
                .iter()
                .any(|wanted| wanted.topic.as_str() == topic && wanted.partitions.contains(&index))
        })
    };
    let mut topics = Vec::new();
    for topic in broker.topics.all() {
        let partitions = topic
            .partitions()
            .into_iter()
            .filter(|partition| wanted(&topic.name, partition.index));
        let described: Vec<_> = partitions
            .map(|partition| {
                let bytes = i64::try_from(partition.log().bytes()).unwrap_or(i64::MAX);
                DescribeLogDirsPartition::default()
                    .with_partition_index(partition.index)
                    .with_partition_size(bytes)
            })
            .collect();
        if !described.is_empty() {
            topics.push(
                DescribeLogDirsTopic::default()
                    .with_name(topic_name(&*topic.name))
                    .with_partitions(described),
            );
        }
    }
    let dir = DescribeLogDirsResult::default()
        .with_log_dir(text(broker.options.data_dir.display().to_string()))
        .with_topics(topics)
        .with_total_bytes(-1)
        .with_usable_bytes(-1);
    DescribeLogDirsResponse::default().with_results(vec![dir])
}
