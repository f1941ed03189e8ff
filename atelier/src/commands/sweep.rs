//! `atelier sweep`: blobs that are past their time; and the same by itself, beside a gateway.

use std::{process::ExitCode, sync::Arc, time::Duration};

use atelier_stores::{
    Ledger, RetentionOptions, SweepableBlobs, open_blobs, open_ledger,
    retention::{Sweep, SweepError, Swept},
};
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::{config::Loaded, print};

/// The name under which the ledger keeps who swept last.
const DUTY: &str = "sweep";
/// How often a gateway looks whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Sweeps once, now.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded, is_dry_run: bool) -> anyhow::Result<ExitCode> {
    let blobs = open_blobs(&loaded.blobs_url(), &loaded.config.stores.blobs).await?;
    let ledger = open_ledger(&loaded.ledger_url(), &loaded.config.stores.ledger).await?;
    let sweep = Sweep {
        blobs: blobs.as_ref(),
        ledger: ledger.as_ref(),
        options: &loaded.config.stores.retention,
        now: Utc::now(),
        is_dry_run,
    };
    print(&told(&sweep.run().await?, is_dry_run))?;
    Ok(ExitCode::SUCCESS)
}

fn told(swept: &Swept, is_dry_run: bool) -> String {
    let Swept {
        looked_at,
        set_aside,
        brought_back,
        erased,
    } = swept;
    let would = if is_dry_run { "would be " } else { "" };
    format!(
        "old enough to be asked about: {looked_at}; {would}set aside: {set_aside}; \
         {would}erased: {erased}; {would}brought back: {brought_back}\n"
    )
}

/// Sweeps as often as the options say, one process for all, until `shutdown`.
pub async fn regularly(
    blobs: Arc<dyn SweepableBlobs>,
    ledger: Arc<dyn Ledger>,
    options: RetentionOptions,
    shutdown: CancellationToken,
) {
    if options.sweep_interval_minutes == 0 {
        return;
    }
    let work = async {
        loop {
            match sweep_when_due(&blobs, &ledger, &options).await {
                Ok(None) => {}
                Ok(Some(swept)) => tracing::info!(
                    looked_at = swept.looked_at,
                    set_aside = swept.set_aside,
                    brought_back = swept.brought_back,
                    erased = swept.erased,
                    "swept the blobs"
                ),
                Err(error) => {
                    tracing::warn!(%error, "a sweep of the blobs broke off; the next one goes on");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    shutdown.run_until_cancelled(work).await;
}

async fn sweep_when_due(
    blobs: &Arc<dyn SweepableBlobs>,
    ledger: &Arc<dyn Ledger>,
    options: &RetentionOptions,
) -> Result<Option<Swept>, SweepError> {
    let now = Utc::now();
    let interval = Duration::from_secs(u64::from(options.sweep_interval_minutes) * 60);
    if !ledger.take_duty(DUTY, now - interval).await? {
        return Ok(None);
    }
    let sweep = Sweep {
        blobs: blobs.as_ref(),
        ledger: ledger.as_ref(),
        options,
        now,
        is_dry_run: false,
    };
    sweep.run().await.map(Some)
}
