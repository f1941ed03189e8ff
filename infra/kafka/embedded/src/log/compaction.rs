//! Compaction: of every key only the last committed record stays; records keep their offsets and their order.
//!
//! Sealed segments that hold nothing undecided are read twice: once to learn the last offset of each key, once to write
//! what stays to a new file, which is synced and renamed over the old one. Aborted records go; committed ones become
//! ordinary records, so that the markers can go too. Tombstones stay for `delete.retention.ms` after the first pass.
//! Invariant: at every moment, a crash included, each segment is either the old file or the new one, and segments are
//! replaced from the oldest on, so that a marker never goes before its records.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::Partition;
use super::appending::MAX_INFLATED_BYTES;
use super::batch::BatchHeader;
use super::partition::{PartitionLog, sync_directory};
use super::producers::{AbortedTransaction, ProducerTable};
use super::records::{Records, decompressed};
use super::segment::{Scanned, Scanner, Segment, SegmentFacts, stored_producers};

/// Keys that one pass keeps in mind, some 40 bytes each; records behind the last of them stay until the next pass.
const MAX_KEYS: usize = 1_000_000;

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// Bytes of the segments after.
    pub bytes_after: u64,
}

struct Source {
    base_offset: i64,
    path: PathBuf,
    file: Arc<File>,
    facts: SegmentFacts,
}

/// A pass that is worth making.
struct Plan {
    sources: Vec<Source>,
    aborted: Vec<AbortedTransaction>,
    delete_retention_ms: i64,
    /// Offset that follows the last record of the partition.
    log_end: i64,
    fsync: bool,
    now_ms: i64,
}

impl PartitionLog {
    fn plan_compaction(&self, now_ms: i64) -> Option<Plan> {
        if !self.config.cleanup.compact || self.offline.is_some() {
            return None;
        }
        let stable = self.last_stable_offset();
        let horizon_ms = now_ms - self.config.min_compaction_lag_ms;
        let eligible = self.segments.iter().take_while(|segment| {
            segment.facts.next_offset <= stable && segment.facts.max_timestamp_ms <= horizon_ms
        });
        let sources: Vec<Source> = eligible
            .map(|segment| Source {
                base_offset: segment.base_offset,
                path: segment.path.clone(),
                file: Arc::clone(&segment.file),
                facts: segment.facts.clone(),
            })
            .collect();
        let total_bytes: u64 = sources.iter().map(|source| source.facts.bytes).sum();
        let is_dirty = |source: &&Source| source.facts.compacted_at_ms.is_none();
        let dirty_bytes: u64 = sources
            .iter()
            .filter(is_dirty)
            .map(|source| source.facts.bytes)
            .sum();
        // Rounding does not matter in a threshold.
        #[expect(clippy::cast_precision_loss, reason = "a ratio of file sizes")]
        let dirty_share = dirty_bytes as f64 / (total_bytes.max(1)) as f64;
        let is_due = dirty_bytes > 0 && dirty_share >= self.config.min_cleanable_dirty_ratio;
        let delete_retention_ms = self.config.delete_retention_ms;
        let tombstones_due = sources.iter().any(|source| {
            source.facts.tombstones > 0 && source.tombstones_may_go(delete_retention_ms, now_ms)
        });
        let aborted = self
            .all_segments()
            .flat_map(|segment| segment.facts.aborted.iter().copied())
            .collect();
        (is_due || tombstones_due).then_some(Plan {
            sources,
            aborted,
            delete_retention_ms,
            log_end: self.next_offset(),
            fsync: self.fsync,
            now_ms,
        })
    }

    /// Seals the active segment of a compacted partition when it is old enough, so that it can be compacted.
    pub fn roll_if_old(&mut self, now_ms: i64) -> io::Result<()> {
        if self.config.cleanup.compact && self.active_is_full(0, now_ms) {
            self.roll()
        } else {
            Ok(())
        }
    }

    /// Puts a rewritten segment in the place of the old one, if that is still there.
    fn replace(&mut self, base_offset: i64, rewritten: &Rewritten) -> io::Result<bool> {
        let Some(at) = self
            .segments
            .iter()
            .position(|segment| segment.base_offset == base_offset)
        else {
            std::fs::remove_file(&rewritten.path)?;
            return Ok(false);
        };
        if rewritten.facts.bytes == 0 {
            std::fs::remove_file(&rewritten.path)?;
            self.segments.remove(at).delete()?;
            return Ok(false);
        }
        std::fs::rename(&rewritten.path, &self.segments[at].path)?;
        let mut segment = Segment::open(&self.dir, base_offset)?;
        segment.facts = rewritten.facts.clone();
        self.segments[at] = segment;
        Ok(true)
    }
}

impl Source {
    fn tombstones_may_go(&self, delete_retention_ms: i64, now_ms: i64) -> bool {
        self.facts
            .compacted_at_ms
            .is_some_and(|at_ms| now_ms.saturating_sub(at_ms) >= delete_retention_ms)
    }
}

impl Partition {
    /// Makes a pass if one is due. Blocks on the disk; appends and reads go on meanwhile.
    pub fn compact(&self, now_ms: i64) -> io::Result<Option<Compacted>> {
        let Some(plan) = self.log().plan_compaction(now_ms) else {
            return Ok(None);
        };
        let last_offsets = LastOffsets::learn(&plan)?;
        let mut producers = ProducerTable::default();
        let mut compacted = Compacted::default();
        for source in &plan.sources {
            if let Some(stored) = stored_producers(&source.path, source.facts.bytes) {
                producers = stored;
            }
            let rewritten = plan.rewrite(source, &last_offsets)?;
            compacted.bytes_before += source.facts.bytes;
            compacted.bytes_after += rewritten.facts.bytes;
            let mut log = self.log();
            if log.replace(source.base_offset, &rewritten)? {
                if plan.fsync {
                    sync_directory(&log.dir)?;
                }
                let replaced = log
                    .segments
                    .iter()
                    .find(|segment| segment.base_offset == source.base_offset);
                if let Some(segment) = replaced {
                    segment.write_sidecar(&producers)?;
                }
            }
        }
        Ok(Some(compacted))
    }
}

