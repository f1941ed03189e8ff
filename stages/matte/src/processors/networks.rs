//! The segmentation networks of a job, and what a look of theirs at a part of a picture gives.
//!
//! Quality high is IS-Net, U²-Netp where that is in doubt, and the refiner over both; the others, and a model that was named,
//! are one network whose matte's edge is fitted to the picture's.

use std::{sync::Arc, time::Instant};

use atelier_models::{
    Mask, Picture, Refiner, Segmenter,
    segment::{
        Coarse, NO_SUBJECT_PEAK, NetworkRun, Prepared, RawMatte, RawRefined, refine, working_size,
    },
};
use atelier_runtime::telemetry;
use atelier_schemas::{Quality, events::ModelUse, matting::Step};
use atelier_stores::{Raster, raster::Channels};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Job, frame::Frame, multiply, subject::Kept};
use crate::{MatteError, MatteOptions, Segmenters, model_for};

/// What is known of the people in a matte, for each of its pixels.
pub(super) struct Bodies {
    /// How surely it is a body (1) or none (−1): see [`Coarse::weigh`].
    pub surely: Vec<f32>,
    /// How far from the outside it may be seen through; empty where that is nowhere: see [`Coarse::loosen`].
    pub hair_px: Vec<f32>,
}

/// Evidence of another kind than the networks', for the first network's matte of a frame; `None` where there is none.
pub(super) type Evidence = Arc<dyn Fn(&Mask, &Frame) -> Option<Bodies> + Send + Sync>;

/// Runs networks, on as many pictures at a time as the options say.
pub(super) struct Engine {
    pub segmenters: Arc<Segmenters>,
    /// One permit for each picture in a network: those that wait for the same one at the same time share a run.
    places: Semaphore,
}

/// What was done for one picture, for its report.
#[derive(Default)]
pub(super) struct Log {
    pub steps: Vec<Step>,
    inference_ms: f64,
}

impl Log {
    /// Notes a step that began then.
    pub fn step(&mut self, name: &str, began: Instant) {
        self.steps.push(Step {
            name: name.to_owned(),
            ms: began.elapsed().as_secs_f64() * 1e3,
        });
    }

    /// Notes a run of a network.
    pub fn run(&mut self, prefix: &str, run: &NetworkRun) {
        telemetry::model_ran("matte", &run.model, run.provider.as_str(), run.elapsed);
        let ms = run.elapsed.as_secs_f64() * 1e3;
        self.inference_ms += ms;
        self.steps.push(Step {
            name: format!("{prefix}{}", run.model),
            ms,
        });
    }

    /// What stands in events about the networks.
    pub fn model_use(&self, networks: &Networks, processor: &str) -> ModelUse {
        let session = networks.first().session();
        ModelUse {
            name: session.name().to_owned(),
            provider: session.provider().as_str().to_owned(),
            inference_ms: self.inference_ms,
            processor: processor.to_owned(),
            reused: false,
        }
    }
}

/// A look of the networks at a part of a picture.
pub(super) struct Look {
    pub frame: Frame,
    raw: Raw,
    /// Its matte at the size at which the refiner works.
    pub small: Mask,
}

impl Look {
    /// Whether no network sees anything that stands out.
    pub fn is_of_nothing(&self) -> bool {
        self.raw.peak() < NO_SUBJECT_PEAK
    }
}

impl Engine {
    pub fn new(options: &MatteOptions, segmenters: Segmenters) -> Self {
        let places = options.pictures_in_networks(segmenters.provider());
        Self {
            segmenters: Arc::new(segmenters),
            places: Semaphore::new(places),
        }
    }

    /// The networks of a job, loaded now if need be.
    pub async fn networks(&self, job: &Job) -> Result<Arc<Networks>, MatteError> {
        let (segmenters, job) = (Arc::clone(&self.segmenters), job.clone());
        spawn_blocking(move || Networks::of(&segmenters, &job).map(Arc::new)).await?
    }

