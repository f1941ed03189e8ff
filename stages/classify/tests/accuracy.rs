//! How often the classifier is right on the sample data, as floors. `cargo test -p atelier-classify --test accuracy --
//! --nocapture` prints the table.
//!
//! The thresholds were tuned on these pictures, so a floor guards against a loss; it does not promise the same elsewhere.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::Path;

use atelier_classify::Classifier;
use atelier_schemas::{
    Kind, KindChoice,
    events::{Classification, Strategy},
};
use atelier_stores::Raster;
use support::{classifier, crop, data, over, read};

/// What was found in a set, and the share that is right.
fn found_in(
    classifier: &Classifier,
    name: &str,
    pictures: impl Iterator<Item = Raster>,
    is_right: impl Fn(&Classification) -> bool,
) -> f32 {
    let (mut kinds, mut right, mut all) = ([0_usize; 3], 0_usize, 0_usize);
    for picture in pictures {
        let found = classifier
            .classify(&picture, KindChoice::Auto)
            .unwrap()
            .classification;
        kinds[found.kind as usize] += 1;
        right += usize::from(is_right(&found));
        all += 1;
    }
    assert!(all > 0, "{name} is empty");
    println!(
        "{name}: portrait {}, product {}, graphic {}; right {right} of {all}",
        kinds[0], kinds[1], kinds[2]
    );
    right as f32 / all as f32
}

fn check(classifier: &Classifier, folder: &str, kind: Kind, floor: f32) {
    let Some(files) = data(folder) else { return };
    let share = found_in(
        classifier,
        folder,
        files.iter().map(|file| read(file)),
        |found| found.kind == kind,
    );
    assert!(
        share >= floor,
        "{folder}: {share} are {kind:?}, at least {floor} were"
    );
}

#[test]
fn people_are_portraits() {
    let classifier = classifier();
    for (folder, floor) in [
        ("cutouts/people/image", 0.96),
        ("photos8/single_person", 0.9),
        ("photos8/social_activities", 0.9),
    ] {
        check(&classifier, folder, Kind::Portrait, floor);
    }
}

#[test]
fn things_animals_and_places_are_products() {
    let classifier = classifier();
    for (folder, floor) in [
        ("photos8/pets", 0.96),
        ("photos8/foods", 0.85),
        ("photos8/travel_scenery", 0.9),
        ("photos8/other", 0.85),
        ("cutouts/natural/image", 0.75),
    ] {
        check(&classifier, folder, Kind::Product, floor);
    }
}

#[test]
fn clothes_are_products() {
    let Some(_) = data("products") else { return };
    let classes = [
        "dress",
        "hat",
        "longsleeve",
        "outwear",
        "pants",
        "shirt",
        "shoes",
        "shorts",
        "skirt",
        "t-shirt",
    ];
    let files = classes
        .into_iter()
        .filter_map(|class| data(&format!("products/{class}")))
        .flatten();
    let share = found_in(
        &classifier(),
        "products",
        files.map(|file| read(&file)),
        |found| found.kind == Kind::Product,
    );
    assert!(share >= 0.96, "{share} are products");
}

#[test]
fn icons_and_screens_are_graphics() {
    let classifier = classifier();
    check(&classifier, "photos8/screenshot", Kind::Graphic, 0.96);
    check(&classifier, "graphics", Kind::Graphic, 0.98);
    let Some(icons) = data("graphics") else {
        return;
    };
    let on_white = icons.iter().map(|file| over(&read(file), [255; 3]));
    let share = found_in(&classifier, "graphics on white", on_white, |found| {
        found.kind == Kind::Graphic
    });
    assert!(share >= 0.97, "{share} are graphics");
}

#[test]
fn cut_out_icons_keep_their_alpha() {
    let Some(icons) = data("graphics") else {
        return;
    };
    let keeps = |found: &Classification| found.strategy == Strategy::KeepAlpha;
    let share = found_in(
        &classifier(),
        "graphics, alpha",
        icons.iter().map(|file| read(file)),
        keeps,
    );
    assert!(share >= 0.98, "{share} keep their alpha");
}

#[test]
fn heads_that_fill_the_picture_are_portraits() {
    let Some(files) = data("cutouts/people/image") else {
        return;
    };
    let classifier = classifier();
    let heads: Vec<Raster> = files
        .iter()
        .filter_map(|file| head(&classifier, file))
        .collect();
    assert!(heads.len() >= 20, "only {} faces", heads.len());
    let share = found_in(&classifier, "heads", heads.into_iter(), |found| {
        found.kind == Kind::Portrait
    });
    assert!(share >= 0.9, "{share} are portraits");
}

/// Twice as wide and two and a half times as high as the face.
fn head(classifier: &Classifier, file: &Path) -> Option<Raster> {
    let picture = read(file);
    let found = classifier
        .classify(&picture, KindChoice::Auto)
        .unwrap()
        .classification;
    let face = found.evidence.faces.first()?;
    let left = (face.x - face.width * 0.5).max(0.0) as u32;
    let top = (face.y - face.height * 0.6).max(0.0) as u32;
    Some(crop(
        &picture,
        left,
        top,
        (face.width * 2.0) as u32,
        (face.height * 2.5) as u32,
    ))
}

#[test]
fn what_has_fur_or_hair_gets_matting_and_clothes_on_a_floor_do_not() {
    let classifier = classifier();
    let gets_matting = |found: &Classification| found.strategy == Strategy::SegmentationWithMatting;
    for (folder, floor) in [
        ("photos8/pets", 0.95),
        ("photos8/single_person", 0.9),
        ("cutouts/natural/image", 0.6),
    ] {
        let Some(files) = data(folder) else { return };
        let share = found_in(
            &classifier,
            folder,
            files.iter().map(|file| read(file)),
            gets_matting,
        );
        assert!(share >= floor, "{folder}: {share} get matting");
    }
    let Some(files) = data("products/pants") else {
        return;
    };
    let share = found_in(
        &classifier,
        "products/pants",
        files.iter().map(|file| read(file)),
        gets_matting,
    );
    assert!(share <= 0.2, "{share} of the trousers get matting");
}
