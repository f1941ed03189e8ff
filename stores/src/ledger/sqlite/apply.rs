//! What events do to tasks and images. [`crate::ledger::Effect`] says what is promised whatever their order.
//!
//! Invariant: an effect is checked before it writes, so that one which contradicts the ledger leaves no trace in the
//! transaction that it shares with its neighbours.

use atelier_schemas::{
    ErrorBody, Event, ImageSource, TaskOptions, TaskStatus,
    envelope::image_id,
    events::{
        ImageContext, ImageEnded, ImagePersisted, ImageRepaired, ImageResult, TaskAccepted,
        TaskEnded,
    },
    request::MAX_IMAGES_PER_TASK,
};
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    read::{image_row, summary, task_row},
    rows::{RowError, TaskRow, from_column, status_of, to_column},
};
use crate::ledger::{Applied, Contradiction, Effect};

/// What is known of a task when its row is made.
pub(super) struct Description<'a> {
    pub task_id: Uuid,
    pub options: &'a TaskOptions,
    /// One per image, `None` where its source is not known yet.
    pub sources: &'a [Option<&'a ImageSource>],
    pub submitted_at: DateTime<Utc>,
}

/// Applies one effect.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    effect: Effect,
    now: DateTime<Utc>,
) -> Result<Applied, RowError> {
    match effect {
        Effect::Accepted(accepted) => apply_accepted(connection, &accepted, now).await,
        Effect::ImageCompleted { image, result } => {
            apply_completed(connection, image, result, now).await
        }
        Effect::Failed {
            task_id,
            image_id: Some(image),
            error,
        } => apply_image_failed(connection, task_id, image, &error, now)
            .await
            .map(Ok),
        Effect::Failed {
            task_id,
            image_id: None,
            error,
        } => apply_task_failed(connection, task_id, &error, now)
            .await
            .map(Ok),
    }
}

async fn apply_accepted(
    connection: &mut SqliteConnection,
    accepted: &TaskAccepted,
    now: DateTime<Utc>,
) -> Result<Applied, RowError> {
    if let Err(reason) = check_image_count(accepted.images.len()) {
        return Ok(Err(Contradiction {
            task_id: accepted.task_id,
            reason,
        }));
    }
    let sources: Vec<_> = accepted.images.iter().map(Some).collect();
    let description = Description {
        task_id: accepted.task_id,
        options: &accepted.options,
        sources: &sources,
        submitted_at: accepted.submitted_at,
    };
    let (task, mut events) = describe(connection, &description, now).await?;
    if task.image_count as usize != accepted.images.len() {
        // Refusing it would fail the task that has this id by right; its images are refused one by one.
        tracing::warn!(
            task_id = %accepted.task_id,
            known_images = task.image_count,
            accepted_images = accepted.images.len(),
            "another task was accepted under the id of a known one; the first stands"
        );
        return Ok(Ok(events));
    }
    fill_sources(connection, task.sequence, &sources).await?;
    events.extend(take_early_failures(connection, &task, now).await?);
    Ok(Ok(events))
}

async fn apply_completed(
    connection: &mut SqliteConnection,
    image: ImageContext,
    result: ImageResult,
    now: DateTime<Utc>,
) -> Result<Applied, RowError> {
    let contradiction = |reason| {
        Ok(Err(Contradiction {
            task_id: image.task_id,
            reason,
        }))
    };
    if let Err(reason) = check_context(&image) {
        return contradiction(reason);
    }
    let mut sources = vec![None; image.image_count as usize];
    sources[image.index as usize] = Some(&image.source);
    if let Some(known) = task_row(connection, image.task_id).await?
        && known.image_count != 0
        && known.image_count != image.image_count
    {
        return contradiction(format!(
            "it has {} images, the event says {}",
            known.image_count, image.image_count
        ));
    }
    let description = Description {
        task_id: image.task_id,
        options: &image.options,
        sources: &sources,
        submitted_at: image.submitted_at,
    };
    let (task, mut events) = describe(connection, &description, now).await?;
    fill_sources(connection, task.sequence, &sources).await?;
    let Some(row) = image_row(connection, task.sequence, image.index).await? else {
        return Err(RowError::Corrupt(format!(
            "image {} of {} has no row",
            image.index, task.task_id
        )));
    };
    match status_of(&task.task_id, &row.status)? {
        TaskStatus::Pending => {
            events.extend(complete(connection, &task, image, result, now).await?);
        }
        TaskStatus::Failed => events.extend(repair(connection, &task, image, result).await?),
        // It has its result: the first end stands.
        TaskStatus::Completed | TaskStatus::Processing | TaskStatus::Cancelled => {}
    }
    Ok(Ok(events))
}

