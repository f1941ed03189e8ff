//! From outcomes to records: events with deterministic ids, retry records, dead letters, and what task-events is told.
//!
//! Invariants: a repeat of the same input makes records with the same ids; a dead letter has the key, value and headers
//! of its input as they came; no record is larger than its topic takes.

mod dead_letter;

use std::{collections::HashMap, time::Duration};

use atelier_schemas::{
    Envelope, ErrorBody, ErrorCode, Event, Priority, StageTiming, TopicTable,
    envelope::header,
    event_id,
    events::{Payload, StageCompleted, StageFailed},
    topics::{TASK_CONTROL, TASK_EVENTS, dead_letter_topic, retry_topic},
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    Emission, Failure, FailureClass,
    options::RetryOptions,
    record::{Header, InRecord, OutRecord, header_text, set_header},
    trace_context::TraceContext,
};

pub use dead_letter::error_header;

/// What the encoder needs to know of the message that is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent<'a> {
    pub record: &'a InRecord,
    pub envelope: &'a Envelope,
    pub trace: TraceContext,
}

/// Makes a stage's records.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    stage: &'static str,
    source: String,
    retry_topic: String,
    dead_letter_topic: String,
    limits_bytes: HashMap<String, usize>,
    retry: RetryOptions,
}

/// What became of a failed message or part.
pub(crate) struct GivenOn {
    pub records: Vec<OutRecord>,
    pub dead: Option<ErrorCode>,
}

