//! What each request that clients send in their daily work does; administration is in [`crate::admin`].

pub mod cluster;
pub mod fetch;
pub mod group_offsets;
pub mod membership;
pub mod offsets;
pub mod produce;
pub mod transactions;

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::broker::Broker;
use crate::error::Refusal;
use crate::log::Partition;

/// The code on the wire; 0 when all is well.
pub fn code_of<T>(outcome: &Result<T, ResponseError>) -> i16 {
    match outcome {
        Ok(_) => 0,
        Err(code) => code.code(),
    }
}

/// A string for an answer.
pub fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

/// A topic name for an answer.
pub fn topic_name(value: impl Into<String>) -> TopicName {
    TopicName(text(value))
}

/// The partition that a request names, by the topic's name or, where the request has one, its id.
pub fn find_partition(
    broker: &Broker,
    name: &str,
    id: Uuid,
    index: i32,
) -> Result<Arc<Partition>, Refusal> {
    if id.is_nil() {
        return broker
            .topics
            .partition(name, index)
            .ok_or_else(|| ResponseError::UnknownTopicOrPartition.into());
    }
    let topic = broker
        .topics
        .get_by_id(id)
        .ok_or(ResponseError::UnknownTopicId)?;
    topic
        .partition(index)
        .ok_or_else(|| ResponseError::UnknownTopicOrPartition.into())
}
