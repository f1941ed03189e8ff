//! Blobs in memory, for a run that keeps nothing: `atelier cutout` and tests.
//!
//! Every `put` counts as one holder and [`MemoryBlobs::release`] takes one back, so that two pictures with the same bytes
//! can be worked side by side and each release only its own hold.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use atelier_schemas::BlobKey;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{BlobError, Blobs};

struct Held {
    bytes: Bytes,
    holders: usize,
}

/// Blobs that live as long as somebody holds them.
#[derive(Default)]
pub struct MemoryBlobs {
    held: Mutex<HashMap<BlobKey, Held>>,
}

impl MemoryBlobs {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes back one hold; the last one frees the bytes. Unknown keys are left alone.
    pub fn release(&self, key: &BlobKey) {
        let mut held = self.lock();
        if let Some(entry) = held.get_mut(key) {
            entry.holders -= 1;
            if entry.holders == 0 {
                held.remove(key);
            }
        }
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.lock()
            .values()
            .map(|entry| entry.bytes.len() as u64)
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlobKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobKey, BlobError> {
        let key = BlobKey::from_digest(Sha256::digest(&bytes).into());
        self.lock()
            .entry(key.clone())
            .or_insert(Held { bytes, holders: 0 })
            .holders += 1;
        Ok(key)
    }

    async fn put_reader(
        &self,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        limit_bytes: u64,
    ) -> Result<(BlobKey, u64), BlobError> {
        let mut bytes = Vec::new();
        reader
            .take(limit_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .await
            .map_err(BlobError::Source)?;
        let length = bytes.len() as u64;
        if length > limit_bytes {
            return Err(BlobError::TooLarge { limit_bytes });
        }
        Ok((self.put(bytes.into()).await?, length))
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, BlobError> {
        self.lock()
            .get(key)
            .map(|entry| entry.bytes.clone())
            .ok_or_else(|| BlobError::NotFound(key.clone()))
    }

    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Bytes, BlobError> {
        let bytes = self.get(key).await?;
        let within = |place: u64| {
            usize::try_from(place)
                .unwrap_or(usize::MAX)
                .min(bytes.len())
        };
        let (start, end) = (within(range.start), within(range.end));
        Ok(if start < end {
            bytes.slice(start..end)
        } else {
            Bytes::new()
        })
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        Ok(self.lock().get(key).map(|entry| entry.bytes.len() as u64))
    }

    async fn check(&self) -> Result<(), BlobError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_release_frees_the_bytes() {
        let blobs = MemoryBlobs::new();
        let key = blobs.put(Bytes::from_static(b"picture")).await.unwrap();
        assert_eq!(
            blobs.put(Bytes::from_static(b"picture")).await.unwrap(),
            key
        );
        blobs.release(&key);
        assert_eq!(blobs.get(&key).await.unwrap().as_ref(), b"picture");
        blobs.release(&key);
        assert!(matches!(blobs.get(&key).await, Err(BlobError::NotFound(_))));
        assert_eq!(blobs.held_bytes(), 0);
    }
}
