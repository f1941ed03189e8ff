//! CloudEvents 1.0 in Kafka's binary mode: the attributes are headers, the value is the JSON payload.
//!
//! Invariant: an event's id is a function of (parent id, stage, ordinal), so that a repeat after a crash is recognisable.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Priority;

/// Names of the headers, as they stand on the wire.
pub mod header {
    /// Media type of the value; always `application/json`.
    pub const CONTENT_TYPE: &str = "content-type";
    /// Always `1.0`.
    pub const SPEC_VERSION: &str = "ce_specversion";
    /// The event's id, a UUID.
    pub const ID: &str = "ce_id";
    /// Who made it, a URI reference.
    pub const SOURCE: &str = "ce_source";
    /// Its type with its version, for example `atelier.image.matted.v1`.
    pub const TYPE: &str = "ce_type";
    /// When it was made, RFC 3339.
    pub const TIME: &str = "ce_time";
    /// The image that the event speaks of, a UUID; absent on events of a whole task.
    pub const SUBJECT: &str = "ce_subject";
    /// The task, a UUID.
    pub const CORRELATION_ID: &str = "ce_correlationid";
    /// The parent event's id.
    pub const CAUSATION_ID: &str = "ce_causationid";
    /// How long each stage had it so far, JSON.
    pub const STAGE_TIMINGS: &str = "ce_stagetimings";
    /// Which attempt this is, from 1; set on retry topics.
    pub const ATTEMPT: &str = "ce_attempt";
    /// Not to be handled before this time, RFC 3339; set on retry topics.
    pub const NOT_BEFORE: &str = "ce_notbefore";
    /// Not worth doing after this time, RFC 3339; carried from event to event.
    pub const DEADLINE: &str = "ce_deadline";
    /// `bulk` where nobody waits for it; carried from event to event.
    pub const PRIORITY: &str = "ce_priority";
    /// Set to the number of the replay on events that `atelier replay` put back.
    pub const REPLAY: &str = "ce_replay";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
}

/// How long one stage had an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageTiming {
    /// The stage's name.
    pub stage: String,
    /// From the event's time to the start of the work, in milliseconds.
    pub queue_ms: f64,
    /// The work itself, in milliseconds.
    pub processing_time_ms: f64,
}

/// The attributes of one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Identity of the event.
    pub id: Uuid,
    /// Who made it, a URI reference such as `/atelier/matte`.
    pub source: String,
    /// Type with version.
    pub event_type: String,
    /// When it was made.
    pub time: DateTime<Utc>,
    /// The task.
    pub correlation_id: Option<Uuid>,
    /// The parent event.
    pub causation_id: Option<Uuid>,
    /// The image.
    pub subject: Option<Uuid>,
    /// W3C `traceparent` of the span that made the event.
    pub traceparent: Option<String>,
    /// The stages passed so far, in order.
    pub timings: Vec<StageTiming>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Not to be handled before.
    pub not_before: Option<DateTime<Utc>>,
    /// Not worth doing after this time.
    pub deadline: Option<DateTime<Utc>>,
    /// Whether somebody waits for it.
    pub priority: Priority,
    /// The number of the replay that put it back, 0 for none.
    pub replay: u32,
}

/// Headers that do not make a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A header that must be there is not.
    #[error("header `{0}` is missing: send CloudEvents 1.0 binary mode headers")]
    Missing(&'static str),
    /// A header whose value is not of its form.
    #[error("header `{name}` is `{value}`, expected {expected}")]
    Malformed {
        /// The header.
        name: &'static str,
        /// Its value, cut to 80 signs.
        value: String,
        /// What should stand there.
        expected: &'static str,
    },
}

impl Envelope {
    /// A first event, without a parent.
    pub fn root(source: &str, event_type: &str, id: Uuid, correlation_id: Uuid) -> Self {
        Self {
            id,
            source: source.to_owned(),
            event_type: event_type.to_owned(),
            time: Utc::now(),
            correlation_id: Some(correlation_id),
            causation_id: None,
            subject: None,
            traceparent: None,
            timings: Vec::new(),
            attempt: 1,
            not_before: None,
            deadline: None,
            priority: Priority::Interactive,
            replay: 0,
        }
    }

