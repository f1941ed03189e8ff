//! Erasing blobs that are past their time, and those that nobody refers to.
//!
//! Invariant: a blob that is in use is never lost. What the ledger refers to is kept for its class's time; of what it does not
//! refer to, nothing goes that was written after the oldest open task was submitted; and what goes is first set aside,
//! where whoever still asks for it brings it back. So any number of sweeps may run beside any number of writers.

use std::time::{Duration, SystemTime};

use atelier_schemas::BlobKey;
use chrono::{DateTime, Utc};

use crate::{BlobError, Ledger, LedgerError, RetentionOptions, SweepableBlobs, ledger::KeptSince};

/// Blobs that the ledger is asked about at once.
const KEYS_AT_ONCE: usize = 1_000;
/// How far apart the clocks of those who submit, store and sweep may be.
const CLOCK_SKEW: Duration = Duration::from_hours(1);
/// The least retention of intermediates: twice what the clocks may differ.
const LEAST_INTERMEDIATES_HOURS: u32 = 2;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// Blobs that are old enough to be asked about.
    pub looked_at: u64,
    /// Blobs that were set aside, or would be.
    pub set_aside: u64,
    /// Blobs that were aside and are in use after all.
    pub brought_back: u64,
    /// Blobs that were erased, or would be.
    pub erased: u64,
}

/// Why a sweep broke off. What it did until then stays done; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The blobs.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A sweep over `blobs`, kept as `ledger` and `options` say.
pub struct Sweep<'a> {
    /// What is swept.
    pub blobs: &'a dyn SweepableBlobs,
    /// Who knows what is in use.
    pub ledger: &'a dyn Ledger,
    /// How long what is kept.
    pub options: &'a RetentionOptions,
    /// What time it is.
    pub now: DateTime<Utc>,
    /// Only counts what would be done.
    pub is_dry_run: bool,
}

impl Sweep<'_> {
    /// Erases what was set aside long enough ago and is not in use, then sets aside what is past its time.
    ///
    /// # Errors
    /// [`SweepError`] where a store fails.
    pub async fn run(&self) -> Result<Swept, SweepError> {
        let mut swept = Swept::default();
        self.empty(&mut swept).await?;
        let before = self.intermediates_before().await?;
        for shard in 0..=u8::MAX {
            let old = self.blobs.written_before(shard, before).await?;
            swept.looked_at += old.len() as u64;
            for keys in old.chunks(KEYS_AT_ONCE) {
                let in_use = self.ledger.blobs_in_use(keys, self.kept_since()).await?;
                for key in keys.iter().filter(|key| !in_use.contains(key)) {
                    if !self.is_dry_run {
                        self.blobs.set_aside(key).await?;
                    }
                    swept.set_aside += 1;
                }
            }
        }
        Ok(swept)
    }

    async fn empty(&self, swept: &mut Swept) -> Result<(), SweepError> {
        let aside_for = hours(self.options.aside_hours.max(1));
        let aside = self
            .blobs
            .aside_since_before(system_time(self.now - aside_for))
            .await?;
        for keys in aside.chunks(KEYS_AT_ONCE) {
            let in_use = self.ledger.blobs_in_use(keys, self.kept_since()).await?;
            for key in keys {
                let is_in_use = in_use.contains(key);
                *if is_in_use {
                    &mut swept.brought_back
                } else {
                    &mut swept.erased
                } += 1;
                if !self.is_dry_run {
                    self.settle(key, is_in_use).await?;
                }
            }
        }
        Ok(())
    }

    async fn settle(&self, key: &BlobKey, is_in_use: bool) -> Result<(), BlobError> {
        if is_in_use {
            self.blobs.bring_back(key).await.map(drop)
        } else {
            self.blobs.erase_aside(key).await
        }
    }

    /// What was written before may be asked about. What open tasks hand from stage to stage was written after they were
    /// submitted, or put again since.
    async fn intermediates_before(&self) -> Result<SystemTime, LedgerError> {
        let retention = self
            .options
            .intermediates_hours
            .max(LEAST_INTERMEDIATES_HOURS);
        let mut before = self.now - hours(retention);
        if let Some(submitted) = self.ledger.oldest_open_task().await?
            && submitted - CLOCK_SKEW < before
        {
            before = submitted - CLOCK_SKEW;
            tracing::info!(%submitted, "a task is open for longer than intermediates are kept: they are kept for it");
        }
        Ok(system_time(before))
    }

    fn kept_since(&self) -> KeptSince {
        let since = |retention: Option<u32>| retention.map(|retention| self.now - hours(retention));
        KeptSince {
            originals: since(self.options.originals_hours),
            results: since(self.options.results_hours),
        }
    }
}

fn hours(count: u32) -> Duration {
    Duration::from_hours(u64::from(count))
}

fn system_time(time: DateTime<Utc>) -> SystemTime {
    SystemTime::from(time)
}