async fn complete(
    connection: &mut SqliteConnection,
    task: &TaskRow,
    image: ImageContext,
    result: ImageResult,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    store_result(connection, task.sequence, image.index, &result).await?;
    let ended = ImageEnded {
        task_id: image.task_id,
        image_id: image.image_id,
        index: image.index,
        status: TaskStatus::Completed,
        result: Some(result.clone()),
        error: None,
    };
    let mut events = vec![ImagePersisted { image, result }.into(), ended.into()];
    events.extend(end_task_if_done(connection, task, now).await?);
    Ok(events)
}

async fn repair(
    connection: &mut SqliteConnection,
    task: &TaskRow,
    image: ImageContext,
    result: ImageResult,
) -> Result<Vec<Event>, RowError> {
    store_result(connection, task.sequence, image.index, &result).await?;
    sqlx::query("UPDATE tasks SET status = 'completed' WHERE sequence = ?1 AND status = 'failed'")
        .bind(task.sequence)
        .execute(&mut *connection)
        .await?;
    let repaired = ImageRepaired {
        task_id: image.task_id,
        image_id: image.image_id,
        index: image.index,
        result: result.clone(),
        summary: summary(connection, task.sequence).await?,
    };
    Ok(vec![
        ImagePersisted { image, result }.into(),
        repaired.into(),
    ])
}

