//! Alpha and colour of the pixels around the background's edge, which are mixed of the background and of the flat colours
//! beside it.
//!
//! A pixel `C = α F + (1 − α) B` has a known `B`. `F` is looked for among the colours nearby that are not mixed: one of them, or
//! two where two regions meet at the edge. A sharp edge is solved from the inside out, so that an outline too thin to cover a
//! pixel lends its colour to the pixels outside of it; and where a tone of the drawing would look like a mixture, the edge's own course
//! has a say (`ramp`). Whatever is found, the subject laid over the old background is the picture again.

use rayon::prelude::*;

use super::{
    edge::{Part, Parts},
    ground::Ground,
    pixels::{Pixels, apart},
};

/// Most colours that are tried for one pixel.
const MAX_CANDIDATES: usize = 6;
/// Levels that two candidates differ by at least.
const DISTINCT: u8 = 10;
/// What a second colour, a pixel of distance and an unmixed pixel beside the background cost, in levels of misfit. Further from
/// the background unmixed pixels are the rule.
const PAIR_COST: f32 = 3.0;
const DISTANCE_COST: f32 = 0.5;
const OPAQUE_COST: f32 = 14.0;
/// What an alpha costs that is 1 away from the one that a sharp edge has there, and what it costs to follow the edge alone.
const OFF_RAMP_COST: f32 = 30.0;
const RAMP_ALONE_COST: f32 = 6.0;
/// A background this near to black or white, in levels, is it; and how well the line from it to a colour points at black or white
/// where tones lie on it.
const TONE_SPREAD: f32 = 10.0;
const TONE_COSINE: f32 = 0.99;
/// A mixed pixel's colour is as good as known where its alpha is at least this.
const MIN_KNOWN_ALPHA: u8 = 128;
/// Rows, or pixels of the edge, that one task of the thread pool takes at least.
pub(super) const MIN_ROWS_PER_TASK: usize = 16;
const MIN_PIXELS_PER_TASK: usize = 256;

/// The subject: straight RGBA, and how well it explains the picture.
pub(super) struct Unmixed {
    pub rgba: Vec<u8>,
    /// Pixels of the edge whose mixture was not found, and was guessed.
    pub guessed: usize,
    /// Pixels of the edge.
    pub edge: usize,
}

/// Finds alpha and colour of every pixel. `flat_colors` are the picture's own, for strokes too thin to show theirs.
pub(super) fn unmix(
    pixels: Pixels<'_>,
    ground: &Ground,
    parts: &Parts,
    flat_colors: &[[u8; 3]],
) -> Unmixed {
    let mut rgba = vec![0; pixels.count() * 4];
    rgba.par_chunks_exact_mut(pixels.width * 4)
        .with_min_len(MIN_ROWS_PER_TASK)
        .enumerate()
        .for_each(|(y, row)| {
            for (x, pixel) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let index = y * pixels.width + x;
                let [red, green, blue] = pixels.color(index);
                let alpha = if parts.map[index] == Part::Inside {
                    255
                } else {
                    0
                };
                *pixel = [red, green, blue, alpha];
            }
        });
    let is_edge = |index: &usize| parts.map[*index] == Part::Edge;
    let (outermost, inner): (Vec<usize>, Vec<usize>) = (0..pixels.count())
        .filter(is_edge)
        .partition(|index| parts.distance[*index] == 1);
    let mut guessed = 0;
    // From the inside out: what stands at the background may have the colour of what is right behind it.
    for turn in [&inner, &outermost] {
        let unmixer = Unmixer {
            pixels,
            ground,
            parts,
            flat_colors,
            solved: rgba.as_chunks::<4>().0,
        };
        let found: Vec<([u8; 4], bool)> = turn
            .par_iter()
            .with_min_len(MIN_PIXELS_PER_TASK)
            .map(|index| {
                let mixture = unmixer.solve(*index);
                let is_guessed = mixture.misfit > 6.0 + f32::from(ground.tolerance);
                (mixture.to_rgba(pixels.color(*index), ground), is_guessed)
            })
            .collect();
        let solved = rgba.as_chunks_mut::<4>().0;
        for (index, (pixel, is_guessed)) in turn.iter().zip(found) {
            solved[*index] = pixel;
            guessed += usize::from(is_guessed);
        }
    }
    Unmixed {
        rgba,
        guessed,
        edge: inner.len() + outermost.len(),
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
    /// What is known so far: where alpha is 0 nothing, if it is no background.
    solved: &'a [[u8; 4]],
}