    /// The headers in wire order.
    pub fn to_headers(&self) -> Vec<(String, Vec<u8>)> {
        let time = |at: &DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut headers: Vec<(&str, String)> = vec![
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::SPEC_VERSION, "1.0".to_owned()),
            (header::ID, self.id.to_string()),
            (header::SOURCE, self.source.clone()),
            (header::TYPE, self.event_type.clone()),
            (header::TIME, time(&self.time)),
        ];
        let optional = [
            (header::SUBJECT, self.subject.map(|id| id.to_string())),
            (
                header::CORRELATION_ID,
                self.correlation_id.map(|id| id.to_string()),
            ),
            (
                header::CAUSATION_ID,
                self.causation_id.map(|id| id.to_string()),
            ),
            (header::TRACEPARENT, self.traceparent.clone()),
            (
                header::STAGE_TIMINGS,
                (!self.timings.is_empty()).then(|| serde_json::json!(self.timings).to_string()),
            ),
            (
                header::ATTEMPT,
                (self.attempt > 1).then(|| self.attempt.to_string()),
            ),
            (header::NOT_BEFORE, self.not_before.as_ref().map(time)),
            (header::DEADLINE, self.deadline.as_ref().map(time)),
            (
                header::PRIORITY,
                (self.priority != Priority::Interactive).then(|| self.priority.as_str().to_owned()),
            ),
            (
                header::REPLAY,
                (self.replay > 0).then(|| self.replay.to_string()),
            ),
        ];
        headers.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| value.map(|value| (name, value))),
        );
        headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect()
    }

    /// Reads the headers of a record. Unknown headers are left alone; `ce_time` defaults to `received`.
    ///
    /// # Errors
    /// [`EnvelopeError`] names the first header that is missing or malformed.
    pub fn from_headers<'a>(
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        received: DateTime<Utc>,
    ) -> Result<Self, EnvelopeError> {
        let mut found = Found::default();
        for (name, value) in headers {
            found.take(name, value);
        }
        found.envelope(received)
    }
}

#[derive(Default)]
struct Found<'a> {
    values: Vec<(&'static str, &'a [u8])>,
}

const KNOWN: [&str; 15] = [
    header::SPEC_VERSION,
    header::ID,
    header::SOURCE,
    header::TYPE,
    header::TIME,
    header::SUBJECT,
    header::CORRELATION_ID,
    header::CAUSATION_ID,
    header::STAGE_TIMINGS,
    header::ATTEMPT,
    header::NOT_BEFORE,
    header::DEADLINE,
    header::PRIORITY,
    header::REPLAY,
    header::TRACEPARENT,
];

impl<'a> Found<'a> {
    fn take(&mut self, name: &str, value: &'a [u8]) {
        if let Some(known) = KNOWN.into_iter().find(|known| *known == name) {
            self.values.push((known, value));
        }
    }

    fn text(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<&'a str>, EnvelopeError> {
        let Some((_, bytes)) = self.values.iter().find(|(known, _)| *known == name) else {
            return Ok(None);
        };
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| malformed(name, &String::from_utf8_lossy(bytes), expected))
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, EnvelopeError> {
        let Some(text) = self.text(name, expected)? else {
            return Ok(None);
        };
        parse(text)
            .map(Some)
            .ok_or_else(|| malformed(name, text, expected))
    }

    fn uuid(&self, name: &'static str) -> Result<Option<Uuid>, EnvelopeError> {
        self.parsed(name, "a UUID", |text| Uuid::parse_str(text).ok())
    }

