//! A picture in, a matte out: resizing and normalising around a matting network, as its catalogue row says.
//!
//! The three steps are apart so that the picture before and the matte after can be worked on while the network runs on
//! another. Until then results agree with rembg's for the same weights: same resampling (Lanczos on bytes), same scaling,
//! same stretch and truncation to bytes. What [`refine`] makes of them is better.

mod checked;
mod coarse;
mod distance;
mod guided;
mod holes;
mod interior;
mod postprocess;
mod preprocess;
pub mod reference;
mod refine;
mod refiner;
mod resample;
mod trimap;

use std::time::Duration;

pub use coarse::Coarse;
pub use distance::distances_px;
use fast_image_resize::{PixelType, images::ImageRef};
pub use guided::{Guided, RawGuided};
use ndarray::ArrayD;
pub use postprocess::resize as enlarge;
use reference::Difference;
pub use refine::{refine, refine_at};
pub use refiner::{LONGEST_SIDE_PX, NetworkRun, RawRefined, Refiner, working_size};
pub use trimap::of_coarse as trimap_of_coarse;

use crate::{
    Inference, LoadError, ModelStore, Purpose, RunError, Runtime, Session, SessionOptions,
    catalogue::{Input, Normalization},
    session::Tensor,
};

/// A picture's pixels: rows from the top, without padding.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes a pixel: 1 (grey), 3 (RGB) or 4 (RGBA; the alpha is left out of account).
    pub channels: usize,
    /// `width` × `height` × `channels` bytes.
    pub pixels: &'a [u8],
}

impl<'a> Picture<'a> {
    /// Its pixels as the resizer takes them.
    ///
    /// # Errors
    /// They are not what the picture says.
    pub(crate) fn image_ref(&self) -> Result<ImageRef<'a>, SegmentError> {
        let bad = || SegmentError::BadPicture {
            width: self.width,
            height: self.height,
            channels: self.channels,
            found: self.pixels.len(),
        };
        let pixel_type = match self.channels {
            1 => PixelType::U8,
            3 => PixelType::U8x3,
            4 => PixelType::U8x4,
            _ => return Err(bad()),
        };
        ImageRef::new(self.width, self.height, self.pixels, pixel_type).map_err(|_| bad())
    }
}

/// An alpha matte: rows from the top, one byte a pixel, 0 is background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width` × `height` bytes.
    pub alpha: Vec<u8>,
}

/// Why a picture could not be matted.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The pixels are not what the picture says.
    #[error(
        "a picture of {width} × {height} pixels and {channels} channels does not have {found} bytes"
    )]
    BadPicture {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes a pixel.
        channels: usize,
        /// Bytes given.
        found: usize,
    },
    /// Resizing failed.
    #[error("cannot resize to {width} × {height} pixels: {reason}")]
    Resize {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the resizer said.
        reason: String,
    },
    /// The network failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The network's output is not what its row says.
    #[error("model `{model}` gave an output of shape {shape:?}, which is no matte")]
    BadOutput {
        /// Which model.
        model: String,
        /// What came out.
        shape: Vec<usize>,
    },
}

/// A network whose surest pixel is less sure than this (0 to 1) has seen no subject: on one colour, a gradient or fine noise
/// IS-Net, U²-Net and U²-Netp stay below .05, on 61 photographs of something above .99.
pub const NO_SUBJECT_PEAK: f32 = 0.1;

/// A picture as the network takes it.
pub struct Prepared(Tensor);

/// What the network gave, at its own size.
pub struct RawMatte {
    output: ArrayD<f32>,
    /// The network's own time, or the picture's share of it where several ran together.
    pub elapsed: Duration,
}

impl RawMatte {
    fn of(mut inference: Inference) -> Self {
        Self {
            output: inference.outputs.swap_remove(0),
            elapsed: inference.elapsed,
        }
    }
}

/// A matting network with its row's pre- and postprocessing.
#[derive(Debug)]
pub struct Segmenter {
    session: Session,
    input: Input,
    normalization: Normalization,
    height_px: u32,
    width_px: u32,
}

