//! One partition: its segments, its producers, and how far it reaches.
//!
//! Invariants: offsets only grow; `log_start <= last stable offset <= next offset`; `durable_end` is what a power cut
//! leaves. Everything here is called under the lock of [`super::Partition`] and does no waiting besides the disk's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{HEADER_BYTES, Marker, checksum_matches};
use super::producers::ProducerTable;
use super::records::Records;
use super::segment::{Scanned, Scanner, Segment};
use crate::topics::TopicConfig;

/// The state of one partition.
pub struct PartitionLog {
    pub(super) dir: PathBuf,
    pub(super) config: Arc<TopicConfig>,
    pub(super) fsync: bool,
    pub(super) segments: Vec<Segment>,
    pub(super) active: Segment,
    pub(super) producers: ProducerTable,
    pub(super) log_start: i64,
    pub(super) durable_end: i64,
    pub(super) offline: Option<String>,
}

impl PartitionLog {
    /// Opens the partition that lies in `dir`, creating it when there is none, and repairs its tail.
    pub fn open(
        dir: &Path,
        config: Arc<TopicConfig>,
        fsync: bool,
        stored_log_start: i64,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let bases = segment_bases(dir)?;
        let mut producers = ProducerTable::default();
        let mut segments = Vec::with_capacity(bases.len());
        for (position, base_offset) in bases.iter().enumerate() {
            let mut segment = Segment::open(dir, *base_offset)?;
            let is_last = position + 1 == bases.len();
            match segment.load_sidecar() {
                Some(snapshot) => producers = snapshot,
                None => recover_segment(&mut segment, &mut producers)?,
            }
            if is_last {
                // It will grow: facts written now would not be those of the file that a crash leaves.
                segment.delete_sidecar()?;
            }
            segments.push(segment);
        }
        let active = match segments.pop() {
            Some(last) => last,
            None => Segment::open(dir, stored_log_start)?,
        };
        if fsync {
            active.file.sync_data()?;
            sync_directory(dir)?;
        }
        let first_base = segments
            .first()
            .map_or(active.base_offset, |segment| segment.base_offset);
        let next_offset = active.facts.next_offset;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            fsync,
            segments,
            active,
            producers,
            log_start: first_base.max(stored_log_start).min(next_offset),
            durable_end: next_offset,
            offline: None,
        })
    }

    /// First offset that can be read.
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// Offset that the next record will get.
    pub fn next_offset(&self) -> i64 {
        self.active.facts.next_offset
    }

    /// Everything before it is decided: no record of an open transaction lies below.
    pub fn last_stable_offset(&self) -> i64 {
        self.producers
            .first_open_offset()
            .unwrap_or_else(|| self.next_offset())
    }

    /// Everything before it outlives a power cut (or, without fsync, the process).
    pub fn durable_end(&self) -> i64 {
        self.durable_end
    }

    /// What the partition knows of its producers.
    pub fn producers(&self) -> &ProducerTable {
        &self.producers
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.all_segments().map(|segment| segment.facts.bytes).sum()
    }

    /// Replaces the topic's settings.
    pub fn set_config(&mut self, config: Arc<TopicConfig>) {
        self.config = config;
    }

    /// The handle to sync, and how far the log reaches now.
    pub fn sync_point(&self) -> (Arc<std::fs::File>, i64) {
        (Arc::clone(&self.active.file), self.next_offset())
    }

    /// A sync that began when the log reached to `end` has ended well.
    pub fn mark_durable(&mut self, end: i64) {
        self.durable_end = self.durable_end.max(end);
    }

    /// A sync failed: nobody knows what the disk holds, so nothing more is written before a restart has read it.
    pub fn take_offline(&mut self, reason: String) {
        self.offline.get_or_insert(reason);
    }

    pub(super) fn active_mut(&mut self) -> &mut Segment {
        &mut self.active
    }

    pub(super) fn all_segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().chain(std::iter::once(&self.active))
    }

    pub(super) fn active_is_full(&self, incoming_bytes: usize, now_ms: i64) -> bool {
        let facts = &self.active.facts;
        let grown = facts.bytes + u64::try_from(incoming_bytes).unwrap_or(u64::MAX);
        let age_ms = facts
            .first_timestamp_ms
            .map_or(0, |first| now_ms.saturating_sub(first));
        let offsets = facts.next_offset - self.active.base_offset;
        facts.bytes > 0
            && (grown > self.config.segment_bytes
                || age_ms > self.config.segment_ms
                || offsets > i64::from(i32::MAX / 2))
    }

    /// Seals the active segment and starts a new one at the next offset.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        let fresh = Segment::open(&self.dir, self.next_offset())?;
        if self.fsync {
            self.active.file.sync_data()?;
            sync_directory(&self.dir)?;
            self.durable_end = self.next_offset();
        }
        if let Err(error) = self.active.write_sidecar(&self.producers) {
            tracing::warn!(segment = %self.active.path.display(), %error, "facts beside a sealed segment not written; the next start reads the segment instead");
        }
        let sealed = std::mem::replace(&mut self.active, fresh);
        self.segments.push(sealed);
        Ok(())
    }

    /// Writes what saves the next start a scan. Called at a graceful stop, after which nothing is appended.
    pub fn close(&mut self) -> io::Result<()> {
        if self.fsync {
            self.active.file.sync_data()?;
        }
        if self.active.is_empty() {
            Ok(())
        } else {
            self.active.write_sidecar(&self.producers)
        }
    }
}

/// Makes new or renamed entries of a directory durable.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

fn segment_bases(dir: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let base = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse::<i64>().ok());
        match (
            path.extension().and_then(|extension| extension.to_str()),
            base,
        ) {
            (Some("log"), Some(base)) => bases.push(base),
            // What a crash left of a compaction or of a sidecar before its rename.
            (Some("new"), _) => std::fs::remove_file(&path)?,
            _ => {}
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Reads a segment batch by batch, checks every checksum, and cuts off what follows the last whole batch.
fn recover_segment(segment: &mut Segment, producers: &mut ProducerTable) -> io::Result<()> {
    let file_bytes = segment.file.metadata()?.len();
    let mut scanner = Scanner::new(Arc::clone(&segment.file), 0, file_bytes);
    while let Scanned::Batch {
        position,
        header,
        bytes,
    } = scanner.next_batch()?
    {
        let follows =
            header.base_offset >= segment.facts.next_offset && header.last_offset_delta >= 0;
        if header.magic != 2 || !follows || !checksum_matches(&header, bytes) {
            break;
        }
        if header.is_control() {
            let first = Records::new(&bytes[HEADER_BYTES..], header.record_count).next();
            let key = first.and_then(Result::ok).and_then(|record| record.key);
            let Some(marker) = key.and_then(Marker::from_control_key) else {
                break;
            };
            segment.note(&header, position);
            if let Some(aborted) = producers.note_marker(&header, marker) {
                segment.facts.aborted.push(aborted);
            }
        } else {
            segment.note(&header, position);
            producers.note(&header);
        }
    }
    if segment.facts.bytes < file_bytes {
        let cut_bytes = file_bytes - segment.facts.bytes;
        tracing::warn!(segment = %segment.path.display(), cut_bytes, "cut off a torn tail");
        segment.file.set_len(segment.facts.bytes)?;
    }
    Ok(())
}
