//! Rows whose networks operators bring, on tiny networks with the same inputs and outputs (`exports/make.py`): what comes out is what
//! the weights and the row say, and another network is refused with what was expected and found.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use atelier_models::{
    Guided, LoadError, Mask, ModelStore, Picture, ProviderChoice, Purpose, Runtime, Segmenter,
    Session, SessionOptions, catalogue::Normalization, segment::trimap_of_coarse,
};

fn runtime() -> Runtime {
    let store = ModelStore::open(None).unwrap();
    Runtime::load(&store, ProviderChoice::Cpu).unwrap_or_else(|error| panic!("{error}"))
}

fn export(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/exports")
        .join(format!("{name}.onnx"))
}

/// A models folder in which the file of the row `name` is that export.
fn folder_with(name: &str, export_name: &str) -> (tempfile::TempDir, ModelStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    let file = store.path(store.catalogue().find(name).unwrap());
    std::fs::copy(export(export_name), file).unwrap();
    (folder, store)
}

/// What opening that export for the row `name` says was expected and found; the check without compiling says the same.
fn open_error(name: &str, export_name: &str) -> (String, String) {
    let (_folder, store) = folder_with(name, export_name);
    let opened = Session::open(&runtime(), &store, name, &SessionOptions::default());
    let checked = Session::check_file(&store, store.catalogue().find(name).unwrap());
    let said = |error: Option<LoadError>| match error {
        Some(LoadError::WrongFile {
            expected, found, ..
        }) => (expected, found),
        other => panic!("{name} of {export_name}: {other:?}"),
    };
    let error = said(opened.err());
    assert_eq!(said(checked.err()), error, "{name} of {export_name}");
    error
}

/// Four colours, a quarter of the picture each. The brightest is not white, so that dividing by it is not dividing by 255.
const COLORS: [[u8; 3]; 4] = [[0, 0, 0], [240, 240, 240], [200, 100, 50], [30, 60, 220]];

fn quarters(width: u32, height: u32) -> Vec<u8> {
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let quarter = usize::from(2 * x >= width) + 2 * usize::from(2 * y >= height);
            pixels.extend(COLORS[quarter]);
        }
    }
    pixels
}

/// What the networks give of a colour, where the brightest is `white`.
fn shade([red, green, blue]: [u8; 3], white: f64) -> f64 {
    let square = |level: u8| (f64::from(level) / white).powi(2);
    0.299 * square(red) + 0.587 * square(green) + 0.114 * square(blue)
}

fn at(mask: &Mask, x: u32, y: u32) -> u8 {
    mask.alpha[(y * mask.width + x) as usize]
}

/// The levels in the middle of the four quarters.
fn middles(mask: &Mask) -> [u8; 4] {
    let (width, height) = (mask.width, mask.height);
    [
        at(mask, width / 4, height / 4),
        at(mask, 3 * width / 4, height / 4),
        at(mask, width / 4, 3 * height / 4),
        at(mask, 3 * width / 4, 3 * height / 4),
    ]
}

fn assert_close(found: [u8; 4], expected: [f64; 4], name: &str) {
    for (found, expected) in found.iter().zip(expected) {
        // Cut or rounded to bytes.
        let apart = f64::from(*found) - expected;
        assert!((-1.01..0.51).contains(&apart), "{name}: {found} {expected}");
    }
}

/// Which of the tiny networks stands for a row's.
fn export_of(name: &str) -> &'static str {
    match name {
        "u2net" | "u2netp" => "u2net",
        "u2net_human_seg" | "silueta" | "u2net_custom" => "u2net-open",
        "u2net_cloth_seg" => "cloth",
        "isnet-general-use" | "dis_custom" => "isnet",
        "isnet-anime" => "anime",
        "bria-rmbg" => "rmbg",
        "ben_custom" => "ben",
        _ if name.starts_with("birefnet") => "birefnet",
        other => panic!("there is no export for the row `{other}`: add one to exports/make.py"),
    }
}