impl Unmixer<'_> {
    fn solve(&self, index: usize) -> Mixture {
        let seen = self.seen_from_ground(self.pixels.color(index));
        let reach_px = usize::from(self.parts.edge_px) + 1;
        let candidates = self.candidates(index, reach_px);
        let on_ramp = self
            .alpha_on_ramp(index, seen)
            .filter(|_| self.is_line_of_tones(seen));
        let off_ramp = |mixture: Mixture| {
            let apart = on_ramp.map_or(0.0, |alpha| (alpha - mixture.alpha).abs());
            Mixture {
                cost: mixture.cost + OFF_RAMP_COST * apart,
                ..mixture
            }
        };
        let mut best = off_ramp(self.peak(index, seen, reach_px, candidates.is_empty()));
        if let Some(on_ramp) = on_ramp {
            let far = f32::from(self.parts.distance[index]);
            for (alpha, cost) in [(1.0, OPAQUE_COST / (far * far)), (on_ramp, RAMP_ALONE_COST)] {
                best = best.cheaper(Some(off_ramp(Mixture {
                    alpha,
                    color: self.with_ground(scale(seen, 1.0 / alpha)),
                    misfit: 0.0,
                    cost,
                })));
            }
        }
        for (place, (color, far)) in candidates.iter().enumerate() {
            let distance_cost = DISTANCE_COST * *far as f32;
            best = best.cheaper(self.of_one(seen, *color, distance_cost).map(off_ramp));
            for (other, _) in &candidates[..place] {
                let of_two = self.of_two(seen, *color, *other, distance_cost);
                best = best.cheaper(of_two.map(off_ramp));
            }
        }
        best
    }

    /// Whether a paler or darker tone of a colour lies on the line from the background to it: on black every shade, on white every
    /// tint, on gray the other grays. Elsewhere a colour on that line is mixed with the background, for it would be there by chance.
    fn is_line_of_tones(&self, seen: [f32; 3]) -> bool {
        let back = self.ground.color.map(f32::from);
        let is_in_line = |end: [f32; 3]| {
            let to_back = subtract(back, end);
            let cosine = dot(to_back, seen) / (length(to_back) * length(seen)).max(1.0);
            length(to_back) <= TONE_SPREAD || cosine.abs() >= TONE_COSINE
        };
        is_in_line([0.0; 3]) || is_in_line([255.0; 3])
    }

    /// The alpha that a sharp edge has here, by how much less the pixel between this one and the background stands out.
    fn alpha_on_ramp(&self, index: usize, seen: [f32; 3]) -> Option<f32> {
        let is_within = self.parts.distance[index] == 2 && !self.pixels.is_on_border(index);
        if !is_within || !self.parts.ramp.is_sharp() {
            return None;
        }
        let (width, height) = (self.pixels.width as isize, self.pixels.height as isize);
        let (x, y) = (index as isize % width, index as isize / width);
        let at = |column: isize, row: isize| {
            let is_within = (0..width).contains(&column) && (0..height).contains(&row);
            is_within.then_some((row * width + column) as usize)
        };
        // Where the subject goes on behind it and the background before it, there is an edge between and not a net's knot.
        let outwards = |(dx, dy): (isize, isize)| {
            let is_before = self.parts.distance[at(x + 2 * dx, y + 2 * dy)?] == 0;
            let is_behind = self.parts.distance[at(x - dx, y - dy)?] >= 2;
            let between = self.pixels.color(at(x + dx, y + dy)?);
            (is_before && is_behind).then(|| length(self.seen_from_ground(between)))
        };
        let least = |steps: [(isize, isize); 4]| {
            let found = steps.into_iter().filter_map(outwards);
            found.reduce(f32::min)
        };
        let (between, step_px) = least([(0, -1), (-1, 0), (1, 0), (0, 1)])
            .map(|between| (between, 1.0))
            .or_else(|| {
                let diagonal = least([(-1, -1), (1, -1), (-1, 1), (1, 1)])?;
                Some((diagonal, std::f32::consts::SQRT_2))
            })?;
        let ratio = between / length(seen).max(1.0);
        self.parts.ramp.alpha_behind(ratio, step_px)
    }

    fn seen_from_ground(&self, color: [u8; 3]) -> [f32; 3] {
        [0, 1, 2].map(|channel| f32::from(color[channel]) - f32::from(self.ground.color[channel]))
    }

    fn with_ground(&self, difference: [f32; 3]) -> [f32; 3] {
        [0, 1, 2].map(|channel| {
            (difference[channel] + f32::from(self.ground.color[channel])).clamp(0.0, 255.0)
        })
    }

    /// Whether the colour of a pixel is the subject's own, as far as is known: a sharp edge's inner pixels are solved before its outer
    /// ones.
    fn is_known(&self, index: usize) -> bool {
        match self.parts.map[index] {
            Part::Ground => false,
            Part::Inside => true,
            Part::Edge => self.parts.ramp.is_sharp() && self.solved[index][3] >= MIN_KNOWN_ALPHA,
        }
    }

    /// The nearest distinct colours that are not mixed, with their distance in pixels.
    fn candidates(&self, index: usize, reach_px: usize) -> Vec<([u8; 3], usize)> {
        let (x, y) = (index % self.pixels.width, index / self.pixels.width);
        let mut inside: Vec<(usize, usize)> = self
            .pixels
            .around(index, reach_px)
            .filter(|other| self.is_known(*other))
            .map(|other| {
                let (column, row) = (other % self.pixels.width, other / self.pixels.width);
                (column.abs_diff(x).pow(2) + row.abs_diff(y).pow(2), other)
            })
            .collect();
        inside.sort_unstable();
        let mut found: Vec<([u8; 3], usize)> = Vec::with_capacity(MAX_CANDIDATES);
        for (squared, other) in inside {
            let [red, green, blue, _] = self.solved[other];
            let color = [red, green, blue];
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
