//! The ledger in a database on a PostgreSQL server, which several processes share.
//!
//! Invariants: writers of one task take turns by an advisory lock, writers of different tasks do not wait for each other;
//! a transaction that the server gave up because of another one is tried again, so callers never see that; whatever keeps
//! the server from answering is "unavailable" within the configured times, never a hang.

pub(crate) mod address;
mod transaction;

use std::time::Duration;

use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;
use uuid::Uuid;

use self::transaction::{PostgresTransaction, within};
use super::{
    Connections, LedgerError,
    sql::{Backend, Pruning, RowError, Transaction as _},
};
use crate::{
    open::without_password,
    options::{Durability, LedgerOptions},
};

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/postgres");

/// How often a transaction is tried again, and the wait before the first time; each further wait is twice as long.
const MOST_RETRIES: u32 = 7;
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// The codes by which the server tells failures apart (its appendix "Error Codes").
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";
const UNIQUE_VIOLATION: &str = "23505";
const DISK_FULL: &str = "53100";

/// The ledger in a PostgreSQL database.
pub struct PostgresLedger {
    /// The URL without its password.
    place: String,
    pool: PgPool,
    acquire_timeout: Duration,
    statement_timeout: Duration,
    pruning: Pruning,
}

impl PostgresLedger {
    /// Connects to the database that `url` names and brings its tables up to date. Several processes may do so at once.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] where the URL does not hold, the server cannot be reached or refuses, takes no writes,
    /// or holds a ledger of a newer version.
    pub async fn open(url: &str, options: &LedgerOptions) -> Result<Self, LedgerError> {
        let place = without_password(url);
        let unavailable = |reason: String| LedgerError::Unavailable {
            place: place.clone(),
            reason,
        };
        let server = address::parse(url).map_err(unavailable)?;
        prepare(&server, options).await.map_err(unavailable)?;
        let limits = &options.postgres;
        let acquire_timeout = millis(limits.acquire_timeout_ms);
        let statement_timeout = millis(limits.statement_timeout_ms);
        let pool = PgPoolOptions::new()
            .max_connections(limits.max_connections.max(1))
            .acquire_timeout(acquire_timeout)
            .connect_lazy_with(limited(&server, statement_timeout));
        Ok(Self {
            place,
            pool,
            acquire_timeout,
            statement_timeout,
            pruning: Pruning::new(options.inbox_retention_hours),
        })
    }

    /// Closes every connection; what is committed stays.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Connects once and brings the tables up to date.
async fn prepare(server: &PgConnectOptions, options: &LedgerOptions) -> Result<(), String> {
    let connect_timeout = millis(options.postgres.connect_timeout_ms);
    // A pool would keep the reason to itself and answer that it waited too long.
    let connected = PgConnection::connect_with(server);
    let mut connection = within(connect_timeout, connected)
        .await
        .map_err(|error| error.to_string())?;
    let settings = sqlx::query_as(
        "SELECT current_setting('transaction_read_only') = 'on',
                current_setting('fsync') = 'off' OR current_setting('synchronous_commit') = 'off'",
    );
    let (is_read_only, is_lossy): (bool, bool) =
        within(connect_timeout, settings.fetch_one(&mut connection))
            .await
            .map_err(|error| error.to_string())?;
    // Nothing depends on how it ends.
    let _ = within(connect_timeout, connection.close()).await;
    if is_read_only {
        return Err(RowError::ReadOnly.to_string());
    }
    if is_lossy && options.durability == Durability::Fsync {
        tracing::warn!(
            "`fsync` or `synchronous_commit` is off on the PostgreSQL server: a crash of it may lose what was acknowledged"
        );
    }
    migrate(
        server,
        connect_timeout,
        options.postgres.migration_timeout_ms,
    )
    .await
    .map_err(|reason| format!("its tables cannot be brought up to date: {reason}"))
}

/// Brings the tables up to date. On a connection of its own, because a migration may take longer than a statement.
async fn migrate(
    server: &PgConnectOptions,
    connect_timeout: Duration,
    timeout_ms: u64,
) -> Result<(), String> {
    let limit = millis(timeout_ms);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(connect_timeout)
        .connect_lazy_with(limited(server, limit));
    // The migrator takes an advisory lock, so that of two processes that start at once one waits for the other.
    let migrated = timeout(limit, MIGRATIONS.run(&pool))
        .await
        .map_err(|_| format!("this took more than {timeout_ms} ms"))?;
    // Also after an error, because the lock goes with the connection.
    let _ = timeout(connect_timeout, pool.close()).await;
    migrated.map_err(|error| error.to_string())
}

/// The server with a limit on each statement. A process of ours that is stopped in the middle of a transaction loses it
/// after the same time, so that its locks do not stop the others.
fn limited(server: &PgConnectOptions, statement_timeout: Duration) -> PgConnectOptions {
    let limit = statement_timeout.as_millis().to_string();
    server.clone().options([
        ("statement_timeout", limit.as_str()),
        ("idle_in_transaction_session_timeout", limit.as_str()),
    ])
}

fn millis(count: u64) -> Duration {
    // Zero would be no limit to the server; it counts in 32 bits with a sign.
    Duration::from_millis(count.clamp(1, i32::MAX.unsigned_abs().into()))
}

fn code_of(error: &RowError) -> Option<String> {
    match error {
        RowError::Sql(sqlx::Error::Database(error)) => error.code().map(|code| code.into_owned()),
        _ => None,
    }
}

impl Backend for PostgresLedger {
    type Transaction = PostgresTransaction;

