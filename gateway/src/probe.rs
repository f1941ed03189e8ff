//! `/health/live`, `/health/ready` and `/metrics` of a process that has no gateway.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    routes::health::{answer, exposition, live},
    server::GatewayError,
    state::HealthCheck,
};

/// A listener that holds its port and does not answer yet.
pub struct Probe {
    listener: TcpListener,
    address: SocketAddr,
}

impl Probe {
    /// Takes the port.
    ///
    /// # Errors
    /// [`GatewayError::ListenProbe`] where the address cannot be listened on.
    pub async fn bind(address: SocketAddr) -> Result<Self, GatewayError> {
        let failed = |source: io::Error| GatewayError::ListenProbe { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// [`GatewayError::Serve`] where the listener breaks.
    pub async fn run(
        self,
        checks: Vec<HealthCheck>,
        metrics: Arc<dyn Fn() -> String + Send + Sync>,
        shutdown: CancellationToken,
    ) -> Result<(), GatewayError> {
        let checks: Arc<[HealthCheck]> = checks.into();
        let app = Router::new()
            .route("/health/live", get(live))
            .route(
                "/health/ready",
                get(move || {
                    let checks = Arc::clone(&checks);
                    async move { answer(&checks).await }
                }),
            )
            .route(
                "/metrics",
                get(move || {
                    let text = metrics();
                    async move { exposition(text) }
                }),
            );
        axum::serve(self.listener, app)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .map_err(GatewayError::Serve)
    }
}
