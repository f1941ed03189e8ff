//! What an invisible mark survives, over real photographs, and how often one is read where there is none:
//! `cargo run --release -p atelier-compose --example survival -- [--unmarked COUNT] PICTURE_OR_FOLDER…`
//!
//! With `--unmarked` no mark is made: COUNT pictures are derived from those that are given (crops, mirrors, sizes, noise, files) and
//! drawn (noise, waves, grids), and read. Everything follows from fixed seeds.
#![allow(clippy::print_stdout)]

use std::{error::Error, fs, path::PathBuf};

use atelier_compose::invisible::{self, MAX_ATTEMPTS, MarkError};
use atelier_stores::{Raster, raster::Channels};
use image::{DynamicImage, RgbImage, RgbaImage, imageops, imageops::FilterType};
use rayon::prelude::*;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut files = Vec::new();
    let mut unmarked = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--unmarked" {
            let count = arguments.next().ok_or("--unmarked needs a number")?;
            unmarked = Some(count.to_string_lossy().parse()?);
        } else {
            collect(PathBuf::from(argument), &mut files)?;
        }
    }
    files.sort();
    let pictures: Vec<(PathBuf, DynamicImage)> = files
        .into_par_iter()
        .filter_map(|file| Some((file.clone(), image::open(&file).ok()?)))
        .collect();
    if pictures.is_empty() {
        return Err("no picture was given".into());
    }
    match unmarked {
        Some(count) => false_readings(&pictures, count),
        None => survival(&pictures),
    }
}

fn collect(path: PathBuf, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(entry?.path(), files)?;
        }
    } else {
        files.push(path);
    }
    Ok(())
}

/// What happens to a marked picture; `number` is the picture's.
type Attack = fn(&DynamicImage, usize) -> Result<DynamicImage, Failure>;

const ATTACKS: [(&str, Attack); 12] = [
    ("none", |picture, _| Ok(picture.clone())),
    ("JPEG quality 70", |picture, _| jpeg(picture, 70)),
    ("WebP quality 75", |picture, _| webp(picture, 75.0)),
    ("scaled to 50 %", |picture, number| {
        Ok(scaled(picture, 0.5, number))
    }),
    ("10 % cut off one side", |picture, number| {
        Ok(side_cut_off(picture, number))
    }),
    ("10 % cut off at a corner", |picture, number| {
        Ok(corner_cut_off(picture, number))
    }),
    ("brightness × 1.1", |picture, _| {
        Ok(brighter(picture, 1.1, 0.0))
    }),
    ("brightness × 0.9", |picture, _| {
        Ok(brighter(picture, 0.9, 0.0))
    }),
    ("brightness + 10 %", |picture, _| {
        Ok(brighter(picture, 1.0, 25.5))
    }),
    ("brightness − 10 %", |picture, _| {
        Ok(brighter(picture, 1.0, -25.5))
    }),
    ("scaled to 75 %", |picture, number| {
        Ok(scaled(picture, 0.75, number))
    }),
    ("corner cut off, 50 %, JPEG 85", |picture, number| {
        jpeg(&scaled(&corner_cut_off(picture, number), 0.5, number), 85)
    }),
];

fn jpeg(picture: &DynamicImage, quality: u8) -> Result<DynamicImage, Failure> {
    let flat = on_white(picture);
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, quality);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    let (width, height) = (u16::try_from(flat.width())?, u16::try_from(flat.height())?);
    encoder.encode(flat.as_raw(), width, height, jpeg_encoder::ColorType::Rgb)?;
    Ok(image::load_from_memory(&file)?)
}

fn on_white(picture: &DynamicImage) -> RgbImage {
    let mut canvas = RgbaImage::from_pixel(picture.width(), picture.height(), [255; 4].into());
    imageops::overlay(&mut canvas, &picture.to_rgba8(), 0, 0);
    DynamicImage::ImageRgba8(canvas).into_rgb8()
}

fn webp(picture: &DynamicImage, quality: f32) -> Result<DynamicImage, Failure> {
    let (width, height) = (picture.width(), picture.height());
    let file = match picture {
        DynamicImage::ImageRgba8(pixels) => {
            webp::Encoder::from_rgba(pixels, width, height).encode(quality)
        }
        other => webp::Encoder::from_rgb(&other.to_rgb8(), width, height).encode(quality),
    };
    Ok(image::load_from_memory(&file)?)
}

