//! Blobs: bytes under the SHA-256 of themselves, written once and never changed.

mod directory;
mod memory;
pub(crate) mod s3;
mod temporary;

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use atelier_schemas::BlobKey;
use bytes::Bytes;
use tokio::io::AsyncRead;

pub use directory::DirectoryBlobs;
pub use memory::MemoryBlobs;
pub use s3::S3Blobs;

/// A place that keeps blobs.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores `bytes` and answers with their key. Storing the same bytes again changes nothing.
    async fn put(&self, bytes: Bytes) -> Result<BlobKey, BlobError>;

    /// Stores what `reader` gives, without holding it in memory; answers with key and length in bytes.
    /// Past `limit_bytes` it stops with [`BlobError::TooLarge`] and keeps nothing.
    async fn put_reader(
        &self,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        limit_bytes: u64,
    ) -> Result<(BlobKey, u64), BlobError>;

    /// The whole blob.
    async fn get(&self, key: &BlobKey) -> Result<Bytes, BlobError>;

    /// Bytes `range` of the blob, cut at its end.
    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Bytes, BlobError>;

    /// Length in bytes; `None` where there is no such blob.
    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError>;

    /// Whether blobs can be read and written now. Checked by `/health/ready`.
    async fn check(&self) -> Result<(), BlobError>;
}

/// A blob that is put again counts as written now, where that was longer ago than this. Less than the least retention.
const REFRESH_AFTER: Duration = Duration::from_hours(1);

/// Blobs that outlive their use, so that those which nobody needs any more have to be found and erased.
///
/// Nothing is erased at once: what seems to be of no use is set aside first, where whoever asks for it (by any method of
/// [`Blobs`]) brings it back. So a sweep may race those who put and get: that nobody needs a blob was true a moment ago
/// only, but what nobody asked for in all the time that it stood aside is not in use.
#[async_trait]
pub trait SweepableBlobs: Blobs {
    /// The blobs of a shard (the first byte of the key) that were last written before `before`, and when that was.
    async fn written_before(
        &self,
        shard: u8,
        before: SystemTime,
    ) -> Result<Vec<(BlobKey, SystemTime)>, BlobError>;

    /// Sets a blob aside that was last written at `written`, as listed. One that is not there, or was written again since, is
    /// left alone: a blob that has come back does not go again under the hands of those who asked for it.
    async fn set_aside(&self, key: &BlobKey, written: SystemTime) -> Result<(), BlobError>;

    /// The blobs that were set aside before `before`.
    async fn aside_since_before(&self, before: SystemTime) -> Result<Vec<BlobKey>, BlobError>;

    /// Brings a blob back that was set aside, as if it were written now; answers whether it is there afterwards.
    async fn bring_back(&self, key: &BlobKey) -> Result<bool, BlobError>;

    /// Erases a blob that was set aside.
    async fn erase_aside(&self, key: &BlobKey) -> Result<(), BlobError>;
}

/// Why a blob could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No blob under this key.
    #[error("no blob {0}")]
    NotFound(BlobKey),
    /// More bytes than allowed.
    #[error("more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The bytes under a key are not the bytes that were stored there.
    #[error("blob {0} is damaged: its bytes no longer match its key")]
    Corrupt(BlobKey),
    /// No space is left, or less than the reserve.
    #[error(
        "the blob store at {place} is full: {reason}; free space, nothing that was accepted is lost"
    )]
    Full {
        /// Where.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// The reader that was to be stored failed.
    #[error("the source of the blob broke off: {0}")]
    Source(std::io::Error),
    /// The store cannot be reached or used now.
    #[error("the blob store at {place} cannot be used: {reason}")]
    Unavailable {
        /// Where.
        place: String,
        /// What the system said.
        reason: String,
    },
}
