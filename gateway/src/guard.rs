//! What every request passes first: whose name it calls, where it comes from, its trace, and the headers of its answer.
//!
//! Invariants: a request under a name that is not ours is refused, so that a page of a stranger cannot rebind its name to
//! this machine; an unsafe request from another origin is refused; neither bodies nor queries nor credentials are logged.

use std::{net::IpAddr, time::Instant};

use atelier_runtime::{
    telemetry::{Step, StepKind},
    trace_context::TraceContext,
};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument as _;

use crate::{error::ApiError, routes, state::Shared, telemetry};

/// The trace that a request belongs to; routes take it as an extension.
#[derive(Clone, Copy, Debug)]
pub struct RequestTrace(pub TraceContext);

/// Host and Origin, then the route, inside the request's span.
pub async fn guard(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|path| routes::known_path(path.as_str()))
        .unwrap_or("page");
    let method = routes::known_method(request.method());
    let mut step = begin_step(request.headers(), route, method);
    let trace = step.context();
    request.extensions_mut().insert(RequestTrace(trace));
    let span = tracing::info_span!(
        "request",
        route,
        method,
        trace_id = trace.trace_id(),
        span_id = trace.span_id()
    );

    let mut response = match check(
        request.headers(),
        request.uri(),
        method,
        &state.options.public_names,
    ) {
        Ok(()) => next.run(request).instrument(span.clone()).await,
        Err(refused) => refused.into_response(),
    };
    harden(response.headers_mut());
    let status = response.status().as_u16();
    step.set("http.response.status_code", i64::from(status));
    if response.status().is_server_error() {
        step.fail("the gateway could not answer");
    }
    telemetry::answered(route, method, status, started.elapsed());
    let _in_span = span.enter();
    tracing::debug!(
        status,
        elapsed_ms = started.elapsed().as_millis() as u64,
        "answered"
    );
    response
}

/// Whoever watches health and figures is not traced.
fn begin_step(headers: &HeaderMap, route: &'static str, method: &'static str) -> Step {
    let caller = TraceContext::of_headers(|name| headers.get(name)?.to_str().ok());
    if routes::is_watched(route) {
        return Step::uncollected(caller);
    }
    let mut step = Step::begin(StepKind::Server, format!("{method} {route}"), caller);
    step.set("http.request.method", method);
    step.set("http.route", route);
    step
}

fn harden(headers: &mut HeaderMap) {
    let always = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Routes that serve something to look at set their own; JSON needs nothing at all.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
}

fn check(
    headers: &HeaderMap,
    uri: &Uri,
    method: &str,
    public_names: &[String],
) -> Result<(), ApiError> {
    let refused = |reason, message: String| {
        ApiError::invalid(reason, message).with_status(StatusCode::FORBIDDEN)
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next(), uri.authority()) {
        (Some(host), None, _) => host.to_str().unwrap_or_default(),
        (None, _, Some(authority)) => authority.as_str(),
        _ => {
            return Err(
                ApiError::invalid("HostMissing", "exactly one Host header is needed")
                    .with_status(StatusCode::BAD_REQUEST),
            );
        }
    };
    if !is_ours(host, public_names) {
        let shown: String = host.chars().take(80).collect();
        let message = format!(
            "the Host header names `{shown}`, which is not this gateway: use 127.0.0.1 or localhost, or add the name to gateway.public_names"
        );
        return Err(refused("HostNotAllowed", message));
    }
    if matches!(method, "GET" | "HEAD" | "OPTIONS") {
        return Ok(());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    // Whether TLS ended at a proxy is not known here; name and port are what tells origins apart.
    let same = origin.split_once("://").is_some_and(|(scheme, authority)| {
        matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host)
    });
    if same {
        return Ok(());
    }
    let shown: String = origin.chars().take(80).collect();
    Err(refused(
        "OriginNotAllowed",
        format!("the Origin `{shown}` is not this gateway's own page"),
    ))
}

/// Whether a Host header names this machine's loopback or a configured name.
fn is_ours(host: &str, public_names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || is_port(port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.is_loopback();
    }
    name.eq_ignore_ascii_case("localhost")
        || public_names
            .iter()
            .any(|public| public.eq_ignore_ascii_case(name))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_configured_names_are_ours() {
        let public = ["cutouts.example".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:80",
            "127.1.2.3",
            "[::1]",
            "[::1]:8080",
            "Cutouts.Example:443",
        ] {
            assert!(is_ours(host, &public), "{host}");
        }
        let strangers = [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "192.168.0.1",
            "0.0.0.0",
            "[::]",
            "[::1]x",
            "localhost:80:80",
            "2130706433",
            "[::1",
            "127.0.0.1@evil",
        ];
        for host in strangers {
            assert!(!is_ours(host, &public), "{host}");
        }
    }

    #[test]
    fn unsafe_requests_come_from_the_same_origin() {
        let asked = |method: &str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            check(&headers, &Uri::from_static("/api/v1/tasks"), method, &[]).is_ok()
        };
        assert!(asked("POST", None));
        assert!(asked("POST", Some("http://127.0.0.1:8080")));
        assert!(asked("GET", Some("http://evil.example")));
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:9999",
            "http://localhost:8080",
            "file://127.0.0.1:8080",
            "127.0.0.1:8080",
        ] {
            assert!(!asked("POST", Some(origin)), "{origin}");
        }
    }
}
