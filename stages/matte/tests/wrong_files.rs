//! Files that are not the networks that they are called: refused at start. `atelier models pull` first.
#![allow(clippy::unwrap_used)]

mod support;

use atelier_matte::Matte;
use atelier_models::ModelStore;

use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_refused_at_start_also_of_a_model_that_no_picture_has_asked_for() {
    let pulled = ModelStore::open(None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    let file = |store: &ModelStore, name: &str| store.path(store.catalogue().find(name).unwrap());
    std::fs::copy(file(&pulled, "u2netp"), file(&store, "u2netp")).unwrap();
    let start = async || {
        let runtime = runtime(&pulled);
        Matte::start(options(), store.clone(), runtime, rasters(), cache()).await
    };
    assert!(start().await.is_ok(), "what is not there is not asked for");
    // Another network, one that takes something else beside, a page that says that there is nothing, and half of the right one.
    let half = std::fs::read(file(&pulled, "refiner")).unwrap();
    let half = half[..half.len() / 2].to_vec();
    let yunet = std::fs::read(file(&pulled, "yunet")).unwrap();
    for (name, content, expected, found) in [
        (
            "birefnet-general",
            yunet.clone(),
            "Float32[-1, 3, 1024, 1024]",
            "`input` Float32[1, 3, 640, 640]",
        ),
        (
            "vitmatte-small",
            yunet,
            "input ",
            "`input` Float32[1, 3, 640, 640]",
        ),
        (
            "silueta",
            b"<html>Not found</html>".to_vec(),
            "an ONNX network",
            "something else (",
        ),
        (
            "refiner",
            half,
            "an ONNX network",
            "something else (it ends too early)",
        ),
    ] {
        std::fs::write(file(&store, name), content).unwrap();
        let message = start().await.err().unwrap().to_string();
        assert!(message.contains(&format!("`{name}`")), "{message}");
        let (_, said) = message.split_once(": expected ").unwrap();
        let (said_expected, said_found) = said.split_once(", found ").unwrap();
        assert!(said_expected.contains(expected), "{message}");
        assert!(said_found.contains(found), "{message}");
        std::fs::remove_file(file(&store, name)).unwrap();
    }
}
