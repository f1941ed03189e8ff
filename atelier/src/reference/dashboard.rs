//! infra/grafana/atelier.json: a dashboard made from the closed list, a panel for each metric, so that it cannot name what does
//! not exist.

use atelier_runtime::telemetry::{METRICS, Metric, MetricKind};
use metrics::Unit;
use serde_json::{Value, json};

const COLUMNS: usize = 3;
const PANEL_WIDTH: usize = 8;
const PANEL_HEIGHT: usize = 7;

/// The rows: how the names of their metrics begin, and what they are called.
const ROWS: [(&[&str], &str); 6] = [
    (&["atelier_stage_"], "Stages"),
    (&["atelier_model_", "atelier_cache_"], "Networks"),
    (&["atelier_http_"], "Gateway"),
    (&["atelier_outbox_", "atelier_ledger_"], "Outbox and ledger"),
    (&["atelier_trace_"], "Traces"),
    (
        &["atelier_disk_", "atelier_memory_", "process_"],
        "Processes",
    ),
];

/// The dashboard as Grafana imports it.
///
/// # Errors
/// A metric that belongs to no row, by its name.
pub fn dashboard() -> Result<String, String> {
    let row_of = |metric: &Metric| {
        ROWS.iter().position(|(prefixes, _)| {
            prefixes
                .iter()
                .any(|prefix| metric.name.starts_with(prefix))
        })
    };
    if let Some(lost) = METRICS.iter().find(|metric| row_of(metric).is_none()) {
        return Err(format!(
            "`{}` belongs to no row of the dashboard: add its prefix to ROWS in atelier/src/reference/dashboard.rs",
            lost.name
        ));
    }
    let (mut panels, mut top) = (Vec::new(), 0);
    for (index, (_, title)) in ROWS.iter().enumerate() {
        panels.push(json!({
            "id": panels.len() + 1, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": top, "w": COLUMNS * PANEL_WIDTH, "h": 1 },
        }));
        top += 1;
        let of_row: Vec<&Metric> = METRICS
            .iter()
            .filter(|metric| row_of(metric) == Some(index))
            .collect();
        for (place, metric) in of_row.iter().enumerate() {
            let (column, line) = (place % COLUMNS, place / COLUMNS);
            panels.push(panel(
                metric,
                panels.len() + 1,
                column * PANEL_WIDTH,
                top + line * PANEL_HEIGHT,
            ));
        }
        top += of_row.len().div_ceil(COLUMNS) * PANEL_HEIGHT;
    }
    let dashboard = json!({
        "uid": "atelier",
        "title": "Atelier",
        "tags": ["atelier"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" },
            {
                "name": "instance", "label": "Process", "type": "query", "datasource": datasource(),
                "query": "label_values(up{job=\"atelier\"}, instance)",
                "includeAll": true, "multi": true, "refresh": 2,
                "current": { "text": "All", "value": "$__all" }
            },
        ] },
        "panels": panels,
    });
    Ok(format!("{dashboard:#}\n"))
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn panel(metric: &Metric, id: usize, x: usize, y: usize) -> Value {
    let targets: Vec<Value> = queries(metric)
        .into_iter()
        .zip('A'..)
        .map(|((expression, legend), name)| {
            json!({
                "refId": name.to_string(), "expr": expression, "legendFormat": legend, "datasource": datasource(),
            })
        })
        .collect();
    json!({
        "id": id,
        "type": "timeseries",
        "title": metric.name,
        "description": metric.help(),
        "datasource": datasource(),
        "gridPos": { "x": x, "y": y, "w": PANEL_WIDTH, "h": PANEL_HEIGHT },
        "fieldConfig": { "defaults": { "unit": unit(metric), "min": 0 }, "overrides": [] },
        "targets": targets,
    })
}

/// Expressions with their legends.
fn queries(metric: &Metric) -> Vec<(String, String)> {
    let name = metric.name;
    let mut labels: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
    if labels.is_empty() {
        labels.push("instance");
    }
    let by = labels.join(", ");
    let legend = labels
        .iter()
        .map(|label| format!("{{{{{label}}}}}"))
        .collect::<Vec<_>>()
        .join(" ");
    let of_processes = "{instance=~\"$instance\"}";
    match metric.kind {
        MetricKind::Counter => vec![(
            format!("sum by ({by}) (rate({name}{of_processes}[$__rate_interval]))"),
            legend,
        )],
        MetricKind::Gauge => vec![(format!("sum by ({by}) ({name}{of_processes})"), legend)],
        MetricKind::Histogram => [("0.5", "p50"), ("0.99", "p99")]
            .map(|(quantile, short)| {
                (
                    format!(
                        "histogram_quantile({quantile}, sum by (le, {by}) (rate({name}_bucket{of_processes}[$__rate_interval])))"
                    ),
                    format!("{legend} {short}"),
                )
            })
            .to_vec(),
    }
}

/// Grafana's name of the unit; a counter is shown by its growth per second.
fn unit(metric: &Metric) -> &'static str {
    match (metric.kind, metric.unit) {
        (MetricKind::Counter, Unit::Bytes) => "Bps",
        // Seconds of work in a second.
        (MetricKind::Counter, Unit::Seconds) => "percentunit",
        (MetricKind::Counter, _) => "ops",
        (_, Unit::Bytes) => "bytes",
        (_, Unit::Seconds) => "s",
        _ => "short",
    }
}
