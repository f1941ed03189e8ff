//! Lets the edge of a matte follow the edges of its picture.
//!
//! A network's matte has its own small size, so at the picture's size its edge is smooth and runs beside the real one. In
//! every small window alpha is taken for a linear function of the three colours, fitted by least squares: the guided
//! filter (He, Sun, Tang: Guided Image Filtering, IEEE TPAMI 2013). It is fitted at a fixed small size and applied at the
//! picture's (He, Sun: Fast Guided Filter, arXiv:1505.00996), and only where the matte is not the same all around, so that
//! its cost hardly grows with the picture. What is nearly background or nearly foreground then becomes it.
//!
//! Invariant: far from every edge of the matte a pixel that is 0 or 255 stays so.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use super::{Mask, Picture, SegmentError};

/// Longest side of the size at which the functions are fitted to a plain network's matte, in pixels.
const FITTED_SIDE_PX: u32 = 320;

/// Half the side of a window, without its middle, in pixels of the fitted size.
const RADIUS_PX: usize = 1;

/// How much variance of a colour (0 to 1) counts as noise; He, Sun and Tang's ε.
const NOISE_VARIANCE: f32 = 1e-3;

/// A window whose mattes differ by no more (of 255) has no edge.
const FLAT_LEVELS: u8 = 4;

/// Alpha below this is background, above its complement foreground, and what lies between is stretched.
const CUT_OFF: f32 = 0.015;

/// Alpha as a function of red, green and blue (0 to 1): three factors and what is added.
type Linear = [f32; 4];

/// Refines `mask`, which has the size of `picture`, in place.
///
/// # Errors
/// The sizes differ, or the picture has other bytes than it says.
pub fn refine(picture: &Picture<'_>, mask: &mut Mask) -> Result<(), SegmentError> {
    refine_at(picture, mask, FITTED_SIDE_PX)
}

/// The same, with functions fitted at a size whose longest side is `fitted_side_px`: what the matte knows of its edge.
///
/// # Errors
/// As [`refine`].
pub fn refine_at(
    picture: &Picture<'_>,
    mask: &mut Mask,
    fitted_side_px: u32,
) -> Result<(), SegmentError> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    if picture.pixels.len() != width * height * picture.channels
        || (mask.width, mask.height) != (picture.width, picture.height)
    {
        return Err(SegmentError::BadPicture {
            width: mask.width,
            height: mask.height,
            channels: picture.channels,
            found: picture.pixels.len(),
        });
    }
    if mask.alpha.is_empty() {
        return Ok(());
    }
    let fitted = Fitted::new(picture, mask, fitted_side_px)?;
    let pixels = picture.pixels.chunks_exact(width * picture.channels);
    for (y, (alpha, pixels)) in mask.alpha.chunks_exact_mut(width).zip(pixels).enumerate() {
        fitted.apply(y, height, alpha, pixels, picture.channels);
    }
    settle(mask);
    Ok(())
}

/// Makes what is nearly background or nearly foreground that.
pub(super) fn settle(mask: &mut Mask) {
    let stretched: [u8; 256] = std::array::from_fn(|level| stretch(level as f32 / 255.0));
    for alpha in &mut mask.alpha {
        *alpha = stretched[usize::from(*alpha)];
    }
}

/// 0 to 1, to 0 to 255.
fn stretch(alpha: f32) -> u8 {
    ((alpha - CUT_OFF) / (1.0 - 2.0 * CUT_OFF) * 255.0).round() as u8
}

/// The functions, at the fitted size.
struct Fitted {
    width: usize,
    height: usize,
    /// `None` where no edge is near.
    functions: Vec<Option<Linear>>,
}

