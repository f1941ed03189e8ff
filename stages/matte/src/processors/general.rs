//! The processor for things, and for whatever stands out: segmentation networks, or the picture's own alpha.
//!
//! In quality high, a thing that is small in a large picture is looked at a second time: the networks shrink a picture before they look,
//! and see little of it in the first. The second look counts only where it sees the same thing, and all of it.

use std::sync::Arc;

use async_trait::async_trait;
use atelier_models::{
    Mask,
    segment::{LONGEST_SIDE_PX, working_size},
};
use atelier_schemas::{
    Kind, Matting, SubjectChoice,
    events::{Classification, Detection, ModelUse, Strategy},
};
use atelier_stores::{Raster, raster::Channels};
use tokio::task::spawn_blocking;

use super::{
    Job, Matted, Processor,
    frame::{Frame, Rect},
    networks::{Engine, Log, Look, certainty, weigh},
    own_alpha,
    subject::{Kept, People, components, kept},
    whole,
};
use crate::MatteError;

/// What stands in events as the model where the picture's own alpha was kept.
const OWN_ALPHA: &str = "own-alpha";

/// To be raised with every change after which the same picture and network give another matte: those made before are not used
/// again then.
const VERSION: u32 = 5;

/// A subject whose longest side is at most this share of the picture's is looked at a second time.
const SMALL_SHARE: f32 = 0.5;

/// Room around it, as a share of its longest side: the networks tell a thing by what is around it.
const ROOM_SHARE: f32 = 0.25;

/// Overlap (intersection over union) from which two looks see the same thing.
const SAME: f32 = 0.7;

/// The same of what a detector found and what the networks see.
const SAME_BOX: f32 = 0.5;

/// Parts of a matte that are smaller than this share of the largest do not count for where the subject is.
const CRUMB_SHARE: f32 = 0.1;

/// What stands before the names of a second look's steps.
const SECOND_LOOK: &str = "second look: ";

/// What is said where a rectangle holds no subject.
pub(super) const NOTHING_WITHIN: &str =
    "nothing that stands out lies in the rectangle of `subject`";

/// What is said where there is no subject.
pub(super) const NOTHING: &str = "no network sees anything that stands out from its background";

/// Cuts out what stands out, whatever it is.
pub struct General {
    engine: Arc<Engine>,
}

impl General {
    /// The processor over networks.
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn segment(
        &self,
        pixels: Arc<Raster>,
        job: Job,
        kind: Kind,
    ) -> Result<Matted, MatteError> {
        let networks = self.engine.networks(&job).await?;
        let mut log = Log::default();
        let frame = Frame::whole(&pixels);
        let mut look = self
            .engine
            .look(&networks, &pixels, frame, None, (&mut log, ""))
            .await?;
        let report = |log: &Log, confidence: f32, boxes: &[Detection]| {
            let mut matting = Matting::by(kind, confidence);
            matting.steps.clone_from(&log.steps);
            matting.measured.boxes = boxes.to_vec();
            matting
        };
        let model = |log: &Log| log.model_use(&networks, self.name());
        if look.is_of_nothing() {
            return whole(&pixels, model(&log), report(&log, 0.0, &[]), NOTHING);
        }
        let subject = job.subject;
        let (mut is_kept, to_keep) = self.keep(look, &pixels, subject).await?;
        look = to_keep;
        let found = bounds(&look, &is_kept);
        let boxes = found.map_or_else(Vec::new, |found| boundaries(&found, &job.classification));
        if networks.are_the_best()
            && let Some(frame) = second_frame(&boxes, &pixels)
        {
            let second = self
                .engine
                .look(&networks, &pixels, frame, None, (&mut log, SECOND_LOOK))
                .await?;
            let (kept_second, second) = self.keep(second, &pixels, subject).await?;
            if is_the_same((&look, &is_kept), (&second, &kept_second), &pixels) {
                (look, is_kept) = (second, kept_second);
            }
        }
        if is_kept == Kept::Nothing {
            let matting = report(&log, 0.0, &boxes);
            return whole(&pixels, model(&log), matting, NOTHING_WITHIN);
        }
        let alpha = self.engine.finish(look, is_kept, pixels, &mut log).await?;
        Ok(Matted {
            matting: report(&log, certainty(alpha.data()), &boxes),
            alpha,
            foreground: None,
            model: model(&log),
        })
    }

