//! Stages without a broker: the topic table in memory, with the same outcomes, retries and dead letters as on Kafka.
//!
//! [`LocalRunner`] goes step by step and keeps every record, for tests. [`LocalPipeline`] runs all stages at once with
//! bounded queues between them, for `atelier cutout`.

mod pipeline;
mod runner;

use std::{collections::BTreeMap, sync::Arc};

use atelier_schemas::{DecodeError, Envelope, EnvelopeError, Event, TopicTable};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use pipeline::LocalPipeline;
pub use runner::LocalRunner;

use crate::{
    cancelled::Cancelled,
    clock::{Clock, SystemClock, VirtualClock},
    encode::to_record,
    options::RetryOptions,
    record::OutRecord,
};

/// How the in-process runner works.
#[derive(Clone)]
pub struct LocalOptions {
    /// The topics.
    pub table: TopicTable,
    /// What happens after a failure.
    pub retry: RetryOptions,
    /// Time. The default passes only when everybody waits, so a test never sleeps.
    pub clock: Arc<dyn Clock>,
    /// Most messages that wait before each stage of a [`LocalPipeline`].
    pub queue_capacity: usize,
    /// Most calls of a stage's `handle` at once in a [`LocalPipeline`], by stage; 1 for those not named.
    pub max_in_flight: BTreeMap<&'static str, usize>,
    /// Bulk messages are let in while fewer than so many messages are under way.
    pub bulk_under_way: usize,
    /// Tasks whose messages are dropped; none unless somebody adds one.
    pub cancelled: Cancelled,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            table: TopicTable::embedded().clone(),
            retry: RetryOptions::default(),
            clock: Arc::new(VirtualClock::new()),
            queue_capacity: 16,
            max_in_flight: BTreeMap::new(),
            bulk_under_way: 16,
            cancelled: Cancelled::none(),
        }
    }
}

impl LocalOptions {
    /// The same on the machine's clock: what people wait for.
    pub fn in_real_time() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            ..Self::default()
        }
    }
}

/// A record that does not read back as an event.
#[derive(Debug, thiserror::Error)]
pub enum NotAnEvent {
    /// Its headers.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Its value.
    #[error(transparent)]
    Payload(#[from] DecodeError),
}

/// Reads a record's headers and value.
///
/// # Errors
/// [`NotAnEvent`], with what is wrong.
pub fn read_event(
    record: &OutRecord,
    received: DateTime<Utc>,
) -> Result<(Envelope, Event), NotAnEvent> {
    let headers = record.headers.iter().map(|header| {
        (
            header.name.as_str(),
            header.value.as_ref().map_or(&[][..], Bytes::as_ref),
        )
    });
    let envelope = Envelope::from_headers(headers, received)?;
    let event = Event::decode(&envelope, record.value.as_deref().unwrap_or_default())?;
    Ok((envelope, event))
}

/// The envelope of an event that comes from outside: a new id, the task's where the event knows it.
pub fn root_envelope(source: &str, event: &Event, now: DateTime<Utc>) -> Envelope {
    let id = Uuid::new_v4();
    Envelope {
        time: now,
        subject: event.image_id(),
        priority: event.priority(),
        ..Envelope::root(
            source,
            event.event_type(),
            id,
            event.task_id().unwrap_or(id),
        )
    }
}

/// The record of an event that comes from outside.
///
/// # Errors
/// Where a float of the payload is not finite.
pub fn root_record(event: &Event, envelope: &Envelope) -> Result<OutRecord, serde_json::Error> {
    let key = event
        .key()
        .or(envelope.correlation_id)
        .map(|key| Bytes::from(key.to_string()));
    to_record(event, envelope, key)
}
