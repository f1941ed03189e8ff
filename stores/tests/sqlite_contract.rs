//! SQLite keeps the contract of `Ledger`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use atelier_stores::{Durability, Ledger, LedgerOptions, contract::LedgerPlace, open_ledger};
use tempfile::TempDir;

struct Folder(TempDir);

impl LedgerPlace for Folder {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Ledger> {
        let options = LedgerOptions {
            min_free_bytes: 0,
            durability: Durability::Os,
            ..LedgerOptions::default()
        };
        open_ledger(
            &format!("sqlite://{}/ledger.sqlite", self.0.path().display()),
            &options,
        )
        .await
        .unwrap()
    }
}

atelier_stores::ledger_contract!(Folder);
