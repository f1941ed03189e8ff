//! Appending to a partition: judge the batch, give it its offset, write it with one call, take note of it.
//!
//! Invariant: a batch is either in the log and in the books, or in neither.

use bytes::Bytes;

use super::batch::{
    BatchHeader, HEADER_BYTES, Marker, NO_PRODUCER_ID, NO_SEQUENCE, checksum_matches,
};
use super::error::AppendError;
use super::partition::PartitionLog;
use super::producers::Verdict;
use super::records::{Records, decompressed};
use super::segment::Segment;
use crate::topics::TopicConfig;

/// Compressed batches of compacted topics are opened to see their keys, up to this size.
pub const MAX_INFLATED_BYTES: usize = 64 * 1024 * 1024;

/// Where a batch came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset that follows its last record.
    pub next_offset: i64,
    /// The broker's time if the topic uses it, else -1.
    pub log_append_time_ms: i64,
    /// First offset of the partition.
    pub log_start_offset: i64,
}

/// A batch that has been checked as far as that needs no knowledge of the log.
pub struct CheckedBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl CheckedBatch {
    /// Checks what a producer sent for one partition: exactly one whole v2 batch that follows the format.
    pub fn check(bytes: Bytes, config: &TopicConfig) -> Result<Self, AppendError> {
        if let Some(magic @ 0..=1) = bytes.get(16).map(|magic| magic.cast_signed()) {
            return Err(AppendError::UnsupportedFormat(magic));
        }
        let header = BatchHeader::parse(&bytes)
            .ok_or(AppendError::Corrupt("it is shorter than its header"))?;
        if header.total_bytes > bytes.len() {
            return Err(AppendError::Corrupt(
                "it is shorter than its length field says",
            ));
        }
        if header.magic != 2 {
            return Err(AppendError::UnsupportedFormat(header.magic));
        }
        if header.total_bytes < bytes.len() {
            return Err(AppendError::Invalid(
                "a request holds exactly one batch per partition".to_owned(),
            ));
        }
        if header.total_bytes > config.max_message_bytes {
            return Err(AppendError::TooLarge {
                actual_bytes: header.total_bytes,
                limit_bytes: config.max_message_bytes,
            });
        }
        if !checksum_matches(&header, &bytes) {
            return Err(AppendError::Corrupt("its checksum does not match"));
        }
        check_rules(&header)?;
        check_records(&header, &bytes, config)?;
        Ok(Self { header, bytes })
    }

    /// The producer's id, epoch and whether the batch belongs to a transaction.
    pub fn producer(&self) -> (i64, i16, bool) {
        (
            self.header.producer_id,
            self.header.producer_epoch,
            self.header.is_transactional(),
        )
    }
}

fn check_rules(header: &BatchHeader) -> Result<(), AppendError> {
    if !(0..=4).contains(&header.codec()) {
        return Err(AppendError::UnsupportedCodec(header.codec()));
    }
    let broken = if header.is_control() {
        "control batches are the broker's own"
    } else if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
        "its record count does not match its offsets"
    } else if header.is_log_append_time() {
        "only the broker sets log append time"
    } else if header.producer_id != NO_PRODUCER_ID
        && (header.producer_epoch < 0 || header.base_sequence < 0)
    {
        "an idempotent producer needs an epoch and a sequence"
    } else if header.producer_id == NO_PRODUCER_ID
        && (header.is_transactional() || header.base_sequence != NO_SEQUENCE)
    {
        "a batch without producer id has no sequence and no transaction"
    } else {
        return Ok(());
    };
    Err(AppendError::Invalid(broken.to_owned()))
}

/// Compressed batches stay closed, except where compaction will have to open them.
fn check_records(
    header: &BatchHeader,
    bytes: &[u8],
    config: &TopicConfig,
) -> Result<(), AppendError> {
    if header.codec() != 0 && !config.cleanup.compact {
        return Ok(());
    }
    let payload = decompressed(header, bytes, MAX_INFLATED_BYTES)?;
    for (index, record) in (0..).zip(Records::new(&payload, header.record_count)) {
        let record = record?;
        if record.offset_delta != index {
            return Err(AppendError::Invalid(format!(
                "record {index} has offset delta {}",
                record.offset_delta
            )));
        }
        if config.cleanup.compact && record.key.is_none() {
            return Err(AppendError::Invalid(
                "a compacted topic takes no record without a key".to_owned(),
            ));
        }
    }
    Ok(())
}

