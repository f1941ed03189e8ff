//! Sharpness and noise of a finished raster.

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

/// Sharpness is measured at no more than this many pixels a side, so that it does not depend on the camera.
const SHARPNESS_SIDE_PX: u32 = 512;
/// Noise is estimated from about this many pixels, in rows spread over the picture: an average of a million differs
/// from that of all by far less than it differs between pictures.
const NOISE_SAMPLE_PX: u64 = 1_000_000;

/// Variance of the Laplacian of the luma (0–255), at no more than 512 pixels a side.
pub(crate) fn sharpness(raster: &Raster) -> f32 {
    let small = shrink(raster);
    let raster = small.as_ref().unwrap_or(raster);
    let mut total = Sums::default();
    each_neighbourhood(raster, 1, |above, row, below| {
        for x in 1..row.len().saturating_sub(1) {
            total.add(above[x] + below[x] + row[x - 1] + row[x + 1] - 4 * row[x]);
        }
    });
    total.variance()
}

/// Standard deviation of the noise in the luma (0–255), after J. Immerkær, "Fast Noise Variance Estimation", 1996.
pub(crate) fn noise(raster: &Raster) -> f32 {
    let step = raster.pixels().div_ceil(NOISE_SAMPLE_PX).max(1);
    let (mut sum, mut count) = (0_u64, 0_u64);
    each_neighbourhood(raster, step as usize, |above, row, below| {
        let mut row_sum = 0_u32;
        for x in 1..row.len().saturating_sub(1) {
            let corners = above[x - 1] + above[x + 1] + below[x - 1] + below[x + 1];
            let sides = above[x] + below[x] + row[x - 1] + row[x + 1];
            row_sum += (corners - 2 * sides + 4 * row[x]).unsigned_abs();
        }
        sum += u64::from(row_sum);
        count += row.len().saturating_sub(2) as u64;
    });
    if count == 0 {
        return 0.0;
    }
    let mean = sum as f64 / count as f64;
    ((std::f64::consts::PI / 2.0).sqrt() / 6.0 * mean) as f32
}

#[derive(Default)]
struct Sums {
    sum: i64,
    squares: i64,
    count: i64,
}

impl Sums {
    fn add(&mut self, value: i32) {
        self.sum += i64::from(value);
        self.squares += i64::from(value) * i64::from(value);
        self.count += 1;
    }

    fn variance(&self) -> f32 {
        if self.count == 0 {
            return 0.0;
        }
        let mean = self.sum as f64 / self.count as f64;
        (self.squares as f64 / self.count as f64 - mean * mean).max(0.0) as f32
    }
}

/// Calls `visit` with three neighbouring rows of luma, for every `step`-th row of the inside.
fn each_neighbourhood(raster: &Raster, step: usize, mut visit: impl FnMut(&[i32], &[i32], &[i32])) {
    let (width, height) = (raster.width() as usize, raster.height() as usize);
    if width < 3 || height < 3 {
        return;
    }
    // Three rows of luma; row y stands in slot y mod 3 and is not made twice.
    let mut rows = [vec![0; width], vec![0; width], vec![0; width]];
    let mut made = [usize::MAX; 3];
    for y in (1..height - 1).step_by(step) {
        for neighbour in y - 1..=y + 1 {
            if made[neighbour % 3] != neighbour {
                luma(raster, neighbour as u32, &mut rows[neighbour % 3]);
                made[neighbour % 3] = neighbour;
            }
        }
        visit(&rows[(y - 1) % 3], &rows[y % 3], &rows[(y + 1) % 3]);
    }
}

