//! A mark that is not seen, in the frequency domain, and read back blindly: spread over the whole picture, so that a crop keeps it,
//! in waves that halving, JPEG and WebP keep.
//!
//! Invariants:
//! - The marked picture differs from the unmarked one by no less than [`MIN_PSNR_DB`], over what can be seen of it.
//! - What was embedded has been read back before: a picture that cannot carry the mark is refused.
//! - Only colours change, never alpha, and nothing under alpha 0.

mod code;
mod filter;
mod pattern;
mod reader;

#[cfg(test)]
mod tests;

use atelier_stores::{Raster, RasterError, raster::Channels};
use rayon::prelude::*;

use filter::Plane;
use pattern::SIDE;
pub use reader::{MAX_ATTEMPTS, Reading, read};

/// Peak signal-to-noise ratio of a marked picture against the unmarked one, at least, in decibels.
pub const MIN_PSNR_DB: f32 = 40.5;
/// What is aimed at, before rounding to eight bits.
const TARGET_PSNR_DB: f32 = 40.7;
/// Standard deviation of the mark on a smooth ground, in levels …
const GAIN_ON_SMOOTH: f32 = 1.8;
/// … and what each level of the picture's own deviation adds: structure hides the mark.
const GAIN_PER_DEVIATION: f32 = 0.22;
/// Beyond this deviation, in levels, nothing is added.
const MAX_DEVIATION: f32 = 12.0;
/// Structure is what is smaller than this …
const STRUCTURE_SIGMA_PX: f32 = 2.0;
/// … and it hides what is as near as this.
const HIDING_SIGMA_PX: f32 = 4.0;
/// Rows that a blur of both sizes looks at beyond its own.
const HALO_ROWS: u32 = 18;
/// Rows that are worked at a time, so that a large picture needs little memory.
const BAND_ROWS: u32 = 1024;
/// How far the mark must stand out in the undamaged picture, in standard deviations of chance, to survive damage.
const MIN_DEVIATIONS: f32 = 8.0;

/// Why a picture cannot be marked, or not be read.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// Too small, nearly all of it transparent, or so busy that the mark drowns.
    #[error(
        "{width} × {height} pixels of which {seen} can be seen are too little to carry an invisible mark: \
         it takes some 200 × 200, and more where the picture is busy"
    )]
    TooLittle {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// Pixels that are not wholly transparent.
        seen: u64,
    },
    /// The picture could not be scaled.
    #[error("the picture could not be scaled to {width} × {height} pixels: {message}")]
    Scaling {
        /// In pixels.
        width: usize,
        /// In pixels.
        height: usize,
        /// What was said.
        message: String,
    },
    /// The picture could not be worked on.
    #[error(transparent)]
    Raster(#[from] RasterError),
}

/// Marks `picture` with `payload`, 4 to 8 bytes. Blocks, and uses all cores.
///
/// # Errors
/// [`MarkError`].
pub fn embed(picture: &Raster, payload: &[u8]) -> Result<Raster, MarkError> {
    let pattern = pattern::pattern(payload);
    let mut gains = Vec::with_capacity(picture.pixels() as usize);
    for top in (0..picture.height()).step_by(BAND_ROWS as usize) {
        gains.extend(gains_of_band(picture, top));
    }
    let mark = Mark { pattern, gains };
    let marked = mark.added_to(picture)?;
    let reading = reader::read_at(&marked, 1.0)?;
    let is_carried =
        |reading: Reading| reading.payload == payload && reading.deviations >= MIN_DEVIATIONS;
    if reading.is_some_and(is_carried) {
        return Ok(marked);
    }
    Err(MarkError::TooLittle {
        width: picture.width(),
        height: picture.height(),
        seen: seen_pixels(picture),
    })
}

fn is_seen(channels: Channels, pixel: &[u8]) -> bool {
    channels != Channels::Rgba || pixel[3] > 0
}

fn seen_pixels(picture: &Raster) -> u64 {
    let channels = picture.channels();
    let pixels = picture.data().par_chunks(channels.count());
    pixels.filter(|pixel| is_seen(channels, pixel)).count() as u64
}

/// How strong the mark may be at each pixel of the rows from `top` on.
fn gains_of_band(picture: &Raster, top: u32) -> Vec<f32> {
    let bottom = (top + BAND_ROWS).min(picture.height());
    let above = top.saturating_sub(HALO_ROWS);
    let below = (bottom + HALO_ROWS).min(picture.height());
    let luma = Plane::luma(picture, above..below);
    let deviations = luma
        .details(STRUCTURE_SIGMA_PX)
        .local_deviation(HIDING_SIGMA_PX);
    let width = picture.width() as usize;
    let band = (top - above) as usize * width..(bottom - above) as usize * width;
    deviations.values[band]
        .iter()
        .map(|deviation| GAIN_ON_SMOOTH + GAIN_PER_DEVIATION * deviation.min(MAX_DEVIATION))
        .collect()
}

struct Mark {
    pattern: Vec<f32>,
    gains: Vec<f32>,
}

impl Mark {
    /// The pattern's part of row `y`, as often as it is needed.
    fn row(&self, y: usize) -> impl Iterator<Item = f32> {
        self.pattern[y % SIDE * SIDE..][..SIDE]
            .iter()
            .copied()
            .cycle()
    }

    fn added_to(&self, picture: &Raster) -> Result<Raster, RasterError> {
        let factor = self.factor(picture);
        let (channels, width) = (picture.channels(), picture.width() as usize);
        let colors = channels.count().min(3);
        let mut data = picture.data().to_vec();
        data.par_chunks_mut(width * channels.count())
            .zip(self.gains.par_chunks(width))
            .enumerate()
            .for_each(|(y, (row, gains))| {
                let pixels = row.chunks_exact_mut(channels.count());
                for ((pixel, gain), wave) in pixels.zip(gains).zip(self.row(y)) {
                    if !is_seen(channels, pixel) {
                        continue;
                    }
                    for value in &mut pixel[..colors] {
                        *value = (f32::from(*value) + factor * gain * wave).round() as u8;
                    }
                }
            });
        Raster::new(picture.width(), picture.height(), channels, data)
    }

    /// What keeps the mark within the noise that is allowed, at most 1.
    fn factor(&self, picture: &Raster) -> f32 {
        let (channels, width) = (picture.channels(), picture.width() as usize);
        let rows: Vec<(f64, u64)> = picture
            .data()
            .par_chunks(width * channels.count())
            .zip(self.gains.par_chunks(width))
            .enumerate()
            .map(|(y, (row, gains))| {
                let pixels = row
                    .chunks_exact(channels.count())
                    .zip(gains)
                    .zip(self.row(y));
                let seen = pixels.filter(|((pixel, _), _)| is_seen(channels, pixel));
                seen.fold((0.0, 0), |(power, count), ((_, gain), wave)| {
                    (power + f64::from(gain * wave).powi(2), count + 1)
                })
            })
            .collect();
        let power: f64 = rows.iter().map(|(power, _)| power).sum();
        let count: u64 = rows.iter().map(|(_, count)| count).sum();
        let allowed = 255_f64.powi(2) / 10_f64.powf(f64::from(TARGET_PSNR_DB) / 10.0);
        (allowed * count as f64 / power.max(f64::MIN_POSITIVE))
            .sqrt()
            .min(1.0) as f32
    }
}
