//! Milliseconds per megapixel from bytes to a finished raster, median of several runs: `cargo bench -p atelier-preprocess`.
//! Photographs of `../shared/data/photos8` where they are there, else a generated picture.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{io::Cursor, path::Path, time::Instant};

use atelier_preprocess::{Limits, prepare};
use image::{ImageFormat, RgbImage};

const RUNS: usize = 9;

fn main() {
    let picture = photograph().unwrap_or_else(generated);
    // About a megapixel, whatever it was.
    let picture =
        image::imageops::resize(&picture, 1_200, 900, image::imageops::FilterType::Lanczos3);
    for (name, format) in [
        ("jpeg", ImageFormat::Jpeg),
        ("png", ImageFormat::Png),
        ("webp lossless", ImageFormat::WebP),
        ("bmp", ImageFormat::Bmp),
        ("tiff", ImageFormat::Tiff),
    ] {
        let mut file = Cursor::new(Vec::new());
        picture.write_to(&mut file, format).unwrap();
        report(name, file.get_ref());
    }
    let lossy = webp::Encoder::from_rgb(&picture, picture.width(), picture.height()).encode(90.0);
    report("webp lossy", &lossy);
}

fn report(name: &str, file: &[u8]) {
    let mut times_ms = Vec::with_capacity(RUNS);
    let mut pixels = 0;
    for _ in 0..RUNS {
        let started = Instant::now();
        let prepared = prepare(file, &Limits::default(), 0).unwrap();
        times_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
        pixels = prepared.raster.pixels();
    }
    times_ms.sort_by(f64::total_cmp);
    let per_megapixel = times_ms[RUNS / 2] * 1e6 / pixels as f64;
    println!(
        "prepare {name}: {per_megapixel:.1} ms/megapixel ({} bytes)",
        file.len()
    );
}

/// The first readable photograph of the sample data.
fn photograph() -> Option<RgbImage> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/photos8");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .flat_map(|category| std::fs::read_dir(category.path()))
        .flatten()
        .flatten()
        .collect();
    files.sort_by_key(std::fs::DirEntry::path);
    files
        .iter()
        .find_map(|file| Some(image::open(file.path()).ok()?.to_rgb8()))
}

fn generated() -> RgbImage {
    RgbImage::from_fn(1_200, 900, |x, y| {
        let noise = (x
            .wrapping_mul(2_654_435_761)
            .wrapping_add(y.wrapping_mul(40_503))
            >> 13)
            % 24;
        image::Rgb([
            (x / 5 + noise) as u8,
            (y / 4 + noise) as u8,
            ((x + y) / 9 + noise) as u8,
        ])
    })
}