#[test]
fn every_row_of_a_matting_network_does_what_it_says() {
    let runtime = runtime();
    let catalogue = atelier_models::Catalogue::builtin().unwrap();
    let names = catalogue.names_for(Purpose::Matte);
    assert!(names.len() > 15);
    for name in names {
        let (_folder, store) = folder_with(name, export_of(name));
        let segmenter =
            Segmenter::open(&runtime, &store, name, &SessionOptions::default()).unwrap();
        let row = catalogue.find(name).unwrap();
        Session::check_file(&store, row).unwrap_or_else(|error| panic!("{error}"));
        let shape = &row.input.as_ref().unwrap().shape;
        // The network's own size, so that nothing is resampled.
        let (height, width) = (shape[2] as u32, shape[3] as u32);
        let pixels = quarters(width, height);
        let picture = Picture {
            width,
            height,
            channels: 3,
            pixels: &pixels,
        };
        let (mask, _) = segmenter.segment(&picture).unwrap();
        let sigmoid = |value: f64| 1.0 / (1.0 + (-value).exp());
        let expected = COLORS.map(|color| {
            let shade = shade(color, 240.0);
            255.0
                * match row.outputs[0].normalization {
                    Normalization::MinMax => shade,
                    Normalization::SigmoidMinMax => {
                        let (least, largest) = (sigmoid(-4.0), sigmoid(4.0));
                        (sigmoid(8.0 * (shade - 0.5)) - least) / (largest - least)
                    }
                    Normalization::ClassNotZero => f64::from(shade > 0.5),
                    other => panic!("{name}: {other:?}"),
                }
        });
        assert_close(middles(&mask), expected, name);
    }
}

#[test]
fn a_matte_of_another_size_comes_back_at_the_pictures() {
    let (_folder, store) = folder_with("ben_custom", "ben");
    let segmenter =
        Segmenter::open(&runtime(), &store, "ben_custom", &SessionOptions::default()).unwrap();
    let pixels = quarters(90, 61);
    let picture = Picture {
        width: 90,
        height: 61,
        channels: 3,
        pixels: &pixels,
    };
    let (mask, _) = segmenter.segment(&picture).unwrap();
    assert_eq!((mask.width, mask.height), (90, 61));
    assert!(at(&mask, 10, 10) < 3 && at(&mask, 80, 10) > 200);
}

/// The trimap of the quarters: the subject above, background below, unknown around the middle.
fn trimap(width: u32, height: u32) -> Mask {
    let level = |place: u32| match (place / width) * 8 / height {
        0 => 255,
        7 => 0,
        _ => 128,
    };
    Mask {
        width,
        height,
        alpha: (0..width * height).map(level).collect(),
    }
}

fn guided(name: &str, export_name: &str) -> Guided {
    let (_folder, store) = folder_with(name, export_name);
    Guided::open(&runtime(), &store, name, &SessionOptions::default()).unwrap()
}

#[test]
fn networks_with_a_trimap_take_it_as_a_channel_or_as_an_input_of_its_own() {
    for (name, export_name) in [
        ("vitmatte-small", "vitmatte"),
        ("vitmatte-base", "vitmatte"),
        ("trimap_custom", "image-trimap"),
    ] {
        let guided = guided(name, export_name);
        // No multiples of 32, so that both sides are filled up.
        for (width, height) in [(200, 120), (33, 64), (1, 8)] {
            let pixels = quarters(width, height);
            let picture = Picture {
                width,
                height,
                channels: 3,
                pixels: &pixels,
            };
            let trimap = trimap(width, height);
            let raw = guided.infer(&picture, &trimap).unwrap();
            let mask = guided.finish(raw, &picture, Some(&trimap)).unwrap();
            assert_eq!((mask.width, mask.height), (width, height), "{name}");
            if width > 1 {
                // Divided by 255, whatever the brightest is.
                let expected = COLORS.map(|color| 255.0 * shade(color, 255.0));
                assert_close(middles(&mask), expected, name);
            }
            // The network gives nothing where something is known, and is not believed.
            assert_eq!((at(&mask, 0, 0), at(&mask, 0, height - 1)), (255, 0));
        }
    }
}

#[test]
fn a_large_picture_is_worked_on_small_and_keeps_what_is_known_at_its_own_size() {
    let guided = guided("vitmatte-small", "vitmatte");
    let (width, height) = (2_200, 1_100);
    let pixels = quarters(width, height);
    let picture = Picture {
        width,
        height,
        channels: 3,
        pixels: &pixels,
    };
    assert_eq!(guided.working_size(&picture), (1_024, 512));
    let mut trimap = trimap(width, height);
    // One pixel that is known, in the middle of what is not.
    trimap.alpha[(width * 550 + 300) as usize] = 255;
    let raw = guided.infer(&picture, &trimap).unwrap();
    let mask = guided.finish(raw, &picture, Some(&trimap)).unwrap();
    let expected = 255.0 * shade(COLORS[1], 255.0);
    let found = f64::from(at(&mask, 3 * width / 4, height / 4));
    // Stretched a little where it is nearly opaque.
    assert!((found - expected).abs() < 4.0, "{found} {expected}");
    assert_eq!(at(&mask, 300, 550), 255);
    assert_eq!((at(&mask, 9, 9), at(&mask, 9, height - 1)), (255, 0));
}