fn scaled(picture: &DynamicImage, scale: f64, number: usize) -> DynamicImage {
    let filter = [
        FilterType::Triangle,
        FilterType::CatmullRom,
        FilterType::Lanczos3,
    ][number % 3];
    let length = |px: u32| (f64::from(px) * scale).round() as u32;
    picture.resize_exact(length(picture.width()), length(picture.height()), filter)
}

fn side_cut_off(picture: &DynamicImage, number: usize) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let (across, down) = (width / 10, height / 10);
    match number % 4 {
        0 => picture.crop_imm(across, 0, width - across, height),
        1 => picture.crop_imm(0, down, width, height - down),
        2 => picture.crop_imm(0, 0, width - across, height),
        _ => picture.crop_imm(0, 0, width, height - down),
    }
}

fn corner_cut_off(picture: &DynamicImage, number: usize) -> DynamicImage {
    side_cut_off(
        &side_cut_off(picture, number),
        number + 1 + number / 4 % 2 * 2,
    )
}

fn brighter(picture: &DynamicImage, factor: f32, levels: f32) -> DynamicImage {
    let change = |value: u8| (f32::from(value) * factor + levels).round() as u8;
    let mut changed = picture.to_rgba8();
    for pixel in changed.pixels_mut() {
        let [red, green, blue, alpha] = pixel.0;
        pixel.0 = [change(red), change(green), change(blue), alpha];
    }
    if picture.color().has_alpha() {
        DynamicImage::ImageRgba8(changed)
    } else {
        DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(changed).into_rgb8())
    }
}

fn raster(picture: &DynamicImage) -> Result<Raster, Failure> {
    let (width, height) = (picture.width(), picture.height());
    Ok(if picture.color().has_alpha() {
        Raster::new(width, height, Channels::Rgba, picture.to_rgba8().into_raw())?
    } else {
        Raster::new(width, height, Channels::Rgb, picture.to_rgb8().into_raw())?
    })
}

fn image_of(raster: Raster) -> Result<DynamicImage, Failure> {
    let (width, height, channels) = (raster.width(), raster.height(), raster.channels());
    let data = raster.into_data();
    let image = match channels {
        Channels::Rgba => RgbaImage::from_raw(width, height, data).map(DynamicImage::ImageRgba8),
        _ => RgbImage::from_raw(width, height, data).map(DynamicImage::ImageRgb8),
    };
    image.ok_or_else(|| "the pixels are not as many as they should be".into())
}

/// Over what can be seen, in decibels.
fn psnr_db(before: &Raster, after: &Raster) -> f64 {
    let stride = before.channels().count();
    let (mut power, mut values) = (0.0, 0.0);
    for (before, after) in before
        .data()
        .chunks_exact(stride)
        .zip(after.data().chunks_exact(stride))
    {
        if before.get(3).is_none_or(|alpha| *alpha > 0) {
            for (before, after) in before.iter().zip(after).take(3) {
                power += f64::from(before.abs_diff(*after)).powi(2);
                values += 1.0;
            }
        }
    }
    10.0 * (255_f64.powi(2) * values / power).log10()
}

/// How one picture fared: its noise, and after each attack by how many deviations its mark stood out, if it was read.
struct Fate {
    psnr_db: f64,
    read: Vec<Option<f32>>,
}

/// `None` where the picture cannot carry a mark.
fn fate(picture: &DynamicImage, number: usize) -> Result<Option<Fate>, Failure> {
    let payload = fastrand::Rng::with_seed(number as u64)
        .u64(..)
        .to_be_bytes();
    let payload = &payload[..4 + number % 5];
    let unmarked = raster(picture)?;
    let marked = match invisible::embed(&unmarked, payload) {
        Err(MarkError::TooLittle { .. }) => return Ok(None),
        marked => marked?,
    };
    let psnr_db = psnr_db(&unmarked, &marked);
    let marked = image_of(marked)?;
    let read = ATTACKS.iter().map(|(_, attack)| {
        let reading = invisible::read(&raster(&attack(&marked, number)?)?)?;
        let right = reading.filter(|reading| reading.payload == payload);
        Ok(right.map(|reading| reading.deviations))
    });
    Ok(Some(Fate {
        psnr_db,
        read: read.collect::<Result<_, Failure>>()?,
    }))
}

