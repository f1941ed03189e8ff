//! Whether the process lives, whether it can work, and its metrics.

use std::{sync::Arc, time::Duration};

use atelier_runtime::telemetry::{self, ProviderInUse};
use axum::{
    Json,
    extract::State as Shares,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;

use super::Endpoint;
use crate::state::{HealthCheck, Shared, State};

/// Longest wait for one dependency.
const LIMIT: Duration = Duration::from_secs(3);

pub const LIVE: Endpoint = Endpoint {
    method: "get",
    path: "/health/live",
    handler: || get(live),
    document: |operation| {
        operation
            .named("isLive", "health", "Whether the process lives")
            .raw_answer(200, "It does.", "application/json", serde_json::json!({ "type": "object", "properties": { "live": { "const": true } } }))
    },
};

pub const READY: Endpoint = Endpoint {
    method: "get",
    path: "/health/ready",
    handler: || get(ready),
    document: |operation| {
        operation
            .named("isReady", "health", "Whether it can work, and what is down")
            .answer::<Readiness>(200, "Everything is there.")
            .answer::<Readiness>(503, "Something is down; its message says what.")
    },
};

pub const METRICS: Endpoint = Endpoint {
    method: "get",
    path: "/metrics",
    handler: || get(metrics),
    document: |operation| {
        operation
            .named("getMetrics", "health", "Metrics in Prometheus' text format")
            .raw_answer(
                200,
                "The metrics of the process.",
                "text/plain",
                serde_json::json!({ "type": "string" }),
            )
    },
};

/// Whether it can work.
#[derive(Serialize, JsonSchema)]
struct Readiness {
    /// Whether everything is there.
    ready: bool,
    /// One row per dependency.
    dependencies: Vec<DependencyState>,
    /// What calculates the networks of the stages that this process runs.
    providers: Vec<StageProvider>,
}

/// What calculates the networks of a stage.
#[derive(Serialize, JsonSchema)]
struct StageProvider {
    /// The stage.
    stage: &'static str,
    /// The execution provider: `cpu`, `openvino-bf16`, …
    provider: &'static str,
}

/// How one dependency is.
#[derive(Serialize, JsonSchema)]
struct DependencyState {
    /// Its name.
    name: String,
    /// Whether it is there.
    ok: bool,
    /// What is wrong; `ok` where nothing is.
    message: String,
}

pub(crate) async fn live() -> Response {
    (
        [(header::CACHE_CONTROL, "no-store")],
        Json(serde_json::json!({ "live": true })),
    )
        .into_response()
}

async fn ready(Shares(state): Shares<Shared>) -> Response {
    let checks: Vec<HealthCheck> = own_checks(&state)
        .into_iter()
        .chain(state.deps.checks.clone())
        .collect();
    answer(&checks).await
}

/// Asks everything, and says what is down.
pub(crate) async fn answer(checks: &[HealthCheck]) -> Response {
    let asked = checks.iter().map(|check| async {
        let outcome = check.ask(LIMIT).await;
        let ok = outcome.is_ok();
        DependencyState {
            name: check.name.clone(),
            ok,
            message: outcome.err().unwrap_or_else(|| "ok".to_owned()),
        }
    });
    let dependencies = join_all(asked).await;
    let ready = dependencies.iter().all(|dependency| dependency.ok);
    let in_use = telemetry::providers_in_use().into_iter();
    let providers = in_use
        .map(|ProviderInUse { stage, provider }| StageProvider { stage, provider })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        [(header::CACHE_CONTROL, "no-store")],
        Json(Readiness {
            ready,
            dependencies,
            providers,
        }),
    )
        .into_response()
}

fn own_checks(state: &State) -> [HealthCheck; 3] {
    let ledger = Arc::clone(&state.deps.ledger);
    let blobs = Arc::clone(&state.deps.blobs);
    let log = Arc::clone(&state.deps.log);
    [
        HealthCheck::new("ledger", move || {
            let ledger = Arc::clone(&ledger);
            async move { ledger.check().await.map_err(|error| error.to_string()) }
        }),
        HealthCheck::new("blobs", move || {
            let blobs = Arc::clone(&blobs);
            async move { blobs.check().await.map_err(|error| error.to_string()) }
        }),
        HealthCheck::new("kafka", move || {
            let log = Arc::clone(&log);
            async move { log.end().await.map(drop).map_err(|error| error.to_string()) }
        }),
    ]
}

async fn metrics(Shares(state): Shares<Shared>) -> Response {
    exposition((state.deps.metrics)())
}

/// The text of `/metrics` with its media type.
pub(crate) fn exposition(text: String) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}
