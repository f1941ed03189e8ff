//! Repeating pictures that are there with other options, and looking at their versions.
//!
//! Invariant: a repeat is a task like every other; what it repeats stays as it is.

use std::collections::HashSet;

use atelier_schemas::{
    ErrorCode, ImageSource, TaskStatus,
    answer::VersionsAnswer,
    request::{RepeatOf, RepeatRequest},
};
use atelier_stores::ledger::ImageRecord;
use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State as Shares},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use uuid::Uuid;

use super::{Endpoint, tasks};
use crate::{accept, body, error::ApiError, guard::RequestTrace, state::Shared};

pub const REPEAT: Endpoint = Endpoint {
    method: "post",
    path: "/api/v1/tasks/{id}/repeat",
    handler: || post(repeat),
    document: |operation| {
        operation
            .named("repeatTask", "tasks", "Repeat a task's pictures with other options")
            .describe(
                "Makes a new task of pictures that are there already: their originals go through the pipeline again, nothing is \
                 uploaded or fetched. Each image of it is the next version of the picture (`version`, `repeatOf`); what was made \
                 before stays where it is. A picture may be repeated as soon as its original is known, that is at once where it \
                 was uploaded, and with its result where it was fetched from an address.",
            )
            .path_parameter("id", "The task whose pictures are repeated.")
            .header("Idempotency-Key", "1 to 255 visible ASCII characters; makes the new task's id.")
            .header("traceparent", "W3C trace context; the new task's events carry the trace on.")
            .body::<RepeatRequest>("application/json")
            .answer::<atelier_schemas::TaskAnswer>(202, "Accepted; `Location` is the new task.")
            .answer::<atelier_schemas::TaskAnswer>(200, "The same repeat was accepted before under this key.")
            .errors(&[400, 403, 404, 408, 409, 410, 413, 415, 422, 503, 507])
    },
};

pub const LIST: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/tasks/{id}/images/{index}/versions",
    handler: || get(list),
    document: |operation| {
        operation
            .named("listVersions", "images", "Every version of a picture")
            .describe(
                "The first version first; the same list from whichever version it is asked for.",
            )
            .path_parameter("id", "The task of any of them.")
            .path_parameter("index", "That image's place in its request, from 0.")
            .answer::<VersionsAnswer>(200, "The versions as they stand.")
            .errors(&[404, 503])
    },
};

async fn repeat(
    Shares(state): Shares<Shared>,
    Extension(trace): Extension<RequestTrace>,
    Path(id): Path<String>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let repeated = tasks::parse_id(&id)?;
    let fixed_id = accept::idempotent_task_id(&headers)?;
    let mut request: RepeatRequest = body::json(
        &headers,
        content,
        state.options.max_json_bytes,
        state.body_idle_timeout(),
    )
    .await?;
    let records = state.deps.ledger.images(repeated).await?;
    let records = records.ok_or_else(|| ApiError::not_found(format!("no task {repeated}")))?;
    let chosen = match request.images.take() {
        Some(wanted) => choose(&records, &wanted, repeated)?,
        None => records.iter().collect(),
    };
    if chosen.is_empty() {
        return Err(no_original(format!(
            "the task {repeated} has no images to repeat"
        )));
    }
    let sources = chosen.into_iter().map(source_of);
    let sources = sources.collect::<Result<_, _>>()?;
    let accepted = accept::accept(&state, request.of(sources), fixed_id, trace, "repeat").await?;
    tasks::answer_accepted(accepted)
}

/// The images that are asked for, in that order.
fn choose<'a>(
    records: &'a [ImageRecord],
    wanted: &[Uuid],
    task_id: Uuid,
) -> Result<Vec<&'a ImageRecord>, ApiError> {
    let mut seen = HashSet::with_capacity(wanted.len());
    let find = |(index, image_id): (usize, &Uuid)| {
        let pointer = format!("/images/{index}");
        if !seen.insert(*image_id) {
            let message = format!("the image {image_id} is named twice");
            return Err(ApiError::invalid("ImageRepeated", message).at(pointer));
        }
        let record = records.iter().find(|record| record.image_id == *image_id);
        record.ok_or_else(|| {
            ApiError::not_found(format!("the task {task_id} has no image {image_id}")).at(pointer)
        })
    };
    if wanted.is_empty() {
        let message = "name at least one image, or leave `images` out to repeat all";
        return Err(ApiError::invalid("InvalidRequest", message).at("/images"));
    }
    wanted.iter().enumerate().map(find).collect()
}

/// The original of `record`, as the repeat's source. Written the same whatever has become of the image since, so that a repeat
/// of the request is the same request.
fn source_of(record: &ImageRecord) -> Result<ImageSource, ApiError> {
    let image_id = record.image_id;
    let Some(original) = record.original() else {
        return Err(no_original(if record.status == TaskStatus::Pending {
            format!(
                "the image {image_id} was not fetched yet, or is still in work: repeat it when it has its result"
            )
        } else {
            format!(
                "the image {image_id} ended without an original that is known here: submit its address again, or name the other images in `images`"
            )
        }));
    };
    Ok(ImageSource {
        url: None,
        trimap: record.trimap.clone(),
        name: record.name.clone(),
        size: Some(original.bytes),
        blob: Some(original.clone()),
        repeat_of: Some(RepeatOf {
            task_id: record.task_id,
            image_id,
        }),
    })
}

fn no_original(message: String) -> ApiError {
    ApiError::new(ErrorCode::NoOriginal, "NoOriginal", message)
}

async fn list(
    Shares(state): Shares<Shared>,
    Path((id, index)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let task_id = tasks::parse_id(&id)?;
    let versions = match index.parse::<u32>() {
        Ok(index) => state.deps.ledger.versions(task_id, index).await?,
        Err(_) => None,
    };
    let versions = versions.ok_or_else(|| {
        let shown: String = index.chars().take(20).collect();
        ApiError::not_found(format!("there is no image `{shown}` of a task {task_id}"))
    })?;
    Ok((
        [(header::CACHE_CONTROL, "no-store")],
        Json(VersionsAnswer { versions }),
    )
        .into_response())
}