fn survival(pictures: &[(PathBuf, DynamicImage)]) -> Result<(), Failure> {
    let fates = pictures
        .par_iter()
        .enumerate()
        .map(|(number, (file, picture))| {
            let fate = fate(picture, number)?;
            if fate.is_none() {
                println!(
                    "refused: {} ({} × {})",
                    file.display(),
                    picture.width(),
                    picture.height()
                );
            }
            for ((name, _), read) in ATTACKS.iter().zip(fate.iter().flat_map(|fate| &fate.read)) {
                if read.is_none() {
                    println!(
                        "not read: {} ({} × {}) after {name}",
                        file.display(),
                        picture.width(),
                        picture.height()
                    );
                }
            }
            Ok(fate)
        });
    let fates: Vec<Fate> = fates
        .collect::<Result<Vec<Option<Fate>>, Failure>>()?
        .into_iter()
        .flatten()
        .collect();
    let decibels = || fates.iter().map(|fate| fate.psnr_db);
    println!(
        "{} pictures marked, {} refused; PSNR at least {:.1} dB, {:.1} dB on average",
        fates.len(),
        pictures.len() - fates.len(),
        decibels().fold(f64::INFINITY, f64::min),
        decibels().sum::<f64>() / fates.len() as f64,
    );
    println!("| after | read | least deviations |\n|---|---|---|");
    for (index, (name, _)) in ATTACKS.iter().enumerate() {
        let read: Vec<f32> = fates.iter().filter_map(|fate| fate.read[index]).collect();
        let share = 100.0 * read.len() as f64 / fates.len() as f64;
        let least = read.iter().copied().fold(f32::INFINITY, f32::min);
        println!(
            "| {name} | {} of {}, {share:.1} % | {least:.1} |",
            read.len(),
            fates.len()
        );
    }
    Ok(())
}

/// A picture without any mark, another one for each number.
fn unmarked(pictures: &[(PathBuf, DynamicImage)], number: usize) -> Result<DynamicImage, Failure> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    if number % 10 == 9 {
        return Ok(drawn(&mut random));
    }
    let picture = &pictures[random.usize(..pictures.len())].1;
    let mut part = |px: u32| {
        let length = random.u32(px.min(160)..=px.min(420));
        (random.u32(0..=px - length), length)
    };
    let ((left, width), (top, height)) = (part(picture.width()), part(picture.height()));
    let mut derived = picture.crop_imm(left, top, width, height);
    if random.bool() {
        derived = derived.fliph();
    }
    Ok(match random.u32(..5) {
        0 => jpeg(&derived, random.u8(50..95))?,
        1 => webp(&derived, random.f32() * 50.0 + 40.0)?,
        2 => scaled(&derived, random.f64() + 0.5, number),
        3 => noisy(&derived, &mut random),
        _ => derived,
    })
}

fn noisy(picture: &DynamicImage, random: &mut fastrand::Rng) -> DynamicImage {
    let mut noisy = picture.to_rgb8();
    let strength = random.i32(1..25);
    for value in noisy.iter_mut() {
        *value = (i32::from(*value) + random.i32(-strength..=strength)).clamp(0, 255) as u8;
    }
    DynamicImage::ImageRgb8(noisy)
}

/// Noise, waves or a grid, which repeat themselves as a mark does.
fn drawn(random: &mut fastrand::Rng) -> DynamicImage {
    let (kind, period) = (random.u32(..3), random.u32(2..64));
    let (across, down) = (random.f32(), random.f32());
    let picture = RgbImage::from_fn(random.u32(160..400), random.u32(160..400), |x, y| {
        let value = match kind {
            0 => random.u8(..),
            1 => (128.0 + 100.0 * (across * x as f32 + down * y as f32).sin()) as u8,
            _ if x % period == 0 || y % period == 0 => 20,
            _ => 230,
        };
        image::Rgb([value; 3])
    });
    DynamicImage::ImageRgb8(picture)
}

fn false_readings(pictures: &[(PathBuf, DynamicImage)], count: usize) -> Result<(), Failure> {
    let read = (0..count).into_par_iter().map(|number| {
        let reading = invisible::read(&raster(&unmarked(pictures, number)?)?)?;
        if let Some(reading) = &reading {
            println!("picture {number} is read as {reading:?}");
        }
        Ok(usize::from(reading.is_some()))
    });
    let read: usize = read.collect::<Result<Vec<_>, Failure>>()?.into_iter().sum();
    println!("{read} of {count} unmarked pictures were read as marked");
    let probability = MAX_ATTEMPTS as f64 / 2_f64.powi(32);
    println!(
        "the checksum alone allows at most {:.1e} of them",
        probability * count as f64
    );
    Ok(())
}
