//! Mixes a mark with the canvas, as the W3C's "Compositing and Blending" says, in the encoded values.

use atelier_schemas::watermark::Blend;
use atelier_stores::{Raster, RasterError, raster::Channels};
use rayon::prelude::*;

use super::place::Placed;

/// Lays the mark on the canvas, RGB or RGBA (grey is left as it is).
pub(super) fn blend(
    canvas: Raster,
    mark: &Placed<'_>,
    how: Blend,
    opacity: f32,
) -> Result<Raster, RasterError> {
    let (width, height, channels) = (canvas.width(), canvas.height(), canvas.channels());
    let stride = channels.count();
    let mut data = canvas.into_data();
    if channels != Channels::Gray {
        data.par_chunks_mut(width as usize * stride)
            .enumerate()
            .for_each(|(y, row)| {
                for (x, pixel) in row.chunks_exact_mut(stride).enumerate() {
                    if let Some(source) = mark.at(x, y) {
                        mix(pixel, source, how, opacity);
                    }
                }
            });
    }
    Raster::new(width, height, channels, data)
}

/// Lays `source` (straight RGBA, 0 to 1) on one pixel.
fn mix(pixel: &mut [u8], source: [f32; 4], how: Blend, opacity: f32) {
    let source_alpha = source[3] * opacity;
    let under_alpha = pixel.get(3).map_or(1.0, |alpha| f32::from(*alpha) / 255.0);
    let alpha = source_alpha + under_alpha * (1.0 - source_alpha);
    if source_alpha <= 0.0 || alpha <= 0.0 {
        return;
    }
    let byte = |value: f32| (value * 255.0).round() as u8;
    for (under, source) in pixel.iter_mut().zip(source).take(3) {
        let below = f32::from(*under) / 255.0;
        let blended = (1.0 - under_alpha) * source + under_alpha * blended(how, below, source);
        let mixed = source_alpha * blended + (1.0 - source_alpha) * under_alpha * below;
        *under = byte(mixed / alpha);
    }
    if let Some(under) = pixel.get_mut(3) {
        *under = byte(alpha);
    }
}

fn blended(how: Blend, below: f32, source: f32) -> f32 {
    match how {
        Blend::Normal => source,
        Blend::Multiply => below * source,
        Blend::Screen => below + source - below * source,
        Blend::Overlay if below <= 0.5 => 2.0 * below * source,
        Blend::Overlay => 1.0 - 2.0 * (1.0 - below) * (1.0 - source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(mut pixel: [u8; 4], source: [f32; 4], how: Blend, opacity: f32) -> [u8; 4] {
        mix(&mut pixel, source, how, opacity);
        pixel
    }

    #[test]
    fn each_mode_does_what_its_name_says() {
        let (ground, source) = ([51, 102, 204, 255], [1.0, 0.5, 0.0, 1.0]);
        for (how, expected) in [
            (Blend::Normal, [255, 128, 0, 255]),
            (Blend::Multiply, [51, 51, 0, 255]),
            (Blend::Screen, [255, 179, 204, 255]),
            (Blend::Overlay, [102, 102, 153, 255]),
        ] {
            assert_eq!(mixed(ground, source, how, 1.0), expected, "{how:?}");
        }
    }

    #[test]
    fn opacity_and_alpha_of_both_count() {
        let white = [1.0; 4];
        assert_eq!(
            mixed([0, 0, 0, 255], white, Blend::Normal, 0.25),
            [64, 64, 64, 255]
        );
        let half_seen = [1.0, 1.0, 1.0, 0.5];
        assert_eq!(
            mixed([0, 0, 0, 255], half_seen, Blend::Normal, 0.5),
            [64, 64, 64, 255]
        );
        assert_eq!(
            mixed([9, 9, 9, 255], white, Blend::Normal, 0.0),
            [9, 9, 9, 255]
        );
        // On nothing, every mode leaves the mark itself.
        for how in [
            Blend::Normal,
            Blend::Multiply,
            Blend::Screen,
            Blend::Overlay,
        ] {
            assert_eq!(
                mixed([0; 4], [1.0, 0.0, 0.0, 1.0], how, 0.5),
                [255, 0, 0, 128],
                "{how:?}"
            );
        }
    }
}
