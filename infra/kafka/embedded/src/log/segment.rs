//! One segment file: whole batches, one after the other, named after the offset of its first record.
//!
//! Invariant: `bytes` is the length up to which the file holds whole, valid batches; readers never look beyond it. A write
//! that fails is cut off again, so the next one starts at `bytes`. Everything else here (sparse index, largest timestamp,
//! aborted transactions) follows from the batches; a sealed segment keeps it in a file beside the log so that a start need
//! not read the log, and a file that does not match its log is ignored.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::{BatchHeader, HEADER_BYTES};
use super::producers::{AbortedTransaction, ProducerTable};

/// An index entry is made whenever this many bytes have been appended since the last.
const INDEX_INTERVAL_BYTES: u64 = 32 * 1024;

/// A place in the segment from which reading may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Base offset of the batch that lies there.
    pub offset: i64,
    /// Where it lies in the file.
    pub position: u64,
    /// Largest timestamp of everything before it in this segment, milliseconds.
    pub max_timestamp_before_ms: i64,
}

/// What follows from a segment's batches; the content of the file beside a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFacts {
    /// Bytes of whole batches.
    pub bytes: u64,
    /// Offset that follows the last record.
    pub next_offset: i64,
    /// Largest timestamp, -1 when there is none.
    pub max_timestamp_ms: i64,
    /// Base offset of the batch that has it.
    pub max_timestamp_offset: i64,
    /// Timestamp of the first batch, by which the segment's age counts.
    pub first_timestamp_ms: Option<i64>,
    /// When compaction was first over it, milliseconds since 1970.
    pub compacted_at_ms: Option<i64>,
    /// Tombstones that compaction left in it.
    pub tombstones: u64,
    /// Places from which reading may start.
    pub index: Vec<IndexEntry>,
    /// Transactions whose abort marker lies here.
    pub aborted: Vec<AbortedTransaction>,
}

#[derive(Serialize, Deserialize)]
struct Sidecar {
    facts: SegmentFacts,
    producers: ProducerTable,
}

impl Sidecar {
    /// Reads the file beside `log_path` if it is whole and belongs to a log of this length.
    fn load(log_path: &Path, log_bytes: u64) -> Option<Self> {
        let text = std::fs::read_to_string(sidecar_path(log_path)).ok()?;
        let (stated, json) = text.strip_suffix('\n')?.split_once(' ')?;
        if u32::from_str_radix(stated, 16).ok()? != crc32c::crc32c(json.as_bytes()) {
            return None;
        }
        let sidecar: Self = serde_json::from_str(json).ok()?;
        (sidecar.facts.bytes == log_bytes).then_some(sidecar)
    }
}

/// A segment, open for reading and, while it is the last one, for appending.
pub struct Segment {
    /// Offset after which the file is named; no record in it has a smaller one.
    pub base_offset: i64,
    /// The log file.
    pub path: PathBuf,
    /// Its handle, shared with reads that are under way.
    pub file: Arc<File>,
    /// What follows from its batches.
    pub facts: SegmentFacts,
    untidy_tail: bool,
}

impl Segment {
    /// Opens or creates the segment of `base_offset` in `dir`; its facts are yet unknown.
    pub fn open(dir: &Path, base_offset: i64) -> io::Result<Self> {
        let path = dir.join(format!("{base_offset:020}.log"));
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)?;
        Ok(Self {
            base_offset,
            path,
            file: Arc::new(file),
            facts: SegmentFacts::empty(base_offset),
            untidy_tail: false,
        })
    }

    /// A segment under construction: only its facts are used.
    pub fn detached(base_offset: i64, path: PathBuf, file: Arc<File>) -> Self {
        Self {
            base_offset,
            path,
            file,
            facts: SegmentFacts::empty(base_offset),
            untidy_tail: false,
        }
    }

    /// Writes one batch at the end, in one call; returns where it lies. On failure the file is as long as before.
    pub fn append(&mut self, header: &[u8; HEADER_BYTES], payload: &[u8]) -> io::Result<u64> {
        if self.untidy_tail {
            self.file.set_len(self.facts.bytes)?;
            self.untidy_tail = false;
        }
        let position = self.facts.bytes;
        if let Err(error) = write_all_vectored(&self.file, header, payload) {
            self.untidy_tail = self.file.set_len(position).is_err();
            return Err(error);
        }
        Ok(position)
    }

    /// Takes a batch that lies at `position` into account.
    pub fn note(&mut self, header: &BatchHeader, position: u64) {
        let facts = &mut self.facts;
        if position >= facts.index.last().map_or(0, |entry| entry.position) + INDEX_INTERVAL_BYTES {
            facts.index.push(IndexEntry {
                offset: header.base_offset,
                position,
                max_timestamp_before_ms: facts.max_timestamp_ms,
            });
        }
        if header.max_timestamp_ms > facts.max_timestamp_ms {
            facts.max_timestamp_ms = header.max_timestamp_ms;
            facts.max_timestamp_offset = header.base_offset;
        }
        facts
            .first_timestamp_ms
            .get_or_insert(header.max_timestamp_ms);
        facts.bytes = position + u64::try_from(header.total_bytes).unwrap_or(0);
        facts.next_offset = header.next_offset();
    }

    /// The last place known to lie at or before `offset`.
    pub fn position_before(&self, offset: i64) -> u64 {
        let after = self
            .facts
            .index
            .partition_point(|entry| entry.offset <= offset);
        after
            .checked_sub(1)
            .map_or(0, |at| self.facts.index[at].position)
    }

    /// The last place known to have nothing as late as `timestamp_ms` before it.
    pub fn position_before_time(&self, timestamp_ms: i64) -> u64 {
        let after = self
            .facts
            .index
            .partition_point(|entry| entry.max_timestamp_before_ms < timestamp_ms);
        after
            .checked_sub(1)
            .map_or(0, |at| self.facts.index[at].position)
    }

    /// Whether it holds no batch.
    pub fn is_empty(&self) -> bool {
        self.facts.bytes == 0
    }

    /// Writes the file beside a sealed segment. It only saves time: a failure is the caller's to log.
    pub fn write_sidecar(&self, producers: &ProducerTable) -> io::Result<()> {
        let sidecar = Sidecar {
            facts: self.facts.clone(),
            producers: producers.clone(),
        };
        let json = serde_json::to_string(&sidecar)?;
        let temporary = self.path.with_extension("facts.new");
        std::fs::write(
            &temporary,
            format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())),
        )?;
        std::fs::rename(&temporary, sidecar_path(&self.path))
    }

    /// Takes the facts from the file beside the log if it is whole and matches the log's length; returns the producers
    /// as they were at the segment's end.
    pub fn load_sidecar(&mut self) -> Option<ProducerTable> {
        let sidecar = Sidecar::load(&self.path, self.file.metadata().ok()?.len())?;
        self.facts = sidecar.facts;
        Some(sidecar.producers)
    }

    /// Removes the log and what lies beside it. Reads that are under way keep their handle.
    pub fn delete(&self) -> io::Result<()> {
        remove_if_there(&sidecar_path(&self.path))?;
        remove_if_there(&self.path)
    }

    /// Removes only the file beside the log.
    pub fn delete_sidecar(&self) -> io::Result<()> {
        remove_if_there(&sidecar_path(&self.path))
    }
}

