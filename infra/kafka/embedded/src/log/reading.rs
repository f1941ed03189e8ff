//! Reading a partition: slices of the segment file for fetches, look-ups by time for `ListOffsets`.
//!
//! Invariant: a plan is made under the partition's lock and carried out without it. It holds the file's handle and never
//! looks beyond the length that was valid then, so appends, retention and compaction go on meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::appending::MAX_INFLATED_BYTES;
use super::batch::BatchHeader;
use super::error::ReadError;
use super::partition::PartitionLog;
use super::producers::AbortedTransaction;
use super::records::{Records, decompressed};
use super::segment::{Scanned, Scanner, Segment};

/// A read starts at an index entry; this much is read on top so that the batches before the wanted one fit.
const LEAD_BYTES: usize = 32 * 1024;

/// What a consumer may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything that was appended.
    ReadUncommitted,
    /// Only what is decided, and durable.
    ReadCommitted,
}

impl Isolation {
    /// From the number on the wire.
    pub fn from_wire(level: i8) -> Self {
        if level == 1 {
            Self::ReadCommitted
        } else {
            Self::ReadUncommitted
        }
    }
}

/// The offsets that every fetch answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Offset that the next record will get.
    pub high_watermark: i64,
    /// No record before it is undecided.
    pub last_stable: i64,
    /// First offset there is.
    pub log_start: i64,
}

/// A read that is ready to be carried out.
pub struct ReadPlan {
    /// The partition's offsets when the plan was made.
    pub watermarks: Watermarks,
    source: Option<(Arc<File>, u64, u64)>,
    offset: i64,
    upper_offset: i64,
    aborted: Vec<AbortedTransaction>,
}

/// What a read gave.
pub struct Slice {
    /// Whole batches; the first may begin before the wanted offset.
    pub records: Bytes,
    /// Aborted transactions among them, by first offset.
    pub aborted: Vec<AbortedTransaction>,
}

impl PartitionLog {
    /// The partition's offsets.
    pub fn watermarks(&self) -> Watermarks {
        Watermarks {
            high_watermark: self.next_offset(),
            last_stable: self.last_stable_offset(),
            log_start: self.log_start(),
        }
    }

    /// The first offset that `isolation` hides.
    pub fn upper_offset(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.next_offset(),
            Isolation::ReadCommitted => self.last_stable_offset().min(self.durable_end()),
        }
    }

    /// Plans a read from `offset` on.
    pub fn plan_read(&self, offset: i64, isolation: Isolation) -> Result<ReadPlan, ReadError> {
        let watermarks = self.watermarks();
        if offset < watermarks.log_start || offset > watermarks.high_watermark {
            return Err(ReadError::OutOfRange {
                offset,
                log_start: watermarks.log_start,
                log_end: watermarks.high_watermark,
            });
        }
        let upper_offset = self.upper_offset(isolation);
        let mut plan = ReadPlan {
            watermarks,
            source: None,
            offset,
            upper_offset,
            aborted: Vec::new(),
        };
        if offset >= upper_offset {
            return Ok(plan);
        }
        let first = self
            .segments
            .partition_point(|segment| segment.facts.next_offset <= offset);
        let segment = self.segments.get(first).unwrap_or(&self.active);
        plan.source = Some((
            Arc::clone(&segment.file),
            segment.position_before(offset),
            segment.facts.bytes,
        ));
        if isolation == Isolation::ReadCommitted {
            let later = self
                .segments
                .get(first..)
                .unwrap_or_default()
                .iter()
                .chain(std::iter::once(&self.active));
            let aborted = later.flat_map(|segment| &segment.facts.aborted);
            plan.aborted
                .extend(aborted.filter(|transaction| transaction.last_offset >= offset));
        }
        Ok(plan)
    }

    /// Plans a look-up of the first record at or after `timestamp_ms`; `None` when there is no such record.
    pub fn plan_time_lookup(&self, timestamp_ms: i64) -> Option<TimeLookup> {
        let segment = self.all_segments().find(|segment| {
            segment.facts.max_timestamp_ms >= timestamp_ms
                && segment.facts.next_offset > self.log_start
        })?;
        Some(TimeLookup::new(
            segment,
            segment.position_before_time(timestamp_ms),
            timestamp_ms,
            self.log_start,
        ))
    }

    /// Plans a look-up of the record with the largest timestamp; `None` when the partition is empty.
    pub fn plan_latest_time_lookup(&self) -> Option<TimeLookup> {
        let visible = self
            .all_segments()
            .filter(|segment| segment.facts.next_offset > self.log_start);
        let segment = visible.max_by_key(|segment| segment.facts.max_timestamp_ms)?;
        if segment.is_empty() {
            return None;
        }
        let position = segment.position_before(segment.facts.max_timestamp_offset);
        Some(TimeLookup::new(
            segment,
            position,
            segment.facts.max_timestamp_ms,
            self.log_start,
        ))
    }
}

