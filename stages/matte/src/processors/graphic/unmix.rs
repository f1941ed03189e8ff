//! Alpha and colour of the pixels around the background's edge, which are mixed of the background and of the flat colours
//! beside it.
//!
//! A pixel `C = α F + (1 − α) B` has a known `B`. `F` is looked for among the colours nearby that are not mixed: one of them, or
//! two where two regions meet at the edge. Whatever is found, the subject laid over the old background is the picture again.

use rayon::prelude::*;

use super::{
    ground::Ground,
    pixels::{Pixels, apart},
};

/// Widest edge that is unmixed, in pixels.
pub(super) const MAX_EDGE_PX: u8 = 6;
/// Distances from the background are counted up to here.
const FAR_PX: u8 = 2 * MAX_EDGE_PX;
/// Levels that neighbours within a region may differ, besides what a codec does and [`SOLID_SLOPE`].
const SOLID_SPREAD: f32 = 2.0;
/// Share of a pixel's distance from the background that its neighbours may differ by: shading is slower than an edge.
const SOLID_SLOPE: f32 = 0.06;
/// Most colours that are tried for one pixel.
const MAX_CANDIDATES: usize = 6;
/// Levels that two candidates differ by at least.
const DISTINCT: u8 = 10;
/// What a second colour, a pixel of distance and an unmixed pixel beside the background cost, in levels of misfit. Further from
/// the background unmixed pixels are the rule.
const PAIR_COST: f32 = 3.0;
const DISTANCE_COST: f32 = 0.5;
const OPAQUE_COST: f32 = 14.0;
/// Rows that one task of the thread pool takes at least.
const MIN_ROWS_PER_TASK: usize = 16;

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
    distance: Vec<u8>,
    /// How far mixed pixels reach from the background, in pixels.
    pub edge_px: u8,
    /// Share of the pixels behind the edge that lie in a flat or slowly shaded region, 0 to 1.
    pub smooth_share: f32,
}

/// The subject: straight RGBA, and how well it explains the picture.
pub(super) struct Unmixed {
    pub rgba: Vec<u8>,
    /// Pixels of the edge whose mixture was not found, and was guessed.
    pub guessed: usize,
    /// Pixels of the edge.
    pub edge: usize,
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

/// Finds alpha and colour of every pixel. `flat_colors` are the picture's own, for strokes too thin to show theirs.
pub(super) fn unmix(
    pixels: Pixels<'_>,
    ground: &Ground,
    parts: &Parts,
    flat_colors: &[[u8; 3]],
) -> Unmixed {
    let mut rgba = vec![0; pixels.count() * 4];
    let (guessed, edge) = rgba
        .par_chunks_exact_mut(pixels.width * 4)
        .with_min_len(MIN_ROWS_PER_TASK)
        .enumerate()
        .map(|(y, row)| {
            let (mut guessed, mut edge) = (0, 0);
            for (x, pixel) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let index = y * pixels.width + x;
                let [red, green, blue] = pixels.color(index);
                *pixel = match parts.map[index] {
                    Part::Ground => [red, green, blue, 0],
                    Part::Inside => [red, green, blue, 255],
                    Part::Edge => {
                        let mixture = Unmixer {
                            pixels,
                            ground,
                            parts,
                            flat_colors,
                        }
                        .solve(index);
                        edge += 1;
                        guessed += usize::from(mixture.misfit > 6.0 + f32::from(ground.tolerance));
                        mixture.to_rgba(pixels.color(index), ground)
                    }
                };
            }
            (guessed, edge)
        })
        .reduce(|| (0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
    Unmixed {
        rgba,
        guessed,
        edge,
    }
}

/// A way to see a pixel.
#[derive(Clone, Copy, Debug)]
struct Mixture {
    alpha: f32,
    color: [f32; 3],
    /// How far the mixture is from the pixel, in levels.
    misfit: f32,
    cost: f32,
}

impl Mixture {
    fn cheaper(self, other: Option<Self>) -> Self {
        other.filter(|other| other.cost < self.cost).unwrap_or(self)
    }

    /// The pixel, with a colour that gives the picture again over the old background.
    fn to_rgba(self, seen: [u8; 3], ground: &Ground) -> [u8; 4] {
        let back = ground.color.map(f32::from);
        let seen = seen.map(f32::from);
        // No colour is darker than 0 or lighter than 255: that bounds alpha from below.
        let needed = |channel: usize| {
            let difference = seen[channel] - back[channel];
            let room = if difference > 0.0 {
                255.0 - back[channel]
            } else {
                back[channel]
            };
            if room > 0.0 {
                difference.abs() / room
            } else {
                0.0
            }
        };
        let alpha = (0..3).map(needed).fold(self.alpha, f32::max).min(1.0);
        let rounded = (alpha * 255.0).round();
        if rounded == 0.0 {
            let [red, green, blue] = self.color.map(|value| value.round() as u8);
            return [red, green, blue, 0];
        }
        let share = rounded / 255.0;
        // Rounding alone, or a codec, explains this much.
        let explained = 1.0 + f32::from(ground.tolerance);
        let [red, green, blue] = [0, 1, 2].map(|channel| {
            let misfit =
                seen[channel] - (share * self.color[channel] + (1.0 - share) * back[channel]);
            let correction = if misfit.abs() <= explained {
                0.0
            } else {
                misfit / share
            };
            (self.color[channel] + correction).round().clamp(0.0, 255.0) as u8
        });
        [red, green, blue, rounded as u8]
    }
}

/// What one pixel is compared with.
struct Unmixer<'a> {
    pixels: Pixels<'a>,
    ground: &'a Ground,
    parts: &'a Parts,
    flat_colors: &'a [[u8; 3]],
}

impl Unmixer<'_> {
    fn solve(&self, index: usize) -> Mixture {
        let seen = self.seen_from_ground(self.pixels.color(index));
        let reach_px = usize::from(self.parts.edge_px) + 1;
        let candidates = self.candidates(index, reach_px);
        let mut best = self.peak(index, seen, reach_px, candidates.is_empty());
        for (place, (color, far)) in candidates.iter().enumerate() {
            let distance_cost = DISTANCE_COST * *far as f32;
            best = best.cheaper(self.of_one(seen, *color, distance_cost));
            for (other, _) in &candidates[..place] {
                best = best.cheaper(self.of_two(seen, *color, *other, distance_cost));
            }
        }
        best
    }

