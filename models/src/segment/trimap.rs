//! Trimaps as networks take them: made smaller, and made of a coarse matte where none was given.
//!
//! A trimap is a [`Mask`] of three levels: 0 is background, 255 the subject, everything else unknown.

use std::iter::repeat;

use super::{Mask, distance::distances_px};

/// The level of what is unknown.
pub(super) const UNKNOWN: u8 = 128;

/// A coarse matte of this or less is sure of the background …
const BACKGROUND_UP_TO: u8 = 13;

/// … and one of this or more of the subject.
const SUBJECT_FROM: u8 = 242;

/// How wide the band is on both sides of what a coarse matte is not sure of, as a share of the longest side: hair that it has missed
/// is seldom longer.
const BAND_SHARE: f32 = 0.0125;

/// The trimap of a coarse matte: unknown is what it is not sure of, and a band around. `bands_px` says for each pixel how wide the band
/// is there at least, in pixels of the matte; what it lacks is 0.
pub fn of_coarse(coarse: &Mask, bands_px: &[f32]) -> Mask {
    let width = coarse.width as usize;
    let band_px = (BAND_SHARE * coarse.width.max(coarse.height) as f32).max(1.0);
    let far_from = |others: Vec<bool>| distances_px(&others, width);
    let is_background = |alpha: &u8| *alpha <= BACKGROUND_UP_TO;
    let is_subject = |alpha: &u8| *alpha >= SUBJECT_FROM;
    let outside_px = far_from(
        coarse
            .alpha
            .iter()
            .map(|alpha| !is_background(alpha))
            .collect(),
    );
    let inside_px = far_from(
        coarse
            .alpha
            .iter()
            .map(|alpha| !is_subject(alpha))
            .collect(),
    );
    let level = |((outside_px, inside_px), least_px): ((&f32, &f32), f32)| {
        let band_px = band_px.max(least_px);
        if *outside_px > band_px {
            0
        } else if *inside_px > band_px {
            255
        } else {
            UNKNOWN
        }
    };
    let distances = outside_px.iter().zip(&inside_px);
    let bands_px = bands_px.iter().copied().chain(repeat(0.0));
    Mask {
        width: coarse.width,
        height: coarse.height,
        alpha: distances.zip(bands_px).map(level).collect(),
    }
}

/// A trimap at no larger a size; unknown is all that stands for pixels which do not agree.
pub(super) fn shrink(trimap: &Mask, width: u32, height: u32) -> Mask {
    if (trimap.width, trimap.height) == (width, height) {
        return trimap.clone();
    }
    let (from_width, from_height) = (trimap.width as usize, trimap.height as usize);
    let (columns, rows) = (width as usize, height as usize);
    let mut alpha = Vec::with_capacity(columns * rows);
    for y in 0..rows {
        let from_rows = y * from_height / rows..((y + 1) * from_height / rows).min(from_height);
        for x in 0..columns {
            let from = x * from_width / columns..(x + 1) * from_width / columns;
            let first = trimap.alpha[from_rows.start * from_width + from.start];
            let agrees = from_rows.clone().all(|row| {
                trimap.alpha[row * from_width..][from.clone()]
                    .iter()
                    .all(|level| *level == first)
            });
            alpha.push(if agrees { first } else { UNKNOWN });
        }
    }
    Mask {
        width,
        height,
        alpha,
    }
}

/// Brings `mask` to what a trimap of its size knows.
pub(super) fn keep_known(mask: &mut Mask, trimap: &Mask) {
    for (alpha, level) in mask.alpha.iter_mut().zip(&trimap.alpha) {
        if let 0 | 255 = *level {
            *alpha = *level;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sure_and_far_from_what_is_not_is_known() {
        const SIDE: u32 = 320;
        let alpha = |place: u32| match place % SIDE {
            0..150 => 255,
            150..170 => 120,
            _ => 3,
        };
        let coarse = Mask {
            width: SIDE,
            height: SIDE,
            alpha: (0..SIDE * SIDE).map(alpha).collect(),
        };
        // Wider in the upper half.
        let upper = vec![30.0; (SIDE * SIDE / 2) as usize];
        let trimap = of_coarse(&coarse, &upper);
        let known = |y: u32, level: u8| {
            let row = &trimap.alpha[(SIDE * y) as usize..][..SIDE as usize];
            row.iter().filter(|found| **found == level).count()
        };
        let of_row = |y| (known(y, 255), known(y, UNKNOWN), known(y, 0));
        // The band of four pixels on both sides of twenty, and one of thirty.
        assert_eq!(of_row(200), (146, 28, 146));
        assert_eq!(of_row(100), (120, 80, 120));
        assert_eq!(
            of_coarse(&coarse, &[]).alpha[..320],
            trimap.alpha[200 * 320..][..320]
        );
    }

    #[test]
    fn where_pixels_do_not_agree_nothing_is_known() {
        let trimap = Mask {
            width: 4,
            height: 2,
            alpha: vec![255, 255, 0, 0, 255, 255, 0, 255],
        };
        let small = shrink(&trimap, 2, 1);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!(small.alpha, [255, UNKNOWN]);
        assert_eq!(shrink(&trimap, 4, 2), trimap);
    }

    #[test]
    fn what_is_known_wins() {
        let mut mask = Mask {
            width: 3,
            height: 1,
            alpha: vec![7, 8, 9],
        };
        let trimap = Mask {
            alpha: vec![255, UNKNOWN, 0],
            ..mask.clone()
        };
        keep_known(&mut mask, &trimap);
        assert_eq!(mask.alpha, [255, 8, 0]);
    }
}
