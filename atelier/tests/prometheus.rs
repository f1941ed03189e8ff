//! The alert rules: they hold, each says what to do, and none speaks of a metric that is not there.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use atelier::reference::metrics::series_of;
use atelier_runtime::telemetry::METRICS;
use atelier_servers::promtool;

fn infra() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../infra/prometheus")
}

fn read(name: &str) -> String {
    fs::read_to_string(infra().join(name)).unwrap()
}

/// What follows `key` on each line that begins with it.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(key))
        .map(str::trim)
        .collect()
}

#[test]
fn the_rules_fire_when_they_should_and_not_else() {
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules.test.yml"],
    ] {
        let Some(mut promtool) = promtool() else {
            return;
        };
        let output = promtool
            .args(arguments)
            .current_dir(infra())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn every_alert_is_tested_and_has_its_paragraph_and_every_paragraph_its_alert() {
    let rules = read("rules.yml");
    let alerts = values(&rules, "- alert:");
    assert!(alerts.len() > 10, "{alerts:?}");
    let anchors: Vec<String> = alerts
        .iter()
        .map(|alert| format!("docs/runbook.md#{}", alert.to_lowercase()))
        .collect();
    assert_eq!(values(&rules, "runbook_url:"), anchors);
    let tests = read("rules.test.yml");
    for alert in &alerts {
        let fires = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(tests.contains(&fires), "nothing tests that {alert} fires");
    }
    let runbook = fs::read_to_string(infra().join("../../docs/runbook.md")).unwrap();
    assert_eq!(values(&runbook, "## "), alerts);
}

#[test]
fn rules_name_metrics_of_the_closed_list_alone() {
    let known: BTreeSet<String> = METRICS.iter().flat_map(series_of).collect();
    for file in ["rules.yml", "rules.test.yml"] {
        let text = read(file);
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let named: BTreeSet<&str> = text
            .split(|c: char| !is_name(c))
            .filter(|word| word.starts_with("atelier_") || word.starts_with("process_"))
            .collect();
        assert!(named.len() > 10, "{file}: {named:?}");
        for name in named {
            assert!(known.contains(name), "{file}: there is no metric `{name}`");
        }
    }
}
