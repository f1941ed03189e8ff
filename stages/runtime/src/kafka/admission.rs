//! Lets bulk messages in while the queues behind the stage are short.
//!
//! Invariants: what one instance lets in and what is behind are together no more than the limit. Several instances share what
//! is free by their partitions; what one has taken and not committed the others cannot see, so together they stay below twice
//! the limit. What cannot be measured is long: while the broker does not answer, nothing is let in.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use atelier_schemas::{Topic, TopicTable};
use tokio::sync::Notify;

use super::{client::group_id, shared::Shared};
use crate::{
    log_access::{LogAccessError, LogReader, Offsets, blocking},
    options::KafkaOptions,
};

/// Wait between two looks at the queues.
const INTERVAL: Duration = Duration::from_millis(100);
/// Wait before the next look after one that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long the answer of a look may be used: somebody may have filled the queues since.
const FRESH: Duration = Duration::from_secs(1);
/// Under this name the queues are read; nobody joins it.
pub(crate) const GROUP: &str = "atelier-admission";

/// How many bulk messages may be taken now.
#[derive(Debug)]
pub(crate) struct Admission {
    topic: String,
    left: Mutex<(usize, Instant)>,
    wanted: Notify,
}

impl Admission {
    pub fn new(topic: String) -> Self {
        Self {
            topic,
            left: Mutex::new((0, Instant::now())),
            wanted: Notify::new(),
        }
    }

    /// The topic whose messages ask.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether one more may be taken. Where it may not, the queues are looked at soon.
    pub fn take(&self) -> bool {
        let mut left = self.left();
        if left.0 > 0 && left.1.elapsed() < FRESH {
            left.0 -= 1;
            return true;
        }
        drop(left);
        self.wanted.notify_one();
        false
    }

    fn allow(&self, messages: usize) {
        *self.left() = (messages, Instant::now());
    }

