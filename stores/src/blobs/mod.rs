//! Blobs: bytes under the SHA-256 of themselves, written once and never changed.

mod directory;
mod memory;
pub(crate) mod s3;
mod temporary;

use std::ops::Range;

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
