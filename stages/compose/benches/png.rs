//! What each of the `png` crate's ways costs and saves: milliseconds per megapixel (the least of several runs: what else the
//! machine does only adds) and bytes, over the sample photographs, whole and cut out. `cargo bench -p atelier-compose --bench png`
//!
//! `compose` uses the one that `encode/png.rs` names; a row here is the reason.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{path::Path, time::Instant};

use image::RgbaImage;
use png::{BitDepth, ColorType, Compression, Encoder, Filter};

const RUNS: usize = 7;
const WIDTH: u32 = 1_200;
const HEIGHT: u32 = 1_000;

const WAYS: [(&str, Compression, Filter); 7] = [
    ("fastest, up", Compression::Fastest, Filter::Up),
    ("fast, up", Compression::Fast, Filter::Up),
    ("fast, sub", Compression::Fast, Filter::Sub),
    ("fast, paeth", Compression::Fast, Filter::Paeth),
    ("fast, adaptive", Compression::Fast, Filter::Adaptive),
    (
        "balanced, adaptive",
        Compression::Balanced,
        Filter::Adaptive,
    ),
    ("high, adaptive", Compression::High, Filter::Adaptive),
];

fn main() {
    let pictures = pictures();
    println!("{} pictures of {WIDTH} × {HEIGHT}", pictures.len());
    for (kind, color_type) in [
        ("rgba, cut out", ColorType::Rgba),
        ("rgb, whole", ColorType::Rgb),
    ] {
        for (name, compression, filter) in WAYS {
            let (mut milliseconds, mut bytes) = (0.0, 0);
            for picture in &pictures {
                let data: Vec<u8> = match color_type {
                    ColorType::Rgba => picture.as_raw().clone(),
                    _ => picture
                        .pixels()
                        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
                        .collect(),
                };
                let runs = if matches!(compression, Compression::High) {
                    1
                } else {
                    RUNS
                };
                let mut least = f64::INFINITY;
                for _ in 0..runs {
                    let started = Instant::now();
                    let file = encode(&data, color_type, compression, filter);
                    least = least.min(started.elapsed().as_secs_f64() * 1e3);
                    bytes += file.len() / runs;
                }
                milliseconds += least;
            }
            let count = pictures.len() as f64;
            let megapixels = f64::from(WIDTH * HEIGHT) / 1e6;
            println!(
                "{kind}: {name}: {:.1} ms per megapixel, {} bytes",
                milliseconds / count / megapixels,
                bytes / pictures.len()
            );
        }
    }
}

fn encode(data: &[u8], color_type: ColorType, compression: Compression, filter: Filter) -> Vec<u8> {
    let mut file = Vec::with_capacity(data.len() / 2);
    let mut encoder = Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(color_type);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(compression);
    encoder.set_filter(filter);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    file
}

/// The samples, made as large as photographs from a shop are, with an ellipse cut out of them.
fn pictures() -> Vec<RgbaImage> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    paths.sort();
    let cut_out = |path: &std::path::PathBuf| {
        let picture = image::open(path).unwrap().into_rgb8();
        let picture = image::imageops::resize(
            &picture,
            WIDTH,
            HEIGHT,
            image::imageops::FilterType::CatmullRom,
        );
        RgbaImage::from_fn(WIDTH, HEIGHT, |x, y| {
            let from_middle = |at: u32, side: u32| (f64::from(at) / f64::from(side) - 0.5) / 0.42;
            let distance = from_middle(x, WIDTH).hypot(from_middle(y, HEIGHT));
            let alpha = ((1.0 - distance) * 100.0).clamp(0.0, 1.0);
            let [red, green, blue] = picture.get_pixel(x, y).0;
            if alpha > 0.0 {
                image::Rgba([red, green, blue, (alpha * 255.0) as u8])
            } else {
                image::Rgba([0; 4])
            }
        })
    };
    paths.iter().map(cut_out).collect()
}
