//! The processor for people.
//!
//! `classify` found faces and bodies; the pose network tells what of the picture is whose. That chooses the subject, and where the
//! networks look: at the chosen people, where these are small in the picture, and further around where what is theirs goes on (an
//! umbrella, a train, a lead), lest it end in a straight line. In quality high their bodies are evidence beside what the networks see: shadows and what stands behind them are not taken for them, and no sleeve is lost on a white wall. What
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
    general::{NOTHING, NOTHING_WITHIN, boxes_identity, keeps_own_alpha, shown},
    networks::{Engine, Evidence, Log, Look, Networks, certainty},
    subject::{Kept, People, kept},
    whole,
};
use crate::MatteError;

/// To be raised with every change after which the same picture gives another matte.
const VERSION: u32 = 3;

/// People whose longest side is at most this share of the picture's are looked at by themselves.
const SMALL_SHARE: f32 = 0.6;

/// Room around them, as a share of their longest side: for what they hold and carry.
const ROOM_SHARE: f32 = 0.25;

/// What stands before the names of a wider look's steps.
const WIDER_LOOK: &str = "wider look: ";

/// Whether who is where decides anything.
fn needs_people(networks: &Networks, job: &Job) -> bool {
    networks.are_the_best() || !job.subject.is_all()
}

/// The people of a picture, and which of them are the subject.
struct Scene {
    pixels: Arc<Raster>,
    networks: Arc<Networks>,
    crowd: Arc<Crowd>,
    chosen: Vec<usize>,
    subject: SubjectChoice,
}

/// What a look at them gave.
struct Seen {
    look: Look,
    kept: Kept,
    /// Whether it shows the people who are the subject.
    shows_them: bool,
    /// More of the picture, where what is kept goes on beyond the look's frame.
    wider: Option<Frame>,
}

impl Scene {
    /// Where the networks look first: at the people, where they are small in the picture.
    fn frame(&self) -> Frame {
        let whole = Frame::whole(&self.pixels);
        let bounds = self.crowd.bounds(&self.chosen);
        let small = bounds.filter(|bounds| {
            self.networks.are_the_best() && bounds.longest() <= SMALL_SHARE * whole.longest() as f32
        });
        small.map_or(whole, |bounds| {
            Frame::with_room(&bounds, ROOM_SHARE, &self.pixels)
        })
    }

    /// What the bodies say of a matte.
    fn evidence(&self) -> Option<Evidence> {
        let (crowd, chosen) = (Arc::clone(&self.crowd), self.chosen.clone());
        let evidence =
            Arc::new(move |matte: &_, frame: &_| crowd.evidence(&chosen, matte, frame)) as Evidence;
        (!self.chosen.is_empty()).then_some(evidence)
    }

    /// Chooses what is kept of a look. Blocking.
    fn pick(&self, look: Look) -> Seen {
        let seen = self.crowd.seen(&self.chosen, &look.small, &look.frame);
        let people = People {
            masks: self.crowd.masks(),
            chosen: self.chosen.clone(),
        };
        let kept = kept(
            &look.small,
            &look.frame,
            &self.pixels,
            &self.subject,
            &people,
        );
        let wider = shown(&look.small, &kept)
            .and_then(|shown| look.frame.further_out(&shown, &self.pixels));
        Seen {
            look,
            kept,
            shows_them: !seen.is_empty(),
            wider,
        }
    }

    /// Whether something else than the people stands out in a look, as far as bodies have a say.
    fn is_of_others(&self, seen: &Seen) -> bool {
        !self.chosen.is_empty() && !seen.shows_them && self.networks.are_the_best()
    }
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
        let scene = Arc::new(Scene {
            chosen: crowd.chosen(&job.subject, &pixels),
            crowd: Arc::clone(&crowd),
            networks: Arc::clone(&networks),
            pixels: Arc::clone(&pixels),
            subject: job.subject,
        });
        let report = |log: &Log, confidence: f32| {
            let mut matting = Matting::by(Kind::Portrait, confidence);
            matting.steps.clone_from(&log.steps);
            matting.measured.faces = job.classification.evidence.faces.clone();
            matting.measured.key_points = crowd.key_points(&pixels);
            matting.measured.boxes = crowd.boxes(&job.classification.evidence);
            matting
        };
        let model = |log: &Log| log.model_use(&networks, self.name());
        let seen = self.see(&scene, scene.frame(), (&mut log, "")).await?;
        if seen.look.is_of_nothing() {
            return whole(&pixels, model(&log), report(&log, 0.0), NOTHING);
        }
        if scene.is_of_others(&seen) {
            let reason = "the people in it are not what stands out";
            return self.hand_on(job, pixels, reason).await;
        }
        let seen = self.see_all_of_it(&scene, seen, &mut log).await?;
        if seen.kept == Kept::Nothing {
            return whole(&pixels, model(&log), report(&log, 0.0), NOTHING_WITHIN);
        }
        let alpha = self
            .engine
            .finish(seen.look, seen.kept, Arc::clone(&pixels), &mut log)
            .await?;
        Ok(Matted {
            matting: report(&log, certainty(alpha.data())),
            model: model(&log),
            alpha,
            foreground: None,
        })
    }

    /// Looks at a part of the picture, and chooses what is kept of it; `prefix` tells its steps from those of other looks.
    async fn see(
        &self,
        scene: &Arc<Scene>,
        frame: Frame,
        (log, prefix): (&mut Log, &str),
    ) -> Result<Seen, MatteError> {
        let (networks, pixels) = (&scene.networks, &scene.pixels);
        let look = self
            .engine
            .look(networks, pixels, frame, scene.evidence(), (log, prefix))
            .await?;
        let began = Instant::now();
        let picking = Arc::clone(scene);
        let seen = spawn_blocking(move || picking.pick(look)).await?;
        if !scene.subject.is_all() {
            log.step(&format!("{prefix}subject"), began);
        }
        Ok(seen)
    }

    /// Looks again where what is kept goes on beyond the look's frame, which would cut it in a straight line: first as far again on
    /// those sides, then at the whole picture. A wider look counts only where it shows the people, too.
    async fn see_all_of_it(
        &self,
        scene: &Arc<Scene>,
        mut seen: Seen,
        log: &mut Log,
    ) -> Result<Seen, MatteError> {
        for is_last in [false, true] {
            let Some(wider) = seen.wider else {
                break;
            };
            let frame = if is_last {
                Frame::whole(&scene.pixels)
            } else {
                wider
            };
            let again = self.see(scene, frame, (&mut *log, WIDER_LOOK)).await?;
            if again.look.is_of_nothing() || !again.shows_them {
                break;
            }
            seen = again;
        }
        Ok(seen)
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
