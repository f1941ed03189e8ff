//! Errors in the form of remove.bg: `{"errors":[{"title","code","detail"}]}`.

use atelier_schemas::{ErrorBody, ErrorCode};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::error::ApiError;

/// What went wrong, as remove.bg's clients read it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DialectErrors {
    /// One error.
    errors: [DialectError; 1],
}

/// One error.
#[derive(Debug, Serialize, JsonSchema)]
struct DialectError {
    /// What was wrong.
    title: String,
    /// A stable code.
    code: String,
    /// More about it, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// An error on its way to a client of the dialect.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    code: String,
    title: String,
    detail: Option<String>,
    task_id: Option<Uuid>,
}

impl Refused {
    /// A request that is wrong: 400.
    pub fn request(code: &str, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: code.to_owned(),
            title: title.into(),
            detail: Some(detail.into()),
            task_id: None,
        }
    }

    /// A parameter that this server does not do yet: refused, because ignoring it would give another picture than asked for.
    pub fn not_built(parameter: &str, value: &str) -> Self {
        let shown: String = value.chars().take(80).collect();
        Self::request(
            "unsupported_parameter",
            format!("{parameter}={shown} is not supported by this server"),
            "leave the parameter out",
        )
    }

    /// A parameter with a value that means nothing.
    pub fn invalid(parameter: &str, value: &str, expected: &str) -> Self {
        let shown: String = value.chars().take(80).collect();
        Self::request(
            &format!("invalid_{parameter}"),
            format!("Invalid value for {parameter}: `{shown}`"),
            format!("give {expected}"),
        )
    }

    /// The task did not end in time; it goes on.
    pub fn timed_out(task_id: Uuid, waited_ms: u64) -> Self {
        Self {
            status: StatusCode::GATEWAY_TIMEOUT,
            code: "timeout".to_owned(),
            title: format!("No result within {waited_ms} ms"),
            detail: Some(format!("the task goes on: see /api/v1/tasks/{task_id}")),
            task_id: Some(task_id),
        }
    }

    /// An image that failed in the pipeline.
    pub fn failed(error: &ErrorBody, task_id: Uuid) -> Self {
        let status = match error.code {
            ErrorCode::InferenceFailed | ErrorCode::EncodingFailed | ErrorCode::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            ErrorCode::Cancelled => StatusCode::CONFLICT,
            ErrorCode::DependencyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            task_id: Some(task_id),
            ..Self::of_body(error)
        }
    }

    fn of_body(error: &ErrorBody) -> Self {
        let code = match error.code {
            ErrorCode::UnsupportedFormat => "invalid_file_type".to_owned(),
            ErrorCode::UndecodableImage => "failed_to_read_image".to_owned(),
            ErrorCode::ImageTooLarge => "image_too_large".to_owned(),
            ErrorCode::AddressForbidden => "invalid_image_url".to_owned(),
            ErrorCode::FetchFailed | ErrorCode::FetchTimedOut => "failed_to_fetch_image".to_owned(),
            other => snake_case(other.as_str()),
        };
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            title: error.message.clone(),
            detail: error.details.suggestions.first().cloned(),
            task_id: None,
        }
    }
}

fn snake_case(camel: &str) -> String {
    camel.chars().fold(String::new(), |mut snake, sign| {
        if sign.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(sign.to_ascii_lowercase());
        snake
    })
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        // remove.bg knows 400 for everything that is wrong with a request.
        let wrong_request = matches!(
            error.status,
            StatusCode::UNPROCESSABLE_ENTITY
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::PAYLOAD_TOO_LARGE
        );
        let status = if wrong_request {
            StatusCode::BAD_REQUEST
        } else {
            error.status
        };
        Self {
            status,
            task_id: error.task_id,
            ..Self::of_body(&error.body)
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(
                status = self.status.as_u16(),
                code = self.code,
                message = self.title,
                "request failed"
            );
        }
        let body = DialectErrors {
            errors: [DialectError {
                title: self.title,
                code: self.code,
                detail: self.detail,
            }],
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(task_id) = self.task_id
            && let Ok(location) = HeaderValue::from_str(&format!("/api/v1/tasks/{task_id}"))
        {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}
