//! PostgreSQL keeps the contract of `Ledger`.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use atelier_stores::{Ledger, LedgerOptions, contract::LedgerPlace, open_ledger};
use support::postgres::Server;

struct Database(String);

impl LedgerPlace for Database {
    async fn fresh() -> Self {
        let server = Server::shared();
        Self(server.url(&server.database().await))
    }

    async fn open(&self) -> Arc<dyn Ledger> {
        open_ledger(&self.0, &LedgerOptions::default())
            .await
            .unwrap()
    }
}

atelier_stores::ledger_contract!(Database);
