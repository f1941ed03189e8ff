//! The OpenAPI document and a page to read it: made here, from the document, without a script and without another address.

use std::{fmt::Write as _, sync::LazyLock};

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;

use super::Endpoint;
use crate::openapi;

pub const OPENAPI: Endpoint = Endpoint {
    method: "get",
    path: "/api/openapi.json",
    handler: || get(document),
    document: |operation| {
        operation
            .named("getOpenApi", "documents", "This document")
            .raw_answer(
                200,
                "OpenAPI 3.1.",
                "application/json",
                serde_json::json!({ "type": "object" }),
            )
    },
};

pub const PAGE: Endpoint = Endpoint {
    method: "get",
    path: "/api/docs",
    handler: || get(page),
    document: |operation| {
        operation
            .named("readDocs", "documents", "This document, for people")
            .raw_answer(
                200,
                "A page.",
                "text/html",
                serde_json::json!({ "type": "string" }),
            )
    },
};

static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);
static PAGE_TEXT: LazyLock<String> = LazyLock::new(|| render(&DOCUMENT));

async fn document() -> Response {
    (
        [(header::CACHE_CONTROL, "no-cache")],
        axum::Json(&*DOCUMENT),
    )
        .into_response()
}

async fn page() -> Response {
    let mut response = (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        PAGE_TEXT.as_str(),
    )
        .into_response();
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    );
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --quiet: color-mix(in srgb, currentColor 65%, transparent); }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 6rem; }
h1 { font-size: 1.8rem; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); } h3 { margin: 2rem 0 .25rem; font-size: 1.05rem; }
code, pre { font: 0.9em ui-monospace, monospace; } h3 code { font-size: 1em; overflow-wrap: anywhere; }
.method { display: inline-block; min-width: 3.2rem; font-weight: 700; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; } th, td { text-align: start; vertical-align: top; padding: .3rem .75rem .3rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--quiet); } p.quiet { color: var(--quiet); }
details > summary { cursor: pointer; padding: .3rem 0; } nav ul { columns: 2; padding-left: 1.1rem; } @media (max-width: 40rem) { nav ul { columns: 1; } }
a { color: inherit; } :focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
";

/// Writing to a String cannot fail, so the results of `write!` are dropped throughout.
fn render(document: &Value) -> String {
    let mut page = String::new();
    let info = &document["info"];
    let title = escape(text(&info["title"]));
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} API</title><style>{STYLE}</style></head><body><h1>{title} API</h1><p>{}</p>\
         <p class=\"quiet\">Version {} · <a href=\"/api/openapi.json\">openapi.json</a> · <a href=\"/\">the page</a></p>",
        prose(text(&info["description"])),
        escape(text(&info["version"])),
    );
    let operations = operations(document);
    page.push_str("<nav aria-label=\"Operations\"><ul>");
    for (method, path, operation) in &operations {
        let id = escape(text(&operation["operationId"]));
        let _ = write!(
            page,
            "<li><a href=\"#{id}\">{}</a> <span class=\"quiet\"><code>{} {}</code></span></li>",
            escape(text(&operation["summary"])),
            method.to_uppercase(),
            escape(path)
        );
    }
    page.push_str("</ul></nav>");
    for tag in items(&document["tags"]) {
        let name = text(&tag["name"]);
        let _ = write!(
            page,
            "<h2>{}</h2><p>{}</p>",
            escape(name),
            prose(text(&tag["description"]))
        );
        for (method, path, operation) in operations
            .iter()
            .filter(|(_, _, operation)| operation["tags"][0] == name)
        {
            render_operation(&mut page, method, path, operation);
        }
    }
    page.push_str("<h2>Types</h2>");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        render_type(&mut page, name, schema);
    }
    page.push_str("</body></html>");
    page
}

fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    fields(&document["paths"])
        .flat_map(|(path, methods)| {
            fields(methods)
                .map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
        .collect()
}

fn render_operation(page: &mut String, method: &str, path: &str, operation: &Value) {
    let _ = write!(
        page,
        "<section id=\"{}\"><h3><span class=\"method\">{}</span> <code>{}</code></h3><p><strong>{}.</strong> {}</p>",
        escape(text(&operation["operationId"])),
        method.to_uppercase(),
        escape(path),
        escape(text(&operation["summary"])),
        prose(text(&operation["description"])),
    );
    let parameters = items(&operation["parameters"]);
    if !parameters.is_empty() {
        page.push_str("<table><thead><tr><th scope=\"col\">Parameter</th><th scope=\"col\">In</th><th scope=\"col\">Meaning</th></tr></thead><tbody>");
        for parameter in parameters {
            let needed = if parameter["required"] == true {
                ""
            } else {
                " (optional)"
            };
            let _ = write!(
                page,
                "<tr><td><code>{}</code></td><td>{}{needed}</td><td>{}</td></tr>",
                escape(text(&parameter["name"])),
                escape(text(&parameter["in"])),
                prose(text(&parameter["description"]))
            );
        }
        page.push_str("</tbody></table>");
    }
    for (media_type, content) in fields(&operation["requestBody"]["content"]) {
        let _ = write!(
            page,
            "<p>Body <code>{}</code>: {}</p>",
            escape(media_type),
            type_name(&content["schema"])
        );
    }
    page.push_str("<table><thead><tr><th scope=\"col\">Answer</th><th scope=\"col\">Body</th><th scope=\"col\">Meaning</th></tr></thead><tbody>");
    for (status, answer) in fields(&operation["responses"]) {
        let bodies: Vec<String> = fields(&answer["content"])
            .map(|(media_type, content)| {
                format!(
                    "<code>{}</code> {}",
                    escape(media_type),
                    type_name(&content["schema"])
                )
            })
            .collect();
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(status),
            bodies.join("<br>"),
            prose(text(&answer["description"]))
        );
    }
    page.push_str("</tbody></table></section>");
}

fn render_type(page: &mut String, name: &str, schema: &Value) {
    let name = escape(name);
    let _ = write!(
        page,
        "<section id=\"type-{name}\"><h3><code>{name}</code></h3><p>{}</p>",
        prose(text(&schema["description"]))
    );
    let required = items(&schema["required"]);
    if schema["properties"].is_object() {
        page.push_str("<table><thead><tr><th scope=\"col\">Field</th><th scope=\"col\">Type</th><th scope=\"col\">Meaning</th></tr></thead><tbody>");
        for (field, of_field) in fields(&schema["properties"]) {
            let optional = if required.iter().any(|name| *name == field.as_str()) {
                ""
            } else {
                " (optional)"
            };
            let _ = write!(
                page,
                "<tr><td><code>{}</code>{optional}</td><td>{}</td><td>{}</td></tr>",
                escape(field),
                type_name(of_field),
                prose(text(&of_field["description"]))
            );
        }
        page.push_str("</tbody></table>");
    } else {
        let _ = write!(page, "<p>{}</p>", type_name(schema));
    }
    page.push_str("</section>");
}

/// A schema in a few words, with links to named types.
fn type_name(schema: &Value) -> String {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.rsplit('/').next())
    {
        let name = escape(name);
        return format!("<a href=\"#type-{name}\"><code>{name}</code></a>");
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        let choices = items(&schema[choice]);
        if !choices.is_empty() {
            let named: Vec<String> = choices.iter().map(type_name).collect();
            return named.join(" or ");
        }
    }
    if !schema["const"].is_null() {
        return format!("<code>{}</code>", escape(&schema["const"].to_string()));
    }
    let values = items(&schema["enum"]);
    if !values.is_empty() {
        let named: Vec<String> = values
            .iter()
            .map(|value| format!("<code>{}</code>", escape(&value.to_string())))
            .collect();
        return named.join(", ");
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds
            .iter()
            .map(text)
            .filter(|kind| *kind != "null")
            .collect(),
        kind => vec![text(kind)],
    };
    match (kinds.join(" or ").as_str(), text(&schema["format"])) {
        ("array", _) => format!("list of {}", type_name(&schema["items"])),
        ("", _) => "any".to_owned(),
        (kind, "") => escape(kind),
        (kind, format) => format!("{} ({})", escape(kind), escape(format)),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Text with `code` between back-ticks.
fn prose(text: &str) -> String {
    escape(text)
        .split('`')
        .enumerate()
        .map(|(index, part)| {
            if index % 2 == 1 {
                format!("<code>{part}</code>")
            } else {
                part.to_owned()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_operation_and_type() {
        let document = openapi::document();
        let page = render(&document);
        for (_, _, operation) in operations(&document) {
            assert!(page.contains(&format!(
                "<section id=\"{}\">",
                text(&operation["operationId"])
            )));
        }
        for (name, _) in fields(&document["components"]["schemas"]) {
            assert!(page.contains(&format!("id=\"type-{name}\"")), "{name}");
        }
        assert!(
            !page.contains("http://") && !page.contains("src="),
            "the page must not load anything"
        );
    }

    #[test]
    fn prose_is_escaped() {
        assert_eq!(prose("a `<b>` & c"), "a <code>&lt;b&gt;</code> &amp; c");
    }
}
