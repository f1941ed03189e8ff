//! The ledger: every task, its images, their ends, the outbox of what is to be published, the inbox of what was seen.
//!
//! Invariants: a task and its outbox row are one transaction; an effect and the id of the event that caused it are one
//! transaction, and a repeat of that event answers with the events of the first time; each image ends once, the last
//! one ends the task. See [`Effect`] for what happens when events overtake each other.

pub(crate) mod inspect;
pub(crate) mod postgres;
mod sql;
mod sqlite;

use std::collections::HashMap;

use async_trait::async_trait;
use atelier_schemas::{
    BlobKey, BlobRef, ErrorBody, Event, TaskAnswer, TaskRequest, TaskStatus, Trimap,
    answer::VersionAnswer,
    events::{ImageContext, ImageResult, TaskAccepted},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use inspect::LedgerState;
pub use postgres::PostgresLedger;
pub use sqlite::SqliteLedger;

/// A place that keeps the ledger.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Writes a task and its outbox row in one transaction. The same fingerprint under the same id is a repeat; another
    /// one, or a task of that id that came by topic, is a conflict; neither changes anything.
    async fn create_task(&self, task: NewTask) -> Result<Created, LedgerError>;

    /// The task as the API shows it. Its URLs are paths of the API, such as `/api/v1/tasks/{id}/images/0/result`.
    async fn task(&self, task_id: Uuid) -> Result<Option<TaskAnswer>, LedgerError>;

    /// A page of tasks, newest first, after `cursor` (opaque, from the page before; none comes with the last page). Tasks
    /// that arrive between two pages shift nothing.
    async fn tasks(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<TaskAnswer>, Option<String>), LedgerError>;

    /// What is known of one image: its context as far as known, and its result.
    async fn image(&self, task_id: Uuid, index: u32) -> Result<Option<ImageRecord>, LedgerError>;

    /// The same of all images of a task, in order.
    async fn images(&self, task_id: Uuid) -> Result<Option<Vec<ImageRecord>>, LedgerError>;

    /// Every version of the picture that an image is one of, the first one first.
    ///
    /// An image whose source says which one it repeats (`repeatOf`) is the next version of it, where the ledger knows that one
    /// with the same original; else it is a picture of its own. This is so from when the ledger first knows both: when the
    /// task is created, is accepted, or has the image completed. Two repeats at once are two versions.
    async fn versions(
        &self,
        task_id: Uuid,
        index: u32,
    ) -> Result<Option<Vec<VersionAnswer>>, LedgerError>;

    /// Asks for a task to stop: where it has not ended, an outbox row says so, in the transaction that looked. A repeat
    /// changes nothing. The task itself changes when the event comes back as [`Effect::Cancelled`].
    async fn request_cancel(
        &self,
        task_id: Uuid,
        requested_at: DateTime<Utc>,
        traceparent: Option<String>,
    ) -> Result<CancelRequested, LedgerError>;

    /// The oldest outbox rows that are not sent yet.
    async fn outbox_pending(&self, limit: u32) -> Result<Vec<OutboxRow>, LedgerError>;

    /// Marks outbox rows as sent.
    async fn outbox_sent(&self, ids: &[Uuid]) -> Result<(), LedgerError>;

    /// Applies the effects of events, in order and in one transaction, each event once, and answers with the events
    /// that follow from each; a repeat answers with the same events and changes nothing. One answer per effect: an effect
    /// that contradicts the ledger changes nothing and does not disturb its neighbours.
    async fn apply_all(&self, effects: Vec<(Uuid, Effect)>) -> Result<Vec<Applied>, LedgerError>;

    /// Applies the effect of one event, as [`Ledger::apply_all`] does.
    async fn apply(&self, event_id: Uuid, effect: Effect) -> Result<Vec<Event>, LedgerError> {
        let mut answers = self.apply_all(vec![(event_id, effect)]).await?;
        answers
            .pop()
            .unwrap_or_else(|| Ok(Vec::new()))
            .map_err(LedgerError::from)
    }

    /// What those of `keys` are to the ledger that any task refers to.
    async fn blob_uses(
        &self,
        keys: &[BlobKey],
        kept: KeptSince,
    ) -> Result<HashMap<BlobKey, BlobUse>, LedgerError>;

    /// When the oldest task that has not ended was submitted.
    async fn oldest_open_task(&self) -> Result<Option<DateTime<Utc>>, LedgerError>;

    /// Takes a duty that one process does for all; answers whether nobody had taken it since `unless_since`.
    async fn take_duty(
        &self,
        name: &'static str,
        unless_since: DateTime<Utc>,
    ) -> Result<bool, LedgerError>;

    /// Whether the ledger can be read and written now. Checked by `/health/ready`.
    async fn check(&self) -> Result<(), LedgerError>;

    /// The connections to its server; `None` where it has none.
    fn connections(&self) -> Option<Connections> {
        None
    }
}

/// Connections to a server that this process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Those that somebody works with.
    pub in_use: u32,
    /// Those that are open and wait for work.
    pub idle: u32,
    /// Most that there may be.
    pub limit: u32,
}

/// What a blob is to the tasks that refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobUse {
    /// One of them has not ended, or not longer ago than its class is kept.
    InUse,
    /// Its time is over for all of them.
    Past,
}