async fn apply_image_failed(
    connection: &mut SqliteConnection,
    task_id: Uuid,
    image: Uuid,
    error: &ErrorBody,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let Some(task) = task_row(connection, task_id).await? else {
        sqlx::query(
            "INSERT INTO early_failures (task_id, image_id, error, seen_at_us) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )
        .bind(task_id.to_string())
        .bind(image.to_string())
        .bind(to_column(error)?)
        .bind(now.timestamp_micros())
        .execute(connection)
        .await?;
        return Ok(Vec::new());
    };
    mark_processing(connection, task.sequence).await?;
    fail_image(connection, &task, image, error, now).await
}

async fn apply_task_failed(
    connection: &mut SqliteConnection,
    task_id: Uuid,
    error: &ErrorBody,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let task = match task_row(connection, task_id).await? {
        Some(task) if task.status()?.is_terminal() => return Ok(Vec::new()),
        Some(task) => task,
        None => {
            let nothing = Description {
                task_id,
                options: &TaskOptions::default(),
                sources: &[],
                submitted_at: now,
            };
            insert_task(connection, &nothing, TaskStatus::Processing, None).await?
        }
    };
    sqlx::query("UPDATE tasks SET error = ?2 WHERE sequence = ?1")
        .bind(task.sequence)
        .bind(to_column(error)?)
        .execute(&mut *connection)
        .await?;
    let mut events = fail_pending(connection, &task, error).await?;
    events.extend(end_task_if_done(connection, &task, now).await?);
    Ok(events)
}

/// The task's row with its images, made from `description` where there is none yet or only a failure is known of it.
/// The events are the ends of images that had failed before they were known.
async fn describe(
    connection: &mut SqliteConnection,
    description: &Description<'_>,
    now: DateTime<Utc>,
) -> Result<(TaskRow, Vec<Event>), RowError> {
    let task = match task_row(connection, description.task_id).await? {
        None => insert_task(connection, description, TaskStatus::Processing, None).await?,
        Some(task) if task.image_count == 0 => {
            return describe_failed(connection, task, description, now).await;
        }
        Some(task) => {
            mark_processing(connection, task.sequence).await?;
            return Ok((task, Vec::new()));
        }
    };
    let events = take_early_failures(connection, &task, now).await?;
    Ok((task, events))
}

/// A task that was refused as a whole turns out to have images: they have failed with it.
async fn describe_failed(
    connection: &mut SqliteConnection,
    mut task: TaskRow,
    description: &Description<'_>,
    now: DateTime<Utc>,
) -> Result<(TaskRow, Vec<Event>), RowError> {
    task.image_count = count_of(description.sources);
    sqlx::query(
        "UPDATE tasks SET image_count = ?2, options = ?3, submitted_at_us = ?4 WHERE sequence = ?1",
    )
    .bind(task.sequence)
    .bind(task.image_count)
    .bind(to_column(description.options)?)
    .bind(description.submitted_at.timestamp_micros())
    .execute(&mut *connection)
    .await?;
    insert_images(connection, task.sequence, description.sources).await?;
    let mut events = take_early_failures(connection, &task, now).await?;
    let error: Option<ErrorBody> = task
        .error
        .as_deref()
        .map(|json| from_column(&task.task_id, "error", json))
        .transpose()?;
    if let Some(error) = error {
        events.extend(fail_pending(connection, &task, &error).await?);
    }
    Ok((task, events))
}

/// Writes a task and its images.
pub(super) async fn insert_task(
    connection: &mut SqliteConnection,
    description: &Description<'_>,
    status: TaskStatus,
    fingerprint: Option<&str>,
) -> Result<TaskRow, RowError> {
    let task: TaskRow = sqlx::query_as(
        "INSERT INTO tasks (task_id, fingerprint, image_count, options, status, submitted_at_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING *",
    )
    .bind(description.task_id.to_string())
    .bind(fingerprint)
    .bind(count_of(description.sources))
    .bind(to_column(description.options)?)
    .bind(status.as_str())
    .bind(description.submitted_at.timestamp_micros())
    .fetch_one(&mut *connection)
    .await?;
    insert_images(connection, task.sequence, description.sources).await?;
    Ok(task)
}

async fn insert_images(
    connection: &mut SqliteConnection,
    task_sequence: i64,
    sources: &[Option<&ImageSource>],
) -> Result<(), RowError> {
    // One statement, because a task may have a thousand images.
    sqlx::query(
        "INSERT INTO images (task, image_index, source) SELECT ?1, key, value FROM json_each(?2)",
    )
    .bind(task_sequence)
    .bind(to_column(&sources)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn fill_sources(
    connection: &mut SqliteConnection,
    task_sequence: i64,
    sources: &[Option<&ImageSource>],
) -> Result<(), RowError> {
    sqlx::query(
        "UPDATE images SET source = known.value FROM json_each(?2) AS known
         WHERE images.task = ?1 AND images.image_index = known.key AND images.source IS NULL AND known.value IS NOT NULL",
    )
    .bind(task_sequence)
    .bind(to_column(&sources)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn mark_processing(
    connection: &mut SqliteConnection,
    task_sequence: i64,
) -> Result<(), RowError> {
    sqlx::query(
        "UPDATE tasks SET status = 'processing' WHERE sequence = ?1 AND status = 'pending'",
    )
    .bind(task_sequence)
    .execute(connection)
    .await?;
    Ok(())
}

async fn store_result(
    connection: &mut SqliteConnection,
    task_sequence: i64,
    index: u32,
    result: &ImageResult,
) -> Result<(), RowError> {
    sqlx::query(
        "UPDATE images SET status = 'completed', result = ?3, processing_time_ms = ?4, error = NULL
         WHERE task = ?1 AND image_index = ?2",
    )
    .bind(task_sequence)
    .bind(index)
    .bind(to_column(result)?)
    .bind(result.metadata.processing_time)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the images whose failures came before their task.
async fn take_early_failures(
    connection: &mut SqliteConnection,
    task: &TaskRow,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let mut failures: Vec<(i64, String, String)> = sqlx::query_as(
        "DELETE FROM early_failures WHERE task_id = ?1 RETURNING rowid, image_id, error",
    )
    .bind(&task.task_id)
    .fetch_all(&mut *connection)
    .await?;
    // In the order in which they came.
    failures.sort_unstable_by_key(|(rowid, ..)| *rowid);
    let mut events = Vec::new();
    for (_, image, error) in failures {
        let image: Uuid = from_column(&task.task_id, "image_id", &format!("\"{image}\""))?;
        let error: ErrorBody = from_column(&task.task_id, "error", &error)?;
        events.extend(fail_image(connection, task, image, &error, now).await?);
    }
    Ok(events)
}

async fn fail_image(
    connection: &mut SqliteConnection,
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
    let failed = sqlx::query(
        "UPDATE images SET status = 'failed', error = ?3 WHERE task = ?1 AND image_index = ?2 AND status = 'pending'",
    )
    .bind(task.sequence)
    .bind(index)
    .bind(to_column(error)?)
    .execute(&mut *connection)
    .await?;
    if failed.rows_affected() == 0 {
        return Ok(Vec::new());
    }
    let mut events = vec![failed_end(task_id, index, error)];
    events.extend(end_task_if_done(connection, task, now).await?);
    Ok(events)
}

async fn fail_pending(
    connection: &mut SqliteConnection,
    task: &TaskRow,
    error: &ErrorBody,
) -> Result<Vec<Event>, RowError> {
    let mut failed: Vec<u32> = sqlx::query_scalar(
        "UPDATE images SET status = 'failed', error = ?2 WHERE task = ?1 AND status = 'pending' RETURNING image_index",
    )
    .bind(task.sequence)
    .bind(to_column(error)?)
    .fetch_all(connection)
    .await?;
    failed.sort_unstable();
    let task_id = task.id()?;
    Ok(failed
        .into_iter()
        .map(|index| failed_end(task_id, index, error))
        .collect())
}

fn failed_end(task_id: Uuid, index: u32, error: &ErrorBody) -> Event {
    let ended = ImageEnded {
        task_id,
        image_id: image_id(task_id, index),
        index,
        status: TaskStatus::Failed,
        result: None,
        error: Some(error.clone()),
    };
    ended.into()
}

/// The task's end, where its last image has ended and it has not been told yet.
async fn end_task_if_done(
    connection: &mut SqliteConnection,
    task: &TaskRow,
    now: DateTime<Utc>,
) -> Result<Option<Event>, RowError> {
    let ended: Option<(String, Option<String>)> = sqlx::query_as(
        "UPDATE tasks SET
             ended_at_us = ?2,
             status = CASE WHEN EXISTS (SELECT 1 FROM images WHERE task = ?1 AND status = 'completed')
                      THEN 'completed' ELSE 'failed' END
         WHERE sequence = ?1 AND ended_at_us IS NULL
           AND NOT EXISTS (SELECT 1 FROM images WHERE task = ?1 AND status = 'pending')
         RETURNING status, error",
    )
    .bind(task.sequence)
    .bind(now.timestamp_micros())
    .fetch_optional(&mut *connection)
    .await?;
    let Some((status, error)) = ended else {
        return Ok(None);
    };
    let status = status_of(&task.task_id, &status)?;
    let error = error.as_deref().filter(|_| status == TaskStatus::Failed);
    let ended = TaskEnded {
        task_id: task.id()?,
        status,
        summary: summary(connection, task.sequence).await?,
        error: error
            .map(|json| from_column(&task.task_id, "error", json))
            .transpose()?,
    };
    Ok(Some(ended.into()))
}

fn count_of(sources: &[Option<&ImageSource>]) -> u32 {
    // At most `MAX_IMAGES_PER_TASK`, which was checked.
    u32::try_from(sources.len()).unwrap_or(u32::MAX)
}

fn check_image_count(count: usize) -> Result<(), String> {
    if (1..=MAX_IMAGES_PER_TASK).contains(&count) {
        Ok(())
    } else {
        Err(format!(
            "a task has 1 to {MAX_IMAGES_PER_TASK} images, not {count}"
        ))
    }
}

fn check_context(image: &ImageContext) -> Result<(), String> {
    check_image_count(image.image_count as usize)?;
    if image.index >= image.image_count {
        return Err(format!(
            "image {} of {} is none of them",
            image.index, image.image_count
        ));
    }
    let expected = image_id(image.task_id, image.index);
    if image.image_id != expected {
        return Err(format!(
            "image {} has the id {expected}, not {}",
            image.index, image.image_id
        ));
    }
    Ok(())
}
