//! The route table: what is answered, and how it is documented, in one place.
//!
//! Invariant: the router is made of [`ENDPOINTS`] and nothing else beside the page, so that no route can lack its row in
//! the OpenAPI document.

mod archive;
mod blob;
mod dead_letters;
mod docs;
mod events;
pub(crate) mod health;
mod images;
mod measurements;
mod page;
mod pipeline;
mod removebg;
mod tasks;
mod versions;

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use tower_http::compression::{CompressionLayer, predicate::Predicate};

use crate::{error::ApiError, guard, openapi::Operation, state::Shared};

/// One route with its description.
pub struct Endpoint {
    /// In lower case as OpenAPI writes it.
    pub method: &'static str,
    /// Its path with `{names}`.
    pub path: &'static str,
    /// What answers.
    pub handler: fn() -> MethodRouter<Shared>,
    /// What the OpenAPI document says about it.
    pub document: fn(Operation) -> Operation,
}

/// Every route there is, in the order of the document.
pub const ENDPOINTS: &[Endpoint] = &[
    tasks::CREATE,
    tasks::LIST,
    tasks::SHOW,
    tasks::CANCEL,
    versions::REPEAT,
    events::OF_TASK,
    events::OF_ALL,
    images::SHOW,
    versions::LIST,
    archive::DOWNLOAD,
    pipeline::SHOW,
    pipeline::FOLLOW,
    dead_letters::LIST,
    dead_letters::REPLAY,
    measurements::SHOW,
    measurements::CAPABILITIES,
    removebg::REMOVE,
    docs::OPENAPI,
    docs::PAGE,
    health::LIVE,
    health::READY,
    health::METRICS,
];

/// The path of the table that equals `path`: a label that no request can choose.
pub fn known_path(path: &str) -> Option<&'static str> {
    ENDPOINTS
        .iter()
        .map(|endpoint| endpoint.path)
        .find(|known| *known == path)
}

/// Whether a route is asked again and again by whoever watches the process.
pub fn is_watched(route: &str) -> bool {
    [&health::LIVE, &health::READY, &health::METRICS]
        .iter()
        .any(|endpoint| endpoint.path == route)
}

/// The method as a label from a closed list.
pub fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("OTHER")
}

/// The whole application.
pub fn router(state: &Shared) -> Router {
    ENDPOINTS
        .iter()
        .fold(Router::new(), |router, endpoint| {
            router.route(endpoint.path, (endpoint.handler)())
        })
        .fallback(page::serve)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(
            CompressionLayer::new()
                .gzip(true)
                .compress_when(CompressText),
        )
        .layer(middleware::from_fn_with_state(
            Arc::clone(state),
            guard::guard,
        ))
        .with_state(Arc::clone(state))
}

async fn method_not_allowed(method: Method) -> Response {
    let message = format!("{} is not answered here", known_method(&method));
    ApiError::invalid("MethodNotAllowed", message)
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .into_response()
}

/// Only what is text for the page and small: pictures and archives keep their bytes (ETag, Range), streams their pace.
#[derive(Clone, Copy)]
struct CompressText;

impl Predicate for CompressText {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let text = [
            "text/html",
            "text/css",
            "text/javascript",
            "application/javascript",
            "application/json",
            "image/svg+xml",
        ]
        .iter()
        .any(|known| content_type.starts_with(known));
        text && response.body().size_hint().lower() >= 1_024
    }
}