    async fn begin_to_write(&self, tasks: &[Uuid]) -> Result<PostgresTransaction, sqlx::Error> {
        PostgresTransaction::to_write(&self.pool, self.statement_timeout, tasks).await
    }

    async fn begin_to_read(&self) -> Result<PostgresTransaction, sqlx::Error> {
        PostgresTransaction::to_read(&self.pool, self.statement_timeout).await
    }

    /// How much room there is only the server knows; it says so when there is none.
    fn check_room(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn check_writable(&self) -> Result<(), RowError> {
        let mut transaction = self.begin_to_write(&[]).await?;
        let is_read_only = transaction.is_read_only().await?;
        transaction.commit().await?;
        if is_read_only {
            return Err(RowError::ReadOnly);
        }
        Ok(())
    }

    fn wait_before_retry(&self, error: &RowError, failures: u32) -> Option<Duration> {
        // Two that write a row of the same key did not know of each other's task; the second then finds the row.
        let may_succeed = code_of(error).is_some_and(|code| {
            [SERIALIZATION_FAILURE, DEADLOCK_DETECTED, UNIQUE_VIOLATION].contains(&code.as_str())
        });
        if !may_succeed || failures > MOST_RETRIES {
            return None;
        }
        let wait = FIRST_WAIT * 2_u32.pow(failures - 1);
        // Two that failed together must not meet again.
        let jitter = Uuid::new_v4().as_bytes()[0];
        Some(wait + wait * u32::from(jitter) / 255)
    }

    fn failed(&self, error: RowError) -> LedgerError {
        let place = self.place.clone();
        let code = code_of(&error);
        match error {
            RowError::Corrupt(reason) => LedgerError::Corrupt { place, reason },
            error if code.as_deref() == Some(DISK_FULL) => LedgerError::Full {
                place,
                reason: error.to_string(),
            },
            RowError::Sql(sqlx::Error::PoolTimedOut) => LedgerError::Unavailable {
                place,
                reason: format!(
                    "no connection within {} ms: the server does not answer or refuses, or all `max_connections` are busy",
                    self.acquire_timeout.as_millis()
                ),
            },
            error => LedgerError::Unavailable {
                place,
                reason: error.to_string(),
            },
        }
    }

    fn pruning(&self) -> &Pruning {
        &self.pruning
    }

    fn open_connections(&self) -> Option<Connections> {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        Some(Connections {
            in_use: self.pool.size().saturating_sub(idle),
            idle,
            limit: self.pool.options().get_max_connections(),
        })
    }
}
