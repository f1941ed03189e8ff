//! The real networks: opened, run, and refused where the file is another. They need `atelier models pull` first.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use atelier_models::{
    BodySquare, LoadError, ModelStore, Picture, Pose, Provider, ProviderChoice, Refiner, Runtime,
    Segmenter, Session, SessionOptions,
    absorb::absorb,
    onnx::Network,
    segment::reference::{self, Difference},
};

use support::matte_of_sample;

/// The shared models folder with the library loaded.
fn pulled() -> (ModelStore, Runtime) {
    let store = ModelStore::open(None).unwrap();
    let runtime =
        Runtime::load(&store, ProviderChoice::Auto).unwrap_or_else(|error| panic!("{error}"));
    (store, runtime)
}

/// A folder in which `name`'s file is a copy of `file`.
fn folder_with(name: &str, file: &Path) -> (tempfile::TempDir, ModelStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    std::fs::copy(file, store.path(store.catalogue().find(name).unwrap())).unwrap();
    (folder, store)
}

fn open_error(runtime: &Runtime, store: &ModelStore, name: &str) -> LoadError {
    Session::open(runtime, store, name, &SessionOptions::default()).unwrap_err()
}

#[test]
fn every_model_that_packages_have_opens_as_its_row_says() {
    let (store, runtime) = pulled();
    for name in [
        "yunet",
        "efficientnet_lite0",
        "efficientdet_lite0",
        "pose_landmarks33",
        "refiner",
        "u2netp",
        "u2net",
        "isnet-general-use",
    ] {
        let session = Session::open(&runtime, &store, name, &SessionOptions::default());
        assert_eq!(
            session.unwrap_or_else(|error| panic!("{error}")).name(),
            name
        );
        let row = store.catalogue().find(name).unwrap();
        Session::check_file(&store, row).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn another_network_is_refused_with_expected_and_found() {
    let (pulled, runtime) = pulled();
    let yunet = pulled.path(pulled.catalogue().find("yunet").unwrap());
    let (_folder, store) = folder_with("u2netp", &yunet);
    let error = open_error(&runtime, &store, "u2netp");
    let LoadError::WrongFile {
        expected, found, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(expected, "input `input.1` Float32[-1, 3, 320, 320]");
    assert_eq!(found, "inputs `input` Float32[1, 3, 640, 640]");

    let (_folder, store) = folder_with("isnet-general-use", &yunet);
    let error = open_error(&runtime, &store, "isnet-general-use");
    let LoadError::WrongFile {
        expected, found, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(expected, "input Float32[-1, 3, 1024, 1024]");
    assert_eq!(found, "`input` Float32[1, 3, 640, 640]");
}

#[test]
fn a_file_that_is_no_network_is_refused() {
    let (pulled, runtime) = pulled();
    let u2netp = std::fs::read(pulled.path(pulled.catalogue().find("u2netp").unwrap())).unwrap();
    for bytes in [&b"not a network"[..], &[], &u2netp[..u2netp.len() / 2]] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (_folder, store) = folder_with("u2netp", file.path());
        let error = open_error(&runtime, &store, "u2netp");
        assert!(
            matches!(
                error,
                LoadError::Unloadable { .. } | LoadError::WrongFile { .. }
            ),
            "{error}"
        );
        assert!(
            error.to_string().contains("atelier models pull u2netp"),
            "{error}"
        );
        let row = store.catalogue().find("u2netp").unwrap();
        let message = Session::check_file(&store, row).unwrap_err().to_string();
        assert!(
            message.contains("expected an ONNX network, found something else ("),
            "{message}"
        );
    }
}

#[test]
fn a_missing_model_names_the_command() {
    let (_, runtime) = pulled();
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    let message = open_error(&runtime, &store, "u2net").to_string();
    assert_eq!(
        message,
        "model `u2net` is not there: run `atelier models pull u2net`"
    );
    let message = Runtime::load(&store, ProviderChoice::Auto)
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "model `onnxruntime` is not there: run `atelier models pull onnxruntime`"
    );
    let row = store.catalogue().find("u2net").unwrap();
    assert!(
        Session::check_file(&store, row).is_ok(),
        "it is no wrong file"
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn without_its_library_openvino_is_an_error_that_names_the_command_and_never_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    // What `cpu` needs is there.
    let (pulled, _) = pulled();
    let library = store.catalogue().find("onnxruntime").unwrap();
    std::fs::copy(pulled.path(library), store.path(library)).unwrap();
    for choice in [ProviderChoice::Openvino, ProviderChoice::OpenvinoInt8] {
        let message = Runtime::load(&store, choice).unwrap_err().to_string();
        assert_eq!(
            message,
            "model `onnxruntime-openvino` is not there: run `atelier models pull onnxruntime-openvino`"
        );
    }
}

#[test]
fn a_model_that_makes_no_matte_is_refused_as_segmenter() {
    let (store, runtime) = pulled();
    let open =
        |name| Segmenter::open(&runtime, &store, name, &SessionOptions::default()).unwrap_err();
    assert!(matches!(open("yunet"), LoadError::WrongPurpose { .. }));
    assert!(matches!(open("sam"), LoadError::WrongPurpose { .. }));
    assert!(
        matches!(open("nothing"), LoadError::UnknownModel { known, .. } if known.contains("birefnet-general"))
    );
}

/// A bright disc on a dark ground.
fn disc(width: u32, height: u32) -> Vec<u8> {
    let (center_x, center_y, radius) =
        (width as f32 / 2.0, height as f32 / 2.0, height as f32 / 4.0);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let inside = (x as f32 - center_x).hypot(y as f32 - center_y) < radius;
            pixels.extend(if inside { [230, 60, 40] } else { [20, 30, 60] });
        }
    }
    pixels
}

#[test]
fn a_disc_is_cut_out_the_same_way_every_time() {
    let (store, runtime) = pulled();
    let segmenter =
        Segmenter::open(&runtime, &store, "u2netp", &SessionOptions::default()).unwrap();
    let (width, height) = (400, 300);
    let pixels = disc(width, height);
    let picture = Picture {
        width,
        height,
        channels: 3,
        pixels: &pixels,
    };
    let (mask, elapsed) = segmenter.segment(&picture).unwrap();
    assert_eq!((mask.width, mask.height), (width, height));
    assert!(!elapsed.is_zero());
    let at = |x: u32, y: u32| mask.alpha[(y * width + x) as usize];
    assert!(
        at(200, 150) > 200 && at(10, 10) < 30,
        "{} {}",
        at(200, 150),
        at(10, 10)
    );
    assert_eq!(segmenter.segment(&picture).unwrap().0, mask);
}

#[test]
fn runs_beside_each_other_give_the_same_matte() {
    let (store, runtime) = pulled();
    let options = SessionOptions {
        concurrent_runs: 2,
        intra_threads: Some(1),
        ..SessionOptions::default()
    };
    let segmenter = Segmenter::open(&runtime, &store, "u2netp", &options).unwrap();
    let pixels = disc(400, 300);
    let picture = Picture {
        width: 400,
        height: 300,
        channels: 3,
        pixels: &pixels,
    };
    // More runs than copies, so that some have to wait.
    let masks: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| segmenter.segment(&picture).unwrap().0))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(masks.iter().all(|mask| *mask == masks[0]));
}

