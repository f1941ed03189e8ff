//! `multipart/form-data`: files stream into the blob store, texts are read whole, both within limits.
//!
//! Invariant: memory is bounded whatever comes: a file passes through in chunks, a text and the headers of a part have a
//! limit of their own, and the whole request has one.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use atelier_schemas::{BlobRef, ErrorCode};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use multer::{Field, Multipart};
use tokio_util::io::StreamReader;

use crate::{
    body::{BodyFault, with_idle_timeout},
    error::ApiError,
    media,
    state::State,
    telemetry,
};

/// Most bytes of a text part.
pub const TEXT_LIMIT_BYTES: u64 = 1024 * 1024;
/// Most bytes that may arrive while the head of a part is not complete. More than one read of the connection, so that
/// what arrived together with a head is not held against it.
const HEAD_LIMIT_BYTES: u64 = 2 * 1024 * 1024;
const UNLIMITED: u64 = u64::MAX;
/// How long the rest of a refused upload is read.
const DISCARD_LIMIT: Duration = Duration::from_secs(10);

/// A multipart request that is being read.
pub struct Form {
    parts: Multipart<'static>,
    gauge: Arc<Gauge>,
}

/// What the form tells the stream below it.
struct Gauge {
    /// Bytes that may still arrive before the next part's head must be complete.
    head_budget: AtomicU64,
    /// Whether what still arrives is thrown away.
    discard: AtomicBool,
}

impl Form {
    /// The form in `body`.
    ///
    /// # Errors
    /// 400 where the content type names no boundary.
    pub fn new(
        headers: &HeaderMap,
        body: Body,
        limit_bytes: u64,
        idle: Duration,
    ) -> Result<Self, ApiError> {
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let boundary = multer::parse_boundary(content_type).map_err(|error| malformed(&error))?;
        let gauge = Arc::new(Gauge {
            head_budget: AtomicU64::new(UNLIMITED),
            discard: AtomicBool::new(false),
        });
        let bytes = limited(
            with_idle_timeout(body, idle),
            limit_bytes,
            Arc::clone(&gauge),
        );
        Ok(Self {
            parts: Multipart::new(bytes, boundary),
            gauge,
        })
    }

    /// The next part.
    ///
    /// # Errors
    /// 400 where the form is malformed, 413, 408.
    pub async fn next(&mut self) -> Result<Option<Field<'static>>, ApiError> {
        self.gauge
            .head_budget
            .store(HEAD_LIMIT_BYTES, Ordering::Relaxed);
        let next = self
            .parts
            .next_field()
            .await
            .map_err(|error| failed(&error));
        self.gauge.head_budget.store(UNLIMITED, Ordering::Relaxed);
        next
    }

    /// Reads what is left and keeps nothing, for a while: a client that is refused in the middle of its upload sees the
    /// answer only when it is done sending.
    pub async fn discard(mut self) {
        self.gauge.discard.store(true, Ordering::Relaxed);
        // The end, or whatever fault, is as good as any.
        let _ = tokio::time::timeout(DISCARD_LIMIT, self.parts.next_field()).await;
    }
}

/// The name of a part.
pub fn name_of(field: &Field<'_>) -> String {
    field.name().unwrap_or_default().chars().take(80).collect()
}

