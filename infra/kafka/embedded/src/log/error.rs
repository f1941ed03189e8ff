//! Why a partition refuses an append or a read, each with the Kafka error code that says so.

use std::io;

use kafka_protocol::ResponseError;

use super::records::RecordError;

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The checksum does not match or the bytes are no batch.
    #[error("the record batch is corrupt: {0}")]
    Corrupt(&'static str),
    /// The batch is whole but breaks a rule.
    #[error("the record batch is not valid: {0}")]
    Invalid(String),
    /// Too many bytes for this topic.
    #[error(
        "the record batch has {actual_bytes} bytes, the topic takes {limit_bytes} (max.message.bytes)"
    )]
    TooLarge {
        /// Bytes of the batch.
        actual_bytes: usize,
        /// The topic's limit.
        limit_bytes: usize,
    },
    /// A batch format before v2.
    #[error("record format v{0} is not served, only v2 is")]
    UnsupportedFormat(i8),
    /// A codec that nobody could read again.
    #[error("compression codec {0} is not known; use none, gzip, snappy, lz4 or zstd")]
    UnsupportedCodec(i16),
    /// A producer with a later epoch has taken over.
    #[error("producer {producer_id} has epoch {current}, not {stale}")]
    StaleEpoch {
        /// Whose batch it is.
        producer_id: i64,
        /// The epoch that it has.
        stale: i16,
        /// The epoch in force.
        current: i16,
    },
    /// Batches of this producer are missing before this one.
    #[error("producer {producer_id} sent sequence {actual}, {expected} was next")]
    OutOfOrder {
        /// Whose batch it is.
        producer_id: i64,
        /// The sequence that it has.
        actual: i32,
        /// The sequence that was next.
        expected: i32,
    },
    /// The disk refused the write; it was rolled back.
    #[error("the record batch could not be written: {0}")]
    Storage(#[source] io::Error),
    /// An earlier sync failed: what the disk holds is unknown until a restart reads it.
    #[error("the partition takes no writes since a sync failed ({0}); restart the broker")]
    Offline(String),
}

impl AppendError {
    /// The code that tells a client.
    pub fn code(&self) -> ResponseError {
        match self {
            Self::Corrupt(_) => ResponseError::CorruptMessage,
            Self::Invalid(_) => ResponseError::InvalidRecord,
            Self::TooLarge { .. } => ResponseError::MessageTooLarge,
            Self::UnsupportedFormat(_) => ResponseError::UnsupportedForMessageFormat,
            Self::UnsupportedCodec(_) => ResponseError::UnsupportedCompressionType,
            Self::StaleEpoch { .. } => ResponseError::InvalidProducerEpoch,
            Self::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
            Self::Storage(_) | Self::Offline(_) => ResponseError::KafkaStorageError,
        }
    }
}

impl From<RecordError> for AppendError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::UnknownCodec(codec) => Self::UnsupportedCodec(codec),
            other => Self::Invalid(other.to_string()),
        }
    }
}

/// Why a read or a look-up gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset lies before the first or after the last record.
    #[error("offset {offset} is not between {log_start} and {log_end}")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
        /// First offset there is.
        log_start: i64,
        /// Offset that the next record will get.
        log_end: i64,
    },
    /// The disk refused the read, or what it gave is not what was written.
    #[error("the partition could not be read: {0}")]
    Storage(#[from] io::Error),
}

impl ReadError {
    /// The code that tells a client.
    pub fn code(&self) -> ResponseError {
        match self {
            Self::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
            Self::Storage(_) => ResponseError::KafkaStorageError,
        }
    }
}
