//! What several test programs need.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use atelier_models::{Picture, Segmenter};

/// The matte of a sample, 320 × 320, as large as the networks make it.
pub fn matte_of_sample(segmenter: &Segmenter) -> Vec<u8> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/fur-hat.jpg");
    let image = image::open(sample).unwrap().into_rgb8();
    let picture = Picture {
        width: image.width(),
        height: image.height(),
        channels: 3,
        pixels: &image,
    };
    let raw = segmenter
        .infer(&segmenter.prepare(&picture).unwrap())
        .unwrap();
    segmenter.finish(&raw, 320, 320).unwrap().alpha
}
