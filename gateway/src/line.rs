//! How the line stands: queues from the log's offsets, speed from the events of the last minute, open tasks.
//!
//! Invariant: memory is bounded, whatever passes: a window holds no more than [`WINDOW_SAMPLES`] samples per stage, and
//! only open tasks are remembered.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use atelier_schemas::{Event, TopicTable};
use atelier_stores::Ledger;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    log::{Line, LogError, StageQueues},
    tail::TaskEvent,
};

/// What "now" means for speed and percentiles.
const WINDOW: Duration = Duration::from_secs(60);
/// Most samples kept per stage.
const WINDOW_SAMPLES: usize = 20_000;
/// How long an answer about the queues may be repeated.
const QUEUES_FRESH: Duration = Duration::from_millis(900);
/// How often the ledger is asked again for the open tasks while it does not answer.
const LEDGER_RETRY: Duration = Duration::from_secs(2);
/// Tasks that are looked through for open ones at the start.
const OPEN_TASKS_SEARCHED: usize = 10_000;

/// The line of stages, measured.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineAnswer {
    /// When it was measured.
    pub at: DateTime<Utc>,
    /// The stages in order.
    pub stages: Vec<StageAnswer>,
    /// Tasks that have not ended.
    pub tasks_open: usize,
}

/// One stage, measured.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageAnswer {
    /// Its name.
    pub name: String,
    /// What it reads.
    pub input_topics: Vec<String>,
    /// Events that it has not read yet.
    pub queued: u64,
    /// Events that wait for another attempt.
    pub in_retry: u64,
    /// Events that it gave up and that are still kept.
    pub dead_letters: u64,
    /// Images that it finished since this gateway started.
    pub processed_total: u64,
    /// Images a second over the last 60 s.
    pub per_second: f64,
    /// Median work on one image over the last 60 s, in milliseconds; absent where nothing passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 95th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
}

#[derive(Default)]
struct Window {
    processed_total: u64,
    samples: VecDeque<(Instant, f64)>,
}

impl Window {
    fn add(&mut self, at: Instant, processing_time_ms: f64) {
        self.processed_total += 1;
        if self.samples.len() == WINDOW_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at, processing_time_ms));
    }

    fn forget_old(&mut self, now: Instant) {
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Over the whole window, or from its first sample where that was dropped for want of room.
    #[allow(clippy::cast_precision_loss)]
    fn per_second(&self, now: Instant) -> f64 {
        let span = match self.samples.front() {
            Some((first, _)) if self.samples.len() == WINDOW_SAMPLES => now.duration_since(*first),
            _ => WINDOW,
        };
        self.samples.len() as f64 / span.as_secs_f64().max(0.001)
    }
}

/// The `share` quantile (0 to 1) of `values`, by nearest rank; `None` of nothing.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

#[derive(Default)]
struct Seen {
    windows: BTreeMap<String, Window>,
    open: HashSet<Uuid>,
    /// Ends seen while the open tasks were still being read from the ledger, which may have been read before them.
    ended_while_loading: HashSet<Uuid>,
    loaded: bool,
}

/// What was seen on `task-events`, and the last answer about the queues.
#[derive(Default)]
pub struct LineView {
    seen: Mutex<Seen>,
    queues: tokio::sync::Mutex<Option<(Instant, Arc<Vec<StageQueues>>)>>,
}

impl LineView {
    /// Counts an event.
    pub fn observe(&self, event: &TaskEvent) {
        let mut seen = self.seen();
        match &event.event {
            // Only stages of the table: a name that a stranger wrote to the topic must not become a row.
            Event::StageCompleted(done)
                if TopicTable::embedded().stages().contains(&done.timing.stage) =>
            {
                seen.windows
                    .entry(done.timing.stage.clone())
                    .or_default()
                    .add(Instant::now(), done.timing.processing_time_ms);
            }
            Event::TaskAccepted(accepted) => {
                seen.open.insert(accepted.task_id);
            }
            Event::TaskEnded(ended) => {
                seen.open.remove(&ended.task_id);
                if !seen.loaded {
                    seen.ended_while_loading.insert(ended.task_id);
                }
            }
            _ => {}
        }
    }

