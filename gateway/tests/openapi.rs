//! The OpenAPI document that is checked in is the one that the routes give.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

#[test]
fn the_checked_in_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let text = format!(
        "{}\n",
        serde_json::to_string_pretty(&atelier_gateway::openapi::document()).unwrap()
    );
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "gateway/openapi.json differs from the routes: run `make generate` and commit the result"
    );
}
