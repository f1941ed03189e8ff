//! Wide Gaussian blurs at a cost that does not grow with their width: made smaller, blurred there, made larger again.
//!
//! Invariant: every value is one sum in one order, so that the number of cores changes nothing.

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::FilterType;
use rayon::prelude::*;

use crate::{ComposeError, resample};

/// Standard deviations up to this many pixels are convolved as they are; wider ones at a smaller size.
const EXACT_SIGMA_PX: f32 = 3.0;

/// `mask` (grey) blurred by `sigma_x_px` and `sigma_y_px`; beyond its border there is nothing.
pub(crate) fn soften(
    mask: &Raster,
    sigma_x_px: f32,
    sigma_y_px: f32,
) -> Result<Raster, ComposeError> {
    let (width, height) = (mask.width(), mask.height());
    let small_side =
        |side: u32, sigma_px: f32| ((side as f32 / step(sigma_px)).ceil() as u32).max(1);
    let (small_width, small_height) = (
        small_side(width, sigma_x_px),
        small_side(height, sigma_y_px),
    );
    let small = resample::to_size(mask, small_width, small_height, FilterType::Box)?;
    let mut plane: Vec<f32> = small.data().iter().map(|value| f32::from(*value)).collect();
    let sigma = |sigma_px: f32, side: u32, small: u32| sigma_px * small as f32 / side as f32;
    blur_plane(
        &mut plane,
        small_width as usize,
        sigma(sigma_x_px, width, small_width),
        sigma(sigma_y_px, height, small_height),
        Beyond::Nothing,
    );
    let bytes = plane.iter().map(|value| value.round() as u8).collect();
    let small = Raster::new(small_width, small_height, Channels::Gray, bytes)?;
    resample::to_size(&small, width, height, FilterType::Bilinear)
}

/// By how much a picture may be made smaller before a blur of `sigma_px`.
pub(crate) fn step(sigma_px: f32) -> f32 {
    (sigma_px / EXACT_SIGMA_PX).max(1.0)
}

/// What is beyond a plane's border.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Zeros.
    Nothing,
    /// The border's own value.
    Border,
}

/// Blurs a plane of rows of `width` values in place.
pub(crate) fn blur_plane(
    plane: &mut Vec<f32>,
    width: usize,
    sigma_x: f32,
    sigma_y: f32,
    beyond: Beyond,
) {
    let height = plane.len() / width;
    if sigma_x > 0.0 {
        blur_rows(plane, width, sigma_x, beyond);
    }
    if sigma_y > 0.0 {
        let mut turned = transposed(plane, width);
        blur_rows(&mut turned, height, sigma_y, beyond);
        *plane = transposed(&turned, height);
    }
}

fn blur_rows(plane: &mut [f32], width: usize, sigma: f32, beyond: Beyond) {
    let reach = ((3.0 * sigma).ceil() as usize).max(1);
    let exact = |offset: usize| (-0.5 * (offset as f32 / sigma).powi(2)).exp();
    let total: f32 = exact(0) + 2.0 * (1..=reach).map(exact).sum::<f32>();
    let weights: Vec<f32> = (0..=reach).map(|offset| exact(offset) / total).collect();
    plane.par_chunks_exact_mut(width).for_each(|row| {
        let (first, last) = match beyond {
            Beyond::Nothing => (0.0, 0.0),
            Beyond::Border => (row[0], row[width - 1]),
        };
        let mut padded = vec![first; width + 2 * reach];
        padded[reach..reach + width].copy_from_slice(row);
        padded[reach + width..].fill(last);
        for (x, value) in row.iter_mut().enumerate() {
            let middle = x + reach;
            *value = weights.iter().enumerate().skip(1).fold(
                padded[middle] * weights[0],
                |sum, (offset, weight)| {
                    sum + (padded[middle - offset] + padded[middle + offset]) * weight
                },
            );
        }
    });
}

fn transposed(plane: &[f32], width: usize) -> Vec<f32> {
    let height = plane.len() / width;
    let mut turned = vec![0.0; plane.len()];
    turned
        .par_chunks_exact_mut(height)
        .enumerate()
        .for_each(|(x, column)| {
            for (y, value) in column.iter_mut().enumerate() {
                *value = plane[y * width + x];
            }
        });
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_blur_keeps_what_there_is_and_spreads_it_as_far_as_it_should() {
        let (width, height) = (301, 201);
        let dot = (0..width * height)
            .map(|index| {
                let (x, y) = (index % width, index / width);
                if (140..160).contains(&x) && (90..110).contains(&y) {
                    255
                } else {
                    0
                }
            })
            .collect();
        let mask = Raster::new(width as u32, height as u32, Channels::Gray, dot).unwrap();
        for sigma_px in [1.5, 10.0, 30.0] {
            let soft = soften(&mask, sigma_px, sigma_px).unwrap();
            let sum: f64 = soft.data().iter().map(|value| f64::from(*value)).sum();
            assert!(
                (sum / (400.0 * 255.0) - 1.0).abs() < 0.1,
                "{sigma_px}: {sum}"
            );
            let spread: f64 = soft
                .data()
                .iter()
                .enumerate()
                .map(|(index, value)| ((index % width) as f64 - 149.5).powi(2) * f64::from(*value))
                .sum();
            // The variances of a box of 20 pixels and of the blur add up.
            let expected = (400.0 / 12.0 + f64::from(sigma_px * sigma_px)).sqrt();
            let found = (spread / sum).sqrt();
            assert!(
                (found / expected - 1.0).abs() < 0.12,
                "{sigma_px}: {found}, not {expected}"
            );
        }
    }
}
