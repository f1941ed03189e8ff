//! The page, out of the binary. Every address that is no file is the page itself: it routes by the address.
//!
//! Invariant: what is under `/assets/` carries its hash in its name and never changes; `index.html` is asked for anew
//! every time; nothing loads from any other address.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

use crate::error::ApiError;

#[derive(RustEmbed)]
#[folder = "web/dist"]
struct Page;

/// Inline styles are what the page's components set on elements they place; scripts come from the page's own files only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; \
    font-src 'self'; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// Prefixes under which only the table answers.
const NOT_THE_PAGE: [&str; 4] = ["/api", "/v1.0", "/health", "/metrics"];

pub async fn serve(method: Method, uri: Uri, request: HeaderMap) -> Response {
    let path = uri.path();
    let of_table = NOT_THE_PAGE.iter().any(|prefix| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if of_table {
        return ApiError::not_found("there is nothing here; /api/docs lists what there is")
            .into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return ApiError::invalid("MethodNotAllowed", "only GET and HEAD are answered here")
            .with_status(StatusCode::METHOD_NOT_ALLOWED)
            .into_response();
    }
    let file = path.trim_start_matches('/');
    match Page::get(file).filter(|_| !file.is_empty()) {
        Some(found) => answer(file, found, &request),
        // A file that is gone must not be answered with the page: a script that is HTML only confuses.
        None if file.starts_with("assets/") => StatusCode::NOT_FOUND.into_response(),
        None => match Page::get("index.html") {
            Some(found) => answer("index.html", found, &request),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

fn answer(file: &str, found: rust_embed::EmbeddedFile, request: &HeaderMap) -> Response {
    let hash: String = found
        .metadata
        .sha256_hash()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Weak: the body may go out compressed.
    let etag = format!("W/\"{hash}\"");
    let known = request
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Body::from(found.data).into_response()
    };
    let headers = response.headers_mut();
    let caching = if file.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    let media_type = match found.metadata.mimetype() {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    for (name, value) in [(header::CONTENT_TYPE, media_type), (header::ETAG, etag)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}
