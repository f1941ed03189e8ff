//! The stage: pixels and their kind in, an alpha matte out.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use atelier_models::{ModelStore, Runtime};
use atelier_runtime::{Batch, Batching, Failure, Outcome, Stage};
use atelier_schemas::{
    BlobRef,
    events::{ImageClassified, ImageMatted},
};
use atelier_stores::{Cache, Rasters};
use futures::future::join_all;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    MatteError, MatteOptions, Segmenters,
    memory::{Memory, Stored},
    model_for,
    processors::{GivenTrimap, Job, Processors},
};

/// The stage `matte`.
pub struct Matte {
    options: MatteOptions,
    rasters: Rasters,
    processors: Processors,
    /// Where mattes are to be used again.
    memory: Option<Memory>,
    /// One permit for each picture that may be in memory.
    places: Semaphore,
}

impl Matte {
    /// Loads the models of `preload` and starts the stage over the blobs of `rasters`; what it made is remembered in `cache`.
    ///
    /// # Errors
    /// A model is missing or wrong; the error says which command fetches it.
    pub async fn start(
        options: MatteOptions,
        store: ModelStore,
        runtime: Runtime,
        rasters: Rasters,
        cache: Arc<dyn Cache>,
    ) -> Result<Self, MatteError> {
        let to_load = options.clone();
        let segmenters =
            spawn_blocking(move || Segmenters::load(&to_load, store, runtime)).await??;
        let in_networks = options.pictures_in_networks(segmenters.provider());
        let places = Semaphore::new(options.max_concurrent.max(in_networks));
        let processors = Processors::new(&options, segmenters);
        let time = Duration::from_secs(3_600 * u64::from(options.reuse_hours));
        let memory = (!time.is_zero()).then(|| Memory::new(cache, rasters.clone(), time));
        Ok(Self {
            options,
            memory,
            rasters,
            processors,
            places,
        })
    }

    async fn work_on(&self, classified: ImageClassified) -> Result<ImageMatted, MatteError> {
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| MatteError::ShuttingDown)?;
        let trimap = match &classified.trimap {
            Some(trimap) => Some(GivenTrimap {
                key: trimap.key.clone(),
                levels: self.rasters.get(trimap).await?,
            }),
            None => None,
        };
        let options = &classified.image.options;
        let model = options.model.as_deref();
        let job = Job {
            classification: classified.classification.clone(),
            model: model.unwrap_or(model_for(options.quality)).to_owned(),
            model_was_named: model.is_some(),
            subject: options.subject,
            coarse_model: model_for(options.quality).to_owned(),
            trimap,
        };
        let stored = self.matte(job, &classified.pixels).await?;
        tracing::debug!(
            image_id = %classified.image.image_id,
            model = stored.model.name,
            reused = stored.model.reused,
            inference_ms = stored.model.inference_ms,
            "matted"
        );
        Ok(ImageMatted {
            image: classified.image,
            original: classified.original,
            background: classified.background,
            watermark: classified.watermark,
            pixels: classified.pixels,
            measurements: classified.measurements,
            classification: classified.classification,
            alpha: stored.alpha,
            model: stored.model,
            matting: stored.matting,
            foreground: stored.foreground,
        })
    }

    /// Stores the matte, made now or before.
    async fn matte(&self, job: Job, pixels: &BlobRef) -> Result<Stored, MatteError> {
        let processor = self.processors.for_job(&job)?;
        let reuse = match &self.memory {
            Some(memory) => processor.recipe(&job).await?.map(|recipe| (memory, recipe)),
            None => None,
        };
        if let Some((memory, recipe)) = &reuse
            && let Some(stored) = memory.recall(pixels, recipe).await?
        {
            return Ok(stored);
        }
        let matted = processor
            .matte(job, self.rasters.get(pixels).await?)
            .await?;
        let foreground = match matted.foreground {
            Some(foreground) => Some(self.rasters.put(foreground).await?),
            None => None,
        };
        let stored = Stored {
            alpha: self.rasters.put(matted.alpha).await?,
            foreground,
            model: matted.model,
            matting: Some(matted.matting),
        };
        if let Some((memory, recipe)) = &reuse {
            memory.remember(pixels, recipe, &stored).await;
        }
        Ok(stored)
    }
}

#[async_trait]
impl Stage for Matte {
    type Input = ImageClassified;

    fn name(&self) -> &'static str {
        "matte"
    }

    fn batching(&self) -> Batching {
        Batching {
            max_batch: self.options.max_batch.max(1),
            max_pixels: self.options.max_pixels,
            max_delay_ms: self.options.max_delay_ms,
        }
    }

    fn pixels(&self, input: &ImageClassified) -> u64 {
        u64::from(input.pixels.width) * u64::from(input.pixels.height)
    }

    async fn handle(&self, batch: Batch<ImageClassified>) -> Result<Vec<Outcome>, Failure> {
        let work = batch.into_iter().map(|message| async move {
            match self.work_on(message.data).await {
                Ok(matted) => Outcome::emit(matted),
                Err(error) => Outcome::failed(error),
            }
        });
        Ok(join_all(work).await)
    }
}
