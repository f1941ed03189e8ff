//! What colour the subject itself has where the old background shines through.
//!
//! After T. Germer, T. Uelwer, S. Conrad, S. Harmeling, "Fast Multi-Level Foreground Estimation", 2020: from one pixel up
//! to the full size, level by level, each pixel's foreground F and background B are the least-squares solution of
//! I = αF + (1 − α)B with neighbours held together, the more so the more α changes between them.
//!
//! Two things differ from the paper. Only a [band](band::Band) of pixels around the matte's edge is solved: elsewhere the
//! answer is the picture itself. And rows are relaxed in turns, even then odd, so that all cores work and the result
//! does not depend on how many there are.

mod band;
mod level;

use atelier_stores::{Raster, RasterError, raster::Channels};

use band::Band;
use level::{Cell, Level, Picture, Solution};

/// Levels up to this many pixels a side are relaxed often: they carry colours over long distances for little.
const SMALL_SIDE_PX: usize = 32;
const SMALL_LEVEL_ROUNDS: usize = 10;
const LARGE_LEVEL_ROUNDS: usize = 2;
/// The band reaches beyond the matte's edge as far as the last level's rounds can carry a colour.
const BAND_MARGIN_PX: usize = LARGE_LEVEL_ROUNDS;

/// The subject's own colours, as an RGB raster of the picture's size. `reach_px` is how far beyond the matte's edge
/// colours are wanted too (for a matte that is smoothed afterwards). Blocks, and uses all cores.
///
/// # Errors
/// [`RasterError::LengthMismatch`] where picture and matte are not of one size.
pub fn estimate_foreground(
    picture: &Raster,
    matte: &Raster,
    reach_px: usize,
) -> Result<Raster, RasterError> {
    let mut data = vec![0; picture.pixels() as usize * 3];
    let stride = picture.channels().count();
    for (target, source) in data
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .zip(picture.data().chunks_exact(stride))
    {
        *target = if let [red, green, blue, ..] = source {
            [*red, *green, *blue]
        } else {
            [source[0]; 3]
        };
    }
    let rgb = Raster::new(picture.width(), picture.height(), Channels::Rgb, data)?;
    if (matte.width(), matte.height(), matte.channels())
        != (picture.width(), picture.height(), Channels::Gray)
    {
        return Err(RasterError::LengthMismatch {
            width: picture.width(),
            height: picture.height(),
            channels: Channels::Gray,
            actual_bytes: matte.data().len(),
        });
    }
    let solution = solve(&rgb, matte.data(), reach_px);
    let mut data = rgb.into_data();
    let pixels = data.as_chunks_mut::<3>().0;
    solution.for_each_unsure_pixel(matte.data(), |index, color| pixels[index] = color);
    Raster::new(picture.width(), picture.height(), Channels::Rgb, data)
}

/// Puts the subject's own colours over those in `pixels` (RGBA), except where these cannot be seen. `matte` has one byte
/// per pixel of `picture`, whose first three channels are its colours.
pub(crate) fn clean_colors(picture: &Raster, matte: &[u8], reach_px: usize, pixels: &mut [u8]) {
    let pixels = pixels.as_chunks_mut::<4>().0;
    solve(picture, matte, reach_px).for_each_unsure_pixel(matte, |index, [red, green, blue]| {
        if let Some(pixel @ [_, _, _, 1..=255]) = pixels.get_mut(index) {
            (pixel[0], pixel[1], pixel[2]) = (red, green, blue);
        }
    });
}

fn solve(picture: &Raster, matte: &[u8], reach_px: usize) -> Solution {
    let picture = Picture::new(picture, matte);
    let levels: Vec<Level> = level_sizes(picture.width, picture.height)
        .into_iter()
        .map(|(width, height)| Level::new(&picture, width, height))
        .collect();
    let bands = bands(&levels, reach_px);
    let mut solution: Option<Solution> = None;
    for (level, band) in levels.iter().zip(bands) {
        let mut next = match &solution {
            Some(coarser) => Solution::from_coarser(coarser, band),
            None => Solution::uniform(picture.mean_colors(), band),
        };
        let small = level.width.max(level.height) <= SMALL_SIDE_PX;
        for _ in 0..if small {
            SMALL_LEVEL_ROUNDS
        } else {
            LARGE_LEVEL_ROUNDS
        } {
            next.relax(&picture, level);
        }
        solution = Some(next);
    }
    solution.unwrap_or_else(|| Solution::uniform(Cell::default(), Band::whole(1, 1)))
}

/// From one pixel to the full size, each level about twice as large as the one before.
fn level_sizes(width: usize, height: usize) -> Vec<(usize, usize)> {
    let steps = (width.max(height) as f64).log2().ceil().max(1.0) as usize;
    let side =
        |full: usize, step: usize| (full as f64).powf(step as f64 / steps as f64).round() as usize;
    (0..=steps)
        .map(|step| (side(width, step), side(height, step)))
        .collect()
}

/// The bands from coarse to fine. What a finer level solves, the coarser one solves too: it starts from there.
fn bands(levels: &[Level], reach_px: usize) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::with_capacity(levels.len());
    for (index, level) in levels.iter().enumerate().rev() {
        let finest = index + 1 == levels.len();
        let reach = if finest { reach_px } else { 0 } + BAND_MARGIN_PX;
        bands.push(Band::around_edges(
            level.matte(),
            level.width,
            level.height,
            reach,
            bands.last(),
        ));
    }
    bands.reverse();
    bands
}

#[cfg(test)]
mod tests;
