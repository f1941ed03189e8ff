//! The pictures of a task: original, result, thumbnail, alpha.

use atelier_schemas::BlobRef;
use atelier_stores::{BlobError, ledger::ImageRecord};
use axum::{
    extract::{Path, Query, State as Shares, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use serde::Deserialize;

use super::{
    Endpoint,
    blob::{self, Served},
    tasks,
};
use crate::{error::ApiError, media, state::Shared};

pub const SHOW: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/tasks/{id}/images/{index}/{variant}",
    handler: || get(show),
    document: |operation| {
        operation
            .named("getImage", "images", "A picture of a task")
            .describe(
                "The bytes, with a strong ETag (their SHA-256), `If-None-Match`, `Range` and `HEAD`. An original is served \
                 under the raster type that its first bytes show, anything else as `application/octet-stream`.",
            )
            .path_parameter("id", "The task.")
            .path_parameter("index", "The image's place in the request, from 0.")
            .path_parameter("variant", "`original`, `result`, `thumbnail` or `alpha`.")
            .query("download", "`1` adds `Content-Disposition` with a safe file name.", false)
            .header("Range", "One range of bytes.")
            .header("If-None-Match", "ETags that are known.")
            .raw_answer(200, "The picture.", "image/*", serde_json::json!({ "type": "string", "format": "binary" }))
            .raw_answer(206, "The part that was asked for.", "image/*", serde_json::json!({ "type": "string", "format": "binary" }))
            .plain_answer(304, "It is known already.")
            .plain_answer(416, "The range lies outside; `Content-Range` says how long it is.")
            .errors(&[404, 410, 422, 503])
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Original,
    Result,
    Thumbnail,
    Alpha,
}

impl Variant {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "original" => Some(Self::Original),
            "result" => Some(Self::Result),
            "thumbnail" => Some(Self::Thumbnail),
            "alpha" => Some(Self::Alpha),
            _ => None,
        }
    }

    fn of(self, record: &ImageRecord) -> Option<&BlobRef> {
        let result = record.result.as_ref();
        match self {
            Self::Original => result
                .map(|result| &result.original)
                .or(record.uploaded.as_ref()),
            Self::Result => result.map(|result| &result.result),
            Self::Thumbnail => result.map(|result| &result.thumbnail),
            Self::Alpha => result.map(|result| &result.alpha),
        }
    }

    /// Told apart from each other when they lie in one folder.
    fn suffix(self) -> &'static str {
        match self {
            Self::Original => "-original",
            Self::Result => "",
            Self::Thumbnail => "-thumbnail",
            Self::Alpha => "-alpha",
        }
    }
}

#[derive(Deserialize)]
struct ImageQuery {
    download: Option<String>,
}

async fn show(
    Shares(state): Shares<Shared>,
    Path((id, index, variant)): Path<(String, String, String)>,
    query: Result<Query<ImageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(tasks::bad_query)?;
    let task_id = tasks::parse_id(&id)?;
    let (Ok(index), Some(kind)) = (index.parse::<u32>(), Variant::parse(&variant)) else {
        return Err(ApiError::not_found(
            "a picture is at images/<index>/original, result, thumbnail or alpha",
        ));
    };
    let record = state.deps.ledger.image(task_id, index).await?;
    let record = record
        .ok_or_else(|| ApiError::not_found(format!("the task {task_id} has no image {index}")))?;
    let blob = kind.of(&record).ok_or_else(|| {
        ApiError::not_found(format!(
            "image {index} of the task {task_id} has no {variant} (yet)"
        ))
    })?;
    let media_type = if kind == Variant::Original {
        let head = state
            .deps
            .blobs
            .get_range(&blob.key, 0..media::SNIFF_BYTES as u64);
        media::sniff(&head.await.map_err(|error| gone(error, &variant))?)
    } else {
        media::harmless(&blob.media_type)
    };
    let download_as = query.download.filter(|wanted| wanted != "0").map(|_| {
        let stem = media::file_stem(record.name.as_deref(), index);
        format!("{stem}{}.{}", kind.suffix(), media::extension(media_type))
    });
    blob::serve(
        &state.deps.blobs,
        Served {
            key: blob.key.clone(),
            media_type,
            download_as,
        },
        &headers,
    )
    .await
    .map_err(|error| gone(error, &variant))
}

/// What the ledger knows of was there once.
fn gone(error: BlobError, variant: &str) -> ApiError {
    match error {
        BlobError::NotFound(_) => ApiError::not_found(format!(
            "this {variant} is no longer kept (`stores.retention` says how long); submit the picture again"
        ))
        .with_status(StatusCode::GONE),
        error => error.into(),
    }
}