/// The text of a part.
///
/// # Errors
/// 422 where it is not UTF-8 or longer than [`TEXT_LIMIT_BYTES`].
pub async fn text(mut field: Field<'_>, limit_bytes: u64) -> Result<String, ApiError> {
    let name = name_of(&field);
    let mut read = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| failed(&error))? {
        if (read.len() + chunk.len()) as u64 > limit_bytes {
            return Err(ApiError::invalid(
                "PartTooLarge",
                format!("the part `{name}` is longer than {limit_bytes} bytes"),
            )
            .with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        read.extend_from_slice(&chunk);
    }
    String::from_utf8(read).map_err(|_| {
        ApiError::invalid(
            "PartNotText",
            format!("the part `{name}` is not UTF-8 text"),
        )
    })
}

/// A stored file.
pub struct Upload {
    /// What its sender called it, cleaned.
    pub name: Option<String>,
    /// Where it is.
    pub blob: BlobRef,
}

/// Streams a file part into the blob store. `pointer` is where it will stand in the request.
///
/// # Errors
/// 422 where it is empty, 413 where it is larger than `max_upload_bytes`, 400 where the form breaks off, 503, 507.
pub async fn store(state: &State, field: Field<'_>, pointer: &str) -> Result<Upload, ApiError> {
    let name = field.file_name().and_then(media::clean_name);
    let bytes = Box::pin(field.map(|chunk| chunk.map_err(in_stream)));
    let (blob, _) = store_bytes(state, bytes, pointer).await?;
    Ok(Upload { name, blob })
}

/// Streams bytes into the blob store; answers with the reference and the first bytes.
///
/// # Errors
/// As [`store`].
pub async fn store_bytes(
    state: &State,
    mut bytes: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    pointer: &str,
) -> Result<(BlobRef, Vec<u8>), ApiError> {
    let broken = |error: io::Error| match error
        .get_ref()
        .and_then(|source| source.downcast_ref::<BodyFault>())
    {
        Some(fault) => of_fault(fault),
        None => ApiError::invalid("MalformedUpload", error.to_string())
            .with_status(StatusCode::BAD_REQUEST)
            .at(pointer),
    };
    let mut first: Vec<Bytes> = Vec::new();
    let mut head: Vec<u8> = Vec::with_capacity(media::SNIFF_BYTES);
    while head.len() < media::SNIFF_BYTES {
        let Some(chunk) = bytes.next().await else {
            break;
        };
        let chunk = chunk.map_err(broken)?;
        head.extend_from_slice(&chunk[..chunk.len().min(media::SNIFF_BYTES - head.len())]);
        first.push(chunk);
    }
    if head.is_empty() {
        return Err(ApiError::new(
            ErrorCode::UnsupportedFormat,
            "EmptyFile",
            "the file is empty",
        )
        .at(pointer));
    }
    let limit_bytes = state.options.max_upload_bytes;
    let mut reader =
        StreamReader::new(futures::stream::iter(first.into_iter().map(Ok)).chain(bytes));
    let (key, length) = state
        .deps
        .blobs
        .put_reader(&mut reader, limit_bytes)
        .await
        .map_err(|error| match error {
            atelier_stores::BlobError::TooLarge { limit_bytes } => {
                let message = format!(
                    "the file is larger than {limit_bytes} bytes (gateway.max_upload_bytes)"
                );
                ApiError::new(ErrorCode::ImageTooLarge, "FileTooLarge", message).at(pointer)
            }
            atelier_stores::BlobError::Source(error) => broken(error),
            other => other.into(),
        })?;
    telemetry::uploaded(length);
    let blob = BlobRef {
        key,
        media_type: media::sniff(&head).to_owned(),
        bytes: length,
        width: 0,
        height: 0,
    };
    Ok((blob, head))
}

/// `bytes` cut off with an error past `limit_bytes` in all, or past the budget for the head of a part.
fn limited(
    bytes: impl Stream<Item = Result<Bytes, BodyFault>> + Send + Unpin + 'static,
    limit_bytes: u64,
    gauge: Arc<Gauge>,
) -> impl Stream<Item = Result<Bytes, BodyFault>> + Send + 'static {
    let mut left = limit_bytes;
    bytes.map(move |chunk| {
        let chunk = chunk?;
        let length = chunk.len() as u64;
        left = left
            .checked_sub(length)
            .ok_or(BodyFault::TooLarge(limit_bytes))?;
        if gauge.discard.load(Ordering::Relaxed) {
            return Ok(Bytes::new());
        }
        let budget = gauge.head_budget.load(Ordering::Relaxed);
        if budget != UNLIMITED {
            let rest = budget
                .checked_sub(length)
                .ok_or_else(|| BodyFault::Broken("the head of a part does not end".to_owned()))?;
            gauge.head_budget.store(rest, Ordering::Relaxed);
        }
        Ok(chunk)
    })
}

/// Our own fault, where it passed through the parser inside its error.
fn fault_in(error: &multer::Error) -> Option<&BodyFault> {
    match error {
        multer::Error::StreamReadFailed(source) => source.downcast_ref::<BodyFault>(),
        _ => None,
    }
}

fn in_stream(error: multer::Error) -> io::Error {
    match fault_in(&error) {
        Some(fault) => io::Error::other(fault.clone()),
        None => io::Error::other(error),
    }
}

fn failed(error: &multer::Error) -> ApiError {
    fault_in(error).map_or_else(|| malformed(error), of_fault)
}

fn of_fault(fault: &BodyFault) -> ApiError {
    match fault {
        BodyFault::TooLarge(limit_bytes) => {
            let message = format!(
                "the request is larger than {limit_bytes} bytes (gateway.max_request_bytes)"
            );
            ApiError::new(ErrorCode::ImageTooLarge, "RequestTooLarge", message)
        }
        other => other.clone().into(),
    }
}

fn malformed(error: &multer::Error) -> ApiError {
    ApiError::invalid(
        "MalformedMultipart",
        format!("the multipart form cannot be read: {error}"),
    )
    .with_status(StatusCode::BAD_REQUEST)
}
