//! Crashes: a process that is killed in the middle of its work, and a committer that fails between produce, store and commit.
//! Whatever happens, every task ends once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use atelier_runtime::{
    Cancelled, KafkaOptions, RunningStage,
    local::{root_envelope, root_record},
};
use atelier_schemas::{Event, TopicTable, envelope::header};
use atelier_servers::{Broker, on_each_broker};
use chrono::Utc;
use support::{
    each, ingest_one,
    kafka::{Log, options},
    preprocess_one, task,
};
use tokio_util::sync::CancellationToken;

on_each_broker! {
    a_chain_that_is_killed_again_and_again_loses_and_doubles_nothing,
    #[cfg(feature = "failpoints")]
    a_committer_that_fails_anywhere_loses_and_doubles_nothing,
}

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
    let mut places: HashMap<&str, Vec<String>> = HashMap::new();
    for record in &records {
        let made_at = record.header_text(header::TIME).unwrap();
        let place = format!(
            "partition {} offset {} made {made_at}",
            record.source.partition, record.offset
        );
        places
            .entry(record.header_text(header::ID).unwrap())
            .or_default()
            .push(place);
    }
    let doubled: Vec<_> = places.values().filter(|places| places.len() > 1).collect();
    assert!(doubled.is_empty(), "doubled in {topic}: {doubled:#?}");
    assert_eq!(records.len(), count, "lost in {topic}");
}

/// Not a test of its own: what the killed processes run.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(address) = std::env::var(CHILD) else {
        return;
    };
    support::kafka::log_if_asked();
    let start = |stage| {
        let kafka = KafkaOptions::at(address.clone());
        RunningStage::start(
            stage,
            &kafka,
            TopicTable::embedded(),
            &options("killed"),
            &Cancelled::none(),
            CancellationToken::new(),
        )
        .unwrap()
    };
    let slow = each("ingest", |message| {
        std::thread::sleep(Duration::from_millis(1));
        ingest_one(message)
    });
    let _running = [start(slow), start(each("preprocess", preprocess_one))];
    // Until it is killed, or its parent is gone.
    tokio::time::sleep(Duration::from_secs(300)).await;
}

/// A process that does not outlive its test, however that ends.
struct KilledChild(Child);

impl KilledChild {
    fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for KilledChild {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn_child(kafka: &KafkaOptions) -> KilledChild {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, &kafka.bootstrap_servers)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    KilledChild(child)
}

async fn a_chain_that_is_killed_again_and_again_loses_and_doubles_nothing(broker: Broker) {
    const KILLS: usize = 4;
    const TASKS_A_ROUND: usize = 150;
    let log = Log::start(broker).await;
    for round in 0..KILLS {
        let before = log.records("images-preprocessed").await.len();
        let child = spawn_child(&log.kafka);
        submit_many(&log, TASKS_A_ROUND).await;
        // In the middle of its work, at another point each time.
        support::kafka::eventually("progress", || async {
            log.records("images-preprocessed").await.len() > before + round * 7
        })
        .await;
        child.kill();
    }
    let child = spawn_child(&log.kafka);
    assert_each_once(&log, "images-preprocessed", KILLS * TASKS_A_ROUND).await;
    child.kill();
    assert_each_once(&log, "images-ingested", KILLS * TASKS_A_ROUND).await;
}

#[cfg(feature = "failpoints")]
async fn a_committer_that_fails_anywhere_loses_and_doubles_nothing(broker: Broker) {
    let log = Log::start(broker).await;
    let stages = [
        log.run(each("ingest", ingest_one), &options("0")),
        log.run(each("preprocess", preprocess_one), &options("0")),
    ];
    let mut expected = 0;
    for point in [
        "before-produce",
        "after-produce",
        "before-send-offsets",
        "before-commit",
        "after-commit",
    ] {
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
