//! What must not be opened: the inside of a subject that the coarse mattes mean to be there.
//!
//! The refiner opens what it can see through, and takes the light stripes of a dress on a light bed for that. Away from the
//! outline it may not go below what the coarse mattes say; holes that they leave themselves stay open.

use super::Mask;

/// A coarse matte below this is outside, where that is connected with the border.
const OUTSIDE: u8 = 128;

/// How far from the outside the inside begins, as a share of the longest side; at twice that it counts fully.
const MARGIN_SHARE: f32 = 0.015;

/// A coarse matte of this (0 to 1) or less holds nothing, one of [`SURE`] or more is there.
const UNSURE: f32 = 0.4;

/// See [`UNSURE`].
const SURE: f32 = 0.8;

/// The least alpha of every pixel, by the coarse mattes, which have one size.
pub(super) fn least_alpha(coarse: &Mask, other: Option<&Mask>) -> Vec<u8> {
    let mut surest = coarse.alpha.clone();
    if let Some(other) = other {
        for (alpha, other) in surest.iter_mut().zip(&other.alpha) {
            *alpha = (*alpha).max(*other);
        }
    }
    let (width, height) = (coarse.width as usize, coarse.height as usize);
    let margin_px = MARGIN_SHARE * width.max(height) as f32;
    let depths_px = depths_px(&outside(&surest, width, height), width);
    let least = |(alpha, depth_px): (&u8, &f32)| {
        let inside = ((depth_px - margin_px) / margin_px).clamp(0.0, 1.0);
        let sure = ((f32::from(*alpha) / 255.0 - UNSURE) / (SURE - UNSURE)).clamp(0.0, 1.0);
        (sure * inside * 255.0) as u8
    };
    surest.iter().zip(&depths_px).map(least).collect()
}

/// Which pixels are outside: below [`OUTSIDE`] and connected with the border.
fn outside(alpha: &[u8], width: usize, height: usize) -> Vec<bool> {
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

/// How far each pixel is from the outside, in pixels: a chamfer distance of two passes (Borgefors: Distance transformations
/// in digital images, CVGIP 1986), within eight percent of the true one. The border of the picture is not outside.
pub(super) fn depths_px(outside: &[bool], width: usize) -> Vec<f32> {
    const STRAIGHT: f32 = 1.0;
    const DIAGONAL: f32 = std::f32::consts::SQRT_2;
    let far = |outside: &bool| if *outside { 0.0 } else { f32::MAX };
    let mut depths: Vec<f32> = outside.iter().map(far).collect();
    let length = depths.len();
    for place in 0..length {
        let x = place % width;
        let mut depth = depths[place];
        if x > 0 {
            depth = depth.min(depths[place - 1] + STRAIGHT);
        }
        if place >= width {
            depth = depth.min(depths[place - width] + STRAIGHT);
            if x > 0 {
                depth = depth.min(depths[place - width - 1] + DIAGONAL);
            }
            if x + 1 < width {
                depth = depth.min(depths[place - width + 1] + DIAGONAL);
            }
        }
        depths[place] = depth;
    }
    for place in (0..length).rev() {
        let x = place % width;
        let mut depth = depths[place];
        if x + 1 < width {
            depth = depth.min(depths[place + 1] + STRAIGHT);
        }
        if place + width < length {
            depth = depth.min(depths[place + width] + STRAIGHT);
            if x + 1 < width {
                depth = depth.min(depths[place + width + 1] + DIAGONAL);
            }
            if x > 0 {
                depth = depth.min(depths[place + width - 1] + DIAGONAL);
            }
        }
        depths[place] = depth;
    }
    depths
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
        let least = least_alpha(&striped, None);
        assert_eq!(least[100 * SIDE + 100], 255);
        assert_eq!(least[102 * SIDE + 100], 255);
        // The outline is the refiner's, and the outside nobody's.
        assert_eq!((least[100 * SIDE + 159], least[0]), (0, 0));
    }

    #[test]
    fn holes_and_glass_stay_open() {
        let holed = disc(|x, _| if (90..110).contains(&x) { 20 } else { 255 });
        assert_eq!(least_alpha(&holed, None)[100 * SIDE + 100], 0);
        assert_eq!(least_alpha(&disc(|_, _| 100), None)[100 * SIDE + 100], 0);
    }

    #[test]
    fn one_of_two_mattes_is_enough() {
        let doubtful = disc(|_, y| if y % 8 < 4 { 255 } else { 60 });
        let solid = disc(|_, _| 255);
        assert_eq!(least_alpha(&doubtful, None)[102 * SIDE + 100], 0);
        assert_eq!(least_alpha(&doubtful, Some(&solid))[102 * SIDE + 100], 255);
    }

    #[test]
    fn a_subject_that_fills_the_picture_is_all_inside() {
        let full = Mask {
            width: 3,
            height: 1,
            alpha: vec![255; 3],
        };
        assert_eq!(least_alpha(&full, None), [255; 3]);
    }

    #[test]
    fn depths_are_nearly_true_distances() {
        let mut outside = vec![false; SIDE * SIDE];
        outside[100 * SIDE + 100] = true;
        let depths = depths_px(&outside, SIDE);
        for (x, y) in [(130, 100), (100, 40), (130, 130), (120, 160)] {
            let exact = (x as f32 - 100.0).hypot(y as f32 - 100.0);
            let found = depths[y * SIDE + x];
            assert!((found / exact - 1.0).abs() < 0.09, "{found} {exact}");
        }
    }
}
