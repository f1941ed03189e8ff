//! The answer in the form of remove.bg: the picture itself, or JSON with the picture in base64.

use std::sync::Arc;

use atelier_schemas::{
    BlobRef, Kind, TaskAnswer,
    events::{ImageResult, SubjectBox},
};
use axum::{
    Json,
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::blob, error::Refused, error_of, parameters::Wanted};
use crate::{
    error::ApiError,
    media,
    state::{Shared, State},
};

/// The picture in base64.
#[derive(Serialize, JsonSchema)]
pub struct JsonAnswer {
    /// What was asked for.
    data: JsonData,
}

/// The picture and the box around its subject.
#[derive(Serialize, JsonSchema)]
struct JsonData {
    /// The file in base64.
    result_b64: String,
    /// Upper edge of the subject, in pixels.
    foreground_top: u32,
    /// Left edge of the subject, in pixels.
    foreground_left: u32,
    /// Width of the subject, in pixels.
    foreground_width: u32,
    /// Height of the subject, in pixels.
    foreground_height: u32,
}

/// Whether JSON is preferred: it is named, and a picture is not.
pub fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.contains("application/json") && !accept.contains("image/")
}

/// The finished picture of `task` as it was asked for.
///
/// # Errors
/// What failed in the pipeline; 503 where the stores are away.
pub async fn render(
    state: &Shared,
    task: &TaskAnswer,
    wanted: &Wanted,
    as_json: bool,
) -> Result<Response, Refused> {
    let record = state
        .deps
        .ledger
        .image(task.task_id, 0)
        .await
        .map_err(ApiError::from)?;
    let Some(result) = record.and_then(|record| record.result) else {
        return Err(Refused::failed(&error_of(task), task.task_id));
    };
    let mut response = if as_json {
        as_base64(state, &result).await?
    } else {
        whole(state, &result.result)
    };
    let headers = response.headers_mut();
    size_headers(headers, &result);
    insert(headers, "x-credits-charged", "0");
    if let Some(name) = wanted
        .type_level
        .map(|level| type_name(result.metadata.kind, level))
    {
        insert(headers, "x-type", name);
    }
    insert(headers, "x-task-id", &task.task_id.to_string());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn type_name(kind: Kind, level: u8) -> &'static str {
    match (kind, level) {
        (Kind::Portrait, _) => "person",
        (Kind::Product, _) => "product",
        (Kind::Graphic, 1) => "other",
        (Kind::Graphic, _) => "graphics",
    }
}

/// The file as it is, piece by piece.
fn whole(state: &State, file: &BlobRef) -> Response {
    let body = Body::from_stream(blob::pieces(
        Arc::clone(&state.deps.blobs),
        file.key.clone(),
        0..file.bytes,
    ));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(media::harmless(&file.media_type)),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.bytes));
    response
}

async fn as_base64(state: &State, result: &ImageResult) -> Result<Response, Refused> {
    let _slot = state
        .picture_slots
        .acquire()
        .await
        .map_err(|_| State::stopping())?;
    let file = state
        .deps
        .blobs
        .get(&result.result.key)
        .await
        .map_err(ApiError::from)?;
    let foreground = foreground(result);
    let data = JsonData {
        result_b64: STANDARD.encode(&file),
        foreground_top: foreground.top,
        foreground_left: foreground.left,
        foreground_width: foreground.width,
        foreground_height: foreground.height,
    };
    Ok(Json(JsonAnswer { data }).into_response())
}

/// The box around the subject; an empty one where there is none.
fn foreground(result: &ImageResult) -> SubjectBox {
    result.metadata.subject.unwrap_or(SubjectBox {
        left: 0,
        top: 0,
        width: 0,
        height: 0,
    })
}

fn size_headers(headers: &mut HeaderMap, result: &ImageResult) {
    let foreground = foreground(result);
    for (name, pixels) in [
        ("x-width", result.result.width),
        ("x-height", result.result.height),
        ("x-foreground-top", foreground.top),
        ("x-foreground-left", foreground.left),
        ("x-foreground-width", foreground.width),
        ("x-foreground-height", foreground.height),
    ] {
        insert(headers, name, &pixels.to_string());
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Numbers, ids and names from this file: always ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
