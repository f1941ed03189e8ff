//! `DescribeConfigs`, `AlterConfigs`, `IncrementalAlterConfigs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as AlterAnswer;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalAnswer;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{Broker, NODE_ID};
use crate::error::Refusal;
use crate::requests::text;
use crate::topics::{Kind, SETTINGS, Setting, setting};
use crate::wire::Context;

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
/// A value that the topic overrides.
pub const TOPIC_SOURCE: i8 = 1;
const STATIC_BROKER_SOURCE: i8 = 4;
/// A value that nobody set.
pub const DEFAULT_SOURCE: i8 = 5;
const STRING_TYPE: i8 = 2;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Every setting of a topic with its value, and whether the topic overrides it.
pub fn effective_settings(
    overrides: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&'static Setting, String, bool)> + '_ {
    SETTINGS
        .iter()
        .map(|setting| match overrides.get(setting.name) {
            Some(value) => (setting, value.clone(), true),
            None => (setting, setting.default.to_owned(), false),
        })
}

/// Serves `DescribeConfigs` for topics and for the broker.
pub async fn describe_configs(
    broker: &Arc<Broker>,
    request: DescribeConfigsRequest,
    context: &Context,
) -> DescribeConfigsResponse {
    let mut response = DescribeConfigsResponse::default();
    for resource in request.resources {
        let wants_documentation = request.include_documentation && context.version >= 3;
        let described = describe(
            broker,
            &resource,
            request.include_synonyms,
            wants_documentation,
        );
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        response.results.push(match described {
            Ok(mut configs) => {
                if let Some(keys) = &resource.configuration_keys {
                    configs.retain(|config| keys.contains(&config.name));
                }
                answer.with_configs(configs)
            }
            Err(refusal) => answer
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(refusal.message))),
        });
    }
    response
}

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    synonyms: bool,
    documentation: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    if resource.resource_type == BROKER_RESOURCE {
        check_node(&resource.resource_name)?;
        let described = broker.options.describe().into_iter().map(|(name, value)| {
            DescribeConfigsResourceResult::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
                .with_read_only(true)
                .with_config_source(STATIC_BROKER_SOURCE)
                .with_config_type(STRING_TYPE)
        });
        return Ok(described.collect());
    }
    check_topic(broker, resource.resource_type, &resource.resource_name)?;
    let overrides = broker.topics.overrides(&resource.resource_name);
    let described = effective_settings(&overrides).map(|(setting, value, is_override)| {
        let source = if is_override {
            TOPIC_SOURCE
        } else {
            DEFAULT_SOURCE
        };
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(text(setting.name))
            .with_value(Some(text(value.clone())))
            .with_config_source(source)
            .with_config_type(setting.kind.wire_number());
        if synonyms {
            result.synonyms.push(synonym(setting.name, value, source));
            if is_override {
                result.synonyms.push(synonym(
                    setting.name,
                    setting.default.to_owned(),
                    DEFAULT_SOURCE,
                ));
            }
        }
        result.with_documentation(documentation.then(|| text(setting.documentation)))
    });
    Ok(described.collect())
}

fn synonym(name: &str, value: String, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_source(source)
}

fn check_node(name: &str) -> Result<(), Refusal> {
    if name == NODE_ID.0.to_string() {
        return Ok(());
    }
    let message = format!("broker {name:?} does not exist; this one is {}", NODE_ID.0);
    Err(Refusal::new(ResponseError::InvalidRequest, message))
}

fn check_topic(broker: &Broker, resource_type: i8, name: &str) -> Result<(), Refusal> {
    match resource_type {
        TOPIC_RESOURCE if broker.topics.get(name).is_some() => Ok(()),
        TOPIC_RESOURCE => Err(ResponseError::UnknownTopicOrPartition.into()),
        BROKER_RESOURCE => Err(Refusal::new(
            ResponseError::InvalidRequest,
            "settings of the broker are flags of its command line and cannot be altered while it runs",
        )),
        other => Err(Refusal::new(
            ResponseError::InvalidRequest,
            format!("resource type {other} has no settings here"),
        )),
    }
}

/// Serves `AlterConfigs`: the topic's overrides become exactly those of the request.
pub async fn alter_configs(
    broker: &Arc<Broker>,
    request: AlterConfigsRequest,
    _: &Context,
) -> AlterConfigsResponse {
    let mut response = AlterConfigsResponse::default();
    for resource in request.resources {
        let outcome = match check_topic(broker, resource.resource_type, &resource.resource_name) {
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let values = resource.configs.into_iter().filter_map(|config| {
                    Some((config.name.to_string(), config.value?.to_string()))
                });
                let wanted: BTreeMap<String, String> = values.collect();
                broker
                    .topics
                    .configure(&resource.resource_name, request.validate_only, |_| {
                        Ok(wanted)
                    })
                    .await
            }
        };
        let (code, message) = code_and_message(outcome);
        response.responses.push(
            AlterAnswer::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    response
}

/// Serves `IncrementalAlterConfigs`: sets, deletes, appends to and subtracts from single settings.
pub async fn incremental_alter_configs(
    broker: &Arc<Broker>,
    request: IncrementalAlterConfigsRequest,
    _: &Context,
) -> IncrementalAlterConfigsResponse {
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in request.resources {
        let outcome = match check_topic(broker, resource.resource_type, &resource.resource_name) {
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let change = |present: BTreeMap<String, String>| apply(present, &resource.configs);
                broker
                    .topics
                    .configure(&resource.resource_name, request.validate_only, change)
                    .await
            }
        };
        let (code, message) = code_and_message(outcome);
        response.responses.push(
            IncrementalAnswer::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    response
}

fn code_and_message(outcome: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(()) => (0, None),
        Err(refusal) => (refusal.code.code(), Some(text(refusal.message))),
    }
}

fn apply(
    mut configs: BTreeMap<String, String>,
    changes: &[AlterableConfig],
) -> Result<BTreeMap<String, String>, Refusal> {
    for change in changes {
        let name = change.name.to_string();
        let invalid = |message: String| Refusal::new(ResponseError::InvalidConfig, message);
        let value = || {
            change
                .value
                .as_ref()
                .map(ToString::to_string)
                .ok_or_else(|| invalid(format!("topic setting {name} has no value")))
        };
        match change.config_operation {
            SET => {
                configs.insert(name.clone(), value()?);
            }
            DELETE => {
                if setting(&name).is_none() {
                    return Err(invalid(format!(
                        "topic setting {name} is not known to this broker"
                    )));
                }
                configs.remove(&name);
            }
            APPEND | SUBTRACT => {
                let Some(row) = setting(&name).filter(|row| matches!(row.kind, Kind::List(_)))
                else {
                    return Err(invalid(format!(
                        "topic setting {name} is no list to append to or subtract from"
                    )));
                };
                let present = configs.get(&name).map_or(row.default, String::as_str);
                let mut words: Vec<String> = present
                    .split(',')
                    .map(|word| word.trim().to_owned())
                    .collect();
                for word in value()?.split(',').map(|word| word.trim().to_owned()) {
                    words.retain(|known| *known != word);
                    if change.config_operation == APPEND {
                        words.push(word);
                    }
                }
                configs.insert(name.clone(), words.join(","));
            }
            other => {
                return Err(Refusal::new(
                    ResponseError::InvalidRequest,
                    format!("operation {other} is not known"),
                ));
            }
        }
    }
    Ok(configs)
}
