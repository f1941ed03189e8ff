//! Which tasks nobody wants any more: what `task-control` says, for every stage of this process.
//!
//! Invariants: it holds what `persist` heeds and nothing else, so that no message is dropped whose task would then never
//! end; its memory is bounded by the retention of the topic.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use atelier_schemas::{
    Envelope, Event, TopicTable, events::TaskCancelRequested, topics::TASK_CONTROL,
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{
    log_access::{LogAccessError, LogReader, blocking},
    options::KafkaOptions,
    record::InRecord,
    tail,
};

/// Wait before the topic is read anew after an error.
const RETRY: Duration = Duration::from_secs(1);
/// How often what is past its retention is forgotten.
const FORGET_INTERVAL: TimeDelta = TimeDelta::hours(1);
pub(crate) const GROUP: &str = "atelier-cancelled";

/// The cancelled tasks. Clones are the same set; the last one that is dropped ends the reading.
#[derive(Clone, Debug)]
pub struct Cancelled {
    known: Arc<Known>,
    // Held for its drop.
    _reading: Option<Arc<DropGuard>>,
}

#[derive(Debug)]
struct Known {
    retention: TimeDelta,
    tasks: RwLock<Tasks>,
    additions: watch::Sender<u64>,
    is_complete: watch::Sender<bool>,
}

#[derive(Debug)]
struct Tasks {
    since: HashMap<Uuid, DateTime<Utc>>,
    forgot_at: DateTime<Utc>,
}

impl Default for Cancelled {
    fn default() -> Self {
        Self::none()
    }
}

impl Cancelled {
    /// Nothing is cancelled but what is [added](Self::add): for stages that run without a log.
    pub fn none() -> Self {
        Self::with(TimeDelta::MAX, true, None)
    }

    /// What `task-control` says from its beginning on, read on the current Tokio runtime. Outages and a missing topic are
    /// waited for.
    pub fn follow(kafka: &KafkaOptions, table: &TopicTable) -> Self {
        let retention = table.get(TASK_CONTROL).map_or(TimeDelta::MAX, |topic| {
            let hours = i64::try_from(topic.retention_hours).ok();
            hours
                .and_then(TimeDelta::try_hours)
                .unwrap_or(TimeDelta::MAX)
        });
        let stop = CancellationToken::new();
        let cancelled = Self::with(retention, false, Some(Arc::new(stop.clone().drop_guard())));
        let reading = read_for_ever(Arc::clone(&cancelled.known), kafka.clone());
        tokio::spawn(async move { stop.run_until_cancelled(reading).await });
        cancelled
    }

    fn with(retention: TimeDelta, is_complete: bool, reading: Option<Arc<DropGuard>>) -> Self {
        let known = Known {
            retention,
            tasks: RwLock::new(Tasks {
                since: HashMap::new(),
                forgot_at: Utc::now(),
            }),
            additions: watch::Sender::new(0),
            is_complete: watch::Sender::new(is_complete),
        };
        Self {
            known: Arc::new(known),
            _reading: reading,
        }
    }

    /// Adds a task that was cancelled at `at`.
    pub fn add(&self, task_id: Uuid, at: DateTime<Utc>) {
        self.known.add(task_id, at, Utc::now());
    }

    /// Whether the task was cancelled.
    pub fn contains(&self, task_id: Uuid) -> bool {
        let tasks = self.known.tasks.read();
        tasks
            .unwrap_or_else(PoisonError::into_inner)
            .since
            .contains_key(&task_id)
    }

    /// Waits until everything is known that stood on the topic at the start; answers whether that was so within `limit`.
    pub async fn wait_until_complete(&self, limit: Duration) -> bool {
        let mut is_complete = self.known.is_complete.subscribe();
        let waited = tokio::time::timeout(limit, is_complete.wait_for(|is| *is)).await;
        waited.is_ok()
    }

    /// Waits until every one of `tasks` is cancelled: for ever where one is not known, or there is none.
    pub(crate) async fn all_of(&self, tasks: &[Option<Uuid>]) {
        if tasks.is_empty() || tasks.contains(&None) {
            return pending().await;
        }
        let mut additions = self.known.additions.subscribe();
        while !tasks.iter().flatten().all(|task| self.contains(*task)) {
            if additions.changed().await.is_err() {
                return pending().await;
            }
        }
    }
}

