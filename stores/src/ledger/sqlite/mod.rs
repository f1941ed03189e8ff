//! The ledger in one SQLite file.
//!
//! Invariants: one connection of this process writes, every writing transaction takes the write lock at its begin (so
//! that other processes that share the file wait instead of failing in the middle), and readers never wait for writers.

mod apply;
mod inbox;
mod outbox;
mod read;
mod rows;
mod transaction;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use atelier_schemas::{Event, TaskAnswer};
use chrono::Utc;
use sqlx::{
    SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use self::{rows::RowError, transaction::Transaction};
use super::{Applied, Created, Effect, ImageRecord, Ledger, LedgerError, NewTask, OutboxRow};
use crate::{
    disk,
    options::{Durability, LedgerOptions},
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/sqlite");

/// How often what is past its retention is removed, and how many rows at once.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
const PRUNE_ROWS: u32 = 5_000;

/// The ledger in one SQLite file.
pub struct SqliteLedger {
    file: PathBuf,
    options: LedgerOptions,
    writer: SqlitePool,
    readers: SqlitePool,
    pruned_at: Mutex<Option<Instant>>,
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
        let writer = pool()
            .max_connections(1)
            .connect_with(writing)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        MIGRATIONS.run(&writer).await.map_err(|error| {
            unavailable(format!("its tables cannot be brought up to date: {error}"))
        })?;
        let readers = pool()
            .max_connections(options.read_connections.max(1))
            .connect_with(connection.read_only(true))
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(Self {
            file: file.to_owned(),
            options,
            writer,
            readers,
            pruned_at: Mutex::new(None),
        })
    }

    /// Closes every connection; what is committed stays.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    fn failed(&self, error: RowError) -> LedgerError {
        let place = self.file.display().to_string();
        match error {
            RowError::Corrupt(reason) => LedgerError::Corrupt { place, reason },
            RowError::Sql(error) if self.is_full(&error) => LedgerError::Full {
                place,
                reason: error.to_string(),
            },
            RowError::Sql(error) => LedgerError::Unavailable {
                place,
                reason: error.to_string(),
            },
        }
    }

    fn is_full(&self, error: &sqlx::Error) -> bool {
        const SQLITE_IOERR: u32 = 10;
        const SQLITE_FULL: u32 = 13;
        let code = match error {
            sqlx::Error::Io(error) => return disk::is_full(error),
            sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<u32>().ok()),
            _ => None,
        };
        // The low byte is the primary code. The shared-memory file reports a full disk as any other I/O error.
        match code.map(|code| code & 0xff) {
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

    /// Acceptance stops before the disk is full, so that what was accepted can still end.
    fn check_room(&self) -> Result<(), LedgerError> {
        match self.lack_of_room(0, self.options.min_free_bytes) {
            Some(reason) => Err(LedgerError::Full {
                place: self.file.display().to_string(),
                reason,
            }),
            None => Ok(()),
        }
    }

    async fn prune_when_due(&self, connection: &mut SqliteConnection) -> Result<(), RowError> {
        let mut pruned_at = self.pruned_at.lock().await;
        if pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_INTERVAL) {
            let before =
                Utc::now() - chrono::Duration::hours(i64::from(self.options.inbox_retention_hours));
            inbox::prune(connection, before, PRUNE_ROWS).await?;
            outbox::prune(connection, before, PRUNE_ROWS).await?;
            *pruned_at = Some(Instant::now());
        }
        Ok(())
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn create_task(&self, task: NewTask) -> Result<Created, LedgerError> {
        self.check_room()?;
        self.try_create_task(task)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn task(&self, task_id: Uuid) -> Result<Option<TaskAnswer>, LedgerError> {
        self.try_task(task_id)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn tasks(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<TaskAnswer>, Option<String>), LedgerError> {
        let before = cursor.map(read::parse_cursor).transpose()?;
        self.try_tasks(before, limit.max(1))
            .await
            .map_err(|error| self.failed(error))
    }

    async fn image(&self, task_id: Uuid, index: u32) -> Result<Option<ImageRecord>, LedgerError> {
        self.try_image(task_id, index)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn outbox_pending(&self, limit: u32) -> Result<Vec<OutboxRow>, LedgerError> {
        self.try_outbox_pending(limit)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn outbox_sent(&self, ids: &[Uuid]) -> Result<(), LedgerError> {
        self.try_outbox_sent(ids)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn apply_all(&self, effects: Vec<(Uuid, Effect)>) -> Result<Vec<Applied>, LedgerError> {
        self.try_apply_all(effects)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn check(&self) -> Result<(), LedgerError> {
        self.check_room()?;
        self.try_lock().await.map_err(|error| self.failed(error))
    }
}

/// The same with the adapter's own error.
impl SqliteLedger {
    async fn try_create_task(&self, task: NewTask) -> Result<Created, RowError> {
        let mut transaction = Transaction::to_write(&self.writer).await?;
        let created = outbox::create_task(transaction.connection(), task).await?;
        transaction.commit().await?;
        Ok(created)
    }

    async fn try_task(&self, task_id: Uuid) -> Result<Option<TaskAnswer>, RowError> {
        let mut snapshot = Transaction::to_read(&self.readers).await?;
        let answer = read::task(snapshot.connection(), task_id).await?;
        snapshot.commit().await?;
        Ok(answer)
    }

    async fn try_tasks(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<TaskAnswer>, Option<String>), RowError> {
        let mut snapshot = Transaction::to_read(&self.readers).await?;
        let page = read::tasks(snapshot.connection(), before, limit).await?;
        snapshot.commit().await?;
        Ok(page)
    }

    async fn try_image(&self, task_id: Uuid, index: u32) -> Result<Option<ImageRecord>, RowError> {
        let mut snapshot = Transaction::to_read(&self.readers).await?;
        let record = read::image(snapshot.connection(), task_id, index).await?;
        snapshot.commit().await?;
        Ok(record)
    }

    async fn try_outbox_pending(&self, limit: u32) -> Result<Vec<OutboxRow>, RowError> {
        let mut snapshot = Transaction::to_read(&self.readers).await?;
        let rows = outbox::pending(snapshot.connection(), limit).await?;
        snapshot.commit().await?;
        Ok(rows)
    }

    async fn try_outbox_sent(&self, ids: &[Uuid]) -> Result<(), RowError> {
        let mut transaction = Transaction::to_write(&self.writer).await?;
        outbox::mark_sent(transaction.connection(), ids, Utc::now()).await?;
        transaction.commit().await
    }

    async fn try_apply_all(&self, effects: Vec<(Uuid, Effect)>) -> Result<Vec<Applied>, RowError> {
        let mut transaction = Transaction::to_write(&self.writer).await?;
        let mut answers = Vec::with_capacity(effects.len());
        for (event_id, effect) in effects {
            answers.push(apply_once(transaction.connection(), event_id, effect).await?);
        }
        self.prune_when_due(transaction.connection()).await?;
        transaction.commit().await?;
        Ok(answers)
    }

    /// Takes the write lock and gives it back: another process that holds it for ever shows here.
    async fn try_lock(&self) -> Result<(), RowError> {
        Transaction::to_write(&self.writer).await?.commit().await
    }
}

async fn apply_once(
    connection: &mut SqliteConnection,
    event_id: Uuid,
    effect: Effect,
) -> Result<Applied, RowError> {
    if let Some(events) = inbox::answered(connection, event_id).await? {
        return Ok(Ok(events));
    }
    let now = Utc::now();
    let events: Vec<Event> = match apply::apply(connection, effect, now).await? {
        Ok(events) => events,
        Err(contradiction) => return Ok(Err(contradiction)),
    };
    inbox::remember(connection, event_id, &events, now).await?;
    Ok(Ok(events))
}
