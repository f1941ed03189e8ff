//! A graphics card that was asked for and cannot be had is an error at start that says what is missing.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use atelier_models::{LoadError, ModelStore, Provider, ProviderChoice, Runtime, State};

fn no_card(store: &ModelStore, choice: ProviderChoice) -> (Provider, String) {
    let error = Runtime::load(store, choice).unwrap_err();
    let message = error.to_string();
    match error {
        LoadError::NoCard { provider, .. } => (provider, message),
        _ => panic!("{message}"),
    }
}

#[test]
fn without_its_library_a_card_is_an_error_that_names_the_command_and_never_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    for (choice, provider, name) in [
        (ProviderChoice::Cuda, Provider::Cuda, "cuda"),
        (ProviderChoice::Tensorrt, Provider::TensorRt, "tensorrt"),
    ] {
        let (found, message) = no_card(&store, choice);
        assert_eq!(found, provider);
        let start = format!("models.provider = \"{name}\" cannot be had here: ");
        assert!(message.starts_with(&start), "{message}");
        assert!(
            message.contains("run `atelier models pull onnxruntime-gpu`"),
            "{message}"
        );
        assert!(!message.contains('\n'), "{message}");
        assert!(choice.is_a_card(&store));
    }
    assert!(!ProviderChoice::Auto.is_a_card(&store));
}

#[test]
fn the_library_is_not_among_what_a_fresh_machine_needs() {
    let store = ModelStore::open(Some("/nowhere".into())).unwrap();
    assert!(!store.automatic().contains(&"onnxruntime-gpu"));
}

#[test]
fn without_a_driver_a_card_is_an_error_that_says_so() {
    let store = ModelStore::open(None).unwrap();
    let library = store.catalogue().find("onnxruntime-gpu").unwrap();
    if !matches!(store.state(library), State::Present { .. }) {
        eprintln!("skipped: `onnxruntime-gpu` is not pulled");
        return;
    }
    if Path::new("/dev/nvidiactl").exists() {
        eprintln!("skipped: this machine has a card");
        return;
    }
    assert!(!ProviderChoice::Auto.is_a_card(&store));
    for choice in [ProviderChoice::Cuda, ProviderChoice::Tensorrt] {
        let (_, message) = no_card(&store, choice);
        eprintln!("{message}");
        assert!(
            message.contains("there is no NVIDIA driver (libcuda.so.1): install it"),
            "{message}"
        );
    }
}
