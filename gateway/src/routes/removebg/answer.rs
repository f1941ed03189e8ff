//! The answer in the form of remove.bg: the picture itself, or JSON with the picture in base64.

use std::sync::Arc;

use atelier_schemas::{BlobRef, ImageFormat, Kind, TaskAnswer, events::ImageResult, request::Crop};
use axum::{
    Json,
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use image::DynamicImage;
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::blob, error::Refused, error_of, parameters::Wanted};
use crate::{
    error::ApiError,
    media,
    picture::{self, Encoding, Foreground, PictureError},
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
    let pixels = u64::from(result.result.width) * u64::from(result.result.height);
    let shrink_to = wanted.max_pixels.filter(|most| pixels > *most);
    let mut response = if as_json || shrink_to.is_some() {
        prepared(state, &result, wanted, shrink_to, as_json).await?
    } else {
        whole(state, &result.result)
    };
    let headers = response.headers_mut();
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
    size_headers(headers, file.width, file.height);
    response
}

/// The file decoded: made smaller, or looked at for the box around the subject.
async fn prepared(
    state: &State,
    result: &ImageResult,
    wanted: &Wanted,
    shrink_to: Option<u64>,
    as_json: bool,
) -> Result<Response, Refused> {
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
    let alpha = if as_json {
        Some(
            state
                .deps
                .blobs
                .get(&result.alpha.key)
                .await
                .map_err(ApiError::from)?,
        )
    } else {
        None
    };
    let encoding = encoding_of(wanted.options.output.format);
    let cropped = wanted.options.output.crop == Crop::Subject;
    let media_type = media::harmless(&result.result.media_type);
    let size = (result.result.width, result.result.height);
    let work = move || {
        prepare(&file, alpha.as_ref(), size, cropped, shrink_to, encoding)
            .map(|prepared| (prepared, media_type))
    };
    let (prepared, media_type) = tokio::task::spawn_blocking(work).await.map_err(|error| {
        ApiError::new(
            atelier_schemas::ErrorCode::Internal,
            "Panicked",
            format!("preparing the picture panicked: {error}"),
        )
    })??;
    let Prepared {
        bytes,
        width,
        height,
        foreground,
    } = prepared;
    let mut response = if as_json {
        let data = JsonData {
            result_b64: STANDARD.encode(&bytes),
            foreground_top: foreground.top,
            foreground_left: foreground.left,
            foreground_width: foreground.width,
            foreground_height: foreground.height,
        };
        Json(JsonAnswer { data }).into_response()
    } else {
        let media_type = if shrink_to.is_some() {
            encoding.media_type()
        } else {
            media_type
        };
        ([(header::CONTENT_TYPE, media_type)], bytes).into_response()
    };
    size_headers(response.headers_mut(), width, height);
    Ok(response)
}

/// The dialect has no AVIF.
fn encoding_of(format: ImageFormat) -> Encoding {
    match format {
        ImageFormat::Jpeg => Encoding::Jpeg,
        ImageFormat::Webp => Encoding::Webp,
        ImageFormat::Png | ImageFormat::Avif => Encoding::Png,
    }
}

struct Prepared {
    bytes: Bytes,
    width: u32,
    height: u32,
    foreground: Foreground,
}

fn prepare(
    file: &Bytes,
    alpha: Option<&Bytes>,
    size: (u32, u32),
    cropped: bool,
    shrink_to: Option<u64>,
    encoding: Encoding,
) -> Result<Prepared, PictureError> {
    let found = match alpha {
        Some(alpha) => foreground_of(&picture::decode(alpha)?, size, cropped),
        None => Foreground::default(),
    };
    let Some(max_pixels) = shrink_to else {
        return Ok(Prepared {
            bytes: file.clone(),
            width: size.0,
            height: size.1,
            foreground: found,
        });
    };
    let small = picture::shrunk(picture::decode(file)?, max_pixels);
    let (width, height) = (small.width(), small.height());
    let bytes = Bytes::from(picture::encode(&small, encoding)?);
    Ok(Prepared {
        bytes,
        width,
        height,
        foreground: found.scaled(size, (width, height)),
    })
}

/// The matte has the size of the uncropped picture or that of the finished one; in a cropped one the subject lies in the
/// middle of its margin.
fn foreground_of(alpha: &DynamicImage, size: (u32, u32), cropped: bool) -> Foreground {
    let found = picture::foreground(alpha);
    if !cropped || (alpha.width(), alpha.height()) == size {
        return found;
    }
    let (width, height) = (found.width.min(size.0), found.height.min(size.1));
    Foreground {
        top: (size.1 - height) / 2,
        left: (size.0 - width) / 2,
        width,
        height,
    }
}

fn size_headers(headers: &mut HeaderMap, width: u32, height: u32) {
    insert(headers, "x-width", &width.to_string());
    insert(headers, "x-height", &height.to_string());
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Numbers, ids and names from this file: always ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
