//! From columns to types and back.

use atelier_schemas::TaskStatus;
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// What may go wrong with a row.
#[derive(Debug, thiserror::Error)]
pub(in crate::ledger) enum RowError {
    /// The driver says no.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The server takes no writes.
    #[error(
        "the server takes no writes now: it is a standby, or `default_transaction_read_only` is on"
    )]
    ReadOnly,
    /// A column does not hold what it should.
    #[error("{0}")]
    Corrupt(String),
}

/// A row of `tasks`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct TaskRow {
    pub sequence: i64,
    pub task_id: String,
    pub fingerprint: Option<String>,
    #[sqlx(try_from = "i64")]
    pub image_count: u32,
    pub options: String,
    pub status: String,
    pub submitted_at_us: i64,
    pub ended_at_us: Option<i64>,
    pub error: Option<String>,
}

/// A row of `images`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct ImageRow {
    /// The sequence of its task.
    pub task: i64,
    #[sqlx(try_from = "i64")]
    pub image_index: u32,
    pub source: Option<String>,
    pub status: String,
    pub result: Option<String>,
    pub error: Option<String>,
    #[sqlx(try_from = "i64")]
    pub version: u32,
    pub first_task: Option<i64>,
    pub first_index: Option<i64>,
}

/// The first image of those that repeat each other: its task's sequence and its index.
pub(super) type First = (i64, u32);

impl ImageRow {
    /// The first version, where it is another one.
    pub(super) fn first(&self, row: &str) -> Result<Option<First>, RowError> {
        let (Some(task), Some(index)) = (self.first_task, self.first_index) else {
            return Ok(None);
        };
        let index = u32::try_from(index).map_err(|error| corrupt(row, "first_index", &error))?;
        Ok(Some((task, index)))
    }
}

/// What a task's images add up to.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct SummaryRow {
    #[sqlx(try_from = "i64")]
    pub images: u32,
    #[sqlx(try_from = "i64")]
    pub completed: u32,
    #[sqlx(try_from = "i64")]
    pub failed: u32,
    #[sqlx(try_from = "i64")]
    pub cancelled: u32,
    pub processing_time_ms: f64,
}

impl TaskRow {
    pub(super) fn id(&self) -> Result<Uuid, RowError> {
        self.task_id
            .parse()
            .map_err(|error| corrupt(&self.task_id, "task_id", &error))
    }

    pub(super) fn status(&self) -> Result<TaskStatus, RowError> {
        status_of(&self.task_id, &self.status)
    }
}

pub(super) fn status_of(row: &str, text: &str) -> Result<TaskStatus, RowError> {
    const ALL: [TaskStatus; 5] = [
        TaskStatus::Pending,
        TaskStatus::Processing,
        TaskStatus::Completed,
        TaskStatus::Failed,
        TaskStatus::Cancelled,
    ];
    ALL.into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| corrupt(row, "status", &text))
}

pub(super) fn corrupt(row: &str, column: &str, reason: &dyn std::fmt::Display) -> RowError {
    RowError::Corrupt(format!("`{column}` of {row}: {reason}"))
}

pub(super) fn from_column<T: DeserializeOwned>(
    row: &str,
    column: &str,
    json: &str,
) -> Result<T, RowError> {
    atelier_schemas::from_json(json.as_bytes()).map_err(|error| corrupt(row, column, &error))
}

pub(super) fn to_column<T: Serialize>(value: &T) -> Result<String, RowError> {
    serde_json::to_string(value)
        .map_err(|error| RowError::Corrupt(format!("a value does not serialise: {error}")))
}

pub(super) fn time_of(row: &str, column: &str, micros: i64) -> Result<DateTime<Utc>, RowError> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| corrupt(row, column, &micros))
}
