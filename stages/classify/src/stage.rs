//! The stage: pixels in, what they show out.

use std::sync::Arc;

use async_trait::async_trait;
use atelier_models::{ModelStore, Runtime};
use atelier_runtime::{Batch, Batching, Failure, Outcome, Stage};
use atelier_schemas::events::{ImageClassified, ImagePreprocessed};
use atelier_stores::Rasters;

use crate::{Classifier, ClassifyError, ClassifyOptions, OpenError};

/// The stage `classify`.
pub struct ClassifyStage {
    rasters: Rasters,
    classifier: Arc<Classifier>,
}

impl ClassifyStage {
    /// The stage over the pixels of `rasters`, with its networks loaded. Blocking.
    ///
    /// # Errors
    /// An option is out of its range, or a network is missing; the message names the setting, or the command that helps.
    pub fn open(
        options: ClassifyOptions,
        rasters: Rasters,
        store: &ModelStore,
        runtime: &Runtime,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            rasters,
            classifier: Arc::new(Classifier::open(options, store, runtime)?),
        })
    }

    async fn work_on(
        &self,
        preprocessed: ImagePreprocessed,
    ) -> Result<ImageClassified, ClassifyError> {
        let raster = self.rasters.get(&preprocessed.pixels).await?;
        let classifier = Arc::clone(&self.classifier);
        let choice = preprocessed.image.options.kind;
        let classified =
            tokio::task::spawn_blocking(move || classifier.classify(&raster, choice)).await??;
        let (classification, cost) = (classified.classification, classified.cost);
        tracing::debug!(
            image_id = %preprocessed.image.image_id,
            kind = classification.kind.as_str(),
            confidence = classification.confidence,
            complexity = classification.complexity,
            faces_ms = cost.faces.as_secs_f64() * 1e3,
            objects_ms = cost.objects.as_secs_f64() * 1e3,
            labels_ms = cost.labels.as_secs_f64() * 1e3,
            total_ms = cost.total.as_secs_f64() * 1e3,
            "classified"
        );
        Ok(ImageClassified {
            image: preprocessed.image,
            original: preprocessed.original,
            background: preprocessed.background,
            watermark: preprocessed.watermark,
            trimap: preprocessed.trimap,
            pixels: preprocessed.pixels,
            measurements: preprocessed.measurements,
            classification,
        })
    }
}

#[async_trait]
impl Stage for ClassifyStage {
    type Input = ImagePreprocessed;

    fn name(&self) -> &'static str {
        "classify"
    }

    fn batching(&self) -> Batching {
        // A picture skips networks that another needs, so there is nothing to gain from running them together.
        Batching::single()
    }

    fn pixels(&self, input: &ImagePreprocessed) -> u64 {
        u64::from(input.pixels.width) * u64::from(input.pixels.height)
    }

    async fn handle(&self, batch: Batch<ImagePreprocessed>) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in batch {
            outcomes.push(match self.work_on(message.data).await {
                Ok(classified) => Outcome::emit(classified),
                Err(error) => Outcome::failed(error),
            });
        }
        Ok(outcomes)
    }
}
