//! The published documents: one JSON Schema per event type, and the AsyncAPI 3 description of every topic.
//!
//! Both are functions of the types and of the topic table alone; `schemas/generated/` holds what they gave last, and a
//! test fails when that differs. `make generate` writes it anew.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{Event, Topic, TopicTable, envelope::header, events::EventDescription};

/// The JSON Schema (2020-12) of each event type's payload, by event type.
pub fn json_schemas() -> BTreeMap<&'static str, Value> {
    Event::catalogue()
        .into_iter()
        .map(|event| {
            let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
            let reference = (event.schema)(&mut generator);
            (
                event.event_type,
                stand_alone(event.event_type, &reference, &mut generator),
            )
        })
        .collect()
}

fn stand_alone(event_type: &str, reference: &Schema, generator: &mut SchemaGenerator) -> Value {
    let mut document = Map::new();
    document.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    document.insert("$id".into(), format!("urn:atelier:{event_type}").into());
    document.insert("title".into(), event_type.into());
    if let Some(reference) = reference.as_object() {
        document.extend(reference.clone());
    }
    document.insert("$defs".into(), generator.take_definitions(true).into());
    document.into()
}

/// The AsyncAPI 3.0 document of every topic in the table.
pub fn asyncapi(table: &TopicTable) -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = SchemaGenerator::new(settings);
    let events = Event::catalogue();
    let messages: Map<String, Value> = events
        .iter()
        .map(|event| (event.event_type.to_owned(), message(event, &mut generator)))
        .collect();
    let channels: Map<String, Value> = table
        .topics()
        .iter()
        .map(|topic| (topic.name.clone(), channel(topic)))
        .collect();
    let operations: Map<String, Value> = table.topics().iter().flat_map(operations_of).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Atelier",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Event-streaming image pipeline: photographs go in on `image-tasks`, cut-outs come out. \
                Values are JSON; the CloudEvents 1.0 attributes are Kafka headers (binary mode). Consumers read \
                committed. Follow one task through every topic by the header `ce_correlationid`.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "embedded": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "The embedded broker that `atelier up` starts; any Kafka broker serves as well.",
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "messageTraits": { "cloudEvent": cloud_event_trait() },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn message(event: &EventDescription, generator: &mut SchemaGenerator) -> Value {
    json!({
        "name": event.event_type,
        "title": event.payload,
        "contentType": "application/json",
        "traits": [{ "$ref": "#/components/messageTraits/cloudEvent" }],
        "payload": (event.schema)(generator),
    })
}

fn cloud_event_trait() -> Value {
    let uuid = json!({ "type": "string", "format": "uuid" });
    let time = json!({ "type": "string", "format": "date-time" });
    json!({
        "headers": {
            "type": "object",
            "required": [header::SPEC_VERSION, header::ID, header::SOURCE, header::TYPE],
            "properties": {
                (header::CONTENT_TYPE): { "type": "string", "const": "application/json" },
                (header::SPEC_VERSION): { "type": "string", "const": "1.0" },
                (header::ID): uuid,
                (header::SOURCE): { "type": "string", "format": "uri-reference" },
                (header::TYPE): { "type": "string" },
                (header::TIME): time,
                (header::SUBJECT): { "type": "string", "format": "uuid", "description": "The image." },
                (header::CORRELATION_ID): { "type": "string", "format": "uuid", "description": "The task." },
                (header::CAUSATION_ID): { "type": "string", "format": "uuid", "description": "The parent event." },
                (header::STAGE_TIMINGS): { "type": "string", "description": "JSON list of the stages passed, with times." },
                (header::ATTEMPT): { "type": "string", "pattern": "^[0-9]+$" },
                (header::NOT_BEFORE): time,
                (header::DEADLINE): time,
                (header::PRIORITY): { "type": "string", "enum": ["interactive", "bulk"] },
                (header::REPLAY): { "type": "string", "pattern": "^[0-9]+$" },
                (header::TRACEPARENT): { "type": "string" },
            },
        },
    })
}

fn channel(topic: &Topic) -> Value {
    let messages: Map<String, Value> = topic
        .events
        .iter()
        .map(|event| {
            (
                event.clone(),
                json!({ "$ref": format!("#/components/messages/{event}") }),
            )
        })
        .collect();
    json!({
        "address": topic.name,
        "title": topic.name,
        "description": topic.description,
        "messages": messages,
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication_factor,
                "topicConfiguration": {
                    "cleanup.policy": [topic.cleanup_policy],
                    "retention.ms": topic.retention_hours * 3_600_000,
                    "max.message.bytes": topic.max_message_bytes,
                },
                "bindingVersion": "0.5.0",
            },
        },
    })
}

/// AsyncAPI speaks from the application's side: it sends what its stages write and receives what they read.
fn operations_of(topic: &Topic) -> Vec<(String, Value)> {
    let operation = |action: &str, people: &[String]| {
        json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{}", topic.name) },
            "title": format!("{action} {}", topic.name),
            "description": format!("{}: {}. Key: {}.", if action == "send" { "Written by" } else { "Read by" }, people.join(", "), topic.key),
        })
    };
    let mut operations = vec![(
        format!("send-{}", topic.name),
        operation("send", &topic.from),
    )];
    let readers = [topic.to.as_slice(), topic.followed_by.as_slice()].concat();
    if !readers.is_empty() {
        operations.push((
            format!("receive-{}", topic.name),
            operation("receive", &readers),
        ));
    }
    operations
}
