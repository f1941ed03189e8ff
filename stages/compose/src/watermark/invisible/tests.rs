//! Each damage that the mark is made for, once per sample and on a drawn picture; what carries none; what cannot.

use std::path::PathBuf;

use image::{RgbImage, imageops};

use super::*;

const PAYLOAD: &[u8] = b"\xc0\xff\xee\x01";

fn rgb(picture: RgbImage) -> Raster {
    let (width, height) = picture.dimensions();
    Raster::new(width, height, Channels::Rgb, picture.into_raw()).unwrap()
}

fn image_of(raster: &Raster) -> RgbImage {
    RgbImage::from_raw(raster.width(), raster.height(), raster.data().to_vec()).unwrap()
}

fn decoded(file: &[u8]) -> Raster {
    rgb(image::load_from_memory(file).unwrap().into_rgb8())
}

/// The repository's samples, and a picture of soft waves.
fn pictures() -> Vec<(String, Raster)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let names = [
        "dress.jpg",
        "fur-hat.jpg",
        "jacket.jpg",
        "slippers.jpg",
        "lemur.png",
    ];
    let mut pictures: Vec<(String, Raster)> = names
        .iter()
        .map(|name| {
            let picture = image::open(folder.join(name)).unwrap().into_rgb8();
            ((*name).to_owned(), rgb(picture))
        })
        .collect();
    let waves = RgbImage::from_fn(400, 320, |x, y| {
        let wave = |scale: f32| ((x as f32 * scale).sin() + (y as f32 * scale * 0.7).cos()) * 45.0;
        image::Rgb([0.05, 0.031, 0.11].map(|scale| (128.0 + wave(scale)) as u8))
    });
    pictures.push(("waves".into(), rgb(waves)));
    pictures
}

fn psnr_db(before: &Raster, after: &Raster) -> f64 {
    let pairs = before.data().iter().zip(after.data());
    let power: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255_f64.powi(2) * before.data().len() as f64 / power).log10()
}

