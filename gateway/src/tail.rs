//! Live progress: one reader follows `task-events` from its end and hands every event to the open streams of all tasks, and to
//! those of its own task, which no other task's events wake.
//!
//! Invariants: what is handed on was committed; the ring holds no more than `event_ring_events` events, however slow a
//! client is; a client that fell behind is let go and, coming back with its last event id, gets from the log what it
//! missed. Garbage on the topic is logged and skipped: it stops nobody.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use atelier_schemas::{Envelope, Event};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::log::{EventLog, LogError, LogRecord, Position};

/// Pause before the log is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// One event of `task-events`, ready to be sent.
#[derive(Debug)]
pub struct TaskEvent {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The task.
    pub task_id: Uuid,
    /// `ce_type`.
    pub event_type: &'static str,
    /// What a stream sends as `data`: one line of JSON.
    pub data: String,
    /// The event.
    pub event: Event,
}

impl TaskEvent {
    /// Reads a record; `None` is garbage, which is logged.
    pub fn read(record: &LogRecord) -> Option<Self> {
        let place = || format!("{}-{}", record.partition, record.offset);
        let headers = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        let envelope = Envelope::from_headers(headers, record.received)
            .inspect_err(|error| tracing::warn!(at = place(), %error, "skipped a record on task-events that is no CloudEvent"))
            .ok()?;
        let event = Event::decode(&envelope, &record.value)
            .inspect_err(|error| tracing::warn!(at = place(), %error, "skipped a record on task-events that does not parse"))
            .ok()?;
        let task_id = event.task_id()?;
        let payload: Value = serde_json::from_slice(&record.value).ok()?;
        let event_type = event.event_type();
        let data = json!({ "eventId": envelope.id, "type": event_type, "time": envelope.time, "data": payload }).to_string();
        Some(Self {
            partition: record.partition,
            offset: record.offset,
            task_id,
            event_type,
            data,
            event,
        })
    }

    /// The id of the event in a stream of one task.
    pub fn id(&self) -> String {
        format!("{}-{}", self.partition, self.offset)
    }

    /// Whether it is the task's end.
    pub fn ends_task(&self) -> bool {
        matches!(self.event, Event::TaskEnded(_))
    }
}

/// What the reader of the log and the streams share.
pub struct Tail {
    log: Arc<dyn EventLog>,
    sender: broadcast::Sender<Arc<TaskEvent>>,
    followers: Followers,
    capacity: usize,
    position: Mutex<Position>,
    ready: watch::Sender<bool>,
}

/// Who follows one task, by task.
type Followers = Arc<Mutex<HashMap<Uuid, Vec<mpsc::Sender<Arc<TaskEvent>>>>>>;

fn locked(
    followers: &Followers,
) -> MutexGuard<'_, HashMap<Uuid, Vec<mpsc::Sender<Arc<TaskEvent>>>>> {
    // A panic in between leaves followers that are merely told nothing more.
    followers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events of one task behind `from`.
pub struct TaskSubscription {
    /// Where the tail stood when the subscription began.
    pub from: Position,
    task_id: Uuid,
    events: mpsc::Receiver<Arc<TaskEvent>>,
    followers: Followers,
}

impl TaskSubscription {
    /// The next one; `None` where the follower has fallen behind the ring.
    pub async fn recv(&mut self) -> Option<Arc<TaskEvent>> {
        self.events.recv().await
    }
}

impl Drop for TaskSubscription {
    fn drop(&mut self) {
        self.events.close();
        if let Entry::Occupied(mut of_task) = locked(&self.followers).entry(self.task_id) {
            of_task.get_mut().retain(|follower| !follower.is_closed());
            if of_task.get().is_empty() {
                of_task.remove();
            }
        }
    }
}

/// A subscription: every event behind `from` comes through `events`.
pub struct Subscription {
    /// Where the tail stood when the subscription began.
    pub from: Position,
    /// What comes after.
    pub events: broadcast::Receiver<Arc<TaskEvent>>,
}

