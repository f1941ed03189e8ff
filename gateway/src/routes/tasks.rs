//! Submitting tasks, looking at them and stopping them.

use atelier_schemas::{
    ErrorBody, ErrorCode, ImageSource, Priority, TaskAnswer, TaskOptions, TaskRequest, TaskStatus,
    Trimap, answer::TaskPage, from_json, request::MAX_IMAGES_PER_TASK, urgency::deadline_from_text,
};
use atelier_stores::ledger::CancelRequested;
use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State as Shares, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

use super::Endpoint;
use crate::{
    accept::{self, Accepted},
    body,
    error::{ApiError, GATEWAY},
    guard::RequestTrace,
    multipart::{self, Form},
    state::{Shared, State},
};

pub const CREATE: Endpoint = Endpoint {
    method: "post",
    path: "/api/v1/tasks",
    handler: || post(create),
    document: |operation| {
        operation
            .named("createTask", "tasks", "Submit a task")
            .describe(
                "Takes JSON in the short or the long form, or `multipart/form-data` with files in parts named `images` (each may be \
                 followed by a part `trimap`, a file that belongs to it), an optional part `options` (JSON, as `options` of the long form), an optional part `urls` (one address a line), \
                 and optional parts `deadline` and `priority`. An accepted task is in the ledger and goes to the topic \
                 `image-tasks`, or with the priority `bulk` to `image-tasks-bulk`, whatever dies in between. With \
                 `Idempotency-Key` a repeat is the same task. What no stage has begun by the `deadline` ends as failed.",
            )
            .header("Idempotency-Key", "1 to 255 visible ASCII characters; makes the task's id.")
            .header("traceparent", "W3C trace context; the task's events carry the trace on.")
            .body::<TaskRequest>("application/json")
            .raw_body("multipart/form-data", upload_schema())
            .answer::<TaskAnswer>(202, "Accepted; `Location` is the task.")
            .answer::<TaskAnswer>(200, "The same request was accepted before under this key or id.")
            .errors(&[400, 403, 408, 409, 413, 415, 422, 503, 507])
    },
};

pub const LIST: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/tasks",
    handler: || get(list),
    document: |operation| {
        operation
            .named("listTasks", "tasks", "Tasks, newest first")
            .query("cursor", "`nextCursor` of the page before.", false)
            .query(
                "limit",
                "Tasks on a page, 1 to 100; 20 where it is absent.",
                false,
            )
            .answer::<TaskPage>(200, "A page of tasks.")
            .errors(&[422, 503])
    },
};

pub const SHOW: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/tasks/{id}",
    handler: || get(show),
    document: |operation| {
        operation
            .named("getTask", "tasks", "One task")
            .path_parameter("id", "The task.")
            .answer::<TaskAnswer>(200, "The task as it stands.")
            .errors(&[404, 503])
    },
};

pub const CANCEL: Endpoint = Endpoint {
    method: "delete",
    path: "/api/v1/tasks/{id}",
    handler: || delete(cancel),
    document: |operation| {
        operation
            .named("cancelTask", "tasks", "Stop a task")
            .describe(
                "Every image that has not ended ends as cancelled, and the task with it; results that are there stay. The \
                 request goes to the topic `task-control`, whatever dies in between; the stages drop what they have of the \
                 task, and the end comes as it does for every task. A repeat changes nothing.",
            )
            .path_parameter("id", "The task.")
            .header("traceparent", "W3C trace context; the task's end carries the trace on.")
            .answer::<TaskAnswer>(202, "It will stop; the task as it stands.")
            .answer::<TaskAnswer>(200, "It is cancelled already.")
            .errors(&[403, 404, 409, 503, 507])
    },
};

fn upload_schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "properties": {
            "images": { "type": "array", "items": { "type": "string", "format": "binary" } },
            "trimap": { "type": "string", "format": "binary", "description": "The trimap of the picture before it." },
            "options": { "$ref": "#/components/schemas/TaskOptions" },
            "urls": { "type": "string", "description": "One address a line." },
            "deadline": { "type": "string", "format": "date-time", "description": "As `deadline` of the JSON form." },
            "priority": { "$ref": "#/components/schemas/Priority" },
        },
        "additionalProperties": false,
    })
}

async fn create(
    Shares(state): Shares<Shared>,
    Extension(trace): Extension<RequestTrace>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let fixed_id = accept::idempotent_task_id(&headers)?;
    let media_type = body::media_type(&headers);
    let request = if media_type == "multipart/form-data" {
        from_form(&state, &headers, content).await?
    } else if body::is_json(&media_type) {
        body::json(
            &headers,
            content,
            state.options.max_json_bytes,
            state.body_idle_timeout(),
        )
        .await?
    } else {
        return Err(body::unsupported_media_type(
            &media_type,
            "application/json or multipart/form-data",
        ));
    };
    refuse_repeats(&request)?;
    answer_accepted(accept::accept(&state, request, fixed_id, trace, "api").await?)
}

