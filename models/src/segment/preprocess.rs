//! A picture to the network's input: resized by Lanczos on bytes, then one table look-up a colour.

use fast_image_resize::images::Image;
use ndarray::Array4;

use super::{Picture, SegmentError, resample::lanczos};
use crate::catalogue::{ChannelOrder, Input, Scaling};

/// A network input of shape [1, 3, height, width].
pub(super) fn prepare(
    picture: &Picture<'_>,
    input: &Input,
    width: u32,
    height: u32,
) -> Result<Array4<f32>, SegmentError> {
    let resized = resize(picture, width, height)?;
    let pixels = resized.buffer();
    let maximum = match input.scaling {
        Scaling::ByMaximum => largest_color(pixels, picture.channels),
        Scaling::By255 => 255.0,
        Scaling::None => 1.0,
    };
    let plane_length = width as usize * height as usize;
    let mut tensor = vec![0_f32; 3 * plane_length];
    for (plane, values) in tensor.chunks_exact_mut(plane_length).enumerate() {
        let color = match input.channel_order {
            ChannelOrder::Rgb => plane,
            ChannelOrder::Bgr => 2 - plane,
        };
        let table = table(maximum, input.mean[plane], input.deviation[plane]);
        let offset = if picture.channels == 1 { 0 } else { color };
        fill_plane(values, pixels, picture.channels, offset, &table);
    }
    Array4::from_shape_vec((1, 3, height as usize, width as usize), tensor).map_err(|error| {
        SegmentError::Resize {
            width,
            height,
            reason: error.to_string(),
        }
    })
}

/// The picture's bytes at another size.
pub(super) fn resize(
    picture: &Picture<'_>,
    width: u32,
    height: u32,
) -> Result<Image<'static>, SegmentError> {
    // The colours under transparent pixels stay as they are, as they do when an alpha channel is simply dropped.
    lanczos(&picture.image_ref()?, width, height)
}

/// The largest colour value, alpha left out; never 0, so that a black picture can be divided by it.
fn largest_color(pixels: &[u8], channels: usize) -> f64 {
    let largest = match channels {
        4 => pixels.chunks_exact(4).fold(0, |largest, pixel| {
            largest.max(pixel[0]).max(pixel[1]).max(pixel[2])
        }),
        _ => pixels.iter().fold(0, |largest, value| largest.max(*value)),
    };
    f64::from(largest).max(1e-6)
}

/// What each byte becomes.
fn table(maximum: f64, mean: f32, deviation: f32) -> [f32; 256] {
    std::array::from_fn(|value| {
        // Decimal constants of the catalogue, brought to the double precision that the published pipelines use.
        let exact = |number: f32| f64::from((number * 1e6).round()) / 1e6;
        ((value as f64 / maximum - exact(mean)) / exact(deviation)) as f32
    })
}

fn fill_plane(
    values: &mut [f32],
    pixels: &[u8],
    channels: usize,
    offset: usize,
    table: &[f32; 256],
) {
    match channels {
        3 => fill_strided::<3>(values, pixels, offset, table),
        4 => fill_strided::<4>(values, pixels, offset, table),
        _ => fill_strided::<1>(values, pixels, offset, table),
    }
}

fn fill_strided<const CHANNELS: usize>(
    values: &mut [f32],
    pixels: &[u8],
    offset: usize,
    table: &[f32; 256],
) {
    for (value, pixel) in values.iter_mut().zip(pixels.as_chunks::<CHANNELS>().0) {
        *value = table[usize::from(pixel[offset])];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn input(name: &str) -> Input {
        Catalogue::builtin()
            .unwrap()
            .find(name)
            .unwrap()
            .input
            .clone()
            .unwrap()
    }

    #[test]
    fn colors_are_divided_by_the_largest_then_normalized() {
        let pixels = [200, 100, 50].repeat(4);
        let picture = Picture {
            width: 2,
            height: 2,
            channels: 3,
            pixels: &pixels,
        };
        let tensor = prepare(&picture, &input("u2netp"), 2, 2).unwrap();
        let close = |found: f32, expected: f64| {
            assert!(
                (f64::from(found) - expected).abs() < 1e-6,
                "{found} {expected}"
            );
        };
        close(tensor[[0, 0, 0, 0]], (1.0 - 0.485) / 0.229);
        close(tensor[[0, 1, 1, 0]], (0.5 - 0.456) / 0.224);
        close(tensor[[0, 2, 1, 1]], (0.25 - 0.406) / 0.225);
    }

    #[test]
    fn blue_comes_first_where_the_row_says_so_and_gray_is_all_three() {
        let pixels = [1, 2, 3].repeat(4);
        let picture = Picture {
            width: 2,
            height: 2,
            channels: 3,
            pixels: &pixels,
        };
        let tensor = prepare(&picture, &input("yunet"), 2, 2).unwrap();
        assert_eq!((tensor[[0, 0, 0, 0]], tensor[[0, 2, 0, 0]]), (3.0, 1.0));
        let gray = Picture {
            width: 2,
            height: 2,
            channels: 1,
            pixels: &[9; 4],
        };
        let tensor = prepare(&gray, &input("yunet"), 2, 2).unwrap();
        assert!(tensor.iter().all(|value| *value == 9.0));
    }

    #[test]
    fn alpha_is_left_out_of_account() {
        let with_alpha = [10, 20, 30, 255].repeat(4);
        let without = [10, 20, 30].repeat(4);
        let wide = Picture {
            width: 2,
            height: 2,
            channels: 4,
            pixels: &with_alpha,
        };
        let narrow = Picture {
            width: 2,
            height: 2,
            channels: 3,
            pixels: &without,
        };
        assert_eq!(
            prepare(&wide, &input("u2net"), 4, 4).unwrap(),
            prepare(&narrow, &input("u2net"), 4, 4).unwrap()
        );
    }

    #[test]
    fn black_pictures_are_finite_and_short_buffers_are_refused() {
        let black = Picture {
            width: 2,
            height: 2,
            channels: 3,
            pixels: &[0; 12],
        };
        assert!(
            prepare(&black, &input("u2net"), 2, 2)
                .unwrap()
                .iter()
                .all(|value| value.is_finite())
        );
        let short = Picture {
            width: 2,
            height: 2,
            channels: 3,
            pixels: &[0; 11],
        };
        assert!(matches!(
            prepare(&short, &input("u2net"), 2, 2),
            Err(SegmentError::BadPicture { found: 11, .. })
        ));
    }
}
