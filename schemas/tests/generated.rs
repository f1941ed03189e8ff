//! The checked-in documents are what the types and the topic table give, and they are valid AsyncAPI.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use atelier_schemas::{TopicTable, asyncapi};
use serde_json::Value;

/// Compares `value` with the file, or writes the file where `UPDATE_GENERATED` is set (`make generate`).
fn check(file: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("generated")
        .join(file);
    let text = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{} differs from the types: run `make generate` and commit the result",
        path.display()
    );
}

#[test]
fn json_schemas_are_current() {
    for (event_type, schema) in asyncapi::json_schemas() {
        check(&format!("json-schema/{event_type}.json"), &schema);
    }
}

#[test]
fn asyncapi_is_current() {
    check("asyncapi.json", &asyncapi::asyncapi(TopicTable::embedded()));
}

#[test]
fn no_schema_is_left_of_a_type_that_is_gone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated/json-schema");
    for file in fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let event_type = name.trim_end_matches(".json");
        assert!(
            asyncapi::json_schemas().contains_key(event_type),
            "{name} belongs to no event type: remove it"
        );
    }
}

#[test]
fn asyncapi_is_valid_against_the_published_schema() {
    let published = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/conformance/asyncapi/schemas/3.0.0.json");
    let Ok(text) = fs::read_to_string(&published) else {
        println!("skipped: no data");
        return;
    };
    let schema: Value = serde_json::from_str(&text).unwrap();
    let document = asyncapi::asyncapi(TopicTable::embedded());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    let mut broken = document;
    broken["channels"]["image-tasks"]["messages"] = Value::Bool(true);
    assert!(
        !validator.is_valid(&broken),
        "the published schema must be able to refuse"
    );
}
