//! Records that go: by age, by size, or because somebody asked for it. Only whole segments are removed; what lies before
//! the first offset in the segment that stays is hidden.

use std::io;

use super::partition::PartitionLog;
use super::segment::Segment;

impl PartitionLog {
    /// Hides everything before `offset` (which the journal already knows as the first one) and removes segments that lie
    /// wholly before it. Returns the first offset.
    pub fn move_start(&mut self, offset: i64) -> io::Result<i64> {
        self.log_start = self.log_start.max(offset.min(self.next_offset()));
        if self.log_start == self.next_offset() && !self.active.is_empty() {
            self.roll()?;
        }
        let log_start = self.log_start;
        self.remove_while(|segment| segment.facts.next_offset <= log_start)?;
        Ok(self.log_start)
    }

    /// The first offset that `retention.ms` and `retention.bytes` leave, if they take any; open transactions stay.
    pub fn retention_start(&mut self, now_ms: i64) -> io::Result<Option<i64>> {
        if !self.config.cleanup.delete {
            return Ok(None);
        }
        let horizon_ms = if self.config.retention_ms < 0 {
            i64::MIN
        } else {
            now_ms - self.config.retention_ms
        };
        let is_old =
            |segment: &Segment| !segment.is_empty() && segment.facts.max_timestamp_ms < horizon_ms;
        if is_old(&self.active) && self.last_stable_offset() == self.next_offset() {
            self.roll()?;
        }
        let mut excess_bytes = match u64::try_from(self.config.retention_bytes) {
            Ok(limit_bytes) => self.bytes().saturating_sub(limit_bytes),
            Err(_) => 0,
        };
        let stable = self.last_stable_offset();
        let mut start = self.log_start;
        for segment in &self.segments {
            let is_excess = segment.facts.bytes <= excess_bytes && excess_bytes > 0;
            if segment.facts.next_offset > stable || !(is_old(segment) || is_excess) {
                break;
            }
            excess_bytes = excess_bytes.saturating_sub(segment.facts.bytes);
            start = segment.facts.next_offset;
        }
        Ok((start > self.log_start).then_some(start))
    }

    /// Forgets producers that have been silent since `before_ms`.
    pub fn forget_silent_producers(&mut self, before_ms: i64) {
        self.producers.forget_silent(before_ms);
    }

    fn remove_while(&mut self, goes: impl Fn(&Segment) -> bool) -> io::Result<()> {
        while let Some(first) = self.segments.first() {
            if !goes(first) {
                break;
            }
            first.delete()?;
            self.segments.remove(0);
        }
        Ok(())
    }
}
