//! What every route shares.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use atelier_stores::{Blobs, Ledger};
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    error::ApiError,
    line::LineView,
    log::{EventLog, Line, LogError},
    options::GatewayOptions,
    tail::Tail,
};

/// What the gateway needs of the process around it.
#[derive(Clone)]
pub struct Dependencies {
    /// Where pictures are.
    pub blobs: Arc<dyn Blobs>,
    /// Where tasks are.
    pub ledger: Arc<dyn Ledger>,
    /// Where tasks are published and progress is read.
    pub log: Arc<dyn EventLog>,
    /// How the stages stand.
    pub line: Arc<dyn Line>,
    /// What else `/health/ready` asks about, such as each stage of this process. Blobs, ledger and log are asked anyway.
    pub checks: Vec<HealthCheck>,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The model behind each quality, for people.
    pub qualities: Vec<QualityModel>,
    /// The broker's address as clients of the log would write it, for the `kcat` line on the page.
    pub bootstrap_servers: String,
}

/// A quality and the model that does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QualityModel {
    /// `high`, `medium` or `low`.
    pub name: String,
    /// The model's name in the catalogue.
    pub model: String,
}

type Check = dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// Something that `/health/ready` asks about.
#[derive(Clone)]
pub struct HealthCheck {
    /// Its name, for example `matte`.
    pub name: String,
    check: Arc<Check>,
}

impl HealthCheck {
    /// A check by that name; it answers with what is wrong.
    pub fn new<F, A>(name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            name: name.into(),
            check: Arc::new(move || Box::pin(check())),
        }
    }

    /// Asks, no longer than `limit`.
    pub async fn ask(&self, limit: Duration) -> Result<(), String> {
        tokio::time::timeout(limit, (self.check)())
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())))
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("HealthCheck")
            .field(&self.name)
            .finish()
    }
}

/// What every route shares.
pub struct State {
    /// The settings.
    pub options: GatewayOptions,
    /// The process around.
    pub deps: Dependencies,
    /// Live progress.
    pub tail: Tail,
    /// How the line stands, measured.
    pub line: LineView,
    /// Wakes the relay.
    pub outbox_wake: Arc<Notify>,
    /// Uploads that may be read at once.
    pub upload_slots: Semaphore,
    /// Event streams that may be open at once.
    pub stream_slots: Arc<Semaphore>,
    /// Pictures that may be in memory at once as base64, for the remove.bg dialect.
    pub picture_slots: Semaphore,
    /// Set when the gateway stops.
    pub shutdown: CancellationToken,
}

/// How the routes hold it.
pub type Shared = Arc<State>;

impl State {
    /// The state of a gateway that is about to start.
    pub fn new(options: GatewayOptions, deps: Dependencies, shutdown: CancellationToken) -> Shared {
        Arc::new(Self {
            tail: Tail::new(Arc::clone(&deps.log), options.event_ring_events),
            line: LineView::default(),
            outbox_wake: Arc::new(Notify::new()),
            upload_slots: Semaphore::new(options.max_concurrent_uploads),
            stream_slots: Arc::new(Semaphore::new(options.max_event_streams)),
            picture_slots: Semaphore::new(2),
            options,
            deps,
            shutdown,
        })
    }

    /// Longest silence in the middle of a body.
    pub fn body_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.options.body_idle_timeout_ms)
    }

    /// The error of a dependency that is closing down with the gateway.
    pub fn stopping() -> ApiError {
        LogError::Unavailable {
            place: "gateway".to_owned(),
            reason: "it is stopping".to_owned(),
        }
        .into()
    }
}
