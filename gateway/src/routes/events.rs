//! Live progress as server-sent events. Their ids are offsets on `task-events`, so a client resumes where it was.
//!
//! Invariants: between a client and the ring stand no more than [`BUFFERED_EVENTS`] events; a client that falls behind the
//! ring is disconnected, and finds the rest in the log when it comes back; every stream ends when the gateway stops.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use atelier_schemas::TaskAnswer;
use axum::{
    extract::{Path, State as Shares},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response, Sse, sse},
    routing::get,
};
use futures::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{Endpoint, tasks};
use crate::{
    error::ApiError,
    log::{LogError, Position},
    state::{Shared, State},
    tail::{TaskEvent, TaskSubscription},
    telemetry::OpenStream,
};

const BUFFERED_EVENTS: usize = 16;
const STALLED_LIMIT: Duration = Duration::from_secs(60);

pub const OF_TASK: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/tasks/{id}/events",
    handler: || get(of_task),
    document: |operation| {
        operation
            .named("followTask", "events", "Live progress of one task")
            .describe(
                "Server-sent events. First `snapshot` with the task as it stands; then every event of the task, named by its \
                 CloudEvents type, with the id `<partition>-<offset>` of its place on `task-events`. With `Last-Event-ID` \
                 what came after that place is sent first. The stream closes after `atelier.task.ended.v1`.",
            )
            .path_parameter("id", "The task.")
            .header("Last-Event-ID", "The id of the last event that was received.")
            .raw_answer(200, "The stream.", "text/event-stream", serde_json::json!({ "type": "string" }))
            .plain_answer(204, "Nothing came after `Last-Event-ID` and nothing will: the task has ended.")
            .errors(&[404, 422, 503])
    },
};

pub const OF_ALL: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/events",
    handler: || get(of_all),
    document: |operation| {
        operation
            .named("followAll", "events", "Live progress of every task")
            .describe(
                "Server-sent events of all tasks. An id names the last offset seen on every partition, `0-12,1-7`; with \
                 `Last-Event-ID` the stream resumes there. The first event, `position`, carries the id to resume from \
                 when nothing else was received.",
            )
            .header("Last-Event-ID", "The id of the last event that was received.")
            .raw_answer(200, "The stream.", "text/event-stream", serde_json::json!({ "type": "string" }))
            .errors(&[422, 503])
    },
};

async fn of_task(
    Shares(state): Shares<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let resume = resume_from(&headers)?;
    let task_id = tasks::find(&state, &id).await?.task_id;
    let slot = stream_slot(&state)?;
    // Subscribed before the snapshot is read, so that nothing can fall between the two.
    let subscription = state.tail.subscribe_to(task_id).await?;
    let from_now = subscription.from.clone();
    let snapshot = tasks::find(&state, &id).await?;
    let missed = match resume {
        None => Vec::new(),
        Some(from) if snapshot.status.is_terminal() => {
            let first = Box::pin(missed_events(
                &state,
                from.clone(),
                &from_now,
                Some(task_id),
            ))
            .next()
            .await;
            if first.is_none() {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            vec![from]
        }
        Some(from) => vec![from],
    };
    let follower = Follower {
        task_id: Some(task_id),
        joined_ids: false,
        state: Arc::clone(&state),
    };
    Ok(stream(&state, slot, move |sender| async move {
        let ended = snapshot.status.is_terminal();
        sender.send(snapshot_event(&snapshot)?).await.ok()?;
        follower
            .follow(
                missed.into_iter().next(),
                from_now,
                Live::OfTask(subscription),
                ended,
                &sender,
            )
            .await
    }))
}

async fn of_all(Shares(state): Shares<Shared>, headers: HeaderMap) -> Result<Response, ApiError> {
    let resume = resume_from(&headers)?;
    let slot = stream_slot(&state)?;
    let subscription = state.tail.subscribe().await?;
    let follower = Follower {
        task_id: None,
        joined_ids: true,
        state: Arc::clone(&state),
    };
    Ok(stream(&state, slot, move |sender| async move {
        if resume.is_none() {
            let position = sse::Event::default()
                .event("position")
                .id(subscription.from.to_string())
                .data("{}");
            sender.send(position).await.ok()?;
        }
        let live = Live::OfAll(subscription.events);
        follower
            .follow(resume, subscription.from, live, false, &sender)
            .await
    }))
}

fn resume_from(headers: &HeaderMap) -> Result<Option<Position>, ApiError> {
    let Some(value) = headers
        .get("last-event-id")
        .filter(|value| !value.is_empty())
    else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?");
    text.parse()
        .map(Some)
        .map_err(|error: crate::log::InvalidEventId| {
            ApiError::invalid("InvalidEventId", error.to_string())
        })
}

/// The right to hold a stream open.
///
/// # Errors
/// 503 where too many are open.
pub fn stream_slot(state: &State) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(&state.stream_slots)
        .try_acquire_owned()
        .map_err(|_| {
            let reason = format!(
                "{} event streams are open (gateway.max_event_streams)",
                state.options.max_event_streams
            );
            LogError::Unavailable {
                place: "event streams".to_owned(),
                reason,
            }
            .into()
        })
}

