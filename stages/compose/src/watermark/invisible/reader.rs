//! Reading without the original: whiten, fold the picture into one square, find where the pattern begins, decode.
//!
//! Invariant: a payload is answered only if its 32-bit checksum holds. At most [`MAX_ATTEMPTS`] messages are tried for a picture, so
//! that an unmarked one yields a payload with a probability of no more than `MAX_ATTEMPTS` / 2³², 2.4 · 10⁻⁷.

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use rustfft::num_complex::Complex32;

use super::{
    MarkError, code,
    filter::Plane,
    pattern::{self, BAND, SIDE, WAVES, Wave},
};

/// Sizes, as shares of the marked picture's, that a picture may have been scaled to; the likely ones first.
const SCALES: [f32; 8] = [1.0, 0.5, 0.75, 2.0 / 3.0, 0.9, 0.8, 0.7, 0.6];
/// Beginnings of the pattern that are tried for each scale.
const BEGINNINGS: usize = 25;
/// Lengths of payloads.
const PAYLOAD_BYTES: std::ops::RangeInclusive<usize> = 4..=8;
/// Messages that are tried for a picture, at most.
pub const MAX_ATTEMPTS: usize = SCALES.len() * BEGINNINGS * 5;
/// A beginning is tried from this many standard deviations of chance on; it saves time and no more.
const MIN_DEVIATIONS: f32 = 4.5;
/// Beyond this a larger picture is not read better; in pixels of the marked picture.
const MAX_WINDOW_PX: usize = 2048;
/// The details that are looked at are smaller than this.
const DETAIL_SIGMA_PX: f32 = 3.0;
/// Where details are strong they are weakened, over this reach …
const EVEN_SIGMA_PX: f32 = 6.0;
/// … but not below this deviation, in levels, where there is nothing but rounding …
const EVEN_FLOOR: f32 = 1.0;
/// … and no pixel counts for more than this many deviations.
const MAX_DETAIL: f32 = 2.5;
/// The noise of a wave is that of the waves around it, so many on each side.
const NOISE_REACH: i32 = 3;
/// Parts of the band, by frequency.
const RINGS: usize = 5;
/// No part of the band counts for less.
const MIN_RELIABILITY: f32 = 0.02;

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The payload.
    pub payload: Vec<u8>,
    /// How far the pattern's beginning stands out, in standard deviations of chance.
    pub deviations: f32,
    /// Share of the payload's signs that agree with what was decoded: 1 is a mark without any damage, 0.5 is chance.
    pub agreement: f32,
    /// What the picture was scaled to, of its size when it was marked.
    pub scale: f32,
}

/// Reads the mark of `picture`, whatever it was scaled to and wherever it was cropped; `None` where there is none. Blocks, and
/// uses all cores.
///
/// # Errors
/// [`MarkError`] where the picture cannot be scaled.
pub fn read(picture: &Raster) -> Result<Option<Reading>, MarkError> {
    for scale in SCALES {
        if let Some(reading) = read_at(picture, scale)? {
            return Ok(Some(reading));
        }
    }
    Ok(None)
}

/// Reads the mark of `picture` as one that was scaled to `scale`.
pub(super) fn read_at(picture: &Raster, scale: f32) -> Result<Option<Reading>, MarkError> {
    let window = window(picture, (MAX_WINDOW_PX as f32 * scale) as u32)?;
    let luma = enlarged(Plane::luma(&window, 0..window.height()), scale)?;
    let spectrum = whitened(&pattern::forward(&folded(&luma)));
    for (beginning, deviations) in beginnings(&spectrum) {
        if deviations < MIN_DEVIATIONS {
            break;
        }
        let moved = |wave: &Wave| spectrum[wave.index()] * phase(wave, beginning);
        let reliability = reliability(moved);
        let moved = |wave: &Wave| moved(wave) * reliability[ring(wave)];
        for bytes in PAYLOAD_BYTES {
            let Some(payload) = code::decode(&pattern::soft_signs(moved, bytes), bytes) else {
                continue;
            };
            return Ok(Some(Reading {
                agreement: pattern::agreement(moved, &payload),
                payload,
                deviations,
                scale,
            }));
        }
    }
    Ok(None)
}

/// The middle of what can be seen, no more than `side_px` wide and high.
fn window(picture: &Raster, side_px: u32) -> Result<Raster, MarkError> {
    let stride = picture.channels().count();
    let is_seen = |pixel: &[u8]| picture.channels() != Channels::Rgba || pixel[3] > 0;
    let columns = |y: u32| {
        let row = picture.row(y);
        let first = row.chunks_exact(stride).position(is_seen)?;
        Some((first, row.chunks_exact(stride).rposition(is_seen)?))
    };
    let (mut left, mut right, mut top, mut bottom) = (picture.width(), 0, picture.height(), 0);
    for y in 0..picture.height() {
        if let Some((first, last)) = columns(y) {
            (left, right) = (left.min(first as u32), right.max(last as u32 + 1));
            (top, bottom) = (top.min(y), y + 1);
        }
    }
    if left >= right {
        (left, right, top, bottom) = (0, picture.width(), 0, picture.height());
    }
    let middle = |from: u32, to: u32| {
        let length = (to - from).min(side_px);
        (from + (to - from - length) / 2, length)
    };
    let ((left, width), (top, height)) = (middle(left, right), middle(top, bottom));
    let (from, length) = (left as usize * stride, width as usize * stride);
    let mut data = Vec::with_capacity(length * height as usize);
    for y in top..top + height {
        data.extend_from_slice(&picture.row(y)[from..from + length]);
    }
    Ok(Raster::new(width, height, picture.channels(), data)?)
}

