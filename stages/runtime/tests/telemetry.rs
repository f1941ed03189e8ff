//! What a run counts stands in the closed list, with the labels that the list gives it, and the figures are right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use atelier_runtime::{
    FailureClass, LocalRunner, Message, Outcome,
    telemetry::{Exposition, METRICS},
};
use atelier_schemas::TaskRequest;
use atelier_servers::{Broker, on_each_broker};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use support::{
    each, failure, ingest_one,
    kafka::{Log, eventually, options},
    name_of, no_op_pipeline, task,
};
use tokio::sync::Semaphore;

on_each_broker! {
    lag_is_that_of_the_partitions_which_are_assigned_at_once,
    a_run_on_the_log_counts_transactions_rebalances_retries_and_fences,
}

type Tasks = Message<TaskRequest>;

// One for the process; the tests tell their series apart by the stage.
static EXPOSITION: LazyLock<Exposition> = LazyLock::new(|| Exposition::install().unwrap());

/// Every series with its value.
fn series() -> BTreeMap<String, f64> {
    let text = EXPOSITION.render();
    let lines = text.lines();
    lines
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn value(name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |series: &str| {
        series.split('{').next() == Some(name)
            && labels
                .iter()
                .all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
    };
    series()
        .iter()
        .filter(|(series, _)| matches(series))
        .map(|(_, value)| value)
        .sum()
}

fn lag(stage: &str) -> f64 {
    value("atelier_stage_lag", &[("stage", stage)])
}

#[tokio::test]
async fn every_metric_of_a_run_is_in_the_closed_list() {
    LazyLock::force(&EXPOSITION);
    let mut stages = no_op_pipeline();
    stages[0] = each("ingest", |message: &Tasks| match name_of(&message.data) {
        "never" => Outcome::failed(failure(FailureClass::Permanent, "a user's words")),
        "later" if message.envelope.attempt < 2 => {
            Outcome::failed(failure(FailureClass::Transient, "a user's words"))
        }
        _ => ingest_one(message),
    });
    let mut runner = LocalRunner::new(stages);
    for name in ["never", "later", "fine"] {
        runner.submit(task(&[name])).unwrap();
    }
    runner.run().await;
    let series = series();
    for line in series.keys() {
        let (name, labels) = line.split_once('{').unwrap_or((line, ""));
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let described = |name: &str| METRICS.iter().find(|metric| metric.name == name);
        let metric = described(name)
            .or_else(|| base.and_then(described))
            .unwrap_or_else(|| panic!("{name} is not in the list"));
        for label in labels
            .trim_end_matches('}')
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(label, _)| label)
        {
            assert!(
                metric.labels.iter().any(|known| known.name == label) || label == "le",
                "{name} has the label {label}"
            );
        }
        assert!(!line.contains("user"), "{line}");
    }
    assert!(series.len() > 20, "{series:?}");
    let text = EXPOSITION.render();
    for expected in [
        "atelier_stage_messages_total",
        "atelier_stage_queue_seconds",
        "atelier_stage_dead_letters_total",
    ] {
        assert!(text.contains(&format!("# TYPE {expected}")), "{expected}");
    }
}

/// A partition that came counts before its first message, one that went does not count any more.
async fn lag_is_that_of_the_partitions_which_are_assigned_at_once(broker: Broker) {
    LazyLock::force(&EXPOSITION);
    let log = Log::start(broker).await;
    log.submit_many(40).await;
    let gate = Arc::new(Semaphore::new(0));
    let to_open = Arc::clone(&gate);
    let stage = each("ingest", move |message: &Tasks| {
        // Nothing is settled before the test allows it.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                gate.acquire().await.unwrap().forget();
            });
        });
        ingest_one(message)
    });
    let mut few = options("0");
    few.queue_capacity = 2;
    let running = log.run(stage, &few);
    eventually("the lag of a stage that has done nothing", || async {
        lag("ingest") == 40.0
    })
    .await;
    // Also while the stage is full and its partitions are paused.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(lag("ingest"), 40.0);
    }

    // Somebody else of the group takes partitions: what waits in those is theirs.
    let rival: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &log.kafka.bootstrap_servers)
        .set("group.id", "ingest")
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "6000")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    rival.subscribe(&["image-tasks", "ingest-retry"]).unwrap();
    to_open.add_permits(1_000);
    let ours = || value("atelier_stage_partitions", &[("stage", "ingest")]);
    let all = ours();
    eventually("a part of the partitions", || async {
        let _ = rival.poll(Duration::from_millis(10));
        ours() < all
    })
    .await;
    eventually("no lag in what is left", || async {
        let _ = rival.poll(Duration::from_millis(10));
        lag("ingest") == 0.0
    })
    .await;
    drop(rival);
    running.stop().await;
    assert_eq!((lag("ingest"), ours()), (0.0, 0.0), "it has left the group");
}

async fn a_run_on_the_log_counts_transactions_rebalances_retries_and_fences(broker: Broker) {
    LazyLock::force(&EXPOSITION);
    let log = Log::start(broker).await;
    let stage = || {
        each("ingest", |message: &Tasks| match name_of(&message.data) {
            "later" if message.envelope.attempt < 2 => {
                Outcome::failed(failure(FailureClass::Transient, "not now"))
            }
            "never" => Outcome::failed(failure(FailureClass::Permanent, "no picture")),
            _ => ingest_one(message),
        })
    };
    let counted = |name: &str, label: (&str, &str)| value(name, &[("stage", "ingest"), label]);
    let figures = || {
        [
            counted("atelier_stage_transactions_total", ("result", "committed")),
            counted("atelier_stage_rebalances_total", ("change", "assigned")),
            counted("atelier_stage_retries_total", ("reason", "topic")),
            counted("atelier_stage_dead_letters_total", ("code", "fetchFailed")),
        ]
    };
    let before = figures();
    let first = log.run(stage(), &options("same"));
    for name in ["later", "never", "fine"] {
        log.submit(task(&[name])).await;
    }
    log.wait_for("images-ingested", 2).await;
    log.wait_for("ingest-dead-letters", 1).await;
    eventually("every figure to move", || async {
        let now = figures();
        now.iter().zip(before).all(|(now, before)| *now > before)
    })
    .await;

    let fences = || counted("atelier_stage_fences_total", ("client", "producer"));
    let fenced_before = fences();
    let second = log.run(stage(), &options("same"));
    eventually("a fence", || async {
        // One of the two may have all of the tasks, and the other all of the retries.
        log.submit(task(&["later"])).await;
        fences() > fenced_before
    })
    .await;
    first.stop().await;
    second.stop().await;
}
