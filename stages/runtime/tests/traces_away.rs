//! A collector of traces that is away, or stands still, costs spans and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use atelier_runtime::{
    LocalRunner,
    telemetry::{Exposition, Step, StepKind, TelemetryOptions, Traces},
};
use support::{no_op_pipeline, task};

/// It takes connections and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_stands_still_costs_spans_and_nothing_else() {
    let exposition = Exposition::install().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = TelemetryOptions {
        otlp_endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
        flush_timeout_ms: 500,
        ..TelemetryOptions::default()
    };
    let traces = Traces::start(&options, "test").unwrap().unwrap();

    // More than may wait for it.
    let start = Instant::now();
    for _ in 0..20_000 {
        let mut step = Step::begin(StepKind::Internal, "step", None);
        assert!(step.is_collected());
        step.set("number", 1);
    }
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "it does not hang"
    );
    let lost = || {
        let text = exposition.render();
        let line = text
            .lines()
            .find(|line| line.starts_with("atelier_trace_spans_total{result=\"lost\"}"));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    };
    let lost_at_once: u64 = lost();
    assert!((10_000..20_000).contains(&lost_at_once), "{lost_at_once}");

    let mut runner = LocalRunner::new(no_op_pipeline());
    for _ in 0..50 {
        runner.submit(task(&["fine"])).unwrap();
    }
    runner.run().await;
    assert_eq!(runner.events("images-persisted").unwrap().len(), 50);

    let start = Instant::now();
    tokio::task::spawn_blocking(|| traces.finish())
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "its end is bounded"
    );
    drop(silent);
}
