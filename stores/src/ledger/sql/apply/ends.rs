//! How images and tasks end.

use atelier_schemas::{
    ErrorBody, Event, TaskStatus,
    envelope::image_id,
    events::{ImageEnded, ImageResult, TaskEnded},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::ledger::sql::{
    Statement, Transaction,
    read::summary,
    rows::{RowError, TaskRow, corrupt, from_column, status_of, to_column},
    uses,
};

pub(super) async fn store_result(
    transaction: &mut impl Transaction,
    task_sequence: i64,
    index: u32,
    result: &ImageResult,
) -> Result<(), RowError> {
    Statement::new(
        "UPDATE images SET status = 'completed', result = $3, processing_time_ms = $4, error = NULL
         WHERE task = $1 AND image_index = $2",
    )
    .bind(task_sequence)
    .bind(index)
    .bind(to_column(result)?)
    .bind(result.metadata.processing_time)
    .execute(&mut *transaction)
    .await?;
    uses::add_result(transaction, task_sequence, result).await
}

/// Ends the images whose failures came before their task.
pub(super) async fn take_early_failures<T: Transaction>(
    transaction: &mut T,
    task: &TaskRow,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let mut failures: Vec<(i64, String, String)> = Statement::new(T::DIALECT.take_early_failures)
        .bind(task.task_id.as_str())
        .fetch_all(&mut *transaction)
        .await?;
    failures.sort_unstable_by_key(|(order, ..)| *order);
    let mut events = Vec::new();
    for (_, image, error) in failures {
        let image: Uuid = from_column(&task.task_id, "image_id", &format!("\"{image}\""))?;
        let error: ErrorBody = from_column(&task.task_id, "error", &error)?;
        events.extend(fail_image(transaction, task, image, &error, now).await?);
    }
    Ok(events)
}

pub(super) async fn fail_image(
    transaction: &mut impl Transaction,
    task: &TaskRow,
    image: Uuid,
    error: &ErrorBody,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let task_id = task.id()?;
    let Some(index) = (0..task.image_count).find(|index| image_id(task_id, *index) == image) else {
        // Refusing it would only make another failure of the same unknown image.
        tracing::warn!(%task_id, image_id = %image, "a failure names an image that the task does not have");
        return Ok(Vec::new());
    };
    let failed: Option<(i64,)> = Statement::new(
        "UPDATE images SET status = 'failed', error = $3 WHERE task = $1 AND image_index = $2 AND status = 'pending'
         RETURNING version",
    )
    .bind(task.sequence)
    .bind(index)
    .bind(to_column(error)?)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some((version,)) = failed else {
        return Ok(Vec::new());
    };
    let mut events = vec![end_without_result(
        task,
        (i64::from(index), version),
        TaskStatus::Failed,
        error,
    )?];
    events.extend(end_task_if_done(transaction, task, now).await?);
    Ok(events)
}

/// Ends every image that has not ended, as failed or cancelled.
pub(super) async fn end_pending(
    transaction: &mut impl Transaction,
    task: &TaskRow,
    status: TaskStatus,
    error: &ErrorBody,
) -> Result<Vec<Event>, RowError> {
    let mut ended: Vec<(i64, i64)> = Statement::new(
        "UPDATE images SET status = $2, error = $3 WHERE task = $1 AND status = 'pending'
         RETURNING image_index, version",
    )
    .bind(task.sequence)
    .bind(status.as_str())
    .bind(to_column(error)?)
    .fetch_all(transaction)
    .await?;
    ended.sort_unstable();
    let ends = ended
        .into_iter()
        .map(|image| end_without_result(task, image, status, error));
    ends.collect()
}

/// The end of an image, of which the row says index and version.
fn end_without_result(
    task: &TaskRow,
    (index, version): (i64, i64),
    status: TaskStatus,
    error: &ErrorBody,
) -> Result<Event, RowError> {
    let number = |column, value| {
        u32::try_from(value).map_err(|error| corrupt(&task.task_id, column, &error))
    };
    let task_id = task.id()?;
    let index = number("image_index", index)?;
    let ended = ImageEnded {
        task_id,
        image_id: image_id(task_id, index),
        index,
        version: number("version", version)?,
        status,
        result: None,
        error: Some(error.clone()),
    };
    Ok(ended.into())
}

/// Ends a task that has not ended, and its open images with it.
pub(super) async fn cancel(
    transaction: &mut impl Transaction,
    task: &TaskRow,
    error: &ErrorBody,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let mut events = end_pending(transaction, task, TaskStatus::Cancelled, error).await?;
    Statement::new(
        "UPDATE tasks SET status = 'cancelled', error = $2, ended_at_us = $3 WHERE sequence = $1",
    )
    .bind(task.sequence)
    .bind(to_column(error)?)
    .bind(now.timestamp_micros())
    .execute(&mut *transaction)
    .await?;
    let ended = TaskEnded {
        task_id: task.id()?,
        status: TaskStatus::Cancelled,
        summary: summary(transaction, task.sequence).await?,
        error: Some(error.clone()),
    };
    events.push(ended.into());
    Ok(events)
}

/// The task's end, where its last image has ended and it has not been told yet.
pub(super) async fn end_task_if_done(
    transaction: &mut impl Transaction,
    task: &TaskRow,
    now: DateTime<Utc>,
) -> Result<Option<Event>, RowError> {
    let ended: Option<(String, Option<String>)> = Statement::new(
        "UPDATE tasks SET
             ended_at_us = $2,
             status = CASE WHEN EXISTS (SELECT 1 FROM images WHERE task = $1 AND status = 'completed')
                      THEN 'completed' ELSE 'failed' END
         WHERE sequence = $1 AND ended_at_us IS NULL
           AND NOT EXISTS (SELECT 1 FROM images WHERE task = $1 AND status = 'pending')
         RETURNING status, error",
    )
    .bind(task.sequence)
    .bind(now.timestamp_micros())
    .fetch_optional(&mut *transaction)
    .await?;
    let Some((status, error)) = ended else {
        return Ok(None);
    };
    let status = status_of(&task.task_id, &status)?;
    let error = error.as_deref().filter(|_| status == TaskStatus::Failed);
    let ended = TaskEnded {
        task_id: task.id()?,
        status,
        summary: summary(transaction, task.sequence).await?,
        error: error
            .map(|json| from_column(&task.task_id, "error", json))
            .transpose()?,
    };
    Ok(Some(ended.into()))
}
