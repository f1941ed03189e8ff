//! Walks the records inside one batch's payload, decompressed where need be, without copying them.
//!
//! Invariant: a payload that lies about a length ends the walk with an error; no length field is believed before it is
//! compared with the bytes that are there, and no payload inflates beyond the limit that the caller names.

use std::borrow::Cow;
use std::io::Read;

use super::batch::{BatchHeader, HEADER_BYTES};

/// Why a payload could not be walked.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes do not follow the record format.
    #[error("record {index} does not follow the record format")]
    Malformed {
        /// Position of the faulty record in its batch.
        index: i32,
    },
    /// The batch holds more bytes than its records.
    #[error("{0} bytes follow the last record of the batch")]
    TrailingBytes(usize),
    /// The codec number is none of Kafka's.
    #[error("compression codec {0} is not known; use none, gzip, snappy, lz4 or zstd")]
    UnknownCodec(i16),
    /// The decompressor refused the payload.
    #[error("the payload does not decompress with codec {codec}: {reason}")]
    Compression {
        /// The codec number.
        codec: i16,
        /// What the decompressor said.
        reason: String,
    },
    /// The payload inflates beyond the limit.
    #[error("the payload inflates to more than {0} bytes")]
    Inflated(usize),
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Milliseconds after the batch's first timestamp.
    pub timestamp_delta_ms: i64,
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// The key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// Whether the value is not null (a null value is a tombstone).
    pub has_value: bool,
    /// The record with its length prefix, as it can be copied into another batch with the same base.
    pub raw: &'a [u8],
}

/// Iterator over the records of an uncompressed payload. After an error it ends.
pub struct Records<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
    failed: bool,
}

impl<'a> Records<'a> {
    /// Walks `payload`, in which the batch header promised `count` records.
    pub fn new(payload: &'a [u8], count: i32) -> Self {
        Self {
            rest: payload,
            index: 0,
            count,
            failed: false,
        }
    }

    fn take_record(&mut self) -> Option<RecordView<'a>> {
        let start = self.rest;
        let mut cursor = Cursor(start);
        let length = usize::try_from(cursor.varint()?).ok()?;
        let body = cursor.take(length)?;
        let raw = &start[..start.len() - cursor.0.len()];
        let mut fields = Cursor(body);
        fields.take(1)?;
        let timestamp_delta_ms = fields.varint()?;
        let offset_delta = i32::try_from(fields.varint()?).ok()?;
        let key = fields.nullable_bytes()?;
        let has_value = fields.nullable_bytes()?.is_some();
        let headers = fields.varint()?;
        for _ in 0..headers {
            fields.nullable_bytes()??;
            fields.nullable_bytes()?;
        }
        if headers < 0 || !fields.0.is_empty() {
            return None;
        }
        self.rest = cursor.0;
        Some(RecordView {
            timestamp_delta_ms,
            offset_delta,
            key,
            has_value,
            raw,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.index >= self.count {
            self.failed = true;
            return (!self.rest.is_empty())
                .then_some(Err(RecordError::TrailingBytes(self.rest.len())));
        }
        let index = self.index;
        self.index += 1;
        if let Some(record) = self.take_record() {
            return Some(Ok(record));
        }
        self.failed = true;
        Some(Err(RecordError::Malformed { index }))
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }

    /// `None`: the bytes do not fit. `Some(None)`: Kafka's null.
    #[expect(
        clippy::option_option,
        reason = "absent and malformed are different things here"
    )]
    fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.varint()?;
        if length == -1 {
            return Some(None);
        }
        self.take(usize::try_from(length).ok()?).map(Some)
    }
}

/// The payload of `batch` (one whole batch) with its compression undone.
pub fn decompressed<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    limit_bytes: usize,
) -> Result<Cow<'a, [u8]>, RecordError> {
    let payload = &batch[HEADER_BYTES..header.total_bytes];
    let codec = header.codec();
    let refused = |error: &dyn std::fmt::Display| RecordError::Compression {
        codec,
        reason: error.to_string(),
    };
    match codec {
        0 => Ok(Cow::Borrowed(payload)),
        1 => inflate(
            flate2::read::MultiGzDecoder::new(payload),
            limit_bytes,
            codec,
        ),
        2 => unsnap(payload, limit_bytes),
        3 => inflate(
            lz4_flex::frame::FrameDecoder::new(payload),
            limit_bytes,
            codec,
        ),
        4 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(payload)
                .map_err(|error| refused(&error))?;
            inflate(decoder, limit_bytes, codec)
        }
        unknown => Err(RecordError::UnknownCodec(unknown)),
    }
}

fn inflate<'a>(
    reader: impl Read,
    limit_bytes: usize,
    codec: i16,
) -> Result<Cow<'a, [u8]>, RecordError> {
    let mut inflated = Vec::new();
    let ceiling = u64::try_from(limit_bytes)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    reader
        .take(ceiling)
        .read_to_end(&mut inflated)
        .map_err(|error| RecordError::Compression {
            codec,
            reason: error.to_string(),
        })?;
    if inflated.len() > limit_bytes {
        return Err(RecordError::Inflated(limit_bytes));
    }
    Ok(Cow::Owned(inflated))
}

/// Producers frame snappy as `snappy-java` does (a magic, then blocks with a length each); some send one bare block.
fn unsnap<'a>(payload: &[u8], limit_bytes: usize) -> Result<Cow<'a, [u8]>, RecordError> {
    const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
    const XERIAL_HEADER_BYTES: usize = 16;
    let mut inflated = Vec::new();
    if !payload.starts_with(XERIAL_MAGIC) {
        unsnap_block(payload, limit_bytes, &mut inflated)?;
        return Ok(Cow::Owned(inflated));
    }
    let truncated = || RecordError::Compression {
        codec: 2,
        reason: "a block is cut short".to_owned(),
    };
    let mut rest = payload.get(XERIAL_HEADER_BYTES..).ok_or_else(truncated)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| truncated())?;
        let (block, after) = after.split_at_checked(length).ok_or_else(truncated)?;
        unsnap_block(block, limit_bytes, &mut inflated)?;
        rest = after;
    }
    Ok(Cow::Owned(inflated))
}

fn unsnap_block(
    block: &[u8],
    limit_bytes: usize,
    inflated: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let refused = |error: snap::Error| RecordError::Compression {
        codec: 2,
        reason: error.to_string(),
    };
    let length = snap::raw::decompress_len(block).map_err(refused)?;
    if inflated.len().saturating_add(length) > limit_bytes {
        return Err(RecordError::Inflated(limit_bytes));
    }
    inflated.extend_from_slice(
        &snap::raw::Decoder::new()
            .decompress_vec(block)
            .map_err(refused)?,
    );
    Ok(())
}
