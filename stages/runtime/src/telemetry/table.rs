//! The closed list of metrics: what each is called, what it counts, in which unit and by which labels.
//!
//! This is the one place in which a metric is named. The code that counts, docs/metrics.md, the dashboard and the check of the
//! alert rules are made from it.
//!
//! Invariant: no label takes a value that a user can choose; [`Label::values`] says where each comes from.

use metrics::Unit;

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

impl MetricKind {
    /// Its name, as Prometheus writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// By what a metric is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// The values that it takes, or where they come from.
    pub values: &'static str,
}

const fn label(name: &'static str, values: &'static str) -> Label {
    Label { name, values }
}

const STAGE: Label = label("stage", "a stage of infra/kafka/topics.toml");
const OUTCOME: Label = label(
    "outcome",
    "emitted, skipped, retried, dead_lettered, cancelled",
);
const RESULT: Label = label("result", "committed, aborted, timed_out, fatal");
const CLIENT: Label = label("client", "producer, consumer");
const WAIT: Label = label("reason", "in_place, topic, unavailable");
const CODE: Label = label("code", "an error code of schemas/src/error.rs");
const CHANGE: Label = label("change", "assigned, revoked, lost");
const STATE: Label = label("state", "in_use, idle");
const MODEL: Label = label("model", "a model of models/models.toml");
const PROVIDER: Label = label(
    "provider",
    "cpu, openvino-f32, openvino-bf16, openvino-int8, cuda, tensorrt",
);
const ANSWER: Label = label("answer", "hit, miss, away");
const EXPORTED: Label = label("result", "exported, lost");
const ROUTE: Label = label("route", "a path of /api/openapi.json, or page");
const METHOD: Label = label(
    "method",
    "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, OTHER",
);
const STATUS: Label = label("status", "an HTTP status code");
const WAY: Label = label("way", "api, repeat, removebg");

/// One row of the closed list.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [Label],
    help: &'static str,
}

impl Metric {
    /// What it says.
    pub fn help(&self) -> &'static str {
        self.help.trim_start()
    }
}

