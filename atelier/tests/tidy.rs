//! The house keeps its shape: crate arrows, the topic table against the code and the README, metric names against the
//! closed list, generated files against what they are made from.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use atelier::reference;
use atelier_runtime::telemetry::METRICS;
use atelier_schemas::TopicTable;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// Which crates of this workspace each crate uses outside its tests.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    packages
        .iter()
        .map(|package| {
            let uses = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap())
                .filter(|name| names.contains(name))
                .map(str::to_owned)
                .collect();
            (package["name"].as_str().unwrap().to_owned(), uses)
        })
        .collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let of_stages = [
        "atelier-schemas",
        "atelier-runtime",
        "atelier-stores",
        "atelier-models",
    ];
    for (name, uses) in arrows() {
        let allowed: &[&str] = match name.as_str() {
            "atelier" => continue,
            "atelier-schemas" | "atelier-models" | "atelier-broker" | "atelier-servers" => &[],
            // The checker in it must share no code with what it checks.
            "atelier-chaos" => &["atelier-servers"],
            "atelier-stores" | "atelier-runtime" => &["atelier-schemas"],
            "atelier-gateway" => &["atelier-schemas", "atelier-stores", "atelier-runtime"],
            _ => &of_stages,
        };
        let wrong: Vec<&String> = uses
            .iter()
            .filter(|used| !allowed.contains(&used.as_str()))
            .collect();
        assert!(
            wrong.is_empty(),
            "{name} must not depend on {wrong:?}; README draws the arrows"
        );
    }
}

#[test]
fn every_stage_of_the_table_is_a_crate_with_the_same_rooms() {
    for stage in TopicTable::embedded().stages() {
        for room in [
            "src/lib.rs",
            "src/options.rs",
            "src/stage.rs",
            "src/error.rs",
            "tests",
        ] {
            let path = root().join("stages").join(stage).join(room);
            assert!(path.exists(), "{} is missing", path.display());
        }
    }
}

#[test]
fn readme_has_a_row_for_every_stage_and_names_every_topic() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for stage in TopicTable::embedded().stages() {
        assert!(
            readme.contains(&format!("| `{stage}` |")),
            "README has no row for `{stage}`"
        );
    }
    for topic in TopicTable::embedded().topics() {
        let of_runtime = topic.name.ends_with("-retry") || topic.name.ends_with("-dead-letters");
        assert!(
            of_runtime || readme.contains(&topic.name),
            "README does not name `{}`",
            topic.name
        );
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir()
            && !name.starts_with('.')
            && !["target", "node_modules", "dist"].contains(&name.as_str())
        {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// A metric is named in the closed list, and everything else goes by its constant.
#[test]
fn metrics_are_named_in_the_closed_list_alone() {
    let list = "stages/runtime/src/telemetry/table.rs";
    let prefixes: BTreeSet<&str> = METRICS
        .iter()
        .filter_map(|metric| {
            let group = metric.name.strip_prefix("atelier_")?.find('_')?;
            Some(&metric.name[..="atelier_".len() + group])
        })
        .collect();
    assert!(prefixes.contains("atelier_stage_"), "{prefixes:?}");
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let of_code = files.iter().filter(|file| {
        let is_test = file.components().any(|part| part.as_os_str() == "tests");
        !is_test && !file.ends_with(list)
    });
    for file in of_code {
        let text = fs::read_to_string(file).unwrap();
        for call in ["counter!(\"", "gauge!(\"", "histogram!(\""] {
            assert!(
                !text.contains(call),
                "{}: a metric is named by its constant",
                file.display()
            );
        }
        for literal in text.split('"').skip(1).step_by(2) {
            let is_name = literal
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let is_metric = is_name
                && prefixes.iter().any(|prefix| {
                    literal
                        .strip_prefix(prefix)
                        .is_some_and(|rest| !rest.is_empty())
                });
            assert!(
                !is_metric,
                "{}: `{literal}` belongs into {list}",
                file.display()
            );
        }
    }
}

/// Compares a generated file with what it should be; UPDATE_GENERATED writes it.
fn assert_current(path: &str, wanted: &str) {
    let place = root().join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, wanted).unwrap();
    }
    let found = fs::read_to_string(&place).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is not what it is made from: run `make generate` and commit the result"
    );
}

#[test]
fn the_dashboard_is_current() {
    assert_current(
        "infra/grafana/atelier.json",
        &reference::dashboard::dashboard().unwrap(),
    );
}

#[test]
fn the_reference_of_metrics_is_current() {
    assert_current("docs/metrics.md", &reference::metrics::page().unwrap());
}

#[test]
fn the_configuration_reference_is_current() {
    let output = Command::new(env!("CARGO_BIN_EXE_atelier"))
        .arg("config-reference")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_current("docs/config.md", &String::from_utf8(output.stdout).unwrap());
}
