//! What the API asks of the ledger.

use std::fmt::Write as _;

use atelier_schemas::{
    ErrorBody, ImageSource, TaskAnswer, TaskStatus,
    answer::{ImageAnswer, TaskSummary},
    envelope::image_id,
    events::ImageResult,
};

use uuid::Uuid;

use super::{
    Statement, Transaction,
    rows::{ImageRow, RowError, SummaryRow, TaskRow, from_column, status_of, time_of},
};
use crate::ledger::{ImageRecord, LedgerError};

const CURSOR_PREFIX: &str = "t-";

/// The statement that reads an [`ImageRow`] from each image that its end names.
macro_rules! select_images {
    ($which:literal) => {
        concat!(
            "SELECT task, image_index, source, status, result, error, version, first_task, first_index FROM images ",
            $which
        )
    };
}
pub(super) use select_images;

/// The task's row.
pub(super) async fn task_row(
    transaction: &mut impl Transaction,
    task_id: Uuid,
) -> Result<Option<TaskRow>, RowError> {
    let row = Statement::new("SELECT * FROM tasks WHERE task_id = $1").bind(task_id.to_string());
    row.fetch_optional(transaction).await
}

/// One image's row.
pub(super) async fn image_row(
    transaction: &mut impl Transaction,
    task_sequence: i64,
    index: u32,
) -> Result<Option<ImageRow>, RowError> {
    let row = Statement::new(select_images!("WHERE task = $1 AND image_index = $2"));
    row.bind(task_sequence)
        .bind(index)
        .fetch_optional(transaction)
        .await
}

/// The rows of a task's images, in order.
pub(super) async fn images_of(
    transaction: &mut impl Transaction,
    task_sequence: i64,
) -> Result<Vec<ImageRow>, RowError> {
    Statement::new(select_images!("WHERE task = $1 ORDER BY image_index"))
        .bind(task_sequence)
        .fetch_all(transaction)
        .await
}

/// Counts and times of a task as they stand.
pub(super) async fn summary(
    transaction: &mut impl Transaction,
    task_sequence: i64,
) -> Result<TaskSummary, RowError> {
    // In the images' order: a sum of decimals depends on it, and a repeat must be the same to the last bit.
    let counts: SummaryRow = Statement::new(
        "SELECT count(*) AS images,
                count(*) FILTER (WHERE status = 'completed') AS completed,
                count(*) FILTER (WHERE status = 'failed') AS failed,
                count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
                coalesce(sum(processing_time_ms ORDER BY image_index), 0.0) AS processing_time_ms
         FROM images WHERE task = $1",
    )
    .bind(task_sequence)
    .fetch_one(transaction)
    .await?;
    Ok(TaskSummary {
        total_images: counts.images,
        success_count: counts.completed,
        failure_count: counts.failed,
        cancelled_count: counts.cancelled,
        total_processing_time: counts.processing_time_ms,
    })
}

/// A task as the API shows it.
pub(super) async fn task(
    transaction: &mut impl Transaction,
    task_id: Uuid,
) -> Result<Option<TaskAnswer>, RowError> {
    match task_row(transaction, task_id).await? {
        Some(row) => answer(transaction, row).await.map(Some),
        None => Ok(None),
    }
}

/// A page of tasks before `before`, newest first, and the cursor of the next page.
pub(super) async fn tasks(
    transaction: &mut impl Transaction,
    before: Option<i64>,
    limit: u32,
) -> Result<(Vec<TaskAnswer>, Option<String>), RowError> {
    // One more than asked for tells whether there is a next page.
    let rows: Vec<TaskRow> =
        Statement::new("SELECT * FROM tasks WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2")
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit) + 1)
            .fetch_all(&mut *transaction)
            .await?;
    let has_more = rows.len() > limit as usize;
    let mut answers = Vec::with_capacity(rows.len());
    let mut last = 0;
    for row in rows.into_iter().take(limit as usize) {
        last = row.sequence;
        answers.push(answer(transaction, row).await?);
    }
    Ok((
        answers,
        has_more.then(|| format!("{CURSOR_PREFIX}{last:x}")),
    ))
}

/// The position that a cursor stands for.
pub(super) fn parse_cursor(cursor: &str) -> Result<i64, LedgerError> {
    let sequence = cursor
        .strip_prefix(CURSOR_PREFIX)
        .and_then(|digits| i64::from_str_radix(digits, 16).ok());
    sequence
        .filter(|sequence| *sequence > 0)
        .ok_or_else(|| LedgerError::InvalidCursor(cursor.chars().take(80).collect()))
}

