//! The configuration reference: a Markdown page made from the option types, so that it cannot name what does not exist.

pub mod dashboard;
pub mod metrics;

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::config::Config;

/// The page.
///
/// # Errors
/// Where the defaults do not serialise.
pub fn page() -> anyhow::Result<String> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings
        .into_generator()
        .into_root_schema_for::<Config>()
        .to_value();
    let defaults = serde_json::to_value(Config::default())?;
    let mut page = String::from(
        "# Configuration\n\n\
         One TOML file, given by `--config FILE` or `ATELIER_CONFIG`. Every key may be left out. A key that is not known is an error.\n\
         This page is made from the option types by `make generate`.\n\n\
         `[stages.<name>.runtime]` takes the keys of `[runtime]` and overrides them for one stage. Where `runtime.max_in_flight` is 1,\n\
         `ingest` runs 8 and `preprocess` and `compose` run 2 at once.\n",
    );
    section(&mut page, "", &schema, &defaults)?;
    Ok(page)
}

fn section(page: &mut String, path: &str, schema: &Value, defaults: &Value) -> anyhow::Result<()> {
    let Some(properties) = schema["properties"].as_object() else {
        return Ok(());
    };
    let is_section = |property: &Value| property["properties"].is_object();
    let rows: Vec<_> = properties
        .iter()
        .filter(|(_, property)| !is_section(property))
        .collect();
    if !rows.is_empty() {
        let title = if path.is_empty() {
            "Top level".to_owned()
        } else {
            format!("`[{path}]`")
        };
        writeln!(page, "\n## {title}\n")?;
        if let Some(text) = schema["description"].as_str() {
            writeln!(page, "{}\n", one_line(text))?;
        }
        writeln!(
            page,
            "| key | type | default | meaning |\n|---|---|---|---|"
        )?;
        for (key, property) in rows {
            let meaning = one_line(property["description"].as_str().unwrap_or_default());
            writeln!(
                page,
                "| `{key}` | {} | {} | {meaning} |",
                type_of(property),
                default_of(&defaults[key])
            )?;
        }
    }
    for (key, property) in properties
        .iter()
        .filter(|(_, property)| is_section(property))
    {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        section(page, &path, property, &defaults[key])?;
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

fn type_of(schema: &Value) -> String {
    let choices = |list: &Value| -> Vec<String> {
        list.as_array()
            .into_iter()
            .flatten()
            .filter_map(|choice| choice["const"].as_str())
            .map(|name| format!("`{name}`"))
            .collect()
    };
    let named = choices(&schema["oneOf"]);
    if !named.is_empty() {
        return named.join(", ");
    }
    if let Some(list) = schema["enum"].as_array() {
        return list
            .iter()
            .filter_map(Value::as_str)
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", type_of(&schema["items"])),
        Value::String(name) => name.clone(),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        _ => schema["anyOf"]
            .as_array()
            .and_then(|list| list.first())
            .map_or_else(|| "any".to_owned(), type_of),
    }
}

fn default_of(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Object(map) if map.is_empty() => "none".to_owned(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        other => format!("`{other}`"),
    }
}