/// The gateway knows the originals of what is repeated itself, and says what is wrong with a repeat.
fn refuse_repeats(request: &TaskRequest) -> Result<(), ApiError> {
    let repeats = |image: &ImageSource| image.repeat_of.is_some();
    let Some(index) = request.images.iter().position(repeats) else {
        return Ok(());
    };
    let message = "a picture is repeated by POST /api/v1/tasks/{id}/repeat";
    Err(ApiError::invalid("RepeatNotHere", message).at(format!("/images/{index}/repeatOf")))
}

/// The answer about a task that was taken in.
pub fn answer_accepted(Accepted { answer, repeated }: Accepted) -> Result<Response, ApiError> {
    let status = if repeated {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let location = HeaderValue::from_str(&format!("/api/v1/tasks/{}", answer.task_id))
        .map_err(|_| State::stopping())?;
    Ok((
        status,
        [
            (header::LOCATION, location),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ],
        Json(answer),
    )
        .into_response())
}

async fn from_form(
    state: &State,
    headers: &HeaderMap,
    content: Body,
) -> Result<TaskRequest, ApiError> {
    let _slot = state
        .upload_slots
        .acquire()
        .await
        .map_err(|_| State::stopping())?;
    let mut form = Form::new(
        headers,
        content,
        state.options.max_request_bytes,
        state.body_idle_timeout(),
    )?;
    match read_form(state, &mut form).await {
        Ok(request) => Ok(request),
        Err(refused) => {
            form.discard().await;
            Err(refused)
        }
    }
}

/// What the parts of a form bring.
#[derive(Default)]
struct Brought {
    images: Vec<ImageSource>,
    options: Option<TaskOptions>,
    deadline: Option<DateTime<Utc>>,
    priority: Option<Priority>,
}

impl Brought {
    /// The index of the picture that a trimap belongs to which comes now: the last one.
    fn place_of_trimap(&self) -> Result<usize, ApiError> {
        let refused = |name, message: &str| Err(ApiError::invalid(name, message).at("/trimap"));
        match self.images.iter().enumerate().next_back() {
            None => refused(
                "TrimapWithoutPicture",
                "the part `trimap` belongs to the picture before it, and there is none: send the picture first",
            ),
            Some((
                _,
                ImageSource {
                    trimap: Some(_), ..
                },
            )) => refused(
                "PartRepeated",
                "the picture before this part `trimap` has one already",
            ),
            Some((index, _)) => Ok(index),
        }
    }

    /// Takes the text of the part `options`, `deadline` or `priority`.
    fn take_text(&mut self, name: &str, text: &str) -> Result<(), ApiError> {
        let refused =
            |message: String| ApiError::invalid("InvalidRequest", message).at(format!("/{name}"));
        let is_first = match name {
            "options" => self.options.replace(options_of(text)?).is_none(),
            "deadline" => {
                let deadline = deadline_from_text(text.trim()).map_err(refused)?;
                self.deadline.replace(deadline).is_none()
            }
            _ => {
                let shown: String = text.trim().chars().take(80).collect();
                let priority = Priority::from_text(&shown).ok_or_else(|| {
                    refused(format!(
                        "`{shown}` is no priority: write `interactive` or `bulk`"
                    ))
                })?;
                self.priority.replace(priority).is_none()
            }
        };
        if is_first {
            return Ok(());
        }
        let message = format!("the part `{name}` is there twice");
        Err(ApiError::invalid("PartRepeated", message).at(format!("/{name}")))
    }
}

fn options_of(text: &str) -> Result<TaskOptions, ApiError> {
    from_json(text.as_bytes()).map_err(|error| {
        let pointer = format!("/options{}", error.pointer().unwrap_or_default());
        ApiError::from(error)
            .with_status(StatusCode::UNPROCESSABLE_ENTITY)
            .at(pointer)
    })
}

async fn read_form(state: &State, form: &mut Form) -> Result<TaskRequest, ApiError> {
    let mut brought = Brought::default();
    while let Some(part) = form.next().await? {
        let name = multipart::name_of(&part);
        match name.as_str() {
            "images" => {
                let pointer = format!("/images/{}", brought.images.len());
                room_for_one_more(&brought.images)?;
                let upload = multipart::store(state, part, &pointer).await?;
                brought.images.push(ImageSource {
                    name: upload.name,
                    size: Some(upload.blob.bytes),
                    blob: Some(upload.blob),
                    ..ImageSource::default()
                });
            }
            "trimap" => {
                let index = brought.place_of_trimap()?;
                let pointer = format!("/images/{index}/trimap");
                let upload = multipart::store(state, part, &pointer).await?;
                brought.images[index].trimap = Some(Trimap {
                    url: None,
                    blob: Some(upload.blob),
                });
            }
            "urls" => {
                let text = multipart::text(part, multipart::TEXT_LIMIT_BYTES).await?;
                for url in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                    room_for_one_more(&brought.images)?;
                    brought.images.push(ImageSource {
                        url: Some(url.to_owned()),
                        ..ImageSource::default()
                    });
                }
            }
            "options" | "deadline" | "priority" => {
                let text = multipart::text(part, multipart::TEXT_LIMIT_BYTES).await?;
                brought.take_text(&name, &text)?;
            }
            _ => {
                let message = format!(
                    "the part `{name}` is not known: send `images`, `trimap`, `urls`, `options`, `deadline` and `priority`"
                );
                return Err(ApiError::invalid("UnknownPart", message));
            }
        }
    }
    Ok(TaskRequest {
        task_id: None,
        images: brought.images,
        kind: None,
        quality: None,
        watermark: None,
        options: brought.options,
        callback: None,
        deadline: brought.deadline,
        priority: brought.priority.unwrap_or_default(),
    })
}