impl PartitionLog {
    /// Appends a producer's batch, or recognises it as one that is stored already.
    pub fn append(&mut self, batch: &CheckedBatch, now_ms: i64) -> Result<Appended, AppendError> {
        self.refuse_if_offline()?;
        let mut header = batch.header;
        let stale = |current| AppendError::StaleEpoch {
            producer_id: header.producer_id,
            stale: header.producer_epoch,
            current,
        };
        match self.producers.judge(&header) {
            Verdict::Fresh => {}
            Verdict::Duplicate {
                base_offset,
                timestamp_ms,
            } => {
                return Ok(Appended {
                    base_offset,
                    next_offset: base_offset + i64::from(header.last_offset_delta) + 1,
                    log_append_time_ms: if self.config.log_append_time {
                        timestamp_ms
                    } else {
                        -1
                    },
                    log_start_offset: self.log_start,
                });
            }
            Verdict::StaleEpoch { current } => return Err(stale(current)),
            Verdict::OutOfOrder { expected } => {
                return Err(AppendError::OutOfOrder {
                    producer_id: header.producer_id,
                    actual: header.base_sequence,
                    expected,
                });
            }
        }
        header.base_offset = self.next_offset();
        let payload = &batch.bytes[HEADER_BYTES..];
        let header_bytes = if self.config.log_append_time {
            header.stamp_log_append_time(now_ms);
            header.seal(payload)
        } else {
            let mut bytes = [0; HEADER_BYTES];
            header.write(&mut bytes);
            bytes
        };
        self.write(&header, &header_bytes, payload, now_ms)?;
        self.producers.note(&header);
        Ok(Appended {
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            log_append_time_ms: if self.config.log_append_time {
                now_ms
            } else {
                -1
            },
            log_start_offset: self.log_start,
        })
    }

    /// Appends the marker that ends a producer's transaction here.
    pub fn append_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        marker: Marker,
        now_ms: i64,
    ) -> Result<(), AppendError> {
        self.refuse_if_offline()?;
        let all_before_is_durable = self.durable_end == self.next_offset();
        let batch = marker.encode(self.next_offset(), producer_id, producer_epoch, now_ms);
        let (header_bytes, payload) = batch
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(AppendError::Corrupt("a marker is shorter than its header"))?;
        let header =
            BatchHeader::parse(&batch).ok_or(AppendError::Corrupt("a marker is no batch"))?;
        self.write(&header, header_bytes, payload, now_ms)?;
        if let Some(aborted) = self.producers.note_marker(&header, marker) {
            self.active_mut().facts.aborted.push(aborted);
        }
        if all_before_is_durable {
            // The decision is on disk; a start writes the marker again if it is missing.
            self.durable_end = self.next_offset();
        }
        Ok(())
    }

    fn write(
        &mut self,
        header: &BatchHeader,
        header_bytes: &[u8; HEADER_BYTES],
        payload: &[u8],
        now_ms: i64,
    ) -> Result<(), AppendError> {
        if self.active_is_full(header.total_bytes, now_ms) {
            self.roll().map_err(AppendError::Storage)?;
        }
        let everything_durable = !self.fsync;
        let active: &mut Segment = self.active_mut();
        let position = active
            .append(header_bytes, payload)
            .map_err(AppendError::Storage)?;
        active.note(header, position);
        if everything_durable {
            self.durable_end = self.next_offset();
        }
        Ok(())
    }

    fn refuse_if_offline(&self) -> Result<(), AppendError> {
        match &self.offline {
            Some(reason) => Err(AppendError::Offline(reason.clone())),
            None => Ok(()),
        }
    }
}
