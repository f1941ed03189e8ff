//! What the ledger does, whichever SQL server or file it does it on.
//!
//! The tables are the same in every adapter, and nearly all statements are; what differs is in [`Dialect`], and how a
//! transaction begins, fails and is tried again is in [`Backend`]. Every [`Backend`] is a [`Ledger`].
//!
//! Invariant: writers of the same task take turns from the begin of their transactions to the end, so what is read in
//! a writing transaction stays true until it commits.

mod apply;
mod inbox;
mod outbox;
mod prune;
mod read;
mod rows;
mod statement;
mod uses;
mod versions;

use std::{collections::HashMap, future::Future, time::Duration};

use async_trait::async_trait;
use atelier_schemas::{BlobKey, Event, TaskAnswer, answer::VersionAnswer};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use self::outbox::CancelRequest;
pub(super) use self::{
    prune::Pruning,
    rows::RowError,
    statement::{Record, Statement},
};
use super::{
    Applied, BlobUse, CancelRequested, Connections, Created, Effect, ImageRecord, KeptSince,
    Ledger, LedgerError, NewTask, OutboxRow,
};

/// The statements that the adapters word differently.
pub(super) struct Dialect {
    /// `$1` the task's sequence, `$2` a JSON array with each image's source or null.
    pub insert_images: &'static str,
    /// The same parameters; fills what is not known yet.
    pub fill_sources: &'static str,
    /// `$1` the task's id; answers the order in which they came, the image's id and the error.
    pub take_early_failures: &'static str,
    /// `$1` a JSON array of event ids, `$2` the time.
    pub mark_sent: &'static str,
    /// `$1` the task's sequence, `$2` a JSON array of blob keys, `$3` their class.
    pub add_uses: &'static str,
    /// `$1` a JSON array of blob keys, `$2` since when a task must have ended for its originals to be kept, `$3` for its
    /// results; answers those keys that tasks refer to, with 1 where they are in use.
    pub blob_uses: &'static str,
    /// `$1` a JSON array of first images, each `[task's sequence, index, how many repeat it]`; answers the latest version of each
    /// (`task`, `image_index`, `version`).
    pub take_versions: &'static str,
    /// `$1` the task's sequence, `$2` a JSON array with `[index, version, first image's task, first image's index]` of each image.
    pub set_versions: &'static str,
    /// Each removes at most `$2` rows that are older than `$1`.
    pub prune: [&'static str; 3],
}

/// A transaction that is open until [`Transaction::commit`]; dropping it undoes it.
pub(super) trait Transaction: Send + Sized {
    /// How this adapter words what is not common.
    const DIALECT: Dialect;

