//! Mattes that were made before, by this process or by another that has the same cache.
//!
//! The cache holds where a matte is, the blob store holds it. A matte that is used again is written again, so that the
//! store counts its age from now, as that of any other.

use std::{sync::Arc, time::Duration};

use atelier_runtime::telemetry::{self, CacheAnswer};
use atelier_schemas::{BlobRef, Matting, events::ModelUse};
use atelier_stores::{BlobError, Cache, Cached, Raster, RasterError, Rasters};
use serde::{Deserialize, Serialize};

use crate::MatteError;

/// Remembers mattes for a while.
pub(crate) struct Memory {
    cache: Arc<dyn Cache>,
    rasters: Rasters,
    time: Duration,
}

/// A matte in the blob store, and how it was made: what the cache holds. One that this version cannot read counts as none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub alpha: BlobRef,
    /// The subject in its own colours, where the processor knew them.
    #[serde(default)]
    pub foreground: Option<BlobRef>,
    pub model: ModelUse,
    /// Absent from what was remembered before there were reports.
    #[serde(default)]
    pub matting: Option<Matting>,
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

    /// The matte that `recipe` gave of these pixels, written again.
    ///
    /// # Errors
    /// The blob store refuses to say whether it is still there, or to take it again.
    pub async fn recall(
        &self,
        pixels: &BlobRef,
        recipe: &str,
    ) -> Result<Option<Stored>, MatteError> {
        let stored = match self.cache.get(&key(pixels, recipe)).await {
            Cached::Hit(value) => serde_json::from_slice::<Stored>(&value).ok(),
            Cached::Miss => None,
            Cached::Away => {
                telemetry::cache_answered("matte", CacheAnswer::Away);
                return Ok(None);
            }
        };
        let found = match stored {
            Some(stored) => self.write_again(stored, pixels).await?,
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

    async fn write_again(
        &self,
        mut stored: Stored,
        pixels: &BlobRef,
    ) -> Result<Option<Stored>, MatteError> {
        for blob in [Some(&mut stored.alpha), stored.foreground.as_mut()]
            .into_iter()
            .flatten()
        {
            let Some(raster) = self.read(blob, pixels).await? else {
                return Ok(None);
            };
            *blob = self.rasters.put_shared(raster).await?;
        }
        stored.model.inference_ms = 0.0;
        stored.model.reused = true;
        if let Some(matting) = &mut stored.matting {
            // They are of the time that it was made.
            matting.steps.clear();
        }
        Ok(Some(stored))
    }

    async fn read(
        &self,
        blob: &BlobRef,
        pixels: &BlobRef,
    ) -> Result<Option<Arc<Raster>>, MatteError> {
        if (blob.width, blob.height) != (pixels.width, pixels.height) {
            return Ok(None);
        }
        match self.rasters.get(blob).await {
            Ok(raster) => Ok(Some(raster)),
            Err(
                error @ (RasterError::Blob(BlobError::Unavailable { .. } | BlobError::Full { .. })
                | RasterError::Interrupted(_)),
            ) => Err(error.into()),
            // Its time in the store was over before its time in the cache, or it is not what it was.
            Err(_) => Ok(None),
        }
    }

    /// Remembers what `recipe` gave of these pixels.
    pub async fn remember(&self, pixels: &BlobRef, recipe: &str, stored: &Stored) {
        // Strings and numbers: there is nothing in it that JSON does not have.
        if let Ok(value) = serde_json::to_vec(stored) {
            let key = key(pixels, recipe);
            self.cache.put(&key, value.into(), self.time).await;
        }
    }
}

fn key(pixels: &BlobRef, recipe: &str) -> String {
    format!("matte:{}:{recipe}", pixels.key)
}
