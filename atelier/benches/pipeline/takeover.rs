//! `kill -9` of one of two instances of a stage on Kafka: how long its partitions' messages wait.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use atelier_runtime::tail::partition_of_key;
use atelier_servers::Kafka;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    median,
    support::{Installation, samples},
};

const STAGE: &str = "ingest";
const PARTITIONS: i32 = 4;
/// Between two messages for every partition.
const PACE: Duration = Duration::from_millis(100);
/// Longest wait for the other instance.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints how long after the kill the first message of the last partition was worked, and when that could be read: readers of
/// committed events wait, too, until the broker has ended the transaction that the dead instance may have left open.
pub fn after_kill(rounds: usize) {
    let Some(kafka) = Kafka::start("") else {
        return;
    };
    let mut installation = Installation::on_kafka(kafka.bootstrap_servers());
    installation.start("up", &["up", "--without-stages"]);
    installation.wait_until_ready();
    let original = stored(&mut installation);
    let (mut worked, mut readable) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        // New ones every time: their logs tell when they have partitions.
        let [first, second] = ["first", "second"].map(|name| format!("{name}-{round}"));
        for name in [&first, &second] {
            installation.start(name, &["stage", STAGE, "--instance", name]);
        }
        wait_for_two(&installation, [&first, &second], &original);
        installation.kill(&first);
        let (after_work, after_read) = first_after(&installation, &original, Utc::now());
        println!(
            "round {round}: its partitions' messages were worked after {after_work:.2} s and could be read after {after_read:.2} s"
        );
        worked.push(after_work);
        readable.push(after_read);
        installation.terminate(&second);
    }
    println!(
        "=> takeover after kill -9, session time-out 6 s: worked after {:.2} s, readable after {:.2} s (medians; slowest {:.2} s, {:.2} s)\n",
        median(worked.clone()),
        median(readable.clone()),
        worked.into_iter().fold(0.0, f64::max),
        readable.into_iter().fold(0.0, f64::max)
    );
}

/// A picture in the blob store, as an event names it.
fn stored(installation: &mut Installation) -> Value {
    let picture = fs::read(samples().join("dress.jpg")).unwrap();
    installation.upload(&[("dress.jpg", picture)], &json!({ "quality": "low" }));
    installation.start("first", &["stage", STAGE, "--instance", "first"]);
    let original = installation.wait_for("the first image", || {
        let records = installation.read_topic("images-ingested");
        Some(records.first()?.json()["original"].clone())
    });
    installation.terminate("first");
    original
}

/// One message for every partition; each task with its partition.
fn send(installation: &Installation, original: &Value) -> BTreeMap<Uuid, i32> {
    let mut sent = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let task = loop {
            let task = Uuid::new_v4();
            if partition_of_key(task.to_string().as_bytes(), PARTITIONS) == partition {
                break task;
            }
        };
        let images = [json!({ "blob": original })];
        installation
            .submit_by_topic(&json!({ "taskId": task, "images": images, "quality": "low" }));
        sent.insert(task, partition);
    }
    sent
}

/// When each task was worked, of those whose events can be read.
fn worked_at(installation: &Installation) -> BTreeMap<Uuid, DateTime<Utc>> {
    let records = installation.read_topic("images-ingested");
    let of_record = |record: &crate::support::Record| {
        let task = record.header("ce_correlationid")?.parse().ok()?;
        Some((task, record.header("ce_time")?.parse().ok()?))
    };
    records.iter().filter_map(of_record).collect()
}

/// Waits until both instances have partitions, and every partition is worked.
fn wait_for_two(installation: &Installation, names: [&str; 2], original: &Value) {
    installation.wait_for("both instances at work", || {
        let has_partitions = |name: &str| installation.log(name).contains("partitions assigned");
        names.into_iter().all(has_partitions).then_some(())
    });
    // The group settles: the first of the two had all partitions for a moment.
    std::thread::sleep(Duration::from_secs(8));
    let sent = send(installation, original);
    installation.wait_for("every partition worked", || {
        let worked = worked_at(installation);
        sent.keys()
            .all(|task| worked.contains_key(task))
            .then_some(())
    });
}

/// Sends messages until one of every partition, sent after the kill, is worked. Seconds after the kill, worked and readable.
fn first_after(
    installation: &Installation,
    original: &Value,
    killed_at: DateTime<Utc>,
) -> (f64, f64) {
    let started = Instant::now();
    let mut sent = BTreeMap::new();
    let seconds = |at: DateTime<Utc>| (at - killed_at).as_seconds_f64();
    while started.elapsed() < PATIENCE {
        sent.extend(send(installation, original));
        std::thread::sleep(PACE);
        let mut first: BTreeMap<i32, DateTime<Utc>> = BTreeMap::new();
        for (task, at) in worked_at(installation) {
            let Some(partition) = sent.get(&task) else {
                continue;
            };
            let earliest = first.entry(*partition).or_insert(at);
            *earliest = at.min(*earliest);
        }
        if first.len() == PARTITIONS as usize {
            let last = first.into_values().max().unwrap();
            return (seconds(last), seconds(Utc::now()));
        }
    }
    panic!("nobody took over within {PATIENCE:?}");
}