/// Refused as soon as it is certain, not after the last upload.
fn room_for_one_more(images: &[ImageSource]) -> Result<(), ApiError> {
    if images.len() < MAX_IMAGES_PER_TASK {
        return Ok(());
    }
    let message = format!("more than {MAX_IMAGES_PER_TASK} images in one task");
    Err(
        ErrorBody::new(ErrorCode::TooManyImages, GATEWAY, "TooManyImages", message)
            .at("/images")
            .into(),
    )
}

#[derive(Deserialize)]
struct ListQuery {
    cursor: Option<String>,
    limit: Option<u32>,
}

async fn list(
    Shares(state): Shares<Shared>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<TaskPage>, ApiError> {
    let Query(ListQuery { cursor, limit }) = query.map_err(bad_query)?;
    let limit = limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(ApiError::invalid(
            "InvalidLimit",
            format!("limit is {limit}, give 1 to 100"),
        ));
    }
    let (tasks, next_cursor) = state.deps.ledger.tasks(cursor.as_deref(), limit).await?;
    Ok(Json(TaskPage { tasks, next_cursor }))
}

async fn show(Shares(state): Shares<Shared>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let task = find(&state, &id).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(task)).into_response())
}

async fn cancel(
    Shares(state): Shares<Shared>,
    Extension(RequestTrace(trace)): Extension<RequestTrace>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let task_id = parse_id(&id)?;
    let requested = state
        .deps
        .ledger
        .request_cancel(task_id, Utc::now(), Some(trace.to_string()))
        .await?;
    let status = match requested {
        CancelRequested::Unknown => return Err(ApiError::not_found(format!("no task {task_id}"))),
        CancelRequested::Ended(TaskStatus::Cancelled) => StatusCode::OK,
        CancelRequested::Ended(status) => {
            let message = format!(
                "the task {task_id} has ended as {} already: there is nothing left to cancel",
                status.as_str()
            );
            return Err(
                ApiError::new(ErrorCode::AlreadyEnded, "AlreadyEnded", message).of_task(task_id),
            );
        }
        CancelRequested::Requested => {
            state.outbox_wake.notify_one();
            tracing::info!(%task_id, "to be cancelled");
            StatusCode::ACCEPTED
        }
    };
    let task = find(&state, &id).await?;
    Ok((status, [(header::CACHE_CONTROL, "no-store")], Json(task)).into_response())
}

/// The task of that id.
///
/// # Errors
/// 404 where there is none, also where `id` is no UUID at all.
pub async fn find(state: &State, id: &str) -> Result<TaskAnswer, ApiError> {
    let task_id = parse_id(id)?;
    let task = state.deps.ledger.task(task_id).await?;
    task.ok_or_else(|| ApiError::not_found(format!("no task {task_id}")))
}

/// `id` as a task's id.
///
/// # Errors
/// 404: what is no UUID is no task either.
pub fn parse_id(id: &str) -> Result<Uuid, ApiError> {
    id.parse().map_err(|_| {
        let shown: String = id.chars().take(80).collect();
        ApiError::not_found(format!("`{shown}` is not the id of a task: ids are UUIDs"))
    })
}

/// The error of a query that does not parse.
#[allow(clippy::needless_pass_by_value)]
pub fn bad_query(rejection: QueryRejection) -> ApiError {
    ApiError::invalid("InvalidQuery", rejection.body_text())
}
