//! How softly a picture goes over from its background to its subject.
//!
//! Whatever softened an edge (a rasteriser's anti-aliasing, a change of size) did so evenly on both sides: an edge that leaves the
//! background within a pixel has arrived at the subject within a pixel too. What goes on changing behind it is the drawing, such as
//! an outline in a darker tone of what it surrounds, which over black has the very colours of a soft edge.

use super::{
    ground::Ground,
    pixels::{Pixels, apart},
};

/// Fewer pixels beside the background tell nothing.
const MIN_SAMPLES: usize = 24;
/// The largest ratios of contrast of a pixel beside the background to the one behind it tell how steep the edge is; this share of
/// all is larger still, where lines of the drawing cross it.
const LARGER_STILL: f32 = 0.05;
/// Contrasts below this many levels tell nothing about ratios.
const MIN_CONTRAST: f32 = 24.0;
/// Ramps up to this width belong to edges that were drawn sharp, in pixels. A picture that was made twice as large has 2.6, whatever
/// it had before: its first mixed pixel is a third of the second.
const SHARP_PX: f32 = 2.4;
/// How far mixed pixels reach from the background then: what is mixed further inside has less than a tenth of the background.
pub(super) const SHARP_EDGE_PX: u8 = 2;
/// The widest ramp that is told from others, in pixels.
const WIDEST_PX: f32 = 12.0;

/// The course of alpha across an edge: an S of two parabolas, as a pixel that sees its neighbours in the form of a triangle draws it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    /// From where alpha is 0 to where it is 1; `None` where too little was seen to tell.
    width_px: Option<f32>,
}

impl Ramp {
    /// Measures how steep the picture's edges are. `distance` is that from the background in pixels. After a lossy codec what is nearly
    /// background counts as background, and every edge looks steep: nothing is told then.
    pub(super) fn measured(pixels: Pixels<'_>, ground: &Ground, distance: &[u8]) -> Self {
        let mut ratios: Vec<f32> = (0..pixels.count())
            .filter(|index| distance[*index] == 1 && !pixels.is_on_border(*index))
            .filter_map(|index| ratio(pixels, ground, distance, index))
            .collect();
        if ground.tolerance > 0 || ratios.len() < MIN_SAMPLES {
            return Self { width_px: None };
        }
        ratios.sort_unstable_by(f32::total_cmp);
        let steep = ratios[((1.0 - LARGER_STILL) * (ratios.len() - 1) as f32) as usize];
        // The largest ratio is that of a pixel at whose outer side the ramp begins.
        let is_less_steep = |width_px: f32| at(1.0, width_px) < steep * at(2.0, width_px);
        let width_px = half(1.0, WIDEST_PX, |width_px| !is_less_steep(width_px));
        Self {
            width_px: Some(width_px),
        }
    }

    /// Whether the edge was drawn sharp.
    pub(super) fn is_sharp(self) -> bool {
        self.width_px.is_some_and(|width_px| width_px <= SHARP_PX)
    }

    /// Alpha of a pixel of which the one `step_px` further outside, the last before the background, has `ratio` times its contrast.
    pub(super) fn alpha_behind(self, ratio: f32, step_px: f32) -> Option<f32> {
        let width_px = self.width_px?;
        // The ratio grows with the place along the ramp.
        let is_before =
            |place_px: f32| at(place_px, width_px) < ratio * at(place_px + step_px, width_px);
        Some(at(half(0.0, width_px, is_before) + step_px, width_px))
    }
}

/// Where between `low` and `high` something that `holds` at first ceases to.
fn half(mut low: f32, mut high: f32, holds: impl Fn(f32) -> bool) -> f32 {
    for _ in 0..16 {
        let middle = (low + high) / 2.0;
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The contrast of a pixel beside the background as a share of that of the one behind it, seen from the background.
fn ratio(pixels: Pixels<'_>, ground: &Ground, distance: &[u8], index: usize) -> Option<f32> {
    let contrast = |index: usize| f32::from(apart(pixels.color(index), ground.color));
    let (left, right) = (index - 1, index + 1);
    let (above, below) = (index - pixels.width, index + pixels.width);
    let behind = [(left, right), (right, left), (above, below), (below, above)]
        .into_iter()
        .filter(|(outside, inside)| distance[*outside] == 0 && distance[*inside] > 0)
        .map(|(_, inside)| contrast(inside))
        .fold(0.0, f32::max);
    let ratio = contrast(index) / behind.max(1.0);
    (behind >= MIN_CONTRAST && ratio <= 1.0).then_some(ratio)
}

/// Alpha at a place of a ramp.
fn at(place_px: f32, width_px: f32) -> f32 {
    let along = (place_px / width_px).clamp(0.0, 1.0);
    if along < 0.5 {
        2.0 * along * along
    } else {
        1.0 - 2.0 * (1.0 - along) * (1.0 - along)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gray ramp of a width from black to white in each row, begun at another place of the pixel grid in each.
    fn measured(width_px: f32) -> Ramp {
        let (width, height) = (40, 80);
        let level = |index: usize| {
            let begin = 25.0 + (index / width) as f32 / height as f32;
            (255.0 * at((index % width) as f32 - begin, width_px)).round() as u8
        };
        let data: Vec<u8> = (0..width * height)
            .flat_map(|index| [level(index); 3])
            .collect();
        let pixels = Pixels {
            width,
            height,
            stride: 3,
            data: &data,
        };
        let ground = super::super::ground::find(pixels).unwrap();
        let first = |row: usize| {
            let mut columns = 0..width;
            columns.find(|column| !ground.is_ground[row * width + column])
        };
        let distance: Vec<u8> = (0..width * height)
            .map(|index| (index % width + 1).saturating_sub(first(index / width).unwrap()) as u8)
            .collect();
        Ramp::measured(pixels, &ground, &distance)
    }

    #[test]
    fn the_width_of_an_edge_is_measured() {
        // A wider one loses its first pixel to the background, for it is less than a level of it.
        for width_px in [1.5_f32, 2.0, 2.4] {
            let found = measured(width_px).width_px.unwrap();
            assert!((found - width_px).abs() <= 0.3, "{width_px}: {found}");
        }
        assert!(measured(2.0).is_sharp() && !measured(4.0).is_sharp());
    }

    #[test]
    fn a_pixel_behind_is_as_opaque_as_the_ramp_says() {
        let ramp = Ramp {
            width_px: Some(2.0),
        };
        for place_px in [0.2, 0.5, 0.8] {
            let ratio = at(place_px, 2.0) / at(place_px + 1.0, 2.0);
            let found = ramp.alpha_behind(ratio, 1.0).unwrap();
            assert!((found - at(place_px + 1.0, 2.0)).abs() < 1e-3, "{found}");
        }
        // What has nearly all of the contrast already is behind the whole ramp.
        assert!(ramp.alpha_behind(0.9, 1.0).unwrap() > 0.999);
    }
}