#[test]
fn the_chosen_provider_gives_the_mattes_of_the_reference() {
    let (store, runtime) = pulled();
    for name in ["u2netp", "u2net", "isnet-general-use"] {
        let segmenter =
            Segmenter::open(&runtime, &store, name, &SessionOptions::default()).unwrap();
        assert_eq!(segmenter.session().provider(), runtime.provider(), "{name}");
        let matte = reference::matte_of(&segmenter).unwrap();
        let difference = Difference::between(&matte.alpha, reference::stored_matte(name).unwrap());
        assert!(difference.is_small(), "{name}: {difference:?}");
    }
}

#[test]
fn a_network_whose_mattes_differ_runs_on_cpu() {
    let (pulled, runtime) = pulled();
    if runtime.provider() == Provider::Cpu {
        eprintln!("skipped: `auto` is `cpu` on this processor");
        return;
    }
    // Inputs and outputs have the same names in both, and the mattes are not the reference's.
    let u2net = pulled.path(pulled.catalogue().find("u2net").unwrap());
    let (_folder, store) = folder_with("u2netp", &u2net);
    let segmenter =
        Segmenter::open(&runtime, &store, "u2netp", &SessionOptions::default()).unwrap();
    assert_eq!(segmenter.session().provider(), Provider::Cpu);
}

