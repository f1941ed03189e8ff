//! The picture's own shadow as a layer: how much darker the picture is than its background would be without it.
//!
//! The background without the shadow is a surface of the second order, fitted to what is bright of the background and to what
//! agrees with that. What is darker than the surface, hardly changes the colour, and is attached to the subject, is shadow.
//! All of it is estimated on a small picture: shadows are soft. Where the surface does not explain the background, nothing is
//! guessed.

use std::collections::VecDeque;

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::FilterType;

use crate::{
    ComposeError, resample,
    soften::{Beyond, blur_plane},
};

/// Longest side of the picture that is looked at, in pixels.
const WORK_SIDE_PX: u32 = 512;
/// Alpha up to which a pixel is background.
const BACKGROUND_ALPHA: u8 = 6;
/// How far from the subject background is taken as such: a matte's edge is never exact.
const CLEARANCE_PX: usize = 2;
/// Least share of the picture that has to be background.
const MIN_BACKGROUND_SHARE: f64 = 0.08;
/// How much brighter than the surface a pixel may be, as a share, before it speaks against the surface.
const TOLERANCE: f32 = 0.05;
/// Most of the background that may be brighter than the surface allows.
const MAX_BRIGHT_SHARE: f64 = 0.06;
/// Least share of the background that has to lie on the surface.
const MIN_EXPLAINED_SHARE: f64 = 0.45;
/// Least darkening that counts.
const MIN_DARKENING: f32 = 0.03;
/// How much the three channels of a shadow may differ in their darkening, beside a part of it.
const MAX_TINT: f32 = 0.10;
/// How far from the subject a shadow may begin, in pixels of the small picture.
const ATTACHED_WITHIN_PX: usize = 6;
/// Least darkening, at its darkest tenth, and least area, as a share of the picture, that a shadow has.
const MIN_DEPTH: f32 = 0.06;
const MIN_AREA_SHARE: f64 = 0.001;
const ROUNDS: usize = 8;

/// What was found.
pub(super) enum Estimate {
    /// How dark the shadow is, as grey of the picture's size.
    Found(Raster),
    /// No shadow.
    None,
    /// The background is not even enough to tell.
    TooBusy,
}

/// The small picture, in shares of full brightness.
struct Scene {
    width: usize,
    colors: Vec<[f32; 3]>,
    alpha: Vec<u8>,
    /// Whether a pixel is background for sure.
    background: Vec<bool>,
}

/// Estimates the shadow of `picture`, whose subject is `alpha`.
pub(super) fn estimate(picture: &Raster, alpha: &Raster) -> Result<Estimate, ComposeError> {
    let scene = Scene::look_at(picture, alpha)?;
    let known = scene.background.iter().filter(|known| **known).count();
    if (known as f64) < MIN_BACKGROUND_SHARE * scene.colors.len() as f64 {
        return Ok(Estimate::TooBusy);
    }
    let Some(surfaces) = scene.surfaces() else {
        return Ok(Estimate::TooBusy);
    };
    let mut darkening = scene.darkening(&surfaces);
    let threshold = {
        let (mut bright, mut explained) = (0, 0);
        for (value, _) in darkening
            .iter()
            .zip(&scene.background)
            .filter(|(_, known)| **known)
        {
            bright += usize::from(value.ratio > TOLERANCE);
            explained += usize::from(value.ratio.abs() <= TOLERANCE);
        }
        let share = |count: usize| count as f64 / known as f64;
        if share(bright) > MAX_BRIGHT_SHARE || share(explained) < MIN_EXPLAINED_SHARE {
            return Ok(Estimate::TooBusy);
        }
        let spread = scene.spread(&darkening);
        MIN_DARKENING.max(3.0 * spread)
    };
    for value in &mut darkening {
        // Faint darkening fades out rather than ends: below the threshold it may be noise.
        value.depth *= ((value.depth - threshold * 0.5) / threshold).clamp(0.0, 1.0);
    }
    let attached = scene.attached(&darkening, threshold);
    let mut depths: Vec<f32> = darkening
        .iter()
        .zip(&attached)
        .filter(|(_, attached)| **attached)
        .map(|(value, _)| value.depth)
        .collect();
    depths.sort_by(f32::total_cmp);
    let darkest_tenth = depths.get(depths.len() * 9 / 10).copied().unwrap_or(0.0);
    if darkest_tenth < MIN_DEPTH
        || (depths.len() as f64) < MIN_AREA_SHARE * scene.colors.len() as f64
    {
        return Ok(Estimate::None);
    }
    let mask = scene.filled(&darkening, &attached);
    let bytes = mask
        .iter()
        .map(|depth| (depth.clamp(0.0, 1.0) * 255.0).round() as u8)
        .collect();
    let height = (mask.len() / scene.width) as u32;
    let small = Raster::new(scene.width as u32, height, Channels::Gray, bytes)?;
    let whole = resample::to_size(
        &small,
        picture.width(),
        picture.height(),
        FilterType::Bilinear,
    )?;
    Ok(Estimate::Found(whole))
}

