//! `POST /v1.0/removebg` in the dialect of remove.bg, so that its published clients work with only the address changed.
//!
//! Invariant: it is the same pipeline and the same task as everywhere; only the form differs, and that the answer waits,
//! for a bounded time. A task that takes longer goes on.

mod answer;
mod colors;
mod error;
mod parameters;

use std::{sync::Arc, time::Duration};

use atelier_schemas::{
    BlobRef, ErrorBody, ErrorCode, ImageSource, Priority, TaskAnswer, TaskRequest, from_json,
};
use axum::{
    Extension, body::Body, extract::State as Shares, http::HeaderMap, response::Response,
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::Endpoint;
use crate::{
    accept, body,
    error::GATEWAY,
    guard::RequestTrace,
    multipart::{self, Form},
    state::{Shared, State},
    tail::Subscription,
};
use error::{DialectErrors, Refused};
use parameters::{Fields, Wanted};

/// How often the ledger is asked while no event says that the task has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Room for the other parameters beside a picture in base64.
const FIELDS_RESERVE_BYTES: u64 = 256 * 1024;

pub const REMOVE: Endpoint = Endpoint {
    method: "post",
    path: "/v1.0/removebg",
    handler: || post(remove),
    document: |operation| {
        let binary = serde_json::json!({ "type": "string", "format": "binary" });
        operation
            .named("removeBg", "remove.bg", "Cut out one picture and wait for it")
            .describe(
                "The API of remove.bg: one of `image_file`, `image_url` and `image_file_b64`, and all of its other parameters, with \
                 what its documentation says of each. `shadow_type` `3D` and `car` are both a contact shadow on the ground. What \
                 this server does not do (`preset`, `test`, shadows by type such as `shadow_type[car]`) is refused with 400 and \
                 its name. With `Accept: application/json` the answer is JSON with the picture in base64. `X-Api-Key` is \
                 accepted and ignored on loopback.",
            )
            .header("Accept", "`application/json` for JSON; anything else for the picture itself.")
            .header("X-Api-Key", "Ignored.")
            .raw_body("multipart/form-data", form_schema())
            .raw_body("application/x-www-form-urlencoded", form_schema())
            .raw_body("application/json", form_schema())
            .raw_answer(200, "The picture, with `X-Type`, `X-Width`, `X-Height`, `X-Foreground-Top`, `-Left`, `-Width`, `-Height` and `X-Credits-Charged: 0`.", "image/*", binary)
            .answer::<answer::JsonAnswer>(200, "The picture in base64.")
            .answer::<DialectErrors>(400, "The request is wrong, or the picture cannot be used.")
            .answer::<DialectErrors>(409, "The task was cancelled meanwhile.")
            .answer::<DialectErrors>(500, "The pipeline failed on it.")
            .answer::<DialectErrors>(503, "A dependency is down.")
            .answer::<DialectErrors>(504, "No result in time; the task goes on, `Location` is where.")
            .answer::<DialectErrors>(507, "The disk is full.")
    },
};

fn form_schema() -> Value {
    let text =
        |description: &str| serde_json::json!({ "type": "string", "description": description });
    serde_json::json!({
        "type": "object",
        "properties": {
            "image_file": { "type": "string", "format": "binary", "description": "The picture; in a multipart form only." },
            "image_file_b64": text("The picture in base64."),
            "image_url": text("Where to fetch it."),
            "size": text("preview (0.25 megapixels, the default), medium (1.5), hd (4), full or auto (25), 50MP; a PNG has at most 10."),
            "type": text("auto, person, product, car, animal, graphic, transportation or other."),
            "type_level": text("none, 1, 2 or latest: how finely X-Type tells kinds apart."),
            "format": text("auto, png, jpg, webp, or zip (color.jpg and alpha.png)."),
            "roi": text("Where the subject is: x1 y1 x2 y2, in px or %."),
            "channels": text("rgba or alpha."),
            "crop": text("Whether to crop to the subject."),
            "crop_margin": text("One, two or four lengths, up to 500px or 50% of the subject."),
            "scale": text("original, or the share of the picture that the subject takes: 10% to 100%."),
            "position": text("original, center, or one or two shares from 0% to 100%."),
            "shadow_type": text("none, drop, car, 3D or auto."),
            "shadow_opacity": text("auto, or 0 to 100."),
            "add_shadow": text("Deprecated: a shadow under cars."),
            "semitransparency": text("Whether what is inside of the subject may be transparent in part."),
            "bg_color": text("A hex code without #, or a name."),
            "bg_image_url": text("A picture to lay behind."),
            "bg_image_file": { "type": "string", "format": "binary", "description": "The same, uploaded." },
        },
    })
}

/// What a request brings along.
#[derive(Default)]
struct Brought {
    fields: Fields,
    picture: Option<(Option<String>, BlobRef)>,
    background: Option<BlobRef>,
}

async fn remove(
    Shares(state): Shares<Shared>,
    Extension(trace): Extension<RequestTrace>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Refused> {
    let Brought {
        mut fields,
        picture,
        background,
    } = read(&state, &headers, content).await?;
    let source = one_source(&state, &mut fields, picture).await?;
    let wanted = Wanted::read(&fields, background)?;
    let request = TaskRequest {
        task_id: None,
        images: vec![source],
        kind: None,
        quality: None,
        watermark: None,
        options: Some(wanted.options.clone()),
        callback: None,
        deadline: None,
        priority: Priority::default(),
    };
    // Subscribed before the task exists, so that its end cannot be missed.
    let subscription = state
        .tail
        .subscribe()
        .await
        .map_err(crate::error::ApiError::from)?;
    let accepted = accept::accept(&state, request, None, trace, "removebg").await?;
    let task = wait_for_end(&state, accepted.answer, subscription).await?;
    answer::render(&state, &task, &wanted, answer::wants_json(&headers)).await
}

async fn read(state: &State, headers: &HeaderMap, content: Body) -> Result<Brought, Refused> {
    let media_type = body::media_type(headers);
    let base64_limit = state.options.max_upload_bytes / 3 * 4 + FIELDS_RESERVE_BYTES;
    let _slot = state
        .upload_slots
        .acquire()
        .await
        .map_err(|_| State::stopping())?;
    match media_type.as_str() {
        "multipart/form-data" => {
            let mut form = Form::new(
                headers,
                content,
                state.options.max_request_bytes,
                state.body_idle_timeout(),
            )?;
            match read_form(state, &mut form, base64_limit).await {
                Ok(brought) => Ok(brought),
                Err(refused) => {
                    form.discard().await;
                    Err(refused)
                }
            }
        }
        "application/x-www-form-urlencoded" => {
            let bytes = body::whole(content, base64_limit, state.body_idle_timeout()).await?;
            let pairs = url::form_urlencoded::parse(&bytes);
            let fields = pairs
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.into_owned(), value.into_owned()));
            Ok(Brought {
                fields: fields.collect(),
                ..Brought::default()
            })
        }
        json if body::is_json(json) => {
            let bytes = body::whole(content, base64_limit, state.body_idle_timeout()).await?;
            let object: serde_json::Map<String, Value> =
                from_json(&bytes).map_err(crate::error::ApiError::from)?;
            Ok(Brought {
                fields: texts(object)?,
                ..Brought::default()
            })
        }
        other => Err(body::unsupported_media_type(
            other,
            "multipart/form-data, application/x-www-form-urlencoded or application/json",
        )
        .into()),
    }
}