    fn seen_from_ground(&self, color: [u8; 3]) -> [f32; 3] {
        [0, 1, 2].map(|channel| f32::from(color[channel]) - f32::from(self.ground.color[channel]))
    }

    fn with_ground(&self, difference: [f32; 3]) -> [f32; 3] {
        [0, 1, 2].map(|channel| {
            (difference[channel] + f32::from(self.ground.color[channel])).clamp(0.0, 255.0)
        })
    }

    /// The nearest distinct colours that are not mixed, with their distance in pixels.
    fn candidates(&self, index: usize, reach_px: usize) -> Vec<([u8; 3], usize)> {
        let (x, y) = (index % self.pixels.width, index / self.pixels.width);
        let mut inside: Vec<(usize, usize)> = self
            .pixels
            .around(index, reach_px)
            .filter(|other| self.parts.map[*other] == Part::Inside)
            .map(|other| {
                let (column, row) = (other % self.pixels.width, other / self.pixels.width);
                (column.abs_diff(x).pow(2) + row.abs_diff(y).pow(2), other)
            })
            .collect();
        inside.sort_unstable();
        let mut found: Vec<([u8; 3], usize)> = Vec::with_capacity(MAX_CANDIDATES);
        for (squared, other) in inside {
            let color = self.pixels.color(other);
            let is_new = |(known, _): &([u8; 3], usize)| apart(*known, color) >= DISTINCT;
            if found.iter().all(is_new) {
                found.push((color, squared.isqrt()));
                if found.len() == MAX_CANDIDATES {
                    break;
                }
            }
        }
        found
    }

