//! How urgent a task is: whether somebody waits for it, and until when its pictures are worth making.

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{ErrorBody, ErrorCode, request::ValidRequest};

/// Whether somebody waits for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Priority {
    /// Somebody waits: it goes before everything that nobody waits for.
    #[default]
    Interactive,
    /// Nobody waits: its images are begun while little else is to do.
    Bulk,
}

impl Priority {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }

    /// The priority of that name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Interactive, Self::Bulk]
            .into_iter()
            .find(|priority| priority.as_str() == text)
    }

    // serde's skip_serializing_if hands over a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(crate) fn is_interactive(&self) -> bool {
        *self == Self::Interactive
    }
}

pub(crate) fn deadline<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    deadline_from_text(&text)
        .map(Some)
        .map_err(de::Error::custom)
}

/// Reads a deadline.
///
/// # Errors
/// A sentence that repeats the text and says what to write.
pub fn deadline_from_text(text: &str) -> Result<DateTime<Utc>, String> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(time.with_timezone(&Utc)),
        Err(_) => {
            let shown: String = text.chars().take(80).collect();
            Err(format!(
                "`{shown}` is no time: write RFC 3339 with a zone, such as 2026-01-31T18:00:00Z"
            ))
        }
    }
}

impl ValidRequest {
    /// Whether there is still time at `now`.
    ///
    /// # Errors
    /// An [`ErrorBody`] that points at the deadline where it has passed. `stage` names who checks.
    pub fn check_deadline(&self, now: DateTime<Utc>, stage: &str) -> Result<(), Box<ErrorBody>> {
        let Some(deadline) = self.deadline.filter(|deadline| *deadline <= now) else {
            return Ok(());
        };
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let message = format!(
            "the deadline {} has passed, it is {}: nothing could be begun in time",
            text(deadline),
            text(now)
        );
        let body = ErrorBody::new(
            ErrorCode::DeadlineExceeded,
            stage,
            "DeadlineExceeded",
            message,
        );
        Err(Box::new(body.at("/deadline")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TaskRequest, from_json};

    fn request(json: &str) -> TaskRequest {
        from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_deadline_is_a_time_with_a_zone_and_what_is_not_is_repeated() {
        let with = |deadline: &str| {
            let json = format!(r#"{{"images":["https://a.example/1.jpg"],"deadline":{deadline}}}"#);
            from_json::<TaskRequest>(json.as_bytes())
        };
        let zoned = with(r#""2026-01-31T19:00:00.25+01:00""#).unwrap();
        let valid = zoned.validate("gateway").unwrap();
        assert_eq!(
            valid.deadline,
            DateTime::from_timestamp_millis(1_769_882_400_250)
        );
        assert_eq!(with("null").unwrap().deadline, None);
        for (deadline, shown) in [
            (r#""tomorrow""#, "`tomorrow`"),
            (r#""2026-01-31T18:00:00""#, "`2026-01-31T18:00:00`"),
            (r#""10 s""#, "RFC 3339"),
            ("60", "60"),
        ] {
            let error = with(deadline).unwrap_err();
            assert_eq!(error.pointer(), Some("/deadline"), "{deadline}");
            assert!(error.to_string().contains(shown), "{error}");
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_refused_with_its_pointer() {
        let json = r#"{"images":["https://a.example/1.jpg"],"deadline":"2026-01-31T18:00:00Z"}"#;
        let valid = request(json).validate("gateway").unwrap();
        let deadline = valid.deadline.unwrap();
        let moment = chrono::TimeDelta::milliseconds(1);
        valid.check_deadline(deadline - moment, "gateway").unwrap();
        for now in [deadline, deadline + moment] {
            let error = valid.check_deadline(now, "gateway").unwrap_err();
            assert_eq!(error.code, ErrorCode::DeadlineExceeded);
            assert_eq!(error.details.pointer.as_deref(), Some("/deadline"));
            assert!(
                error.message.contains("2026-01-31T18:00:00.000Z"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn a_priority_is_one_of_two_and_usually_interactive() {
        let without = r#"{"images":["https://a.example/1.jpg"]}"#;
        let parsed = request(without);
        assert_eq!(parsed.priority, Priority::Interactive);
        let written = serde_json::to_string(&parsed).unwrap();
        assert!(!written.contains("priority"), "{written}");
        let bulk = request(r#"{"images":["https://a.example/1.jpg"],"priority":"bulk"}"#);
        let valid = bulk.validate("gateway").unwrap();
        assert_eq!(TaskRequest::from(valid).priority, Priority::Bulk);
        let urgent = r#"{"images":["https://a.example/1.jpg"],"priority":"urgent"}"#;
        let error = from_json::<TaskRequest>(urgent.as_bytes()).unwrap_err();
        assert_eq!(error.pointer(), Some("/priority"));
        for word in ["urgent", "interactive", "bulk"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
