//! Planes of numbers and their Gaussian blur, for embedding and for reading.
//!
//! Invariant: each row is worked by itself in one order, so that the result is the same on any number of cores.

use std::ops::Range;

use atelier_stores::{Raster, raster::Channels};
use rayon::prelude::*;

/// What lies behind the transparent parts of a picture while a mark is read or written.
const GRAY_BEHIND: f32 = 128.0;
/// ITU-R BT.601, the luma of JPEG and WebP.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];
/// Where a Gaussian is cut off, in standard deviations.
const REACH_SIGMAS: f32 = 3.0;

/// A plane of numbers.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

impl Plane {
    /// The luma of these rows of `picture`, 0 to 255.
    pub fn luma(picture: &Raster, rows: Range<u32>) -> Self {
        let stride = picture.channels().count();
        let value = |pixel: &[u8]| match (picture.channels(), pixel) {
            (Channels::Gray, [gray, ..]) => f32::from(*gray),
            (_, [red, green, blue, rest @ ..]) => {
                let luma = LUMA[0] * f32::from(*red)
                    + LUMA[1] * f32::from(*green)
                    + LUMA[2] * f32::from(*blue);
                match rest {
                    [255] | [] => luma,
                    [alpha, ..] => GRAY_BEHIND + (luma - GRAY_BEHIND) * f32::from(*alpha) / 255.0,
                }
            }
            _ => 0.0,
        };
        let row_bytes = picture.width() as usize * stride;
        let bytes = rows.start as usize * row_bytes..rows.end as usize * row_bytes;
        Self {
            width: picture.width() as usize,
            height: rows.len(),
            values: picture.data()[bytes]
                .par_chunks(stride)
                .map(value)
                .collect(),
        }
    }

    /// A plane of the same size from two.
    pub fn zip(&self, other: &Self, join: impl Fn(f32, f32) -> f32 + Sync) -> Self {
        let pairs = self.values.par_iter().zip(&other.values);
        Self {
            values: pairs.map(|(own, other)| join(*own, *other)).collect(),
            ..*self
        }
    }

    /// What is left without everything larger than `sigma_px`.
    pub fn details(&self, sigma_px: f32) -> Self {
        self.zip(&self.blurred(sigma_px), |value, around| value - around)
    }

    /// The standard deviation around each place, of a plane whose mean is 0.
    pub fn local_deviation(&self, sigma_px: f32) -> Self {
        let mut power = self.zip(self, |value, same| value * same).blurred(sigma_px);
        power
            .values
            .par_iter_mut()
            .for_each(|value| *value = value.max(0.0).sqrt());
        power
    }

    /// Blurred by a Gaussian; beyond the border lies the border's value.
    pub fn blurred(&self, sigma_px: f32) -> Self {
        let reach = (REACH_SIGMAS * sigma_px).ceil() as usize;
        let weights: Vec<f32> = (0..=2 * reach)
            .map(|index| index as f32 - reach as f32)
            .map(|distance| (-0.5 * (distance / sigma_px).powi(2)).exp())
            .collect();
        let total: f32 = weights.iter().sum();
        let weights: Vec<f32> = weights.iter().map(|weight| weight / total).collect();
        self.blurred_along_rows(&weights, reach)
            .blurred_along_columns(&weights, reach)
    }

    fn blurred_along_rows(&self, weights: &[f32], reach: usize) -> Self {
        let mut values = vec![0.0; self.values.len()];
        values
            .par_chunks_mut(self.width)
            .zip(self.values.par_chunks(self.width))
            .for_each(|(output, row)| {
                let (first, last) = (row.first().copied(), row.last().copied());
                let border = |value: Option<f32>| std::iter::repeat_n(value.unwrap_or(0.0), reach);
                let padded: Vec<f32> = border(first)
                    .chain(row.iter().copied())
                    .chain(border(last))
                    .collect();
                for (weight, shifted) in weights.iter().zip(padded.windows(row.len())) {
                    add_weighted(output, shifted, *weight);
                }
            });
        Self { values, ..*self }
    }

    fn blurred_along_columns(&self, weights: &[f32], reach: usize) -> Self {
        let mut values = vec![0.0; self.values.len()];
        values
            .par_chunks_mut(self.width)
            .enumerate()
            .for_each(|(y, output)| {
                for (index, weight) in weights.iter().enumerate() {
                    let from = (y + index).saturating_sub(reach).min(self.height - 1);
                    let row = &self.values[from * self.width..(from + 1) * self.width];
                    add_weighted(output, row, *weight);
                }
            });
        Self { values, ..*self }
    }
}

fn add_weighted(output: &mut [f32], row: &[f32], weight: f32) {
    for (output, value) in output.iter_mut().zip(row) {
        *output += weight * value;
    }
}