impl Fitted {
    fn new(picture: &Picture<'_>, mask: &Mask, fitted_side_px: u32) -> Result<Self, SegmentError> {
        let longest = picture.width.max(picture.height);
        let shrunk = |side: u32| {
            let side = u64::from(side) * u64::from(fitted_side_px.min(longest));
            // No longer than `side` was.
            (side.div_ceil(u64::from(longest)) as u32).max(1)
        };
        let (width_px, height_px) = (shrunk(picture.width), shrunk(picture.height));
        let pixel_type = match picture.channels {
            1 => PixelType::U8,
            3 => PixelType::U8x3,
            _ => PixelType::U8x4,
        };
        let colors = shrink(picture.pixels, picture, pixel_type, width_px, height_px)?;
        let alpha = shrink(&mask.alpha, picture, PixelType::U8, width_px, height_px)?;
        let small = Small {
            width: width_px as usize,
            height: height_px as usize,
            colors: colors.chunks_exact(picture.channels).map(color).collect(),
            alpha,
        };
        Ok(Self {
            width: small.width,
            height: small.height,
            functions: small.averaged(&small.fitted()),
        })
    }

    /// Calculates row `y` of a matte of `height` rows where an edge is near.
    fn apply(&self, y: usize, height: usize, alpha: &mut [u8], pixels: &[u8], channels: usize) {
        let (above, below, share) = between(y, height, self.height);
        let row = |y: usize| &self.functions[y * self.width..][..self.width];
        // Where no edge is near, the matte is the same all around: its own function is that constant.
        let constant = |x: usize| {
            let nearest = (2 * x + 1) * alpha.len() / (2 * self.width);
            [0.0, 0.0, 0.0, f32::from(alpha[nearest]) / 255.0]
        };
        let functions: Vec<Option<Linear>> = row(above)
            .iter()
            .zip(row(below))
            .enumerate()
            .map(|(x, (above, below))| {
                (above.is_some() || below.is_some()).then(|| {
                    let above = above.unwrap_or_else(|| constant(x));
                    mix(&above, &below.unwrap_or_else(|| constant(x)), share)
                })
            })
            .collect();
        let width = alpha.len();
        for (x, (alpha, pixel)) in alpha
            .iter_mut()
            .zip(pixels.chunks_exact(channels))
            .enumerate()
        {
            let (left, right, share) = between(x, width, self.width);
            let function = match (&functions[left], &functions[right]) {
                (Some(left), Some(right)) => mix(left, right, share),
                (Some(only), None) | (None, Some(only)) => *only,
                (None, None) => continue,
            };
            let [red, green, blue] = color(pixel);
            let found = function[0] * red + function[1] * green + function[2] * blue + function[3];
            *alpha = (found * 255.0).round() as u8;
        }
    }
}

/// Picture and matte at the fitted size.
struct Small {
    width: usize,
    height: usize,
    colors: Vec<[f32; 3]>,
    alpha: Vec<u8>,
}

impl Small {
    /// The places of a window, cut at the picture's border.
    fn window(&self, x: usize, y: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let columns = x.saturating_sub(RADIUS_PX)..(x + RADIUS_PX + 1).min(self.width);
        let rows = y.saturating_sub(RADIUS_PX)..(y + RADIUS_PX + 1).min(self.height);
        let width = self.width;
        rows.flat_map(move |y| columns.clone().map(move |x| y * width + x))
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let width = self.width;
        (0..self.height).flat_map(move |y| (0..width).map(move |x| (x, y)))
    }

    /// The function of each window that has an edge.
    fn fitted(&self) -> Vec<Option<Linear>> {
        let fit = |(x, y)| {
            let window = self.window(x, y);
            let levels = window.clone().map(|place| self.alpha[place]);
            let (least, largest) = levels.fold((u8::MAX, u8::MIN), |(least, largest), level| {
                (least.min(level), largest.max(level))
            });
            (largest - least > FLAT_LEVELS).then(|| self.fit(window))
        };
        self.places().map(fit).collect()
    }