#[test]
fn a_trimap_of_a_coarse_matte_serves_too_and_one_that_is_too_small_does_not() {
    let guided = guided("trimap_custom", "image-trimap");
    let pixels = quarters(256, 256);
    let picture = Picture {
        width: 256,
        height: 256,
        channels: 3,
        pixels: &pixels,
    };
    let coarse = Mask {
        width: 256,
        height: 256,
        alpha: (0..256 * 256)
            .map(|place: u32| if place / 256 < 128 { 255 } else { 0 })
            .collect(),
    };
    let made = trimap_of_coarse(&coarse, &[]);
    let raw = guided.infer(&picture, &made).unwrap();
    let mask = guided.finish(raw, &picture, None).unwrap();
    assert_eq!((at(&mask, 9, 9), at(&mask, 9, 240)), (255, 0));
    let found = f64::from(at(&mask, 200, 127));
    assert!(
        (found - 255.0 * shade(COLORS[1], 255.0)).abs() < 1.0,
        "{found}"
    );

    let small = trimap(64, 64);
    let message = guided.infer(&picture, &small).err().unwrap().to_string();
    assert!(message.contains("64 × 64"), "{message}");
}

#[test]
fn another_network_is_refused_at_start_with_expected_and_found() {
    let (expected, found) = open_error("vitmatte-small", "image-trimap");
    assert_eq!(expected, "input `pixel_values` Float32[-1, 4, -1, -1]");
    assert_eq!(
        found,
        "inputs `trimap` Float32[-1, 1, -1, -1], `image` Float32[-1, 3, -1, -1]"
    );
    let (expected, found) = open_error("trimap_custom", "vitmatte");
    assert_eq!(expected, "input `image` Float32[-1, 3, -1, -1]");
    assert_eq!(found, "inputs `pixel_values` Float32[-1, -1, -1, -1]");
    let (expected, found) = open_error("trimap_custom", "three-inputs");
    assert_eq!(expected, "2 inputs");
    assert!(found.contains("`hint`"), "{found}");
    // A network of two inputs where one is expected, and the reverse.
    let (expected, _) = open_error("ben_custom", "image-trimap");
    assert_eq!(expected, "input Float32[-1, 3, 1024, 1024]");
    let (expected, _) = open_error("vitmatte-base", "ben");
    assert_eq!(expected, "input `pixel_values` Float32[-1, 4, -1, -1]");
    // Another output.
    let (expected, found) = open_error("u2net_cloth_seg", "isnet");
    assert_eq!(
        (expected.as_str(), found.as_str()),
        (
            "input Float32[-1, 3, 768, 768]",
            "`img` Float32[-1, 3, 1024, 1024]"
        )
    );
}

#[test]
fn what_is_no_network_is_refused_by_rows_with_a_trimap_too() {
    for content in [&b"not a network"[..], &[]] {
        let (_folder, store) = folder_with("vitmatte-small", "vitmatte");
        let file = store.path(store.catalogue().find("vitmatte-small").unwrap());
        std::fs::write(file, content).unwrap();
        let error = Guided::open(
            &runtime(),
            &store,
            "vitmatte-small",
            &SessionOptions::default(),
        );
        assert!(
            matches!(error, Err(LoadError::Unloadable { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn each_purpose_opens_its_own() {
    let (_folder, store) = folder_with("vitmatte-small", "vitmatte");
    let options = SessionOptions::default();
    let wrong = Segmenter::open(&runtime(), &store, "vitmatte-small", &options).unwrap_err();
    assert!(matches!(wrong, LoadError::WrongPurpose { .. }), "{wrong}");
    let wrong = Guided::open(&runtime(), &store, "u2net", &options).unwrap_err();
    assert!(matches!(wrong, LoadError::WrongPurpose { .. }), "{wrong}");
    let wrong = Guided::open(&runtime(), &store, "nothing", &options).unwrap_err();
    assert!(
        matches!(&wrong, LoadError::UnknownModel { known, .. } if known.contains("vitmatte-small")),
        "{wrong}"
    );
}
