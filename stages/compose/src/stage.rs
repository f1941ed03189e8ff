//! The stage: pixels and matte in, files out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use atelier_runtime::{Batch, Batching, Failure, Outcome, Stage};
use atelier_schemas::{
    Background, BlobRef,
    events::{ImageComposed, ImageMatted},
    shadow::ShadowOutcome,
};
use atelier_stores::{BlobError, Rasters};
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::Semaphore;

use crate::{ComposeError, ComposeOptions, Encoded, Mark, Parts, compose_parts, to_region};

/// Pixels of one batch: what is in memory at once.
const MAX_BATCH_PIXELS: u64 = 100_000_000;

/// The stage `compose`.
pub struct Compose {
    rasters: Rasters,
    options: Arc<ComposeOptions>,
    /// One permit for each picture that may be in memory.
    places: Arc<Semaphore>,
}

impl Compose {
    /// The stage over the blobs and the cache of `rasters`.
    pub fn new(options: ComposeOptions, rasters: Rasters) -> Self {
        let places = Arc::new(Semaphore::new(options.max_concurrent.max(1)));
        Self {
            rasters,
            options: Arc::new(options),
            places,
        }
    }

    async fn work_on(&self, matted: ImageMatted) -> Result<ImageComposed, ComposeError> {
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| ComposeError::ShuttingDown)?;
        let (picture, matte) = tokio::try_join!(
            self.rasters.get(&matted.pixels),
            self.rasters.get(&matted.alpha)
        )?;
        let foreground = match &matted.foreground {
            Some(foreground) => Some(self.rasters.get(foreground).await?),
            None => None,
        };
        let background_file = self.background(&matted).await?;
        let mark_file = self.mark(&matted).await?;
        let watermark = matted.image.options.watermark.clone();
        let mut output = matted.image.options.output.clone();
        output.shadow.kind = output.shadow.kind_for(matted.classification.kind);
        let region = matted.image.options.roi;
        let options = Arc::clone(&self.options);
        let composed = unwinding(move || {
            let matte = match region {
                Some(region) => Arc::new(to_region(matte.as_ref().clone(), &region)?),
                None => matte,
            };
            let mark = watermark.as_ref().map(|watermark| Mark {
                watermark,
                file: mark_file.as_deref(),
            });
            let parts = Parts {
                picture: &picture,
                matte: &matte,
                foreground: foreground.as_deref(),
                background_file: background_file.as_deref(),
                mark,
            };
            compose_parts(&parts, &output, &options)
        })
        .await?;
        let (subject, shadow) = (composed.subject, composed.shadow);
        if let Some(outcome) = shadow.filter(|outcome| *outcome != ShadowOutcome::Drawn) {
            tracing::debug!(image_id = %matted.image.image_id, shadow = ?outcome, "shadow");
        }
        let (result, alpha, thumbnail) = tokio::try_join!(
            self.store(composed.result),
            self.store(composed.alpha),
            self.store(composed.thumbnail)
        )?;
        Ok(ImageComposed {
            image: matted.image,
            original: matted.original,
            measurements: matted.measurements,
            classification: matted.classification,
            model: matted.model,
            matting: matted.matting,
            alpha,
            result,
            thumbnail,
            subject,
            shadow,
        })
    }

    /// The file to lay behind, where the task asks for one.
    async fn background(&self, matted: &ImageMatted) -> Result<Option<Bytes>, ComposeError> {
        if !matches!(
            matted.image.options.output.background,
            Background::Url(_) | Background::Blob(_)
        ) {
            return Ok(None);
        }
        let reference = matted
            .background
            .as_ref()
            .ok_or(ComposeError::BackgroundMissing)?;
        let too_large = |message| ComposeError::BackgroundTooLarge { message };
        self.file(reference, too_large).await.map(Some)
    }

    /// The picture to mark with, where the task asks for one.
    async fn mark(&self, matted: &ImageMatted) -> Result<Option<Bytes>, ComposeError> {
        let watermark = matted.image.options.watermark.as_ref();
        if !watermark.is_some_and(|mark| mark.url.is_some() || mark.blob.is_some()) {
            return Ok(None);
        }
        let reference = matted
            .watermark
            .as_ref()
            .ok_or(ComposeError::WatermarkMissing)?;
        let too_large = |message| ComposeError::WatermarkTooLarge { message };
        self.file(reference, too_large).await.map(Some)
    }

    async fn file(
        &self,
        reference: &BlobRef,
        too_large: impl Fn(String) -> ComposeError,
    ) -> Result<Bytes, ComposeError> {
        let blobs = self.rasters.blobs();
        let bytes = blobs
            .size(&reference.key)
            .await?
            .ok_or_else(|| BlobError::NotFound(reference.key.clone()))?;
        let limit_bytes = self.options.max_background_file_bytes;
        if bytes > limit_bytes {
            return Err(too_large(format!(
                "{bytes} bytes, at most {limit_bytes} are read (`max_background_file_bytes`)"
            )));
        }
        Ok(blobs.get(&reference.key).await?)
    }

    async fn store(&self, encoded: Encoded) -> Result<BlobRef, ComposeError> {
        let Encoded {
            bytes,
            media_type,
            width,
            height,
        } = encoded;
        let length_bytes = bytes.len() as u64;
        let key = self.rasters.blobs().put(bytes.into()).await?;
        Ok(BlobRef {
            key,
            media_type: media_type.to_owned(),
            bytes: length_bytes,
            width,
            height,
        })
    }
}

/// Runs `work` off the async threads; a panic in it is an error.
async fn unwinding<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ComposeError> + Send + 'static,
) -> Result<T, ComposeError> {
    tokio::task::spawn_blocking(move || {
        // Nothing outlives the closure but its result, so no broken state can be seen afterwards.
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            Err(ComposeError::Panicked {
                message: panic_message(panic.as_ref()),
            })
        })
    })
    .await?
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it gave no reason")
        .chars()
        .take(200)
        .collect()
}

#[async_trait]
impl Stage for Compose {
    type Input = ImageMatted;

    fn name(&self) -> &'static str {
        "compose"
    }

    fn batching(&self) -> Batching {
        // No waiting: what has come meanwhile is taken along, so that every core has a picture.
        Batching {
            max_batch: self.options.max_batch.max(1),
            max_pixels: MAX_BATCH_PIXELS,
            max_delay_ms: 0,
        }
    }

    fn pixels(&self, input: &ImageMatted) -> u64 {
        u64::from(input.pixels.width) * u64::from(input.pixels.height)
    }

    async fn handle(&self, batch: Batch<ImageMatted>) -> Result<Vec<Outcome>, Failure> {
        let work = batch.into_iter().map(|message| async move {
            match self.work_on(message.data).await {
                Ok(composed) => Outcome::emit(composed),
                Err(error) => Outcome::failed(error),
            }
        });
        Ok(join_all(work).await)
    }
}
