//! Whether a provider gives the mattes that ONNX Runtime's own kernels give.
//!
//! The reference is one photograph and, for the models that packages have, the matte that the `cpu` provider made of it
//! (`reference/`, written by `cargo run -p atelier-models --example reference`). For an operator's own network the `cpu`
//! provider makes the matte when the network is opened.

use ndarray::Axis;

use super::{Mask, Picture, SegmentError, Segmenter, preprocess};
use crate::{Model, Provider, provider::Precision, session::Tensor};

/// Side of the reference's matte in pixels.
pub const MATTE_SIDE_PX: u32 = 64;

/// Side of the reference's photograph in pixels.
const PICTURE_SIDE_PX: u32 = 160;

/// `samples/fur-hat.jpg`, cut square and scaled down: RGB.
static PICTURE: &[u8] = include_bytes!("../../reference/fur-hat-160x160.rgb");

static U2NETP: &[u8] = include_bytes!("../../reference/u2netp-64x64.gray");

/// Most pixels, as a share, that may lie on the other side of one half.
const MAX_FLIPPED_SHARE: f64 = 0.005;

/// The same for a network in eight bits, whose rounding is coarser: it has to prove itself on fewer.
const MAX_FLIPPED_SHARE_IN_EIGHT_BITS: f64 = 0.003;

/// Largest mean difference, in 255ths.
const MAX_MEAN_DIFFERENCE: f64 = 2.0;

/// How far two mattes are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Share of the pixels that lie on the other side of one half.
    pub flipped_share: f64,
    /// Mean difference in 255ths.
    pub mean: f64,
}

impl Difference {
    /// Between two mattes of one size.
    pub fn between(found: &[u8], expected: &[u8]) -> Self {
        let pixels = expected.len().max(1) as f64;
        let (mut flipped, mut sum) = (0_u32, 0_u64);
        for (found, expected) in found.iter().zip(expected) {
            flipped += u32::from((*found >= 128) != (*expected >= 128));
            sum += u64::from(found.abs_diff(*expected));
        }
        Self {
            flipped_share: f64::from(flipped) / pixels,
            mean: sum as f64 / pixels,
        }
    }

    /// Fails where somebody would see it, or where `provider` has to be closer, and says how large it is.
    ///
    /// # Errors
    /// The difference, for people.
    pub fn check_for(&self, provider: Provider) -> Result<(), String> {
        if self.is_small_for(provider) {
            return Ok(());
        }
        Err(format!(
            "its matte of the reference picture differs: {:.2} % of the pixels lie on the other side of one half, the mean \
             difference is {:.1} of 255",
            100.0 * self.flipped_share,
            self.mean
        ))
    }

    /// Whether nobody would see it, and `provider` may be used.
    pub fn is_small_for(&self, provider: Provider) -> bool {
        let most = match provider {
            Provider::OpenVino(Precision::Int8) => MAX_FLIPPED_SHARE_IN_EIGHT_BITS,
            Provider::OpenVino(_) | Provider::Cpu | Provider::Cuda | Provider::TensorRt => {
                MAX_FLIPPED_SHARE
            }
        };
        self.is_small() && self.flipped_share <= most
    }

    /// Whether nobody would see it.
    pub fn is_small(&self) -> bool {
        self.flipped_share <= MAX_FLIPPED_SHARE && self.mean <= MAX_MEAN_DIFFERENCE
    }
}

/// The stored matte of a model, [`MATTE_SIDE_PX`] wide and high.
pub fn stored_matte(model: &str) -> Option<&'static [u8]> {
    match model {
        "u2netp" => Some(U2NETP),
        "u2net" => Some(include_bytes!("../../reference/u2net-64x64.gray")),
        "isnet-general-use" => Some(include_bytes!(
            "../../reference/isnet-general-use-64x64.gray"
        )),
        _ => None,
    }
}

/// The reference's photograph.
pub fn picture() -> Picture<'static> {
    Picture {
        width: PICTURE_SIDE_PX,
        height: PICTURE_SIDE_PX,
        channels: 3,
        pixels: PICTURE,
    }
}

/// U²-Netp's stored matte at the photograph's size: coarse, as the refiner takes it.
///
/// # Errors
/// The stored matte is not as large as it says: a defect of the build.
pub fn coarse_matte() -> Result<Mask, SegmentError> {
    let stored = Mask {
        width: MATTE_SIDE_PX,
        height: MATTE_SIDE_PX,
        alpha: U2NETP.to_vec(),
    };
    super::postprocess::resize(stored, PICTURE_SIDE_PX, PICTURE_SIDE_PX)
}

/// Two pictures as a matting network takes them: the photograph, and its mirror image with half of its contrast, so that not even their
/// means are the same.
///
/// # Errors
/// The row is none of a matting network: a defect of the catalogue.
pub(crate) fn two_inputs(model: &Model) -> Result<[Tensor; 2], SegmentError> {
    let bad_row = || SegmentError::BadOutput {
        model: model.name.clone(),
        shape: Vec::new(),
    };
    let input = model.input.as_ref().ok_or_else(bad_row)?;
    let side = |place: usize| {
        input
            .shape
            .get(place)
            .and_then(|side| u32::try_from(*side).ok())
    };
    let (Some(height), Some(width)) = (side(2), side(3)) else {
        return Err(bad_row());
    };
    let photograph = preprocess::prepare(&picture(), input, width, height)?;
    let mut mirrored = photograph.clone();
    mirrored.invert_axis(Axis(3));
    let mirrored = mirrored.as_standard_layout().into_owned() * 0.5;
    Ok([photograph, mirrored].map(|tensor| tensor.into_dyn().into_shared()))
}

/// The matte that `segmenter` makes of the reference's photograph.
///
/// # Errors
/// The network failed.
pub fn matte_of(segmenter: &Segmenter) -> Result<Mask, SegmentError> {
    let raw = segmenter.infer(&segmenter.prepare(&picture())?)?;
    segmenter.finish(&raw, MATTE_SIDE_PX, MATTE_SIDE_PX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_or_an_empty_matte_is_no_small_difference() {
        let expected = stored_matte("u2netp").unwrap();
        assert!(expected.iter().filter(|alpha| **alpha >= 128).count() > 400);
        assert!(Difference::between(expected, expected).is_small());
        let mut shifted = expected.to_vec();
        shifted.rotate_right(2);
        assert!(!Difference::between(&shifted, expected).is_small());
        assert!(!Difference::between(&vec![0; expected.len()], expected).is_small());
    }
}
