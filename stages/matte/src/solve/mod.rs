//! Alpha of the pixels that a trimap leaves unknown, from those that it knows: closed-form matting (Levin, Lischinski, Weiss: A
//! Closed-Form Solution to Natural Image Matting, IEEE TPAMI 2008).
//!
//! In every window of 3 × 3 pixels alpha is taken for a linear function of the three colours; what is then least wrong over all
//! windows is the solution of sparse linear equations (`laplacian`), one for each unknown pixel. They are solved by conjugate
//! gradients (`conjugate`) behind an incomplete factorisation (`factor`). Then they are solved once more with links between
//! pixels that look alike wherever they are (`links`): where that answer contradicts the first one clearly it is taken, because
//! nothing that is known has reached the pixel from window to window. A picture with more unknown pixels than
//! `MAX_UNKNOWN_PX`, or more pixels than `MAX_PX`, is solved at a smaller size (`shrink`), and the edge is then fitted to the
//! picture's own by the guided filter.
//!
//! Invariants: what the trimap knows stays as it says; memory and iterations are bounded whatever the picture; the same picture
//! and trimap give the same alpha.

mod conjugate;
mod factor;
mod laplacian;
mod links;
mod matrix;
mod shrink;
mod tree;

use std::time::Instant;

use atelier_models::{
    Mask, Picture, SegmentError,
    segment::{enlarge, refine_at},
};
use atelier_schemas::matting::Step;
use atelier_stores::Raster;

use conjugate::Conjugate;
use factor::Factor;
use laplacian::System;
use links::Linked;
use shrink::Shrunk;

/// Most unknown pixels that are solved for: by count some 400 MB, and a few seconds on one core.
const MAX_UNKNOWN_PX: usize = 400_000;

/// Most pixels of the size at which they are solved for.
const MAX_PX: usize = 4_000_000;

/// Where the answers with and without links are apart by no more than this (alphas from 0 to 1), that without is taken …
const AGREES: f64 = 0.3;

/// … and from this on that with them.
const CONTRADICTS: f64 = 0.4;

/// The level of what is unknown.
const UNKNOWN: u8 = 128;

