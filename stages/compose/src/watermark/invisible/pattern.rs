//! The pattern that carries a payload: a square of [`SIDE`] pixels, made of waves of a middle band, repeated over the picture.
//!
//! A third of the waves say where the pattern begins (their phases are fixed), the others say the payload, each by the signs of
//! its real and its imaginary part. All of it follows from one seed: this is a format, and whatever is changed here, marks that
//! were made before are not read any more.

use std::sync::{Arc, LazyLock};

use rustfft::{Fft, FftPlanner, num_complex::Complex32};

use super::code;

/// Side of the pattern, in pixels.
pub(super) const SIDE: usize = 128;
const PIXELS: usize = SIDE * SIDE;
/// The band, in waves per [`SIDE`] pixels. Below it the picture itself is strong and the eye keen; above it halving and
/// compression leave nothing.
pub(super) const BAND: std::ops::RangeInclusive<f64> = 6.0..=26.0;
/// Waves nearly along an axis are left out: edges of things and the blocks of JPEG lie there.
const MIN_WAVES_PER_AXIS: i32 = 2;
const SEED: u64 = 0x0041_7465_6c69_6572;

/// Two signs.
type Signs = [f32; 2];

/// One wave: its place in the spectrum and the signs that it is taken with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wave {
    /// Waves per [`SIDE`] pixels to the right and downwards.
    pub frequency: (i32, i32),
    /// What the real and the imaginary part are multiplied with.
    pub signs: Signs,
}

impl Wave {
    /// Where it is in a spectrum.
    pub fn index(&self) -> usize {
        let (right, down) = self.frequency;
        wrapped(down) * SIDE + wrapped(right)
    }

    fn opposite_index(&self) -> usize {
        let (right, down) = self.frequency;
        wrapped(-down) * SIDE + wrapped(-right)
    }
}

fn wrapped(frequency: i32) -> usize {
    frequency.rem_euclid(SIDE as i32) as usize
}

/// The waves by what they say.
pub(super) struct Waves {
    /// They say where the pattern begins.
    pub position: Vec<Wave>,
    /// They say the payload.
    pub payload: Vec<Wave>,
}

/// The waves of the format.
pub(super) static WAVES: LazyLock<Waves> = LazyLock::new(|| {
    let mut random = SplitMix(SEED);
    let mut waves = Vec::new();
    for down in -(SIDE as i32) / 2 + 1..SIDE as i32 / 2 {
        // The other half plane mirrors this one.
        for right in MIN_WAVES_PER_AXIS..SIDE as i32 / 2 {
            let is_off_axis = down.abs() >= MIN_WAVES_PER_AXIS;
            if is_off_axis && BAND.contains(&f64::from(right).hypot(f64::from(down))) {
                let frequency = (right, down);
                let signs = [random.sign(), random.sign()];
                waves.push(Wave { frequency, signs });
            }
        }
    }
    for last in (1..waves.len()).rev() {
        waves.swap(last, (random.next() % (last as u64 + 1)) as usize);
    }
    let payload = waves.split_off(waves.len() / 3);
    Waves {
        position: waves,
        payload,
    }
});

/// The pattern of `payload`, row by row, with a mean of 0 and a standard deviation of 1.
pub(super) fn pattern(payload: &[u8]) -> Vec<f32> {
    let code = code::encode(payload);
    let mut spectrum = vec![Complex32::default(); PIXELS];
    let mut set = |wave: &Wave, value: Complex32| {
        spectrum[wave.index()] = value;
        spectrum[wave.opposite_index()] = value.conj();
    };
    for wave in &WAVES.position {
        set(wave, Complex32::new(wave.signs[0], wave.signs[1]));
    }
    let mut repeated = code.iter().copied().cycle();
    for wave in &WAVES.payload {
        let mut next = |sign| repeated.next().map_or(0.0, |coded| coded * sign);
        set(
            wave,
            Complex32::new(next(wave.signs[0]), next(wave.signs[1])),
        );
    }
    transform(&mut spectrum, &INVERSE);
    // Each of the waves has a power of 2, and so has its opposite.
    let waves = (WAVES.position.len() + WAVES.payload.len()) as f32;
    let scale = (4.0 * waves).sqrt().recip();
    spectrum.iter().map(|value| value.re * scale).collect()
}

/// What the waves of the payload say about each sign of a message of `payload_bytes`: the sum over its repetitions.
pub(super) fn soft_signs(
    spectrum_at: impl Fn(&Wave) -> Complex32,
    payload_bytes: usize,
) -> Vec<f32> {
    let mut soft = vec![0.0; code::coded_signs(payload_bytes)];
    let length = soft.len();
    let parts = WAVES.payload.iter().flat_map(|wave| {
        let value = spectrum_at(wave);
        [value.re * wave.signs[0], value.im * wave.signs[1]]
    });
    for (index, part) in parts.enumerate() {
        soft[index % length] += part;
    }
    soft
}

/// Share of the payload's signs that are those of `payload`.
pub(super) fn agreement(spectrum_at: impl Fn(&Wave) -> Complex32, payload: &[u8]) -> f32 {
    let code = code::encode(payload);
    let mut repeated = code.iter().cycle();
    let mut agreeing = 0;
    for wave in &WAVES.payload {
        let value = spectrum_at(wave);
        for part in [value.re * wave.signs[0], value.im * wave.signs[1]] {
            agreeing += u32::from(repeated.next().is_some_and(|sign| part * sign > 0.0));
        }
    }
    agreeing as f32 / (2 * WAVES.payload.len()) as f32
}

static FORWARD: LazyLock<Arc<dyn Fft<f32>>> =
    LazyLock::new(|| FftPlanner::new().plan_fft_forward(SIDE));
static INVERSE: LazyLock<Arc<dyn Fft<f32>>> =
    LazyLock::new(|| FftPlanner::new().plan_fft_inverse(SIDE));

/// The spectrum of a square of [`SIDE`] pixels.
pub(super) fn forward(square: &[f32]) -> Vec<Complex32> {
    let mut values: Vec<_> = square.iter().map(|value| Complex32::from(*value)).collect();
    transform(&mut values, &FORWARD);
    values
}

/// The square that a spectrum stands for, without a factor.
pub(super) fn inverse(spectrum: &mut [Complex32]) {
    transform(spectrum, &INVERSE);
}

fn transform(values: &mut [Complex32], along_rows: &LazyLock<Arc<dyn Fft<f32>>>) {
    for _ in 0..2 {
        along_rows.process(values);
        for row in 1..SIDE {
            for column in 0..row {
                values.swap(row * SIDE + column, column * SIDE + row);
            }
        }
    }
}

/// Random numbers that stay the same for ever, which those of a library need not (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn sign(&mut self) -> f32 {
        if self.next() >> 63 == 0 { 1.0 } else { -1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks that are out in the world are read only as long as this holds.
    #[test]
    fn the_format_stays_the_same() {
        let waves = &*WAVES;
        assert_eq!((waves.position.len(), waves.payload.len()), (294, 590));
        let pattern = pattern(b"\xc0\xff\xee\x01");
        let mean = pattern.iter().sum::<f32>() / PIXELS as f32;
        let power = pattern.iter().map(|value| value * value).sum::<f32>() / PIXELS as f32;
        assert!(
            mean.abs() < 1e-4 && (power - 1.0).abs() < 1e-3,
            "{mean} {power}"
        );
        let first: Vec<i32> = pattern[..8]
            .iter()
            .map(|value| (value * 100.0).round() as i32)
            .collect();
        assert_eq!(first, [47, -50, -108, -74, 34, 133, 159, 120]);
    }
}
