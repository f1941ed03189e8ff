//! When a record of a retry topic is due.
//!
//! Invariant: no header makes a partition wait longer than the longest wait that the runtime itself would have set.

use atelier_schemas::envelope::header;
use chrono::{DateTime, TimeDelta, Utc};

use crate::{options::RetryOptions, record::InRecord};

/// The due time of a record, where it has one. Somebody may have written year 9999 there: that is cut to the longest wait.
pub(crate) fn due_at(record: &InRecord, retry: &RetryOptions) -> Option<DateTime<Utc>> {
    let text = record.header_text(header::NOT_BEFORE)?;
    let not_before = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    let longest_ms = i64::try_from(retry.max_delay_ms).unwrap_or(i64::MAX);
    let longest = TimeDelta::try_milliseconds(longest_ms).unwrap_or(TimeDelta::MAX);
    Some(
        not_before.min(
            record
                .timestamp
                .checked_add_signed(longest)
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Header, TopicPartition};

    fn record(not_before: &str) -> InRecord {
        InRecord {
            source: TopicPartition {
                topic: "matte-retry".into(),
                partition: 0,
            },
            offset: 0,
            key: None,
            headers: vec![Header::text(header::NOT_BEFORE, not_before)],
            value: None,
            timestamp: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        }
    }

    #[test]
    fn a_far_future_is_cut_and_garbage_is_due_at_once() {
        let retry = RetryOptions::default();
        let due = due_at(&record("9999-12-31T23:59:59Z"), &retry).unwrap();
        assert_eq!(due.timestamp(), 1_700_000_300);
        let soon = due_at(&record("2023-11-14T22:13:21Z"), &retry).unwrap();
        assert_eq!(soon.timestamp(), 1_700_000_001);
        assert_eq!(due_at(&record("tomorrow"), &retry), None);
    }
}
