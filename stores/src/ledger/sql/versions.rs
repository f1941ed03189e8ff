//! Which image is another version of which.
//!
//! Invariant: an image becomes a version once, in a transaction that knows both it and the image that it repeats; of two
//! that repeat the same picture at once one waits for the other, so that no version is given twice.

use std::collections::{BTreeMap, HashMap};

use atelier_schemas::{
    BlobKey, ImageSource, answer::VersionAnswer, envelope::image_id, events::ImageResult,
    request::RepeatOf,
};
use uuid::Uuid;

use super::{
    Statement, Transaction,
    read::{image_answer, image_row, images_of, select_images, task_row},
    rows::{First, ImageRow, RowError, TaskRow, corrupt, from_column, time_of, to_column},
};

/// An image that says that it repeats another one.
struct Claim {
    index: u32,
    repeat_of: RepeatOf,
    original: BlobKey,
}

#[derive(sqlx::FromRow)]
struct LatestRow {
    task: i64,
    #[sqlx(try_from = "i64")]
    image_index: u32,
    #[sqlx(try_from = "i64")]
    version: u32,
}

/// Makes those images of a task versions that repeat others, and are none yet. `sources` are the ones that came just now.
pub(super) async fn assign<T: Transaction>(
    transaction: &mut T,
    task_sequence: i64,
    sources: &[Option<&ImageSource>],
) -> Result<(), RowError> {
    let claiming = (0_u32..)
        .zip(sources)
        .filter(|(_, source)| source.is_some_and(|source| source.repeat_of.is_some()))
        .map(|(index, _)| index);
    let (Some(from), Some(to)) = (claiming.clone().min(), claiming.max()) else {
        return Ok(());
    };
    let claims = open_claims(transaction, task_sequence, from, to).await?;
    let mut by_first: BTreeMap<First, Vec<u32>> = BTreeMap::new();
    for (index, first) in firsts_of(transaction, task_sequence, &claims).await? {
        by_first.entry(first).or_default().push(index);
    }
    if by_first.is_empty() {
        return Ok(());
    }
    // In the order of the map, so that of two who repeat the same pictures only one waits for the other.
    let wanted: Vec<_> = by_first
        .iter()
        .map(|((task, index), images)| (task, index, images.len()))
        .collect();
    let latest: Vec<LatestRow> = Statement::new(T::DIALECT.take_versions)
        .bind(to_column(&wanted)?)
        .fetch_all(transaction)
        .await?;
    let mut given = Vec::with_capacity(claims.len());
    for row in latest {
        let first = (row.task, row.image_index);
        let images = by_first.remove(&first).unwrap_or_default();
        let versions = (1..=row.version).rev();
        // The last of them is the latest.
        given.extend(
            (images.into_iter().rev().zip(versions))
                .map(|(index, version)| (index, version, first.0, first.1)),
        );
    }
    Statement::new(T::DIALECT.set_versions)
        .bind(task_sequence)
        .bind(to_column(&given)?)
        .execute(transaction)
        .await?;
    Ok(())
}

/// The claims of images that are no versions yet, and that nobody has repeated: what has versions stays their first.
async fn open_claims(
    transaction: &mut impl Transaction,
    task_sequence: i64,
    from: u32,
    to: u32,
) -> Result<Vec<Claim>, RowError> {
    let rows: Vec<(i64, String)> = Statement::new(
        "SELECT image_index, source FROM images
         WHERE task = $1 AND image_index BETWEEN $2 AND $3 AND first_task IS NULL AND source IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM latest_versions AS latest
                           WHERE latest.task = images.task AND latest.image_index = images.image_index)
         ORDER BY image_index",
    )
    .bind(task_sequence)
    .bind(from)
    .bind(to)
    .fetch_all(transaction)
    .await?;
    let mut claims = Vec::with_capacity(rows.len());
    for (index, source) in rows {
        let row = task_sequence.to_string();
        let source: ImageSource = from_column(&row, "source", &source)?;
        if let (Some(repeat_of), Some(blob)) = (source.repeat_of, source.blob) {
            claims.push(Claim {
                index: u32::try_from(index)
                    .map_err(|error| corrupt(&row, "image_index", &error))?,
                repeat_of,
                original: blob.key,
            });
        }
    }
    Ok(claims)
}

