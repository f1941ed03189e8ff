//! What the broker does per second and how long one thing takes, by the clients that the project uses.
//!
//! `cargo bench -p atelier-broker` prints one line per figure. Figures of a busy machine mean nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use atelier_broker::{Broker, BrokerOptions, Durability, RunningBroker};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 500;
const MESSAGES: usize = 20_000;

fn main() {
    // `cargo test` runs benches with --test: there is nothing to test here.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    for durability in [Durability::Fsync, Durability::Os] {
        let dir = tempfile::tempdir().unwrap();
        let options = BrokerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            durability,
            ..BrokerOptions::new(dir.path())
        };
        let broker = Broker::start(options).unwrap();
        println!(
            "durability {durability:?}, resident at the start {} KiB",
            resident_kib()
        );
        acknowledgements(&broker);
        end_to_end(&broker);
        throughput(&broker);
        transactions(&broker);
        println!(
            "  resident at the end {} KiB (clients included)",
            resident_kib()
        );
        broker.stop();
    }
}

fn config(broker: &RunningBroker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.address().to_string())
        .set("linger.ms", "0");
    config
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn create_topic(broker: &RunningBroker, name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config(broker).create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    wait(admin.create_topics([&topic], &AdminOptions::new()))
        .unwrap()
        .remove(0)
        .unwrap();
}

fn send(producer: &FutureProducer, topic: &str, payload: &str) {
    wait(producer.send(FutureRecord::to(topic).key("k").payload(payload), PATIENCE)).unwrap();
}

fn report(what: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |percent: usize| taken[taken.len() * percent / 100].as_secs_f64() * 1_000.0;
    println!("  {what}: p50 {:.2} ms, p95 {:.2} ms", at(50), at(95));
}

fn acknowledgements(broker: &RunningBroker) {
    create_topic(broker, "acks", 1);
    let producer: FutureProducer = config(broker)
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let payload = "x".repeat(1_000);
    send(&producer, "acks", &payload);
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        send(&producer, "acks", &payload);
        taken.push(began.elapsed());
    }
    report("produce → acknowledged, 1 KB", taken);
}

fn end_to_end(broker: &RunningBroker) {
    create_topic(broker, "latency", 1);
    let mut settings = config(broker);
    settings
        .set("group.id", "latency")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer = settings.create().unwrap();
    consumer.subscribe(&["latency"]).unwrap();
    let producer: FutureProducer = config(broker).create().unwrap();
    let receive = || loop {
        if let Some(message) = consumer.poll(PATIENCE) {
            return message.unwrap().offset();
        }
    };
    send(&producer, "latency", "first");
    receive();
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let pending = producer
            .send_result(FutureRecord::to("latency").key("k").payload("x"))
            .map_err(|(error, _)| error);
        receive();
        taken.push(began.elapsed());
        wait(pending.unwrap()).unwrap().unwrap();
    }
    report("produced → received by a waiting consumer", taken);
}

fn throughput(broker: &RunningBroker) {
    create_topic(broker, "bulk", 2);
    let producer: FutureProducer = config(broker)
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "100000")
        .create()
        .unwrap();
    let payload = "x".repeat(1_000);
    let began = Instant::now();
    for number in 0..MESSAGES {
        let partition = i32::try_from(number % 2).unwrap();
        let record = FutureRecord::to("bulk")
            .partition(partition)
            .key("k")
            .payload(&payload);
        drop(
            producer
                .send_result(record)
                .map_err(|(error, _)| error)
                .unwrap(),
        );
    }
    producer.flush(PATIENCE).unwrap();
    let produced = began.elapsed();
    let mut settings = config(broker);
    settings
        .set("group.id", "bulk")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = settings.create().unwrap();
    consumer.subscribe(&["bulk"]).unwrap();
    while consumer.assignment().unwrap().count() == 0 {
        assert!(
            consumer
                .poll(Duration::ZERO)
                .is_none_or(|message| message.is_ok())
        );
    }
    let began = Instant::now();
    let mut received = 1;
    while received < MESSAGES {
        if let Some(message) = consumer.poll(PATIENCE) {
            message.unwrap();
            received += 1;
        }
    }
    let consumed = began.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = |taken: Duration| MESSAGES as f64 / taken.as_secs_f64();
    println!(
        "  {MESSAGES} × 1 KB: produce {:.0} msg/s, consume {:.0} msg/s",
        rate(produced),
        rate(consumed)
    );
}

fn transactions(broker: &RunningBroker) {
    create_topic(broker, "tx", 1);
    let producer: FutureProducer = config(broker)
        .set("transactional.id", "bench")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let mut taken = Vec::new();
    let whole = Instant::now();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        producer.begin_transaction().unwrap();
        send(&producer, "tx", "x");
        producer.commit_transaction(PATIENCE).unwrap();
        taken.push(began.elapsed());
    }
    let seconds = whole.elapsed().as_secs_f64();
    report("transaction of one message, begin → committed", taken);
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = ROUNDS as f64 / seconds;
    println!("  {rate:.0} transactions/s, one after the other");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0)
}