/// How a pixel differs from the surface: brighter (above 0) or darker as a share, and how deep a shadow that would be.
#[derive(Clone, Copy)]
struct Darkening {
    ratio: f32,
    depth: f32,
}

/// The coefficients of a surface of the second order for each channel.
type Surfaces = [[f64; 6]; 3];

impl Scene {
    fn look_at(picture: &Raster, alpha: &Raster) -> Result<Self, ComposeError> {
        let (width, height) = {
            let longest = picture.width().max(picture.height());
            let side = |side: u32| {
                (u64::from(side) * u64::from(WORK_SIDE_PX.min(longest)) / u64::from(longest)).max(1)
                    as u32
            };
            (side(picture.width()), side(picture.height()))
        };
        let small = resample::to_size(picture, width, height, FilterType::Box)?;
        let alpha = resample::to_size(alpha, width, height, FilterType::Box)?;
        let colors = small
            .data()
            .chunks_exact(small.channels().count())
            .map(|pixel| [0, 1, 2].map(|channel| f32::from(pixel[channel]) / 255.0))
            .collect();
        let width = width as usize;
        let near = dilated(
            &alpha
                .data()
                .iter()
                .map(|alpha| *alpha > BACKGROUND_ALPHA)
                .collect::<Vec<_>>(),
            width,
            CLEARANCE_PX,
        );
        Ok(Self {
            width,
            colors,
            alpha: alpha.into_data(),
            background: near.into_iter().map(|near| !near).collect(),
        })
    }

    /// The terms of the surface at a pixel.
    fn terms(&self, index: usize) -> [f64; 6] {
        let height = self.colors.len() / self.width;
        let x = (index % self.width) as f64 / self.width as f64 * 2.0 - 1.0;
        let y = (index / self.width) as f64 / height as f64 * 2.0 - 1.0;
        [1.0, x, y, x * x, x * y, y * y]
    }

    /// Fits the surfaces to what is bright first, then to all that agrees with the last fit.
    fn surfaces(&self) -> Option<Surfaces> {
        let mut brightness: Vec<f32> = self
            .known()
            .map(|index| luminance(self.colors[index]))
            .collect();
        brightness.sort_by(f32::total_cmp);
        let middle = *brightness.get(brightness.len() * 2 / 5)?;
        let mut taken: Vec<usize> = self
            .known()
            .filter(|index| luminance(self.colors[*index]) >= middle)
            .collect();
        let mut surfaces = self.fit(&taken)?;
        for round in 0..ROUNDS {
            // Narrower from round to round: the first fit is to the bright half only, and may be off.
            let tolerance = TOLERANCE * (2.5 - 1.5 * (round + 1) as f32 / ROUNDS as f32);
            taken = self
                .known()
                .filter(|index| self.compare(*index, &surfaces).ratio.abs() <= tolerance)
                .collect();
            surfaces = self.fit(&taken)?;
        }
        Some(surfaces)
    }

    fn known(&self) -> impl Iterator<Item = usize> {
        (0..self.colors.len()).filter(|index| self.background[*index])
    }

    /// Least squares; `None` where the pixels do not determine a surface.
    fn fit(&self, pixels: &[usize]) -> Option<Surfaces> {
        let mut normal = [[0.0; 6]; 6];
        let mut sums = [[0.0; 6]; 3];
        for index in pixels {
            let terms = self.terms(*index);
            for (row, term) in terms.iter().enumerate() {
                for (column, other) in terms.iter().enumerate() {
                    normal[row][column] += term * other;
                }
                for (channel, sums) in sums.iter_mut().enumerate() {
                    sums[row] += term * f64::from(self.colors[*index][channel]);
                }
            }
        }
        let mut surfaces = [[0.0; 6]; 3];
        for (surface, sums) in surfaces.iter_mut().zip(sums) {
            *surface = solved(normal, sums)?;
        }
        Some(surfaces)
    }

    fn compare(&self, index: usize, surfaces: &Surfaces) -> Darkening {
        let terms = self.terms(index);
        let expected = [0, 1, 2].map(|channel: usize| {
            let value: f64 = terms
                .iter()
                .zip(surfaces[channel])
                .map(|(term, factor)| term * factor)
                .sum();
            (value as f32).clamp(0.02, 1.0)
        });
        let found = self.colors[index];
        let ratio = luminance(found) / luminance(expected) - 1.0;
        let channels = [0, 1, 2].map(|channel: usize| found[channel] / expected[channel]);
        let tint = channels.iter().copied().fold(f32::MIN, f32::max)
            - channels.iter().copied().fold(f32::MAX, f32::min);
        let depth = (-ratio).clamp(0.0, 1.0);
        let is_shadow = tint <= MAX_TINT + depth * 0.5;
        Darkening {
            ratio,
            depth: if is_shadow { depth } else { 0.0 },
        }
    }

