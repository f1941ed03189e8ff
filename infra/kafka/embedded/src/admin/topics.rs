//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`, `DeleteRecords`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use super::configs::{DEFAULT_SOURCE, TOPIC_SOURCE, effective_settings};
use crate::broker::{Broker, NODE_ID};
use crate::error::Refusal;
use crate::requests::{find_partition, text, topic_name};
use crate::state::JournalRecord;
use crate::wire::Context;

/// Serves `CreateTopics`.
pub async fn create_topics(
    broker: &Arc<Broker>,
    request: CreateTopicsRequest,
    _: &Context,
) -> CreateTopicsResponse {
    let mut named: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.to_string()).or_default() += 1;
    }
    let mut response = CreateTopicsResponse::default();
    for topic in request.topics {
        let name = topic.name.clone();
        let outcome = if named.get(name.as_str()).is_some_and(|count| *count > 1) {
            Err(Refusal::new(
                ResponseError::InvalidRequest,
                format!("the request names topic {:?} twice", name.as_str()),
            ))
        } else {
            create_topic(broker, &topic, request.validate_only).await
        };
        let answer = CreatableTopicResult::default().with_name(name);
        response.topics.push(match outcome {
            Ok(created) => created,
            Err(refusal) => answer
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(refusal.message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(None),
        });
    }
    response
}

async fn create_topic(
    broker: &Broker,
    wanted: &CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refusal> {
    let partitions = count_partitions(broker, wanted)?;
    let mut overrides = BTreeMap::new();
    for config in &wanted.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            Refusal::new(
                ResponseError::InvalidConfig,
                format!("topic setting {} has no value", config.name),
            )
        })?;
        overrides.insert(config.name.to_string(), value.to_string());
    }
    let id = if validate_only {
        broker
            .topics
            .check_new(&wanted.name, partitions, &overrides)?;
        Uuid::nil()
    } else {
        broker
            .topics
            .create(&wanted.name, partitions, overrides.clone())
            .await?
            .id
    };
    let configs = effective_settings(&overrides).map(|(setting, value, is_override)| {
        CreatableTopicConfigs::default()
            .with_name(text(setting.name))
            .with_value(Some(text(value)))
            .with_config_source(if is_override {
                TOPIC_SOURCE
            } else {
                DEFAULT_SOURCE
            })
    });
    Ok(CreatableTopicResult::default()
        .with_name(wanted.name.clone())
        .with_topic_id(id)
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(Some(configs.collect())))
}

/// How many partitions the request wants, from a number or from assignments of replicas to this one broker.
fn count_partitions(broker: &Broker, wanted: &CreatableTopic) -> Result<i32, Refusal> {
    if wanted.assignments.is_empty() {
        if !matches!(wanted.replication_factor, 1 | -1) {
            let message = format!(
                "replication factor {} needs as many brokers; this is one, use 1",
                wanted.replication_factor
            );
            return Err(Refusal::new(
                ResponseError::InvalidReplicationFactor,
                message,
            ));
        }
        return Ok(if wanted.num_partitions == -1 {
            broker.options.default_partitions
        } else {
            wanted.num_partitions
        });
    }
    let mut indexes: Vec<i32> = wanted
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    indexes.sort_unstable();
    let in_sequence = indexes
        .iter()
        .zip(0..)
        .all(|(index, expected)| *index == expected);
    if !in_sequence
        || wanted
            .assignments
            .iter()
            .any(|assignment| !is_here(&assignment.broker_ids))
    {
        return Err(bad_assignment());
    }
    i32::try_from(indexes.len()).map_err(|_| bad_assignment())
}

fn is_here(brokers: &[BrokerId]) -> bool {
    brokers == [NODE_ID]
}

fn bad_assignment() -> Refusal {
    let message = format!(
        "every partition has one replica, on broker {}, and they are numbered from 0",
        NODE_ID.0
    );
    Refusal::new(ResponseError::InvalidReplicaAssignment, message)
}

/// Serves `DeleteTopics`, by name or id.
pub async fn delete_topics(
    broker: &Arc<Broker>,
    request: DeleteTopicsRequest,
    context: &Context,
) -> DeleteTopicsResponse {
    let wanted: Vec<(Option<TopicName>, Uuid)> = if context.version >= 6 {
        request
            .topics
            .into_iter()
            .map(|topic| (topic.name, topic.topic_id))
            .collect()
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| (Some(name), Uuid::nil()))
            .collect()
    };
    let mut response = DeleteTopicsResponse::default();
    for (name, id) in wanted {
        let found = match &name {
            Some(name) => broker
                .topics
                .get(name)
                .ok_or(ResponseError::UnknownTopicOrPartition),
            None => broker
                .topics
                .get_by_id(id)
                .ok_or(ResponseError::UnknownTopicId),
        };
        let answer = DeletableTopicResult::default();
        let outcome = match &found {
            Ok(topic) => broker.topics.delete(&topic.name).await,
            Err(code) => Err((*code).into()),
        };
        let known_name = found
            .as_ref()
            .map(|topic| topic_name(&*topic.name))
            .ok()
            .or(name);
        let answer = answer
            .with_name(known_name)
            .with_topic_id(found.map_or(id, |topic| topic.id));
        response.responses.push(match outcome {
            Ok(()) => answer,
            Err(refusal) => answer
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(refusal.message))),
        });
    }
    response
}

/// Serves `CreatePartitions`.
pub async fn create_partitions(
    broker: &Arc<Broker>,
    request: CreatePartitionsRequest,
    _: &Context,
) -> CreatePartitionsResponse {
    let mut response = CreatePartitionsResponse::default();
    for topic in request.topics {
        let outcome = grow(broker, &topic, request.validate_only).await;
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name);
        response.results.push(match outcome {
            Ok(()) => answer,
            Err(refusal) => answer
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(refusal.message))),
        });
    }
    response
}

async fn grow(
    broker: &Broker,
    wanted: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let elsewhere = wanted
        .assignments
        .iter()
        .flatten()
        .any(|assignment| !is_here(&assignment.broker_ids));
    if elsewhere {
        return Err(bad_assignment());
    }
    broker
        .topics
        .grow(&wanted.name, wanted.count, validate_only)
        .await
}

/// Serves `DeleteRecords`: moves the first offset; whole segments before it go.
pub async fn delete_records(
    broker: &Arc<Broker>,
    request: DeleteRecordsRequest,
    _: &Context,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut answered = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let outcome =
                delete_before(broker, &topic.name, wanted.partition_index, wanted.offset).await;
            let answer = DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index);
            answered.partitions.push(match outcome {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(refusal) => answer
                    .with_error_code(refusal.code.code())
                    .with_low_watermark(-1),
            });
        }
        response.topics.push(answered);
    }
    response
}

async fn delete_before(
    broker: &Broker,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<i64, Refusal> {
    let partition = find_partition(broker, topic, Uuid::nil(), index)?;
    let (log_start, end) = {
        let log = partition.log();
        (log.log_start(), log.next_offset())
    };
    let offset = if offset == -1 { end } else { offset };
    if offset < 0 || offset > end {
        return Err(ResponseError::OffsetOutOfRange.into());
    }
    if offset <= log_start {
        return Ok(log_start);
    }
    let record = JournalRecord::LogStartMoved {
        topic: topic.to_owned(),
        partition: index,
        offset,
    };
    broker.journal.commit(&broker.syncer, record).await?;
    let outcome = partition.log().move_start(offset);
    outcome.map_err(|error| Refusal::new(ResponseError::KafkaStorageError, error.to_string()))
}
