//! The OpenAPI 3.1 document, made of the route table and the types. `gateway/openapi.json` holds what it gave last, and a
//! test fails when that differs.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use atelier_schemas::answer::ErrorAnswer;

use crate::routes::ENDPOINTS;

/// What the document says about one route.
pub struct Operation {
    generator: SchemaGenerator,
    fields: Map<String, Value>,
    parameters: Vec<Value>,
    request_contents: Map<String, Value>,
    responses: Map<String, Value>,
}

/// The document.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    // Named by upload forms, which refer to it by hand.
    generator.subschema_for::<atelier_schemas::TaskOptions>();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in ENDPOINTS {
        let (operation, used) = (endpoint.document)(Operation::new(generator)).finish();
        generator = used;
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Atelier",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Photographs in, cut-outs out. A task is accepted here, goes to the topic `image-tasks`, and is followed \
                by server-sent events whose ids are offsets on `task-events`. Systems that speak Kafka need none of this: see \
                the AsyncAPI document.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This gateway; it listens on loopback only." }],
        "tags": [
            { "name": "tasks", "description": "Submitting photographs and looking at what became of them." },
            { "name": "events", "description": "Live progress." },
            { "name": "images", "description": "The pictures." },
            { "name": "pipeline", "description": "The stages, measured." },
            { "name": "dead letters", "description": "What the stages gave up." },
            { "name": "remove.bg", "description": "The dialect of remove.bg, so that its clients work with only the address changed." },
            { "name": "documents", "description": "This document." },
            { "name": "health", "description": "For operators." },
        ],
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

impl Operation {
    fn new(generator: SchemaGenerator) -> Self {
        Self {
            generator,
            fields: Map::new(),
            parameters: Vec::new(),
            request_contents: Map::new(),
            responses: Map::new(),
        }
    }

    /// Its id, tag and one-line summary.
    #[must_use]
    pub fn named(mut self, id: &str, tag: &str, summary: &str) -> Self {
        self.fields.insert("operationId".into(), id.into());
        self.fields.insert("tags".into(), json!([tag]));
        self.fields.insert("summary".into(), summary.into());
        self
    }

    /// More about it.
    #[must_use]
    pub fn describe(mut self, text: &str) -> Self {
        self.fields.insert("description".into(), text.into());
        self
    }

    /// A part of the path.
    #[must_use]
    pub fn path_parameter(self, name: &str, description: &str) -> Self {
        self.parameter("path", name, description, true)
    }

    /// A parameter of the query.
    #[must_use]
    pub fn query(self, name: &str, description: &str, required: bool) -> Self {
        self.parameter("query", name, description, required)
    }

    /// A header of the request.
    #[must_use]
    pub fn header(self, name: &str, description: &str) -> Self {
        self.parameter("header", name, description, false)
    }

    fn parameter(mut self, place: &str, name: &str, description: &str, required: bool) -> Self {
        self.parameters.push(json!({
            "name": name,
            "in": place,
            "required": required,
            "description": description,
            "schema": { "type": "string" },
        }));
        self
    }

    /// A body of type `T`.
    #[must_use]
    pub fn body<T: JsonSchema>(mut self, media_type: &str) -> Self {
        let schema = self.generator.subschema_for::<T>();
        self.request_contents
            .insert(media_type.into(), json!({ "schema": schema }));
        self
    }

    /// A body of a schema written by hand.
    #[must_use]
    pub fn raw_body(mut self, media_type: &str, schema: Value) -> Self {
        self.request_contents
            .insert(media_type.into(), json!({ "schema": schema }));
        self
    }

    /// A JSON answer of type `T`.
    #[must_use]
    pub fn answer<T: JsonSchema>(mut self, status: u16, description: &str) -> Self {
        let schema = self.generator.subschema_for::<T>();
        self.raw_answer(status, description, "application/json", schema.into())
    }

    /// An answer of a schema written by hand; a second one under the same status is another representation.
    #[must_use]
    pub fn raw_answer(
        mut self,
        status: u16,
        description: &str,
        media_type: &str,
        schema: Value,
    ) -> Self {
        let answer = self
            .responses
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": description, "content": {} }));
        answer["content"][media_type] = json!({ "schema": schema });
        self
    }

    /// An answer without a body.
    #[must_use]
    pub fn plain_answer(mut self, status: u16, description: &str) -> Self {
        self.responses
            .insert(status.to_string(), json!({ "description": description }));
        self
    }

    /// Errors in the form of [`ErrorAnswer`].
    #[must_use]
    pub fn errors(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            self = self.answer::<ErrorAnswer>(*status, error_meaning(*status));
        }
        self
    }

    fn finish(self) -> (Value, SchemaGenerator) {
        let mut fields = self.fields;
        if !self.parameters.is_empty() {
            fields.insert("parameters".into(), self.parameters.into());
        }
        if !self.request_contents.is_empty() {
            fields.insert(
                "requestBody".into(),
                json!({ "required": true, "content": self.request_contents }),
            );
        }
        fields.insert("responses".into(), self.responses.into());
        (fields.into(), self.generator)
    }
}

fn error_meaning(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read.",
        403 => "The Host or the Origin is not this gateway's.",
        404 => "Nothing of that name.",
        408 => "The client fell silent in the middle of its body.",
        409 => {
            "It contradicts what is there: another request has this key or id, the task has ended, or the image has no original \
                to repeat."
        }
        410 => "It was there once, and is no longer kept.",
        413 => "A file, or the whole request, is too large.",
        415 => "The content type is not read here.",
        422 => "The request does not match its schema; `error.details.pointer` names the value.",
        503 => "A dependency is down; /health/ready says which.",
        507 => "The disk is full; nothing that was accepted is lost.",
        _ => "An error.",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_documented_and_every_reference_leads_somewhere() {
        let document = document();
        let mut ids = BTreeSet::new();
        for endpoint in ENDPOINTS {
            let operation = &document["paths"][endpoint.path][endpoint.method];
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(
                !id.is_empty() && ids.insert(id.to_owned()),
                "{} {}: operationId `{id}`",
                endpoint.method,
                endpoint.path
            );
            assert!(
                operation["responses"]
                    .as_object()
                    .is_some_and(|responses| !responses.is_empty()),
                "{id} has no answer"
            );
            for name in endpoint
                .path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            {
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(
                    parameters
                        .iter()
                        .any(|parameter| parameter["in"] == "path" && parameter["name"] == name),
                    "{id}: {name}"
                );
            }
        }
        let mut references = Vec::new();
        collect_references(&document, &mut references);
        for reference in references {
            let pointer = reference.trim_start_matches('#');
            assert!(
                document.pointer(pointer).is_some(),
                "{reference} leads nowhere"
            );
        }
    }

    fn collect_references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(
                    fields
                        .get("$ref")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                fields
                    .values()
                    .for_each(|field| collect_references(field, found));
            }
            Value::Array(items) => items
                .iter()
                .for_each(|item| collect_references(item, found)),
            _ => {}
        }
    }
}
