//! EXIF orientation on real files: applied where it is sound, ignored where it is not.
#![allow(clippy::unwrap_used)]

mod support;

use support::{data, decode, difference};

#[test]
fn every_readable_sample_is_upright() {
    let Some(folder) = data("exif") else { return };
    let index = std::fs::read_to_string(folder.join("index.csv")).unwrap();
    let mut seen = 0;
    for line in index.lines().skip(1).filter(|line| line.ends_with(",ok")) {
        let fields: Vec<&str> = line.split(',').collect();
        let (name, width, height): (_, u32, u32) = (
            fields[0],
            fields[1].parse().unwrap(),
            fields[2].parse().unwrap(),
        );
        // The index names files of other sets too.
        let Ok(file) = std::fs::read(folder.join(name)) else {
            continue;
        };
        let prepared = decode(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let orientation = fields[3]
            .parse()
            .ok()
            .filter(|value| (1..=8).contains(value))
            .unwrap_or(1);
        assert_eq!(prepared.measurements.orientation, orientation, "{name}");
        let upright = if orientation >= 5 {
            (height, width)
        } else {
            (width, height)
        };
        assert_eq!(
            (prepared.raster.width(), prepared.raster.height()),
            upright,
            "{name}"
        );
        seen += 1;
    }
    assert!(seen > 20, "only {seen} samples were read");
}

#[test]
fn the_eight_orientations_show_the_same_picture() {
    let Some(folder) = data("exif") else { return };
    for shape in ["landscape", "portrait"] {
        let read = |number: u8| {
            std::fs::read(folder.join(format!("jpg/orientation/{shape}_{number}.jpg"))).ok()
        };
        let mut turned =
            (1..=8).filter_map(|number| Some((number, decode(&read(number)?).unwrap())));
        let Some((_, upright)) = turned.next() else {
            continue;
        };
        let upright = upright.raster;
        for (number, turned) in turned {
            assert_eq!(turned.measurements.orientation, number);
            assert_eq!(
                (turned.raster.width(), turned.raster.height()),
                (upright.width(), upright.height())
            );
            let (mean, _) = difference(turned.raster.data(), upright.data());
            assert!(
                mean < 12.0,
                "{shape}_{number} differs by {mean} levels on average"
            );
        }
    }
}
