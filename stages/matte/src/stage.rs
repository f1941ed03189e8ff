//! The stage: pixels and their kind in, an alpha matte out.

use async_trait::async_trait;
use atelier_models::{ModelStore, Runtime};
use atelier_runtime::{Batch, Batching, Failure, Outcome, Stage};
use atelier_schemas::events::{ImageClassified, ImageMatted};
use atelier_stores::Rasters;
use futures::future::join_all;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    MatteError, MatteOptions, Segmenters, model_for,
    processors::{General, Job, Processors},
};

/// The stage `matte`.
pub struct Matte {
    options: MatteOptions,
    rasters: Rasters,
    processors: Processors,
    /// One permit for each picture that may be in memory.
    places: Semaphore,
}

impl Matte {
    /// Loads the models of `preload` and starts the stage over the blobs and the cache of `rasters`.
    ///
    /// # Errors
    /// A model is missing or wrong; the error says which command fetches it.
    pub async fn start(
        options: MatteOptions,
        store: ModelStore,
        runtime: Runtime,
        rasters: Rasters,
    ) -> Result<Self, MatteError> {
        let to_load = options.clone();
        let segmenters =
            spawn_blocking(move || Segmenters::load(&to_load, store, runtime)).await??;
        let processors = Processors::new(General::new(&options, segmenters));
        let places = Semaphore::new(options.max_concurrent.max(1));
        Ok(Self {
            options,
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
        let options = &classified.image.options;
        let job = Job {
            pixels: self.rasters.get(&classified.pixels).await?,
            classification: classified.classification.clone(),
            model: options
                .model
                .clone()
                .unwrap_or_else(|| model_for(options.quality).to_owned()),
            model_was_named: options.model.is_some(),
        };
        let matted = self
            .processors
            .for_kind(classified.classification.kind)
            .matte(job)
            .await?;
        tracing::debug!(
            image_id = %classified.image.image_id,
            model = matted.model.name,
            inference_ms = matted.model.inference_ms,
            "matted"
        );
        let alpha = self.rasters.put(matted.alpha).await?;
        Ok(ImageMatted {
            image: classified.image,
            original: classified.original,
            background: classified.background,
            pixels: classified.pixels,
            measurements: classified.measurements,
            classification: classified.classification,
            alpha,
            model: matted.model,
        })
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
