//! The solver as a whole, on pictures whose mattes are known.

use atelier_stores::raster::Channels;

use super::*;

/// A disc that fades out over `fade` 80ths of the side, 25 of them from the middle, over a ground that shades off; its trimap has the
/// fading ring and some more unknown. With the true matte.
fn faded_disc(side: usize, fade: f32) -> (Raster, Raster, Vec<u8>) {
    let (mut pixels, mut trimap, mut matte) = (Vec::new(), Vec::new(), Vec::new());
    let middle = side as f32 / 2.0;
    let unit = side as f32 / 80.0;
    for y in 0..side {
        for x in 0..side {
            let radius = (x as f32 - middle).hypot(y as f32 - middle) / unit;
            let alpha = ((25.0 - radius) / fade + 0.5).clamp(0.0, 1.0);
            let shade = (x + y) as f32 / (2 * side) as f32 * 60.0;
            let ground = [20.0 + shade, 90.0, 150.0 - shade];
            for (subject, ground) in [230.0, 160.0, 40.0].into_iter().zip(ground) {
                pixels.push((subject * alpha + ground * (1.0 - alpha)).round() as u8);
            }
            matte.push((alpha * 255.0).round() as u8);
            trimap.push(match (radius - 25.0) / fade {
                ..-0.7 => 255,
                0.7.. => 0,
                _ => 128,
            });
        }
    }
    let side = side as u32;
    (
        Raster::new(side, side, Channels::Rgb, pixels).unwrap(),
        Raster::new(side, side, Channels::Gray, trimap).unwrap(),
        matte,
    )
}

fn mean_error(found: &[u8], expected: &[u8]) -> f64 {
    let pairs = found.iter().zip(expected);
    let sum: u64 = pairs
        .map(|(found, exact)| u64::from(found.abs_diff(*exact)))
        .sum();
    sum as f64 / expected.len() as f64
}

#[test]
fn a_soft_edge_is_found_and_what_is_known_stays() {
    let (picture, trimap, matte) = faded_disc(80, 10.0);
    let solved = solve(&picture, &trimap).unwrap();
    let error = mean_error(&solved.alpha, &matte);
    assert!(error < 0.5, "{error}");
    for (found, known) in solved.alpha.iter().zip(trimap.data()) {
        assert!(matches!(known, 128) || found == known);
    }
    assert!((0.2..0.4).contains(&solved.unknown_share));
    let names: Vec<&str> = solved.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        ["laplacian", "factor", "solve", "links", "solve-linked"]
    );
}

#[test]
fn a_picture_that_is_too_large_is_solved_smaller_and_fitted() {
    let (picture, trimap, matte) = faded_disc(2_600, 1.0);
    let solved = solve(&picture, &trimap).unwrap();
    assert_eq!(solved.steps[0].name, "shrink");
    assert_eq!(solved.steps.last().unwrap().name, "enlarge");
    let error = mean_error(&solved.alpha, &matte);
    assert!(error < 0.3, "{error}");
    for (found, known) in solved.alpha.iter().zip(trimap.data()) {
        assert!(matches!(known, 128) || found == known);
    }
}

#[test]
fn flat_colours_and_thin_pictures_are_solved_too() {
    for (width, height) in [(1, 40), (40, 1), (2, 40), (40, 40)] {
        let count = (width * height) as usize;
        let picture = Raster::new(width, height, Channels::Rgb, vec![90; 3 * count]).unwrap();
        let mut levels = vec![128; count];
        levels[0] = 255;
        levels[count - 1] = 0;
        let trimap = Raster::new(width, height, Channels::Gray, levels).unwrap();
        let solved = solve(&picture, &trimap).unwrap();
        assert_eq!((solved.alpha[0], solved.alpha[count - 1]), (255, 0));
    }
}

#[test]
fn a_trimap_that_knows_all_is_the_matte() {
    let picture = Raster::new(4, 4, Channels::Rgba, vec![7; 64]).unwrap();
    let levels: Vec<u8> = (0..16)
        .map(|place| if place < 8 { 0 } else { 255 })
        .collect();
    let trimap = Raster::new(4, 4, Channels::Gray, levels.clone()).unwrap();
    let solved = solve(&picture, &trimap).unwrap();
    assert_eq!((solved.alpha, solved.unknown_share), (levels, 0.0));
}

#[test]
fn another_size_is_refused() {
    let picture = Raster::new(4, 4, Channels::Gray, vec![7; 16]).unwrap();
    let trimap = Raster::new(4, 3, Channels::Gray, vec![0; 12]).unwrap();
    assert!(matches!(
        solve(&picture, &trimap),
        Err(SolveError::OtherSize { pixels: 16, .. })
    ));
}

/// Where the shared data is.
fn lemur(file: &str) -> Option<image::DynamicImage> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/cutouts/pymatting/lemur");
    image::open(folder.join(file)).ok()
}

#[test]
fn the_lemur_is_no_worse_than_pymattings() {
    /// Sum of absolute differences of `pymatting.estimate_alpha_cf` (1.1), in thousands.
    const PYMATTING: f64 = 0.2220;
    let (Some(picture), Some(trimap), Some(alpha)) = (
        lemur("lemur.png"),
        lemur("lemur_trimap.png"),
        lemur("lemur_alpha.png"),
    ) else {
        eprintln!("skipped: no data");
        return;
    };
    let picture = picture.into_rgb8();
    let (width, height) = picture.dimensions();
    let picture = Raster::new(width, height, Channels::Rgb, picture.into_raw()).unwrap();
    let levels = trimap.into_luma8().into_raw().into_iter();
    let levels = levels.map(|level| match level {
        ..=5 => 0,
        250.. => 255,
        _ => 128,
    });
    let trimap = Raster::new(width, height, Channels::Gray, levels.collect()).unwrap();
    let solved = solve(&picture, &trimap).unwrap();
    let alpha = alpha.into_luma8().into_raw();
    let sad = mean_error(&solved.alpha, &alpha) * alpha.len() as f64 / 255e3;
    assert!(sad <= PYMATTING, "{sad}");
}