impl Plan {
    fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && self.aborted.iter().any(|transaction| {
                transaction.producer_id == header.producer_id
                    && (transaction.first_offset..=transaction.last_offset)
                        .contains(&header.base_offset)
            })
    }

    /// Writes what stays of a segment beside it.
    fn rewrite(&self, source: &Source, last_offsets: &LastOffsets) -> io::Result<Rewritten> {
        let path = source.path.with_extension("new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let mut writer = BufWriter::new(file);
        let mut target =
            Segment::detached(source.base_offset, path.clone(), Arc::clone(&source.file));
        let drop_tombstones = source.tombstones_may_go(self.delete_retention_ms, self.now_ms);
        let mut tombstones = 0;
        let mut scanner = Scanner::new(Arc::clone(&source.file), 0, source.facts.bytes);
        while let Scanned::Batch { header, bytes, .. } = scanner.next_batch()? {
            let goes = header.is_control() || self.is_aborted(&header);
            let stays = |key: Option<&[u8]>, offset: i64, is_tombstone: bool| {
                last_offsets.is_last(key, offset) && !(is_tombstone && drop_tombstones)
            };
            let kept = if goes {
                None
            } else {
                keep(&header, bytes, stays)?
            };
            let kept = match kept {
                Some(kept) => kept,
                // A consumer learns from the last batch where the partition ends.
                None if header.next_offset() == self.log_end => Kept::placeholder(&header),
                None => continue,
            };
            tombstones += kept.tombstones;
            let sealed = kept.header.seal(&kept.payload);
            writer.write_all(&sealed)?;
            writer.write_all(&kept.payload)?;
            let position = target.facts.bytes;
            let written = BatchHeader::parse(&sealed).ok_or(io::ErrorKind::InvalidData)?;
            target.note(&written, position);
        }
        let file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        if self.fsync {
            file.sync_data()?;
        }
        target.facts.tombstones = tombstones;
        target.facts.compacted_at_ms = source.facts.compacted_at_ms.or(Some(self.now_ms));
        Ok(Rewritten {
            path,
            facts: target.facts,
        })
    }
}

struct Rewritten {
    path: PathBuf,
    facts: SegmentFacts,
}

struct Kept {
    header: BatchHeader,
    payload: Vec<u8>,
    tombstones: u64,
}

impl Kept {
    /// A batch without records that takes up the same offsets.
    fn placeholder(header: &BatchHeader) -> Self {
        Self {
            header: header.without_records(),
            payload: Vec::new(),
            tombstones: 0,
        }
    }
}

/// What stays of a batch; `None` when nothing does. Offsets, timestamps and sequences stay as they were.
fn keep(
    header: &BatchHeader,
    batch: &[u8],
    stays: impl Fn(Option<&[u8]>, i64, bool) -> bool,
) -> io::Result<Option<Kept>> {
    let payload = decompressed(header, batch, MAX_INFLATED_BYTES).map_err(io::Error::other)?;
    let mut kept = Kept {
        header: *header,
        payload: Vec::with_capacity(payload.len()),
        tombstones: 0,
    };
    kept.header.record_count = 0;
    kept.header.clear_transactional();
    kept.header.clear_codec();
    for record in Records::new(&payload, header.record_count) {
        let record = record.map_err(io::Error::other)?;
        let offset = header.base_offset + i64::from(record.offset_delta);
        if stays(record.key, offset, !record.has_value) {
            kept.payload.extend_from_slice(record.raw);
            kept.header.record_count += 1;
            kept.tombstones += u64::from(!record.has_value);
        }
    }
    Ok((kept.header.record_count > 0).then_some(kept))
}

/// The last offset of every key, by a 128-bit hash of the key that nobody outside can aim at.
struct LastOffsets {
    hashers: (RandomState, RandomState),
    offsets: HashMap<(u64, u64), i64>,
    /// Records from here on were not looked at.
    end_offset: i64,
}

impl LastOffsets {
    fn learn(plan: &Plan) -> io::Result<Self> {
        let mut learned = Self {
            hashers: (RandomState::new(), RandomState::new()),
            offsets: HashMap::new(),
            end_offset: i64::MAX,
        };
        for source in &plan.sources {
            let mut scanner = Scanner::new(Arc::clone(&source.file), 0, source.facts.bytes);
            while let Scanned::Batch { header, bytes, .. } = scanner.next_batch()? {
                if header.is_control() || plan.is_aborted(&header) {
                    continue;
                }
                if learned.offsets.len() >= MAX_KEYS {
                    learned.end_offset = header.base_offset;
                    return Ok(learned);
                }
                let payload =
                    decompressed(&header, bytes, MAX_INFLATED_BYTES).map_err(io::Error::other)?;
                for record in Records::new(&payload, header.record_count) {
                    let record = record.map_err(io::Error::other)?;
                    if let Some(key) = record.key {
                        let offset = header.base_offset + i64::from(record.offset_delta);
                        learned.offsets.insert(learned.hash(key), offset);
                    }
                }
            }
        }
        Ok(learned)
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }

    fn is_last(&self, key: Option<&[u8]>, offset: i64) -> bool {
        let Some(key) = key else {
            return true;
        };
        offset >= self.end_offset
            || self
                .offsets
                .get(&self.hash(key))
                .is_none_or(|last| *last <= offset)
    }
}
