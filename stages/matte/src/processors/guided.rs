//! The processor for networks that take a trimap, such as ViTMatte: with the trimap that came with the picture, or with one that is
//! made of the coarse matte of the network that the quality stands for.
//!
//! Invariant: what a given trimap says of a pixel is kept; the picture's own alpha makes it no more opaque than it was.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use atelier_models::{
    Guided as Network, Mask, Segmenter,
    segment::{NO_SUBJECT_PEAK, NetworkRun, trimap_of_coarse},
};
use atelier_runtime::telemetry;
use atelier_schemas::{
    Matting,
    events::ModelUse,
    matting::{Step, TrimapOrigin, TrimapUse},
};
use atelier_stores::{Raster, raster::Channels};
use tokio::task::spawn_blocking;

use super::{
    GivenTrimap, Job, Matted, Processor,
    general::NOTHING,
    multiply,
    networks::{Engine, certainty},
    picture, whole,
};
use crate::{MatteError, Segmenters, solve::count_unknown};

/// To be raised with every change after which the same picture, trimap and networks give another matte.
const VERSION: u32 = 1;

/// Mattes within a trimap by a network.
pub struct Guided {
    engine: Arc<Engine>,
}

/// What the networks gave.
struct Made {
    alpha: Raster,
    trimap: TrimapUse,
    runs: Vec<NetworkRun>,
    steps: Vec<Step>,
    /// How sure the coarse network is that there is a subject; 1 where a trimap says so.
    peak: f32,
}

impl Guided {
    /// The processor over networks.
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// The network of a job, and the one that makes its trimap where none was given. Blocking where one is to be loaded.
    fn networks(
        segmenters: &Segmenters,
        job: &Job,
    ) -> Result<(Arc<Network>, Option<Arc<Segmenter>>), MatteError> {
        let network = segmenters.guided(&job.model)?;
        let coarse = match job.trimap {
            Some(_) => None,
            None => Some(segmenters.get(&job.coarse_model)?),
        };
        Ok((network, coarse))
    }
}

#[async_trait]
impl Processor for Guided {
    fn name(&self) -> &'static str {
        "guided"
    }

    async fn recipe(&self, job: &Job) -> Result<Option<String>, MatteError> {
        let (segmenters, job) = (Arc::clone(&self.engine.segmenters), job.clone());
        let recipe = spawn_blocking(move || {
            let (network, coarse) = Self::networks(&segmenters, &job)?;
            let sessions = [
                Some(network.session()),
                coarse.as_ref().map(|one| one.session()),
            ];
            let names = sessions.into_iter().flatten().map(|session| {
                let (name, file) = (session.name(), session.file_identity());
                format!("{name} {file} {}", session.provider())
            });
            let trimap = job.trimap.map(|trimap| trimap.key.to_string());
            let parts: Vec<String> = names.chain(trimap).collect();
            Ok::<_, MatteError>(parts.join(" + "))
        });
        Ok(Some(format!("guided {VERSION} {}", recipe.await??)))
    }

    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        let kind = job.classification.kind;
        let name = job.model.clone();
        let segmenters = Arc::clone(&self.engine.segmenters);
        let to_load = job.clone();
        let (network, coarse) =
            spawn_blocking(move || Self::networks(&segmenters, &to_load)).await??;
        let provider = network.session().provider().as_str();
        let to_work_on = Arc::clone(&pixels);
        let work = move || {
            work(
                &network,
                coarse.as_deref(),
                job.trimap.as_ref(),
                &to_work_on,
            )
        };
        let made = self.engine.run(work).await?;
        for run in &made.runs {
            telemetry::model_ran("matte", &run.model, run.provider.as_str(), run.elapsed);
        }
        let inference_ms = made.runs.iter().map(|run| run.elapsed.as_secs_f64() * 1e3);
        let model = ModelUse {
            name,
            provider: provider.to_owned(),
            inference_ms: inference_ms.sum(),
            processor: self.name().to_owned(),
            reused: false,
        };
        let matting = Matting {
            steps: made.steps,
            trimap: Some(made.trimap),
            ..Matting::by(kind, certainty(made.alpha.data()))
        };
        if made.peak < NO_SUBJECT_PEAK {
            let matting = Matting {
                confidence: 0.0,
                ..matting
            };
            return whole(&pixels, model, matting, NOTHING);
        }
        Ok(Matted {
            alpha: made.alpha,
            foreground: None,
            model,
            matting,
        })
    }
}

/// Runs the networks. Blocking.
fn work(
    network: &Network,
    coarse: Option<&Segmenter>,
    given: Option<&GivenTrimap>,
    pixels: &Raster,
) -> Result<Made, MatteError> {
    let picture = picture(pixels);
    let (mut runs, mut steps, mut peak) = (Vec::new(), Vec::new(), 1.0);
    let mut ran = |run: NetworkRun| {
        steps.push(Step {
            name: run.model.clone(),
            ms: run.elapsed.as_secs_f64() * 1e3,
        });
        runs.push(run);
    };
    let (trimap, origin) = match (given, coarse) {
        (Some(given), _) => (mask_of(&given.levels), TrimapOrigin::Given),
        (None, Some(coarse)) => {
            let raw = coarse.infer(&coarse.prepare(&picture)?)?;
            ran(NetworkRun::of(coarse.session(), raw.elapsed));
            peak = coarse.peak(&raw);
            let (width, height) = network.working_size(&picture);
            let made = trimap_of_coarse(&coarse.finish(&raw, width, height)?);
            (made, TrimapOrigin::Made)
        }
        (None, None) => return Err(MatteError::NoTrimap),
    };
    let raw = network.infer(&picture, &trimap)?;
    ran(NetworkRun::of(network.session(), raw.elapsed));
    let finishing = Instant::now();
    let given = (origin == TrimapOrigin::Given).then_some(&trimap);
    let Mask {
        width,
        height,
        mut alpha,
    } = network.finish(raw, &picture, given)?;
    if pixels.channels() == Channels::Rgba {
        for (alpha, pixel) in alpha.iter_mut().zip(pixels.data().as_chunks::<4>().0) {
            *alpha = multiply(*alpha, pixel[3]);
        }
    }
    steps.push(Step {
        name: "finish".to_owned(),
        ms: finishing.elapsed().as_secs_f64() * 1e3,
    });
    let unknown = count_unknown(&trimap.alpha);
    Ok(Made {
        alpha: Raster::new(width, height, Channels::Gray, alpha)?,
        trimap: TrimapUse {
            origin,
            unknown_share: unknown as f32 / trimap.alpha.len().max(1) as f32,
        },
        runs,
        steps,
        peak,
    })
}

fn mask_of(levels: &Raster) -> Mask {
    Mask {
        width: levels.width(),
        height: levels.height(),
        alpha: levels.data().to_vec(),
    }
}