    /// What of a look is the subject; things only, for nobody was looked for.
    async fn keep(
        &self,
        look: Look,
        pixels: &Arc<Raster>,
        subject: SubjectChoice,
    ) -> Result<(Kept, Look), MatteError> {
        if subject.is_all() {
            return Ok((Kept::All, look));
        }
        let pixels = Arc::clone(pixels);
        Ok(spawn_blocking(move || {
            let nobody = People {
                masks: Vec::new(),
                chosen: Vec::new(),
            };
            (
                kept(&look.small, &look.frame, &pixels, &subject, &nobody),
                look,
            )
        })
        .await?)
    }
}

/// Where in the picture the large parts of what is kept are.
fn bounds(look: &Look, kept: &Kept) -> Option<Rect> {
    let small = shown(&look.small, kept)?;
    let (width, height) = (small.width as usize, small.height as usize);
    let components = components(&small.alpha, width, height);
    let largest = components.iter().map(Vec::len).max()?;
    let (scale_x, scale_y) = (
        look.frame.width as f32 / small.width as f32,
        look.frame.height as f32 / small.height as f32,
    );
    components
        .iter()
        .filter(|component| component.len() as f32 >= CRUMB_SHARE * largest as f32)
        .flatten()
        .map(|place| {
            let (x, y) = ((place % width) as f32, (place / width) as f32);
            Rect {
                left: look.frame.left as f32 + x * scale_x,
                top: look.frame.top as f32 + y * scale_y,
                right: look.frame.left as f32 + (x + 1.0) * scale_x,
                bottom: look.frame.top as f32 + (y + 1.0) * scale_y,
            }
        })
        .reduce(|one, other| one.around(&other))
}

/// The small matte of what is kept; `None` where that is nothing.
pub(super) fn shown(small: &Mask, kept: &Kept) -> Option<Mask> {
    let mut small = small.clone();
    match kept {
        Kept::All => {}
        Kept::Nothing => return None,
        Kept::Some(weights) => {
            for (alpha, weight) in small.alpha.iter_mut().zip(weights) {
                *alpha = (*alpha).min(*weight);
            }
        }
    }
    Some(small)
}

/// The box of what stands out, and those of the detector's objects that are the same.
fn boundaries(found: &Rect, classification: &Classification) -> Vec<Detection> {
    let salient = Detection {
        label: "salient".to_owned(),
        score: 1.0,
        x: found.left,
        y: found.top,
        width: found.width(),
        height: found.height(),
    };
    let is_the_same = |object: &&Detection| {
        let rect = rect(object);
        let common = rect.common(found).area();
        common > SAME_BOX * (rect.area() + found.area() - common)
    };
    let objects = classification.evidence.objects.iter();
    [salient]
        .into_iter()
        .chain(objects.filter(is_the_same).cloned())
        .collect()
}

pub(super) fn rect(detection: &Detection) -> Rect {
    Rect {
        left: detection.x,
        top: detection.y,
        right: detection.x + detection.width,
        bottom: detection.y + detection.height,
    }
}

/// What is to be looked at a second time, if anything: where the picture was shrunk for the first look, and little of it is the
/// subject.
fn second_frame(boxes: &[Detection], pixels: &Raster) -> Option<Frame> {
    let longest = pixels.width().max(pixels.height());
    let subject = boxes
        .iter()
        .map(rect)
        .reduce(|one, other| one.around(&other))?;
    let is_small = subject.longest() <= SMALL_SHARE * longest as f32;
    (longest > LONGEST_SIDE_PX && is_small)
        .then(|| Frame::with_room(&subject, ROOM_SHARE, pixels))
        .filter(|frame| !frame.is_whole(pixels))
}