    /// Runs a statement; answers how many rows it changed.
    fn execute(
        &mut self,
        statement: Statement,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Runs a statement; answers its rows.
    fn fetch<R: Record>(
        &mut self,
        statement: Statement,
    ) -> impl Future<Output = Result<Vec<R>, sqlx::Error>> + Send;

    /// Ends it; what was written is there from now on.
    fn commit(self) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// Where transactions come from.
pub(super) trait Backend: Send + Sync {
    /// Its transactions.
    type Transaction: Transaction;

    /// Begins to write about `tasks`; waits for others that write about one of them.
    fn begin_to_write(
        &self,
        tasks: &[Uuid],
    ) -> impl Future<Output = Result<Self::Transaction, sqlx::Error>> + Send;

    /// Begins to read: everything that is read is of one moment.
    fn begin_to_read(&self) -> impl Future<Output = Result<Self::Transaction, sqlx::Error>> + Send;

    /// Why no new task may be accepted, although what was accepted may still end.
    fn check_room(&self) -> Result<(), LedgerError>;

    /// Whether it can be written now.
    fn check_writable(&self) -> impl Future<Output = Result<(), RowError>> + Send;

    /// How long to wait before a writing transaction that failed with `error` is tried again, where that makes sense.
    fn wait_before_retry(&self, error: &RowError, failures: u32) -> Option<Duration>;

    /// What the caller is told.
    fn failed(&self, error: RowError) -> LedgerError;

    /// When to forget.
    fn pruning(&self) -> &Pruning;

    /// As [`Ledger::connections`].
    fn open_connections(&self) -> Option<Connections> {
        None
    }
}

#[async_trait]
impl<B: Backend> Ledger for B {
    async fn create_task(&self, task: NewTask) -> Result<Created, LedgerError> {
        self.check_room()?;
        let mut failures = 0;
        loop {
            match create_task(self, &task).await {
                Ok(created) => return Ok(created),
                Err(error) => wait_or_fail(self, error, &mut failures).await?,
            }
        }
    }

    async fn task(&self, task_id: Uuid) -> Result<Option<TaskAnswer>, LedgerError> {
        task(self, task_id)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn tasks(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<TaskAnswer>, Option<String>), LedgerError> {
        let before = cursor.map(read::parse_cursor).transpose()?;
        tasks(self, before, limit.max(1))
            .await
            .map_err(|error| self.failed(error))
    }

    async fn image(&self, task_id: Uuid, index: u32) -> Result<Option<ImageRecord>, LedgerError> {
        image(self, task_id, index)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn images(&self, task_id: Uuid) -> Result<Option<Vec<ImageRecord>>, LedgerError> {
        images(self, task_id)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn versions(
        &self,
        task_id: Uuid,
        index: u32,
    ) -> Result<Option<Vec<VersionAnswer>>, LedgerError> {
        versions(self, task_id, index)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn request_cancel(
        &self,
        task_id: Uuid,
        requested_at: DateTime<Utc>,
        traceparent: Option<String>,
    ) -> Result<CancelRequested, LedgerError> {
        let request = CancelRequest {
            task_id,
            requested_at,
            traceparent,
        };
        let mut failures = 0;
        loop {
            match request_cancel(self, &request).await {
                Ok(requested) => return Ok(requested),
                Err(error) => wait_or_fail(self, error, &mut failures).await?,
            }
        }
    }

    async fn outbox_pending(&self, limit: u32) -> Result<Vec<OutboxRow>, LedgerError> {
        outbox_pending(self, limit)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn outbox_sent(&self, ids: &[Uuid]) -> Result<(), LedgerError> {
        let mut failures = 0;
        loop {
            match outbox_sent(self, ids).await {
                Ok(()) => return Ok(()),
                Err(error) => wait_or_fail(self, error, &mut failures).await?,
            }
        }
    }

    async fn apply_all(&self, effects: Vec<(Uuid, Effect)>) -> Result<Vec<Applied>, LedgerError> {
        let mut failures = 0;
        loop {
            match apply_all(self, &effects).await {
                Ok(answers) => return Ok(answers),
                Err(error) => wait_or_fail(self, error, &mut failures).await?,
            }
        }
    }

    async fn blob_uses(
        &self,
        keys: &[BlobKey],
        kept: KeptSince,
    ) -> Result<HashMap<BlobKey, BlobUse>, LedgerError> {
        blob_uses(self, keys, kept)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn oldest_open_task(&self) -> Result<Option<DateTime<Utc>>, LedgerError> {
        oldest_open_task(self)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn take_duty(
        &self,
        name: &'static str,
        unless_since: DateTime<Utc>,
    ) -> Result<bool, LedgerError> {
        let mut failures = 0;
        loop {
            match take_duty(self, name, unless_since).await {
                Ok(taken) => return Ok(taken),
                Err(error) => wait_or_fail(self, error, &mut failures).await?,
            }
        }
    }

    async fn check(&self) -> Result<(), LedgerError> {
        self.check_room()?;
        self.check_writable()
            .await
            .map_err(|error| self.failed(error))
    }

    fn connections(&self) -> Option<Connections> {
        self.open_connections()
    }
}

/// Waits where the transaction may be tried again; else this is the end of it.
async fn wait_or_fail(
    backend: &impl Backend,
    error: RowError,
    failures: &mut u32,
) -> Result<(), LedgerError> {
    *failures += 1;
    let Some(wait) = backend.wait_before_retry(&error, *failures) else {
        return Err(backend.failed(error));
    };
    tracing::debug!(%error, failures, "the ledger's transaction is tried again");
    tokio::time::sleep(wait).await;
    Ok(())
}

async fn create_task(backend: &impl Backend, task: &NewTask) -> Result<Created, RowError> {
    let mut transaction = backend.begin_to_write(&[task.task_id]).await?;
    let created = outbox::create_task(&mut transaction, task.clone()).await?;
    transaction.commit().await?;
    Ok(created)
}

async fn request_cancel(
    backend: &impl Backend,
    request: &CancelRequest,
) -> Result<CancelRequested, RowError> {
    let mut transaction = backend.begin_to_write(&[request.task_id]).await?;
    let requested = outbox::request_cancel(&mut transaction, request.clone()).await?;
    transaction.commit().await?;
    Ok(requested)
}

async fn task(backend: &impl Backend, task_id: Uuid) -> Result<Option<TaskAnswer>, RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let answer = read::task(&mut snapshot, task_id).await?;
    snapshot.commit().await?;
    Ok(answer)
}

async fn tasks(
    backend: &impl Backend,
    before: Option<i64>,
    limit: u32,
) -> Result<(Vec<TaskAnswer>, Option<String>), RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let page = read::tasks(&mut snapshot, before, limit).await?;
    snapshot.commit().await?;
    Ok(page)
}

async fn image(
    backend: &impl Backend,
    task_id: Uuid,
    index: u32,
) -> Result<Option<ImageRecord>, RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let record = read::image(&mut snapshot, task_id, index).await?;
    snapshot.commit().await?;
    Ok(record)
}

async fn images(
    backend: &impl Backend,
    task_id: Uuid,
) -> Result<Option<Vec<ImageRecord>>, RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let records = read::images(&mut snapshot, task_id).await?;
    snapshot.commit().await?;
    Ok(records)
}

async fn versions(
    backend: &impl Backend,
    task_id: Uuid,
    index: u32,
) -> Result<Option<Vec<VersionAnswer>>, RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let versions = versions::of_image(&mut snapshot, task_id, index).await?;
    snapshot.commit().await?;
    Ok(versions)
}

async fn blob_uses(
    backend: &impl Backend,
    keys: &[BlobKey],
    kept: KeptSince,
) -> Result<HashMap<BlobKey, BlobUse>, RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let uses = uses::of_blobs(&mut snapshot, keys, kept).await?;
    snapshot.commit().await?;
    Ok(uses)
}

async fn oldest_open_task(backend: &impl Backend) -> Result<Option<DateTime<Utc>>, RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let submitted = uses::oldest_open_task(&mut snapshot).await?;
    snapshot.commit().await?;
    Ok(submitted)
}

async fn take_duty(
    backend: &impl Backend,
    name: &str,
    unless_since: DateTime<Utc>,
) -> Result<bool, RowError> {
    let mut transaction = backend.begin_to_write(&[]).await?;
    let taken = uses::take_duty(&mut transaction, name, unless_since, Utc::now()).await?;
    transaction.commit().await?;
    Ok(taken)
}

async fn outbox_pending(backend: &impl Backend, limit: u32) -> Result<Vec<OutboxRow>, RowError> {
    let mut snapshot = backend.begin_to_read().await?;
    let rows = outbox::pending(&mut snapshot, limit).await?;
    snapshot.commit().await?;
    Ok(rows)
}

async fn outbox_sent(backend: &impl Backend, ids: &[Uuid]) -> Result<(), RowError> {
    // Marking says nothing about tasks, and marking twice does no harm.
    let mut transaction = backend.begin_to_write(&[]).await?;
    outbox::mark_sent(&mut transaction, ids, Utc::now()).await?;
    Ok(transaction.commit().await?)
}

async fn apply_all(
    backend: &impl Backend,
    effects: &[(Uuid, Effect)],
) -> Result<Vec<Applied>, RowError> {
    let tasks: Vec<_> = effects.iter().map(|(_, effect)| effect.task_id()).collect();
    let mut transaction = backend.begin_to_write(&tasks).await?;
    let mut answers = Vec::with_capacity(effects.len());
    for (event_id, effect) in effects {
        answers.push(apply_once(&mut transaction, *event_id, effect.clone()).await?);
    }
    backend.pruning().prune_when_due(&mut transaction).await?;
    transaction.commit().await?;
    Ok(answers)
}

async fn apply_once(
    transaction: &mut impl Transaction,
    event_id: Uuid,
    effect: Effect,
) -> Result<Applied, RowError> {
    if let Some(events) = inbox::answered(transaction, event_id).await? {
        return Ok(Ok(events));
    }
    let now = Utc::now();
    let events: Vec<Event> = match apply::apply(transaction, effect, now).await? {
        Ok(events) => events,
        Err(contradiction) => return Ok(Err(contradiction)),
    };
    inbox::remember(transaction, event_id, &events, now).await?;
    Ok(Ok(events))
}
