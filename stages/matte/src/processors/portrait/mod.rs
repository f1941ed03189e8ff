//! The processor for people.
//!
//! `classify` found faces and bodies; the pose network tells what of the picture is whose. That chooses the subject, and where the
//! networks look: at the chosen people, where these are small in the picture. In quality high their bodies are evidence beside
//! what the networks see: shadows and what stands behind them are not taken for them, and no sleeve is lost on a white wall. What
//! the networks are sure of stays, so that bags and held things, which are no bodies, belong to the person. Around a head the refiner
//! may open the matte further inside, for hair that can be seen through.
//!
//! A picture in which nobody is found, or in which the people are not what stands out, goes to the processor for things, and the
//! report says so.

mod hair;
pub(super) mod people;

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use atelier_models::pose::together;
use atelier_schemas::{Kind, Matting, SubjectChoice, matting::FellBack};
use atelier_stores::Raster;
use tokio::task::spawn_blocking;

use self::people::{Crowd, candidates};
use super::{
    General, Job, Matted, Processor,
    frame::Frame,
    general::{NOTHING, NOTHING_WITHIN, boxes_identity, keeps_own_alpha},
    networks::{Engine, Evidence, Log, Look, Networks, certainty},
    subject::{Kept, People, kept},
    whole,
};
use crate::MatteError;

/// To be raised with every change after which the same picture gives another matte.
const VERSION: u32 = 2;

/// People whose longest side is at most this share of the picture's are looked at by themselves.
const SMALL_SHARE: f32 = 0.6;

/// Room around them, as a share of their longest side: for what they hold and carry.
const ROOM_SHARE: f32 = 0.25;

/// Whether who is where decides anything.
fn needs_people(networks: &Networks, job: &Job) -> bool {
    networks.are_the_best() || !job.subject.is_all()
}

/// Whether the chosen people are what a look shows, what of it is kept, and the look again.
async fn pick(
    crowd: &Arc<Crowd>,
    chosen: &[usize],
    subject: SubjectChoice,
    look: Look,
    pixels: &Arc<Raster>,
) -> Result<(bool, Kept, Look), MatteError> {
    let (crowd, chosen, pixels) = (Arc::clone(crowd), chosen.to_vec(), Arc::clone(pixels));
    let picked = spawn_blocking(move || {
        let seen = crowd.seen(&chosen, &look.small, &look.frame);
        let people = People {
            masks: crowd.masks(),
            chosen,
        };
        let is_kept = kept(&look.small, &look.frame, &pixels, &subject, &people);
        (!seen.is_empty(), is_kept, look)
    });
    Ok(picked.await?)
}

/// Cuts people out, with what they hold.
pub struct Portrait {
    engine: Arc<Engine>,
    /// Works on what shows nobody.
    otherwise: Arc<General>,
}

impl Portrait {
    /// The processor over networks; what shows nobody goes to `otherwise`.
    pub(super) fn new(engine: Arc<Engine>, otherwise: Arc<General>) -> Self {
        Self { engine, otherwise }
    }

    async fn hand_on(
        &self,
        mut job: Job,
        pixels: Arc<Raster>,
        reason: &str,
    ) -> Result<Matted, MatteError> {
        let faces = std::mem::take(&mut job.classification.evidence.faces);
        job.classification.kind = Kind::Product;
        let mut matted = self.otherwise.matte(job, pixels).await?;
        matted.matting.measured.faces = faces;
        matted.matting.fell_back = Some(FellBack {
            from: Kind::Portrait,
            reason: reason.to_owned(),
        });
        Ok(matted)
    }

    /// Finds the people, where that decides anything.
    async fn crowd(
        &self,
        job: &Job,
        networks: &Networks,
        pixels: &Arc<Raster>,
        log: &mut Log,
    ) -> Result<Option<Crowd>, MatteError> {
        if !needs_people(networks, job) {
            return Ok(None);
        }
        let (segmenters, pixels) = (Arc::clone(&self.engine.segmenters), Arc::clone(pixels));
        let candidates = candidates(&job.classification.evidence, &pixels);
        let crowd = self
            .engine
            .run(move || Crowd::find(segmenters.pose()?.as_ref(), &candidates, &pixels))
            .await?;
        if let Some(runs) = together(&crowd.runs) {
            log.run("", &runs);
        }
        Ok(Some(crowd))
    }