    /// Notes a task that the gateway accepted.
    pub fn accepted(&self, task_id: Uuid) {
        self.seen().open.insert(task_id);
    }

    /// Finds the tasks that were open before this gateway started; tries until the ledger answers.
    pub async fn load_open_tasks(&self, ledger: &dyn Ledger) {
        let mut cursor: Option<String> = None;
        let mut searched = 0;
        while searched < OPEN_TASKS_SEARCHED {
            match ledger.tasks(cursor.as_deref(), 100).await {
                Ok((tasks, next)) => {
                    searched += tasks.len();
                    let mut seen = self.seen();
                    for task in tasks.iter().filter(|task| !task.status.is_terminal()) {
                        if !seen.ended_while_loading.contains(&task.task_id) {
                            seen.open.insert(task.task_id);
                        }
                    }
                    cursor = next;
                    if cursor.is_none() {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the open tasks cannot be counted yet");
                    tokio::time::sleep(LEDGER_RETRY).await;
                }
            }
        }
        let mut seen = self.seen();
        seen.loaded = true;
        seen.ended_while_loading = HashSet::new();
    }

    /// The line as it stands.
    ///
    /// # Errors
    /// [`LogError`] where the queues cannot be measured.
    pub async fn measure(&self, line: &dyn Line) -> Result<PipelineAnswer, LogError> {
        let queues = self.queues(line).await?;
        let now = Instant::now();
        let mut seen = self.seen();
        let stages = queues
            .iter()
            .map(|queue| {
                stage_answer(
                    queue,
                    seen.windows.entry(queue.name.clone()).or_default(),
                    now,
                )
            })
            .collect();
        Ok(PipelineAnswer {
            at: Utc::now(),
            stages,
            tasks_open: seen.open.len(),
        })
    }

    /// The work of each stage over the last minute, in milliseconds.
    pub fn recent_work_ms(&self) -> BTreeMap<String, Vec<f64>> {
        let now = Instant::now();
        let mut seen = self.seen();
        seen.windows
            .iter_mut()
            .map(|(stage, window)| {
                window.forget_old(now);
                (
                    stage.clone(),
                    window.samples.iter().map(|(_, ms)| *ms).collect(),
                )
            })
            .collect()
    }

    /// However many ask at once, the log is asked once.
    async fn queues(&self, line: &dyn Line) -> Result<Arc<Vec<StageQueues>>, LogError> {
        let mut known = self.queues.lock().await;
        if let Some((at, queues)) = known.as_ref()
            && at.elapsed() < QUEUES_FRESH
        {
            return Ok(Arc::clone(queues));
        }
        let queues = Arc::new(line.queues().await?);
        *known = Some((Instant::now(), Arc::clone(&queues)));
        Ok(queues)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stage_answer(queue: &StageQueues, window: &mut Window, now: Instant) -> StageAnswer {
    window.forget_old(now);
    let mut work: Vec<f64> = window.samples.iter().map(|(_, ms)| *ms).collect();
    StageAnswer {
        name: queue.name.clone(),
        input_topics: queue.input_topics.clone(),
        queued: queue.queued,
        in_retry: queue.in_retry,
        dead_letters: queue.dead_letters,
        processed_total: window.processed_total,
        per_second: window.per_second(now),
        p50_ms: quantile(&mut work, 0.5),
        p95_ms: quantile(&mut work, 0.95),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        assert_eq!(quantile(&mut [], 0.5), None);
        assert_eq!(quantile(&mut [7.0], 0.95), Some(7.0));
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        let mut hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&mut hundred, 0.95), Some(95.0));
    }

    #[test]
    fn a_window_is_bounded_and_forgets() {
        let mut window = Window::default();
        let start = Instant::now();
        for sample in 0..WINDOW_SAMPLES + 10 {
            window.add(start, sample as f64);
        }
        assert_eq!(window.samples.len(), WINDOW_SAMPLES);
        assert_eq!(window.processed_total, WINDOW_SAMPLES as u64 + 10);
        window.forget_old(start + WINDOW + Duration::from_secs(1));
        assert!(window.samples.is_empty());
        assert!(window.per_second(start) < 0.001);
    }
}
