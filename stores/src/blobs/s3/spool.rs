//! A source is taken in whole before anything is sent: its key, and so its place, is known only at its end.
//!
//! Invariant: what does not fit into one request lies in a file without a name, which is gone with its last holder,
//! however the process ends. A source that breaks off or is too large has cost the server nothing.

use std::{
    fs::File,
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use atelier_schemas::BlobKey;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{BlobError, disk};

/// How much of a source is in memory at once, once it goes to a file.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// A blob that is to be sent.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) key: BlobKey,
    pub(super) digest: Digest,
    pub(super) length_bytes: u64,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Memory(Bytes),
    File(Arc<File>),
}

impl Outgoing {
    /// What is in memory already.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(super) async fn of_bytes(bytes: Bytes) -> io::Result<Self> {
        blocking(move || {
            let digest: Digest = Sha256::digest(&bytes).into();
            Ok(Self::new(digest, bytes.len() as u64, Body::Memory(bytes)))
        })
        .await
    }

    /// All that `reader` gives, up to `limit_bytes`; `memory_bytes` of it at most in memory.
    ///
    /// # Errors
    /// [`BlobError::Source`], [`BlobError::TooLarge`]; [`BlobError::Full`] and [`BlobError::Unavailable`] are about the
    /// folder of temporary files.
    pub(super) async fn of_reader(
        reader: &mut (dyn AsyncRead + Send + Unpin),
        limit_bytes: u64,
        memory_bytes: usize,
    ) -> Result<Self, BlobError> {
        let mut spool = Spool::default();
        let mut chunk = Vec::new();
        let mut capacity = memory_bytes;
        loop {
            let ended = fill(reader, &mut chunk, capacity).await?;
            if spool.length_bytes + chunk.len() as u64 > limit_bytes {
                return Err(BlobError::TooLarge { limit_bytes });
            }
            if ended && spool.file.is_none() {
                return Self::of_bytes(chunk.into()).await.map_err(failed);
            }
            (spool, chunk) = blocking(move || spool.write(&chunk).map(|spool| (spool, chunk)))
                .await
                .map_err(failed)?;
            if ended {
                return spool.finish().map_err(failed);
            }
            capacity = CHUNK_BYTES;
            chunk.truncate(0);
            chunk.shrink_to(capacity);
        }
    }

    fn new(digest: Digest, length_bytes: u64, body: Body) -> Self {
        Self {
            key: BlobKey::from_digest(digest),
            digest,
            length_bytes,
            body,
        }
    }

    /// The bytes of `range`, which lies within the blob, and their SHA-256.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) async fn part(&self, range: Range<u64>) -> io::Result<(Bytes, Digest)> {
        let body = self.body.clone();
        let is_whole = range == (0..self.length_bytes);
        let digest = self.digest;
        blocking(move || {
            let bytes = body.read(range)?;
            let digest = if is_whole {
                digest
            } else {
                Sha256::digest(&bytes).into()
            };
            Ok((bytes, digest))
        })
        .await
    }
}

impl Body {
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let within = |place: u64| usize::try_from(place).map_err(io::Error::other);
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(within(range.start)?..within(range.end)?)),
            Self::File(file) => {
                let mut bytes = vec![0; within(range.end - range.start)?];
                file.read_exact_at(&mut bytes, range.start)?;
                Ok(bytes.into())
            }
        }
    }
}

#[derive(Default)]
struct Spool {
    file: Option<File>,
    hasher: Sha256,
    length_bytes: u64,
}

impl Spool {
    fn write(mut self, chunk: &[u8]) -> io::Result<Self> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        file.write_all(chunk)?;
        self.file = Some(file);
        self.hasher.update(chunk);
        self.length_bytes += chunk.len() as u64;
        Ok(self)
    }

    fn finish(self) -> io::Result<Outgoing> {
        let file = match self.file {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        Ok(Outgoing::new(
            self.hasher.finalize().into(),
            self.length_bytes,
            Body::File(Arc::new(file)),
        ))
    }
}

/// Fills `chunk` up to `capacity`; answers whether the source has ended.
async fn fill(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    chunk: &mut Vec<u8>,
    capacity: usize,
) -> Result<bool, BlobError> {
    let mut reader = reader.take(capacity as u64);
    let mut read = usize::MAX;
    while read > 0 && chunk.len() < capacity {
        read = reader.read_buf(chunk).await.map_err(BlobError::Source)?;
    }
    Ok(read == 0)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(io::Error::other(error)),
    }
}

/// What went wrong beside the server: in the folder of temporary files.
fn failed(error: io::Error) -> BlobError {
    let place = format!("{} (TMPDIR)", std::env::temp_dir().display());
    let reason = error.to_string();
    if disk::is_full(&error) {
        BlobError::Full { place, reason }
    } else {
        BlobError::Unavailable { place, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_is_the_same_from_memory_and_from_a_file() {
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let digest: Digest = Sha256::digest(&bytes).into();
        for memory_bytes in [1, 1_000, bytes.len(), bytes.len() + 1] {
            let outgoing = Outgoing::of_reader(&mut &bytes[..], u64::MAX, memory_bytes)
                .await
                .unwrap();
            assert_eq!(outgoing.key, BlobKey::from_digest(digest));
            assert_eq!(outgoing.length_bytes, bytes.len() as u64);
            let in_memory = matches!(outgoing.body, Body::Memory(_));
            assert_eq!(in_memory, memory_bytes > bytes.len(), "{memory_bytes}");
            let (part, part_digest) = outgoing.part(5..1_000_005).await.unwrap();
            assert_eq!(part, bytes[5..1_000_005]);
            assert_eq!(part_digest, <Digest>::from(Sha256::digest(&part)));
            let (whole, whole_digest) = outgoing.part(0..bytes.len() as u64).await.unwrap();
            assert_eq!((whole.as_ref(), whole_digest), (&bytes[..], digest));
        }
    }
}