#[test]
fn what_is_absorbed_changes_nothing_in_32_bits() {
    let (pulled, runtime) = pulled();
    let cpu = runtime.on_cpu();
    for name in ["u2netp", "u2net"] {
        let row = pulled.catalogue().find(name).unwrap();
        assert!(!row.absorptions.is_empty(), "{name}");
        let file = pulled.path(row);
        let as_published = Network::read(std::fs::read(&file).unwrap()).unwrap();
        let mut network = as_published.clone();
        absorb(&mut network, &row.absorptions).unwrap();
        assert_ne!(network, as_published, "{name}");
        let (_folder, store) = folder_with(name, &file);
        std::fs::write(store.path(row), network.write()).unwrap();

        let options = SessionOptions::default();
        let absorbed = Segmenter::open(&cpu, &store, name, &options).unwrap();
        let published = Segmenter::open(&cpu, &pulled, name, &options).unwrap();
        let difference =
            Difference::between(&matte_of_sample(&absorbed), &matte_of_sample(&published));
        assert!(
            difference.flipped_share < 1e-4 && difference.mean < 0.01,
            "{name}: {difference:?}"
        );
    }
}

/// Where the shared data is.
fn data(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(path);
    path.exists().then_some(path)
}

#[test]
fn people_are_cut_out_as_people_drew_them() {
    let Some(people) = data("cutouts/people") else {
        eprintln!("skipped: no data");
        return;
    };
    let (store, runtime) = pulled();
    let segmenter =
        Segmenter::open(&runtime, &store, "u2netp", &SessionOptions::default()).unwrap();
    let mut overlaps = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(people.join("image"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files.iter().take(6) {
        let image = image::open(file).unwrap().into_rgb8();
        let picture = Picture {
            width: image.width(),
            height: image.height(),
            channels: 3,
            pixels: &image,
        };
        let (mask, _) = segmenter.segment(&picture).unwrap();
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let truth = image::open(people.join("mask").join(stem + ".png"))
            .unwrap()
            .into_luma8();
        let truth = image::imageops::resize(
            &truth,
            mask.width,
            mask.height,
            image::imageops::FilterType::Nearest,
        );
        let (mut both, mut either) = (0_u64, 0_u64);
        for (found, drawn) in mask.alpha.iter().zip(truth.as_raw()) {
            both += u64::from(*found >= 128 && *drawn >= 128);
            either += u64::from(*found >= 128 || *drawn >= 128);
        }
        overlaps.push(both as f64 / either as f64);
    }
    let mean = overlaps.iter().sum::<f64>() / overlaps.len() as f64;
    assert!(mean > 0.9, "intersection over union {overlaps:?}");
}

/// A disc with `hairs` that taper off: its picture (RGB) and true matte.
fn hairy(side: usize, hairs: f32) -> (Vec<u8>, Vec<u8>) {
    let (mut pixels, mut matte) = (Vec::new(), Vec::new());
    let middle = side as f32 / 2.0;
    for y in 0..side {
        for x in 0..side {
            let (right, down) = (x as f32 - middle, y as f32 - middle);
            let radius = right.hypot(down);
            let turn = (down.atan2(right) / std::f32::consts::TAU * hairs).rem_euclid(1.0);
            let beside_px = (turn - 0.5).abs() * std::f32::consts::TAU * radius / hairs;
            let half_width_px = ((175.0 - radius) / 75.0).clamp(0.0, 1.0) * 2.2;
            let is_hair = radius > 60.0 && radius < 175.0;
            let hair = if is_hair {
                (half_width_px - beside_px + 0.5).clamp(0.0, 1.0)
            } else {
                0.0
            };
            let alpha = hair.max((100.5 - radius).clamp(0.0, 1.0));
            let shade = (x + y) as f32 / 12.0;
            let ground = [20.0 + shade, 60.0, 90.0 + shade / 2.0];
            for (hair, ground) in [225.0, 170.0, 100.0].into_iter().zip(ground) {
                pixels.push((hair * alpha + ground * (1.0 - alpha)) as u8);
            }
            matte.push((alpha * 255.0) as u8);
        }
    }
    (pixels, matte)
}

#[test]
fn the_refiner_finds_hair_that_the_network_blurs() {
    let (store, runtime) = pulled();
    let options = SessionOptions::default();
    let first = Segmenter::open(&runtime, &store, "isnet-general-use", &options).unwrap();
    let refiner = Refiner::open(&runtime, &store, &options).unwrap();
    let (pixels, expected) = hairy(384, 40.0);
    let picture = Picture {
        width: 384,
        height: 384,
        channels: 3,
        pixels: &pixels,
    };
    let wrong = |alpha: &[u8]| -> u64 {
        let pairs = alpha.iter().zip(&expected);
        pairs
            .map(|(found, exact)| u64::from(found.abs_diff(*exact)))
            .sum()
    };
    let prepared = first.prepare(&picture).unwrap();
    let coarse = first.infer(&prepared).unwrap();
    let coarse = first.finish(&coarse, 384, 384).unwrap();
    let raw = refiner.infer(&picture, &prepared, &first, &first).unwrap();
    let refined = refiner.finish(&raw, &picture).unwrap();
    let (before, after) = (wrong(&coarse.alpha), wrong(&refined.alpha));
    assert!(after * 5 < before * 4, "{after} of {before}");
}

#[test]
fn a_second_network_is_asked_only_in_doubt() {
    let (store, runtime) = pulled();
    let segmenter = |name| Segmenter::open(&runtime, &store, name, &SessionOptions::default());
    let (first, second) = (segmenter("u2netp").unwrap(), segmenter("u2net").unwrap());
    let refiner = Refiner::open(&runtime, &store, &SessionOptions::default()).unwrap();
    let asked = |picture: &Picture<'_>| -> Vec<String> {
        let prepared = first.prepare(picture).unwrap();
        let raw = refiner.infer(picture, &prepared, &first, &second).unwrap();
        raw.runs.into_iter().map(|run| run.model).collect()
    };
    // A hat on wood is plain to see; noise is nothing, and every part of it as likely as the other.
    assert_eq!(asked(&reference::picture()), ["u2netp", "refiner"]);
    let noise: Vec<u8> = (0_u32..320 * 320 * 3)
        .map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let noise = Picture {
        width: 320,
        height: 320,
        channels: 3,
        pixels: &noise,
    };
    assert_eq!(asked(&noise), ["u2netp", "u2net", "refiner"]);
}

#[test]
fn a_persons_body_is_told_from_what_is_around_it() {
    let (store, runtime) = pulled();
    let pose = Pose::open(&runtime, &store, &SessionOptions::default()).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/astronaut.jpg");
    let image = image::open(sample).unwrap().into_rgb8();
    let picture = Picture {
        width: image.width(),
        height: image.height(),
        channels: 3,
        pixels: &image,
    };
    let face = BodySquare::below_face(178.0, 64.0, 91.0, 109.0);
    let look = pose.look(&picture, face).unwrap();
    assert!(look.score > 0.9, "{}", look.score);
    let point = |name: &str| *look.points.iter().find(|point| point.name == name).unwrap();
    let (nose, left, right) = (point("nose"), point("leftShoulder"), point("rightShoulder"));
    assert!(
        (215.0..245.0).contains(&nose.x) && (110.0..140.0).contains(&nose.y),
        "{nose:?}"
    );
    assert!(
        right.x < nose.x && nose.x < left.x && left.y > nose.y,
        "{left:?} {right:?}"
    );
    assert!(nose.confidence > 0.9);
    // Her hips are below her shoulders, and the picture ends not far below them.
    assert!(point("leftHip").y > left.y && point("rightHip").y > right.y);
    // Face and chest are hers; flag and spaceship are not.
    assert!(look.mask.at(225.0, 120.0) > 0.9 && look.mask.at(200.0, 400.0) > 0.9);
    assert!(look.mask.at(20.0, 60.0) < 0.1 && look.mask.at(420.0, 100.0) < 0.1);
    // There is nobody in the flag.
    let nobody = pose.look(&picture, BodySquare::around_person(0.0, 0.0, 110.0, 200.0));
    assert!(nobody.unwrap().score < 0.5);
}

#[test]
fn the_refiner_takes_any_size() {
    let (store, runtime) = pulled();
    let first = Segmenter::open(&runtime, &store, "u2netp", &SessionOptions::default()).unwrap();
    let refiner = Refiner::open(&runtime, &store, &SessionOptions::default()).unwrap();
    for (width, height) in [(1, 1), (1, 3_000), (1_000, 33), (900, 700)] {
        let pixels = vec![90; (width * height * 3) as usize];
        let picture = Picture {
            width,
            height,
            channels: 3,
            pixels: &pixels,
        };
        let prepared = first.prepare(&picture).unwrap();
        let raw = refiner.infer(&picture, &prepared, &first, &first).unwrap();
        let mask = refiner.finish(&raw, &picture).unwrap();
        assert_eq!((mask.width, mask.height), (width, height));
    }
}