async fn read_form(state: &State, form: &mut Form, base64_limit: u64) -> Result<Brought, Refused> {
    let mut brought = Brought::default();
    while let Some(part) = form.next().await? {
        let name = multipart::name_of(&part);
        match name.as_str() {
            "image_file" if brought.picture.is_some() => return Err(multiple_sources()),
            "image_file" => {
                let upload = multipart::store(state, part, "/image_file").await?;
                brought.picture = Some((upload.name, upload.blob));
            }
            "bg_image_file" => {
                brought.background =
                    Some(multipart::store(state, part, "/bg_image_file").await?.blob);
            }
            _ => {
                let limit = if name == "image_file_b64" {
                    base64_limit
                } else {
                    FIELDS_RESERVE_BYTES
                };
                let text = multipart::text(part, limit).await?;
                if !text.is_empty() {
                    brought.fields.insert(name, text);
                }
            }
        }
    }
    Ok(brought)
}

fn texts(object: serde_json::Map<String, Value>) -> Result<Fields, Refused> {
    let mut fields = Fields::new();
    for (name, value) in object {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            other @ (Value::Array(_) | Value::Object(_)) => {
                return Err(Refused::invalid(&name, &other.to_string(), "a text"));
            }
        };
        if !text.is_empty() {
            fields.insert(name, text);
        }
    }
    Ok(fields)
}