    fn time(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, EnvelopeError> {
        self.parsed(name, "an RFC 3339 time", |text| {
            DateTime::parse_from_rfc3339(text)
                .ok()
                .map(|time| time.with_timezone(&Utc))
        })
    }

    fn envelope(&self, received: DateTime<Utc>) -> Result<Envelope, EnvelopeError> {
        let missing = |name: &'static str| EnvelopeError::Missing(name);
        self.parsed(header::SPEC_VERSION, "`1.0`", |text| {
            (text == "1.0").then_some(())
        })?
        .ok_or(missing(header::SPEC_VERSION))?;
        let count = |name| self.parsed(name, "a whole number", |text| text.parse::<u32>().ok());
        Ok(Envelope {
            id: self.uuid(header::ID)?.ok_or(missing(header::ID))?,
            source: self
                .text(header::SOURCE, "a URI reference")?
                .ok_or(missing(header::SOURCE))?
                .to_owned(),
            event_type: self
                .text(header::TYPE, "an event type")?
                .ok_or(missing(header::TYPE))?
                .to_owned(),
            time: self.time(header::TIME)?.unwrap_or(received),
            correlation_id: self.uuid(header::CORRELATION_ID)?,
            causation_id: self.uuid(header::CAUSATION_ID)?,
            subject: self.uuid(header::SUBJECT)?,
            traceparent: self
                .text(header::TRACEPARENT, "a W3C trace context")?
                .map(str::to_owned),
            timings: self
                .parsed(
                    header::STAGE_TIMINGS,
                    "a JSON list of stage timings",
                    |text| serde_json::from_str(text).ok(),
                )?
                .unwrap_or_default(),
            attempt: count(header::ATTEMPT)?.unwrap_or(1).max(1),
            not_before: self.time(header::NOT_BEFORE)?,
            deadline: self.time(header::DEADLINE)?,
            priority: self
                .parsed(
                    header::PRIORITY,
                    "`interactive` or `bulk`",
                    Priority::from_text,
                )?
                .unwrap_or_default(),
            replay: count(header::REPLAY)?.unwrap_or(0),
        })
    }
}

fn malformed(name: &'static str, value: &str, expected: &'static str) -> EnvelopeError {
    EnvelopeError::Malformed {
        name,
        value: value.chars().take(80).collect(),
        expected,
    }
}

/// The id of the `ordinal`-th event that `stage` makes of the event `parent`: UUIDv5, the same on every repeat.
pub fn event_id(parent: Uuid, stage: &str, ordinal: &str) -> Uuid {
    Uuid::new_v5(&parent, format!("{stage}/{ordinal}").as_bytes())
}

/// The id of the `index`-th image of `task`.
pub fn image_id(task: Uuid, index: u32) -> Uuid {
    Uuid::new_v5(&task, format!("image/{index}").as_bytes())
}

/// The task id that an `Idempotency-Key` makes.
pub fn task_id_of_idempotency_key(key: &str) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        format!("atelier:idempotency-key:{key}").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn borrowed(headers: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&str, &[u8])> {
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    #[test]
    fn headers_round_trip() {
        let mut envelope = Envelope::root(
            "/atelier/gateway",
            "atelier.task.submitted.v1",
            Uuid::new_v4(),
            Uuid::new_v4(),
        );
        envelope.time = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        envelope.subject = Some(Uuid::new_v4());
        envelope.causation_id = Some(Uuid::new_v4());
        envelope.traceparent =
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
        envelope.timings = vec![StageTiming {
            stage: "ingest".into(),
            queue_ms: 1.5,
            processing_time_ms: 20.25,
        }];
        envelope.attempt = 3;
        envelope.not_before = Some(envelope.time);
        envelope.deadline = Some(envelope.time);
        envelope.priority = Priority::Bulk;
        envelope.replay = 1;
        let headers = envelope.to_headers();
        assert_eq!(
            Envelope::from_headers(borrowed(&headers), Utc::now()).unwrap(),
            envelope
        );
    }

    #[test]
    fn a_missing_id_is_named() {
        let headers = Envelope::root("/x", "y", Uuid::nil(), Uuid::nil()).to_headers();
        let without: Vec<_> = headers
            .into_iter()
            .filter(|(name, _)| name != header::ID)
            .collect();
        let error = Envelope::from_headers(borrowed(&without), Utc::now()).unwrap_err();
        assert_eq!(error, EnvelopeError::Missing(header::ID));
    }

    #[test]
    fn ids_repeat_and_differ() {
        let parent = Uuid::new_v4();
        assert_eq!(
            event_id(parent, "matte", "0"),
            event_id(parent, "matte", "0")
        );
        assert_ne!(
            event_id(parent, "matte", "0"),
            event_id(parent, "matte", "1")
        );
        assert_ne!(
            event_id(parent, "matte", "0"),
            event_id(parent, "compose", "0")
        );
    }
}