/// Rec. 601 luma in 8-bit fixed point.
fn luma(raster: &Raster, y: u32, luma: &mut [i32]) {
    let weigh = |red: u8, green: u8, blue: u8| {
        (77 * i32::from(red) + 150 * i32::from(green) + 29 * i32::from(blue) + 128) >> 8
    };
    let row = raster.row(y);
    match raster.channels() {
        Channels::Gray => luma
            .iter_mut()
            .zip(row)
            .for_each(|(value, gray)| *value = i32::from(*gray)),
        Channels::Rgb => {
            let pixels = row.as_chunks::<3>().0;
            luma.iter_mut()
                .zip(pixels)
                .for_each(|(value, [red, green, blue])| *value = weigh(*red, *green, *blue));
        }
        Channels::Rgba => {
            let pixels = row.as_chunks::<4>().0;
            luma.iter_mut()
                .zip(pixels)
                .for_each(|(value, [red, green, blue, _])| *value = weigh(*red, *green, *blue));
        }
    }
}

/// `None` where the picture is small enough as it is.
fn shrink(raster: &Raster) -> Option<Raster> {
    resize_to_side(raster, SHARPNESS_SIDE_PX, FilterType::Box)
}

/// The raster at no more than `side_px` pixels a side; `None` where it is already. Transparent pixels do not bleed.
pub(crate) fn resize_to_side(raster: &Raster, side_px: u32, filter: FilterType) -> Option<Raster> {
    let longest = raster.width().max(raster.height());
    if longest <= side_px {
        return None;
    }
    let scaled = |side: u32| {
        ((u64::from(side) * u64::from(side_px) + u64::from(longest / 2)) / u64::from(longest))
            .max(1) as u32
    };
    let (width, height) = (scaled(raster.width()), scaled(raster.height()));
    let pixel_type = match raster.channels() {
        Channels::Gray => PixelType::U8,
        Channels::Rgb => PixelType::U8x3,
        Channels::Rgba => PixelType::U8x4,
    };
    let source = ImageRef::new(raster.width(), raster.height(), raster.data(), pixel_type).ok()?;
    let mut target = Image::new(width, height, pixel_type);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize(&source, &mut target, &options).ok()?;
    Raster::new(width, height, raster.channels(), target.into_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> Raster {
        let data = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| value(x, y))
            .collect();
        Raster::new(width, height, Channels::Gray, data).unwrap()
    }

    #[test]
    fn a_flat_picture_has_neither_and_a_ramp_has_no_noise() {
        let flat = gray(100, 80, |_, _| 77);
        assert_eq!((sharpness(&flat), noise(&flat)), (0.0, 0.0));
        let ramp = gray(100, 80, |x, y| (x + y) as u8);
        assert_eq!((sharpness(&ramp), noise(&ramp)), (0.0, 0.0));
        let tiny = gray(2, 2, |x, _| x as u8 * 200);
        assert_eq!((sharpness(&tiny), noise(&tiny)), (0.0, 0.0));
    }

    #[test]
    fn a_known_noise_is_found() {
        // The sum of twelve uniform numbers is close to normal; scaled to a standard deviation of 8.
        let mut state = 12_345_u64;
        let mut uniform = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 24)
        };
        let data = (0..400 * 300)
            .map(|_| (128.0 + 8.0 * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)) as u8)
            .collect();
        let noisy = Raster::new(400, 300, Channels::Gray, data).unwrap();
        let found = noise(&noisy);
        assert!((found - 8.0).abs() < 0.5, "{found}");
    }

    #[test]
    fn an_edge_is_sharper_than_its_blur() {
        let sharp = gray(300, 300, |x, _| if x % 20 < 10 { 30 } else { 220 });
        let soft = gray(300, 300, |x, _| {
            (125.0 + 95.0 * (f64::from(x) * std::f64::consts::TAU / 20.0).sin()) as u8
        });
        assert!(sharpness(&sharp) > 4.0 * sharpness(&soft));
    }

    #[test]
    fn the_longest_side_is_kept_within_the_bound() {
        let wide = gray(1_000, 3, |x, _| x as u8);
        let small = resize_to_side(&wide, 100, FilterType::Lanczos3).unwrap();
        assert_eq!((small.width(), small.height()), (100, 1));
        assert!(resize_to_side(&wide, 1_000, FilterType::Lanczos3).is_none());
    }
}