impl Tail {
    /// A tail of `log` with a ring of `capacity` events; [`Tail::run`] fills it.
    pub fn new(log: Arc<dyn EventLog>, capacity: usize) -> Self {
        Self {
            log,
            sender: broadcast::channel(capacity).0,
            followers: Followers::default(),
            capacity,
            position: Mutex::default(),
            ready: watch::channel(false).0,
        }
    }

    /// Follows the topic until `shutdown`; calls `observe` with each event before the streams get it.
    pub async fn run(&self, observe: impl Fn(&TaskEvent) + Send, shutdown: CancellationToken) {
        let _ = shutdown.run_until_cancelled(self.follow(observe)).await;
    }

    async fn follow(&self, observe: impl Fn(&TaskEvent) + Send) {
        while let Err(error) = self.find_end().await {
            tracing::warn!(%error, "task-events cannot be followed yet");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        loop {
            let mut records = self.log.tail(self.position().clone());
            while let Some(record) = records.next().await {
                match record {
                    Ok(record) => self.take(&record, &observe),
                    Err(error) => {
                        tracing::warn!(%error, "lost task-events, trying again from where it broke off");
                        break;
                    }
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn find_end(&self) -> Result<(), LogError> {
        let end = self.log.end().await?;
        *self.position() = end;
        self.ready.send_replace(true);
        Ok(())
    }

    fn take(&self, record: &LogRecord, observe: &(impl Fn(&TaskEvent) + Send)) {
        let event = TaskEvent::read(record).map(Arc::new);
        if let Some(event) = &event {
            observe(event);
        }
        // Under the lock, so that a subscription sees either the position behind this event or the event itself.
        let mut position = self.position();
        position.pass(record.partition, record.offset);
        if let Some(event) = event {
            self.tell_followers(&event);
            // No stream is open: nobody to tell.
            let _ = self.sender.send(event);
        }
    }

    /// Those who have fallen behind are told nothing more, and find the rest in the log.
    fn tell_followers(&self, event: &Arc<TaskEvent>) {
        if let Entry::Occupied(mut of_task) = locked(&self.followers).entry(event.task_id) {
            of_task
                .get_mut()
                .retain(|follower| follower.try_send(Arc::clone(event)).is_ok());
            if of_task.get().is_empty() {
                of_task.remove();
            }
        }
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        // A panic in between leaves a position that is merely behind.
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to what comes from now on.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] where the log could not be reached since the start.
    pub async fn subscribe(&self) -> Result<Subscription, LogError> {
        self.wait_for_end().await?;
        let position = self.position();
        Ok(Subscription {
            from: position.clone(),
            events: self.sender.subscribe(),
        })
    }

    /// Subscribes to what comes of one task from now on.
    ///
    /// # Errors
    /// As [`Self::subscribe`].
    pub async fn subscribe_to(&self, task_id: Uuid) -> Result<TaskSubscription, LogError> {
        self.wait_for_end().await?;
        let position = self.position();
        // It takes memory only as it fills.
        let (sender, events) = mpsc::channel(self.capacity);
        locked(&self.followers)
            .entry(task_id)
            .or_default()
            .push(sender);
        Ok(TaskSubscription {
            from: position.clone(),
            task_id,
            events,
            followers: Arc::clone(&self.followers),
        })
    }

    async fn wait_for_end(&self) -> Result<(), LogError> {
        let mut ready = self.ready.subscribe();
        let waited =
            tokio::time::timeout(Duration::from_secs(5), ready.wait_for(|ready| *ready)).await;
        if !matches!(waited, Ok(Ok(_))) {
            return Err(LogError::Unavailable {
                place: "task-events".to_owned(),
                reason: "its end was not found since the gateway started".to_owned(),
            });
        }
        Ok(())
    }

    /// The committed events between `from` and `to`, garbage left out.
    pub fn history(
        &self,
        from: Position,
        to: Position,
    ) -> impl futures::Stream<Item = Result<Arc<TaskEvent>, LogError>> + Send + use<> {
        self.log.read(from, to).filter_map(|record| async move {
            record
                .map(|record| TaskEvent::read(&record).map(Arc::new))
                .transpose()
        })
    }
}
