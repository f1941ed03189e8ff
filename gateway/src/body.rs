//! Reading bodies: bounded in bytes and in silence.

use std::time::Duration;

use atelier_schemas::{ErrorCode, from_json};
use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The media type of a request, without parameters, in lower case.
pub fn media_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Whether it is JSON.
pub fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// The error of a content type that is not read.
pub fn unsupported_media_type(found: &str, expected: &str) -> ApiError {
    let shown: String = found.chars().take(80).collect();
    let message = if found.is_empty() {
        format!("the request names no Content-Type: send {expected}")
    } else {
        format!("the Content-Type `{shown}` is not read here: send {expected}")
    };
    ApiError::new(
        ErrorCode::UnsupportedMediaType,
        "UnsupportedMediaType",
        message,
    )
}

/// The error of a client that stopped sending.
pub fn too_slow(idle: Duration) -> ApiError {
    let message = format!("no byte of the body arrived for {} ms", idle.as_millis());
    ApiError::invalid("BodyTimedOut", message).with_status(StatusCode::REQUEST_TIMEOUT)
}

/// A body as a stream that ends with an error where its sender falls silent.
pub fn with_idle_timeout(
    body: Body,
    idle: Duration,
) -> impl Stream<Item = Result<Bytes, BodyFault>> + Send + Unpin {
    let next = move |mut stream: BodyDataStream| async move {
        match tokio::time::timeout(idle, stream.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), stream)),
            Ok(Some(Err(error))) => Some((Err(BodyFault::Broken(error.to_string())), stream)),
            Err(_) => Some((Err(BodyFault::Silent(idle)), stream)),
        }
    };
    Box::pin(futures::stream::unfold(body.into_data_stream(), next))
}

/// Why a body could not be read to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyFault {
    /// The connection broke.
    #[error("the body broke off: {0}")]
    Broken(String),
    /// The sender fell silent.
    #[error("no byte of the body arrived for {} ms", .0.as_millis())]
    Silent(Duration),
    /// Larger than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
}

impl From<BodyFault> for ApiError {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::Broken(_) => {
                Self::invalid("BodyBroken", fault.to_string()).with_status(StatusCode::BAD_REQUEST)
            }
            BodyFault::Silent(idle) => too_slow(idle),
            BodyFault::TooLarge(_) => Self::invalid("BodyTooLarge", fault.to_string())
                .with_status(StatusCode::PAYLOAD_TOO_LARGE),
        }
    }
}

/// The whole body, which must not be larger than `limit_bytes`.
///
/// # Errors
/// 413, 408 or 400.
pub async fn whole(body: Body, limit_bytes: u64, idle: Duration) -> Result<Bytes, ApiError> {
    let mut stream = with_idle_timeout(body, idle);
    let mut read = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if (read.len() + chunk.len()) as u64 > limit_bytes {
            return Err(BodyFault::TooLarge(limit_bytes).into());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

/// The body as JSON of type `T`.
///
/// # Errors
/// 415 where it is not announced as JSON, 413, 408, 400 where it is not JSON, 422 with the pointer where it does not fit.
pub async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: u64,
    idle: Duration,
) -> Result<T, ApiError> {
    let media_type = media_type(headers);
    if !is_json(&media_type) {
        return Err(unsupported_media_type(&media_type, "application/json"));
    }
    Ok(from_json(&whole(body, limit_bytes, idle).await?)?)
}