    /// Least squares over one window.
    fn fit(&self, window: impl Iterator<Item = usize>) -> Linear {
        let mut count = 0.0;
        let mut alpha = 0.0;
        let mut color = [0.0; 3];
        let mut color_alpha = [0.0; 3];
        let mut color_color = [[0.0; 3]; 3];
        for place in window {
            let found = f32::from(self.alpha[place]) / 255.0;
            count += 1.0;
            alpha += found;
            for (i, one) in self.colors[place].iter().enumerate() {
                color[i] += one;
                color_alpha[i] += one * found;
                for (j, other) in self.colors[place].iter().enumerate() {
                    color_color[i][j] += one * other;
                }
            }
        }
        alpha /= count;
        let color = color.map(|sum: f32| sum / count);
        let covariance: [f32; 3] =
            std::array::from_fn(|i| color_alpha[i] / count - color[i] * alpha);
        let variance: [[f32; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let noise = if i == j { NOISE_VARIANCE } else { 0.0 };
                color_color[i][j] / count - color[i] * color[j] + noise
            })
        });
        let [red, green, blue] = solve(&variance, &covariance);
        let rest = alpha - red * color[0] - green * color[1] - blue * color[2];
        [red, green, blue, rest]
    }

    /// The mean function of the windows that a pixel lies in, where one of them has an edge.
    fn averaged(&self, fitted: &[Option<Linear>]) -> Vec<Option<Linear>> {
        let average = |(x, y)| {
            let window = self.window(x, y);
            if window.clone().all(|place| fitted[place].is_none()) {
                return None;
            }
            let (mut sum, mut count) = ([0.0; 4], 0.0);
            for place in window {
                let flat = || [0.0, 0.0, 0.0, f32::from(self.alpha[place]) / 255.0];
                let function = fitted[place].unwrap_or_else(flat);
                sum = std::array::from_fn(|term| sum[term] + function[term]);
                count += 1.0;
            }
            Some(sum.map(|term: f32| term / count))
        };
        self.places().map(average).collect()
    }
}

/// Red, green and blue of a pixel, 0 to 1.
fn color(pixel: &[u8]) -> [f32; 3] {
    let share = |level: u8| f32::from(level) / 255.0;
    match *pixel {
        [red, green, blue, ..] => [share(red), share(green), share(blue)],
        [gray, ..] => [share(gray); 3],
        [] => [0.0; 3],
    }
}

fn mix(one: &Linear, other: &Linear, share: f32) -> Linear {
    std::array::from_fn(|term| one[term] + (other[term] - one[term]) * share)
}

/// Between which of `small` places the middle of place `at` of `large` lies, and how near to the second.
fn between(at: usize, large: usize, small: usize) -> (usize, usize, f32) {
    let middle = (at as f32 + 0.5) * small as f32 / large as f32 - 0.5;
    let middle = middle.clamp(0.0, (small - 1) as f32);
    let first = middle as usize;
    (first, (first + 1).min(small - 1), middle - first as f32)
}

/// The solution of three linear equations with a symmetric positive definite matrix, by Cramer's rule.
fn solve(matrix: &[[f32; 3]; 3], right: &[f32; 3]) -> [f32; 3] {
    let [[a, b, c], [_, d, e], [_, _, f]] = *matrix;
    let cofactors = [
        [d * f - e * e, c * e - b * f, b * e - c * d],
        [c * e - b * f, a * f - c * c, b * c - a * e],
        [b * e - c * d, b * c - a * e, a * d - b * b],
    ];
    let determinant = a * cofactors[0][0] + b * cofactors[0][1] + c * cofactors[0][2];
    cofactors.map(|row| {
        let sum: f32 = row.iter().zip(right).map(|(one, other)| one * other).sum();
        sum / determinant
    })
}

