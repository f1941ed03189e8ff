//! Errors at the HTTP edge. The rest of the crate speaks in [`ErrorBody`]; only here a code becomes a status.

use atelier_schemas::{DecodeError, ErrorBody, ErrorCode, answer::ErrorAnswer};
use atelier_stores::{BlobError, LedgerError};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use crate::log::LogError;

/// The name that the gateway has in errors and events.
pub const GATEWAY: &str = "gateway";

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// The task, where there is one.
    pub task_id: Option<Uuid>,
    /// What went wrong.
    pub body: Box<ErrorBody>,
}

/// The status that a code has unless a route says otherwise.
pub fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::OptionNotSupported
        | ErrorCode::TooManyImages
        | ErrorCode::UnsupportedFormat
        | ErrorCode::UndecodableImage
        | ErrorCode::AddressForbidden
        | ErrorCode::ModelUnavailable => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::IdempotencyConflict
        | ErrorCode::Cancelled
        | ErrorCode::AlreadyEnded
        | ErrorCode::NoOriginal => StatusCode::CONFLICT,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::ImageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::FetchFailed => StatusCode::BAD_GATEWAY,
        ErrorCode::FetchTimedOut | ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::DependencyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::InferenceFailed | ErrorCode::EncodingFailed | ErrorCode::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl ApiError {
    /// An error of the gateway with the status of its code.
    pub fn new(code: ErrorCode, reason: &str, message: impl Into<String>) -> Self {
        ErrorBody::new(code, GATEWAY, reason, message).into()
    }

    /// The request does not match its schema.
    pub fn invalid(reason: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, reason, message)
    }

    /// Nothing of that name.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, "NotFound", message)
    }

    /// The same error under another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same error, pointing at one value of the request.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.body.details.pointer = Some(pointer.into());
        self
    }

    /// The same error, about this task.
    #[must_use]
    pub fn of_task(mut self, task_id: Uuid) -> Self {
        self.task_id = Some(task_id);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = self.status.as_u16(), code = self.body.code.as_str(), message = %self.body.message, "request failed");
        }
        let retry = self.status == StatusCode::SERVICE_UNAVAILABLE;
        let mut response = (
            self.status,
            Json(ErrorAnswer::new(self.task_id, *self.body)),
        )
            .into_response();
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if retry {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self {
            status: status_of(body.code),
            task_id: None,
            body: Box::new(body),
        }
    }
}

impl From<Box<ErrorBody>> for ApiError {
    fn from(body: Box<ErrorBody>) -> Self {
        Self {
            status: status_of(body.code),
            task_id: None,
            body,
        }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        let pointer = error.pointer().map(str::to_owned);
        let status = if pointer.is_some() {
            StatusCode::UNPROCESSABLE_ENTITY
        } else {
            StatusCode::BAD_REQUEST
        };
        let refused = Self::invalid("DecodeError", error.to_string()).with_status(status);
        match pointer {
            Some(pointer) => refused.at(pointer),
            None => refused,
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        let (code, reason) = match &error {
            BlobError::NotFound(_) => (ErrorCode::NotFound, "BlobError::NotFound"),
            BlobError::TooLarge { .. } => (ErrorCode::ImageTooLarge, "BlobError::TooLarge"),
            BlobError::Corrupt(_) => (ErrorCode::Internal, "BlobError::Corrupt"),
            BlobError::Full { .. } => (ErrorCode::StorageFull, "BlobError::Full"),
            BlobError::Source(_) => (ErrorCode::InvalidRequest, "BlobError::Source"),
            BlobError::Unavailable { .. } => {
                (ErrorCode::DependencyUnavailable, "BlobError::Unavailable")
            }
        };
        Self::new(code, reason, error.to_string())
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        let (code, reason) = match &error {
            LedgerError::Full { .. } => (ErrorCode::StorageFull, "LedgerError::Full"),
            LedgerError::InvalidCursor(_) => {
                (ErrorCode::InvalidRequest, "LedgerError::InvalidCursor")
            }
            LedgerError::Corrupt { .. } => (ErrorCode::Internal, "LedgerError::Corrupt"),
            LedgerError::Contradiction(_) => (ErrorCode::Internal, "LedgerError::Contradiction"),
            LedgerError::Unavailable { .. } => {
                (ErrorCode::DependencyUnavailable, "LedgerError::Unavailable")
            }
        };
        Self::new(code, reason, error.to_string())
    }
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        let (code, reason) = match &error {
            LogError::NoSuchRecord { .. } => (ErrorCode::NotFound, "LogError::NoSuchRecord"),
            LogError::NotReplayable { .. } => {
                (ErrorCode::InvalidRequest, "LogError::NotReplayable")
            }
            LogError::Unavailable { .. } => {
                (ErrorCode::DependencyUnavailable, "LogError::Unavailable")
            }
        };
        Self::new(code, reason, error.to_string())
    }
}
