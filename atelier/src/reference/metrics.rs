//! docs/metrics.md: a Markdown page made from the closed list.

use std::fmt::Write as _;

use atelier_runtime::telemetry::{METRICS, Metric, MetricKind};

/// The page.
///
/// # Errors
/// Never; writing to a text cannot fail.
pub fn page() -> Result<String, std::fmt::Error> {
    let mut page = String::from(
        "# Metrics\n\n\
         Every metric at `/metrics`, in Prometheus' text format: of the gateway, of `atelier up` for everything in it, and of a stage's\n\
         own process with `atelier stage NAME --listen ADDRESS`. No label takes a value that a user can choose.\n\
         This page is made from `stages/runtime/src/telemetry/table.rs` by `make generate`.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            labels_of(metric),
            metric.help()
        )?;
    }
    page.push_str(
        "\nA histogram has `_bucket` (by `le`), `_sum` and `_count`. The lag of a stage is the sum over its processes.\n",
    );
    Ok(page)
}

fn labels_of(metric: &Metric) -> String {
    if metric.labels.is_empty() {
        return "–".to_owned();
    }
    let labels = metric
        .labels
        .iter()
        .map(|label| format!("`{}`: {}", label.name, label.values));
    labels.collect::<Vec<_>>().join("; ")
}

/// The names under which Prometheus has the values of a metric.
pub fn series_of(metric: &Metric) -> Vec<String> {
    match metric.kind {
        MetricKind::Histogram => ["_bucket", "_sum", "_count"]
            .map(|suffix| format!("{}{suffix}", metric.name))
            .to_vec(),
        MetricKind::Counter | MetricKind::Gauge => vec![metric.name.to_owned()],
    }
}