/// What ended since then is kept; `None`: whenever it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSince {
    /// Originals.
    pub originals: Option<DateTime<Utc>>,
    /// Results, with their thumbnails and mattes.
    pub results: Option<DateTime<Utc>>,
}

/// A task that the gateway accepted.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its id.
    pub task_id: Uuid,
    /// The request in the long form, as it will stand on `image-tasks`.
    pub request: TaskRequest,
    /// When it was submitted.
    pub submitted_at: DateTime<Utc>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// SHA-256 of the request as the client sent it, to tell a repeat from a conflict.
    pub fingerprint: String,
}

/// What became of [`Ledger::create_task`].
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It is new.
    New,
    /// The same request under the same id was there already.
    Repeat,
    /// Another request is there under this id.
    Conflict,
}

/// What became of [`Ledger::request_cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelRequested {
    /// There is no such task.
    Unknown,
    /// It has ended already.
    Ended(TaskStatus),
    /// It is to stop; now or by an earlier request.
    Requested,
}

/// An event that is in the ledger and perhaps not yet on the log.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// The event's id.
    pub event_id: Uuid,
    /// The task, also the key.
    pub task_id: Uuid,
    /// The topic.
    pub topic: String,
    /// `ce_type`.
    pub event_type: String,
    /// The JSON value.
    pub value: Vec<u8>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// What follows from one effect: events to publish, or why the ledger cannot take it.
pub type Applied = Result<Vec<Event>, Contradiction>;

/// What an event does to the ledger.
///
/// Events come by several topics, so they may overtake each other. Whatever the order, the ledger ends in the same state
/// and each end is told once:
///
/// - An image that completes before its task was accepted makes the task: its context says how many images there are.
///   Names and addresses of the others come with `Accepted`.
/// - An image that fails before anything is known of its task is remembered, and ends as soon as the task is known.
/// - A task that fails as a whole before anything is known of it has ended: nothing else may ever come (this is what
///   becomes of a request by topic that does not hold). Where its images become known after all (the request was repaired
///   and replayed), they end as failed with the task's error, and each one that completes is a repair.
/// - A result for an image that had failed is a repair: result, counts and status are brought up to date, its end and its
///   task's end are not told again.
/// - A cancelled task has ended: each image that had not ended ends as cancelled, and whatever comes of such an image later
///   changes nothing and tells nothing. Results that were there stay. A task that has ended otherwise stays as it is.
/// - A cancel that comes before anything is known of its task ends it; its images end as cancelled when they become known.
/// - The first description of a task stands: a later, different one under the same id changes nothing.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum Effect {
    /// Ingest read the task: creates it where it came by topic.
    Accepted(TaskAccepted),
    /// An image has its result.
    ImageCompleted {
        /// The image.
        image: ImageContext,
        /// Its result.
        result: ImageResult,
    },
    /// An image, or the whole task where `image_id` is `None`, has failed.
    Failed {
        /// The task.
        task_id: Uuid,
        /// The image.
        image_id: Option<Uuid>,
        /// Why.
        error: ErrorBody,
    },
    /// The task is to stop.
    Cancelled {
        /// The task.
        task_id: Uuid,
        /// What its open images and the task itself say of it.
        error: ErrorBody,
    },
}

impl Effect {
    /// The task that it is about.
    pub fn task_id(&self) -> Uuid {
        match self {
            Self::Accepted(accepted) => accepted.task_id,
            Self::ImageCompleted { image, .. } => image.task_id,
            Self::Failed { task_id, .. } | Self::Cancelled { task_id, .. } => *task_id,
        }
    }
}

/// What the ledger knows of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRecord {
    /// The task.
    pub task_id: Uuid,
    /// The image.
    pub image_id: Uuid,
    /// Where it stands.
    pub status: TaskStatus,
    /// Its name, where the sender gave one.
    pub name: Option<String>,
    /// Its uploaded bytes, where it did not come from an address.
    pub uploaded: Option<BlobRef>,
    /// Its trimap, where the sender gave one.
    pub trimap: Option<Trimap>,
    /// Its result, once there is one.
    pub result: Option<ImageResult>,
}

impl ImageRecord {
    /// Its bytes as they came, where they are known: those of a fetched picture only with its result.
    pub fn original(&self) -> Option<&BlobRef> {
        let of_result = self.result.as_ref().map(|result| &result.original);
        self.uploaded.as_ref().or(of_result)
    }
}

/// An event that cannot be about the task that the ledger knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event contradicts the ledger on task {task_id}: {reason}")]
pub struct Contradiction {
    /// The task.
    pub task_id: Uuid,
    /// What does not fit.
    pub reason: String,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The event cannot be about the task that the ledger knows.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// No space is left.
    #[error(
        "the ledger at {place} is full: {reason}; free space, nothing that was accepted is lost"
    )]
    Full {
        /// Where.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// A cursor that this ledger did not make.
    #[error("`{0}` is not a cursor of this list: take `nextCursor` of the page before")]
    InvalidCursor(String),
    /// A row that does not read back: the file was changed by something else.
    #[error("the ledger at {place} holds a row that does not parse: {reason}")]
    Corrupt {
        /// Where.
        place: String,
        /// Which row, and why.
        reason: String,
    },
    /// The ledger cannot be reached or used now.
    #[error("the ledger at {place} cannot be used: {reason}")]
    Unavailable {
        /// Where.
        place: String,
        /// What the system said.
        reason: String,
    },
}