/// Bytes of the picture's size, averaged down to another.
fn shrink(
    bytes: &[u8],
    picture: &Picture<'_>,
    pixel_type: PixelType,
    width: u32,
    height: u32,
) -> Result<Vec<u8>, SegmentError> {
    if (width, height) == (picture.width, picture.height) {
        return Ok(bytes.to_vec());
    }
    let failed = |reason: String| SegmentError::Resize {
        width,
        height,
        reason,
    };
    let source = ImageRef::new(picture.width, picture.height, bytes, pixel_type)
        .map_err(|error| failed(error.to_string()))?;
    let mut target = Image::new(width, height, pixel_type);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Box))
        .use_alpha(false);
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| failed(error.to_string()))?;
    Ok(target.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: u32 = 600;

    /// Red left of `edge`, blue right of it.
    fn two_colors(edge: u32) -> Vec<u8> {
        let pixel = |place: u32| {
            if place % SIDE < edge {
                [200, 30, 30]
            } else {
                [20, 30, 180]
            }
        };
        (0..SIDE * SIDE).flat_map(pixel).collect()
    }

    /// Foreground left of `edge`, with a ramp of `ramp` pixels around it.
    fn ramp(edge: u32, ramp: u32) -> Mask {
        let level = |place: u32| {
            let beside = (edge + ramp / 2) as f32 - (place % SIDE) as f32;
            ((beside / ramp as f32).clamp(0.0, 1.0) * 255.0) as u8
        };
        Mask {
            width: SIDE,
            height: SIDE,
            alpha: (0..SIDE * SIDE).map(level).collect(),
        }
    }

    fn picture(pixels: &[u8], channels: usize) -> Picture<'_> {
        Picture {
            width: SIDE,
            height: SIDE,
            channels,
            pixels,
        }
    }

    #[test]
    fn a_soft_edge_moves_onto_the_pictures() {
        let pixels = two_colors(300);
        let mut mask = ramp(302, 8);
        let wrong = |mask: &Mask| -> u64 {
            let expected = ramp(300, 1);
            let pairs = mask.alpha.iter().zip(&expected.alpha);
            pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
        };
        let before = wrong(&mask);
        refine(&picture(&pixels, 3), &mut mask).unwrap();
        let after = wrong(&mask);
        assert!(after * 20 < before * 19, "{after} of {before}");
    }

    #[test]
    fn what_is_far_from_every_edge_stays() {
        let noise: Vec<u8> = (0..SIDE * SIDE * 4)
            .map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut mask = ramp(300, 20);
        refine(&picture(&noise, 4), &mut mask).unwrap();
        for (place, alpha) in (0_u32..).zip(&mask.alpha) {
            match place % SIDE {
                0..280 => assert_eq!(*alpha, 255),
                320.. => assert_eq!(*alpha, 0),
                _ => {}
            }
        }
    }

    #[test]
    fn a_matte_that_is_half_everywhere_stays_half() {
        let mut mask = Mask {
            width: SIDE,
            height: SIDE,
            alpha: vec![128; (SIDE * SIDE) as usize],
        };
        refine(&picture(&two_colors(200), 3), &mut mask).unwrap();
        assert!(mask.alpha.iter().all(|alpha| alpha.abs_diff(128) <= 1));
    }

    #[test]
    fn the_smallest_and_the_narrowest_pictures_pass() {
        for (width, height) in [(1, 1), (1, 3000), (3000, 1), (2, 2)] {
            let mut alpha = vec![0; width * height];
            alpha[0] = 255;
            let mut mask = Mask {
                width: width as u32,
                height: height as u32,
                alpha,
            };
            let pixels: Vec<u8> = (0..width * height).map(|place| place as u8).collect();
            let picture = Picture {
                width: width as u32,
                height: height as u32,
                channels: 1,
                pixels: &pixels,
            };
            refine(&picture, &mut mask).unwrap();
            assert_eq!(mask.alpha.len(), width * height);
        }
    }

    #[test]
    fn another_size_is_refused() {
        let mut mask = ramp(300, 5);
        mask.width -= 1;
        assert!(refine(&picture(&two_colors(300), 3), &mut mask).is_err());
    }

    #[test]
    fn three_equations_are_solved() {
        let matrix = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]];
        let found = solve(&matrix, &[7.5, 7.75, 7.0]);
        for (found, expected) in found.iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-5, "{found}");
        }
    }
}
