//! Foreground colours against exact composites: image, alpha and true foreground are known.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use atelier_compose::estimate_foreground;
use atelier_stores::Raster;
use support::{data, read_gray, read_rgb};

/// Error as it is seen on another background: α · |F − F*|, averaged over the pixels of partial alpha, in levels.
fn visible_error(found: &Raster, truth: &Raster, matte: &Raster) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for ((found, truth), alpha) in found
        .data()
        .chunks(3)
        .zip(truth.data().chunks(3))
        .zip(matte.data())
    {
        if (1..255).contains(alpha) {
            let difference: f64 = found
                .iter()
                .zip(truth)
                .map(|(found, truth)| f64::from(found.abs_diff(*truth)))
                .sum();
            sum += difference / 3.0 * f64::from(*alpha) / 255.0;
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}

#[test]
fn colours_are_far_closer_to_the_truth_than_the_pictures_own() {
    let Some(folder) = data("cutouts/composites") else {
        return;
    };
    let mut names: Vec<_> = std::fs::read_dir(folder.join("alpha"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    let (mut estimated, mut original) = (Vec::new(), Vec::new());
    for name in &names {
        let stem = std::path::Path::new(name).with_extension("");
        let find = |kind: &str| {
            let mut files = std::fs::read_dir(folder.join(kind))
                .unwrap()
                .flatten()
                .map(|entry| entry.path());
            files.find(|path| path.file_stem() == Some(stem.as_os_str()))
        };
        let (Some(image), Some(foreground)) = (find("image"), find("foreground")) else {
            continue;
        };
        let (picture, matte, truth) = (
            read_rgb(&image),
            read_gray(&folder.join("alpha").join(name)),
            read_rgb(&foreground),
        );
        let found = estimate_foreground(&picture, &matte, 0).unwrap();
        estimated.push(visible_error(&found, &truth, &matte));
        original.push(visible_error(&picture, &truth, &matte));
    }
    let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
    println!(
        "{} composites: {:.2} levels, with the picture's own colours {:.2}",
        estimated.len(),
        mean(&estimated),
        mean(&original)
    );
    assert!(!estimated.is_empty());
    assert!(
        mean(&estimated) < 0.5 * mean(&original),
        "{} against {}",
        mean(&estimated),
        mean(&original)
    );
}