impl Segmenter {
    /// Opens a matting model by its catalogue name. Blocking.
    ///
    /// Where the provider was chosen by `auto`, its matte of a reference picture is compared with the one that belongs there;
    /// a model that it does not open, or whose matte differs, runs in floating point instead where this was eight bits, and on
    /// `cpu` where that is no better, and the log says so as an error.
    ///
    /// # Errors
    /// As [`Session::open`], and a model that makes no matte.
    pub fn open(
        runtime: &Runtime,
        store: &ModelStore,
        name: &str,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        const WANTED: &str = "matting model";
        let model = checked::row(store, name, Purpose::Matte, WANTED)?;
        let wrong = || LoadError::WrongPurpose {
            name: name.to_owned(),
            wanted: WANTED,
            summary: model.summary.clone(),
        };
        let input = model.input.clone().ok_or_else(wrong)?;
        let normalization = model.outputs.first().ok_or_else(wrong)?.normalization;
        let (Ok(height_px), Ok(width_px)) =
            (u32::try_from(input.shape[2]), u32::try_from(input.shape[3]))
        else {
            return Err(wrong());
        };
        let open_on = |runtime: &Runtime| {
            Ok::<_, LoadError>(Self {
                session: Session::open(runtime, store, name, options)?,
                input: input.clone(),
                normalization,
                height_px,
                width_px,
            })
        };
        checked::open(runtime, name, open_on, Self::check_against_reference)
    }

    /// Compares this network's matte with the stored one, or with that of the network which `on_cpu` opens; says what is wrong.
    fn check_against_reference(
        &self,
        on_cpu: &dyn Fn() -> Result<Self, LoadError>,
    ) -> Result<(), String> {
        let text = |error: SegmentError| error.to_string();
        let expected = match reference::stored_matte(self.session.name()) {
            Some(matte) => matte.to_vec(),
            None => {
                let on_cpu = on_cpu().map_err(|error| error.to_string())?;
                reference::matte_of(&on_cpu).map_err(text)?.alpha
            }
        };
        let found = reference::matte_of(self).map_err(text)?;
        Difference::between(&found.alpha, &expected).check_for(self.session.provider())
    }

    /// The network.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Resizes and normalises a picture for the network.
    ///
    /// # Errors
    /// The pixels are not what the picture says.
    pub fn prepare(&self, picture: &Picture<'_>) -> Result<Prepared, SegmentError> {
        let tensor = preprocess::prepare(picture, &self.input, self.width_px, self.height_px)?;
        Ok(Prepared(tensor.into_dyn().into_shared()))
    }

    /// Runs the network. Blocking; calls on one segmenter follow each other, or share a run: see [`Session::run_with_others`].
    ///
    /// # Errors
    /// The network failed.
    pub fn infer(&self, prepared: &Prepared) -> Result<RawMatte, SegmentError> {
        Ok(RawMatte::of(
            self.session.run_with_others(prepared.0.clone())?,
        ))
    }

    /// Runs the network once on several pictures, and answers in their order. Blocking.
    ///
    /// # Errors
    /// The network failed on one of them, or takes one picture a run.
    pub fn infer_together(&self, prepared: &[Prepared]) -> Result<Vec<RawMatte>, SegmentError> {
        let inputs: Vec<Tensor> = prepared.iter().map(|one| one.0.clone()).collect();
        let inferences = self.session.run_together(&inputs)?;
        Ok(inferences.into_iter().map(RawMatte::of).collect())
    }

    /// How sure the network is of the surest pixel, 0 to 1. A matte is stretched, so it says nothing of that.
    pub fn peak(&self, raw: &RawMatte) -> f32 {
        postprocess::peak(&raw.output, self.normalization)
    }

    /// Makes the network's output a matte of the picture's size.
    ///
    /// # Errors
    /// The output is not what the row says.
    pub fn finish(&self, raw: &RawMatte, width: u32, height: u32) -> Result<Mask, SegmentError> {
        let bad_output = || SegmentError::BadOutput {
            model: self.session.name().to_owned(),
            shape: raw.output.shape().to_vec(),
        };
        let small =
            postprocess::to_bytes(&raw.output, self.normalization).ok_or_else(bad_output)?;
        postprocess::resize(small, width, height)
    }

    /// All three steps; answers with the matte and the network's own time.
    ///
    /// # Errors
    /// As the steps.
    pub fn segment(&self, picture: &Picture<'_>) -> Result<(Mask, Duration), SegmentError> {
        let raw = self.infer(&self.prepare(picture)?)?;
        Ok((
            self.finish(&raw, picture.width, picture.height)?,
            raw.elapsed,
        ))
    }
}
