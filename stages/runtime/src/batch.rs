//! Gathers messages into batches.
//!
//! Invariants: messages leave in the order they came, each once; a batch is within the limits (a single message may
//! exceed the pixels); no message waits longer than `max_delay_ms` for company once the stage is free.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::Batching;

struct Waiting<T> {
    item: T,
    pixels: u64,
    since: Instant,
}

/// A queue that is cut into batches. It only knows limits and times; who takes a batch does so when the stage is free, and
/// until then the next batch grows.
pub struct BatchFormer<T> {
    limits: Batching,
    waiting: VecDeque<Waiting<T>>,
    pixels: u64,
}

impl<T> BatchFormer<T> {
    /// An empty queue.
    pub fn new(limits: Batching) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            pixels: 0,
        }
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A message arrives.
    pub fn push(&mut self, item: T, pixels: u64, now: Instant) {
        self.pixels = self.pixels.saturating_add(pixels);
        self.waiting.push_back(Waiting {
            item,
            pixels,
            since: now,
        });
    }

    /// When the next batch is closed: at once where it is full, `None` where nobody waits.
    pub fn closes_at(&self) -> Option<Instant> {
        let oldest = self.waiting.front()?;
        let full =
            self.waiting.len() >= self.limits.max_batch || self.pixels >= self.limits.max_pixels;
        Some(if full {
            oldest.since
        } else {
            oldest.since + Duration::from_millis(self.limits.max_delay_ms)
        })
    }

    /// Takes the next batch, where it is closed.
    pub fn take(&mut self, now: Instant) -> Option<Vec<T>> {
        if self.closes_at()? > now {
            return None;
        }
        let mut batch = Vec::new();
        let mut batch_pixels: u64 = 0;
        while let Some(next) = self.waiting.front() {
            let with_next = batch_pixels.saturating_add(next.pixels);
            let too_much =
                batch.len() >= self.limits.max_batch.max(1) || with_next > self.limits.max_pixels;
            if too_much && !batch.is_empty() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            batch_pixels = with_next;
            batch.push(next.item);
        }
        self.recount();
        Some(batch)
    }

    /// Sums saturate, so they cannot be taken back by subtraction; only the next batch's share is looked at.
    fn recount(&mut self) {
        self.pixels = self
            .waiting
            .iter()
            .take(self.limits.max_batch)
            .fold(0, |pixels: u64, waiting| {
                pixels.saturating_add(waiting.pixels)
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(max_batch: usize, max_pixels: u64, max_delay_ms: u64) -> Batching {
        Batching {
            max_batch,
            max_pixels,
            max_delay_ms,
        }
    }

    #[test]
    fn a_lone_message_goes_after_its_delay() {
        let start = Instant::now();
        let mut former = BatchFormer::new(limits(4, u64::MAX, 10));
        former.push('a', 0, start);
        assert_eq!(former.take(start + Duration::from_millis(9)), None);
        assert_eq!(
            former.take(start + Duration::from_millis(10)),
            Some(vec!['a'])
        );
        assert_eq!(former.closes_at(), None);
    }

    #[test]
    fn a_message_larger_than_the_limit_goes_alone() {
        let start = Instant::now();
        let mut former = BatchFormer::new(limits(4, 100, 1_000));
        former.push('a', 500, start);
        former.push('b', 1, start);
        assert_eq!(former.take(start), Some(vec!['a']));
        assert_eq!(former.take(start), None);
    }

    proptest! {
        #[test]
        fn every_message_leaves_once_in_order_within_the_limits(
            max_batch in 1_usize..9,
            max_pixels in 1_u64..2_000,
            max_delay_ms in 0_u64..30,
            arrivals in prop::collection::vec((0_u64..20, 0_u64..900, any::<bool>()), 0..200),
        ) {
            let mut now = Instant::now();
            let mut former = BatchFormer::new(limits(max_batch, max_pixels, max_delay_ms));
            let mut left = Vec::new();
            let check = |batch: Vec<(usize, u64)>, left: &mut Vec<usize>| {
                assert!(!batch.is_empty() && batch.len() <= max_batch);
                assert!(batch.len() == 1 || batch.iter().map(|(_, pixels)| pixels).sum::<u64>() <= max_pixels);
                left.extend(batch.into_iter().map(|(index, _)| index));
            };
            for (index, (gap_ms, pixels, free)) in arrivals.iter().enumerate() {
                now += Duration::from_millis(*gap_ms);
                former.push((index, *pixels), *pixels, now);
                while *free && let Some(batch) = former.take(now) {
                    check(batch, &mut left);
                }
                // A free stage keeps nobody waiting beyond the delay.
                prop_assert!(!*free || former.closes_at().is_none_or(|at| at > now));
            }
            now += Duration::from_millis(max_delay_ms);
            while let Some(batch) = former.take(now) {
                check(batch, &mut left);
            }
            prop_assert_eq!(left, (0..arrivals.len()).collect::<Vec<_>>());
        }
    }
}