    /// The pixel as a mixture with the strongest colour on its own line from the background: the middle of a stroke that
    /// is too thin to have an inside, or itself.
    fn peak(&self, index: usize, seen: [f32; 3], reach_px: usize, is_alone: bool) -> Mixture {
        let mut strongest = seen;
        for other in self.pixels.around(index, reach_px) {
            if self.parts.map[other] == Part::Ground {
                continue;
            }
            let candidate = self.seen_from_ground(self.pixels.color(other));
            if length(candidate) > length(strongest) && self.lies_on_line(seen, candidate) {
                strongest = candidate;
            }
        }
        if is_alone {
            strongest = self.flat_color_beyond(strongest);
        }
        let alpha = (length(seen) / length(strongest).max(1.0)).min(1.0);
        let far = f32::from(self.parts.distance[index]);
        let cost = if is_alone || alpha < 0.99 {
            2.0
        } else {
            OPAQUE_COST / (far * far)
        };
        Mixture {
            alpha,
            color: self.with_ground(strongest),
            misfit: 0.0,
            cost,
        }
    }

    fn lies_on_line(&self, seen: [f32; 3], end: [f32; 3]) -> bool {
        let share = dot(seen, end) / dot(end, end).max(1.0);
        let misfit = length(subtract(seen, scale(end, share)));
        misfit <= 2.0 + f32::from(self.ground.tolerance) + 0.02 * length(end)
    }

    /// A stroke may never be wide enough to cover a whole pixel: a flat colour of the picture a little further on the same line
    /// is its own then.
    fn flat_color_beyond(&self, strongest: [f32; 3]) -> [f32; 3] {
        let reached = length(strongest);
        let mut best = strongest;
        for color in self.flat_colors {
            let candidate = self.seen_from_ground(*color);
            let far = length(candidate);
            if far > reached
                && far <= 1.5 * reached
                && self.lies_on_line(strongest, candidate)
                && (best == strongest || far < length(best))
            {
                best = candidate;
            }
        }
        best
    }

    fn of_one(&self, seen: [f32; 3], color: [u8; 3], distance_cost: f32) -> Option<Mixture> {
        let pure = self.seen_from_ground(color);
        let square = dot(pure, pure);
        if square < 1.0 {
            return None;
        }
        let alpha = (dot(seen, pure) / square).clamp(0.0, 1.0);
        let misfit = length(subtract(seen, scale(pure, alpha)));
        Some(Mixture {
            alpha,
            color: color.map(f32::from),
            misfit,
            cost: misfit + distance_cost,
        })
    }

    fn of_two(
        &self,
        seen: [f32; 3],
        first: [u8; 3],
        second: [u8; 3],
        distance_cost: f32,
    ) -> Option<Mixture> {
        let (one, two) = (self.seen_from_ground(first), self.seen_from_ground(second));
        let (a, b, c) = (dot(one, one), dot(one, two), dot(two, two));
        let determinant = a * c - b * b;
        // Colours in line with the background's tell nothing of their shares.
        if determinant < 1e-3 * a * c + 1.0 {
            return None;
        }
        let (p, q) = (dot(one, seen), dot(two, seen));
        let mut first_share = ((c * p - b * q) / determinant).max(0.0);
        let mut second_share = ((a * q - b * p) / determinant).max(0.0);
        let sum = first_share + second_share;
        if sum > 1.0 {
            // On the line between both: the edge of two regions, no background in it.
            let across = subtract(one, two);
            first_share =
                (dot(subtract(seen, two), across) / dot(across, across).max(1.0)).clamp(0.0, 1.0);
            second_share = 1.0 - first_share;
        }
        let alpha = first_share + second_share;
        if alpha < 1e-3 {
            return None;
        }
        let mixed =
            [0, 1, 2].map(|channel| first_share * one[channel] + second_share * two[channel]);
        let misfit = length(subtract(seen, mixed));
        Some(Mixture {
            alpha,
            color: self.with_ground(scale(mixed, 1.0 / alpha)),
            misfit,
            cost: misfit + PAIR_COST + distance_cost,
        })
    }
}

fn dot(left: [f32; 3], right: [f32; 3]) -> f32 {
    left[0] * right[0] + left[1] * right[1] + left[2] * right[2]
}

fn length(vector: [f32; 3]) -> f32 {
    dot(vector, vector).sqrt()
}

fn scale(vector: [f32; 3], by: f32) -> [f32; 3] {
    vector.map(|value| value * by)
}

fn subtract(left: [f32; 3], right: [f32; 3]) -> [f32; 3] {
    [0, 1, 2].map(|axis| left[axis] - right[axis])
}
