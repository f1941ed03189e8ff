//! Metrics from one closed list, and logs.
//!
//! Invariant: no label takes a value that a user can choose. `stage` comes from the stages' code, `outcome`, `reason` and
//! `code` from closed lists.

use std::{io::IsTerminal as _, time::Duration};

use atelier_schemas::ErrorCode;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One row of the closed list.
#[derive(Clone, Copy, Debug)]
pub struct MetricDescription {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: MetricKind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricDescription {
    MetricDescription {
        name,
        kind,
        unit,
        labels,
        help,
    }
}

const QUEUE_SECONDS: &str = "atelier_stage_queue_seconds";
const HANDLE_SECONDS: &str = "atelier_stage_handle_seconds";
const BATCH_SIZE: &str = "atelier_stage_batch_size";
const MESSAGES_TOTAL: &str = "atelier_stage_messages_total";
const LAG: &str = "atelier_stage_lag";
const TRANSACTIONS_TOTAL: &str = "atelier_stage_transactions_total";
const TRANSACTION_SECONDS: &str = "atelier_stage_transaction_seconds";
const RETRIES_TOTAL: &str = "atelier_stage_retries_total";
const DEAD_LETTERS_TOTAL: &str = "atelier_stage_dead_letters_total";
const REBALANCES_TOTAL: &str = "atelier_stage_rebalances_total";
const IN_FLIGHT: &str = "atelier_stage_in_flight";
const READY: &str = "atelier_stage_ready";
const OUTBOX_PUBLISHED_TOTAL: &str = "atelier_outbox_published_total";

/// Every metric of the runtime. A test compares it with what a run really emits.
pub const METRICS: &[MetricDescription] = &[
    row(
        QUEUE_SECONDS,
        MetricKind::Histogram,
        Unit::Seconds,
        &["stage"],
        "From an event's time to the start of the work on it.",
    ),
    row(
        HANDLE_SECONDS,
        MetricKind::Histogram,
        Unit::Seconds,
        &["stage"],
        "One call of the stage with one batch.",
    ),
    row(
        BATCH_SIZE,
        MetricKind::Histogram,
        Unit::Count,
        &["stage"],
        "Messages in one batch.",
    ),
    row(
        MESSAGES_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &["stage", "outcome"],
        "Messages by outcome: emitted, skipped, retried, dead_lettered, cancelled.",
    ),
    row(
        LAG,
        MetricKind::Gauge,
        Unit::Count,
        &["stage"],
        "Messages that wait in the partitions this instance reads.",
    ),
    row(
        TRANSACTIONS_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &["stage", "result"],
        "Transactions by result: committed, aborted, fatal.",
    ),
    row(
        TRANSACTION_SECONDS,
        MetricKind::Histogram,
        Unit::Seconds,
        &["stage"],
        "Begin to commit of one transaction.",
    ),
    row(
        RETRIES_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &["stage", "reason"],
        "Waits for another try: in_place, topic, unavailable.",
    ),
    row(
        DEAD_LETTERS_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &["stage", "code"],
        "Records written to the stage's dead letters, by error code.",
    ),
    row(
        REBALANCES_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &["stage", "change"],
        "Changes of assignment: assigned, revoked, lost.",
    ),
    row(
        IN_FLIGHT,
        MetricKind::Gauge,
        Unit::Count,
        &["stage"],
        "Messages that are taken and not committed yet.",
    ),
    row(
        READY,
        MetricKind::Gauge,
        Unit::Count,
        &["stage"],
        "1 where the stage can work, 0 where it waits for a dependency.",
    ),
    row(
        OUTBOX_PUBLISHED_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &[],
        "Outbox rows that were published.",
    ),
];

/// Upper bounds of the buckets of everything in seconds: 1 ms to 2 minutes.
const SECONDS_BUCKETS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    120.0,
];
const SIZE_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Gives every metric of the list its help text and unit.
pub fn describe_metrics() {
    for MetricDescription {
        name,
        kind,
        unit,
        help,
        ..
    } in METRICS
    {
        match kind {
            MetricKind::Counter => describe_counter!(*name, *unit, *help),
            MetricKind::Gauge => describe_gauge!(*name, *unit, *help),
            MetricKind::Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
}

/// The process's metrics in Prometheus' text format.
#[derive(Clone)]
pub struct Exposition {
    handle: PrometheusHandle,
}

impl Exposition {
    /// Installs the recorder of the process.
    ///
    /// # Errors
    /// Where the process has a recorder already.
    pub fn install() -> Result<Self, TelemetryError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(BATCH_SIZE.to_owned()), &SIZE_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        describe_metrics();
        Ok(Self { handle })
    }

    /// The text of `/metrics`. Also tidies up the histograms' buffers, so call it now and then.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }
}

/// Telemetry that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A second recorder, or buckets that are refused.
    #[error("metrics could not be set up: {0}")]
    Metrics(String),
    /// A filter that does not parse.
    #[error("log filter `{filter}` is not valid: {reason}; write for example `info,atelier=debug`")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A second subscriber.
    #[error("logging could not be set up: {0}")]
    Logging(String),
}