macro_rules! metrics {
    ($(#[doc = $help:literal] $constant:ident: $kind:ident $name:literal in $unit:ident by $labels:expr;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: Unit::$unit,
                labels: &$labels,
                help: $help,
            };
        )+
        /// Every metric there is.
        pub const METRICS: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    /// From an event's time to the start of the work on it.
    QUEUE_SECONDS: Histogram "atelier_stage_queue_seconds" in Seconds by [STAGE];
    /// One call of the stage with one batch.
    HANDLE_SECONDS: Histogram "atelier_stage_handle_seconds" in Seconds by [STAGE];
    /// Messages in one batch.
    BATCH_SIZE: Histogram "atelier_stage_batch_size" in Count by [STAGE];
    /// Messages by what became of them.
    MESSAGES_TOTAL: Counter "atelier_stage_messages_total" in Count by [STAGE, OUTCOME];
    /// Messages that wait in the partitions that this process reads, those in work included.
    LAG: Gauge "atelier_stage_lag" in Count by [STAGE];
    /// Partitions that this process reads.
    PARTITIONS: Gauge "atelier_stage_partitions" in Count by [STAGE];
    /// Messages that are taken and not committed yet.
    IN_FLIGHT: Gauge "atelier_stage_in_flight" in Count by [STAGE];
    /// 1 where the stage can work, 0 where it waits for a dependency.
    READY: Gauge "atelier_stage_ready" in Count by [STAGE];
    /// Transactions by how they ended; one is timed out where it was open for longer than `runtime.transaction.timeout_ms`.
    TRANSACTIONS_TOTAL: Counter "atelier_stage_transactions_total" in Count by [STAGE, RESULT];
    /// Begin to end of one transaction.
    TRANSACTION_SECONDS: Histogram "atelier_stage_transaction_seconds" in Seconds by [STAGE];
    /// Clients that were shut out because another process has their instance id.
    FENCES_TOTAL: Counter "atelier_stage_fences_total" in Count by [STAGE, CLIENT];
    /// Messages that were put off for another try.
    RETRIES_TOTAL: Counter "atelier_stage_retries_total" in Count by [STAGE, WAIT];
    /// Records written to the stage's dead letters, by reason.
    DEAD_LETTERS_TOTAL: Counter "atelier_stage_dead_letters_total" in Count by [STAGE, CODE];
    /// Changes of assignment.
    REBALANCES_TOTAL: Counter "atelier_stage_rebalances_total" in Count by [STAGE, CHANGE];
    /// The network's own time in one run, or a picture's share of it where several ran together.
    MODEL_RUN_SECONDS: Histogram "atelier_model_run_seconds" in Seconds by [STAGE, MODEL, PROVIDER];
    /// 1 for what calculates the networks of a stage.
    MODEL_PROVIDER: Gauge "atelier_model_provider" in Count by [STAGE, PROVIDER];
    /// What the cache answered: there, not there, or the server is away.
    CACHE_ANSWERS_TOTAL: Counter "atelier_cache_answers_total" in Count by [STAGE, ANSWER];
    /// Outbox rows that were published.
    OUTBOX_PUBLISHED_TOTAL: Counter "atelier_outbox_published_total" in Count by [];
    /// Age of the oldest outbox row that is not published, 0 where there is none.
    OUTBOX_OLDEST_SECONDS: Gauge "atelier_outbox_oldest_seconds" in Seconds by [];
    /// Connections to PostgreSQL that this process holds.
    LEDGER_CONNECTIONS: Gauge "atelier_ledger_connections" in Count by [STATE];
    /// Most connections to PostgreSQL that this process may hold.
    LEDGER_CONNECTIONS_LIMIT: Gauge "atelier_ledger_connections_limit" in Count by [];
    /// Bytes that may still be written on the file system of the data folder.
    DISK_FREE_BYTES: Gauge "atelier_disk_free_bytes" in Bytes by [];
    /// Size of the file system of the data folder.
    DISK_SIZE_BYTES: Gauge "atelier_disk_size_bytes" in Bytes by [];
    /// Most memory that the process may have: the limit of its control group, or the machine's memory.
    MEMORY_LIMIT_BYTES: Gauge "atelier_memory_limit_bytes" in Bytes by [];
    /// Spans given to the collector of traces, or lost because it is away.
    SPANS_TOTAL: Counter "atelier_trace_spans_total" in Count by [EXPORTED];
    /// Requests answered, by route of the table.
    HTTP_REQUESTS_TOTAL: Counter "atelier_http_requests_total" in Count by [ROUTE, METHOD, STATUS];
    /// From the request's head to the answer's head.
    HTTP_REQUEST_SECONDS: Histogram "atelier_http_request_seconds" in Seconds by [ROUTE];
    /// Event streams that are open.
    HTTP_EVENT_STREAMS: Gauge "atelier_http_event_streams" in Count by [];
    /// Bytes of uploaded pictures that were stored.
    HTTP_UPLOADED_BYTES_TOTAL: Counter "atelier_http_uploaded_bytes_total" in Bytes by [];
    /// Tasks accepted over HTTP.
    HTTP_TASKS_ACCEPTED_TOTAL: Counter "atelier_http_tasks_accepted_total" in Count by [WAY];
    /// Processor time of the process, user and system.
    PROCESS_CPU_SECONDS_TOTAL: Counter "process_cpu_seconds_total" in Seconds by [];
    /// Memory of the process that is in RAM.
    PROCESS_RESIDENT_MEMORY_BYTES: Gauge "process_resident_memory_bytes" in Bytes by [];
    /// Address space of the process.
    PROCESS_VIRTUAL_MEMORY_BYTES: Gauge "process_virtual_memory_bytes" in Bytes by [];
    /// Largest address space that the process may have.
    PROCESS_VIRTUAL_MEMORY_MAX_BYTES: Gauge "process_virtual_memory_max_bytes" in Bytes by [];
    /// Files and sockets that the process has open.
    PROCESS_OPEN_FDS: Gauge "process_open_fds" in Count by [];
    /// Most files and sockets that the process may have open.
    PROCESS_MAX_FDS: Gauge "process_max_fds" in Count by [];
    /// Threads of the process.
    PROCESS_THREADS: Gauge "process_threads" in Count by [];
    /// When the process started, in seconds since 1970.
    PROCESS_START_TIME_SECONDS: Gauge "process_start_time_seconds" in Seconds by [];
}

/// Upper bounds of the buckets of everything in seconds: 1 ms to 2 minutes.
pub(super) const SECONDS_BUCKETS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    120.0,
];

/// Upper bounds of the buckets of everything that is counted.
pub(super) const SIZE_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_customs_of_prometheus() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in METRICS {
            let Metric { name, kind, .. } = *metric;
            assert!(seen.insert(name), "{name} stands twice");
            assert!(
                name.starts_with("atelier_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                kind == MetricKind::Counter,
                "{name}"
            );
            let bare = name.trim_end_matches("_total");
            assert_eq!(
                bare.ends_with("_seconds"),
                metric.unit == Unit::Seconds,
                "{name}"
            );
            assert_eq!(
                bare.ends_with("_bytes"),
                metric.unit == Unit::Bytes,
                "{name}"
            );
            assert!(
                metric.help().ends_with('.') && !metric.help().contains('\n'),
                "{name}"
            );
        }
    }
}
