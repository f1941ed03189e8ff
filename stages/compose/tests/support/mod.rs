//! Where the sample data are, and pictures to compose.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use atelier_stores::{Raster, raster::Channels};

/// The folder `name` of the sample data, or `None` (said on the terminal) where this machine has none.
#[allow(clippy::print_stdout)]
pub fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    if !path.exists() {
        println!("skipped: no data ({name})");
        return None;
    }
    Some(path)
}

/// A picture file as an RGB raster.
pub fn read_rgb(path: &Path) -> Raster {
    let image = image::open(path).unwrap().into_rgb8();
    Raster::new(
        image.width(),
        image.height(),
        Channels::Rgb,
        image.into_raw(),
    )
    .unwrap()
}

/// A picture file as a grey raster.
pub fn read_gray(path: &Path) -> Raster {
    let image = image::open(path).unwrap().into_luma8();
    Raster::new(
        image.width(),
        image.height(),
        Channels::Gray,
        image.into_raw(),
    )
    .unwrap()
}

/// A disc of `subject` with a soft edge, mixed with `ground`: the picture and its true matte.
pub fn disc(width: u32, height: u32, subject: [u8; 3], ground: [u8; 3]) -> (Raster, Raster) {
    let (mut colors, mut matte) = (Vec::new(), Vec::new());
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let distance = (f64::from(x) + 0.5 - f64::from(width) / 2.0)
            .hypot(f64::from(y) + 0.5 - f64::from(height) / 2.0);
        let alpha =
            (((f64::from(height) / 3.0 - distance) / 6.0 + 0.5).clamp(0.0, 1.0) * 255.0).round();
        matte.push(alpha as u8);
        for channel in 0..3 {
            let mixed = alpha / 255.0 * f64::from(subject[channel])
                + (1.0 - alpha / 255.0) * f64::from(ground[channel]);
            colors.push(mixed.round() as u8);
        }
    }
    let picture = Raster::new(width, height, Channels::Rgb, colors).unwrap();
    (
        picture,
        Raster::new(width, height, Channels::Gray, matte).unwrap(),
    )
}