fn enlarged(luma: Plane, scale: f32) -> Result<Plane, MarkError> {
    let length = |px: usize| (px as f32 / scale).round() as usize;
    let (width, height) = (length(luma.width), length(luma.height));
    if (width, height) == (luma.width, luma.height) {
        return Ok(luma);
    }
    let failed = |error: &dyn std::fmt::Display| MarkError::Scaling {
        width,
        height,
        message: error.to_string(),
    };
    let bytes: Vec<u8> = luma
        .values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect();
    let source = ImageRef::new(
        luma.width as u32,
        luma.height as u32,
        &bytes,
        PixelType::F32,
    )
    .map_err(|error| failed(&error))?;
    let mut target = Image::new(width as u32, height as u32, PixelType::F32);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| failed(&error))?;
    let values = target.buffer().as_chunks::<4>().0;
    let values = values
        .iter()
        .map(|bytes| f32::from_ne_bytes(*bytes))
        .collect();
    Ok(Plane {
        width,
        height,
        values,
    })
}

/// The sum of all squares of the picture, its details made even.
fn folded(luma: &Plane) -> Vec<f32> {
    let details = luma.details(DETAIL_SIGMA_PX);
    let even = details.zip(
        &details.local_deviation(EVEN_SIGMA_PX),
        |detail, deviation| (detail / (deviation + EVEN_FLOOR)).clamp(-MAX_DETAIL, MAX_DETAIL),
    );
    let mut square = vec![0.0; SIDE * SIDE];
    for (y, row) in even.values.chunks_exact(even.width).enumerate() {
        let line = &mut square[y % SIDE * SIDE..][..SIDE];
        for part in row.chunks(SIDE) {
            line.iter_mut()
                .zip(part)
                .for_each(|(sum, value)| *sum += value);
        }
    }
    square
}

/// Every wave in units of the noise around it.
fn whitened(spectrum: &[Complex32]) -> Vec<Complex32> {
    let at = |right: i32, down: i32| {
        let wrapped = |place: i32| place.rem_euclid(SIDE as i32) as usize;
        wrapped(down) * SIDE + wrapped(right)
    };
    let neighbours = (2 * NOISE_REACH + 1).pow(2) as f32;
    let mut white = vec![Complex32::default(); spectrum.len()];
    for wave in WAVES.position.iter().chain(&WAVES.payload) {
        let (right, down) = wave.frequency;
        let around = (-NOISE_REACH..=NOISE_REACH)
            .flat_map(|by| (-NOISE_REACH..=NOISE_REACH).map(move |along| (along, by)));
        let power: f32 = around
            .map(|(along, by)| spectrum[at(right + along, down + by)].norm_sqr())
            .sum();
        if power > 0.0 {
            white[wave.index()] = spectrum[wave.index()] / (power / neighbours).sqrt();
        }
    }
    white
}

/// Where the pattern may begin (right, down), and by how many deviations each stands out; the likeliest first.
fn beginnings(white: &[Complex32]) -> Vec<((usize, usize), f32)> {
    let mut product = vec![Complex32::default(); white.len()];
    for wave in &WAVES.position {
        let signs = Complex32::new(wave.signs[0], -wave.signs[1]);
        product[wave.index()] = white[wave.index()] * signs;
    }
    pattern::inverse(&mut product);
    let deviation = (WAVES.position.len() as f32).sqrt();
    let mut places: Vec<((usize, usize), f32)> = product
        .iter()
        .enumerate()
        .map(|(index, value)| ((index % SIDE, index / SIDE), value.re / deviation))
        .collect();
    let order = |a: &((usize, usize), f32), b: &((usize, usize), f32)| b.1.total_cmp(&a.1);
    places.select_nth_unstable_by(BEGINNINGS, order);
    places.truncate(BEGINNINGS);
    places.sort_by(order);
    places
}

/// How much of the mark is left in each ring of the band, as the waves of known signs say: compression takes the fine ones first.
fn reliability(spectrum_at: impl Fn(&Wave) -> Complex32) -> [f32; RINGS] {
    let (mut sums, mut counts) = ([0.0; RINGS], [0.0; RINGS]);
    for wave in &WAVES.position {
        let value = spectrum_at(wave);
        sums[ring(wave)] += value.re * wave.signs[0] + value.im * wave.signs[1];
        counts[ring(wave)] += 2.0;
    }
    std::array::from_fn(|ring| (sums[ring] / f32::max(counts[ring], 1.0)).max(MIN_RELIABILITY))
}

fn ring(wave: &Wave) -> usize {
    let (right, down) = wave.frequency;
    let share =
        (f64::from(right).hypot(f64::from(down)) - BAND.start()) / (BAND.end() - BAND.start());
    ((share * RINGS as f64) as usize).min(RINGS - 1)
}

/// What moves a wave back by `beginning`.
fn phase(wave: &Wave, beginning: (usize, usize)) -> Complex32 {
    let waves = wave.frequency.0 * beginning.0 as i32 + wave.frequency.1 * beginning.1 as i32;
    let turns = waves.rem_euclid(SIDE as i32) as f32 / SIDE as f32;
    Complex32::from_polar(1.0, turns * std::f32::consts::TAU)
}
