//! What the classifier sees in each picture of a folder, one JSON object a line, for tuning and for curiosity:
//! `cargo run --release -p atelier-classify --example evidence -- PICTURE_OR_FOLDER…`
#![allow(clippy::print_stdout)]

use std::{error::Error, fs, path::PathBuf};

use atelier_classify::{Classifier, ClassifyOptions};
use atelier_models::{ModelStore, ProviderChoice, Runtime};
use atelier_schemas::KindChoice;
use atelier_stores::{Raster, raster::Channels};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let store = ModelStore::open(None)?;
    let runtime = Runtime::load(&store, ProviderChoice::Auto)?;
    let classifier = Classifier::open(ClassifyOptions::default(), &store, &runtime)?;
    let mut files = Vec::new();
    for argument in std::env::args_os().skip(1).map(PathBuf::from) {
        collect(argument, &mut files)?;
    }
    files.sort();
    for file in files {
        let Ok(picture) = image::open(&file) else {
            continue;
        };
        let (width, height) = (picture.width(), picture.height());
        let raster = if picture.color().has_alpha() {
            Raster::new(
                width,
                height,
                Channels::Rgba,
                picture.into_rgba8().into_raw(),
            )?
        } else {
            Raster::new(width, height, Channels::Rgb, picture.into_rgb8().into_raw())?
        };
        let found = classifier.classify(&raster, KindChoice::Auto)?;
        let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        let line = json!({
            "file": file,
            "width": width,
            "height": height,
            "classification": found.classification,
            "measured": {
                "equalShare": found.measured.texture.equal_share,
                "straightShare": found.measured.texture.straight_share,
                "curvature": found.measured.texture.curvature,
                "colorShare": found.measured.color_share,
                "transparentShare": found.measured.transparent_share,
            },
            "costMs": {
                "faces": milliseconds(found.cost.faces),
                "objects": milliseconds(found.cost.objects),
                "labels": milliseconds(found.cost.labels),
                "total": milliseconds(found.cost.total),
            },
        });
        println!("{line}");
    }
    Ok(())
}

fn collect(path: PathBuf, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(entry?.path(), files)?;
        }
    } else {
        files.push(path);
    }
    Ok(())
}