    /// Runs something that runs networks, when it is its turn.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, MatteError> + Send + 'static,
    ) -> Result<T, MatteError> {
        // Waiting here and not in the session keeps the blocking threads free for the pictures before and after.
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| MatteError::ShuttingDown)?;
        spawn_blocking(work).await?
    }

    /// Looks at a part of a picture; `prefix` tells its steps from those of other looks.
    pub async fn look(
        &self,
        networks: &Arc<Networks>,
        pixels: &Arc<Raster>,
        frame: Frame,
        evidence: Option<Evidence>,
        (log, prefix): (&mut Log, &str),
    ) -> Result<Look, MatteError> {
        let began = Instant::now();
        let (to_prepare, to_run) = (Arc::clone(pixels), Arc::clone(pixels));
        let (preparing, running) = (Arc::clone(networks), Arc::clone(networks));
        let prepared = spawn_blocking(move || {
            let bytes = frame.pixels(&to_prepare);
            let picture = frame.picture(&bytes, to_prepare.channels().count());
            preparing.first().prepare(&picture)
        })
        .await??;
        log.step(&format!("{prefix}prepare"), began);
        let look = self
            .run(move || {
                let bytes = frame.pixels(&to_run);
                let picture = frame.picture(&bytes, to_run.channels().count());
                running.run(&picture, &prepared, frame, evidence.as_ref())
            })
            .await?;
        for run in look.raw.runs() {
            log.run(prefix, &run);
        }
        Ok(look)
    }

    /// The matte at the picture's size of what is `kept` of a look.
    pub async fn finish(
        &self,
        look: Look,
        kept: Kept,
        pixels: Arc<Raster>,
        log: &mut Log,
    ) -> Result<Raster, MatteError> {
        let began = Instant::now();
        let alpha = spawn_blocking(move || look.finish(&kept, &pixels)).await??;
        log.step("finish", began);
        Ok(alpha)
    }
}

/// What makes a matte.
pub(super) enum Networks {
    /// One network.
    Plain(Arc<Segmenter>),
    /// The first, the one that is asked where it is in doubt, and the one that makes the matte of what they gave.
    Refined(Arc<Segmenter>, Arc<Segmenter>, Arc<Refiner>),
}

/// What the networks gave, with those that are to finish it.
enum Raw {
    Plain(Arc<Segmenter>, RawMatte),
    Refined(Arc<Refiner>, RawRefined),
}

impl Networks {
    /// Those of a job. Blocking where one is to be loaded.
    fn of(segmenters: &Segmenters, job: &Job) -> Result<Self, MatteError> {
        let first = segmenters.get(&job.model)?;
        // Who names a model wants its matte, and no other's.
        if job.model_was_named || job.model != model_for(Quality::High) {
            return Ok(Self::Plain(first));
        }
        let second = segmenters.get(model_for(Quality::Low))?;
        Ok(Self::Refined(first, second, segmenters.refiner()?))
    }

    /// Whether they are those of the best quality, for which nothing is spared.
    pub fn are_the_best(&self) -> bool {
        matches!(self, Self::Refined(..))
    }

    pub fn first(&self) -> &Segmenter {
        match self {
            Self::Plain(first) | Self::Refined(first, ..) => first,
        }
    }

    /// Names all of them, so that another file or provider is another name.
    pub fn identity(&self) -> String {
        let sessions = match self {
            Self::Plain(first) => vec![first.session()],
            Self::Refined(first, second, refiner) => {
                vec![first.session(), second.session(), refiner.session()]
            }
        };
        let names = sessions.iter().map(|session| {
            format!(
                "{} {} {}",
                session.name(),
                session.file_identity(),
                session.provider()
            )
        });
        names.collect::<Vec<_>>().join(" + ")
    }

    /// Blocking.
    fn run(
        &self,
        picture: &Picture<'_>,
        prepared: &Prepared,
        frame: Frame,
        evidence: Option<&Evidence>,
    ) -> Result<Look, MatteError> {
        let (raw, small) = match self {
            Self::Plain(first) => {
                let raw = first.infer(prepared)?;
                let (width, height) = working_size(picture.width, picture.height);
                let small = first.finish(&raw, width, height)?;
                (Raw::Plain(Arc::clone(first), raw), small)
            }
            Self::Refined(first, second, refiner) => {
                let mut coarse = Coarse::of(picture, prepared, first, second)?;
                if let Some(bodies) = evidence.and_then(|of| of(coarse.first(), &frame)) {
                    coarse.weigh(&bodies.surely);
                    coarse.loosen(bodies.hair_px);
                }
                let raw = refiner.refine(picture, coarse)?;
                let small = refiner.small(&raw)?;
                (Raw::Refined(Arc::clone(refiner), raw), small)
            }
        };
        Ok(Look { frame, raw, small })
    }
}

