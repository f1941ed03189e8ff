//! The gateway's metrics, of the closed list of [`atelier_runtime::telemetry::table`], with labels that no client can choose.

use std::time::Duration;

use atelier_runtime::telemetry::table::{
    HTTP_EVENT_STREAMS, HTTP_REQUEST_SECONDS, HTTP_REQUESTS_TOTAL, HTTP_TASKS_ACCEPTED_TOTAL,
    HTTP_UPLOADED_BYTES_TOTAL, OUTBOX_OLDEST_SECONDS,
};
use metrics::{counter, gauge, histogram};

/// `route` and `method` must come from the route table, never from the request.
pub(crate) fn answered(route: &'static str, method: &'static str, status: u16, duration: Duration) {
    counter!(HTTP_REQUESTS_TOTAL.name, "route" => route, "method" => method, "status" => status.to_string())
        .increment(1);
    histogram!(HTTP_REQUEST_SECONDS.name, "route" => route).record(duration.as_secs_f64());
}

pub(crate) fn uploaded(bytes: u64) {
    counter!(HTTP_UPLOADED_BYTES_TOTAL.name).increment(bytes);
}

pub(crate) fn task_accepted(way: &'static str) {
    counter!(HTTP_TASKS_ACCEPTED_TOTAL.name, "way" => way).increment(1);
}

/// Age of the oldest outbox row that is not published; `None` where there is none.
pub(crate) fn outbox_oldest(age: Option<Duration>) {
    gauge!(OUTBOX_OLDEST_SECONDS.name).set(age.unwrap_or_default().as_secs_f64());
}

/// Counts an event stream as open for as long as it lives.
pub(crate) struct OpenStream(());

impl OpenStream {
    pub(crate) fn new() -> Self {
        gauge!(HTTP_EVENT_STREAMS.name).increment(1.0);
        Self(())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(HTTP_EVENT_STREAMS.name).decrement(1.0);
    }
}
