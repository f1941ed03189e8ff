//! Accepting a task: checked, then the task and its outbox row in one transaction, then the relay is woken.
//!
//! Invariant: nothing is answered with 202 that is not in the ledger, and nothing goes into the outbox that the log would
//! refuse.

use atelier_schemas::{
    Background, BlobKey, BlobRef, ErrorCode, TaskAnswer, TaskRequest, TopicTable,
    envelope::task_id_of_idempotency_key,
    request::{RepeatOf, ValidRequest},
    topics::IMAGE_TASKS,
};
use atelier_stores::ledger::{Created, NewTask};
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    error::{ApiError, GATEWAY},
    guard::RequestTrace,
    state::State,
    telemetry,
};

/// Left free in a record for headers and framing.
const RECORD_RESERVE_BYTES: u64 = 16 * 1024;

/// The name of the header that makes repeats recognisable.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A task that is in the ledger.
pub struct Accepted {
    /// The task as it stands.
    pub answer: TaskAnswer,
    /// Whether it was there before this request.
    pub repeated: bool,
}

/// The task id that the request's `Idempotency-Key` makes.
///
/// # Errors
/// 422 where the key is empty, longer than 255 bytes, or not visible ASCII.
pub fn idempotent_task_id(headers: &HeaderMap) -> Result<Option<Uuid>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let valid = value
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= 255);
    let key = valid.ok_or_else(|| {
        ApiError::invalid(
            "InvalidIdempotencyKey",
            "the header Idempotency-Key must be 1 to 255 visible ASCII characters",
        )
    })?;
    Ok(Some(task_id_of_idempotency_key(key)))
}

/// Checks `request` and takes it in under `fixed_id`, its own id, or a new one.
///
/// # Errors
/// 422 for what is wrong with it, 409 where another request has its id, 503 and 507 where the ledger cannot take it.
pub async fn accept(
    state: &State,
    request: TaskRequest,
    fixed_id: Option<Uuid>,
    RequestTrace(trace): RequestTrace,
    way: &'static str,
) -> Result<Accepted, ApiError> {
    let mut valid = request.validate(GATEWAY)?;
    if let (Some(fixed), Some(own)) = (fixed_id, valid.task_id)
        && fixed != own
    {
        return Err(ApiError::invalid(
            "TwoTaskIds",
            "give either the header Idempotency-Key or `taskId`, not both",
        )
        .at("/taskId"));
    }
    let task_id = fixed_id.or(valid.task_id).unwrap_or_else(Uuid::new_v4);
    let now = Utc::now();
    check_deadline(state, &valid, task_id, now).await?;
    check_blobs(state, &valid).await?;
    valid.task_id = None;
    let fingerprint = fingerprint(&valid)?;
    valid.task_id = Some(task_id);
    let request = TaskRequest::from(valid);
    check_size(&request)?;

    let task = NewTask {
        task_id,
        request,
        submitted_at: now,
        traceparent: Some(trace.to_string()),
        fingerprint,
    };
    let created = state
        .deps
        .ledger
        .create_task(task)
        .await
        .map_err(|error| ApiError::from(error).of_task(task_id))?;
    let repeated = match created {
        Created::New => {
            state.line.accepted(task_id);
            telemetry::task_accepted(way);
            state.outbox_wake.notify_one();
            tracing::info!(%task_id, "accepted");
            false
        }
        Created::Repeat => true,
        Created::Conflict => {
            let message = format!("the task {task_id} exists already and was a different request");
            return Err(ApiError::new(
                ErrorCode::IdempotencyConflict,
                "IdempotencyConflict",
                message,
            )
            .of_task(task_id));
        }
    };
    let answer = state.deps.ledger.task(task_id).await?.ok_or_else(|| {
        ApiError::new(
            ErrorCode::Internal,
            "TaskVanished",
            format!("the task {task_id} was accepted and is not in the ledger"),
        )
    })?;
    Ok(Accepted { answer, repeated })
}

