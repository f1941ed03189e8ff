//! [`Rasters`]: pixels handed from stage to stage in memory, and through the blob store where memory has none.
//!
//! Invariant: what is in the cache is in the blob store too, so that losing the cache (another process, a restart,
//! a full cache) costs time and nothing else. A blob store in memory holds the very bytes that the cache does, once.

use std::sync::Arc;

use atelier_schemas::{BlobKey, BlobRef};
use bytes::Bytes;
use hashlink::LruCache;
use parking_lot::Mutex;

use super::{PAM_MEDIA_TYPE, Raster, RasterError};
use crate::Blobs;

/// Keeps and finds rasters; clones share one cache.
#[derive(Clone)]
pub struct Rasters {
    blobs: Arc<dyn Blobs>,
    cache: Arc<Mutex<Newest>>,
}

/// The newest rasters. The oldest goes as soon as there is one too many: with entries this large a cache that clears up
/// later is a multiple of its bound.
struct Newest {
    rasters: LruCache<BlobKey, Arc<Raster>>,
    bytes: u64,
    max_bytes: u64,
}

impl Newest {
    fn get(&mut self, key: &BlobKey) -> Option<Arc<Raster>> {
        self.rasters.get(key).map(Arc::clone)
    }

    fn insert(&mut self, key: BlobKey, raster: Arc<Raster>) {
        self.bytes += size_bytes(&raster);
        if let Some(replaced) = self.rasters.insert(key, raster) {
            self.bytes -= size_bytes(&replaced);
        }
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.rasters.remove_lru() else {
                return;
            };
            self.bytes -= size_bytes(&oldest);
        }
    }
}

impl Rasters {
    /// Rasters in `blobs`, of which up to `cache_bytes` bytes are kept in memory too (0: none).
    pub fn new(blobs: Arc<dyn Blobs>, cache_bytes: u64) -> Self {
        let cache = Newest {
            rasters: LruCache::new_unbounded(),
            bytes: 0,
            max_bytes: cache_bytes,
        };
        let cache = Arc::new(Mutex::new(cache));
        Self { blobs, cache }
    }

    /// The blob store behind the cache.
    pub fn blobs(&self) -> &Arc<dyn Blobs> {
        &self.blobs
    }

    /// Stores the pixels; the answer is what an event carries.
    ///
    /// # Errors
    /// [`RasterError::Blob`] where the blob store refuses.
    pub async fn put(&self, raster: Raster) -> Result<BlobRef, RasterError> {
        let pam = tokio::task::spawn_blocking(move || raster.into_pam()).await?;
        self.put_pam(pam.into()).await
    }

    /// Stores pixels that the caller goes on using.
    ///
    /// # Errors
    /// [`RasterError::Blob`] where the blob store refuses.
    pub async fn put_shared(&self, raster: Arc<Raster>) -> Result<BlobRef, RasterError> {
        let pam = tokio::task::spawn_blocking(move || raster.to_pam()).await?;
        self.put_pam(pam.into()).await
    }

    async fn put_pam(&self, pam: Bytes) -> Result<BlobRef, RasterError> {
        let bytes = pam.len() as u64;
        let raster = Raster::from_pam(pam.clone())?;
        let key = self.blobs.put(pam).await?;
        let reference = BlobRef {
            key: key.clone(),
            media_type: PAM_MEDIA_TYPE.to_owned(),
            bytes,
            width: raster.width(),
            height: raster.height(),
        };
        self.cache.lock().insert(key, Arc::new(raster));
        Ok(reference)
    }

    /// The pixels that `reference` names: from memory, or else from the blob store.
    ///
    /// # Errors
    /// [`RasterError::NotPixels`] for a reference to something else, [`RasterError::Malformed`] and its like for a
    /// blob that is not what its reference says, [`RasterError::Blob`] where the blob store refuses.
    pub async fn get(&self, reference: &BlobRef) -> Result<Arc<Raster>, RasterError> {
        if reference.media_type != PAM_MEDIA_TYPE {
            let media_type = reference.media_type.chars().take(80).collect();
            return Err(RasterError::NotPixels {
                key: reference.key.clone(),
                media_type,
            });
        }
        let cached = self.cache.lock().get(&reference.key);
        if let Some(raster) = cached {
            check_reference(reference, &raster)?;
            return Ok(raster);
        }
        let pam = self.blobs.get(&reference.key).await?;
        let raster = Raster::from_pam(pam)?;
        check_reference(reference, &raster)?;
        let raster = Arc::new(raster);
        self.cache
            .lock()
            .insert(reference.key.clone(), Arc::clone(&raster));
        Ok(raster)
    }

    /// Bytes that the cache holds now.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.lock().bytes
    }
}

fn size_bytes(raster: &Raster) -> u64 {
    raster.data().len() as u64
}

fn check_reference(reference: &BlobRef, raster: &Raster) -> Result<(), RasterError> {
    if (reference.width, reference.height) == (raster.width(), raster.height()) {
        return Ok(());
    }
    Err(RasterError::ReferenceMismatch {
        key: reference.key.clone(),
        width: raster.width(),
        height: raster.height(),
        claimed_width: reference.width,
        claimed_height: reference.height,
    })
}

#[cfg(test)]
mod tests;
