//! Metrics from one closed list, traces, and logs.
//!
//! Invariant: no label takes a value that a user can choose. `stage` comes from the stages' code, every other from the closed
//! lists that [`table`] names.

mod logging;
mod process;
pub mod table;
mod traces;

use std::{collections::BTreeSet, time::Duration};

use atelier_schemas::ErrorCode;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

pub use logging::{LogFormat, init_logging};
pub use process::Process;
pub use table::{METRICS, Metric, MetricKind};
pub use traces::{Step, StepKind, TelemetryOptions, Traces};

use table::{
    BATCH_SIZE, CACHE_ANSWERS_TOTAL, DEAD_LETTERS_TOTAL, FENCES_TOTAL, HANDLE_SECONDS, IN_FLIGHT,
    LAG, LEDGER_CONNECTIONS, LEDGER_CONNECTIONS_LIMIT, MESSAGES_TOTAL, MODEL_PROVIDER,
    MODEL_RUN_SECONDS, OUTBOX_PUBLISHED_TOTAL, PARTITIONS, QUEUE_SECONDS, READY, REBALANCES_TOTAL,
    RETRIES_TOTAL, SECONDS_BUCKETS, SIZE_BUCKETS, TRANSACTION_SECONDS, TRANSACTIONS_TOTAL,
};

/// The process's metrics in Prometheus' text format.
#[derive(Clone)]
pub struct Exposition {
    handle: PrometheusHandle,
}

impl Exposition {
    /// Installs the recorder of the process. What was counted before is lost, so this comes first.
    ///
    /// # Errors
    /// Where the process has a recorder already.
    pub fn install() -> Result<Self, TelemetryError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .and_then(|builder| {
                let size = Matcher::Full(BATCH_SIZE.name.to_owned());
                builder.set_buckets_for_metric(size, &SIZE_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        for metric in METRICS {
            let (name, unit, help) = (metric.name, metric.unit, metric.help());
            match metric.kind {
                MetricKind::Counter => describe_counter!(name, unit, help),
                MetricKind::Gauge => describe_gauge!(name, unit, help),
                MetricKind::Histogram => describe_histogram!(name, unit, help),
            }
        }
        Ok(Self { handle })
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        self.tidy_up();
        self.handle.render()
    }

    /// Empties the histograms' buffers, which grow while nobody asks for the text: call it every few seconds.
    pub fn tidy_up(&self) {
        self.handle.run_upkeep();
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
    /// Traces that could not be set up.
    #[error("{0}")]
    Traces(String),
    /// A second subscriber.
    #[error("logging could not be set up: {0}")]
    Logging(String),
}

/// A network of `stage` has run for so long. `model` is a name of the catalogue.
pub fn model_ran(stage: &'static str, model: &str, provider: &'static str, network_time: Duration) {
    histogram!(MODEL_RUN_SECONDS.name, "stage" => stage, "model" => model.to_owned(), "provider" => provider)
        .record(network_time.as_secs_f64());
}

/// What calculates networks of which stage in this process.
static PROVIDERS: Mutex<BTreeSet<ProviderInUse>> = Mutex::new(BTreeSet::new());

/// What calculates the networks of a stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderInUse {
    /// The stage.
    pub stage: &'static str,
    /// The execution provider.
    pub provider: &'static str,
}

/// A network of `stage` is calculated by `provider`.
pub fn model_provider(stage: &'static str, provider: &'static str) {
    gauge!(MODEL_PROVIDER.name, "stage" => stage, "provider" => provider).set(1.0);
    PROVIDERS.lock().insert(ProviderInUse { stage, provider });
}

/// What calculates the networks that this process has opened, stage by stage.
pub fn providers_in_use() -> Vec<ProviderInUse> {
    PROVIDERS.lock().iter().cloned().collect()
}

/// What a cache says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheAnswer {
    /// It was there and is used.
    Hit,
    /// It was not there, or cannot be used any more.
    Miss,
    /// The server does not answer.
    Away,
}

/// `stage` asked the cache.
pub fn cache_answered(stage: &'static str, answer: CacheAnswer) {
    let answer = match answer {
        CacheAnswer::Hit => "hit",
        CacheAnswer::Miss => "miss",
        CacheAnswer::Away => "away",
    };
    counter!(CACHE_ANSWERS_TOTAL.name, "stage" => stage, "answer" => answer).increment(1);
}

/// Connections to PostgreSQL: those at work, those that wait for work, and most that there may be.
pub fn ledger_connections(in_use: u32, idle: u32, limit: u32) {
    gauge!(LEDGER_CONNECTIONS.name, "state" => "in_use").set(f64::from(in_use));
    gauge!(LEDGER_CONNECTIONS.name, "state" => "idle").set(f64::from(idle));
    gauge!(LEDGER_CONNECTIONS_LIMIT.name).set(f64::from(limit));
}

pub(crate) fn batch_handled(stage: &'static str, messages: usize, duration: Duration) {
    histogram!(HANDLE_SECONDS.name, "stage" => stage).record(duration.as_secs_f64());
    histogram!(BATCH_SIZE.name, "stage" => stage).record(as_float(messages));
}

pub(crate) fn queued(stage: &'static str, queue_ms: f64) {
    histogram!(QUEUE_SECONDS.name, "stage" => stage).record(queue_ms / 1_000.0);
}

pub(crate) fn message(stage: &'static str, outcome: &'static str) {
    counter!(MESSAGES_TOTAL.name, "stage" => stage, "outcome" => outcome).increment(1);
}

pub(crate) fn dead_letter(stage: &'static str, code: ErrorCode) {
    counter!(DEAD_LETTERS_TOTAL.name, "stage" => stage, "code" => code.as_str()).increment(1);
}

pub(crate) fn retry(stage: &'static str, reason: &'static str, count: usize) {
    counter!(RETRIES_TOTAL.name, "stage" => stage, "reason" => reason).increment(count as u64);
}

pub(crate) fn ready(stage: &'static str, ready: bool) {
    gauge!(READY.name, "stage" => stage).set(f64::from(u8::from(ready)));
}

/// What waits in the partitions that are assigned now.
pub(crate) fn backlog(stage: &'static str, partitions: usize, unread: u64, in_flight: usize) {
    #[allow(clippy::cast_precision_loss)]
    gauge!(LAG.name, "stage" => stage).set(unread as f64 + as_float(in_flight));
    gauge!(PARTITIONS.name, "stage" => stage).set(as_float(partitions));
    gauge!(IN_FLIGHT.name, "stage" => stage).set(as_float(in_flight));
}

pub(crate) fn transaction(stage: &'static str, result: &'static str, duration: Duration) {
    counter!(TRANSACTIONS_TOTAL.name, "stage" => stage, "result" => result).increment(1);
    histogram!(TRANSACTION_SECONDS.name, "stage" => stage).record(duration.as_secs_f64());
}

pub(crate) fn fenced(stage: &'static str, client: &'static str) {
    counter!(FENCES_TOTAL.name, "stage" => stage, "client" => client).increment(1);
}

pub(crate) fn rebalance(stage: &'static str, change: &'static str) {
    counter!(REBALANCES_TOTAL.name, "stage" => stage, "change" => change).increment(1);
}

pub(crate) fn outbox_published(rows: usize) {
    counter!(OUTBOX_PUBLISHED_TOTAL.name).increment(rows as u64);
}

fn as_float(count: usize) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let float = count as f64;
    float
}
