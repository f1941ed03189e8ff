//! The gateway's metrics: a closed list beside the runtime's, with labels that no client can choose.

use std::time::Duration;

use atelier_runtime::telemetry::{MetricDescription, MetricKind};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

const REQUESTS_TOTAL: &str = "atelier_http_requests_total";
const REQUEST_SECONDS: &str = "atelier_http_request_seconds";
const EVENT_STREAMS: &str = "atelier_http_event_streams";
const UPLOADED_BYTES_TOTAL: &str = "atelier_http_uploaded_bytes_total";
const TASKS_ACCEPTED_TOTAL: &str = "atelier_http_tasks_accepted_total";

/// Every metric of the gateway.
pub const METRICS: &[MetricDescription] = &[
    row(
        REQUESTS_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &["route", "method", "status"],
        "Requests answered, by route of the table.",
    ),
    row(
        REQUEST_SECONDS,
        MetricKind::Histogram,
        Unit::Seconds,
        &["route"],
        "From the request's head to the answer's head.",
    ),
    row(
        EVENT_STREAMS,
        MetricKind::Gauge,
        Unit::Count,
        &[],
        "Event streams that are open.",
    ),
    row(
        UPLOADED_BYTES_TOTAL,
        MetricKind::Counter,
        Unit::Bytes,
        &[],
        "Bytes of uploaded pictures that were stored.",
    ),
    row(
        TASKS_ACCEPTED_TOTAL,
        MetricKind::Counter,
        Unit::Count,
        &["way"],
        "Tasks accepted, by way: api, removebg.",
    ),
];

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

/// `route` and `method` must come from the route table, never from the request.
pub(crate) fn answered(route: &'static str, method: &'static str, status: u16, duration: Duration) {
    counter!(REQUESTS_TOTAL, "route" => route, "method" => method, "status" => status.to_string())
        .increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(duration.as_secs_f64());
}

pub(crate) fn uploaded(bytes: u64) {
    counter!(UPLOADED_BYTES_TOTAL).increment(bytes);
}

pub(crate) fn task_accepted(way: &'static str) {
    counter!(TASKS_ACCEPTED_TOTAL, "way" => way).increment(1);
}

/// Counts an event stream as open for as long as it lives.
pub(crate) struct OpenStream(());

impl OpenStream {
    pub(crate) fn new() -> Self {
        gauge!(EVENT_STREAMS).increment(1.0);
        Self(())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(EVENT_STREAMS).decrement(1.0);
    }
}