    fn darkening(&self, surfaces: &Surfaces) -> Vec<Darkening> {
        (0..self.colors.len())
            .map(|index| self.compare(index, surfaces))
            .collect()
    }

    /// The standard deviation of what lies on the surface, as a share, by the middle of its deviations.
    fn spread(&self, darkening: &[Darkening]) -> f32 {
        let mut deviations: Vec<f32> = self
            .known()
            .map(|index| darkening[index].ratio.abs())
            .filter(|deviation| *deviation <= TOLERANCE)
            .collect();
        deviations.sort_by(f32::total_cmp);
        deviations
            .get(deviations.len() / 2)
            .map_or(0.0, |middle| middle * 1.4826)
    }

    /// What of the darkening is connected with the subject.
    fn attached(&self, darkening: &[Darkening], threshold: f32) -> Vec<bool> {
        let touching = dilated(
            &self
                .alpha
                .iter()
                .map(|alpha| *alpha >= 128)
                .collect::<Vec<_>>(),
            self.width,
            ATTACHED_WITHIN_PX,
        );
        let is_dark =
            |index: usize| self.background[index] && darkening[index].depth > threshold * 0.25;
        let mut attached = vec![false; self.colors.len()];
        let mut open: VecDeque<usize> = (0..attached.len())
            .filter(|index| touching[*index] && is_dark(*index))
            .collect();
        for index in &open {
            attached[*index] = true;
        }
        while let Some(index) = open.pop_front() {
            let (x, y) = (index % self.width, index / self.width);
            let height = self.colors.len() / self.width;
            for next_y in y.saturating_sub(1)..(y + 2).min(height) {
                for next_x in x.saturating_sub(1)..(x + 2).min(self.width) {
                    let next = next_y * self.width + next_x;
                    if !attached[next] && is_dark(next) {
                        attached[next] = true;
                        open.push_back(next);
                    }
                }
            }
        }
        attached
    }

    /// The depth of the shadow everywhere: a little smoothed where it is known, and carried on under the subject.
    fn filled(&self, darkening: &[Darkening], attached: &[bool]) -> Vec<f32> {
        let blurred = |sigma: f32| {
            let weight = |index: usize| f32::from(u8::from(self.background[index]));
            let mut values: Vec<f32> = (0..self.colors.len())
                .map(|index| {
                    if attached[index] {
                        darkening[index].depth
                    } else {
                        0.0
                    }
                })
                .collect();
            let mut weights: Vec<f32> = (0..self.colors.len()).map(weight).collect();
            blur_plane(&mut values, self.width, sigma, sigma, Beyond::Border);
            blur_plane(&mut weights, self.width, sigma, sigma, Beyond::Border);
            (values, weights)
        };
        let (near, near_weights) = blurred(1.2);
        let (far, far_weights) = blurred(6.0);
        (0..self.colors.len())
            .map(|index| {
                if near_weights[index] > 0.25 {
                    near[index] / near_weights[index]
                } else {
                    far[index] / far_weights[index].max(0.05)
                }
            })
            .collect()
    }
}

fn luminance([red, green, blue]: [f32; 3]) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// What is true, and all within `reach` pixels of it, in a square.
fn dilated(mask: &[bool], width: usize, reach: usize) -> Vec<bool> {
    let height = mask.len() / width;
    let rows: Vec<bool> = (0..mask.len())
        .map(|index| {
            let (x, row) = (index % width, index / width * width);
            (x.saturating_sub(reach)..(x + reach + 1).min(width)).any(|x| mask[row + x])
        })
        .collect();
    (0..mask.len())
        .map(|index| {
            let (x, y) = (index % width, index / width);
            (y.saturating_sub(reach)..(y + reach + 1).min(height)).any(|y| rows[y * width + x])
        })
        .collect()
}

/// Solves six linear equations by elimination; `None` where they depend on each other.
fn solved(mut matrix: [[f64; 6]; 6], mut right: [f64; 6]) -> Option<[f64; 6]> {
    for column in 0..6 {
        let pivot = (column..6).max_by(|a, b| {
            matrix[*a][column]
                .abs()
                .total_cmp(&matrix[*b][column].abs())
        })?;
        if matrix[pivot][column].abs() < 1e-6 {
            return None;
        }
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        for row in column + 1..6 {
            let factor = matrix[row][column] / matrix[column][column];
            let above = matrix[column];
            for (value, above) in matrix[row].iter_mut().zip(above).skip(column) {
                *value -= factor * above;
            }
            right[row] -= factor * right[column];
        }
    }
    let mut solution = [0.0; 6];
    for row in (0..6).rev() {
        let known: f64 = (row + 1..6)
            .map(|next| matrix[row][next] * solution[next])
            .sum();
        solution[row] = (right[row] - known) / matrix[row][row];
    }
    Some(solution)
}