/// What is known of one image.
pub(super) async fn image(
    transaction: &mut impl Transaction,
    task_id: Uuid,
    index: u32,
) -> Result<Option<ImageRecord>, RowError> {
    let Some(task) = task_row(transaction, task_id).await? else {
        return Ok(None);
    };
    let Some(row) = image_row(transaction, task.sequence, index).await? else {
        return Ok(None);
    };
    record(&task, &row).map(Some)
}

/// What is known of every image of a task.
pub(super) async fn images(
    transaction: &mut impl Transaction,
    task_id: Uuid,
) -> Result<Option<Vec<ImageRecord>>, RowError> {
    let Some(task) = task_row(transaction, task_id).await? else {
        return Ok(None);
    };
    let rows = images_of(transaction, task.sequence).await?;
    let records = rows.iter().map(|row| record(&task, row));
    records.collect::<Result<_, _>>().map(Some)
}

fn record(task: &TaskRow, row: &ImageRow) -> Result<ImageRecord, RowError> {
    let task_id = task.id()?;
    let source = source_of(task, row)?;
    let result = row
        .result
        .as_deref()
        .map(|json| from_column(&task.task_id, "result", json))
        .transpose()?;
    Ok(ImageRecord {
        task_id,
        image_id: image_id(task_id, row.image_index),
        status: status_of(&task.task_id, &row.status)?,
        name: source.name,
        uploaded: source.blob,
        trimap: source.trimap,
        result,
    })
}

async fn answer(transaction: &mut impl Transaction, row: TaskRow) -> Result<TaskAnswer, RowError> {
    let images = images_of(transaction, row.sequence).await?;
    let results = images
        .into_iter()
        .map(|image| image_answer(&row, &image))
        .collect::<Result<Vec<_>, _>>()?;
    let status = row.status()?;
    // A task that failed as a whole and was repaired since has results to show instead.
    let error = row
        .error
        .as_deref()
        .filter(|_| matches!(status, TaskStatus::Failed | TaskStatus::Cancelled));
    Ok(TaskAnswer {
        task_id: row.id()?,
        status,
        submitted_at: time_of(&row.task_id, "submitted_at_us", row.submitted_at_us)?,
        ended_at: row
            .ended_at_us
            .map(|micros| time_of(&row.task_id, "ended_at_us", micros))
            .transpose()?,
        options: from_column(&row.task_id, "options", &row.options)?,
        results,
        summary: summary(transaction, row.sequence).await?,
        error: error
            .map(|json| from_column(&row.task_id, "error", json))
            .transpose()?,
    })
}

pub(super) fn image_answer(task: &TaskRow, row: &ImageRow) -> Result<ImageAnswer, RowError> {
    let task_id = task.id()?;
    let index = row.image_index;
    let source = source_of(task, row)?;
    let path = |what: &str| {
        let mut path = String::with_capacity(80);
        // Writing to a String cannot fail.
        let _ = write!(path, "/api/v1/tasks/{task_id}/images/{index}/{what}");
        path
    };
    let result: Option<ImageResult> = row
        .result
        .as_deref()
        .map(|json| from_column(&task.task_id, "result", json))
        .transpose()?;
    let error: Option<ErrorBody> = row
        .error
        .as_deref()
        .map(|json| from_column(&task.task_id, "error", json))
        .transpose()?;
    Ok(ImageAnswer {
        image_id: image_id(task_id, index),
        index,
        status: status_of(&task.task_id, &row.status)?,
        name: source.name,
        version: row.version,
        repeat_of: source.repeat_of.filter(|_| row.first_task.is_some()),
        original_url: source.url.unwrap_or_else(|| path("original")),
        result_url: result.is_some().then(|| path("result")),
        thumbnail_url: result.is_some().then(|| path("thumbnail")),
        alpha_url: result.is_some().then(|| path("alpha")),
        metadata: result.map(|result| result.metadata),
        error,
    })
}

fn source_of(task: &TaskRow, row: &ImageRow) -> Result<ImageSource, RowError> {
    row.source.as_deref().map_or_else(
        || Ok(ImageSource::default()),
        |json| from_column(&task.task_id, "source", json),
    )
}
