//! Makes the matte of one picture: `cargo run -p atelier-models --example mask -- MODEL PICTURE MATTE.png`.
//! Given folders instead of files, makes the matte of each picture and prints where the time went.
#![allow(clippy::print_stdout)]

use std::{error::Error, path::Path, time::Instant};

use atelier_models::{
    ModelStore, Picture, ProviderChoice, Runtime, Segmenter, SessionOptions, segment::refine,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, from, to] = arguments.as_slice() else {
        return Err("usage: mask MODEL PICTURE MATTE.png, or mask MODEL FOLDER FOLDER".into());
    };
    let store = ModelStore::open(None)?;
    let segmenter = Segmenter::open(
        &Runtime::load(&store, ProviderChoice::Auto)?,
        &store,
        model,
        &SessionOptions::default(),
    )?;
    if !Path::new(from).is_dir() {
        return mask(&segmenter, Path::new(from), Path::new(to));
    }
    for entry in std::fs::read_dir(from)? {
        let from = entry?.path();
        let stem = from
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        mask(&segmenter, &from, &Path::new(to).join(stem + ".png"))?;
    }
    Ok(())
}

fn mask(segmenter: &Segmenter, from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let image = image::open(from)?.into_rgb8();
    let picture = Picture {
        width: image.width(),
        height: image.height(),
        channels: 3,
        pixels: &image,
    };
    let started = Instant::now();
    let prepared = segmenter.prepare(&picture)?;
    let before_ms = started.elapsed().as_secs_f64() * 1e3;
    let raw = segmenter.infer(&prepared)?;
    let started = Instant::now();
    let mut mask = segmenter.finish(&raw, picture.width, picture.height)?;
    refine(&picture, &mut mask)?;
    let after_ms = started.elapsed().as_secs_f64() * 1e3;
    let network_ms = raw.elapsed.as_secs_f64() * 1e3;
    println!(
        "{} before {before_ms:.1} ms, network {network_ms:.1} ms, after {after_ms:.1} ms",
        from.display()
    );
    image::GrayImage::from_raw(mask.width, mask.height, mask.alpha)
        .ok_or("the matte has another size")?
        .save(to)?;
    Ok(())
}
