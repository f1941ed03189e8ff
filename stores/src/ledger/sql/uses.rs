//! Which blobs are in use, and who looks after them.
//!
//! Invariant: a use is written in the transaction that makes the blob known to the ledger.

use std::collections::HashMap;

use atelier_schemas::{
    BlobKey, ImageSource, TaskOptions, events::ImageResult, request::Background,
};
use chrono::{DateTime, Utc};

use super::{
    Statement, Transaction,
    rows::{RowError, from_column, time_of, to_column},
};
use crate::ledger::{BlobUse, KeptSince};

const ORIGINAL: &str = "original";
const RESULT: &str = "result";

/// The uploads among the sources of a task are its originals, and so are their uploaded trimaps, an uploaded background and an uploaded mark.
pub(super) async fn add_uploads(
    transaction: &mut impl Transaction,
    task_sequence: i64,
    options: Option<&TaskOptions>,
    sources: &[Option<&ImageSource>],
) -> Result<(), RowError> {
    let background = options.and_then(|options| match &options.output.background {
        Background::Blob(blob) => Some(blob),
        Background::Transparent
        | Background::Color(_)
        | Background::Gradient(_)
        | Background::Blur(_)
        | Background::Url(_) => None,
    });
    let mark = options.and_then(|options| options.watermark.as_ref()?.blob.as_ref());
    let images = sources.iter().copied().flatten();
    let uploads = images.flat_map(|source| {
        let trimap = source.trimap.as_ref();
        [
            source.blob.as_ref(),
            trimap.and_then(|trimap| trimap.blob.as_ref()),
        ]
    });
    let uploads = uploads.flatten().chain(background).chain(mark);
    let keys: Vec<_> = uploads.map(|blob| &blob.key).collect();
    add(transaction, task_sequence, &keys, ORIGINAL).await
}

/// What a result refers to.
pub(super) async fn add_result(
    transaction: &mut impl Transaction,
    task_sequence: i64,
    result: &ImageResult,
) -> Result<(), RowError> {
    let made = [&result.result.key, &result.thumbnail.key, &result.alpha.key];
    add(
        transaction,
        task_sequence,
        &[&result.original.key],
        ORIGINAL,
    )
    .await?;
    add(transaction, task_sequence, &made, RESULT).await
}

async fn add<T: Transaction>(
    transaction: &mut T,
    task_sequence: i64,
    keys: &[&BlobKey],
    class: &str,
) -> Result<(), RowError> {
    if keys.is_empty() {
        return Ok(());
    }
    Statement::new(T::DIALECT.add_uses)
        .bind(task_sequence)
        .bind(to_column(&keys)?)
        .bind(class)
        .execute(transaction)
        .await?;
    Ok(())
}

/// What those of `keys` are to the ledger that any task refers to.
pub(super) async fn of_blobs<T: Transaction>(
    transaction: &mut T,
    keys: &[BlobKey],
    kept: KeptSince,
) -> Result<HashMap<BlobKey, BlobUse>, RowError> {
    let micros = |since: Option<DateTime<Utc>>| since.map_or(i64::MIN, |at| at.timestamp_micros());
    let rows: Vec<(String, i64)> = Statement::new(T::DIALECT.blob_uses)
        .bind(to_column(&keys)?)
        .bind(micros(kept.originals))
        .bind(micros(kept.results))
        .fetch_all(transaction)
        .await?;
    let uses = rows.into_iter().map(|(key, is_in_use)| {
        let key = from_column("of any task", "blob_key", &format!("\"{key}\""))?;
        let blob_use = match is_in_use {
            0 => BlobUse::Past,
            _ => BlobUse::InUse,
        };
        Ok((key, blob_use))
    });
    uses.collect()
}

/// When the oldest task that has not ended was submitted.
pub(super) async fn oldest_open_task(
    transaction: &mut impl Transaction,
) -> Result<Option<DateTime<Utc>>, RowError> {
    let oldest: Option<(String, i64)> = Statement::new(
        "SELECT task_id, submitted_at_us FROM tasks WHERE ended_at_us IS NULL
         ORDER BY submitted_at_us LIMIT 1",
    )
    .fetch_optional(transaction)
    .await?;
    oldest
        .map(|(task_id, micros)| time_of(&task_id, "submitted_at_us", micros))
        .transpose()
}

/// Takes a duty that nobody took since `unless_since`.
pub(super) async fn take_duty(
    transaction: &mut impl Transaction,
    name: &str,
    unless_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool, RowError> {
    let taken = Statement::new(
        "INSERT INTO duties (name, taken_at_us) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET taken_at_us = $2 WHERE duties.taken_at_us < $3",
    )
    .bind(name)
    .bind(now.timestamp_micros())
    .bind(unless_since.timestamp_micros())
    .execute(transaction)
    .await?;
    Ok(taken > 0)
}