/// An answer of the events that `fill` sends; `fill` is dropped when the client goes or the gateway stops.
pub fn stream<F, A>(state: &Shared, slot: OwnedSemaphorePermit, fill: F) -> Response
where
    F: FnOnce(mpsc::Sender<sse::Event>) -> A + Send + 'static,
    A: Future<Output = Option<()>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel::<sse::Event>(BUFFERED_EVENTS);
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        let _slot = slot;
        let _counted = OpenStream::new();
        let gone = sender.clone();
        tokio::select! {
            // However it ended, the stream is over.
            _ = fill(sender) => {}
            () = gone.closed() => {}
            () = shutdown.cancelled() => {}
        }
    });
    let keep_alive = sse::KeepAlive::new()
        .interval(Duration::from_millis(state.options.heartbeat_ms))
        .text("ping");
    let events = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would hold events back.
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn snapshot_event(task: &TaskAnswer) -> Option<sse::Event> {
    let data = serde_json::to_string(task)
        .inspect_err(|error| tracing::error!(%error, "a task cannot be written as JSON"))
        .ok()?;
    Some(sse::Event::default().event("snapshot").data(data))
}

fn missed_events(
    state: &State,
    mut from: Position,
    to: &Position,
    task_id: Option<Uuid>,
) -> impl Stream<Item = Result<Arc<TaskEvent>, LogError>> + Send + use<> {
    from.cut_to(to);
    let mut to = to.clone();
    if task_id.is_some() {
        // All events of a task stand on one partition: the one that its ids name.
        to.0.retain(|partition, _| from.0.contains_key(partition));
    }
    let of_task = move |event: &Result<Arc<TaskEvent>, LogError>| match (event, task_id) {
        (Ok(event), Some(task_id)) => event.task_id == task_id,
        _ => true,
    };
    state
        .tail
        .history(from, to)
        .filter(move |event| std::future::ready(of_task(event)))
}

/// What comes from now on.
enum Live {
    OfAll(broadcast::Receiver<Arc<TaskEvent>>),
    OfTask(TaskSubscription),
}

impl Live {
    /// The next one; `None` where the client has fallen behind the ring.
    async fn next(&mut self) -> Option<Arc<TaskEvent>> {
        match self {
            Self::OfTask(subscription) => subscription.recv().await,
            Self::OfAll(events) => events.recv().await.ok(),
        }
    }
}

/// Sends one client what it missed and what comes.
struct Follower {
    /// Only this task.
    task_id: Option<Uuid>,
    /// Whether ids name every partition.
    joined_ids: bool,
    state: Shared,
}

impl Follower {
    /// `None` as soon as the stream is over, for whatever reason.
    async fn follow(
        &self,
        resume: Option<Position>,
        from_now: Position,
        mut live: Live,
        ended: bool,
        sender: &mpsc::Sender<sse::Event>,
    ) -> Option<()> {
        let mut position = from_now.clone();
        if let Some(mut from) = resume {
            from.cut_to(&from_now);
            position = match self.task_id {
                None => from.clone(),
                Some(_) => from_now.clone(),
            };
            let mut missed = pin!(missed_events(&self.state, from, &from_now, self.task_id));
            while let Some(event) = missed.next().await {
                let event = event
                    .inspect_err(|error| tracing::warn!(%error, "an event stream cannot catch up"))
                    .ok()?;
                self.send(&event, &mut position, sender).await?;
            }
            position = from_now;
        }
        if ended {
            return None;
        }
        while let Some(event) = live.next().await {
            if event.offset >= position.next(event.partition) {
                self.send(&event, &mut position, sender).await?;
            }
        }
        tracing::info!("a slow event stream is let go; it resumes from the log");
        None
    }

    async fn send(
        &self,
        event: &TaskEvent,
        position: &mut Position,
        sender: &mpsc::Sender<sse::Event>,
    ) -> Option<()> {
        position.pass(event.partition, event.offset);
        let id = if self.joined_ids {
            position.to_string()
        } else {
            event.id()
        };
        let message = sse::Event::default()
            .event(event.event_type)
            .id(id)
            .data(&event.data);
        // A client that takes nothing for so long gives its place to another; it resumes when it comes back.
        tokio::time::timeout(STALLED_LIMIT, sender.send(message))
            .await
            .ok()?
            .ok()?;
        let over = self.task_id.is_some() && event.ends_task();
        (!over).then_some(())
    }
}
