//! What makes a task known: its row and its images' rows.

use atelier_schemas::{ErrorBody, Event, ImageSource, TaskOptions, TaskStatus};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::ends::{end_pending, take_early_failures};
use crate::ledger::sql::{
    Statement, Transaction,
    read::task_row,
    rows::{RowError, TaskRow, from_column, to_column},
    uses, versions,
};

/// What is known of a task when its row is made.
pub(in crate::ledger::sql) struct Description<'a> {
    pub task_id: Uuid,
    pub options: &'a TaskOptions,
    /// One per image, `None` where its source is not known yet.
    pub sources: &'a [Option<&'a ImageSource>],
    pub submitted_at: DateTime<Utc>,
}

/// The task's row with its images, made from `description` where there is none yet or only an end is known of it.
/// The events are the ends of images that had ended before they were known.
pub(super) async fn describe(
    transaction: &mut impl Transaction,
    description: &Description<'_>,
    now: DateTime<Utc>,
) -> Result<(TaskRow, Vec<Event>), RowError> {
    let task = match task_row(transaction, description.task_id).await? {
        None => insert_task(transaction, description, TaskStatus::Processing, None).await?,
        Some(task) if task.image_count == 0 => {
            return describe_ended(transaction, task, description, now).await;
        }
        Some(task) => {
            mark_processing(transaction, task.sequence).await?;
            return Ok((task, Vec::new()));
        }
    };
    let events = take_early_failures(transaction, &task, now).await?;
    Ok((task, events))
}

/// A task that was refused or cancelled before anything was known of it turns out to have images: they have ended with it.
async fn describe_ended(
    transaction: &mut impl Transaction,
    mut task: TaskRow,
    description: &Description<'_>,
    now: DateTime<Utc>,
) -> Result<(TaskRow, Vec<Event>), RowError> {
    task.image_count = count_of(description.sources);
    Statement::new(
        "UPDATE tasks SET image_count = $2, options = $3, submitted_at_us = $4 WHERE sequence = $1",
    )
    .bind(task.sequence)
    .bind(task.image_count)
    .bind(to_column(description.options)?)
    .bind(description.submitted_at.timestamp_micros())
    .execute(&mut *transaction)
    .await?;
    insert_images(transaction, task.sequence, description).await?;
    let mut events = take_early_failures(transaction, &task, now).await?;
    let error: Option<ErrorBody> = task
        .error
        .as_deref()
        .map(|json| from_column(&task.task_id, "error", json))
        .transpose()?;
    if let Some(error) = error {
        events.extend(end_pending(transaction, &task, task.status()?, &error).await?);
    }
    Ok((task, events))
}

/// Writes a task and its images.
pub(in crate::ledger::sql) async fn insert_task(
    transaction: &mut impl Transaction,
    description: &Description<'_>,
    status: TaskStatus,
    fingerprint: Option<&str>,
) -> Result<TaskRow, RowError> {
    let task: TaskRow = Statement::new(
        "INSERT INTO tasks (task_id, fingerprint, image_count, options, status, submitted_at_us)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING *",
    )
    .bind(description.task_id.to_string())
    .bind(fingerprint)
    .bind(count_of(description.sources))
    .bind(to_column(description.options)?)
    .bind(status.as_str())
    .bind(description.submitted_at.timestamp_micros())
    .fetch_one(&mut *transaction)
    .await?;
    insert_images(transaction, task.sequence, description).await?;
    Ok(task)
}

async fn insert_images<T: Transaction>(
    transaction: &mut T,
    task_sequence: i64,
    description: &Description<'_>,
) -> Result<(), RowError> {
    let Description {
        options, sources, ..
    } = description;
    // One statement, because a task may have a thousand images.
    Statement::new(T::DIALECT.insert_images)
        .bind(task_sequence)
        .bind(to_column(&sources)?)
        .execute(&mut *transaction)
        .await?;
    uses::add_uploads(transaction, task_sequence, Some(options), sources).await?;
    versions::assign(transaction, task_sequence, sources).await
}

pub(super) async fn fill_sources<T: Transaction>(
    transaction: &mut T,
    task_sequence: i64,
    sources: &[Option<&ImageSource>],
) -> Result<(), RowError> {
    Statement::new(T::DIALECT.fill_sources)
        .bind(task_sequence)
        .bind(to_column(&sources)?)
        .execute(&mut *transaction)
        .await?;
    uses::add_uploads(transaction, task_sequence, None, sources).await?;
    versions::assign(transaction, task_sequence, sources).await
}

pub(super) async fn mark_processing(
    transaction: &mut impl Transaction,
    task_sequence: i64,
) -> Result<(), RowError> {
    Statement::new(
        "UPDATE tasks SET status = 'processing' WHERE sequence = $1 AND status = 'pending'",
    )
    .bind(task_sequence)
    .execute(transaction)
    .await?;
    Ok(())
}

fn count_of(sources: &[Option<&ImageSource>]) -> u32 {
    // At most `MAX_IMAGES_PER_TASK`, which was checked.
    u32::try_from(sources.len()).unwrap_or(u32::MAX)
}