/// What was found.
pub struct Solved {
    /// One byte a pixel at the picture's size, 0 is background.
    pub alpha: Vec<u8>,
    /// Share of the pixels that the trimap leaves unknown, 0 to 1.
    pub unknown_share: f32,
    /// What was done, in order.
    pub steps: Vec<Step>,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// Picture and trimap have different sizes.
    #[error("a trimap of {trimap_bytes} pixels does not fit a picture of {pixels}")]
    OtherSize {
        /// Pixels of the trimap.
        trimap_bytes: usize,
        /// Pixels of the picture.
        pixels: u64,
    },
    /// The equations have no solution that could be found, by any shift of their diagonal.
    #[error("the equations of {unknowns} unknown pixels could not be solved: {reason}")]
    Unsolvable {
        /// How many there are.
        unknowns: usize,
        /// What went wrong.
        reason: String,
    },
    /// A matte that was found at a smaller size could not be brought to the picture's.
    #[error(transparent)]
    Enlarge(#[from] SegmentError),
}

/// Finds alpha where `trimap` (grey: 0 is background, 255 the subject, everything else unknown) does not say it. Blocking, for up
/// to some seconds.
///
/// # Errors
/// The sizes differ, or the equations have no solution: the trimap knows nothing.
pub fn solve(picture: &Raster, trimap: &Raster) -> Result<Solved, SolveError> {
    if trimap.data().len() as u64 != picture.pixels() {
        return Err(SolveError::OtherSize {
            trimap_bytes: trimap.data().len(),
            pixels: picture.pixels(),
        });
    }
    let unknowns = count_unknown(trimap.data());
    let mut clock = Clock::start();
    let factor = shrink::factor(trimap.data().len(), unknowns, MAX_PX, MAX_UNKNOWN_PX);
    let mut alpha = if factor > 1.0 {
        let small = Shrunk::of(picture, trimap.data(), factor);
        clock.lap("shrink");
        let found = solve_at(&small, &mut clock)?;
        let enlarged = to_full_size(picture, &small, found)?;
        clock.lap("enlarge");
        enlarged
    } else {
        let whole = Shrunk {
            width: picture.width() as usize,
            height: picture.height() as usize,
            channels: picture.channels().count(),
            pixels: picture.data().into(),
            trimap: trimap.data().into(),
        };
        solve_at(&whole, &mut clock)?
    };
    for (alpha, known) in alpha.iter_mut().zip(trimap.data()) {
        if let 0 | 255 = *known {
            *alpha = *known;
        }
    }
    Ok(Solved {
        alpha,
        unknown_share: unknowns as f32 / trimap.data().len().max(1) as f32,
        steps: clock.steps,
    })
}

/// How many pixels of a trimap are unknown.
pub fn count_unknown(trimap: &[u8]) -> usize {
    let is_unknown = |level: &&u8| !matches!(**level, 0 | 255);
    trimap.iter().filter(is_unknown).count()
}

/// The matte at the size of what is given.
fn solve_at(picture: &Shrunk<'_>, clock: &mut Clock) -> Result<Vec<u8>, SolveError> {
    let System {
        matrix,
        right,
        places,
    } = laplacian::system(picture);
    clock.lap("laplacian");
    let unsolvable = |reason: String| SolveError::Unsolvable {
        unknowns: places.len(),
        reason,
    };
    let factor = Factor::of(&matrix).ok_or_else(|| {
        unsolvable("their matrix is not positive definite: is anything known?".to_owned())
    })?;
    clock.lap("factor");
    let good = |Conjugate { solution, residual }| {
        if residual <= conjugate::WORST_RESIDUAL {
            return Ok(solution);
        }
        Err(unsolvable(format!(
            "after {} steps the residual is {residual:.1e} of the right side",
            conjugate::MAX_STEPS
        )))
    };
    let nothing = vec![0.0; places.len()];
    let by_windows = good(conjugate::solve(&matrix, &factor, &right, nothing))?;
    clock.lap("solve");
    let linked = Linked::new(picture, &places, &matrix, &right);
    clock.lap("links");
    let start = by_windows.clone();
    let by_links = good(conjugate::solve(&linked, &factor, &linked.right, start))?;
    clock.lap("solve-linked");
    let mut alpha = picture.trimap.to_vec();
    for ((place, by_windows), by_links) in places.iter().zip(&by_windows).zip(&by_links) {
        alpha[*place as usize] = level(*by_windows, *by_links);
    }
    Ok(alpha)
}

/// The level of a pixel by both answers, cut to bytes as the published implementations do.
fn level(by_windows: f64, by_links: f64) -> u8 {
    let (by_windows, by_links) = (by_windows.clamp(0.0, 1.0), by_links.clamp(0.0, 1.0));
    let apart = (by_windows - by_links).abs();
    let share = ((apart - AGREES) / (CONTRADICTS - AGREES)).clamp(0.0, 1.0);
    // A little more, so that what is 1 but for rounding is not 254.
    ((by_windows + (by_links - by_windows) * share) * 255.0 + 1e-4) as u8
}

/// A matte that was found at a smaller size, its edge fitted to the picture's.
fn to_full_size(
    picture: &Raster,
    small: &Shrunk<'_>,
    alpha: Vec<u8>,
) -> Result<Vec<u8>, SolveError> {
    let found = Mask {
        width: small.width as u32,
        height: small.height as u32,
        alpha,
    };
    let fitted_side_px = found.width.max(found.height);
    let mut mask = enlarge(found, picture.width(), picture.height())?;
    let picture = Picture {
        width: picture.width(),
        height: picture.height(),
        channels: picture.channels().count(),
        pixels: picture.data(),
    };
    refine_at(&picture, &mut mask, fitted_side_px)?;
    Ok(mask.alpha)
}

/// Times the steps.
struct Clock {
    since: Instant,
    steps: Vec<Step>,
}

impl Clock {
    fn start() -> Self {
        Self {
            since: Instant::now(),
            steps: Vec::new(),
        }
    }

    fn lap(&mut self, name: &str) {
        self.steps.push(Step {
            name: name.to_owned(),
            ms: self.since.elapsed().as_secs_f64() * 1e3,
        });
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests;
