//! Mattes that were made before, by this process or by another that has the same cache.
//!
//! The cache holds where a matte is, the blob store holds it. A matte that is used again is written again, so that the
//! store counts its age from now, as that of any other.

use std::{sync::Arc, time::Duration};

use atelier_runtime::telemetry::{self, CacheAnswer};
use atelier_schemas::{BlobRef, events::ModelUse};
use atelier_stores::{BlobError, Cache, Cached, Raster, RasterError, Rasters};
use serde::{Deserialize, Serialize};

use crate::MatteError;

/// Remembers mattes for a while.
pub(crate) struct Memory {
    cache: Arc<dyn Cache>,
    rasters: Rasters,
    time: Duration,
}

/// What the cache holds. One that this version cannot read counts as none.
#[derive(Serialize, Deserialize)]
struct Entry {
    alpha: BlobRef,
    model: ModelUse,
}

impl Memory {
    /// Mattes in `rasters`, remembered in `cache` for `time`.
    pub fn new(cache: Arc<dyn Cache>, rasters: Rasters, time: Duration) -> Self {
        Self {
            cache,
            rasters,
            time,
        }
    }

    /// The matte that `recipe` gave of these pixels.
    ///
    /// # Errors
    /// The blob store refuses to say whether it is still there.
    pub async fn recall(
        &self,
        pixels: &BlobRef,
        recipe: &str,
    ) -> Result<Option<(Arc<Raster>, ModelUse)>, MatteError> {
        let entry = match self.cache.get(&key(pixels, recipe)).await {
            Cached::Hit(value) => serde_json::from_slice::<Entry>(&value).ok(),
            Cached::Miss => None,
            Cached::Away => {
                telemetry::cache_answered("matte", CacheAnswer::Away);
                return Ok(None);
            }
        };
        let found = match entry {
            Some(entry) => self.read(entry, pixels).await?,
            None => None,
        };
        let answer = if found.is_some() {
            CacheAnswer::Hit
        } else {
            CacheAnswer::Miss
        };
        telemetry::cache_answered("matte", answer);
        Ok(found)
    }

    async fn read(
        &self,
        entry: Entry,
        pixels: &BlobRef,
    ) -> Result<Option<(Arc<Raster>, ModelUse)>, MatteError> {
        if (entry.alpha.width, entry.alpha.height) != (pixels.width, pixels.height) {
            return Ok(None);
        }
        let alpha = match self.rasters.get(&entry.alpha).await {
            Ok(alpha) => alpha,
            Err(
                error @ (RasterError::Blob(BlobError::Unavailable { .. } | BlobError::Full { .. })
                | RasterError::Interrupted(_)),
            ) => return Err(error.into()),
            // Its time in the store was over before its time in the cache, or it is not what it was.
            Err(_) => return Ok(None),
        };
        let model = ModelUse {
            inference_ms: 0.0,
            reused: true,
            ..entry.model
        };
        Ok(Some((alpha, model)))
    }

    /// Remembers what `recipe` gave of these pixels.
    pub async fn remember(
        &self,
        pixels: &BlobRef,
        recipe: &str,
        alpha: &BlobRef,
        model: &ModelUse,
    ) {
        let entry = Entry {
            alpha: alpha.clone(),
            model: model.clone(),
        };
        // Strings and numbers: there is nothing in it that JSON does not have.
        if let Ok(value) = serde_json::to_vec(&entry) {
            let key = key(pixels, recipe);
            self.cache.put(&key, value.into(), self.time).await;
        }
    }
}

fn key(pixels: &BlobRef, recipe: &str) -> String {
    format!("matte:{}:{recipe}", pixels.key)
}