/// The first image for each claim that holds.
async fn firsts_of(
    transaction: &mut impl Transaction,
    task_sequence: i64,
    claims: &[Claim],
) -> Result<Vec<(u32, First)>, RowError> {
    let mut by_task: BTreeMap<Uuid, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        by_task
            .entry(claim.repeat_of.task_id)
            .or_default()
            .push(claim);
    }
    let mut firsts = Vec::with_capacity(claims.len());
    for (task_id, claims) in by_task {
        // An image of the same task is no earlier version.
        let repeated = match task_row(transaction, task_id).await? {
            Some(task) if task.sequence != task_sequence => {
                originals_of(transaction, &task).await?
            }
            _ => HashMap::new(),
        };
        for claim in claims {
            let first = repeated
                .get(&claim.repeat_of.image_id)
                .and_then(|(first, originals)| {
                    originals.contains(&claim.original).then_some(*first)
                });
            match first {
                Some(first) => firsts.push((claim.index, first)),
                None => tracing::warn!(
                    %task_id,
                    image_id = %claim.repeat_of.image_id,
                    "an image says that it repeats this one, which is not known with that original: it is no version of it"
                ),
            }
        }
    }
    Ok(firsts)
}

/// The images of a task by id: the first image of each, and under which keys its original is known.
async fn originals_of(
    transaction: &mut impl Transaction,
    task: &TaskRow,
) -> Result<HashMap<Uuid, (First, Vec<BlobKey>)>, RowError> {
    let rows: Vec<ImageRow> = images_of(transaction, task.sequence).await?;
    let task_id = task.id()?;
    let mut images = HashMap::with_capacity(rows.len());
    for row in rows {
        let mut keys = Vec::new();
        if let Some(source) = &row.source {
            let source: ImageSource = from_column(&task.task_id, "source", source)?;
            keys.extend(source.blob.map(|blob| blob.key));
        }
        if let Some(result) = &row.result {
            let result: ImageResult = from_column(&task.task_id, "result", result)?;
            keys.push(result.original.key);
        }
        let first = row.first(&task.task_id)?;
        let first = first.unwrap_or((task.sequence, row.image_index));
        images.insert(image_id(task_id, row.image_index), (first, keys));
    }
    Ok(images)
}

/// Every version of the picture that an image is one of, the first one first.
pub(super) async fn of_image(
    transaction: &mut impl Transaction,
    task_id: Uuid,
    index: u32,
) -> Result<Option<Vec<VersionAnswer>>, RowError> {
    let Some(task) = task_row(transaction, task_id).await? else {
        return Ok(None);
    };
    let Some(image) = image_row(transaction, task.sequence, index).await? else {
        return Ok(None);
    };
    let (first_task, first_index) = image
        .first(&task.task_id)?
        .unwrap_or((task.sequence, index));
    let tasks: Vec<TaskRow> = Statement::new(
        "SELECT * FROM tasks WHERE sequence = $1
             OR sequence IN (SELECT task FROM images WHERE first_task = $1 AND first_index = $2)",
    )
    .bind(first_task)
    .bind(first_index)
    .fetch_all(transaction)
    .await?;
    let tasks: HashMap<i64, TaskRow> = tasks.into_iter().map(|row| (row.sequence, row)).collect();
    let mut images: Vec<ImageRow> = Statement::new(select_images!(
        "WHERE (task = $1 AND image_index = $2) OR (first_task = $1 AND first_index = $2)"
    ))
    .bind(first_task)
    .bind(first_index)
    .fetch_all(transaction)
    .await?;
    images.sort_unstable_by_key(|image| image.version);
    let versions = images.iter().map(|image| {
        let task = tasks.get(&image.task).ok_or_else(|| {
            RowError::Corrupt(format!("an image of the task {} has no task", image.task))
        })?;
        version_answer(task, image)
    });
    versions.collect::<Result<_, _>>().map(Some)
}

fn version_answer(task: &TaskRow, image: &ImageRow) -> Result<VersionAnswer, RowError> {
    Ok(VersionAnswer {
        task_id: task.id()?,
        submitted_at: time_of(&task.task_id, "submitted_at_us", task.submitted_at_us)?,
        options: from_column(&task.task_id, "options", &task.options)?,
        image: image_answer(task, image)?,
    })
}
