//! Pictures, the pulled networks, and where the sample data are.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use atelier_classify::{Classifier, ClassifyOptions};
use atelier_models::{ModelStore, ProviderChoice, Runtime};
use atelier_stores::{Raster, raster::Channels};

/// The networks that `atelier models pull` fetched; a missing one fails the test with the command that helps.
pub fn models() -> (ModelStore, Runtime) {
    let store = ModelStore::open(None).unwrap();
    let runtime =
        Runtime::load(&store, ProviderChoice::Auto).unwrap_or_else(|error| panic!("{error}"));
    (store, runtime)
}

pub fn classifier() -> Classifier {
    let (store, runtime) = models();
    Classifier::open(ClassifyOptions::default(), &store, &runtime)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// One of the repository's own pictures.
pub fn sample(name: &str) -> Raster {
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../samples")
            .join(name),
    )
}

/// Decodes a file; alpha is kept only where some pixel is see-through, as `preprocess` does.
pub fn read(path: &Path) -> Raster {
    let picture = image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (width, height) = (picture.width(), picture.height());
    let rgba = picture.to_rgba8();
    if rgba.pixels().any(|pixel| pixel.0[3] < 255) {
        return Raster::new(width, height, Channels::Rgba, rgba.into_raw()).unwrap();
    }
    Raster::new(width, height, Channels::Rgb, picture.into_rgb8().into_raw()).unwrap()
}

/// The files of a folder of the sample data in order, or `None` (said on the terminal) where this machine has none.
#[allow(clippy::print_stdout)]
pub fn data(name: &str) -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no data ({name})");
        return None;
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Some(files)
}

/// The part of a picture, cut at its edges.
pub fn crop(raster: &Raster, left: u32, top: u32, width: u32, height: u32) -> Raster {
    let (width, height) = (
        width.min(raster.width() - left),
        height.min(raster.height() - top),
    );
    let bytes = raster.channels().count();
    let rows = (top..top + height)
        .flat_map(|y| &raster.row(y)[left as usize * bytes..(left + width) as usize * bytes]);
    Raster::new(width, height, raster.channels(), rows.copied().collect()).unwrap()
}

/// The picture laid over one colour.
pub fn over(raster: &Raster, ground: [u8; 3]) -> Raster {
    assert_eq!(raster.channels(), Channels::Rgba);
    let blend = |level: u8, ground: u8, alpha: u8| {
        ((u32::from(level) * u32::from(alpha) + u32::from(ground) * u32::from(255 - alpha) + 127)
            / 255) as u8
    };
    let pixels = raster.data().as_chunks::<4>().0.iter();
    let opaque = pixels.flat_map(|[red, green, blue, alpha]| {
        [
            blend(*red, ground[0], *alpha),
            blend(*green, ground[1], *alpha),
            blend(*blue, ground[2], *alpha),
        ]
    });
    Raster::new(
        raster.width(),
        raster.height(),
        Channels::Rgb,
        opaque.collect(),
    )
    .unwrap()
}

/// A shape of few colours on one ground, as logos are.
pub fn logo() -> Raster {
    let pixels = (0..400_u32)
        .flat_map(|y| (0..600_u32).map(move |x| (x, y)))
        .flat_map(|(x, y)| match x.abs_diff(300) + y.abs_diff(200) {
            0..80 => [255, 200, 0],
            80..150 => [20, 60, 160],
            _ => [255, 255, 255],
        });
    Raster::new(600, 400, Channels::Rgb, pixels.collect()).unwrap()
}