    fn left(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the queues whenever somebody asks.
pub(crate) struct Lookout {
    pub admission: Arc<Admission>,
    pub shared: Arc<Shared>,
    pub queues: QueuesBehind,
    /// Partitions of the bulk topic.
    pub partitions: usize,
    /// Most images behind the stage.
    pub limit: usize,
}

impl Lookout {
    /// Looks until it is dropped.
    pub async fn keep(self) {
        let queues = Arc::new(Mutex::new(self.queues));
        let (stage, mut said) = (self.shared.readiness.stage(), false);
        loop {
            self.admission.wanted.notified().await;
            // Nothing is taken on the last look's word while this one lasts.
            self.admission.allow(0);
            let topic = self.admission.topic();
            // Before the look: what is committed meanwhile is counted twice, never not at all.
            let (taken, ours) = self.shared.look(|tracker| {
                let assigned = tracker.assigned();
                let ours = assigned.iter().filter(|source| *source.topic == *topic);
                (tracker.in_flight_of(topic), ours.count())
            });
            let (queues, limit) = (Arc::clone(&queues), self.limit);
            let look = blocking(move || {
                let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
                queues.images(limit)
            });
            match look.await {
                Ok(images) => {
                    let share = share(limit.saturating_sub(images), ours, self.partitions);
                    self.admission.allow(share.saturating_sub(taken));
                    said = false;
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(stage, %error, "no bulk work is taken: how long the queues are cannot be seen; this is tried again");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// What one instance with `ours` of all `partitions` may let in of `free` places.
fn share(free: usize, ours: usize, partitions: usize) -> usize {
    (free * ours).div_ceil(partitions.max(1)).min(free)
}

/// The queues behind a stage.
pub(crate) struct QueuesBehind {
    kafka: KafkaOptions,
    queues: Vec<Queue>,
    /// Reads what stands in them; connected at the first need.
    counter: Option<LogReader>,
}

struct Queue {
    topic: String,
    group: String,
    /// Connected at the first look.
    reader: Option<LogReader>,
    /// What the last look saw.
    seen: Option<Seen>,
}

struct Seen {
    next: Offsets,
    ends: Offsets,
    counted: Option<usize>,
}

impl QueuesBehind {
    pub fn new(kafka: &KafkaOptions, table: &TopicTable, stage: &str) -> Self {
        let queue = |(topic, reader): (&Topic, &str)| Queue {
            topic: topic.name.clone(),
            group: group_id(reader),
            reader: None,
            seen: None,
        };
        Self {
            kafka: kafka.clone(),
            queues: table.queues_behind(stage).into_iter().map(queue).collect(),
            counter: None,
        }
    }

    /// How many images are in them: the right number at least where it is fewer than `enough`. Blocks.
    fn images(&mut self, enough: usize) -> Result<usize, LogAccessError> {
        let images = self.count(enough);
        if images.is_err() {
            // A client may have forgotten the brokers for good (see `membership`): the next look is by new ones.
            self.counter = None;
            for queue in &mut self.queues {
                queue.reader = None;
            }
        }
        images
    }

    fn count(&mut self, enough: usize) -> Result<usize, LogAccessError> {
        let mut images = 0;
        for queue in &mut self.queues {
            images += queue.images(&self.kafka, &mut self.counter, enough)?;
            if images >= enough {
                break;
            }
        }
        Ok(images)
    }
}

impl Queue {
    fn images(
        &mut self,
        kafka: &KafkaOptions,
        counter: &mut Option<LogReader>,
        enough: usize,
    ) -> Result<usize, LogAccessError> {
        let reader = match &self.reader {
            Some(reader) => reader,
            None => self
                .reader
                .insert(LogReader::connect_uncommitted(kafka, &self.group)?),
        };
        let next = reader.committed(&self.topic)?;
        let ends = reader.ends(&self.topic)?;
        let most = most_between(&next, &ends);
        if most == 0 {
            return Ok(0);
        }
        let seen = match &mut self.seen {
            // Nothing moves. Markers and what was aborted take offsets too: without a count, a queue that is empty might
            // seem long for ever.
            Some(seen) if seen.next == next && seen.ends == ends => seen,
            seen => {
                let counted = None;
                *seen = Some(Seen {
                    next,
                    ends,
                    counted,
                });
                return Ok(most);
            }
        };
        if let Some(counted) = seen.counted {
            return Ok(counted);
        }
        let counter = match counter {
            Some(counter) => counter,
            None => counter.insert(LogReader::connect(kafka, GROUP)?),
        };
        let committed = counter.ends(&self.topic)?;
        // What is in an open transaction may be committed at any moment.
        let mut counted = between(&committed, &ends);
        counter.scan(&self.topic, &next, &committed, |_| {
            counted += 1;
            counted < enough
        })?;
        if committed == ends {
            seen.counted = Some(counted);
        }
        Ok(counted)
    }
}

/// Most records that may stand between: the last offset of a partition is the marker of the transaction that wrote it.
fn most_between(next: &Offsets, ends: &Offsets) -> usize {
    let before_markers = ends.iter().map(|(partition, end)| (*partition, end - 1));
    between(next, &before_markers.collect())
}

fn between(from: &Offsets, to: &Offsets) -> usize {
    let length = |(partition, end): (&i32, &i64)| {
        let start = from.get(partition).copied().unwrap_or(0);
        usize::try_from(end - start).unwrap_or(0)
    };
    to.iter().map(length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_share_what_is_free_by_their_partitions() {
        assert_eq!(share(16, 4, 4), 16);
        assert_eq!((share(16, 3, 4), share(16, 1, 4)), (12, 4));
        assert_eq!(share(1, 1, 4), 1, "somebody goes on");
        assert_eq!(share(16, 0, 4), 0);
        assert_eq!(share(0, 4, 4), 0);
    }

    #[test]
    fn what_was_allowed_is_taken_once_and_only_while_it_is_fresh() {
        let admission = Admission::new("image-tasks-bulk".to_owned());
        assert!(!admission.take(), "nobody has looked");
        admission.allow(2);
        assert!(admission.take() && admission.take());
        assert!(!admission.take());
        *admission.left() = (5, Instant::now().checked_sub(FRESH).unwrap());
        assert!(!admission.take());
    }

    #[test]
    fn the_last_offset_of_a_partition_is_a_marker() {
        let offsets = |offsets: [i64; 3]| -> Offsets { (0..).zip(offsets).collect() };
        assert_eq!(most_between(&offsets([0, 5, 5]), &offsets([0, 6, 7])), 1);
        assert_eq!(most_between(&Offsets::new(), &offsets([0, 3, 0])), 2);
    }
}
