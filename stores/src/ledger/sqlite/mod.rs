//! The ledger in one SQLite file.
//!
//! Invariants: one connection of this process writes, every writing transaction takes the write lock at its begin (so
//! that other processes that share the file wait instead of failing in the middle), and readers never wait for writers.

mod transaction;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{
    SqlitePool,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use self::transaction::SqliteTransaction;
use super::{
    LedgerError,
    sql::{Backend, Pruning, RowError, Transaction as _},
};
use crate::{
    disk,
    options::{Durability, LedgerOptions},
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/sqlite");

/// The ledger in one SQLite file.
pub struct SqliteLedger {
    file: PathBuf,
    min_free_bytes: u64,
    writer: SqlitePool,
    readers: SqlitePool,
    pruning: Pruning,
}

impl SqliteLedger {
    /// Opens the ledger in `file`, makes it where it is missing, and brings its tables up to date.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] where the file cannot be made or written, is no ledger, or is of a newer version.
    pub async fn open(file: &Path, options: LedgerOptions) -> Result<Self, LedgerError> {
        let unavailable = |reason: String| LedgerError::Unavailable {
            place: file.display().to_string(),
            reason,
        };
        if let Some(folder) = file.parent() {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|error| unavailable(error.to_string()))?;
        }
        let busy_timeout = Duration::from_millis(options.busy_timeout_ms);
        let connection = SqliteConnectOptions::new()
            .filename(file)
            .busy_timeout(busy_timeout)
            .foreign_keys(true)
            .synchronous(match options.durability {
                Durability::Fsync => SqliteSynchronous::Full,
                Durability::Os => SqliteSynchronous::Normal,
            });
        // A writer waits for its turn as long as for another process, and then says so.
        let pool =
            || SqlitePoolOptions::new().acquire_timeout(busy_timeout.max(Duration::from_secs(1)));
        let writing = connection
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let one = pool().max_connections(1);
        let writer = connect_to_write(one, writing, busy_timeout)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        migrate(&writer).await.map_err(|error| {
            unavailable(format!("its tables cannot be brought up to date: {error}"))
        })?;
        let readers = pool()
            .max_connections(options.read_connections.max(1))
            .connect_with(connection.read_only(true))
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(Self {
            file: file.to_owned(),
            min_free_bytes: options.min_free_bytes,
            writer,
            readers,
            pruning: Pruning::new(options.inbox_retention_hours),
        })
    }

    /// Closes every connection; what is committed stays.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    fn is_full(&self, error: &sqlx::Error) -> bool {
        const SQLITE_IOERR: u32 = 10;
        const SQLITE_FULL: u32 = 13;
        if let sqlx::Error::Io(error) = error {
            return disk::is_full(error);
        }
        // The shared-memory file reports a full disk as any other I/O error.
        match code_of(error) {
            Some(SQLITE_FULL) => true,
            Some(SQLITE_IOERR) => self.lack_of_room(64 * 1024, 0).is_some(),
            _ => false,
        }
    }

    fn lack_of_room(&self, needed_bytes: u64, min_free_bytes: u64) -> Option<String> {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        disk::lack_of_room(folder, needed_bytes, min_free_bytes)
            .ok()
            .flatten()
    }
}

/// Connects. On a new file the write-ahead log is switched on, which SQLite refuses at once, whatever the time-out, while
/// another process does the same.
async fn connect_to_write(
    pool: SqlitePoolOptions,
    connection: SqliteConnectOptions,
    patience: Duration,
) -> Result<SqlitePool, sqlx::Error> {
    const SQLITE_BUSY: u32 = 5;
    let since = Instant::now();
    loop {
        match pool.clone().connect_with(connection.clone()).await {
            Err(error) if code_of(&error) == Some(SQLITE_BUSY) && since.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome,
        }
    }
}

/// SQLite's primary code, which is the low byte.
fn code_of(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<u32>().ok()? & 0xff)
}

/// All of it under the write lock: sqlx takes none for SQLite, and of two processes that start at once on a new file the second
/// would find its tables half made.
async fn migrate(writer: &SqlitePool) -> Result<(), MigrateError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await?;
    Ok(transaction.commit().await?)
}

impl Backend for SqliteLedger {
    type Transaction = SqliteTransaction;

    async fn begin_to_write(&self, _tasks: &[Uuid]) -> Result<SqliteTransaction, sqlx::Error> {
        // One writer at a time, whatever it writes about.
        SqliteTransaction::to_write(&self.writer).await
    }

    async fn begin_to_read(&self) -> Result<SqliteTransaction, sqlx::Error> {
        SqliteTransaction::to_read(&self.readers).await
    }

    /// Acceptance stops before the disk is full, so that what was accepted can still end.
    fn check_room(&self) -> Result<(), LedgerError> {
        match self.lack_of_room(0, self.min_free_bytes) {
            Some(reason) => Err(LedgerError::Full {
                place: self.file.display().to_string(),
                reason,
            }),
            None => Ok(()),
        }
    }

    /// Takes the write lock and gives it back: another process that holds it for ever shows here.
    async fn check_writable(&self) -> Result<(), RowError> {
        let transaction = SqliteTransaction::to_write(&self.writer).await?;
        Ok(transaction.commit().await?)
    }

    fn wait_before_retry(&self, _error: &RowError, _failures: u32) -> Option<Duration> {
        // The write lock was waited for already.
        None
    }

    fn failed(&self, error: RowError) -> LedgerError {
        let place = self.file.display().to_string();
        match error {
            RowError::Corrupt(reason) => LedgerError::Corrupt { place, reason },
            RowError::Sql(error) if self.is_full(&error) => LedgerError::Full {
                place,
                reason: error.to_string(),
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
}
