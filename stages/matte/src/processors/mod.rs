//! How a picture of each kind is matted.
//!
//! One processor serves all kinds now. A kind gets its own by an implementation of [`Processor`] and an arm in
//! [`Processors::for_kind`].

mod general;

use std::sync::Arc;

use async_trait::async_trait;
use atelier_schemas::{
    Kind,
    events::{Classification, ModelUse},
};
use atelier_stores::Raster;

pub use general::General;

use crate::MatteError;

/// How a picture is to be matted.
pub struct Job {
    /// What `classify` found.
    pub classification: Classification,
    /// The catalogue's name of the model to use.
    pub model: String,
    /// Whether the sender named the model, rather than a quality.
    pub model_was_named: bool,
}

/// A matte and how it was made.
pub struct Matted {
    /// One byte a pixel at the picture's size, 0 is background.
    pub alpha: Raster,
    /// What made it.
    pub model: ModelUse,
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
    general: General,
}

impl Processors {
    /// All of them over the same models.
    pub fn new(general: General) -> Self {
        Self { general }
    }

    /// The processor of a kind.
    pub fn for_kind(&self, kind: Kind) -> &dyn Processor {
        match kind {
            Kind::Portrait | Kind::Product | Kind::Graphic => &self.general,
        }
    }
}
