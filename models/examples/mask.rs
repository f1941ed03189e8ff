//! Makes the matte of one picture: `cargo run -p atelier-models --example mask -- MODEL PICTURE MATTE.png`. The MODEL `high` is
//! IS-Net, U²-Netp where that is in doubt, and the refiner, as `matte` does it in quality high. Given folders instead of files, makes the matte of each picture and prints where the time went.
#![allow(clippy::print_stdout)]

use std::{error::Error, path::Path, time::Instant};

use atelier_models::{
    Mask, ModelStore, Picture, ProviderChoice, Refiner, Runtime, SegmentError, Segmenter,
    SessionOptions, segment::refine,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, from, to] = arguments.as_slice() else {
        return Err("usage: mask MODEL PICTURE MATTE.png, or mask MODEL FOLDER FOLDER".into());
    };
    let cutter = Cutter::open(model)?;
    if !Path::new(from).is_dir() {
        return mask(&cutter, Path::new(from), Path::new(to));
    }
    for entry in std::fs::read_dir(from)? {
        let from = entry?.path();
        let stem = from
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        mask(&cutter, &from, &Path::new(to).join(stem + ".png"))?;
    }
    Ok(())
}

enum Cutter {
    Plain(Segmenter),
    Refined {
        first: Box<Segmenter>,
        second: Box<Segmenter>,
        refiner: Refiner,
    },
}

impl Cutter {
    fn open(model: &str) -> Result<Self, Box<dyn Error>> {
        let store = ModelStore::open(None)?;
        let runtime = Runtime::load(&store, ProviderChoice::Auto)?;
        let options = SessionOptions::default();
        let segmenter = |name| Segmenter::open(&runtime, &store, name, &options);
        if model != "high" {
            return Ok(Self::Plain(segmenter(model)?));
        }
        Ok(Self::Refined {
            first: Box::new(segmenter("isnet-general-use")?),
            second: Box::new(segmenter("u2netp")?),
            refiner: Refiner::open(&runtime, &store, &options)?,
        })
    }

    fn cut(&self, picture: &Picture<'_>) -> Result<(Mask, f64), SegmentError> {
        match self {
            Self::Plain(segmenter) => {
                let raw = segmenter.infer(&segmenter.prepare(picture)?)?;
                let mut mask = segmenter.finish(&raw, picture.width, picture.height)?;
                refine(picture, &mut mask)?;
                Ok((mask, raw.elapsed.as_secs_f64()))
            }
            Self::Refined {
                first,
                second,
                refiner,
            } => {
                let raw = refiner.infer(picture, &first.prepare(picture)?, first, second)?;
                let seconds = raw.runs.iter().map(|run| run.elapsed.as_secs_f64()).sum();
                Ok((refiner.finish(&raw, picture)?, seconds))
            }
        }
    }
}

fn mask(cutter: &Cutter, from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let image = image::open(from)?.into_rgb8();
    let picture = Picture {
        width: image.width(),
        height: image.height(),
        channels: 3,
        pixels: &image,
    };
    let started = Instant::now();
    let (mask, networks_seconds) = cutter.cut(&picture)?;
    let (total_ms, networks_ms) = (
        started.elapsed().as_secs_f64() * 1e3,
        networks_seconds * 1e3,
    );
    println!(
        "{} networks {networks_ms:.1} ms, before and after {:.1} ms",
        from.display(),
        total_ms - networks_ms
    );
    image::GrayImage::from_raw(mask.width, mask.height, mask.alpha)
        .ok_or("the matte has another size")?
        .save(to)?;
    Ok(())
}
