//! The line of stages: queues, speed, open tasks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State as Shares,
    response::{Response, sse},
    routing::get,
};
use tokio::sync::mpsc;

use super::{Endpoint, events};
use crate::{
    error::ApiError,
    line::PipelineAnswer,
    state::{Shared, State},
};

/// How often it is measured while somebody looks.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is sent although nothing changed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

pub const SHOW: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/pipeline",
    handler: || get(show),
    document: |operation| {
        operation
            .named("getPipeline", "pipeline", "How the line stands")
            .answer::<PipelineAnswer>(
                200,
                "Queues from the log's offsets, speed from the events of the last 60 s.",
            )
            .errors(&[503])
    },
};

pub const FOLLOW: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/pipeline/events",
    handler: || get(follow),
    document: |operation| {
        operation
            .named("followPipeline", "pipeline", "How the line stands, live")
            .describe("Server-sent events `pipeline` with what `/api/v1/pipeline` answers: every second while it changes, at least every 10 s.")
            .raw_answer(200, "The stream.", "text/event-stream", serde_json::json!({ "type": "string" }))
            .errors(&[503])
    },
};

async fn show(Shares(state): Shares<Shared>) -> Result<Json<PipelineAnswer>, ApiError> {
    Ok(Json(state.line.measure(state.deps.line.as_ref()).await?))
}

async fn follow(Shares(state): Shares<Shared>) -> Result<Response, ApiError> {
    let slot = events::stream_slot(&state)?;
    let measured = Arc::clone(&state);
    Ok(events::stream(&state, slot, move |sender| async move {
        send_changes(&measured, &sender).await
    }))
}

async fn send_changes(state: &State, sender: &mpsc::Sender<sse::Event>) -> Option<()> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last: Option<(Instant, PipelineAnswer)> = None;
    loop {
        ticks.tick().await;
        let answer = match state.line.measure(state.deps.line.as_ref()).await {
            Ok(answer) => answer,
            Err(error) => {
                // The page shows the last figures as they are and learns from /health/ready what is down.
                tracing::debug!(%error, "the line cannot be measured now");
                continue;
            }
        };
        let stale = last.as_ref().is_none_or(|(at, before)| {
            at.elapsed() >= AT_LEAST_EVERY
                || before.stages != answer.stages
                || before.tasks_open != answer.tasks_open
        });
        if stale {
            let data = serde_json::to_string(&answer).ok()?;
            sender
                .send(sse::Event::default().event("pipeline").data(data))
                .await
                .ok()?;
            last = Some((Instant::now(), answer));
        }
    }
}
