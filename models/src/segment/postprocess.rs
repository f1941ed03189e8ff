//! The network's output to a matte: stretched, cut to bytes, resized by Lanczos.

use fast_image_resize::{PixelType, images::ImageRef};
use ndarray::{ArrayD, Axis, Slice};

use super::{Mask, SegmentError, resample::lanczos};
use crate::catalogue::Normalization;

/// The first picture of the output as bytes, at the network's size; `None` where it is no matte.
pub(super) fn to_bytes(output: &ArrayD<f32>, normalization: Normalization) -> Option<Mask> {
    let output = output.view().into_dimensionality::<ndarray::Ix4>().ok()?;
    let picture = output.index_axis(Axis(0), 0);
    let first = picture.index_axis(Axis(0), 0);
    let (height, width) = first.dim();
    let alpha = match normalization {
        Normalization::MinMax => stretch(first.iter().copied()),
        Normalization::SigmoidMinMax => {
            stretch(first.iter().map(|value| 1.0 / (1.0 + (-value).exp())))
        }
        Normalization::Clamp => {
            let level = |value: &f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
            first.iter().map(level).collect()
        }
        Normalization::ClassNotZero => {
            let others = picture.slice_axis(Axis(0), Slice::from(1..));
            let likeliest_other = others.fold_axis(Axis(0), f32::NEG_INFINITY, |largest, value| {
                largest.max(*value)
            });
            let is_other = |(first, other): (&f32, &f32)| if other > first { 255 } else { 0 };
            first.iter().zip(&likeliest_other).map(is_other).collect()
        }
        Normalization::None => return None,
    };
    Some(Mask {
        width: u32::try_from(width).ok()?,
        height: u32::try_from(height).ok()?,
        alpha,
    })
}

/// The largest share of foreground that the output claims, 0 to 1. An output of another scale claims nothing that could be
/// compared, and counts as sure.
pub(super) fn peak(output: &ArrayD<f32>, normalization: Normalization) -> f32 {
    let Ok(output) = output.view().into_dimensionality::<ndarray::Ix4>() else {
        return 1.0;
    };
    let first = output
        .index_axis_move(Axis(0), 0)
        .index_axis_move(Axis(0), 0);
    let (least, largest) = range(first.iter().copied());
    match normalization {
        Normalization::MinMax if least >= 0.0 && largest <= 1.0 => largest,
        Normalization::Clamp => largest.clamp(0.0, 1.0),
        Normalization::SigmoidMinMax => 1.0 / (1.0 + (-largest).exp()),
        // Classes compare with each other: one of them always wins.
        Normalization::MinMax | Normalization::ClassNotZero | Normalization::None => 1.0,
    }
}

/// The least and the largest value.
fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    values.fold(
        (f32::INFINITY, f32::NEG_INFINITY),
        |(least, largest), value| (least.min(value), largest.max(value)),
    )
}

/// Stretches to 0 to 255 and cuts the fraction off. An output that is the same everywhere holds nothing: all background.
fn stretch(values: impl Iterator<Item = f32> + Clone) -> Vec<u8> {
    let (least, largest) = range(values.clone());
    let span = largest - least;
    if span > 0.0 {
        values
            .map(|value| ((value - least) / span * 255.0) as u8)
            .collect()
    } else {
        values.map(|_| 0).collect()
    }
}

/// The matte at the picture's size, by Lanczos.
///
/// # Errors
/// It has other bytes than its size says.
pub fn resize(mask: Mask, width: u32, height: u32) -> Result<Mask, SegmentError> {
    if (mask.width, mask.height) == (width, height) {
        return Ok(mask);
    }
    let failed = |error: fast_image_resize::ImageBufferError| SegmentError::Resize {
        width,
        height,
        reason: error.to_string(),
    };
    let source =
        ImageRef::new(mask.width, mask.height, &mask.alpha, PixelType::U8).map_err(failed)?;
    Ok(Mask {
        width,
        height,
        alpha: lanczos(&source, width, height)?.into_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(shape: [usize; 4], values: &[f32]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap()
    }

    #[test]
    fn the_peak_is_what_the_network_is_surest_of() {
        let values = [0.02, 0.4, 0.1, 0.0];
        let min_max = peak(&output([1, 1, 2, 2], &values), Normalization::MinMax);
        assert!((min_max - 0.4).abs() < 1e-6);
        let logits = [-4.0, 0.0, -9.0, -2.0];
        let sigmoid = peak(&output([1, 1, 2, 2], &logits), Normalization::SigmoidMinMax);
        assert!((sigmoid - 0.5).abs() < 1e-6);
        // Log-odds that a row takes for shares: nothing can be said.
        assert_eq!(
            peak(&output([1, 1, 2, 2], &logits), Normalization::MinMax),
            1.0
        );
    }

    #[test]
    fn outputs_are_stretched_and_cut() {
        let mask = to_bytes(
            &output([1, 1, 1, 3], &[-1.0, 0.0, 3.0]),
            Normalization::MinMax,
        )
        .unwrap();
        assert_eq!(
            mask,
            Mask {
                width: 3,
                height: 1,
                alpha: vec![0, 63, 255]
            }
        );
        let mask = to_bytes(
            &output([1, 1, 1, 3], &[-9.0, 0.0, 9.0]),
            Normalization::SigmoidMinMax,
        )
        .unwrap();
        assert_eq!(mask.alpha, [0, 127, 255]);
    }

    #[test]
    fn an_output_that_is_the_same_everywhere_is_background() {
        assert_eq!(
            to_bytes(&output([1, 1, 1, 2], &[0.7, 0.7]), Normalization::MinMax)
                .unwrap()
                .alpha,
            [0, 0]
        );
        let not_a_number = to_bytes(
            &output([1, 1, 1, 2], &[f32::NAN, f32::NAN]),
            Normalization::MinMax,
        )
        .unwrap();
        assert_eq!(not_a_number.alpha, [0, 0]);
    }

    #[test]
    fn classes_other_than_the_first_are_foreground() {
        let two_classes = output([1, 3, 1, 2], &[0.9, 0.1, 0.0, 0.2, 0.1, 0.7]);
        assert_eq!(
            to_bytes(&two_classes, Normalization::ClassNotZero)
                .unwrap()
                .alpha,
            [0, 255]
        );
    }

    #[test]
    fn what_is_no_matte_is_told() {
        assert!(to_bytes(&ArrayD::zeros(vec![1, 1000]), Normalization::MinMax).is_none());
    }

    #[test]
    fn a_matte_comes_at_the_asked_size() {
        let flat = Mask {
            width: 2,
            height: 2,
            alpha: vec![255; 4],
        };
        assert_eq!(
            resize(flat, 5, 3).unwrap(),
            Mask {
                width: 5,
                height: 3,
                alpha: vec![255; 15]
            }
        );
    }
}
