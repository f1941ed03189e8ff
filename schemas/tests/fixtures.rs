//! Every event that was ever published still parses: one fixture per type and version, never edited, only added. Where a version
//! gained fields, what came with them stands behind a `+` in the name of another.
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use atelier_schemas::{Envelope, Event, asyncapi};
use serde_json::Value;
use uuid::Uuid;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    fs::read_dir(folder())
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let event_type = name.split('+').next().unwrap();
            (event_type.to_owned(), fs::read(&path).unwrap())
        })
        .collect()
}

/// Whether everything that `wanted` says, `found` says too.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, value)| found.get(name).is_some_and(|found| contains(found, value))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| contains(found, wanted))
        }
        // f32 fields widen: 0.93 comes back as 0.9300000071525574.
        (Value::Number(found), Value::Number(wanted)) => {
            (found.as_f64().unwrap() - wanted.as_f64().unwrap()).abs() < 1e-5
        }
        _ => found == wanted,
    }
}

#[test]
fn every_fixture_parses_and_keeps_every_field() {
    for (event_type, value) in fixtures() {
        let envelope = Envelope::root("/test", &event_type, Uuid::nil(), Uuid::nil());
        let event = Event::decode(&envelope, &value)
            .unwrap_or_else(|error| panic!("{event_type}: {error}"));
        let again: Value = serde_json::from_slice(&event.to_json().unwrap()).unwrap();
        let before: Value = serde_json::from_slice(&value).unwrap();
        assert!(
            contains(&again, &before),
            "{event_type} lost a field: {before}\nbecame {again}"
        );
    }
}

#[test]
fn every_event_type_has_a_fixture_that_its_schema_accepts() {
    let fixtures = fixtures();
    for (event_type, schema) in asyncapi::json_schemas() {
        let of_type = fixtures.iter().filter(|(name, _)| name == event_type);
        let values: Vec<&Vec<u8>> = of_type.map(|(_, value)| value).collect();
        assert!(
            !values.is_empty(),
            "schemas/fixtures/{event_type}.json is missing"
        );
        let validator = jsonschema::validator_for(&schema).unwrap();
        for value in values {
            let instance: Value = serde_json::from_slice(value).unwrap();
            let errors: Vec<String> = validator
                .iter_errors(&instance)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{event_type}: {}", errors.join("\n"));
        }
        assert!(
            !validator.is_valid(&Value::Array(vec![])),
            "{event_type}: the schema accepts anything"
        );
    }
}

#[test]
fn unknown_fields_of_a_newer_producer_are_tolerated_on_internal_events() {
    for (event_type, value) in fixtures()
        .into_iter()
        .filter(|(name, _)| name != "atelier.task.submitted.v1")
    {
        let mut document: Value = serde_json::from_slice(&value).unwrap();
        document["fieldOfANewerVersion"] = Value::Bool(true);
        let envelope = Envelope::root("/test", &event_type, Uuid::nil(), Uuid::nil());
        let decoded = Event::decode(&envelope, document.to_string().as_bytes());
        assert!(decoded.is_ok(), "{event_type}: {decoded:?}");
    }
}