/// How log lines look.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with the span's `trace_id` and `task_id`.
    Json,
}

/// Installs the process's log. `filter` is that of `tracing-subscriber`, for example `info,atelier_matte=debug`.
///
/// # Errors
/// Where the filter does not parse or a log is installed already.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let outcome = match format {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false);
            registry.with(layer.with_writer(std::io::stderr)).try_init()
        }
    };
    outcome.map_err(|error| TelemetryError::Logging(error.to_string()))
}

pub(crate) fn batch_handled(stage: &'static str, messages: usize, duration: Duration) {
    histogram!(HANDLE_SECONDS, "stage" => stage).record(duration.as_secs_f64());
    #[allow(clippy::cast_precision_loss)]
    histogram!(BATCH_SIZE, "stage" => stage).record(messages as f64);
}

pub(crate) fn queued(stage: &'static str, queue_ms: f64) {
    histogram!(QUEUE_SECONDS, "stage" => stage).record(queue_ms / 1_000.0);
}

pub(crate) fn message(stage: &'static str, outcome: &'static str) {
    counter!(MESSAGES_TOTAL, "stage" => stage, "outcome" => outcome).increment(1);
}

pub(crate) fn dead_letter(stage: &'static str, code: ErrorCode) {
    counter!(DEAD_LETTERS_TOTAL, "stage" => stage, "code" => code.as_str()).increment(1);
}

pub(crate) fn retry(stage: &'static str, reason: &'static str, count: usize) {
    counter!(RETRIES_TOTAL, "stage" => stage, "reason" => reason).increment(count as u64);
}

pub(crate) fn ready(stage: &'static str, ready: bool) {
    gauge!(READY, "stage" => stage).set(f64::from(u8::from(ready)));
}

pub(crate) fn lag(stage: &'static str, unread: i64, in_flight: usize) {
    #[allow(clippy::cast_precision_loss)]
    gauge!(LAG, "stage" => stage).set(unread as f64 + in_flight as f64);
}

pub(crate) fn in_flight(stage: &'static str, messages: usize) {
    #[allow(clippy::cast_precision_loss)]
    gauge!(IN_FLIGHT, "stage" => stage).set(messages as f64);
}

pub(crate) fn transaction(stage: &'static str, result: &'static str, duration: Duration) {
    counter!(TRANSACTIONS_TOTAL, "stage" => stage, "result" => result).increment(1);
    histogram!(TRANSACTION_SECONDS, "stage" => stage).record(duration.as_secs_f64());
}

pub(crate) fn rebalance(stage: &'static str, change: &'static str) {
    counter!(REBALANCES_TOTAL, "stage" => stage, "change" => change).increment(1);
}

pub(crate) fn outbox_published(rows: usize) {
    counter!(OUTBOX_PUBLISHED_TOTAL).increment(rows as u64);
}
