//! `atelier watermark read`: what pictures are marked with invisibly, without their originals.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use atelier_compose::invisible::{self, Reading};
use atelier_preprocess::{PreprocessOptions, prepare};

use crate::print;

/// A line for each picture; fails unless every one has a mark.
///
/// # Errors
/// Where standard output cannot be written.
pub fn read(pictures: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut are_all_marked = true;
    for path in pictures {
        let name = path.display();
        match read_one(path) {
            Ok(Some(reading)) => print(&format!("{name}: {}\n", told(&reading)))?,
            Ok(None) => {
                are_all_marked = false;
                print(&format!("{name}: no mark found\n"))?;
            }
            Err(error) => {
                are_all_marked = false;
                eprintln!("{name}: {error:#}");
            }
        }
    }
    Ok(if are_all_marked {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read_one(path: &Path) -> anyhow::Result<Option<Reading>> {
    let file = std::fs::read(path).context("cannot be read")?;
    let options = PreprocessOptions::default();
    let prepared = prepare(&file, &options.limits, options.max_side_px)?;
    Ok(invisible::read(&prepared.raster)?)
}

fn told(reading: &Reading) -> String {
    let payload: String = reading
        .payload
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "{payload} ({} bits), confidence {:.0} % of its signs, {:.1} deviations from chance, at {:.0} % of its size",
        8 * reading.payload.len(),
        100.0 * reading.agreement,
        reading.deviations,
        100.0 * reading.scale,
    )
}