impl Encoder {
    pub(crate) fn new(stage: &'static str, table: &TopicTable, retry: RetryOptions) -> Self {
        let limit = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            stage,
            source: format!("/atelier/{stage}"),
            retry_topic: retry_topic(stage),
            dead_letter_topic: dead_letter_topic(stage),
            limits_bytes: table
                .topics()
                .iter()
                .map(|topic| (topic.name.clone(), limit(topic.max_message_bytes)))
                .collect(),
            retry,
        }
    }

    /// The records of a message that was worked: its emissions in order, then `StageCompleted`. Also the codes of the
    /// parts that went to the dead letters.
    ///
    /// # Errors
    /// An event that cannot be encoded or is larger than its topic takes: the message is to be rejected with that.
    pub(crate) fn emitted(
        &self,
        parent: Parent<'_>,
        emissions: Vec<Emission>,
        timing: &StageTiming,
        now: DateTime<Utc>,
    ) -> Result<(Vec<OutRecord>, Vec<ErrorCode>), Failure> {
        let mut records = Vec::with_capacity(emissions.len() + 1);
        let mut dead_codes = Vec::new();
        for (ordinal, emission) in emissions.into_iter().enumerate() {
            let ordinal = ordinal.to_string();
            match emission {
                Emission::Event(event) => {
                    records.push(self.event(parent, &event, &ordinal, Some(timing), now)?);
                }
                Emission::Retry(event, failure) | Emission::Reject(event, failure) => {
                    let given_on = self.part(parent, &event, &ordinal, failure, now)?;
                    dead_codes.extend(given_on.dead);
                    records.extend(given_on.records);
                }
            }
        }
        records.extend(self.stage_completed(parent, &records, timing, now)?);
        Ok((records, dead_codes))
    }

    /// A message that failed and is tried again later, or no more.
    pub(crate) fn failed(
        &self,
        record: &InRecord,
        envelope: Option<&Envelope>,
        trace: TraceContext,
        mut failure: Failure,
        now: DateTime<Utc>,
    ) -> GivenOn {
        self.sign(&mut failure.body);
        let attempt = envelope.map_or(1, |envelope| envelope.attempt);
        if failure.class != FailureClass::Permanent && attempt < self.retry.max_attempts {
            let mut headers = record.headers.clone();
            let due = self.next_attempt_at(attempt, envelope, now);
            set_attempt(&mut headers, attempt + 1, due);
            // The next attempt follows from this one.
            set_header(&mut headers, header::TRACEPARENT, trace.to_string());
            if let Some(Priority::Bulk) = envelope.map(|envelope| envelope.priority) {
                // Its topic said so; the retry topic does not.
                set_header(&mut headers, header::PRIORITY, Priority::Bulk.as_str());
            }
            let again = OutRecord {
                topic: self.retry_topic.clone(),
                key: record.key.clone(),
                headers,
                value: record.value.clone(),
            };
            if self.fits(&again) {
                return GivenOn {
                    records: vec![again],
                    dead: None,
                };
            }
        }
        let original = OutRecord {
            topic: self.dead_letter_topic.clone(),
            key: record.key.clone(),
            headers: record.headers.clone(),
            value: record.value.clone(),
        };
        let code = failure.body.code;
        let mut records = vec![self.dead_letter(record, original, &failure.body, attempt, now)];
        records.extend(self.stage_failed_of_record(record, envelope, trace, failure.body, now));
        GivenOn {
            records,
            dead: Some(code),
        }
    }

    /// When a message is tried again: no later than its deadline, so that its end is told then.
    fn next_attempt_at(
        &self,
        attempt: u32,
        envelope: Option<&Envelope>,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let due = now + delta(self.retry.delay(attempt));
        envelope
            .and_then(|envelope| envelope.deadline)
            .map_or(due, |deadline| due.min(deadline))
    }

    /// The same message on another topic, as an event of its own.
    ///
    /// # Errors
    /// It is larger than that topic takes.
    pub(crate) fn moved(
        &self,
        parent: Parent<'_>,
        topic: &str,
        now: DateTime<Utc>,
    ) -> Result<OutRecord, Failure> {
        let envelope = Envelope {
            timings: parent.envelope.timings.clone(),
            ..self.child(parent, parent.envelope.event_type.clone(), "moved", now)
        };
        let record = OutRecord {
            topic: topic.to_owned(),
            key: parent.record.key.clone(),
            headers: headers_of(&envelope),
            value: parent.record.value.clone(),
        };
        self.fitting(record)
    }

    /// A part of a fanned-out message that failed.
    fn part(
        &self,
        parent: Parent<'_>,
        event: &Event,
        ordinal: &str,
        mut failure: Failure,
        now: DateTime<Utc>,
    ) -> Result<GivenOn, Failure> {
        self.sign(&mut failure.body);
        let attempt = parent.envelope.attempt;
        let mut record = self.event(parent, event, ordinal, None, now)?;
        if failure.class != FailureClass::Permanent && attempt < self.retry.max_attempts {
            record.topic.clone_from(&self.retry_topic);
            let due = self.next_attempt_at(attempt, Some(parent.envelope), now);
            set_attempt(&mut record.headers, attempt + 1, due);
            return Ok(GivenOn {
                records: vec![record],
                dead: None,
            });
        }
        record.topic.clone_from(&self.dead_letter_topic);
        let code = failure.body.code;
        let mut records =
            vec![self.dead_letter(parent.record, record, &failure.body, attempt, now)];
        if let Some(task_id) = event.task_id().or(parent.envelope.correlation_id) {
            let failed = StageFailed {
                task_id,
                image_id: event.image_id(),
                stage: self.stage.to_owned(),
                error: failure.body,
            };
            let ordinal = format!("failed/{}", failure_ordinal(ordinal, parent.envelope));
            records.push(self.event(parent, &failed.into(), &ordinal, None, now)?);
        }
        Ok(GivenOn {
            records,
            dead: Some(code),
        })
    }

    fn event(
        &self,
        parent: Parent<'_>,
        event: &Event,
        ordinal: &str,
        timing: Option<&StageTiming>,
        now: DateTime<Utc>,
    ) -> Result<OutRecord, Failure> {
        let mut timings = parent.envelope.timings.clone();
        timings.extend(timing.cloned());
        let envelope = Envelope {
            correlation_id: event.task_id().or(parent.envelope.correlation_id),
            subject: event.image_id(),
            timings,
            ..self.child(parent, event.event_type().to_owned(), ordinal, now)
        };
        let key = event
            .key()
            .map(|key| Bytes::from(key.to_string()))
            .or_else(|| parent.record.key.clone());
        let record = to_record(event, &envelope, key).map_err(|error| {
            self.internal(
                "UnencodableEvent",
                format!("event `{}` cannot be encoded: {error}", event.event_type()),
            )
        })?;
        self.fitting(record)
    }

    /// The envelope of what is made of a message.
    fn child(
        &self,
        parent: Parent<'_>,
        event_type: String,
        ordinal: &str,
        now: DateTime<Utc>,
    ) -> Envelope {
        Envelope {
            id: event_id(parent.envelope.id, self.stage, ordinal),
            source: self.source.clone(),
            event_type,
            time: now,
            correlation_id: parent.envelope.correlation_id,
            causation_id: Some(parent.envelope.id),
            subject: parent.envelope.subject,
            traceparent: Some(parent.trace.to_string()),
            timings: Vec::new(),
            attempt: 1,
            not_before: None,
            deadline: parent.envelope.deadline,
            priority: parent.envelope.priority,
            replay: 0,
        }
    }

    fn fitting(&self, record: OutRecord) -> Result<OutRecord, Failure> {
        if self.fits(&record) {
            return Ok(record);
        }
        let limit_bytes = self.limit_bytes(&record.topic);
        let message = format!(
            "event for `{}` has {} bytes, the topic takes {limit_bytes}",
            record.topic,
            record.size_bytes()
        );
        Err(self.internal("RecordTooLarge", message))
    }

    /// Tells task-events that the stage is done with a message. A task event, or a cancel, is no step of an image, so nothing
    /// is said about those; that also keeps a reader of task-events from answering itself for ever.
    fn stage_completed(
        &self,
        parent: Parent<'_>,
        emitted: &[OutRecord],
        timing: &StageTiming,
        now: DateTime<Utc>,
    ) -> Result<Option<OutRecord>, Failure> {
        if [TASK_EVENTS, TASK_CONTROL].contains(&&*parent.record.source.topic) {
            return Ok(None);
        }
        let of_outputs = || {
            emitted
                .iter()
                .find_map(|record| uuid_header(&record.headers, header::CORRELATION_ID))
        };
        let Some(task_id) = parent.envelope.correlation_id.or_else(of_outputs) else {
            return Ok(None);
        };
        let completed = StageCompleted {
            task_id,
            image_id: parent.envelope.subject,
            timing: timing.clone(),
        };
        let mut record = self.event(parent, &completed.into(), "completed", Some(timing), now)?;
        if let Some(image_id) = parent.envelope.subject {
            set_header(&mut record.headers, header::SUBJECT, image_id.to_string());
        }
        Ok(Some(record))
    }

    /// Tells task-events that a message is in the dead letters, where the headers say whose it was.
    fn stage_failed_of_record(
        &self,
        record: &InRecord,
        envelope: Option<&Envelope>,
        trace: TraceContext,
        error: ErrorBody,
        now: DateTime<Utc>,
    ) -> Option<OutRecord> {
        let event_type = record.header_text(header::TYPE);
        // A report about a report would be answered by a report.
        if event_type == Some(StageFailed::EVENT_TYPE)
            || event_type == Some(StageCompleted::EVENT_TYPE)
        {
            return None;
        }
        let task_id = uuid_header(&record.headers, header::CORRELATION_ID)
            .or_else(|| task_id_in_value(record))?;
        let image_id = uuid_header(&record.headers, header::SUBJECT);
        let assumed;
        let envelope = match envelope {
            Some(envelope) => envelope,
            None => {
                assumed = Envelope {
                    subject: image_id,
                    ..Envelope::root(
                        &self.source,
                        event_type.unwrap_or_default(),
                        id_of(record),
                        task_id,
                    )
                };
                &assumed
            }
        };
        let failed = StageFailed {
            task_id,
            image_id,
            stage: self.stage.to_owned(),
            error,
        };
        let ordinal = failure_ordinal("failed", envelope);
        // What the sender chose is not repeated in the report, so it fits wherever any event fits.
        self.event(
            Parent {
                record,
                envelope,
                trace,
            },
            &failed.into(),
            &ordinal,
            None,
            now,
        )
        .ok()
    }

    fn sign(&self, error: &mut ErrorBody) {
        if error.details.stage.is_empty() {
            self.stage.clone_into(&mut error.details.stage);
        }
    }

    fn fits(&self, record: &OutRecord) -> bool {
        record.size_bytes() <= self.limit_bytes(&record.topic)
    }

    fn limit_bytes(&self, topic: &str) -> usize {
        self.limits_bytes.get(topic).copied().unwrap_or(usize::MAX)
    }

    fn internal(&self, reason: &'static str, message: String) -> Failure {
        Failure {
            class: FailureClass::Permanent,
            body: ErrorBody::new(ErrorCode::Internal, self.stage, reason, message),
        }
    }
}

