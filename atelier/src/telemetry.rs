//! What a process that runs for long tells of itself.

use std::{sync::Arc, time::Duration};

use atelier_runtime::telemetry::{Exposition, Process, Traces, ledger_connections};
use atelier_stores::Ledger;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Loaded;

/// How often that is read which nobody counts as it happens.
const INTERVAL: Duration = Duration::from_secs(5);

/// The process's telemetry. It starts before everything that it tells of.
pub struct Telemetry {
    exposition: Exposition,
    process: Arc<Process>,
    traces: Option<Traces>,
}

impl Telemetry {
    /// Starts counting, and collecting traces under the name of `service` where the configuration names a collector.
    ///
    /// # Errors
    /// A setting does not hold, or the process does so already.
    pub fn start(loaded: &Loaded, service: &str) -> anyhow::Result<Self> {
        Ok(Self {
            exposition: Exposition::install()?,
            process: Arc::new(Process::new(loaded.data_dir.clone())),
            traces: Traces::start(&loaded.config.telemetry, service)?,
        })
    }

    /// Gives the collector the last traces, within `telemetry.flush_timeout_ms`.
    pub async fn finish(self) {
        if let Some(traces) = self.traces
            && tokio::task::spawn_blocking(|| traces.finish())
                .await
                .is_err()
        {
            tracing::warn!("the end of the traces broke off");
        }
    }

    /// The text of `/metrics`, whenever it is asked for.
    pub fn page(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let exposition = self.exposition.clone();
        Arc::new(move || exposition.render())
    }

    /// Reads what nobody counts as it happens, every few seconds until the answer is dropped: the process, its disk, and the
    /// connections of `ledger`.
    pub fn watch(&self, ledger: Option<Arc<dyn Ledger>>) -> AbortOnDropHandle<()> {
        let (exposition, process) = (self.exposition.clone(), Arc::clone(&self.process));
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                process.measure();
                if let Some(open) = ledger.as_ref().and_then(|ledger| ledger.connections()) {
                    ledger_connections(open.in_use, open.idle, open.limit);
                }
                exposition.tidy_up();
                tokio::time::sleep(INTERVAL).await;
            }
        }))
    }
}
