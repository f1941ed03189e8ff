//! The header of a record batch (format v2) as it lies in requests, segment files and fetch answers.
//!
//! Invariant: nothing here trusts a length it has not compared with the bytes at hand. The checksum covers the bytes
//! from the attributes on, so that base offset and leader epoch are written into a batch without computing it again.

/// Bytes of the fixed part of a batch, records not included.
pub const HEADER_BYTES: usize = 61;
/// Bytes before the part that the batch's own length field counts.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;
/// The leader epoch of every partition: one broker leads all of them from the first record on.
pub const LEADER_EPOCH: i32 = 0;
/// The producer id of batches that no idempotent producer wrote.
pub const NO_PRODUCER_ID: i64 = -1;
/// The sequence of batches that no idempotent producer wrote.
pub const NO_SEQUENCE: i32 = -1;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
const CRC_START: usize = 21;

/// The fixed part of one record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch, this header included.
    pub total_bytes: usize,
    /// Format version; 2 is the only one served.
    pub magic: i8,
    /// CRC-32C as the batch states it.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record relative to the first.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from, milliseconds.
    pub first_timestamp_ms: i64,
    /// Largest timestamp in the batch, milliseconds.
    pub max_timestamp_ms: i64,
    /// Producer id, or `NO_PRODUCER_ID`.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or `NO_SEQUENCE`.
    pub base_sequence: i32,
    /// How many records the batch says it has.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; `None` when there are too few bytes or the length makes no sense.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let stated_length = usize::try_from(read_i32(header, 8)).ok()?;
        let total_bytes = stated_length.checked_add(LENGTH_OVERHEAD_BYTES)?;
        if total_bytes < HEADER_BYTES {
            return None;
        }
        Some(Self {
            base_offset: read_i64(header, 0),
            total_bytes,
            magic: header[16].cast_signed(),
            crc: read_i32(header, 17).cast_unsigned(),
            attributes: read_i16(header, CRC_START),
            last_offset_delta: read_i32(header, 23),
            first_timestamp_ms: read_i64(header, 27),
            max_timestamp_ms: read_i64(header, 35),
            producer_id: read_i64(header, 43),
            producer_epoch: read_i16(header, 51),
            base_sequence: read_i32(header, 53),
            record_count: read_i32(header, 57),
        })
    }

    /// Writes the header's fields, checksum included as it stands, into the first bytes of `target`.
    pub fn write(&self, target: &mut [u8; HEADER_BYTES]) {
        let stated_length =
            i32::try_from(self.total_bytes - LENGTH_OVERHEAD_BYTES).unwrap_or(i32::MAX);
        target[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        target[8..12].copy_from_slice(&stated_length.to_be_bytes());
        target[12..16].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
        target[16] = self.magic.cast_unsigned();
        target[17..21].copy_from_slice(&self.crc.to_be_bytes());
        target[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        target[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        target[27..35].copy_from_slice(&self.first_timestamp_ms.to_be_bytes());
        target[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        target[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        target[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        target[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        target[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// The header as bytes with the checksum computed over it and the `payload` that follows.
    pub fn seal(mut self, payload: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        self.total_bytes = HEADER_BYTES + payload.len();
        self.write(&mut bytes);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[CRC_START..]), payload);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset that follows this batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Sequence of the last record; sequences wrap at `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        advance_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// The codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes & CODEC_MASK
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a marker of the broker's own.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether the timestamps are the broker's.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Makes `max_timestamp_ms` the time of every record, as topics with log append time want it.
    pub fn stamp_log_append_time(&mut self, now_ms: i64) {
        self.attributes |= LOG_APPEND_TIME_BIT;
        self.max_timestamp_ms = now_ms;
    }

    /// Makes the batch an ordinary one: what a decided transaction leaves behind after compaction.
    pub fn clear_transactional(&mut self) {
        self.attributes &= !TRANSACTIONAL_BIT;
    }

    /// A batch of nobody's that takes up the same offsets and holds nothing.
    pub fn without_records(mut self) -> Self {
        self.attributes = 0;
        self.max_timestamp_ms = -1;
        self.first_timestamp_ms = -1;
        self.producer_id = NO_PRODUCER_ID;
        self.producer_epoch = -1;
        self.base_sequence = NO_SEQUENCE;
        self.record_count = 0;
        self
    }

    /// Marks the payload as not compressed.
    pub fn clear_codec(&mut self) {
        self.attributes &= !CODEC_MASK;
    }
}

/// Whether the checksum in `batch` (one whole batch) is that of its bytes.
pub fn checksum_matches(header: &BatchHeader, batch: &[u8]) -> bool {
    crc32c::crc32c(&batch[CRC_START..header.total_bytes]) == header.crc
}

/// `sequence` moved on by `delta` records, wrapping at `i32::MAX` to 0 as Kafka's producers do.
pub fn advance_sequence(sequence: i32, delta: i32) -> i32 {
    if sequence > i32::MAX - delta {
        delta - (i32::MAX - sequence) - 1
    } else {
        sequence + delta
    }
}

/// Whether a transaction was committed or aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The transaction's records count.
    Commit,
    /// The transaction's records are to be skipped.
    Abort,
}

impl Marker {
    /// The whole control batch that ends a transaction of this producer.
    pub fn encode(
        self,
        base_offset: i64,
        producer_id: i64,
        producer_epoch: i16,
        now_ms: i64,
    ) -> Vec<u8> {
        let mut record = vec![0, 0, 0];
        put_varint(&mut record, 4);
        record.extend_from_slice(&0_i16.to_be_bytes());
        record.extend_from_slice(&i16::from(self == Self::Commit).to_be_bytes());
        put_varint(&mut record, 6);
        record.extend_from_slice(&0_i16.to_be_bytes());
        record.extend_from_slice(&0_i32.to_be_bytes());
        record.push(0);
        let mut payload = Vec::with_capacity(record.len() + 1);
        put_varint(&mut payload, i64::try_from(record.len()).unwrap_or(0));
        payload.extend_from_slice(&record);
        let header = BatchHeader {
            base_offset,
            total_bytes: HEADER_BYTES + payload.len(),
            magic: 2,
            crc: 0,
            attributes: TRANSACTIONAL_BIT | CONTROL_BIT,
            last_offset_delta: 0,
            first_timestamp_ms: now_ms,
            max_timestamp_ms: now_ms,
            producer_id,
            producer_epoch,
            base_sequence: NO_SEQUENCE,
            record_count: 1,
        };
        let mut batch = header.seal(&payload).to_vec();
        batch.extend_from_slice(&payload);
        batch
    }

    /// Reads the decision from a control record's key.
    pub fn from_control_key(key: &[u8]) -> Option<Self> {
        match key.get(2..4)? {
            [0, 0] => Some(Self::Abort),
            [0, 1] => Some(Self::Commit),
            _ => None,
        }
    }
}

/// Appends `value` as a zigzag varint, the integer format inside records.
pub fn put_varint(target: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        target.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    target.push(u8::try_from(rest).unwrap_or(0));
}

fn read_i16(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn read_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn read_i64(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::records::Records;

    #[test]
    fn a_marker_is_a_valid_batch_that_names_its_decision() {
        for marker in [Marker::Commit, Marker::Abort] {
            let batch = marker.encode(41, 7, 3, 1_000);
            let header = BatchHeader::parse(&batch).unwrap();
            assert_eq!(header.total_bytes, batch.len());
            assert!(checksum_matches(&header, &batch));
            assert!(header.is_control() && header.is_transactional());
            assert_eq!(
                (
                    header.base_offset,
                    header.producer_id,
                    header.producer_epoch
                ),
                (41, 7, 3)
            );
            let record = Records::new(&batch[HEADER_BYTES..], 1)
                .next()
                .unwrap()
                .unwrap();
            assert_eq!(Marker::from_control_key(record.key.unwrap()), Some(marker));
        }
    }

    #[test]
    fn sequences_wrap_to_zero_after_the_largest() {
        assert_eq!(advance_sequence(i32::MAX, 1), 0);
        assert_eq!(advance_sequence(i32::MAX - 1, 3), 1);
        assert_eq!(advance_sequence(5, 2), 7);
    }

    #[test]
    fn a_length_field_that_lies_is_not_a_header() {
        let mut batch = Marker::Commit.encode(0, 1, 0, 0);
        batch[8..12].copy_from_slice(&(-5_i32).to_be_bytes());
        assert_eq!(BatchHeader::parse(&batch), None);
        assert_eq!(BatchHeader::parse(&batch[..60]), None);
    }
}