    async fn cut(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        if candidates(&job.classification.evidence, &pixels).is_empty() {
            return self.hand_on(job, pixels, "nobody was found in it").await;
        }
        let networks = self.engine.networks(&job).await?;
        let mut log = Log::default();
        let found = self.crowd(&job, &networks, &pixels, &mut log).await?;
        if found.as_ref().is_some_and(|crowd| crowd.people.is_empty()) {
            let reason = "what looked like a person in it is none";
            return self.hand_on(job, pixels, reason).await;
        }
        let crowd = Arc::new(found.unwrap_or_default());
        let chosen = crowd.chosen(&job.subject, &pixels);
        let whole_picture = Frame::whole(&pixels);
        let small = crowd.bounds(&chosen).filter(|bounds| {
            networks.are_the_best()
                && bounds.longest() <= SMALL_SHARE * whole_picture.longest() as f32
        });
        let frame = small.map_or(whole_picture, |bounds| {
            Frame::with_room(&bounds, ROOM_SHARE, &pixels)
        });
        let evidence = (!chosen.is_empty()).then(|| {
            let (crowd, chosen) = (Arc::clone(&crowd), chosen.clone());
            Arc::new(move |matte: &_, frame: &_| crowd.evidence(&chosen, matte, frame)) as Evidence
        });
        let look = self
            .engine
            .look(&networks, &pixels, frame, evidence, (&mut log, ""))
            .await?;
        let report = |log: &Log, confidence: f32| {
            let mut matting = Matting::by(Kind::Portrait, confidence);
            matting.steps.clone_from(&log.steps);
            matting.measured.faces = job.classification.evidence.faces.clone();
            matting.measured.key_points = crowd.key_points(&pixels);
            matting.measured.boxes = crowd.boxes(&job.classification.evidence);
            matting
        };
        let model = |log: &Log| log.model_use(&networks, self.name());
        if look.is_of_nothing() {
            return whole(&pixels, model(&log), report(&log, 0.0), NOTHING);
        }
        let began = Instant::now();
        let (is_seen, is_kept, look) = pick(&crowd, &chosen, job.subject, look, &pixels).await?;
        if !chosen.is_empty() && !is_seen && networks.are_the_best() {
            let reason = "the people in it are not what stands out";
            return self.hand_on(job, pixels, reason).await;
        }
        if !job.subject.is_all() {
            log.step("subject", began);
        }
        if is_kept == Kept::Nothing {
            return whole(&pixels, model(&log), report(&log, 0.0), NOTHING_WITHIN);
        }
        let alpha = self
            .engine
            .finish(look, is_kept, Arc::clone(&pixels), &mut log)
            .await?;
        Ok(Matted {
            matting: report(&log, certainty(alpha.data())),
            model: model(&log),
            alpha,
            foreground: None,
        })
    }
}

#[async_trait]
impl Processor for Portrait {
    fn name(&self) -> &'static str {
        "portrait"
    }

    async fn recipe(&self, job: &Job) -> Result<Option<String>, MatteError> {
        let Some(otherwise) = self.otherwise.recipe(job).await? else {
            return Ok(None);
        };
        let networks = self.engine.networks(job).await?;
        let pose = if needs_people(&networks, job) {
            let segmenters = Arc::clone(&self.engine.segmenters);
            let pose = spawn_blocking(move || segmenters.pose()).await??;
            pose.session().file_identity().to_owned()
        } else {
            "nobody looked for".to_owned()
        };
        // Whether it shows somebody is not known yet.
        Ok(Some(format!(
            "{} {VERSION} {pose} faces {} or {otherwise}",
            self.name(),
            boxes_identity(&job.classification.evidence.faces),
        )))
    }

    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        if keeps_own_alpha(&job) {
            return self.otherwise.matte(job, pixels).await;
        }
        self.cut(job, pixels).await
    }
}
