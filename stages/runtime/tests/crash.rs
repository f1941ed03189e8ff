//! Crashes: a process that is killed in the middle of its work, and a committer that fails between produce, store and commit.
//! Whatever happens, every task ends once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::HashSet,
    process::{Child, Command, Stdio},
    time::Duration,
};

use atelier_runtime::{
    KafkaOptions, RunningStage,
    local::{root_envelope, root_record},
};
use atelier_schemas::{Event, TopicTable, envelope::header};
use chrono::Utc;
use support::{
    each, ingest_one,
    kafka::{Log, options},
    preprocess_one, task,
};
use tokio_util::sync::CancellationToken;

const CHILD: &str = "ATELIER_TEST_CHILD_KAFKA";

async fn submit_many(log: &Log, count: usize) {
    let records = (0..count).map(|_| {
        let event: Event = task(&["a"]).into();
        root_record(&event, &root_envelope("/upstream", &event, Utc::now())).unwrap()
    });
    log.publish(records.collect()).await;
}

async fn assert_each_once(log: &Log, topic: &str, count: usize) {
    let records = log.wait_for(topic, count).await;
    let ids: HashSet<&str> = records.iter().map(|record| record.header_text(header::ID).unwrap()).collect();
    assert_eq!((ids.len(), records.len()), (count, count), "lost or doubled");
}

/// Not a test of its own: what the killed processes run.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(address) = std::env::var(CHILD) else { return };
    let start = |stage| {
        let kafka = KafkaOptions::at(address.clone());
        RunningStage::start(stage, &kafka, TopicTable::embedded(), &options("killed"), CancellationToken::new()).unwrap()
    };
    let slow = each("ingest", |message| {
        std::thread::sleep(Duration::from_millis(1));
        ingest_one(message)
    });
    let _running = [start(slow), start(each("preprocess", preprocess_one))];
    // Until it is killed, or its parent is gone.
    tokio::time::sleep(Duration::from_secs(300)).await;
}

fn spawn_child(kafka: &KafkaOptions) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env(CHILD, &kafka.bootstrap_servers)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    const KILLS: usize = 4;
    const TASKS_A_ROUND: usize = 150;
    let log = Log::start().await;
    for round in 0..KILLS {
        let before = log.records("images-preprocessed").await.len();
        let mut child = spawn_child(&log.kafka);
        submit_many(&log, TASKS_A_ROUND).await;
        // In the middle of its work, at another point each time.
        support::kafka::eventually("progress", || async { log.records("images-preprocessed").await.len() > before + round * 7 }).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut child = spawn_child(&log.kafka);
    assert_each_once(&log, "images-preprocessed", KILLS * TASKS_A_ROUND).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_each_once(&log, "images-ingested", KILLS * TASKS_A_ROUND).await;
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_committer_that_fails_anywhere_loses_and_doubles_nothing() {
    let log = Log::start().await;
    let stages = [log.run(each("ingest", ingest_one), &options("0")), log.run(each("preprocess", preprocess_one), &options("0"))];
    let mut expected = 0;
    for point in ["before-produce", "after-produce", "before-send-offsets", "before-commit", "after-commit"] {
        let name = format!("runtime::{point}");
        fail::cfg(&name, "2*return").unwrap();
        submit_many(&log, 30).await;
        expected += 30;
        assert_each_once(&log, "images-preprocessed", expected).await;
        fail::remove(&name);
    }
    for stage in stages {
        assert!(stage.stop().await.counts.balance());
    }
}
