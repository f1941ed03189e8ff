//! The processor for persons and things: one segmentation network, or the picture's own alpha.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use atelier_models::{Picture, Segmenter, segment::refine};
use atelier_runtime::telemetry;
use atelier_schemas::{
    Kind, Matting,
    events::{ModelUse, Strategy},
    matting::Step,
};
use atelier_stores::{Raster, raster::Channels};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Job, Matted, Processor, multiply, own_alpha};
use crate::{MatteError, MatteOptions, Segmenters};

/// What stands in events as the model where the picture's own alpha was kept.
const OWN_ALPHA: &str = "own-alpha";

/// To be raised with every change after which the same picture and network give another matte: those made before are not used
/// again then.
const VERSION: u32 = 1;

/// Cuts out what stands out, whatever it is.
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

    async fn segment(
        &self,
        pixels: Arc<Raster>,
        model: String,
        kind: Kind,
    ) -> Result<Matted, MatteError> {
        let started = Instant::now();
        let segmenters = Arc::clone(&self.segmenters);
        let to_prepare = Arc::clone(&pixels);
        let (segmenter, prepared) = spawn_blocking(move || {
            let segmenter = segmenters.get(&model)?;
            let prepared = segmenter.prepare(&picture(&to_prepare))?;
            Ok::<_, MatteError>((segmenter, prepared))
        })
        .await??;
        let prepared_ms = milliseconds(started);
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
        let refining = Instant::now();
        let alpha = spawn_blocking(move || finish(&segmenter, &raw, &pixels)).await??;
        let steps = [
            ("prepare", prepared_ms),
            ("network", inference_ms),
            ("refine", milliseconds(refining)),
        ];
        Ok(Matted {
            matting: Matting {
                steps: steps
                    .map(|(name, ms)| Step {
                        name: name.to_owned(),
                        ms,
                    })
                    .into(),
                ..Matting::by(kind, certainty(alpha.data()))
            },
            alpha,
            foreground: None,
            model,
        })
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
        let kind = match job.classification.kind {
            Kind::Portrait => Kind::Portrait,
            Kind::Product | Kind::Graphic => Kind::Product,
        };
        if keeps_own_alpha(&job) {
            let alpha = own_alpha(&pixels).ok_or(MatteError::NoAlpha)?;
            let alpha = Raster::new(pixels.width(), pixels.height(), Channels::Gray, alpha)?;
            return Ok(Matted {
                alpha,
                foreground: None,
                model: self.model_use(OWN_ALPHA, "none", 0.0),
                matting: Matting::by(job.classification.kind, 1.0),
            });
        }
        self.segment(pixels, job.model, kind).await
    }
}

/// Who names a model wants that model's matte, also of a picture that could keep its own.
pub(super) fn keeps_own_alpha(job: &Job) -> bool {
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

/// How decided a matte is, 0 to 1: a subject that is opaque everywhere is 1, one that is half there is 0.
fn certainty(alpha: &[u8]) -> f32 {
    let (mut doubt, mut subject) = (0_u64, 0_u64);
    for alpha in alpha {
        subject += u64::from(*alpha) * 255;
        doubt += 2 * u64::from(*alpha) * u64::from(255 - *alpha);
    }
    if subject == 0 {
        return 0.0;
    }
    1.0 - (doubt as f64 / subject as f64).min(1.0) as f32
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matte_is_as_certain_as_it_is_decided() {
        assert_eq!(certainty(&[0, 255, 255]), 1.0);
        assert_eq!(certainty(&[0, 0]), 0.0);
        assert!(certainty(&[128, 127]) < 0.01);
        assert!(certainty(&[255, 255, 255, 128]) > 0.8);
    }
}
