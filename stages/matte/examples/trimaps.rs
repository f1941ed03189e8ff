//! Scores the solver on pictures with known mattes and trimaps:
//! `cargo run --release -p atelier-matte --example trimaps -- IMAGE TRIMAP ALPHA`, three files, or three folders whose files have
//! the same names.
//!
//! Prints a line for each picture: the sum of absolute differences in thousands, the same for the trimap itself (unknown pixels at
//! one half), unknown pixels, and how long each step took.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use atelier_matte::solve::{Solved, solve};
use atelier_stores::{Raster, raster::Channels};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [image, trimap, alpha] = arguments.as_slice() else {
        return Err("usage: trimaps IMAGE TRIMAP ALPHA (files or folders)".into());
    };
    if !image.is_dir() {
        score(image, trimap, alpha)?;
        return Ok(());
    }
    let mut names: Vec<_> = fs::read_dir(image)?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.sort();
    let mut sum = 0.0;
    for name in &names {
        sum += score(&image.join(name), &trimap.join(name), &alpha.join(name))?;
    }
    println!(
        "mean SAD {:.3} over {}",
        sum / names.len() as f64,
        names.len()
    );
    Ok(())
}

/// Scores one picture.
fn score(image: &Path, trimap: &Path, alpha: &Path) -> Result<f64, Box<dyn Error>> {
    let picture = image::open(image)?.into_rgb8();
    let (width, height) = picture.dimensions();
    let picture = Raster::new(width, height, Channels::Rgb, picture.into_raw())?;
    let levels = image::open(trimap)?.into_luma8().into_raw().into_iter();
    let levels = levels.map(|level| match level {
        ..=5 => 0,
        250.. => 255,
        _ => 128,
    });
    let trimap = Raster::new(width, height, Channels::Gray, levels.collect())?;
    let alpha = image::open(alpha)?.into_luma8().into_raw();
    let Solved {
        alpha: found,
        unknown_share,
        steps,
    } = solve(&picture, &trimap)?;
    let sad = |found: &[u8]| {
        let pairs = found.iter().zip(&alpha);
        pairs
            .map(|(found, exact)| f64::from(found.abs_diff(*exact)))
            .sum::<f64>()
            / 255e3
    };
    let steps: Vec<String> = steps
        .iter()
        .map(|step| format!("{} {:.0} ms", step.name, step.ms))
        .collect();
    println!(
        "{}: SAD {:.4}, trimap {:.1}; {:.0} unknown; {}",
        image.display(),
        sad(&found),
        sad(trimap.data()),
        f64::from(unknown_share) * f64::from(width * height),
        steps.join(", ")
    );
    Ok(sad(&found))
}
