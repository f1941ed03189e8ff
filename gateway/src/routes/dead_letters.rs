//! What the stages gave up, and putting it back.

use atelier_schemas::TopicTable;
use axum::{
    Json,
    body::Body,
    extract::{Query, State as Shares, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Endpoint, tasks};
use crate::{body, error::ApiError, log::DeadLetter, state::Shared};

pub const LIST: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/dead-letters",
    handler: || get(list),
    document: |operation| {
        operation
            .named(
                "listDeadLetters",
                "dead letters",
                "What the stages gave up, newest first",
            )
            .query("stage", "Only of this stage.", false)
            .query("limit", "1 to 500; 50 where it is absent.", false)
            .answer::<DeadLetters>(200, "Dead letters.")
            .errors(&[422, 503])
    },
};

pub const REPLAY: Endpoint = Endpoint {
    method: "post",
    path: "/api/v1/dead-letters/replay",
    handler: || post(replay),
    document: |operation| {
        operation
            .named("replayDeadLetter", "dead letters", "Put a dead letter back")
            .describe("The event goes back to its stage under its own id, marked with `ce_replay`; effects that were had are not had again.")
            .body::<ReplayRequest>("application/json")
            .answer::<ReplayAnswer>(202, "It is on the log.")
            .errors(&[400, 403, 404, 413, 415, 422, 503])
    },
};

/// Dead letters, newest first.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeadLetters {
    /// The letters.
    dead_letters: Vec<DeadLetter>,
}

/// Which dead letter to put back.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplayRequest {
    /// The stage that gave it up.
    stage: String,
    /// Its partition on the stage's dead-letter topic.
    partition: i32,
    /// Its offset there.
    offset: i64,
}

/// What was put back.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ReplayAnswer {
    /// The event's id.
    event_id: Uuid,
}

#[derive(Deserialize)]
struct ListQuery {
    stage: Option<String>,
    limit: Option<usize>,
}

async fn list(
    Shares(state): Shares<Shared>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<DeadLetters>, ApiError> {
    let Query(ListQuery { stage, limit }) = query.map_err(tasks::bad_query)?;
    let limit = limit.unwrap_or(50);
    if !(1..=500).contains(&limit) {
        return Err(ApiError::invalid(
            "InvalidLimit",
            format!("limit is {limit}, give 1 to 500"),
        ));
    }
    if let Some(stage) = &stage {
        known_stage(stage)?;
    }
    let dead_letters = state
        .deps
        .line
        .dead_letters(stage.as_deref(), limit)
        .await?;
    Ok(Json(DeadLetters { dead_letters }))
}

async fn replay(
    Shares(state): Shares<Shared>,
    headers: HeaderMap,
    content: Body,
) -> Result<(StatusCode, Json<ReplayAnswer>), ApiError> {
    let request: ReplayRequest = body::json(
        &headers,
        content,
        state.options.max_json_bytes,
        state.body_idle_timeout(),
    )
    .await?;
    known_stage(&request.stage).map_err(|error| error.at("/stage"))?;
    for (value, pointer) in [
        (i64::from(request.partition), "/partition"),
        (request.offset, "/offset"),
    ] {
        if value < 0 {
            return Err(
                ApiError::invalid("NegativePlace", format!("{value} is less than 0")).at(pointer),
            );
        }
    }
    let event_id = state
        .deps
        .line
        .replay(&request.stage, request.partition, request.offset)
        .await?;
    tracing::info!(stage = request.stage, partition = request.partition, offset = request.offset, %event_id, "replayed");
    Ok((StatusCode::ACCEPTED, Json(ReplayAnswer { event_id })))
}

fn known_stage(stage: &str) -> Result<(), ApiError> {
    let stages = TopicTable::embedded().stages();
    if stages.iter().any(|known| known == stage) {
        return Ok(());
    }
    let shown: String = stage.chars().take(80).collect();
    Err(ApiError::invalid(
        "UnknownStage",
        format!("`{shown}` is no stage: give one of {}", stages.join(", ")),
    ))
}