fn jpeg(raster: &Raster, quality: u8) -> Raster {
    let mut file = Vec::new();
    let (width, height) = (raster.width() as u16, raster.height() as u16);
    jpeg_encoder::Encoder::new(&mut file, quality)
        .encode(raster.data(), width, height, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    decoded(&file)
}

fn webp(raster: &Raster, quality: f32) -> Raster {
    decoded(
        &webp::Encoder::from_rgb(raster.data(), raster.width(), raster.height()).encode(quality),
    )
}

fn halved(raster: &Raster) -> Raster {
    let (width, height) = (raster.width() / 2, raster.height() / 2);
    rgb(imageops::resize(
        &image_of(raster),
        width,
        height,
        imageops::FilterType::Triangle,
    ))
}

fn cropped(raster: &Raster, left: u32, top: u32, right: u32, bottom: u32) -> Raster {
    let (width, height) = (
        raster.width() - left - right,
        raster.height() - top - bottom,
    );
    rgb(imageops::crop_imm(&image_of(raster), left, top, width, height).to_image())
}

fn brighter(raster: &Raster, factor: f32) -> Raster {
    let change = |value: &u8| (f32::from(*value) * factor).round() as u8;
    let data = raster.data().iter().map(change).collect();
    Raster::new(raster.width(), raster.height(), raster.channels(), data).unwrap()
}

#[test]
fn the_mark_survives_each_damage_and_is_hardly_there() {
    for (name, picture) in pictures() {
        let marked = embed(&picture, PAYLOAD).unwrap();
        let psnr_db = psnr_db(&picture, &marked);
        assert!(psnr_db >= f64::from(MIN_PSNR_DB), "{name}: {psnr_db} dB");
        let (across, down) = (picture.width() / 10, picture.height() / 10);
        for (damage, damaged) in [
            ("none", marked.clone()),
            ("jpeg 70", jpeg(&marked, 70)),
            ("webp 75", webp(&marked, 75.0)),
            ("half", halved(&marked)),
            ("left", cropped(&marked, across, 0, 0, 0)),
            ("top", cropped(&marked, 0, down, 0, 0)),
            ("right", cropped(&marked, 0, 0, across, 0)),
            ("bottom", cropped(&marked, 0, 0, 0, down)),
            ("corner", cropped(&marked, across, down, 0, 0)),
            ("brighter", brighter(&marked, 1.1)),
            ("darker", brighter(&marked, 0.9)),
        ] {
            let reading = read(&damaged).unwrap();
            let reading = reading.unwrap_or_else(|| panic!("{name} is not read after {damage}"));
            assert_eq!(reading.payload, PAYLOAD, "{name} after {damage}");
            assert!(
                reading.agreement > 0.6,
                "{name} after {damage}: {reading:?}"
            );
            let scale = if damage == "half" { 0.5 } else { 1.0 };
            assert_eq!(reading.scale, scale, "{name} after {damage}");
        }
    }
}

#[test]
fn every_length_of_payload_comes_back() {
    let (_, picture) = pictures().remove(0);
    for bytes in 4..=8 {
        let payload: Vec<u8> = (0..bytes)
            .map(|byte: u8| byte.wrapping_mul(37).wrapping_add(200))
            .collect();
        let marked = jpeg(&embed(&picture, &payload).unwrap(), 70);
        assert_eq!(read(&marked).unwrap().unwrap().payload, payload);
    }
}

#[test]
fn where_there_is_no_mark_none_is_found() {
    for (name, picture) in pictures() {
        for (damage, picture) in [
            ("none", picture.clone()),
            ("jpeg 70", jpeg(&picture, 70)),
            ("half", halved(&picture)),
        ] {
            assert_eq!(read(&picture).unwrap(), None, "{name} after {damage}");
        }
    }
    for (width, height) in [(1, 1), (1, 3000), (64, 64)] {
        let gray = Raster::new(
            width,
            height,
            Channels::Gray,
            vec![77; (width * height) as usize],
        );
        assert_eq!(read(&gray.unwrap()).unwrap(), None);
    }
}

#[test]
fn the_same_picture_gets_the_same_mark_on_any_number_of_cores() {
    let (_, picture) = pictures().remove(0);
    let alone = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let many = rayon::ThreadPoolBuilder::new()
        .num_threads(7)
        .build()
        .unwrap();
    let [alone, many] =
        [alone, many].map(|pool| pool.install(|| embed(&picture, PAYLOAD).unwrap()));
    assert!(alone == many);
}

#[test]
fn bands_of_rows_leave_no_seam() {
    let tall = RgbImage::from_fn(16, BAND_ROWS * 2 + 100, |x, y| {
        image::Rgb([((x * 7 + y * 3) % 251) as u8; 3])
    });
    let tall = rgb(tall);
    let mut gains = gains_of_band(&tall, 0);
    gains.extend(gains_of_band(&tall, BAND_ROWS));
    let luma = Plane::luma(&tall, 0..tall.height());
    let whole = luma
        .details(STRUCTURE_SIGMA_PX)
        .local_deviation(HIDING_SIGMA_PX);
    for (gain, deviation) in gains.iter().zip(&whole.values) {
        let expected = GAIN_ON_SMOOTH + GAIN_PER_DEVIATION * deviation.min(MAX_DEVIATION);
        assert!((gain - expected).abs() < 1e-4, "{gain} {expected}");
    }
}

#[test]
fn a_transparent_picture_is_marked_where_it_can_be_seen() {
    let (_, picture) = pictures().remove(0);
    let (width, height) = (picture.width(), picture.height());
    let is_seen = |x: u32, y: u32| {
        let (across, down) = (f64::from(x) - 200.0, f64::from(y) - 250.0);
        across.hypot(down) < 170.0
    };
    let mut data = Vec::new();
    for (index, [red, green, blue]) in picture.data().as_chunks::<3>().0.iter().enumerate() {
        let (x, y) = (index as u32 % width, index as u32 / width);
        data.extend(if is_seen(x, y) {
            [*red, *green, *blue, 255]
        } else {
            [0; 4]
        });
    }
    let cut_out = Raster::new(width, height, Channels::Rgba, data).unwrap();
    let marked = embed(&cut_out, PAYLOAD).unwrap();
    let pixels = |raster: &Raster| raster.data().as_chunks::<4>().0.to_vec();
    for (before, after) in pixels(&cut_out).into_iter().zip(pixels(&marked)) {
        assert_eq!(before[3], after[3]);
        assert!(before[3] > 0 || after == [0; 4]);
    }
    assert_eq!(read(&marked).unwrap().unwrap().payload, PAYLOAD);
}

#[test]
fn what_cannot_carry_the_mark_is_refused() {
    let clear = Raster::new(400, 400, Channels::Rgba, vec![0; 640_000]).unwrap();
    let (_, picture) = pictures().remove(0);
    let small = cropped(
        &picture,
        100,
        100,
        picture.width() - 172,
        picture.height() - 172,
    );
    let dot = Raster::new(1, 1, Channels::Rgb, vec![9; 3]).unwrap();
    for (what, picture) in [("clear", clear), ("small", small), ("dot", dot)] {
        let error = embed(&picture, PAYLOAD).err().unwrap();
        assert!(
            matches!(error, MarkError::TooLittle { .. }),
            "{what}: {error}"
        );
    }
}
