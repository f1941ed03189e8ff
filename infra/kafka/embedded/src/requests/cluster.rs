//! `ApiVersions`, `Metadata`, `DescribeCluster`, `FindCoordinator`: a cluster of one, which coordinates everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeClusterRequest, DescribeClusterResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
};

use super::{text, topic_name};
use crate::broker::{Broker, NODE_ID};
use crate::error::Refusal;
use crate::log::LEADER_EPOCH;
use crate::topics::Topic;
use crate::wire::{Context, SERVED};

/// "Not asked for": this broker has no authorisation to describe.
pub const NO_AUTHORIZED_OPERATIONS: i32 = i32::MIN;
const COORDINATES_GROUPS: i8 = 0;
const COORDINATES_TRANSACTIONS: i8 = 1;

/// Serves `ApiVersions`, or tells a client that its version is not known.
pub fn api_versions(version_unknown: bool) -> ApiVersionsResponse {
    let described = SERVED.iter().map(|api| {
        // librdkafka takes a broker without Produce v0 for one that cannot decompress; Apache Kafka 4, which dropped v0
        // to v2 as well, announces 0 for the same reason.
        let from = if api.key == ApiKey::Produce {
            0
        } else {
            api.from
        };
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(from)
            .with_max_version(api.to)
    });
    let code = if version_unknown {
        ResponseError::UnsupportedVersion.code()
    } else {
        0
    };
    ApiVersionsResponse::default()
        .with_api_keys(described.collect())
        .with_error_code(code)
}

/// Serves `Metadata`.
pub async fn metadata(
    broker: &Arc<Broker>,
    request: MetadataRequest,
    context: &Context,
) -> MetadataResponse {
    let wants_all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && context.version == 0,
    };
    let topics = if wants_all {
        broker
            .topics
            .all()
            .iter()
            .map(|topic| describe_topic(topic))
            .collect()
    } else {
        let may_create = request.allow_auto_topic_creation && broker.options.auto_create_topics;
        let mut described = Vec::new();
        for wanted in request.topics.unwrap_or_default() {
            described.push(find_topic(broker, wanted, may_create).await);
        }
        described
    };
    let (host, port) = broker.advertised();
    let node = MetadataResponseBroker::default()
        .with_node_id(NODE_ID)
        .with_host(text(host))
        .with_port(port);
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(text(&*broker.cluster_id)))
        .with_controller_id(NODE_ID)
        .with_topics(topics)
        .with_cluster_authorized_operations(NO_AUTHORIZED_OPERATIONS)
}

async fn find_topic(
    broker: &Broker,
    wanted: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    let (id, name) = (wanted.topic_id, wanted.name);
    let found = match &name {
        Some(name) => match broker.topics.get(name) {
            Some(topic) => Ok(topic),
            None if may_create => create(broker, name).await,
            None => Err(ResponseError::UnknownTopicOrPartition.into()),
        },
        None => broker
            .topics
            .get_by_id(id)
            .ok_or_else(|| ResponseError::UnknownTopicId.into()),
    };
    match found {
        Ok(topic) => describe_topic(&topic),
        Err(refusal) => MetadataResponseTopic::default()
            .with_error_code(refusal.code.code())
            .with_name(name)
            .with_topic_id(id)
            .with_topic_authorized_operations(NO_AUTHORIZED_OPERATIONS),
    }
}

async fn create(broker: &Broker, name: &str) -> Result<Arc<Topic>, Refusal> {
    match broker
        .topics
        .create(name, broker.options.default_partitions, BTreeMap::new())
        .await
    {
        // Another client was first.
        Err(refusal) if refusal.code == ResponseError::TopicAlreadyExists => broker
            .topics
            .get(name)
            .ok_or_else(|| ResponseError::UnknownTopicOrPartition.into()),
        outcome => outcome,
    }
}

fn describe_topic(topic: &Topic) -> MetadataResponseTopic {
    let described = topic.partitions().into_iter().map(|partition| {
        MetadataResponsePartition::default()
            .with_partition_index(partition.index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    });
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&*topic.name)))
        .with_topic_id(topic.id)
        .with_partitions(described.collect())
        .with_topic_authorized_operations(NO_AUTHORIZED_OPERATIONS)
}

/// Serves `DescribeCluster`.
pub async fn describe_cluster(
    broker: &Arc<Broker>,
    request: DescribeClusterRequest,
    context: &Context,
) -> DescribeClusterResponse {
    const BROKERS: i8 = 1;
    let response = DescribeClusterResponse::default()
        .with_cluster_id(text(&*broker.cluster_id))
        .with_controller_id(NODE_ID)
        .with_cluster_authorized_operations(NO_AUTHORIZED_OPERATIONS)
        .with_endpoint_type(BROKERS);
    if context.version >= 1 && request.endpoint_type != BROKERS {
        return response
            .with_error_code(ResponseError::UnsupportedEndpointType.code())
            .with_error_message(Some(text(
                "this endpoint describes brokers, not controllers",
            )));
    }
    let (host, port) = broker.advertised();
    response.with_brokers(vec![
        DescribeClusterBroker::default()
            .with_broker_id(NODE_ID)
            .with_host(text(host))
            .with_port(port),
    ])
}

/// Serves `FindCoordinator`.
pub async fn find_coordinator(
    broker: &Arc<Broker>,
    request: FindCoordinatorRequest,
    context: &Context,
) -> FindCoordinatorResponse {
    let (host, port) = broker.advertised();
    let known = [COORDINATES_GROUPS, COORDINATES_TRANSACTIONS].contains(&request.key_type);
    let code = if known {
        0
    } else {
        ResponseError::InvalidRequest.code()
    };
    let message = (!known).then(|| {
        text(format!(
            "coordinator type {} is not served",
            request.key_type
        ))
    });
    let (node, host, port) = if known {
        (NODE_ID, text(host), port)
    } else {
        (BrokerId(-1), text(""), -1)
    };
    let response = FindCoordinatorResponse::default();
    if context.version < 4 {
        let response = response
            .with_error_code(code)
            .with_node_id(node)
            .with_host(host)
            .with_port(port);
        return if context.version >= 1 {
            response.with_error_message(message)
        } else {
            response
        };
    }
    let described = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(node)
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(code)
            .with_error_message(message.clone())
    });
    response.with_coordinators(described.collect())
}
