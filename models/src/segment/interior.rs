//! What must not be opened: the inside of a subject that the coarse mattes mean to be there.
//!
//! The refiner opens what it can see through, and takes the light stripes of a dress on a light bed for that. Away from the
//! outline it may not go below what the coarse mattes say; holes that they leave themselves stay open. What is known to be hair
//! may be opened further inside.

use std::iter::repeat;

use super::{Mask, distance::distances_px};

/// A coarse matte below this is outside, where that is connected with the border.
const OUTSIDE: u8 = 128;

/// How far from the outside the inside begins, as a share of the longest side; at twice that it counts fully.
const MARGIN_SHARE: f32 = 0.015;

/// A coarse matte of this (0 to 1) or less holds nothing, one of [`SURE`] or more is there.
const UNSURE: f32 = 0.4;

/// See [`UNSURE`].
const SURE: f32 = 0.8;

/// The least alpha of every pixel, by the coarse mattes, which have one size. `bands_px` says for each pixel how far from the outside
/// it may be opened at least; what it lacks is 0.
pub(super) fn least_alpha(coarse: &Mask, other: Option<&Mask>, bands_px: &[f32]) -> Vec<u8> {
    let mut surest = coarse.alpha.clone();
    if let Some(other) = other {
        for (alpha, other) in surest.iter_mut().zip(&other.alpha) {
            *alpha = (*alpha).max(*other);
        }
    }
    let (width, height) = (coarse.width as usize, coarse.height as usize);
    let margin_px = MARGIN_SHARE * width.max(height) as f32;
    let depths_px = distances_px(&outside(&surest, width, height), width);
    let bands_px = bands_px.iter().copied().chain(repeat(0.0));
    let least = |((alpha, depth_px), band_px): ((&u8, &f32), f32)| {
        let margin_px = margin_px.max(band_px);
        let inside = ((depth_px - margin_px) / margin_px).clamp(0.0, 1.0);
        let sure = ((f32::from(*alpha) / 255.0 - UNSURE) / (SURE - UNSURE)).clamp(0.0, 1.0);
        (sure * inside * 255.0) as u8
    };
    let pixels = surest.iter().zip(&depths_px).zip(bands_px);
    pixels.map(least).collect()
}

/// Which pixels are outside: below [`OUTSIDE`] and connected with the border.
pub(super) fn outside(alpha: &[u8], width: usize, height: usize) -> Vec<bool> {
    let mut outside = vec![false; alpha.len()];
    let mut waiting: Vec<usize> = (0..alpha.len())
        .filter(|place| {
            let (x, y) = (place % width, place / width);
            x == 0 || y == 0 || x + 1 == width || y + 1 == height
        })
        .collect();
    while let Some(place) = waiting.pop() {
        if outside[place] || alpha[place] >= OUTSIDE {
            continue;
        }
        outside[place] = true;
        let (x, y) = (place % width, place / width);
        if x > 0 {
            waiting.push(place - 1);
        }
        if x + 1 < width {
            waiting.push(place + 1);
        }
        if y > 0 {
            waiting.push(place - width);
        }
        if y + 1 < height {
            waiting.push(place + width);
        }
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 200;

    /// `inside` within 60 pixels of the middle, nothing elsewhere.
    fn disc(inside: impl Fn(usize, usize) -> u8) -> Mask {
        let alpha = |place: usize| {
            let (x, y) = (place % SIDE, place / SIDE);
            let radius = (x as f32 - 100.0).hypot(y as f32 - 100.0);
            if radius < 60.0 { inside(x, y) } else { 0 }
        };
        Mask {
            width: SIDE as u32,
            height: SIDE as u32,
            alpha: (0..SIDE * SIDE).map(alpha).collect(),
        }
    }

    #[test]
    fn stripes_that_are_meant_to_be_there_stay() {
        let striped = disc(|_, y| if y % 8 < 4 { 255 } else { 210 });
        let least = least_alpha(&striped, None, &[]);
        assert_eq!(least[100 * SIDE + 100], 255);
        assert_eq!(least[102 * SIDE + 100], 255);
        // The outline is the refiner's, and the outside nobody's.
        assert_eq!((least[100 * SIDE + 159], least[0]), (0, 0));
    }

    #[test]
    fn holes_and_glass_stay_open() {
        let holed = disc(|x, _| if (90..110).contains(&x) { 20 } else { 255 });
        assert_eq!(least_alpha(&holed, None, &[])[100 * SIDE + 100], 0);
        assert_eq!(
            least_alpha(&disc(|_, _| 100), None, &[])[100 * SIDE + 100],
            0
        );
    }

    #[test]
    fn one_of_two_mattes_is_enough() {
        let doubtful = disc(|_, y| if y % 8 < 4 { 255 } else { 60 });
        let solid = disc(|_, _| 255);
        assert_eq!(least_alpha(&doubtful, None, &[])[102 * SIDE + 100], 0);
        assert_eq!(
            least_alpha(&doubtful, Some(&solid), &[])[102 * SIDE + 100],
            255
        );
    }

    #[test]
    fn hair_may_be_opened_further_inside_and_what_is_below_it_not() {
        let head = disc(|_, _| 255);
        let bands_px: Vec<f32> = (0..SIDE * SIDE)
            .map(|place| if place / SIDE < 100 { 25.0 } else { 0.0 })
            .collect();
        let least = least_alpha(&head, None, &bands_px);
        // Some 20 pixels inside the outline, above and below.
        assert_eq!((least[60 * SIDE + 100], least[140 * SIDE + 100]), (0, 255));
        assert_eq!(
            least[99 * SIDE + 100],
            255,
            "the middle is inside all the same"
        );
    }

    #[test]
    fn a_subject_that_fills_the_picture_is_all_inside() {
        let full = Mask {
            width: 3,
            height: 1,
            alpha: vec![255; 3],
        };
        assert_eq!(least_alpha(&full, None, &[]), [255; 3]);
    }
}
