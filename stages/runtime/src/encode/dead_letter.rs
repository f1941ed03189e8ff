//! What a dead letter looks like.
//!
//! Invariant: it has the key, value and headers of its input as they came, and fits its topic.

use atelier_schemas::ErrorBody;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};

use super::Encoder;
use crate::record::{Header, InRecord, OutRecord};

/// Headers of dead letters. The first five are those of Kafka Connect.
pub mod error_header {
    /// Prefix of Kafka Connect's headers.
    pub const CONNECT_PREFIX: &str = "__connect.errors.";
    /// Prefix of Atelier's own.
    pub const ATELIER_PREFIX: &str = "__atelier.errors.";
    /// Where the record was read.
    pub const TOPIC: &str = "__connect.errors.topic";
    /// In which partition.
    pub const PARTITION: &str = "__connect.errors.partition";
    /// At which offset.
    pub const OFFSET: &str = "__connect.errors.offset";
    /// The error's type.
    pub const EXCEPTION_CLASS: &str = "__connect.errors.exception.class.name";
    /// The error's text.
    pub const EXCEPTION_MESSAGE: &str = "__connect.errors.exception.message";
    /// The stage that gave up.
    pub const STAGE: &str = "__atelier.errors.stage";
    /// The stable code.
    pub const CODE: &str = "__atelier.errors.code";
    /// RFC 6901 pointer of the value at fault.
    pub const POINTER: &str = "__atelier.errors.pointer";
    /// Attempts that were made.
    pub const ATTEMPTS: &str = "__atelier.errors.attempts";
    /// When the stage gave up, RFC 3339.
    pub const TIME: &str = "__atelier.errors.time";
    /// How many bytes the value had, where it could not be kept.
    pub const OMITTED_VALUE_BYTES: &str = "__atelier.errors.omitted-value-bytes";
}

/// Longest error text in a header, in characters.
const MAX_MESSAGE_CHARACTERS: usize = 2_000;
/// Headers longer than this are left out of a dead letter that is too large otherwise.
const SHORT_HEADER_BYTES: usize = 1_024;
/// Most of the original headers in a dead letter that is too large otherwise.
const MOST_SHORT_HEADERS: usize = 64;

impl Encoder {
    pub(super) fn dead_letter(
        &self,
        read: &InRecord,
        mut record: OutRecord,
        error: &ErrorBody,
        attempts: u32,
        now: DateTime<Utc>,
    ) -> OutRecord {
        let original_headers = std::mem::take(&mut record.headers);
        let mut headers: Vec<Header> = original_headers
            .into_iter()
            .filter(|header| !is_error_header(&header.name))
            .collect();
        let original_count = headers.len();
        headers.extend([
            Header::text(error_header::TOPIC, &*read.source.topic),
            Header::text(error_header::PARTITION, read.source.partition.to_string()),
            Header::text(error_header::OFFSET, read.offset.to_string()),
            Header::text(error_header::EXCEPTION_CLASS, error.details.reason.clone()),
            Header::text(error_header::EXCEPTION_MESSAGE, cut(&error.message)),
            Header::text(error_header::STAGE, self.stage),
            Header::text(error_header::CODE, error.code.as_str()),
            Header::text(error_header::ATTEMPTS, attempts.to_string()),
            Header::text(
                error_header::TIME,
                now.to_rfc3339_opts(SecondsFormat::Millis, true),
            ),
        ]);
        if let Some(pointer) = &error.details.pointer {
            headers.push(Header::text(error_header::POINTER, cut(pointer)));
        }
        record.headers = headers;
        self.shrink(record, original_count)
    }

    /// A dead letter that its topic would refuse says how large its value was instead of carrying it: a partition that
    /// is stuck would be worse.
    fn shrink(&self, mut record: OutRecord, original_count: usize) -> OutRecord {
        if !self.fits(&record) {
            let omitted_bytes = record.value.take().map_or(0, |value| value.len());
            record.headers.push(Header::text(
                error_header::OMITTED_VALUE_BYTES,
                omitted_bytes.to_string(),
            ));
        }
        if !self.fits(&record) {
            let mut index = 0;
            let mut kept = 0;
            record.headers.retain(|header| {
                index += 1;
                let short = header.name.len() + header.value.as_ref().map_or(0, Bytes::len)
                    <= SHORT_HEADER_BYTES;
                let keep = index > original_count || (short && kept < MOST_SHORT_HEADERS);
                kept += usize::from(keep);
                keep
            });
            record.key = record.key.filter(|key| key.len() <= SHORT_HEADER_BYTES);
        }
        record
    }
}

/// Whether a header was set when its record became a dead letter.
fn is_error_header(name: &str) -> bool {
    name.starts_with(error_header::CONNECT_PREFIX) || name.starts_with(error_header::ATELIER_PREFIX)
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MESSAGE_CHARACTERS).collect()
}
