//! Which pixels may be mixed with the background, and how softly the picture goes over from it to the subject.

use rayon::prelude::*;

use super::{
    ground::Ground,
    pixels::{Pixels, apart},
    ramp::{Ramp, SHARP_EDGE_PX},
    unmix::MIN_ROWS_PER_TASK,
};

/// Widest edge that is unmixed, in pixels.
const MAX_EDGE_PX: u8 = 6;
/// Distances from the background are counted up to here.
const FAR_PX: u8 = 2 * MAX_EDGE_PX;
/// Levels that neighbours within a region may differ, besides what a codec does and [`SOLID_SLOPE`].
const SOLID_SPREAD: f32 = 2.0;
/// Share of a pixel's distance from the background that its neighbours may differ by: shading is slower than an edge.
const SOLID_SLOPE: f32 = 0.06;

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Ground,
    /// Within the edge's reach and not flat: may be mixed.
    Edge,
    /// Opaque.
    Inside,
}

/// The map of a picture's parts.
pub(super) struct Parts {
    pub map: Vec<Part>,
    /// By pixel: distance to the background in pixels (the longer of both axes), up to [`FAR_PX`].
    pub distance: Vec<u8>,
    /// How far mixed pixels reach from the background, in pixels.
    pub edge_px: u8,
    /// How softly.
    pub ramp: Ramp,
    /// Share of the pixels behind the edge that lie in a flat or slowly shaded region, 0 to 1.
    pub smooth_share: f32,
}

/// Tells apart what may be mixed from what is not.
pub(super) fn parts(pixels: Pixels<'_>, ground: &Ground) -> Parts {
    let distance = distances(pixels, &ground.is_ground);
    let solid: Vec<bool> = (0..pixels.count())
        .into_par_iter()
        .with_min_len(pixels.width * MIN_ROWS_PER_TASK)
        .map(|index| is_solid(pixels, ground, index))
        .collect();
    let (edge_px, smooth_share) = edge_width(&distance, &solid);
    let ramp = Ramp::measured(pixels, ground, &distance);
    let edge_px = if ramp.is_sharp() {
        edge_px.min(SHARP_EDGE_PX)
    } else {
        edge_px
    };
    let part = |index: usize| match distance[index] {
        0 => Part::Ground,
        far if far > edge_px => Part::Inside,
        _ if !solid[index] || is_beside_flat_color(pixels, ground, index, edge_px) => Part::Edge,
        _ => Part::Inside,
    };
    let map = (0..pixels.count())
        .into_par_iter()
        .with_min_len(pixels.width * MIN_ROWS_PER_TASK)
        .map(part)
        .collect();
    Parts {
        map,
        distance,
        edge_px,
        ramp,
        smooth_share,
    }
}

/// Distance to the background in pixels (the longer of both axes), up to [`FAR_PX`].
fn distances(pixels: Pixels<'_>, is_ground: &[bool]) -> Vec<u8> {
    let (width, height) = (pixels.width, pixels.height);
    let mut distance: Vec<u8> = is_ground
        .iter()
        .map(|ground| if *ground { 0 } else { FAR_PX })
        .collect();
    let mut relax = |x: usize, y: usize, others: [(isize, isize); 4]| {
        let index = y * width + x;
        let mut nearest = distance[index];
        for (dx, dy) in others {
            let (column, row) = (x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
            if column < width && row < height {
                nearest = nearest.min(distance[row * width + column] + 1);
            }
        }
        distance[index] = nearest;
    };
    for y in 0..height {
        for x in 0..width {
            relax(x, y, [(-1, 0), (-1, -1), (0, -1), (1, -1)]);
        }
    }
    for y in (0..height).rev() {
        for x in (0..width).rev() {
            relax(x, y, [(1, 0), (1, 1), (0, 1), (-1, 1)]);
        }
    }
    distance
}

/// Whether a pixel is one of four in a square that hardly differ: no edge has such a square, but every region has.
fn is_solid(pixels: Pixels<'_>, ground: &Ground, index: usize) -> bool {
    let contrast = f32::from(apart(pixels.color(index), ground.color));
    let spread = SOLID_SPREAD + f32::from(ground.tolerance) + SOLID_SLOPE * contrast;
    !ground.is_ground[index] && is_in_square(pixels, ground, index, spread as u8)
}

/// Whether a pixel that is not of one flat colour with its neighbours has such a colour near: it may be that one with a little of
/// the background in it, and looks like a region's. After a lossy codec no colour is flat to the level.
fn is_beside_flat_color(pixels: Pixels<'_>, ground: &Ground, index: usize, edge_px: u8) -> bool {
    let is_flat = |index: usize| !ground.is_ground[index] && is_in_square(pixels, ground, index, 0);
    ground.tolerance == 0
        && !is_flat(index)
        && pixels.around(index, usize::from(edge_px)).any(is_flat)
}

/// Whether a pixel is one of four in a square whose colours differ from its own by no more than `spread` levels.
fn is_in_square(pixels: Pixels<'_>, ground: &Ground, index: usize, spread: u8) -> bool {
    let color = pixels.color(index);
    let (x, y, width) = (index % pixels.width, index / pixels.width, pixels.width);
    let alike = |dx: isize, dy: isize| {
        let (column, row) = (x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
        if column >= width || row >= pixels.height {
            return false;
        }
        let other = row * width + column;
        !ground.is_ground[other] && apart(color, pixels.color(other)) <= spread
    };
    // A picture of one row or column has no squares, but pairs.
    let steps = |side_px: usize| if side_px == 1 { [0, 0] } else { [-1, 1] };
    steps(pixels.height).into_iter().any(|dy| {
        steps(width)
            .into_iter()
            .any(|dx| alike(dx, 0) && alike(0, dy) && alike(dx, dy))
    })
}

/// How far from the background mixed pixels reach: where regions become as smooth as they are further inside. The second
/// is how smooth that is.
fn edge_width(distance: &[u8], solid: &[bool]) -> (u8, f32) {
    let mut counts = [(0_u64, 0_u64); FAR_PX as usize + 1];
    for (distance, solid) in distance.iter().zip(solid) {
        let (all, smooth) = &mut counts[usize::from(*distance)];
        *all += 1;
        *smooth += u64::from(*solid);
    }
    let share_from = |first: u8| {
        let (all, smooth) = counts[usize::from(first)..]
            .iter()
            .fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
        (all > 0).then(|| smooth as f32 / all as f32)
    };
    let inside = share_from(MAX_EDGE_PX + 1).or_else(|| share_from(3));
    let Some(inside) = inside else {
        // Thin strokes only: nothing has an inside.
        return (2, 1.0);
    };
    let is_like_the_inside = |at: &u8| {
        let (all, smooth) = counts[usize::from(*at)];
        all > 0 && smooth as f32 >= 0.6 * inside * all as f32
    };
    let first_inside = (1..=MAX_EDGE_PX).find(is_like_the_inside);
    (first_inside.unwrap_or(MAX_EDGE_PX), inside)
}
