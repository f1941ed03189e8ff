//! Erasing blobs that are past their time, and those that nobody refers to.
//!
//! Invariant: a blob that is in use is never lost. What the ledger refers to is kept for its class's time; of what it does not
//! refer to, nothing goes that was written after the oldest open task was submitted; and what goes is first set aside,
//! where whoever still asks for it brings it back. So any number of sweeps may run beside any number of writers.

use std::time::{Duration, SystemTime};

use atelier_schemas::BlobKey;
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    BlobError, Ledger, LedgerError, RetentionOptions, SweepableBlobs,
    ledger::{BlobUse, KeptSince},
};

/// Blobs that the ledger is asked about at once.
const KEYS_AT_ONCE: usize = 1_000;
/// How far apart the clocks of those who submit, store and sweep may be.
const CLOCK_SKEW: Duration = Duration::from_hours(1);
/// What was written in the last two hours stays: the clocks may differ, and what is put again within an hour does not count
/// as new.
const LEAST_HOURS: u32 = 2;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        let before = self.before().await?;
        for shard in 0..=u8::MAX {
            let old = self.blobs.written_before(shard, before.any).await?;
            swept.looked_at += old.len() as u64;
            for blobs in old.chunks(KEYS_AT_ONCE) {
                swept.set_aside += self.set_aside(blobs, before.unknown).await?;
            }
        }
        Ok(swept)
    }

    /// Sets those of `blobs` aside whose time is over, or that are unknown to the ledger and were written before
    /// `unknown_before`; answers how many those are.
    async fn set_aside(
        &self,
        blobs: &[(BlobKey, SystemTime)],
        unknown_before: SystemTime,
    ) -> Result<u64, SweepError> {
        let keys: Vec<BlobKey> = blobs.iter().map(|(key, _)| key.clone()).collect();
        let uses = self.ledger.blob_uses(&keys, self.kept_since()).await?;
        let mut count = 0;
        for (key, written) in blobs {
            let is_over = match uses.get(key) {
                Some(BlobUse::InUse) => false,
                Some(BlobUse::Past) => true,
                None => *written < unknown_before,
            };
            if is_over {
                count += 1;
                if !self.is_dry_run {
                    self.blobs.set_aside(key, *written).await?;
                }
            }
        }
        Ok(count)
    }

    async fn empty(&self, swept: &mut Swept) -> Result<(), SweepError> {
        let before = self.ago(self.options.aside_hours.max(1)).into();
        let aside = self.blobs.aside_since_before(before).await?;
        for keys in aside.chunks(KEYS_AT_ONCE) {
            let uses = self.ledger.blob_uses(keys, self.kept_since()).await?;
            for key in keys {
                let is_in_use = uses.get(key) == Some(&BlobUse::InUse);
                if is_in_use {
                    swept.brought_back += 1;
                } else {
                    swept.erased += 1;
                }
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

    /// Of what was written since the oldest open task was submitted nothing goes: what it hands from stage to stage was
    /// written, or put again, since then.
    async fn before(&self) -> Result<Before, LedgerError> {
        let open = self.ledger.oldest_open_task().await?;
        let limit = |retention_hours: u32| {
            let before = self.ago(retention_hours.max(LEAST_HOURS));
            open.map_or(before, |submitted| before.min(submitted - CLOCK_SKEW))
        };
        let intermediates_hours = self.options.intermediates_hours;
        let shortest = [self.options.originals_hours, self.options.results_hours]
            .into_iter()
            .flatten()
            .fold(intermediates_hours, u32::min);
        if let Some(submitted) = open
            && submitted < self.ago(intermediates_hours)
        {
            tracing::info!(%submitted, "a task is open for longer than intermediates are kept: they are kept for it");
        }
        Ok(Before {
            any: limit(shortest).into(),
            unknown: limit(intermediates_hours).into(),
        })
    }

    fn kept_since(&self) -> KeptSince {
        let since = |retention_hours: Option<u32>| retention_hours.map(|hours| self.ago(hours));
        KeptSince {
            originals: since(self.options.originals_hours),
            results: since(self.options.results_hours),
        }
    }

    fn ago(&self, hours: u32) -> DateTime<Utc> {
        let hours = TimeDelta::hours(i64::from(hours));
        // Longer ago than the calendar goes back is for ever.
        self.now
            .checked_sub_signed(hours)
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// What was written before may go.
struct Before {
    /// Whatever it is: the shortest of all retentions.
    any: SystemTime,
    /// What the ledger does not know.
    unknown: SystemTime,
}
