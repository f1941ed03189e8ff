//! Starting and stopping.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use chrono::Utc;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    options::{GatewayOptions, InvalidOptions},
    routes,
    state::{Dependencies, Shared, State},
    telemetry,
};

const OUTBOX_WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Why the gateway does not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting.
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    /// The port is taken.
    #[error("port {} is taken: stop what listens on {address}, or set gateway.listen to another port", .address.port())]
    PortTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}, see gateway.listen: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address of a stage's health and metrics cannot be listened on.
    #[error("cannot listen on {address}: {source}; give another address by --listen")]
    ListenProbe {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener broke.
    #[error("the listener broke: {0}")]
    Serve(io::Error),
}

/// A gateway that holds its port and does not answer yet.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    options: GatewayOptions,
    deps: Dependencies,
}

impl Gateway {
    /// Takes the port.
    ///
    /// # Errors
    /// [`GatewayError`] names the setting that is wrong, or the port that is taken.
    pub async fn bind(options: GatewayOptions, deps: Dependencies) -> Result<Self, GatewayError> {
        options.validate()?;
        let address = options.listen;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => GatewayError::PortTaken { address },
            _ => GatewayError::Listen { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            options,
            deps,
        })
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the port and answers until `shutdown`.
    ///
    /// # Errors
    /// As [`Gateway::bind`] and [`Gateway::run`].
    pub async fn serve(
        options: GatewayOptions,
        deps: Dependencies,
        shutdown: CancellationToken,
    ) -> Result<(), GatewayError> {
        Self::bind(options, deps).await?.run(shutdown).await
    }

    /// Answers until `shutdown`, then lets open requests finish within `drain_timeout_ms`; event streams end at once.
    ///
    /// # Errors
    /// [`GatewayError::Serve`] where the listener breaks.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), GatewayError> {
        let drain = Duration::from_millis(self.options.drain_timeout_ms);
        let state = State::new(self.options, self.deps, shutdown.clone());
        // The relay outlives the last request, so that what was accepted while draining still goes out at once.
        let relay_stop = CancellationToken::new();
        let mut background = JoinSet::new();
        background.spawn(relay(&state, relay_stop.clone()));
        background.spawn(follow(Arc::clone(&state), shutdown.clone()));
        background.spawn(count_open_tasks(Arc::clone(&state), shutdown.clone()));
        background.spawn(watch_outbox(Arc::clone(&state), shutdown.clone()));
        tracing::info!(address = %self.address, "the gateway listens");

        let app = routes::router(&state);
        let server = axum::serve(self.listener, app)
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let deadline = async {
            shutdown.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        let outcome = tokio::select! {
            outcome = server => outcome.map_err(GatewayError::Serve),
            () = deadline => {
                tracing::warn!(drain_timeout_ms = drain.as_millis() as u64, "open requests were cut off");
                Ok(())
            }
        };
        // Where the listener broke, the background work stops with it.
        shutdown.cancel();
        relay_stop.cancel();
        let ended = async {
            while let Some(ended) = background.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "background work of the gateway broke off");
                }
            }
        };
        // A relay that waits for a broker that is away may be left: its rows are not marked and go out after the next start.
        if tokio::time::timeout(drain, ended).await.is_err() {
            tracing::info!("what stands in the outbox goes out after the next start");
        }
        outcome
    }
}

fn relay(state: &Shared, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
    let log = Arc::clone(&state.deps.log);
    let ledger = Arc::clone(&state.deps.ledger);
    let wake = Arc::clone(&state.outbox_wake);
    let poll = Duration::from_millis(state.options.outbox_poll_ms);
    async move { log.relay(ledger, poll, wake, stop).await }
}

/// How old the oldest unpublished row is; asked of the ledger, so that it is known too while the log is away.
async fn watch_outbox(state: Shared, shutdown: CancellationToken) {
    loop {
        match state.deps.ledger.outbox_pending(1).await {
            Ok(rows) => {
                let age = rows.first().map(|row| Utc::now() - row.created_at);
                telemetry::outbox_oldest(age.map(|age| age.to_std().unwrap_or_default()));
            }
            // The figure stays as it was; `/health/ready` says what is wrong with the ledger.
            Err(error) => tracing::debug!(%error, "outbox: its age is not known"),
        }
        let next = tokio::time::sleep(OUTBOX_WATCH_INTERVAL);
        if shutdown.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

async fn follow(state: Shared, shutdown: CancellationToken) {
    state
        .tail
        .run(|event| state.line.observe(event), shutdown)
        .await;
}

async fn count_open_tasks(state: Shared, shutdown: CancellationToken) {
    let _ = shutdown
        .run_until_cancelled(state.line.load_open_tasks(state.deps.ledger.as_ref()))
        .await;
}
