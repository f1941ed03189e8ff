//! The processor for persons and things: segmentation networks, or the picture's own alpha.
//!
//! Quality high is IS-Net, U²-Netp where that is in doubt, and the refiner over both; the others, and a model that was named,
//! are one network whose matte's edge is fitted to the picture's.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use atelier_models::{
    Picture, Refiner, Segmenter,
    segment::{NO_SUBJECT_PEAK, NetworkRun, Prepared, RawMatte, RawRefined, refine},
};
use atelier_runtime::telemetry;
use atelier_schemas::{
    Kind, Matting, Quality,
    events::{ModelUse, Strategy},
    matting::Step,
};
use atelier_stores::{Raster, raster::Channels};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Job, Matted, Processor, certainty, multiply, own_alpha, picture, whole};
use crate::{MatteError, Segmenters, model_for};

/// What stands in events as the model where the picture's own alpha was kept.
const OWN_ALPHA: &str = "own-alpha";

/// To be raised with every change after which the same picture and network give another matte: those made before are not used
/// again then.
const VERSION: u32 = 2;

/// Cuts out what stands out, whatever it is.
pub struct General {
    segmenters: Arc<Segmenters>,
    /// One permit for each run of a network.
    runs: Arc<Semaphore>,
}

impl General {
    /// The processor over loaded models, with the runs that others have a part in.
    pub fn new(segmenters: Arc<Segmenters>, runs: Arc<Semaphore>) -> Self {
        Self { segmenters, runs }
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
        job: Job,
        kind: Kind,
    ) -> Result<Matted, MatteError> {
        let started = Instant::now();
        let segmenters = Arc::clone(&self.segmenters);
        let to_prepare = Arc::clone(&pixels);
        let (networks, prepared) = spawn_blocking(move || {
            let networks = Networks::of(&segmenters, &job)?;
            let prepared = networks.first().prepare(&picture(&to_prepare))?;
            Ok::<_, MatteError>((networks, prepared))
        })
        .await??;
        let prepared_ms = milliseconds(started);
        // Waiting here and not in the session keeps the blocking threads free for the pictures before and after.
        let run = self
            .runs
            .acquire()
            .await
            .map_err(|_| MatteError::ShuttingDown)?;
        let to_run = Arc::clone(&pixels);
        let name = networks.first().session().name().to_owned();
        let provider = networks.first().session().provider().as_str();
        let raw = spawn_blocking(move || networks.run(&picture(&to_run), &prepared)).await??;
        drop(run);
        let mut steps = vec![step("prepare", prepared_ms)];
        for run in raw.runs() {
            telemetry::model_ran("matte", &run.model, run.provider.as_str(), run.elapsed);
            steps.push(step(&run.model, run.elapsed.as_secs_f64() * 1e3));
        }
        let inference_ms = steps[1..].iter().map(|step| step.ms).sum();
        let model = self.model_use(&name, provider, inference_ms);
        if raw.peak() < NO_SUBJECT_PEAK {
            let matting = Matting {
                steps,
                ..Matting::by(kind, 0.0)
            };
            let reason = "no network sees anything that stands out from its background";
            return whole(&pixels, model, matting, reason);
        }
        let finishing = Instant::now();
        let alpha = spawn_blocking(move || raw.finish(&pixels)).await??;
        steps.push(step("finish", milliseconds(finishing)));
        Ok(Matted {
            matting: Matting {
                steps,
                ..Matting::by(kind, certainty(alpha.data()))
            },
            alpha,
            foreground: None,
            model,
        })
    }
}

/// What makes a matte.
enum Networks {
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

    fn first(&self) -> &Segmenter {
        match self {
            Self::Plain(first) | Self::Refined(first, ..) => first,
        }
    }

    /// Names all of them, so that another file or provider is another name.
    fn identity(&self) -> String {
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
    fn run(self, picture: &Picture<'_>, prepared: &Prepared) -> Result<Raw, MatteError> {
        Ok(match self {
            Self::Plain(first) => {
                let raw = first.infer(prepared)?;
                Raw::Plain(first, raw)
            }
            Self::Refined(first, second, refiner) => {
                let raw = refiner.infer(picture, prepared, &first, &second)?;
                Raw::Refined(refiner, raw)
            }
        })
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

    /// The matte at the picture's size; what was transparent in the picture stays so.
    fn finish(&self, pixels: &Raster) -> Result<Raster, MatteError> {
        let mut mask = match self {
            Self::Plain(first, raw) => {
                let mut mask = first.finish(raw, pixels.width(), pixels.height())?;
                refine(&picture(pixels), &mut mask)?;
                mask
            }
            Self::Refined(refiner, raw) => refiner.finish(raw, &picture(pixels))?,
        };
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
        let (segmenters, job) = (Arc::clone(&self.segmenters), job.clone());
        let networks = spawn_blocking(move || Networks::of(&segmenters, &job)).await??;
        Ok(Some(format!(
            "{} {VERSION} {}",
            self.name(),
            networks.identity()
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
        self.segment(pixels, job, kind).await
    }
}

/// Who names a model wants that model's matte, also of a picture that could keep its own.
pub(super) fn keeps_own_alpha(job: &Job) -> bool {
    job.classification.strategy == Strategy::KeepAlpha && !job.model_was_named
}

fn step(name: &str, ms: f64) -> Step {
    Step {
        name: name.to_owned(),
        ms,
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
