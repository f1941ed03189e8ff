//! The processor for networks that take a trimap, such as ViTMatte: with the trimap that came with the picture, or with one that is
//! made of the coarse matte of the network that the quality stands for. That is not sure of hair: around the heads of a portrait, which
//! the pose network knows, more is left unknown.
//!
//! Invariant: what a given trimap says of a pixel is kept; the picture's own alpha makes it no more opaque than it was.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use atelier_models::{
    BodySquare, Guided as Network, Mask, Pose, Segmenter,
    pose::together,
    segment::{NO_SUBJECT_PEAK, NetworkRun, trimap_of_coarse},
};
use atelier_runtime::telemetry;
use atelier_schemas::{
    Kind, Matting,
    events::ModelUse,
    matting::{KeyPoint, Step, TrimapOrigin, TrimapUse},
};
use atelier_stores::{Raster, raster::Channels};
use tokio::task::spawn_blocking;

use super::{
    Job, Matted, Processor,
    frame::Frame,
    general::{NOTHING, boxes_identity},
    multiply,
    networks::{Engine, certainty},
    picture,
    portrait::people::{Crowd, candidates},
    whole,
};
use crate::{MatteError, Segmenters, solve::count_unknown};

/// To be raised with every change after which the same picture, trimap and networks give another matte.
const VERSION: u32 = 2;

/// Mattes within a trimap by a network.
pub struct Guided {
    engine: Arc<Engine>,
}

/// The networks of a job.
struct Networks {
    guided: Arc<Network>,
    /// What the trimap is made with, where none was given.
    own: Option<TrimapMakers>,
}

/// The networks that a trimap is made with.
struct TrimapMakers {
    coarse: Arc<Segmenter>,
    /// Knows where heads are; only for portraits.
    pose: Option<Arc<Pose>>,
}

/// What the networks gave.
struct Made {
    alpha: Raster,
    trimap: TrimapUse,
    runs: Vec<NetworkRun>,
    steps: Vec<Step>,
    key_points: Vec<KeyPoint>,
    /// How sure the coarse network is that there is a subject; 1 where a trimap says so.
    peak: f32,
}

/// A trimap that was made, and what was measured on the way.
struct Trimap {
    levels: Mask,
    key_points: Vec<KeyPoint>,
    peak: f32,
}

impl Guided {
    /// The processor over networks.
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

impl Networks {
    /// Blocking where one is to be loaded.
    fn of(segmenters: &Segmenters, job: &Job) -> Result<Self, MatteError> {
        let guided = segmenters.guided(&job.model)?;
        if job.trimap.is_some() {
            return Ok(Self { guided, own: None });
        }
        let is_portrait = job.classification.kind == Kind::Portrait;
        let own = TrimapMakers {
            coarse: segmenters.get(&job.coarse_model)?,
            pose: is_portrait.then(|| segmenters.pose()).transpose()?,
        };
        Ok(Self {
            guided,
            own: Some(own),
        })
    }

    /// Names all of them, so that another file or provider is another name.
    fn identity(&self) -> String {
        let own = self.own.as_ref();
        let sessions = [
            Some(self.guided.session()),
            own.map(|own| own.coarse.session()),
            own.and_then(|own| own.pose.as_ref())
                .map(|pose| pose.session()),
        ];
        let names = sessions.into_iter().flatten().map(|session| {
            let (name, file) = (session.name(), session.file_identity());
            format!("{name} {file} {}", session.provider())
        });
        names.collect::<Vec<_>>().join(" + ")
    }
}

impl TrimapMakers {
    /// A trimap of `width` × `height` pixels; `heads` are where somebody may be. Blocking.
    fn trimap(
        &self,
        pixels: &Raster,
        (width, height): (u32, u32),
        heads: &[BodySquare],
        mut ran: impl FnMut(NetworkRun),
    ) -> Result<Trimap, MatteError> {
        let coarse = &self.coarse;
        let raw = coarse.infer(&coarse.prepare(&picture(pixels))?)?;
        ran(NetworkRun::of(coarse.session(), raw.elapsed));
        let matte = coarse.finish(&raw, width, height)?;
        let crowd = match &self.pose {
            Some(pose) => Crowd::find(pose, heads, pixels)?,
            None => Crowd::default(),
        };
        if let Some(runs) = together(&crowd.runs) {
            ran(runs);
        }
        let frame = Frame::whole(pixels);
        let seen = crowd.seen(&crowd.everybody(), &matte, &frame);
        let hair_px = crowd.hair_px(&seen, &matte, &frame);
        Ok(Trimap {
            levels: trimap_of_coarse(&matte, &hair_px),
            key_points: crowd.key_points(pixels),
            peak: coarse.peak(&raw),
        })
    }
}

#[async_trait]
impl Processor for Guided {
    fn name(&self) -> &'static str {
        "guided"
    }

    async fn recipe(&self, job: &Job) -> Result<Option<String>, MatteError> {
        let (segmenters, to_load) = (Arc::clone(&self.engine.segmenters), job.clone());
        let networks = spawn_blocking(move || Networks::of(&segmenters, &to_load)).await??;
        let knows = match &job.trimap {
            Some(trimap) => trimap.key.to_string(),
            None => format!(
                "faces {} boxes {}",
                boxes_identity(&job.classification.evidence.faces),
                boxes_identity(&job.classification.evidence.objects),
            ),
        };
        let networks = networks.identity();
        Ok(Some(format!("guided {VERSION} {networks} {knows}")))
    }

    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        let kind = job.classification.kind;
        let name = job.model.clone();
        let (segmenters, to_load) = (Arc::clone(&self.engine.segmenters), job.clone());
        let networks = spawn_blocking(move || Networks::of(&segmenters, &to_load)).await??;
        let provider = networks.guided.session().provider().as_str();
        let to_work_on = Arc::clone(&pixels);
        let made = self
            .engine
            .run(move || work(&networks, &job, &to_work_on))
            .await?;
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
        let mut matting = Matting {
            steps: made.steps,
            trimap: Some(made.trimap),
            ..Matting::by(kind, certainty(made.alpha.data()))
        };
        matting.measured.key_points = made.key_points;
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
fn work(networks: &Networks, job: &Job, pixels: &Raster) -> Result<Made, MatteError> {
    let (picture, network) = (picture(pixels), &networks.guided);
    let (mut runs, mut steps) = (Vec::new(), Vec::new());
    let mut ran = |run: NetworkRun| {
        steps.push(Step {
            name: run.model.clone(),
            ms: run.elapsed.as_secs_f64() * 1e3,
        });
        runs.push(run);
    };
    let (trimap, origin) = match (&job.trimap, &networks.own) {
        (Some(given), _) => {
            let trimap = Trimap {
                levels: mask_of(&given.levels),
                key_points: Vec::new(),
                peak: 1.0,
            };
            (trimap, TrimapOrigin::Given)
        }
        (None, Some(own)) => {
            let heads = candidates(&job.classification.evidence, pixels);
            let size = network.working_size(&picture);
            let trimap = own.trimap(pixels, size, &heads, &mut ran)?;
            (trimap, TrimapOrigin::Made)
        }
        (None, None) => return Err(MatteError::NoTrimap),
    };
    let Trimap {
        levels: trimap,
        key_points,
        peak,
    } = trimap;
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
        key_points,
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
