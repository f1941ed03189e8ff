//! Whether the consumer can work: what its errors mean, and what the broker says when it is asked.

use std::{sync::atomic::Ordering, time::Duration};

use rdkafka::{
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    client::{group_id, is_outage},
    consumer::{Consuming, POLL_TIMEOUT},
};
use crate::{readiness::Dependency, telemetry};

impl Consuming {
    pub(super) fn note(&self, error: &KafkaError) {
        let readiness = &self.shared.readiness;
        match error.rdkafka_error_code() {
            code if code == Some(RDKafkaErrorCode::Fatal)
                || matches!(error, KafkaError::MessageConsumptionFatal(_)) =>
            {
                // It comes back at once with every poll.
                std::thread::sleep(POLL_TIMEOUT);
                self.check_health();
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => {
                readiness.lost(
                    Dependency::Topics,
                    format!("{error}; run `atelier topics apply`"),
                );
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed,
            ) => {
                // The client's events have told of the group; asking tells which topic it is, where it may not be seen either.
                if self.check_health() {
                    tracing::warn!(stage = readiness.stage(), %error, "kafka consumer");
                }
            }
            Some(code) if is_outage(code) => {
                readiness.lost(Dependency::Consumer, self.unreachable(error));
            }
            // librdkafka connects again by itself; when no broker is left it says so.
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut,
            ) => {
                tracing::debug!(stage = readiness.stage(), %error, "kafka consumer");
            }
            _ => tracing::warn!(stage = readiness.stage(), %error, "kafka consumer"),
        }
    }

    fn unreachable(&self, error: &KafkaError) -> String {
        let heard = self.consumer.context().trouble.text();
        heard.unwrap_or_else(|| {
            format!(
                "kafka at {} cannot be reached: {error}; is it running?",
                self.bootstrap_servers
            )
        })
    }

    /// Asks the broker for the topics, and says what is missing.
    pub(super) fn check_health(&self) -> bool {
        let readiness = &self.shared.readiness;
        let metadata = match self.consumer.fetch_metadata(None, Duration::from_secs(2)) {
            Ok(metadata) => metadata,
            Err(error) => {
                readiness.lost(Dependency::Consumer, self.unreachable(&error));
                return false;
            }
        };
        self.consumer.context().trouble.is_over();
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            if code == RDKafkaErrorCode::GroupAuthorizationFailed {
                let group = format!("consumer group `{}`", group_id(readiness.stage()));
                let forbidden = self.consumer.context().trouble.forbidden(&group);
                readiness.lost(
                    Dependency::Group,
                    format!("{forbidden}; it is tried again after a while"),
                );
                return false;
            }
            if code == RDKafkaErrorCode::FencedInstanceId
                && !self.fenced.swap(true, Ordering::Relaxed)
            {
                telemetry::fenced(readiness.stage(), "consumer");
            }
            readiness.lost(
                Dependency::Consumer,
                format!("{reason}; where another process has this instance_id, give each its own; it is tried again after a while"),
            );
            return false;
        }
        readiness.found(Dependency::Consumer);
        let there: Vec<&str> = metadata
            .topics()
            .iter()
            .map(rdkafka::metadata::MetadataTopic::name)
            .collect();
        let mut missing: Vec<&str> = self
            .topics
            .iter()
            .chain(&self.written)
            .map(String::as_str)
            .filter(|topic| !there.contains(topic))
            .collect();
        missing.dedup();
        if missing.is_empty() {
            readiness.found(Dependency::Topics);
            return true;
        }
        readiness.lost(Dependency::Topics, self.reason_for(&missing));
        false
    }

    /// Brokers list what may be seen; of the rest they say why not when asked by name.
    fn reason_for(&self, missing: &[&str]) -> String {
        let is_forbidden = |topic: &&str| {
            let answer = self
                .consumer
                .fetch_metadata(Some(topic), Duration::from_secs(2));
            answer.is_ok_and(|metadata| {
                let mut said = metadata.topics().iter().filter_map(|found| found.error());
                said.any(|code| {
                    RDKafkaErrorCode::from(code) == RDKafkaErrorCode::TopicAuthorizationFailed
                })
            })
        };
        match missing.iter().find(|topic| is_forbidden(topic)) {
            Some(topic) => {
                let trouble = &self.consumer.context().trouble;
                trouble.forbidden(&format!("topic `{topic}`"))
            }
            None => format!(
                "missing topics {}; run `atelier topics apply`",
                missing.join(", ")
            ),
        }
    }
}
