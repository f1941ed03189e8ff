//! The processor for graphics: logos, icons, drawings, lettering on one flat colour. No network runs.
//!
//! The background is the flat colour that the border shows (`ground`); what is mixed with it at the subject's edge is taken apart
//! again (`unmix`), so that alpha and colour are those that were drawn; the flat regions' outlines are told as SVG paths
//! (`shapes`). A picture whose background is not flat, or whose subject has the texture of a photograph, goes to another
//! processor, and the report says why.
//!
//! Invariant: the subject laid over the old background is the picture again.

mod cut;
mod edge;
mod ground;
mod palette;
mod pixels;
mod ramp;
mod shapes;
mod spread;
mod unmix;

use std::sync::Arc;

use async_trait::async_trait;
use atelier_schemas::{Kind, Matting, events::ModelUse, matting::FellBack};
use atelier_stores::{Raster, raster::Channels};
use tokio::task::spawn_blocking;

pub use cut::{Cut, CutError, NotFlat, cut_out};

use super::{Job, Matted, Processor, general::keeps_own_alpha, multiply, whole};
use crate::MatteError;

/// What stands in events as the model.
const FLAT_COLORS: &str = "flat-colors";
/// To be raised with every change after which the same picture gives another matte.
const VERSION: u32 = 2;

/// Cuts flat pictures out by their colours, and hands others on.
pub struct Graphic {
    /// Works on what is not flat.
    otherwise: Arc<dyn Processor>,
}

impl Graphic {
    /// The processor; what is not flat goes to `otherwise`.
    pub fn new(otherwise: Arc<dyn Processor>) -> Self {
        Self { otherwise }
    }

    async fn hand_on(
        &self,
        job: Job,
        pixels: Arc<Raster>,
        reason: String,
    ) -> Result<Matted, MatteError> {
        let mut matted = self.otherwise.matte(job, pixels).await?;
        matted.matting.fell_back = Some(FellBack {
            from: Kind::Graphic,
            reason,
        });
        Ok(matted)
    }
}

#[async_trait]
impl Processor for Graphic {
    fn name(&self) -> &'static str {
        "graphic"
    }

    async fn recipe(&self, job: &Job) -> Result<Option<String>, MatteError> {
        let otherwise = self.otherwise.recipe(job).await?;
        // What the picture turns out to be is not known yet.
        Ok(otherwise.map(|recipe| format!("{} {VERSION} or {recipe}", self.name())))
    }

    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        if keeps_own_alpha(&job) {
            return self.otherwise.matte(job, pixels).await;
        }
        if job.model_was_named {
            let reason = format!("the model `{}` was asked for", job.model);
            return self.hand_on(job, pixels, reason).await;
        }
        if !job.subject.is_all() {
            let reason = format!(
                "of what it shows, the subject `{}` was asked for",
                job.subject
            );
            return self.hand_on(job, pixels, reason).await;
        }
        let to_cut = Arc::clone(&pixels);
        match spawn_blocking(move || cut_out(&to_cut)).await? {
            Ok(cut) => finish(cut, &pixels),
            Err(CutError::NotFlat(reason)) => self.hand_on(job, pixels, reason.to_string()).await,
            Err(CutError::Raster(error)) => Err(error.into()),
        }
    }
}

fn finish(cut: Cut, pixels: &Raster) -> Result<Matted, MatteError> {
    let model = ModelUse {
        name: FLAT_COLORS.to_owned(),
        provider: "none".to_owned(),
        inference_ms: 0.0,
        processor: "graphic".to_owned(),
        reused: false,
    };
    let matting = Matting {
        steps: cut.steps,
        measured: cut.measured,
        ..Matting::by(Kind::Graphic, cut.confidence)
    };
    let Some(subject) = cut.subject else {
        return whole(pixels, model, matting, "everything in it has one colour");
    };
    let (width, height) = (subject.width(), subject.height());
    let mut rgba = subject.into_data();
    if pixels.channels() == Channels::Rgba {
        let own = pixels.data().as_chunks::<4>().0;
        for (pixel, own) in rgba.as_chunks_mut::<4>().0.iter_mut().zip(own) {
            pixel[3] = multiply(pixel[3], own[3]);
        }
    }
    let alpha = rgba
        .as_chunks::<4>()
        .0
        .iter()
        .map(|pixel| pixel[3])
        .collect();
    Ok(Matted {
        alpha: Raster::new(width, height, Channels::Gray, alpha)?,
        foreground: Some(Raster::new(width, height, Channels::Rgba, rgba)?),
        model,
        matting,
    })
}