impl Raw {
    /// The networks that ran, in order.
    fn runs(&self) -> Vec<NetworkRun> {
        match self {
            Self::Plain(first, raw) => vec![NetworkRun::of(first.session(), raw.elapsed)],
            Self::Refined(_, raw) => raw.runs.clone(),
        }
    }

    /// How sure the surest network is that there is a subject anywhere, 0 to 1.
    fn peak(&self) -> f32 {
        match self {
            Self::Plain(first, raw) => first.peak(raw),
            Self::Refined(_, raw) => raw.peak,
        }
    }

    /// The matte at the picture's size.
    fn finish(&self, picture: &Picture<'_>) -> Result<Mask, MatteError> {
        Ok(match self {
            Self::Plain(first, raw) => {
                let mut mask = first.finish(raw, picture.width, picture.height)?;
                refine(picture, &mut mask)?;
                mask
            }
            Self::Refined(refiner, raw) => refiner.finish(raw, picture)?,
        })
    }
}

impl Look {
    /// The matte at the picture's size; what was transparent in the picture stays so.
    fn finish(&self, kept: &Kept, pixels: &Raster) -> Result<Raster, MatteError> {
        let bytes = self.frame.pixels(pixels);
        let picture = self.frame.picture(&bytes, pixels.channels().count());
        let mut mask = self.raw.finish(&picture)?;
        if let Kept::Some(weights) = kept {
            let weights = Mask {
                width: self.small.width,
                height: self.small.height,
                alpha: weights.clone(),
            };
            weigh(&mut mask, &weights);
        }
        if pixels.channels() == Channels::Rgba {
            for (alpha, pixel) in mask.alpha.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *alpha = multiply(*alpha, pixel[3]);
            }
        }
        let alpha = self.frame.paste(mask.alpha, pixels);
        Ok(Raster::new(
            pixels.width(),
            pixels.height(),
            Channels::Gray,
            alpha,
        )?)
    }
}

/// Multiplies a matte with weights of another size, between which lines are drawn.
pub(super) fn weigh(mask: &mut Mask, weights: &Mask) {
    let (width, height) = (weights.width as usize, weights.height as usize);
    let along = |at: usize, length: usize, count: usize| {
        let middle = (at as f32 + 0.5) * count as f32 / length as f32 - 0.5;
        let middle = middle.clamp(0.0, (count - 1) as f32);
        let first = middle as usize;
        (first, (first + 1).min(count - 1), middle - first as f32)
    };
    let (columns, rows) = (mask.width as usize, mask.height as usize);
    for (y, row) in mask.alpha.chunks_exact_mut(columns).enumerate() {
        let (above, below, lower) = along(y, rows, height);
        for (x, alpha) in row.iter_mut().enumerate() {
            if *alpha == 0 {
                continue;
            }
            let (left, right, further) = along(x, columns, width);
            let weight = |x: usize, y: usize| f32::from(weights.alpha[y * width + x]);
            let upper = weight(left, above) * (1.0 - further) + weight(right, above) * further;
            let under = weight(left, below) * (1.0 - further) + weight(right, below) * further;
            *alpha = multiply(
                *alpha,
                (upper * (1.0 - lower) + under * lower).round() as u8,
            );
        }
    }
}

/// How decided a matte is, 0 to 1: a subject that is opaque everywhere is 1, one that is half there is 0.
pub(super) fn certainty(alpha: &[u8]) -> f32 {
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

    #[test]
    fn weights_are_drawn_out_to_the_mattes_size() {
        let mut mask = Mask {
            width: 4,
            height: 2,
            alpha: vec![255, 255, 200, 255, 0, 255, 200, 255],
        };
        let weights = Mask {
            width: 2,
            height: 1,
            alpha: vec![0, 255],
        };
        weigh(&mut mask, &weights);
        assert_eq!(mask.alpha, [0, 64, 150, 255, 0, 64, 150, 255]);
    }
}