/// The record of an event with its envelope, for its own topic.
///
/// # Errors
/// Where a float of the payload is not finite.
pub fn to_record(
    event: &Event,
    envelope: &Envelope,
    key: Option<Bytes>,
) -> Result<OutRecord, serde_json::Error> {
    Ok(OutRecord {
        topic: event.topic_for(envelope.priority).to_owned(),
        key,
        headers: headers_of(envelope),
        value: Some(Bytes::from(event.to_json()?)),
    })
}

fn headers_of(envelope: &Envelope) -> Vec<Header> {
    let headers = envelope.to_headers().into_iter();
    let header = |(name, value)| Header {
        name,
        value: Some(Bytes::from(value)),
    };
    headers.map(header).collect()
}

/// A replayed message that fails again must be heard again: its report has an id of its own.
fn failure_ordinal(ordinal: &str, envelope: &Envelope) -> String {
    if envelope.replay == 0 {
        ordinal.to_owned()
    } else {
        format!("{ordinal}/replay/{}", envelope.replay)
    }
}

fn set_attempt(headers: &mut Vec<Header>, attempt: u32, due: DateTime<Utc>) {
    set_header(headers, header::ATTEMPT, attempt.to_string());
    set_header(
        headers,
        header::NOT_BEFORE,
        due.to_rfc3339_opts(SecondsFormat::Micros, true),
    );
}

fn uuid_header(headers: &[Header], name: &str) -> Option<Uuid> {
    Uuid::parse_str(header_text(headers, name)?).ok()
}

/// Upstream systems may name the task in the value alone.
fn task_id_in_value(record: &InRecord) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "taskId")]
        task_id: Uuid,
    }
    serde_json::from_slice::<Named>(record.value.as_ref()?)
        .ok()
        .map(|named| named.task_id)
}

/// The record's own id where it has one, and otherwise one made of its place, which is the same on every repeat.
fn id_of(record: &InRecord) -> Uuid {
    uuid_header(&record.headers, header::ID).unwrap_or_else(|| {
        let place = format!(
            "kafka:{}/{}/{}",
            record.source.topic, record.source.partition, record.offset
        );
        Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes())
    })
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
