//! What events do to tasks and images. [`crate::ledger::Effect`] says what is promised whatever their order.
//!
//! Invariant: an effect is checked before it writes, so that one which contradicts the ledger leaves no trace in the
//! transaction that it shares with its neighbours.

mod checks;
mod describe;
mod ends;

use atelier_schemas::{
    ErrorBody, Event, TaskOptions, TaskStatus,
    events::{ImageContext, ImageEnded, ImagePersisted, ImageRepaired, ImageResult, TaskAccepted},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub(super) use self::describe::{Description, insert_task};
use self::{
    checks::{check_context, check_image_count},
    describe::{describe, fill_sources, mark_processing},
    ends::{cancel, end_pending, end_task_if_done, fail_image, store_result, take_early_failures},
};
use super::{
    Statement, Transaction,
    read::{image_row, summary, task_row},
    rows::{ImageRow, RowError, TaskRow, status_of, to_column},
};
use crate::ledger::{Applied, Contradiction, Effect};

/// Applies one effect.
pub(super) async fn apply(
    transaction: &mut impl Transaction,
    effect: Effect,
    now: DateTime<Utc>,
) -> Result<Applied, RowError> {
    match effect {
        Effect::Accepted(accepted) => apply_accepted(transaction, &accepted, now).await,
        Effect::ImageCompleted { image, result } => {
            apply_completed(transaction, image, result, now).await
        }
        Effect::Failed {
            task_id,
            image_id: Some(image),
            error,
        } => apply_image_failed(transaction, task_id, image, &error, now)
            .await
            .map(Ok),
        Effect::Failed {
            task_id,
            image_id: None,
            error,
        } => apply_task_failed(transaction, task_id, &error, now)
            .await
            .map(Ok),
        Effect::Cancelled { task_id, error } => {
            match open_or_unknown(transaction, task_id, now).await? {
                Some(task) => cancel(transaction, &task, &error, now).await.map(Ok),
                None => Ok(Ok(Vec::new())),
            }
        }
    }
}

async fn apply_accepted(
    transaction: &mut impl Transaction,
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
    let (task, mut events) = describe(transaction, &description, now).await?;
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
    fill_sources(transaction, task.sequence, &sources).await?;
    events.extend(take_early_failures(transaction, &task, now).await?);
    Ok(Ok(events))
}

async fn apply_completed(
    transaction: &mut impl Transaction,
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
    if let Some(known) = task_row(transaction, image.task_id).await?
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
    let (task, mut events) = describe(transaction, &description, now).await?;
    fill_sources(transaction, task.sequence, &sources).await?;
    let Some(row) = image_row(transaction, task.sequence, image.index).await? else {
        return Err(RowError::Corrupt(format!(
            "image {} of {} has no row",
            image.index, task.task_id
        )));
    };
    match status_of(&task.task_id, &row.status)? {
        TaskStatus::Pending => {
            events.extend(complete(transaction, &task, &row, (image, result), now).await?);
        }
        TaskStatus::Failed => {
            events.extend(repair(transaction, &task, &row, (image, result)).await?);
        }
        // It has its result, or nobody wants one any more: the first end stands.
        TaskStatus::Completed | TaskStatus::Processing | TaskStatus::Cancelled => {}
    }
    Ok(Ok(events))
}

async fn complete(
    transaction: &mut impl Transaction,
    task: &TaskRow,
    row: &ImageRow,
    (image, result): (ImageContext, ImageResult),
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    store_result(transaction, task.sequence, image.index, &result).await?;
    let ended = ImageEnded {
        task_id: image.task_id,
        image_id: image.image_id,
        index: image.index,
        version: row.version,
        status: TaskStatus::Completed,
        result: Some(result.clone()),
        error: None,
    };
    let persisted = ImagePersisted {
        image,
        version: row.version,
        result,
    };
    let mut events = vec![persisted.into(), ended.into()];
    events.extend(end_task_if_done(transaction, task, now).await?);
    Ok(events)
}

async fn repair(
    transaction: &mut impl Transaction,
    task: &TaskRow,
    row: &ImageRow,
    (image, result): (ImageContext, ImageResult),
) -> Result<Vec<Event>, RowError> {
    store_result(transaction, task.sequence, image.index, &result).await?;
    Statement::new(
        "UPDATE tasks SET status = 'completed' WHERE sequence = $1 AND status = 'failed'",
    )
    .bind(task.sequence)
    .execute(&mut *transaction)
    .await?;
    let repaired = ImageRepaired {
        task_id: image.task_id,
        image_id: image.image_id,
        index: image.index,
        version: row.version,
        result: result.clone(),
        summary: summary(transaction, task.sequence).await?,
    };
    let persisted = ImagePersisted {
        image,
        version: row.version,
        result,
    };
    Ok(vec![persisted.into(), repaired.into()])
}

async fn apply_image_failed(
    transaction: &mut impl Transaction,
    task_id: Uuid,
    image: Uuid,
    error: &ErrorBody,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let Some(task) = task_row(transaction, task_id).await? else {
        Statement::new(
            "INSERT INTO early_failures (task_id, image_id, error, seen_at_us) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(task_id.to_string())
        .bind(image.to_string())
        .bind(to_column(error)?)
        .bind(now.timestamp_micros())
        .execute(transaction)
        .await?;
        return Ok(Vec::new());
    };
    mark_processing(transaction, task.sequence).await?;
    fail_image(transaction, &task, image, error, now).await
}

async fn apply_task_failed(
    transaction: &mut impl Transaction,
    task_id: Uuid,
    error: &ErrorBody,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, RowError> {
    let Some(task) = open_or_unknown(transaction, task_id, now).await? else {
        return Ok(Vec::new());
    };
    Statement::new("UPDATE tasks SET error = $2 WHERE sequence = $1")
        .bind(task.sequence)
        .bind(to_column(error)?)
        .execute(&mut *transaction)
        .await?;
    let mut events = end_pending(transaction, &task, TaskStatus::Failed, error).await?;
    events.extend(end_task_if_done(transaction, &task, now).await?);
    Ok(events)
}

/// The row of a task that has not ended; without images where nothing is known of it. `None` where it has ended.
async fn open_or_unknown(
    transaction: &mut impl Transaction,
    task_id: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<TaskRow>, RowError> {
    if let Some(task) = task_row(transaction, task_id).await? {
        let has_ended = task.status()?.is_terminal();
        return Ok((!has_ended).then_some(task));
    }
    let nothing = Description {
        task_id,
        options: &TaskOptions::default(),
        sources: &[],
        submitted_at: now,
    };
    insert_task(transaction, &nothing, TaskStatus::Processing, None)
        .await
        .map(Some)
}
