//! Looks at a ledger's database without changing it: for `atelier doctor`.

use std::{collections::BTreeSet, path::Path, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    postgres::{self, address},
    sqlite,
};
use crate::options::LedgerOptions;

/// What a ledger's database says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// Whether there is a database at all; a file is made at the first start.
    pub exists: bool,
    /// What it is, such as `PostgreSQL 15.18`.
    pub server: String,
    /// Changes of the tables that the next start makes, by name.
    pub pending: Vec<String>,
    /// Changes that this program does not know: the tables are of a newer version.
    pub unknown: Vec<i64>,
    /// How far the server's clock is ahead of this machine's, in milliseconds; none for a file.
    pub clock_ahead_ms: Option<i64>,
    /// Connections that the server takes; none for a file.
    pub server_connections: Option<u32>,
}

impl LedgerState {
    fn compare(&mut self, known: &sqlx::migrate::Migrator, applied: &[i64]) {
        let versions: BTreeSet<i64> = known.iter().map(|migration| migration.version).collect();
        self.pending = known
            .iter()
            .filter(|migration| !applied.contains(&migration.version))
            .map(|migration| format!("{:04} {}", migration.version, migration.description))
            .collect();
        self.unknown = applied
            .iter()
            .copied()
            .filter(|version| !versions.contains(version))
            .collect();
    }
}

/// What the SQLite file says.
pub(crate) async fn of_file(file: &Path) -> Result<LedgerState, sqlx::Error> {
    let mut state = LedgerState {
        server: "SQLite".to_owned(),
        ..LedgerState::default()
    };
    if !file.exists() {
        state.compare(&sqlite::MIGRATIONS, &[]);
        return Ok(state);
    }
    state.exists = true;
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let has_table: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut connection)
    .await?;
    let applied = if has_table == 0 {
        Vec::new()
    } else {
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
            .fetch_all(&mut connection)
            .await?
    };
    connection.close().await?;
    state.compare(&sqlite::MIGRATIONS, &applied);
    Ok(state)
}

/// What the PostgreSQL server says.
///
/// # Errors
/// What is wrong with the URL, or why the server does not answer.
pub(crate) async fn of_server(url: &str, options: &LedgerOptions) -> Result<LedgerState, String> {
    let server = address::parse(url)?;
    let limit = Duration::from_millis(options.postgres.connect_timeout_ms.max(1));
    let asked = async {
        let mut connection = PgConnection::connect_with(&server).await?;
        let before = Utc::now();
        let (version, now, connections): (String, DateTime<Utc>, i32) = sqlx::query_as(
            "SELECT current_setting('server_version'), clock_timestamp(), current_setting('max_connections')::int",
        )
        .fetch_one(&mut connection)
        .await?;
        // The answer was written somewhere between the question and its arrival.
        let middle = before + (Utc::now() - before) / 2;
        let has_table: bool =
            sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
                .fetch_one(&mut connection)
                .await?;
        let applied: Vec<i64> = if has_table {
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
                .fetch_all(&mut connection)
                .await?
        } else {
            Vec::new()
        };
        connection.close().await?;
        let mut state = LedgerState {
            exists: true,
            server: format!("PostgreSQL {version}"),
            clock_ahead_ms: Some((now - middle).num_milliseconds()),
            server_connections: u32::try_from(connections).ok(),
            ..LedgerState::default()
        };
        state.compare(&postgres::MIGRATIONS, &applied);
        Ok::<_, sqlx::Error>(state)
    };
    tokio::time::timeout(limit, asked)
        .await
        .map_err(|_| format!("no answer within {} ms", limit.as_millis()))?
        .map_err(|error| error.to_string())
}
