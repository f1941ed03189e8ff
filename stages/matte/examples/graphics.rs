//! Scores the graphic processor on a folder of pictures with alpha of their own, laid over flat colours:
//! `cargo run --release -p atelier-matte --example graphics -- FOLDER`
//!
//! Prints a row for each ground, size and codec, apart for drawings without and with gradients: pictures that were cut out and
//! those that were refused; mean absolute error of alpha in levels of 255, over all pixels, over those that tell (apart from the
//! rims of opaque parts in the ground's own colour), and over those of partial alpha; the floor, which is the first for somebody who
//! knows both true colours of every pixel and solves for alpha from the bytes; error of the colours as they are seen on another ground (alpha · |F − F*|, largest channel, mean over the subject); share of pictures
//! whose mean alpha error is at most one level; share of the opaque pixels that are what was drawn to the byte. Opaque pixels whose true colour is the ground's are left out: nothing in the
//! picture tells them from it.
#![allow(clippy::print_stdout)]

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use atelier_matte::processors::graphic::{CutError, cut_out};
use atelier_stores::{Raster, raster::Channels};
use image::{ImageBuffer, Rgba, RgbaImage, imageops};

const SIDES_PX: [u32; 4] = [72, 160, 256, 512];
const JPEG_QUALITY: u8 = 90;
/// At least this share of the opaque pixels of a drawing without gradients has one of its sixteen most frequent colours.
const FLAT_SHARE: f64 = 0.7;
/// How far the ground is from a colour of the picture's own, in levels.
const NEAR_LEVELS: u8 = 20;
const UNDECIDABLE_LEVELS: u8 = 2;
/// How far the rim of an undecidable part reaches, in pixels: what is mixed with it looks mixed with the ground.
const RIM_PX: u32 = 2;

