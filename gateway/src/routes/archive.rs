//! All results of some tasks as one ZIP, streamed.
//!
//! Invariant: memory is bounded: entries are stored as they are (pictures are compressed already), with their lengths
//! behind them, and a slow client holds back the reading. Nobody takes a part for the whole: a picture that is no longer
//! kept is named in [`MISSING`], and one that breaks in the middle breaks the archive off.

use std::{
    collections::HashSet,
    io::{self, Write},
    sync::Arc,
};

use atelier_schemas::{TaskAnswer, TaskStatus, request::MAX_IMAGES_PER_TASK};
use atelier_stores::{Blobs, Ledger};
use axum::{
    body::Body,
    extract::{Query, State as Shares, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{Endpoint, blob, events, tasks};
use crate::{error::ApiError, media, state::Shared};

/// The archive's list of those pictures that are no longer kept; absent where all are there.
const MISSING: &str = "missing.txt";
/// Most tasks in one archive.
const MAX_TASKS: usize = 500;
/// Entries of 4 GiB and more need the format's long form.
const LONG_ENTRY_BYTES: u64 = u32::MAX as u64;

pub const DOWNLOAD: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/archive",
    handler: || get(download),
    document: |operation| {
        operation
            .named(
                "downloadArchive",
                "images",
                "All results of some tasks as one ZIP",
            )
            .query(
                "tasks",
                "Ids of tasks, separated by commas; at most 500.",
                true,
            )
            .raw_answer(
                200,
                "The archive, streamed. Results that are no longer kept are named in its `missing.txt`.",
                "application/zip",
                serde_json::json!({ "type": "string", "format": "binary" }),
            )
            .errors(&[404, 422, 503])
    },
};

#[derive(Deserialize)]
struct ArchiveQuery {
    tasks: String,
}

/// A picture that goes into the archive.
struct Entry {
    task_id: Uuid,
    index: u32,
    name: String,
}

async fn download(
    Shares(state): Shares<Shared>,
    query: Result<Query<ArchiveQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(tasks::bad_query)?;
    let mut ids: Vec<&str> = query
        .tasks
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .collect();
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(*id));
    if ids.is_empty() || ids.len() > MAX_TASKS {
        return Err(ApiError::invalid(
            "InvalidTasks",
            format!("{} tasks were named, give 1 to {MAX_TASKS}", ids.len()),
        ));
    }
    let mut entries = Vec::new();
    let mut names = Names::default();
    names.unique("missing", "txt");
    for id in ids {
        list_entries(&tasks::find(&state, id).await?, &mut names, &mut entries);
    }
    if entries.is_empty() {
        return Err(ApiError::not_found("none of these tasks has a result yet"));
    }
    let slot = events::stream_slot(&state)?;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(2);
    let archivist = Archivist {
        blobs: Arc::clone(&state.deps.blobs),
        ledger: Arc::clone(&state.deps.ledger),
        runtime: Handle::current(),
    };
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        archivist.write(&entries, sender);
    });
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            media::attachment("atelier.zip"),
        ),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

fn list_entries(task: &TaskAnswer, names: &mut Names, entries: &mut Vec<Entry>) {
    let done = task
        .results
        .iter()
        .filter(|image| image.status == TaskStatus::Completed)
        .take(MAX_IMAGES_PER_TASK);
    for image in done {
        let Some(metadata) = &image.metadata else {
            continue;
        };
        let stem = media::file_stem(image.name.as_deref(), image.index);
        let name = names.unique(
            &stem,
            media::extension(media::harmless(&metadata.media_type)),
        );
        entries.push(Entry {
            task_id: task.task_id,
            index: image.index,
            name,
        });
    }
}

/// File names that were given out, compared as Windows and macOS do.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn unique(&mut self, stem: &str, extension: &str) -> String {
        let mut name = format!("{stem}.{extension}");
        let mut number = 2;
        while !self.0.insert(name.to_lowercase()) {
            name = format!("{stem} ({number}).{extension}");
            number += 1;
        }
        name
    }
}

/// What became of an entry.
enum Added {
    Whole,
    NoLongerKept,
}

struct Archivist {
    blobs: Arc<dyn Blobs>,
    ledger: Arc<dyn Ledger>,
    runtime: Handle,
}

impl Archivist {
    fn write(&self, entries: &[Entry], sender: mpsc::Sender<io::Result<Bytes>>) {
        let mut archive = ZipWriter::new_stream(Pipe {
            sender: Some(sender.clone()),
            buffer: Vec::new(),
        });
        let outcome = self.add_all(&mut archive, entries).and_then(|()| {
            let mut pipe = archive.finish().map_err(io::Error::other)?.into_inner();
            pipe.flush()
        });
        if let Err(error) = outcome
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::warn!(%error, "an archive was broken off");
            // Nobody listens any more, or learns by this that the archive is not whole.
            let _ = sender.blocking_send(Err(error));
        }
    }

    fn add_all<W: Write + io::Seek>(
        &self,
        archive: &mut ZipWriter<W>,
        entries: &[Entry],
    ) -> io::Result<()> {
        let mut missing = String::new();
        for entry in entries {
            if let Added::NoLongerKept = self.add(archive, entry)? {
                let Entry {
                    task_id,
                    index,
                    name,
                } = entry;
                missing +=
                    &format!("{name}: image {index} of the task {task_id} is no longer kept\n");
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive
            .start_file(MISSING, options)
            .map_err(io::Error::other)?;
        archive.write_all(missing.as_bytes())
    }

    fn add<W: Write + io::Seek>(
        &self,
        archive: &mut ZipWriter<W>,
        entry: &Entry,
    ) -> io::Result<Added> {
        let record = self
            .runtime
            .block_on(self.ledger.image(entry.task_id, entry.index))
            .map_err(io::Error::other)?;
        let result = record.and_then(|record| record.result);
        let result = result.ok_or_else(|| {
            io::Error::other(format!(
                "image {} of the task {} has lost its result",
                entry.index, entry.task_id
            ))
        })?;
        let size = self.runtime.block_on(self.blobs.size(&result.result.key));
        if size.map_err(io::Error::other)?.is_none() {
            return Ok(Added::NoLongerKept);
        }
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(result.result.bytes >= LONG_ENTRY_BYTES);
        archive
            .start_file(entry.name.as_str(), options)
            .map_err(io::Error::other)?;
        let mut pieces = Box::pin(blob::pieces(
            Arc::clone(&self.blobs),
            result.result.key,
            0..result.result.bytes,
        ));
        while let Some(piece) = self.runtime.block_on(pieces.next()) {
            archive.write_all(&piece.map_err(io::Error::other)?)?;
        }
        Ok(Added::Whole)
    }
}

/// Hands what is written to the response, in pieces. After the first fault it takes and drops everything: the writer
/// above would else complain while it is dropped.
struct Pipe {
    sender: Option<mpsc::Sender<io::Result<Bytes>>>,
    buffer: Vec<u8>,
}

impl Pipe {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(sender) = &self.sender else {
            self.buffer.clear();
            return Ok(());
        };
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        if sender.blocking_send(Ok(piece)).is_err() {
            self.sender = None;
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        Ok(())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() as u64 >= blob::PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_without_regard_to_case() {
        let mut names = Names::default();
        assert_eq!(names.unique("a", "png"), "a.png");
        assert_eq!(names.unique("A", "png"), "A (2).png");
        assert_eq!(names.unique("a", "png"), "a (3).png");
        assert_eq!(names.unique("a", "jpg"), "a.jpg");
    }
}