impl Known {
    fn add(&self, task_id: Uuid, at: DateTime<Utc>, now: DateTime<Utc>) {
        {
            let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
            // A clock that is ahead must not make anything stay for ever.
            tasks.since.insert(task_id, at.min(now));
            if now - tasks.forgot_at >= FORGET_INTERVAL {
                tasks.forgot_at = now;
                tasks.since.retain(|_, at| now - *at < self.retention);
            }
        }
        self.additions.send_modify(|count| *count += 1);
    }

    fn read(&self, record: &InRecord) {
        if let Some(request) = request_of(record) {
            tracing::debug!(task_id = %request.task_id, "cancelled");
            self.add(request.task_id, record.timestamp, Utc::now());
        }
    }
}

/// The request that a record holds. What `persist` would not read as one is none here either.
fn request_of(record: &InRecord) -> Option<TaskCancelRequested> {
    let headers = record.headers.iter().map(|header| {
        (
            header.name.as_str(),
            header.value.as_ref().map_or(&[][..], Bytes::as_ref),
        )
    });
    let envelope = Envelope::from_headers(headers, record.timestamp).ok()?;
    match Event::decode(&envelope, record.value.as_deref().unwrap_or_default()) {
        Ok(Event::TaskCancelRequested(request)) => Some(request),
        _ => None,
    }
}

async fn read_for_ever(known: Arc<Known>, kafka: KafkaOptions) {
    let mut said = String::new();
    loop {
        if let Err(error) = read(&known, &kafka).await {
            if matches!(error, LogAccessError::MissingTopic(_)) {
                // Nobody can have cancelled anything.
                known.is_complete.send_replace(true);
            }
            let reason = error.to_string();
            if reason != said {
                tracing::warn!(
                    reason,
                    "which tasks are cancelled cannot be read; this is tried again"
                );
                said = reason;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reads what there is, then what comes, until something is wrong.
async fn read(known: &Arc<Known>, kafka: &KafkaOptions) -> Result<(), LogAccessError> {
    let (reader_of, visited) = (kafka.clone(), Arc::clone(known));
    let ends = blocking(move || {
        let reader = LogReader::connect(&reader_of, GROUP)?;
        let beginnings = reader.beginnings(TASK_CONTROL)?;
        let ends = reader.ends(TASK_CONTROL)?;
        reader.scan(TASK_CONTROL, &beginnings, &ends, |record| {
            visited.read(&record);
            true
        })?;
        Ok(ends)
    })
    .await?;
    known.is_complete.send_replace(true);
    let mut records = tail::tail(kafka, TASK_CONTROL, ends);
    while let Some(record) = records.next().await {
        known.read(&record?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_its_retention_is_forgotten_and_clocks_that_are_ahead_do_not_help() {
        let start = Utc::now();
        let cancelled = Cancelled::with(TimeDelta::hours(10), true, None);
        let [old, from_the_future, new] = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        let ahead = start + TimeDelta::days(1_000);
        cancelled.known.add(old, start, start);
        cancelled.known.add(from_the_future, ahead, start);
        let now = start + TimeDelta::hours(11);
        cancelled.known.add(new, now, now);
        assert!(!cancelled.contains(old) && !cancelled.contains(from_the_future));
        assert!(cancelled.contains(new));
    }

    #[tokio::test]
    async fn all_of_a_batch_are_waited_for_and_unknown_ones_for_ever() {
        let cancelled = Cancelled::none();
        let [one, other] = [Uuid::new_v4(), Uuid::new_v4()];
        let soon = Duration::from_millis(20);
        cancelled.add(one, Utc::now());
        for open in [vec![Some(one), Some(other)], vec![Some(one), None], vec![]] {
            let waited = tokio::time::timeout(soon, cancelled.all_of(&open)).await;
            assert!(waited.is_err(), "{open:?}");
        }
        let tasks = [Some(one), Some(other)];
        let waiting = cancelled.all_of(&tasks);
        let adding = async {
            tokio::time::sleep(soon).await;
            cancelled.add(other, Utc::now());
        };
        tokio::join!(waiting, adding);
    }
}
