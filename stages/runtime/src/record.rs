//! Records as the log holds them, independent of any client library.
//!
//! Invariant: a record that is read and written again (retry, dead letter, replay) keeps key, value and headers bit for bit.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// One header. Kafka allows a header without a value and several of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its bytes, usually text.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a text.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: Some(Bytes::from(value.into())),
        }
    }
}

/// Where a record stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct InRecord {
    /// Topic and partition.
    pub source: TopicPartition,
    /// Its place in the partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its headers in wire order.
    pub headers: Vec<Header>,
    /// Its value; absent on tombstones.
    pub value: Option<Bytes>,
    /// When it was written, as the log says.
    pub timestamp: DateTime<Utc>,
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRecord {
    /// The topic.
    pub topic: String,
    /// Decides on the partition.
    pub key: Option<Bytes>,
    /// Its headers in wire order.
    pub headers: Vec<Header>,
    /// Its value.
    pub value: Option<Bytes>,
}

/// What a record costs on the wire beside its parts: offsets, lengths, batch header. Generous.
const RECORD_OVERHEAD_BYTES: usize = 256;

impl InRecord {
    /// The text of the first header of that name, where it is UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        header_text(&self.headers, name)
    }
}

impl OutRecord {
    /// An upper bound of its size on the wire, in bytes.
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len) + 10)
            .sum();
        RECORD_OVERHEAD_BYTES
            + headers
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// The text of the first header of that name, where it is UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        header_text(&self.headers, name)
    }
}

/// The text of the first header of that name, where it is UTF-8.
pub fn header_text<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name == name)?;
    std::str::from_utf8(header.value.as_ref()?).ok()
}

/// Replaces every header of that name by one.
pub fn set_header(headers: &mut Vec<Header>, name: &str, value: impl Into<String>) {
    headers.retain(|header| header.name != name);
    headers.push(Header::text(name, value));
}
