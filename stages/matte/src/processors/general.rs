//! The processor for every kind: one segmentation network, or the picture's own alpha.

use std::sync::Arc;

use async_trait::async_trait;
use atelier_models::{Picture, Segmenter, segment::refine};
use atelier_runtime::telemetry;
use atelier_schemas::{events::ModelUse, events::Strategy};
use atelier_stores::{Raster, raster::Channels};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Job, Matted, Processor};
use crate::{MatteError, MatteOptions, Segmenters};

/// What stands in events as the model where the picture's own alpha was kept.
const OWN_ALPHA: &str = "own-alpha";

/// To be raised with every change after which the same picture and network give another matte: those made before are not used
/// again then.
const VERSION: u32 = 1;

/// Cuts out what stands out, whatever the kind.
pub struct General {
    segmenters: Arc<Segmenters>,
    /// One permit for each run of a network.
    runs: Semaphore,
}

impl General {
    /// The processor over loaded models.
    pub fn new(options: &MatteOptions, segmenters: Segmenters) -> Self {
        Self {
            segmenters: Arc::new(segmenters),
            runs: Semaphore::new(options.max_concurrent_runs.max(1)),
        }
    }

    fn model_use(&self, name: &str, provider: &str, inference_ms: f64) -> ModelUse {
        ModelUse {
            name: name.to_owned(),
            provider: provider.to_owned(),
            inference_ms,
            processor: self.name().to_owned(),
            reused: false,
        }
    }

    async fn segment(&self, pixels: Arc<Raster>, model: String) -> Result<Matted, MatteError> {
        let segmenters = Arc::clone(&self.segmenters);
        let to_prepare = Arc::clone(&pixels);
        let (segmenter, prepared) = spawn_blocking(move || {
            let segmenter = segmenters.get(&model)?;
            let prepared = segmenter.prepare(&picture(&to_prepare))?;
            Ok::<_, MatteError>((segmenter, prepared))
        })
        .await??;
        // Waiting here and not in the session keeps the blocking threads free for the pictures before and after.
        let run = self
            .runs
            .acquire()
            .await
            .map_err(|_| MatteError::ShuttingDown)?;
        let (segmenter, raw) = spawn_blocking(move || {
            let raw = segmenter.infer(&prepared)?;
            Ok::<_, MatteError>((segmenter, raw))
        })
        .await??;
        drop(run);
        telemetry::model_ran(
            "matte",
            segmenter.session().name(),
            segmenter.session().provider().as_str(),
            raw.elapsed,
        );
        let inference_ms = raw.elapsed.as_secs_f64() * 1e3;
        let model = self.model_use(
            segmenter.session().name(),
            segmenter.session().provider().as_str(),
            inference_ms,
        );
        let alpha = spawn_blocking(move || finish(&segmenter, &raw, &pixels)).await??;
        Ok(Matted { alpha, model })
    }
}

#[async_trait]
impl Processor for General {
    fn name(&self) -> &'static str {
        "general"
    }

    async fn recipe(&self, job: &Job) -> Result<Option<String>, MatteError> {
        if keeps_own_alpha(job) {
            return Ok(None);
        }
        let (segmenters, model) = (Arc::clone(&self.segmenters), job.model.clone());
        let segmenter = spawn_blocking(move || segmenters.get(&model)).await??;
        let session = segmenter.session();
        Ok(Some(format!(
            "{} {VERSION} {} {} {}",
            self.name(),
            session.name(),
            session.file_identity(),
            session.provider()
        )))
    }

    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        if keeps_own_alpha(&job) {
            let alpha = own_alpha(&pixels).ok_or(MatteError::NoAlpha)?;
            let alpha = Raster::new(pixels.width(), pixels.height(), Channels::Gray, alpha)?;
            return Ok(Matted {
                alpha,
                model: self.model_use(OWN_ALPHA, "none", 0.0),
            });
        }
        self.segment(pixels, job.model).await
    }
}

/// Who names a model wants that model's matte, also of a picture that could keep its own.
fn keeps_own_alpha(job: &Job) -> bool {
    job.classification.strategy == Strategy::KeepAlpha && !job.model_was_named
}

fn picture(raster: &Raster) -> Picture<'_> {
    Picture {
        width: raster.width(),
        height: raster.height(),
        channels: raster.channels().count(),
        pixels: raster.data(),
    }
}

/// The refined matte at the picture's size; what was transparent in the picture stays so.
fn finish(
    segmenter: &Segmenter,
    raw: &atelier_models::segment::RawMatte,
    pixels: &Raster,
) -> Result<Raster, MatteError> {
    let mut mask = segmenter.finish(raw, pixels.width(), pixels.height())?;
    refine(&picture(pixels), &mut mask)?;
    if pixels.channels() == Channels::Rgba {
        for (alpha, pixel) in mask.alpha.iter_mut().zip(pixels.data().as_chunks::<4>().0) {
            *alpha = multiply(*alpha, pixel[3]);
        }
    }
    Ok(Raster::new(
        mask.width,
        mask.height,
        Channels::Gray,
        mask.alpha,
    )?)
}

fn own_alpha(pixels: &Raster) -> Option<Vec<u8>> {
    if pixels.channels() != Channels::Rgba {
        return None;
    }
    Some(
        pixels
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|pixel| pixel[3])
            .collect(),
    )
}

/// The product of two shares of 255, rounded.
fn multiply(left: u8, right: u8) -> u8 {
    ((u16::from(left) * u16::from(right) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_multiply() {
        assert_eq!(
            [
                multiply(255, 255),
                multiply(255, 7),
                multiply(0, 255),
                multiply(128, 128)
            ],
            [255, 7, 0, 64]
        );
    }

    #[test]
    fn only_pictures_with_alpha_have_one() {
        let rgba = Raster::new(2, 1, Channels::Rgba, vec![1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        assert_eq!(own_alpha(&rgba), Some(vec![4, 8]));
        assert_eq!(
            own_alpha(&Raster::new(1, 1, Channels::Rgb, vec![1, 2, 3]).unwrap()),
            None
        );
    }
}