/// A repeat of a task that is there is answered with it, however long ago its deadline was.
async fn check_deadline(
    state: &State,
    valid: &ValidRequest,
    task_id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), ApiError> {
    let Err(late) = valid.check_deadline(now, GATEWAY) else {
        return Ok(());
    };
    if state.deps.ledger.task(task_id).await?.is_some() {
        return Ok(());
    }
    Err(ApiError::from(late).with_status(StatusCode::UNPROCESSABLE_ENTITY))
}

/// SHA-256 of what was asked for, the task's id left out. Uploads stand in it by their own hash, so that a repeated
/// upload is the same request although its boundary differs.
fn fingerprint(valid: &ValidRequest) -> Result<String, ApiError> {
    let request = TaskRequest::from(valid.clone());
    let json = serde_json::to_vec(&request).map_err(|error| unwritable(&error))?;
    Ok(BlobKey::from_digest(Sha256::digest(&json).into()).to_string())
}

/// A request that is too large for one record would stay in the outbox for ever.
fn check_size(request: &TaskRequest) -> Result<(), ApiError> {
    let bytes = serde_json::to_vec(request)
        .map_err(|error| unwritable(&error))?
        .len() as u64;
    let topic_limit = TopicTable::embedded()
        .get(IMAGE_TASKS)
        .map_or(u64::MAX, |topic| topic.max_message_bytes);
    let limit_bytes = topic_limit.saturating_sub(RECORD_RESERVE_BYTES);
    if bytes > limit_bytes {
        let message = format!(
            "the task makes an event of {bytes} bytes, at most {limit_bytes} fit the log: shorten the addresses or split the images over several tasks"
        );
        return Err(ApiError::invalid("TaskTooLarge", message).at("/images"));
    }
    Ok(())
}

fn unwritable(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        "Unserializable",
        format!("the request cannot be written as JSON: {error}"),
    )
}

/// Blobs that a request names must be there: ingest could only fail later. Looking also brings one back that was set aside,
/// before the task makes it one that is in use.
async fn check_blobs(state: &State, valid: &ValidRequest) -> Result<(), ApiError> {
    for (index, image) in valid.images.iter().enumerate() {
        if let Some(blob) = &image.blob {
            let pointer = format!("/images/{index}/blob");
            check_blob(state, blob, image.repeat_of.as_ref(), pointer).await?;
        }
        if let Some(blob) = image
            .trimap
            .as_ref()
            .and_then(|trimap| trimap.blob.as_ref())
        {
            let pointer = format!("/images/{index}/trimap/blob");
            check_blob(state, blob, None, pointer).await?;
        }
    }
    if let Background::Blob(blob) = &valid.options.output.background {
        check_blob(state, blob, None, "/options/output/background/blob".into()).await?;
    }
    let mark = valid.options.watermark.as_ref();
    if let Some(blob) = mark.and_then(|mark| mark.blob.as_ref()) {
        check_blob(state, blob, None, "/options/watermark/blob".into()).await?;
    }
    Ok(())
}

async fn check_blob(
    state: &State,
    blob: &BlobRef,
    repeat_of: Option<&RepeatOf>,
    pointer: String,
) -> Result<(), ApiError> {
    let message = match (state.deps.blobs.size(&blob.key).await?, repeat_of) {
        (Some(bytes), _) if bytes == blob.bytes => return Ok(()),
        (None, Some(RepeatOf { image_id, .. })) => {
            let message = format!(
                "the original of the image {image_id} is no longer kept (`stores.retention` says how long); submit the picture again"
            );
            return Err(ApiError::not_found(message).with_status(StatusCode::GONE));
        }
        (Some(bytes), _) => format!(
            "the blob {} has {bytes} bytes, not {}",
            blob.key, blob.bytes
        ),
        (None, None) => format!(
            "no blob {}: upload the picture as multipart/form-data",
            blob.key
        ),
    };
    Err(ApiError::invalid("UnknownBlob", message).at(pointer))
}
