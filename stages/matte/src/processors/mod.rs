//! How a picture of each kind is matted.
//!
//! A kind gets its own processor by an implementation of [`Processor`] and an arm in [`Processors::for_kind`].

mod frame;
mod general;
mod given;
pub mod graphic;
mod guided;
mod networks;
mod portrait;
mod subject;

use std::sync::Arc;

use async_trait::async_trait;
use atelier_models::Picture;
use atelier_schemas::{
    BlobKey, Kind, Matting, SubjectChoice,
    events::{Classification, ModelUse},
};
use atelier_stores::{Raster, raster::Channels};

pub use general::General;
pub use given::Given;
pub use graphic::Graphic;
pub use guided::Guided;
pub use portrait::Portrait;

use self::networks::Engine;
use crate::{MatteError, MatteOptions, Segmenters};

/// How a picture is to be matted.
#[derive(Clone)]
pub struct Job {
    /// What `classify` found.
    pub classification: Classification,
    /// The catalogue's name of the model to use.
    pub model: String,
    /// Whether the sender named the model, rather than a quality.
    pub model_was_named: bool,
    /// What of that which stands out is the subject.
    pub subject: SubjectChoice,
    /// The catalogue's name of the model that makes the trimap of one that takes a trimap, where none was given.
    pub coarse_model: String,
    /// The trimap that came with the picture.
    pub trimap: Option<GivenTrimap>,
}

/// A trimap that came with a picture.
#[derive(Clone)]
pub struct GivenTrimap {
    /// Which one.
    pub key: BlobKey,
    /// Grey, of the picture's size: 0 is background, 255 the subject, everything else unknown.
    pub levels: Arc<Raster>,
}

/// A matte and how it was made.
pub struct Matted {
    /// One byte a pixel at the picture's size, 0 is background.
    pub alpha: Raster,
    /// The subject in its own colours (straight RGBA of the picture's size whose alpha is `alpha`), where they are known;
    /// `compose` estimates them otherwise. Under alpha 0 stand the colours that a wider edge would show.
    pub foreground: Option<Raster>,
    /// What made it.
    pub model: ModelUse,
    /// How, and what was measured on the way.
    pub matting: Matting,
}

/// Mattes pictures.
#[async_trait]
pub trait Processor: Send + Sync {
    /// Its name, as it stands in events.
    fn name(&self) -> &'static str;

    /// Names everything that decides the matte besides the pixels; `None` where making it costs less than finding one that
    /// was made before.
    ///
    /// # Errors
    /// The model cannot be used.
    async fn recipe(&self, job: &Job) -> Result<Option<String>, MatteError>;

    /// The matte of one picture.
    ///
    /// # Errors
    /// The model cannot be used, or failed on this picture.
    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError>;
}

/// The processors by kind.
pub struct Processors {
    general: Arc<General>,
    portrait: Portrait,
    graphic: Graphic,
    given: Given,
    guided: Guided,
    segmenters: Arc<Segmenters>,
}

impl Processors {
    /// All of them over the same models.
    pub fn new(options: &MatteOptions, segmenters: Segmenters) -> Self {
        let engine = Arc::new(Engine::new(options, segmenters));
        let general = Arc::new(General::new(Arc::clone(&engine)));
        Self {
            given: Given::new(options),
            guided: Guided::new(Arc::clone(&engine)),
            segmenters: Arc::clone(&engine.segmenters),
            graphic: Graphic::new(Arc::clone(&general) as Arc<dyn Processor>),
            portrait: Portrait::new(engine, Arc::clone(&general)),
            general,
        }
    }

    /// The processor of a job: one that comes with a trimap is solved, unless a model was named that takes it.
    ///
    /// # Errors
    /// A model was named that takes no trimap, and there is one.
    pub fn for_job(&self, job: &Job) -> Result<&dyn Processor, MatteError> {
        let takes_trimap = job.model_was_named && self.segmenters.takes_trimap(&job.model);
        match (job.model_was_named, &job.trimap) {
            _ if takes_trimap => Ok(&self.guided),
            (false, Some(_)) => Ok(&self.given),
            (true, Some(_)) => {
                // Whether there is such a model at all is said first.
                self.segmenters.check_name(&job.model)?;
                Err(MatteError::TrimapUnused {
                    model: job.model.clone(),
                    takers: self.segmenters.trimap_takers(),
                })
            }
            (_, None) => Ok(self.for_kind(job.classification.kind)),
        }
    }

    /// The processor of a kind.
    pub fn for_kind(&self, kind: Kind) -> &dyn Processor {
        match kind {
            Kind::Portrait => &self.portrait,
            Kind::Product => self.general.as_ref(),
            Kind::Graphic => &self.graphic,
        }
    }
}

/// The answer where there is no subject: the picture as it came, with its own alpha, and why.
fn whole(
    pixels: &Raster,
    model: ModelUse,
    matting: Matting,
    reason: &str,
) -> Result<Matted, MatteError> {
    let alpha = own_alpha(pixels).unwrap_or_else(|| vec![255; pixels.pixels() as usize]);
    let matting = Matting {
        no_subject: Some(reason.to_owned()),
        ..matting
    };
    Ok(Matted {
        alpha: Raster::new(pixels.width(), pixels.height(), Channels::Gray, alpha)?,
        foreground: None,
        model,
        matting,
    })
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

fn picture(raster: &Raster) -> Picture<'_> {
    Picture {
        width: raster.width(),
        height: raster.height(),
        channels: raster.channels().count(),
        pixels: raster.data(),
    }
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
