//! Forgetting what is past its retention.

use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::Mutex;

use super::{RowError, Statement, Transaction};

/// How often what is past its retention is removed, and how many rows of each table at once.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
const PRUNE_ROWS: u32 = 5_000;

/// How long events are remembered, and when those of before were last removed.
pub(in crate::ledger) struct Pruning {
    retention_hours: u32,
    pruned_at: Mutex<Option<Instant>>,
}

impl Pruning {
    pub(in crate::ledger) fn new(retention_hours: u32) -> Self {
        Self {
            retention_hours,
            pruned_at: Mutex::new(None),
        }
    }

    /// Removes what was applied, sent or seen before the retention, where that was not done lately.
    pub(super) async fn prune_when_due<T: Transaction>(
        &self,
        transaction: &mut T,
    ) -> Result<(), RowError> {
        // Whoever holds it is about to do it.
        let Ok(mut pruned_at) = self.pruned_at.try_lock() else {
            return Ok(());
        };
        if pruned_at.is_some_and(|at| at.elapsed() < PRUNE_INTERVAL) {
            return Ok(());
        }
        let before = Utc::now() - chrono::Duration::hours(i64::from(self.retention_hours));
        for statement in T::DIALECT.prune {
            Statement::new(statement)
                .bind(before.timestamp_micros())
                .bind(PRUNE_ROWS)
                .execute(transaction)
                .await?;
        }
        *pruned_at = Some(Instant::now());
        Ok(())
    }
}
