//! `kill -9` of the broker, ten times, while transactions move records from one topic to another.
//!
//! What is checked is the promise of the whole project: every record that was acknowledged arrives at the other end exactly
//! once, nothing that was aborted is seen, and offsets and outputs never disagree.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::support::{PATIENCE, TestBroker, wait};

const KILLS: u32 = 10;
const PARTITIONS: i32 = 3;

#[derive(Clone)]
struct Shared {
    config: ClientConfig,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
}

/// Writes numbered records until told to stop and notes those that were acknowledged.
fn feed(shared: Shared) {
    let mut config = shared.config.clone();
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "60000")
        .set("linger.ms", "1");
    let producer: FutureProducer = config.create().unwrap();
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let sending: Vec<_> = (0..20)
            .map(|_| {
                number += 1;
                let value = format!("record-{number}");
                let record = FutureRecord::to("in")
                    .partition(number % PARTITIONS)
                    .key("k")
                    .payload(&value);
                let delivery = producer
                    .send_result(record)
                    .map_err(|(error, _)| error)
                    .unwrap();
                (value, delivery)
            })
            .collect();
        for (value, delivery) in sending {
            if wait(delivery).is_ok_and(|outcome| outcome.is_ok()) {
                shared.acknowledged.lock().unwrap().push(value);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Moves records from `in` to `out`, exactly once, and aborts every eighth transaction to no effect. After an error it
/// starts anew, as a stage does.
fn move_records(shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let mut consumer_config = shared.config.clone();
        consumer_config
            .set("group.id", "mover")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "300")
            .set("fetch.wait.max.ms", "50");
        let consumer: BaseConsumer = consumer_config.create().unwrap();
        consumer.subscribe(&["in"]).unwrap();
        let mut producer_config = shared.config.clone();
        producer_config
            .set("transactional.id", "mover")
            .set("transaction.timeout.ms", "20000");
        let producer: FutureProducer = producer_config.create().unwrap();
        let outcome = producer
            .init_transactions(Duration::from_secs(30))
            .map_err(|error| error.to_string());
        let outcome = outcome.and_then(|()| move_until_error(shared, &consumer, &producer));
        if let Err(error) = outcome {
            println!("mover starts anew: {error}");
        }
    }
}

fn move_until_error(
    shared: &Shared,
    consumer: &BaseConsumer,
    producer: &FutureProducer,
) -> Result<(), String> {
    let text = |error: rdkafka::error::KafkaError| error.to_string();
    let mut round = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let mut batch = Vec::new();
        let began = Instant::now();
        while batch.len() < 500 && began.elapsed() < Duration::from_millis(50) {
            match consumer.poll(Duration::from_millis(10)) {
                Some(Ok(message)) => batch.push(message.detach()),
                Some(Err(rdkafka::error::KafkaError::MessageConsumption(_))) | None => {}
                Some(Err(error)) => return Err(text(error)),
            }
        }
        if batch.is_empty() {
            continue;
        }
        round += 1;
        let aborts = round % 8 == 0;
        producer.begin_transaction().map_err(text)?;
        for message in &batch {
            let value = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
            let value = if aborts {
                format!("aborted-{value}")
            } else {
                value
            };
            let record = FutureRecord::to("out")
                .partition(message.partition())
                .key("k")
                .payload(&value);
            let delivery = producer
                .send_result(record)
                .map_err(|(error, _)| text(error))?;
            drop(delivery);
        }
        if aborts {
            producer.flush(PATIENCE).map_err(text)?;
            producer
                .abort_transaction(Duration::from_secs(30))
                .map_err(text)?;
            // The records were not moved: read them again.
            return Err("aborted on purpose".to_owned());
        }
        let position = consumer.position().map_err(text)?;
        let metadata = consumer.group_metadata().ok_or("no group metadata")?;
        producer
            .send_offsets_to_transaction(&position, &metadata, Duration::from_secs(30))
            .map_err(text)?;
        producer
            .commit_transaction(Duration::from_secs(30))
            .map_err(text)?;
    }
    Ok(())
}

#[test]
fn ten_kills_lose_nothing_double_nothing_and_show_nothing_aborted() {
    let mut broker = TestBroker::start();
    broker.create_topic("in", PARTITIONS, &[]);
    broker.create_topic("out", PARTITIONS, &[("segment.bytes", "65536")]);
    let mut config = broker.config();
    config
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200");
    let feeding = Shared {
        config,
        stop: Arc::default(),
        acknowledged: Arc::default(),
    };
    let moving = Shared {
        stop: Arc::default(),
        ..feeding.clone()
    };
    let feeder: JoinHandle<()> = std::thread::spawn({
        let shared = feeding.clone();
        move || feed(shared)
    });
    let mover = std::thread::spawn({
        let shared = moving.clone();
        move || move_records(&shared)
    });
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(700 + u64::from(kill) * 137 % 500));
        broker.kill();
        broker.start_again();
    }
    std::thread::sleep(Duration::from_millis(500));
    feeding.stop.store(true, Ordering::Relaxed);
    feeder.join().unwrap();
    let acknowledged = feeding.acknowledged.lock().unwrap().clone();
    assert!(
        acknowledged.len() > 200,
        "only {} records were acknowledged",
        acknowledged.len()
    );
    let stored: usize = (0..PARTITIONS)
        .map(|partition| broker.read_all("in", partition, "read_committed").len())
        .sum();

    let mut moved: BTreeMap<String, u32> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        moved.clear();
        for partition in 0..PARTITIONS {
            for record in broker.read_all("out", partition, "read_committed") {
                *moved.entry(record.value.unwrap()).or_default() += 1;
            }
        }
        if moved.len() >= stored {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {stored} records were moved",
            moved.len()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    moving.stop.store(true, Ordering::Relaxed);
    mover.join().unwrap();
    let missing: Vec<_> = acknowledged
        .iter()
        .filter(|value| !moved.contains_key(*value))
        .collect();
    let doubled: Vec<_> = moved.iter().filter(|(_, count)| **count > 1).collect();
    let aborted: Vec<_> = moved
        .keys()
        .filter(|value| value.starts_with("aborted"))
        .collect();
    assert!(missing.is_empty(), "acknowledged and missing: {missing:?}");
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    assert!(aborted.is_empty(), "aborted and visible: {aborted:?}");
    println!(
        "{KILLS} kills: {} acknowledged, {stored} stored, all moved once",
        acknowledged.len()
    );
}
