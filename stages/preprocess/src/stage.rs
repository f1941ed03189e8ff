//! The stage: reference in, decoded pixels out.

use std::sync::Arc;

use async_trait::async_trait;
use atelier_runtime::{Batch, Batching, Failure, Outcome, Stage};
use atelier_schemas::{
    BlobRef,
    events::{ImageIngested, ImagePreprocessed},
};
use atelier_stores::{BlobError, Rasters};
use futures::future::join_all;
use tokio::sync::Semaphore;

use crate::{Prepared, PreprocessError, PreprocessOptions, TrimapError, prepare, three_levels};

/// The stage `preprocess`.
pub struct Preprocess {
    rasters: Rasters,
    options: PreprocessOptions,
    /// One permit for each picture that may be in memory.
    places: Arc<Semaphore>,
}

impl Preprocess {
    /// The stage over the blobs and the cache of `rasters`.
    pub fn new(options: PreprocessOptions, rasters: Rasters) -> Self {
        let places = Arc::new(Semaphore::new(options.max_concurrent.max(1)));
        Self {
            rasters,
            options,
            places,
        }
    }

    async fn work_on(&self, ingested: ImageIngested) -> Result<ImagePreprocessed, PreprocessError> {
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| PreprocessError::ShuttingDown)?;
        let prepared = self.decoded(&ingested.original).await?;
        let size = (prepared.raster.width(), prepared.raster.height());
        tracing::debug!(
            image_id = %ingested.image.image_id,
            width = prepared.raster.width(),
            height = prepared.raster.height(),
            color_model = prepared.measurements.color_model,
            "decoded"
        );
        let pixels = self.rasters.put(prepared.raster).await?;
        let trimap = match &ingested.trimap {
            Some(trimap) => Some(self.trimap(trimap, size).await?),
            None => None,
        };
        Ok(ImagePreprocessed {
            image: ingested.image,
            original: ingested.original,
            background: ingested.background,
            watermark: ingested.watermark,
            pixels,
            measurements: prepared.measurements,
            trimap,
        })
    }

    async fn decoded(&self, picture: &BlobRef) -> Result<Prepared, PreprocessError> {
        let key = &picture.key;
        let blobs = self.rasters.blobs();
        // The event says how long the file is, but events come from anywhere: the store knows.
        let bytes = blobs
            .size(key)
            .await?
            .ok_or_else(|| BlobError::NotFound(key.clone()))?;
        let limit_bytes = self.options.max_file_bytes;
        if bytes > limit_bytes {
            return Err(PreprocessError::FileTooLarge { bytes, limit_bytes });
        }
        let file = blobs.get(key).await?;
        let (limits, max_side_px) = (self.options.limits, self.options.max_side_px);
        Ok(tokio::task::spawn_blocking(move || prepare(&file, &limits, max_side_px)).await??)
    }

    /// The trimap of a picture of `size`, decoded after the picture so that both never lie in memory in full colour.
    async fn trimap(&self, trimap: &BlobRef, size: (u32, u32)) -> Result<BlobRef, PreprocessError> {
        let prepared = self.decoded(trimap).await.map_err(|error| match error {
            PreprocessError::Decode(error) => TrimapError::Decode(error).into(),
            error => error,
        })?;
        let levels =
            tokio::task::spawn_blocking(move || three_levels(&prepared.raster, size)).await??;
        Ok(self.rasters.put(levels).await?)
    }
}

#[async_trait]
impl Stage for Preprocess {
    type Input = ImageIngested;

    fn name(&self) -> &'static str {
        "preprocess"
    }

    fn batching(&self) -> Batching {
        // No waiting: what has come meanwhile is taken along, so that every core has a picture.
        Batching {
            max_batch: self.options.max_batch.max(1),
            max_pixels: self.options.limits.max_pixels,
            max_delay_ms: 0,
        }
    }

    fn pixels(&self, input: &ImageIngested) -> u64 {
        u64::from(input.original.width) * u64::from(input.original.height)
    }

    async fn handle(&self, batch: Batch<ImageIngested>) -> Result<Vec<Outcome>, Failure> {
        let work = batch.into_iter().map(|message| async move {
            match self.work_on(message.data).await {
                Ok(preprocessed) => Outcome::emit(preprocessed),
                Err(error) => Outcome::failed(error),
            }
        });
        Ok(join_all(work).await)
    }
}