/// Whether two looks see the same thing within the second one's frame, and the second none that goes on beyond it.
fn is_the_same(
    (first, first_kept): (&Look, &Kept),
    (second, second_kept): (&Look, &Kept),
    pixels: &Raster,
) -> bool {
    let (Some(before), Some(after)) = (
        shown(&first.small, first_kept),
        shown(&second.small, second_kept),
    ) else {
        return false;
    };
    if second.frame.further_out(&after, pixels).is_some() {
        return false;
    }
    let at = |x: f32, y: f32| {
        let along = |at: f32, start: u32, length: u32, count: u32| {
            let place = (at - start as f32) * count as f32 / length as f32;
            (place.max(0.0) as usize).min(count as usize - 1)
        };
        let column = along(x, first.frame.left, first.frame.width, before.width);
        let row = along(y, first.frame.top, first.frame.height, before.height);
        before.alpha[row * before.width as usize + column]
    };
    let (mut both, mut either) = (0_u32, 0_u32);
    for (place, alpha) in after.alpha.iter().enumerate() {
        let width = after.width as usize;
        let (x, y) = second
            .frame
            .place(place % width, place / width, after.width, after.height);
        let (was, is) = (at(x, y) >= 128, *alpha >= 128);
        both += u32::from(was && is);
        either += u32::from(was || is);
    }
    either > 0 && both as f32 >= SAME * either as f32
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
        let networks = self.engine.networks(job).await?;
        Ok(Some(format!(
            "{} {VERSION} {} subject {} boxes {}",
            self.name(),
            networks.identity(),
            job.subject,
            boxes_identity(&job.classification.evidence.objects),
        )))
    }

    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        let kind = match job.classification.kind {
            Kind::Portrait => Kind::Portrait,
            Kind::Product | Kind::Graphic => Kind::Product,
        };
        if keeps_own_alpha(&job) {
            let model = ModelUse {
                name: OWN_ALPHA.to_owned(),
                provider: "none".to_owned(),
                inference_ms: 0.0,
                processor: self.name().to_owned(),
                reused: false,
            };
            return spawn_blocking(move || keep_alpha(&job, &pixels, model)).await?;
        }
        self.segment(pixels, job, kind).await
    }
}

/// The picture's own alpha, of what is the subject.
fn keep_alpha(job: &Job, pixels: &Raster, model: ModelUse) -> Result<Matted, MatteError> {
    let (width, height) = (pixels.width(), pixels.height());
    let mut own = Mask {
        width,
        height,
        alpha: own_alpha(pixels).ok_or(MatteError::NoAlpha)?,
    };
    let matting = Matting::by(job.classification.kind, 1.0);
    let (small_width, small_height) = working_size(width, height);
    let at = |place: usize| {
        let (x, y) = (place as u32 % small_width, place as u32 / small_width);
        let along = |at: u32, count: u32, length: u32| {
            (u64::from(at) * u64::from(length) / u64::from(count)) as usize
        };
        let row = along(y, small_height, height);
        own.alpha[row * width as usize + along(x, small_width, width)]
    };
    let mut small = Mask {
        width: small_width,
        height: small_height,
        alpha: (0..small_width as usize * small_height as usize)
            .map(at)
            .collect(),
    };
    let nobody = People {
        masks: Vec::new(),
        chosen: Vec::new(),
    };
    match kept(&small, &Frame::whole(pixels), pixels, &job.subject, &nobody) {
        Kept::All => {}
        Kept::Nothing => return whole(pixels, model, matting, NOTHING_WITHIN),
        Kept::Some(weights) => {
            small.alpha = weights;
            weigh(&mut own, &small);
        }
    }
    Ok(Matted {
        alpha: Raster::new(width, height, Channels::Gray, own.alpha)?,
        foreground: None,
        model,
        matting,
    })
}

/// Names boxes, so that others are another name.
pub(super) fn boxes_identity(detections: &[Detection]) -> String {
    let boxes = detections.iter().map(|found| {
        format!(
            "{} {:.0} {:.0} {:.0} {:.0}",
            found.label, found.x, found.y, found.width, found.height
        )
    });
    boxes.collect::<Vec<_>>().join(", ")
}

/// Who names a model wants that model's matte, also of a picture that could keep its own.
pub(super) fn keeps_own_alpha(job: &Job) -> bool {
    job.classification.strategy == Strategy::KeepAlpha && !job.model_was_named
}