impl ReadPlan {
    /// Reads whole batches of at most `max_bytes` together; the first one counts as fitting when `at_least_one` is set.
    pub fn carry_out(self, max_bytes: usize, at_least_one: bool) -> io::Result<Slice> {
        let Some((file, position, end)) = &self.source else {
            return Ok(Slice {
                records: Bytes::new(),
                aborted: Vec::new(),
            });
        };
        let (records, next_offset) =
            self.read_batches(file, *position, *end, max_bytes, at_least_one)?;
        let mut aborted = self.aborted;
        aborted.retain(|transaction| transaction.first_offset < next_offset);
        aborted.sort_unstable_by_key(|transaction| transaction.first_offset);
        Ok(Slice { records, aborted })
    }

    fn read_batches(
        &self,
        file: &File,
        mut position: u64,
        end: u64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> io::Result<(Bytes, i64)> {
        loop {
            let mut buffer = read_some(file, position, end, LEAD_BYTES.saturating_add(max_bytes))?;
            let Some((start, header)) = self.skip_to_wanted(&buffer) else {
                return Ok((Bytes::new(), self.offset));
            };
            let Some(header) = header else {
                if start == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                position += u64::try_from(start).map_err(io::Error::other)?;
                continue;
            };
            if header.total_bytes > max_bytes && !at_least_one {
                return Ok((Bytes::new(), self.offset));
            }
            if start + header.total_bytes > buffer.len() {
                position += u64::try_from(start).map_err(io::Error::other)?;
                let mut whole = read_some(file, position, end, header.total_bytes)?;
                if whole.len() < header.total_bytes {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                whole.truncate(header.total_bytes);
                return Ok((whole.freeze(), header.next_offset()));
            }
            let (taken, next_offset) = self.measure(&buffer[start..], max_bytes);
            buffer.truncate(start + taken);
            return Ok((buffer.freeze().slice(start..), next_offset));
        }
    }

    /// Where in `buffer` the first wanted batch begins. No header: it lies behind the buffer, from there on. `None`: no
    /// batch may be seen.
    fn skip_to_wanted(&self, buffer: &[u8]) -> Option<(usize, Option<BatchHeader>)> {
        let mut at = 0;
        loop {
            let Some(header) = buffer.get(at..).and_then(BatchHeader::parse) else {
                return Some((at, None));
            };
            if header.base_offset >= self.upper_offset {
                return None;
            }
            if header.last_offset() >= self.offset {
                return Some((at, Some(header)));
            }
            at += header.total_bytes;
        }
    }

    /// Bytes of the batches at the front of `buffer` that are whole, visible and fit; the first one always fits.
    fn measure(&self, buffer: &[u8], max_bytes: usize) -> (usize, i64) {
        let (mut taken, mut next_offset) = (0, self.offset);
        while let Some(header) = BatchHeader::parse(&buffer[taken..]) {
            let with_it = taken + header.total_bytes;
            let fits = taken == 0 || with_it <= max_bytes;
            if header.base_offset >= self.upper_offset || with_it > buffer.len() || !fits {
                break;
            }
            taken = with_it;
            next_offset = header.next_offset();
        }
        (taken, next_offset)
    }
}

fn read_some(file: &File, position: u64, end: u64, wanted: usize) -> io::Result<BytesMut> {
    let left = usize::try_from(end.saturating_sub(position)).map_err(io::Error::other)?;
    let mut buffer = BytesMut::zeroed(wanted.min(left));
    file.read_exact_at(&mut buffer, position)?;
    Ok(buffer)
}

/// A look-up by time that is ready to be carried out.
pub struct TimeLookup {
    scanner: Scanner,
    timestamp_ms: i64,
    log_start: i64,
}

impl TimeLookup {
    fn new(segment: &Segment, position: u64, timestamp_ms: i64, log_start: i64) -> Self {
        let scanner = Scanner::new(Arc::clone(&segment.file), position, segment.facts.bytes);
        Self {
            scanner,
            timestamp_ms,
            log_start,
        }
    }

    /// Offset and timestamp of the first record that is late enough. A batch that producers compressed in a way that
    /// cannot be opened is answered with its first offset, which is never too late.
    pub fn carry_out(mut self) -> io::Result<Option<(i64, i64)>> {
        while let Scanned::Batch { header, bytes, .. } = self.scanner.next_batch()? {
            let wanted = header.max_timestamp_ms >= self.timestamp_ms
                && header.last_offset() >= self.log_start
                && !header.is_control();
            if !wanted {
                continue;
            }
            if header.is_log_append_time() {
                return Ok(Some((
                    header.base_offset.max(self.log_start),
                    header.max_timestamp_ms,
                )));
            }
            let Ok(payload) = decompressed(&header, bytes, MAX_INFLATED_BYTES) else {
                return Ok(Some((
                    header.base_offset.max(self.log_start),
                    header.max_timestamp_ms,
                )));
            };
            for record in Records::new(&payload, header.record_count).map_while(Result::ok) {
                let offset = header.base_offset + i64::from(record.offset_delta);
                let timestamp_ms = header.first_timestamp_ms + record.timestamp_delta_ms;
                if timestamp_ms >= self.timestamp_ms && offset >= self.log_start {
                    return Ok(Some((offset, timestamp_ms)));
                }
            }
        }
        Ok(None)
    }
}