impl SegmentFacts {
    /// The facts of a segment without batches.
    pub fn empty(base_offset: i64) -> Self {
        Self {
            bytes: 0,
            next_offset: base_offset,
            max_timestamp_ms: -1,
            max_timestamp_offset: base_offset,
            first_timestamp_ms: None,
            compacted_at_ms: None,
            tombstones: 0,
            index: Vec::new(),
            aborted: Vec::new(),
        }
    }
}

/// The producers as they were at the end of the sealed segment at `log_path`, if the file beside it can be used.
pub fn stored_producers(log_path: &Path, log_bytes: u64) -> Option<ProducerTable> {
    Sidecar::load(log_path, log_bytes).map(|sidecar| sidecar.producers)
}

fn sidecar_path(path: &Path) -> PathBuf {
    path.with_extension("facts")
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_all_vectored(mut file: &File, header: &[u8], payload: &[u8]) -> io::Result<()> {
    let mut parts = [IoSlice::new(header), IoSlice::new(payload)];
    let mut left = &mut parts[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a scan met.
pub enum Scanned<'a> {
    /// A batch whose bytes are all there. Its checksum has not been looked at.
    Batch {
        /// Where it lies in the file.
        position: u64,
        /// Its header.
        header: BatchHeader,
        /// All its bytes.
        bytes: &'a [u8],
    },
    /// The end, exactly behind a batch.
    End,
    /// Bytes that are no whole batch.
    Torn,
}

/// Reads batches in order from a segment file, some hundred kilobytes at a time.
pub struct Scanner {
    file: Arc<File>,
    end: u64,
    position: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl Scanner {
    const READ_AHEAD_BYTES: u64 = 256 * 1024;

    /// Scans from `position` to `end`.
    pub fn new(file: Arc<File>, position: u64, end: u64) -> Self {
        Self {
            file,
            end,
            position,
            buffer: Vec::new(),
            buffer_start: position,
        }
    }

    /// The next batch, or why there is none.
    pub fn next_batch(&mut self) -> io::Result<Scanned<'_>> {
        if self.position >= self.end {
            return Ok(Scanned::End);
        }
        let left = self.end - self.position;
        let header_bytes = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
        if left < header_bytes {
            return Ok(Scanned::Torn);
        }
        let at = self.fill(header_bytes)?;
        let Some(header) = BatchHeader::parse(&self.buffer[at..]) else {
            return Ok(Scanned::Torn);
        };
        let total_bytes = u64::try_from(header.total_bytes).unwrap_or(u64::MAX);
        if total_bytes > left {
            return Ok(Scanned::Torn);
        }
        let at = self.fill(total_bytes)?;
        let position = self.position;
        self.position += total_bytes;
        Ok(Scanned::Batch {
            position,
            header,
            bytes: &self.buffer[at..at + header.total_bytes],
        })
    }

    /// Makes `wanted` bytes from `position` on available (the caller knows that the file has them); returns where in the
    /// buffer they begin.
    fn fill(&mut self, wanted: u64) -> io::Result<usize> {
        let buffered_end = self.buffer_start + u64::try_from(self.buffer.len()).unwrap_or(0);
        if self.position < self.buffer_start || self.position + wanted > buffered_end {
            let length = wanted
                .max(Self::READ_AHEAD_BYTES)
                .min(self.end - self.position);
            self.buffer
                .resize(usize::try_from(length).map_err(io::Error::other)?, 0);
            self.file.read_exact_at(&mut self.buffer, self.position)?;
            self.buffer_start = self.position;
        }
        usize::try_from(self.position - self.buffer_start).map_err(io::Error::other)
    }
}
