//! Milliseconds per megapixel, median of several runs: `cargo bench -p atelier-compose`. A photograph and its matte from
//! `../shared/data/cutouts/people` where they are there, else a generated disc.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{path::Path, time::Instant};

use atelier_compose::{
    ComposeOptions, compose, encode_alpha_png, encode_picture, estimate_foreground,
};
use atelier_schemas::{Background, ImageFormat, OutputOptions};
use atelier_stores::{Raster, raster::Channels};
use image::imageops::{FilterType, resize};

const RUNS: usize = 9;
const WIDTH: u32 = 1_200;
const HEIGHT: u32 = 900;

fn main() {
    let (picture, matte) = photograph().unwrap_or_else(disc);
    let options = ComposeOptions::default();
    report("foreground", || {
        estimate_foreground(&picture, &matte, 0)
            .unwrap()
            .data()
            .len()
    });
    report("alpha as png", || {
        encode_alpha_png(&matte).unwrap().bytes.len()
    });
    let transparent = compose(&picture, &matte, &OutputOptions::default(), None, &options).unwrap();
    let cut_out = image::load_from_memory(&transparent.result.bytes)
        .unwrap()
        .into_rgba8()
        .into_raw();
    let cut_out = Raster::new(WIDTH, HEIGHT, Channels::Rgba, cut_out).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Webp, ImageFormat::Avif] {
        report(&format!("encode rgba {format:?}"), || {
            encode_picture(&cut_out, format, 90, &options)
                .unwrap()
                .bytes
                .len()
        });
    }
    for format in [
        ImageFormat::Png,
        ImageFormat::Webp,
        ImageFormat::Avif,
        ImageFormat::Jpeg,
    ] {
        report(&format!("encode rgb {format:?}"), || {
            encode_picture(&picture, format, 90, &options)
                .unwrap()
                .bytes
                .len()
        });
    }
    for format in [ImageFormat::Png, ImageFormat::Webp, ImageFormat::Jpeg] {
        for background in [Background::Transparent, Background::Color([255; 4])] {
            let output = OutputOptions {
                format,
                background,
                ..OutputOptions::default()
            };
            let name = format!("compose {format:?} on {:?}", output.background);
            report(&name, || {
                compose(&picture, &matte, &output, None, &options)
                    .unwrap()
                    .result
                    .bytes
                    .len()
            });
        }
    }
    let output = OutputOptions {
        edge_smoothing_px: 2.0,
        ..OutputOptions::default()
    };
    report("compose Png smoothed by 2 px", || {
        compose(&picture, &matte, &output, None, &options)
            .unwrap()
            .result
            .bytes
            .len()
    });
}

fn report(name: &str, mut work: impl FnMut() -> usize) {
    let mut times_ms = Vec::with_capacity(RUNS);
    let mut bytes = 0;
    for _ in 0..RUNS {
        let started = Instant::now();
        bytes = work();
        times_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    times_ms.sort_by(f64::total_cmp);
    let per_megapixel = times_ms[RUNS / 2] * 1e6 / f64::from(WIDTH * HEIGHT);
    println!("{name}: {per_megapixel:.1} ms/megapixel ({bytes} bytes)");
}

/// The first photograph with a matte of the sample data.
fn photograph() -> Option<(Raster, Raster)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cutouts/natural");
    let mut mattes: Vec<_> = std::fs::read_dir(folder.join("alpha"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    mattes.sort();
    let matte = mattes.first()?;
    let mut pictures = std::fs::read_dir(folder.join("image"))
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let picture = pictures.find(|path| path.file_stem() == matte.file_stem())?;
    let picture = resize(
        &image::open(picture).ok()?.into_rgb8(),
        WIDTH,
        HEIGHT,
        FilterType::Lanczos3,
    );
    let matte = resize(
        &image::open(matte).ok()?.into_luma8(),
        WIDTH,
        HEIGHT,
        FilterType::Triangle,
    );
    Some((
        Raster::new(WIDTH, HEIGHT, Channels::Rgb, picture.into_raw()).ok()?,
        Raster::new(WIDTH, HEIGHT, Channels::Gray, matte.into_raw()).ok()?,
    ))
}

fn disc() -> (Raster, Raster) {
    let (mut colors, mut matte) = (Vec::new(), Vec::new());
    for (y, x) in (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (y, x))) {
        let distance =
            (f64::from(x) - f64::from(WIDTH) / 2.0).hypot(f64::from(y) - f64::from(HEIGHT) / 2.0);
        matte.push((((350.0 - distance) / 12.0 + 0.5).clamp(0.0, 1.0) * 255.0) as u8);
        let noise = (x
            .wrapping_mul(2_654_435_761)
            .wrapping_add(y.wrapping_mul(40_503))
            >> 13)
            % 24;
        colors.extend([
            (x / 5 + noise) as u8,
            (y / 4 + noise) as u8,
            ((x + y) / 9 + noise) as u8,
        ]);
    }
    (
        Raster::new(WIDTH, HEIGHT, Channels::Rgb, colors).unwrap(),
        Raster::new(WIDTH, HEIGHT, Channels::Gray, matte).unwrap(),
    )
}