#[derive(Default)]
struct Scores {
    pictures: u32,
    refused: u32,
    within_a_level: u32,
    alpha: f64,
    alpha_that_tells: f64,
    edge_alpha: f64,
    floor: f64,
    color: f64,
    exact_share: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("give a folder")?;
    let mut files: Vec<_> = fs::read_dir(Path::new(&folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let mut table: BTreeMap<(bool, bool, u32, &str), Scores> = BTreeMap::new();
    for file in &files {
        let Ok(picture) = image::open(file) else {
            continue;
        };
        let picture = picture.into_rgba8();
        let (own, flat_share) = most_frequent(&picture);
        let near = own.map(|value| {
            if value < 128 {
                value + NEAR_LEVELS
            } else {
                value - NEAR_LEVELS
            }
        });
        let grounds = [
            ("white", [255; 3]),
            ("black", [0; 3]),
            ("grey", [128; 3]),
            ("blue", [20, 60, 230]),
            ("green", [0, 190, 60]),
            ("its own + 20", near),
        ];
        for side_px in SIDES_PX {
            let truth = resized(&picture, side_px);
            for (name, ground) in grounds {
                let exact = laid_over(&truth, ground)?;
                for is_jpeg in [false, true] {
                    let seen = if is_jpeg {
                        through_jpeg(&exact)?
                    } else {
                        exact.clone()
                    };
                    let has_gradients = flat_share < FLAT_SHARE;
                    let key = (is_jpeg, has_gradients, side_px, name);
                    table.entry(key).or_default().add(&seen, &truth, ground)?;
                }
            }
        }
    }
    println!(
        "| | side | ground | pictures | refused | alpha | … that tells | floor | at edges | colours | within a level | exact |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for ((is_jpeg, has_gradients, side_px, ground), scores) in &table {
        let codec = if *is_jpeg { "JPEG 90" } else { "PNG" };
        let what = if *has_gradients {
            "gradients"
        } else {
            "no gradients"
        };
        let scored = f64::from((scores.pictures - scores.refused).max(1));
        println!(
            "| {what}, {codec} | {side_px} | {ground} | {} | {} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} | {:.0} % | {:.1} % |",
            scores.pictures,
            scores.refused,
            scores.alpha / scored,
            scores.alpha_that_tells / scored,
            scores.floor / scored,
            scores.edge_alpha / scored,
            scores.color / scored,
            100.0 * f64::from(scores.within_a_level) / scored,
            100.0 * scores.exact_share / scored
        );
    }
    Ok(())
}

impl Scores {
    fn add(&mut self, seen: &Raster, truth: &RgbaImage, ground: [u8; 3]) -> Result<(), CutError> {
        self.pictures += 1;
        let cut = match cut_out(seen) {
            Ok(cut) => cut,
            Err(CutError::NotFlat(_)) => {
                self.refused += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // Where there is no subject the picture stays whole.
        let found = cut
            .subject
            .map_or_else(|| vec![255; truth.len()], Raster::into_data);
        let [
            mut all,
            mut telling,
            mut edges,
            mut colors,
            mut floor,
            mut exact,
        ] = [(0.0, 0_u32); 6];
        let note = |sum: &mut (f64, u32), value: f64| {
            sum.0 += value;
            sum.1 += 1;
        };
        let is_undecidable = |x: u32, y: u32| {
            let color = truth.get_pixel(x, y).0;
            color[3] > 128 && apart(&color, &ground) <= UNDECIDABLE_LEVELS
        };
        let seen = seen.data().as_chunks::<3>().0.iter();
        let pixels = found
            .as_chunks::<4>()
            .0
            .iter()
            .zip(truth.enumerate_pixels());
        for ((found, (x, y, Rgba(drawn))), seen) in pixels.zip(seen) {
            if is_undecidable(x, y) {
                continue;
            }
            let error = f64::from(found[3].abs_diff(drawn[3]));
            note(&mut all, error);
            let columns = x.saturating_sub(RIM_PX)..(x + RIM_PX + 1).min(truth.width());
            let mut rows = y.saturating_sub(RIM_PX)..(y + RIM_PX + 1).min(truth.height());
            if !rows.any(|y| columns.clone().any(|x| is_undecidable(x, y))) {
                note(&mut telling, error);
            }
            note(&mut floor, error_of_one_who_knows(*drawn, ground, *seen));
            if (1..255).contains(&drawn[3]) {
                note(&mut edges, error);
            }
            if drawn[3] == 255 {
                note(&mut exact, f64::from(u8::from(found == drawn)));
            }
            if drawn[3] > 0 && found[3] > 0 {
                let levels = f64::from(apart(drawn, found));
                note(&mut colors, levels * f64::from(drawn[3]) / 255.0);
            }
        }
        let mean = |(sum, count): (f64, u32)| sum / f64::from(count.max(1));
        self.alpha += mean(all);
        self.alpha_that_tells += mean(telling);
        self.edge_alpha += mean(edges);
        self.floor += mean(floor);
        self.color += mean(colors);
        self.exact_share += mean(exact);
        self.within_a_level += u32::from(mean(all) <= 1.0);
        Ok(())
    }
}

/// The largest difference of two colours in one channel, in levels.
fn apart(one: &[u8], other: &[u8]) -> u8 {
    let differences = one.iter().zip(other).take(3);
    differences
        .map(|(one, other)| one.abs_diff(*other))
        .fold(0, u8::max)
}

/// By how many levels somebody errs in alpha who knows the colour that was drawn and that of the ground, and sees the mixture in bytes.
fn error_of_one_who_knows(drawn: [u8; 4], ground: [u8; 3], seen: [u8; 3]) -> f64 {
    let from_ground = |color: &[u8], at: usize| f64::from(color[at]) - f64::from(ground[at]);
    let (mut along, mut square) = (0.0, 0.0);
    for at in 0..3 {
        along += from_ground(&seen, at) * from_ground(&drawn, at);
        square += from_ground(&drawn, at).powi(2);
    }
    // Nobody takes bare ground for anything else.
    if drawn[3] == 0 || square == 0.0 {
        return 0.0;
    }
    let alpha = ((along / square).clamp(0.0, 1.0) * 255.0).round();
    (alpha - f64::from(drawn[3])).abs()
}

/// The most frequent colour of the opaque pixels, and the share of them that has one of the sixteen most frequent.
fn most_frequent(picture: &RgbaImage) -> ([u8; 3], f64) {
    let mut counts: BTreeMap<[u8; 3], u32> = BTreeMap::new();
    for Rgba([red, green, blue, alpha]) in picture.pixels() {
        if *alpha == 255 {
            *counts.entry([*red, *green, *blue]).or_default() += 1;
        }
    }
    let mut counts: Vec<([u8; 3], u32)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let sum = |counts: &[([u8; 3], u32)]| {
        counts
            .iter()
            .map(|(_, count)| f64::from(*count))
            .sum::<f64>()
    };
    let share = sum(&counts[..counts.len().min(16)]) / sum(&counts).max(1.0);
    (counts.first().map_or([128; 3], |(color, _)| *color), share)
}

/// At another size; colours weigh by alpha on the way.
fn resized(picture: &RgbaImage, side_px: u32) -> RgbaImage {
    let premultiplied: ImageBuffer<Rgba<f32>, Vec<f32>> =
        ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| {
            let Rgba([red, green, blue, alpha]) = *picture.get_pixel(x, y);
            let share = f32::from(alpha) / 255.0;
            let [red, green, blue] =
                [red, green, blue].map(|value| f32::from(value) / 255.0 * share);
            Rgba([red, green, blue, share])
        });
    let small = imageops::resize(
        &premultiplied,
        side_px,
        side_px,
        imageops::FilterType::Triangle,
    );
    ImageBuffer::from_fn(side_px, side_px, |x, y| {
        let Rgba([red, green, blue, share]) = *small.get_pixel(x, y);
        let alpha = (share.clamp(0.0, 1.0) * 255.0).round();
        if alpha == 0.0 {
            return Rgba([0; 4]);
        }
        let [red, green, blue] =
            [red, green, blue].map(|value| (value / share * 255.0).round().clamp(0.0, 255.0) as u8);
        Rgba([red, green, blue, alpha as u8])
    })
}

fn laid_over(picture: &RgbaImage, ground: [u8; 3]) -> Result<Raster, Box<dyn Error>> {
    let data = picture.pixels().flat_map(|pixel| {
        let share = f64::from(pixel.0[3]) / 255.0;
        [0, 1, 2].map(|at| {
            let mixed = share * f64::from(pixel.0[at]) + (1.0 - share) * f64::from(ground[at]);
            mixed.round() as u8
        })
    });
    let data = data.collect();
    Ok(Raster::new(
        picture.width(),
        picture.height(),
        Channels::Rgb,
        data,
    )?)
}

fn through_jpeg(picture: &Raster) -> Result<Raster, Box<dyn Error>> {
    let mut file = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY).encode(
        picture.data(),
        picture.width(),
        picture.height(),
        image::ExtendedColorType::Rgb8,
    )?;
    let decoded = image::load_from_memory(&file)?.into_rgb8().into_raw();
    Ok(Raster::new(
        picture.width(),
        picture.height(),
        Channels::Rgb,
        decoded,
    )?)
}
