//! Where the sample data are, and small pictures to encode.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use atelier_preprocess::{DecodeError, Limits, Prepared, prepare};

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

/// Decodes with the default limits.
pub fn decode(file: &[u8]) -> Result<Prepared, DecodeError> {
    prepare(file, &Limits::default(), 0)
}

/// A smooth picture with a different value in every corner and channel.
pub fn rgb_gradient(width: u32, height: u32) -> Vec<u8> {
    (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .flat_map(|(x, y)| {
            [
                (x * 255 / width) as u8,
                (y * 255 / height) as u8,
                ((x + y) * 255 / (width + height)) as u8,
            ]
        })
        .collect()
}

/// Mean and largest difference between two equally long rows of bytes.
pub fn difference(left: &[u8], right: &[u8]) -> (f64, u8) {
    assert_eq!(left.len(), right.len());
    let differences = left
        .iter()
        .zip(right)
        .map(|(left, right)| left.abs_diff(*right));
    let sum: u64 = differences.clone().map(u64::from).sum();
    (
        sum as f64 / left.len() as f64,
        differences.max().unwrap_or(0),
    )
}