fn multiple_sources() -> Refused {
    Refused::request(
        "multiple_sources",
        "Multiple image sources given",
        "give one of image_url, image_file and image_file_b64",
    )
}

async fn one_source(
    state: &State,
    fields: &mut Fields,
    picture: Option<(Option<String>, BlobRef)>,
) -> Result<ImageSource, Refused> {
    let url = fields.remove("image_url");
    let base64 = fields.remove("image_file_b64");
    match (picture, url, base64) {
        (Some((name, blob)), None, None) => Ok(uploaded(name, blob)),
        (None, Some(url), None) => Ok(ImageSource {
            url: Some(url),
            ..ImageSource::default()
        }),
        (None, None, Some(text)) => Ok(uploaded(None, store_base64(state, text).await?)),
        (None, None, None) => Err(Refused::request(
            "missing_source",
            "No image given",
            "give the picture as image_url, image_file or image_file_b64",
        )),
        _ => Err(multiple_sources()),
    }
}

fn uploaded(name: Option<String>, blob: BlobRef) -> ImageSource {
    ImageSource {
        name,
        size: Some(blob.bytes),
        blob: Some(blob),
        ..ImageSource::default()
    }
}

async fn store_base64(state: &State, text: String) -> Result<BlobRef, Refused> {
    // Some clients send a data URL, some break lines.
    let digits = text
        .split_once("base64,")
        .map_or(text.as_str(), |(_, digits)| digits);
    let compact: String = digits
        .chars()
        .filter(|sign| !sign.is_ascii_whitespace())
        .collect();
    drop(text);
    let bytes = STANDARD.decode(compact).map_err(|error| {
        Refused::request(
            "invalid_image_file_b64",
            format!("image_file_b64 is not base64: {error}"),
            "encode the file's bytes in standard base64",
        )
    })?;
    let stream = futures::stream::iter([Ok(Bytes::from(bytes))]);
    let (blob, _) = multipart::store_bytes(state, stream, "/image_file_b64").await?;
    Ok(blob)
}

/// Waits for the task's end: an event says so, and the ledger is asked besides, for the case that the log is away.
async fn wait_for_end(
    state: &Arc<State>,
    accepted: TaskAnswer,
    mut subscription: Subscription,
) -> Result<TaskAnswer, Refused> {
    let task_id = accepted.task_id;
    let deadline = Instant::now() + Duration::from_millis(state.options.sync_timeout_ms);
    let mut task = accepted;
    loop {
        if task.status.is_terminal() {
            return Ok(task);
        }
        if Instant::now() >= deadline {
            return Err(Refused::timed_out(task_id, state.options.sync_timeout_ms));
        }
        let look = deadline.min(Instant::now() + LOOK_EVERY);
        tokio::select! {
            () = tokio::time::sleep_until(look) => {}
            () = its_end(&mut subscription, task_id) => {}
            () = state.shutdown.cancelled() => return Err(State::stopping().into()),
        }
        if let Some(found) = state
            .deps
            .ledger
            .task(task_id)
            .await
            .map_err(crate::error::ApiError::from)?
        {
            task = found;
        }
    }
}

async fn its_end(subscription: &mut Subscription, task_id: uuid::Uuid) {
    loop {
        match subscription.events.recv().await {
            Ok(event) if event.task_id == task_id && event.ends_task() => return,
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            // The tail is gone with the gateway; the look at the ledger goes on.
            Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The error of an image without a result; every failed image has one.
fn error_of(task: &TaskAnswer) -> ErrorBody {
    let of_image = task.results.first().and_then(|image| image.error.clone());
    of_image.or_else(|| task.error.clone()).unwrap_or_else(|| {
        ErrorBody::new(
            ErrorCode::Internal,
            GATEWAY,
            "NoResult",
            format!(
                "the task {} ended as {} without a result",
                task.task_id,
                task.status.as_str()
            ),
        )
    })
}
