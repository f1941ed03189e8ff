//! The binary as whoever starts it meets it: its lock, its addresses, its signals.

use std::net::TcpStream;
use std::process::Stdio;

use rdkafka::error::RDKafkaErrorCode;

use super::support::{PATIENCE, TestBroker, command, send, try_send, values};

fn refusal(arguments: &[&str]) -> String {
    let output = command()
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn two_brokers_cannot_have_one_folder() {
    let broker = TestBroker::start();
    let data = broker.dir.path().join("data");
    let said = refusal(&[
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    assert!(
        said.contains(&broker.pid().to_string()) && said.contains("in use"),
        "{said}"
    );
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let broker = TestBroker::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let said = refusal(&[
        "--data-dir",
        elsewhere.path().to_str().unwrap(),
        "--listen",
        &broker.address,
    ]);
    assert!(said.contains(&broker.address), "{said}");
}

#[test]
fn it_stays_on_loopback_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let said = refusal(&[
        "--data-dir",
        dir.path().to_str().unwrap(),
        "--listen",
        "0.0.0.0:0",
    ]);
    assert!(said.contains("--allow-remote"), "{said}");
}

#[test]
fn the_ready_file_has_the_address_and_goes_with_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let mut broker = TestBroker::start_with(&["--ready-file", ready.to_str().unwrap()]);
    super::support::eventually("the ready file", || ready.exists());
    let address = std::fs::read_to_string(&ready).unwrap();
    assert_eq!(address.trim(), broker.address);
    TcpStream::connect(address.trim()).unwrap();
    broker.terminate();
    assert!(!ready.exists());
}

#[test]
fn it_runs_inside_another_process_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = atelier_broker::BrokerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        auto_create_topics: true,
        ..atelier_broker::BrokerOptions::new(dir.path())
    };
    for round in 0..2 {
        let broker = atelier_broker::Broker::start(options.clone()).unwrap();
        let mut config = rdkafka::ClientConfig::new();
        config
            .set("bootstrap.servers", broker.address().to_string())
            .set("allow.auto.create.topics", "true");
        let producer: rdkafka::producer::FutureProducer = config.create().unwrap();
        assert_eq!(send(&producer, "t", 0, "k", "v"), round);
        drop(producer);
        broker.stop();
    }
}

#[test]
fn os_durability_outlives_a_kill() {
    let mut broker = TestBroker::start_with(&["--durability", "os"]);
    broker.create_topic("t", 1, &[]);
    send(&broker.producer(&[]), "t", 0, "k", "v");
    broker.kill();
    broker.start_again();
    assert_eq!(values(&broker.read_all("t", 0, "read_committed")), ["v"]);
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(mut broker) = TestBroker::start_on_a_small_disk() else {
        println!("skipped: mounting a small disk is not permitted here");
        return;
    };
    broker.create_topic("t", 1, &[]);
    let producer = broker.producer(&[("retries", "0")]);
    let value = "x".repeat(100_000);
    let mut stored = 0;
    let refused = loop {
        match try_send(&producer, "t", 0, "k", &value) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the small disk took everything");
    };
    assert_eq!(
        refused.rdkafka_error_code(),
        Some(RDKafkaErrorCode::KafkaStorageError),
        "{refused}"
    );
    assert_eq!(
        broker.read_all("t", 0, "read_committed").len(),
        stored,
        "reads go on"
    );
    broker.make_room();
    let consumer = broker.consumer("g", &[]);
    let end = rdkafka::consumer::Consumer::fetch_watermarks(&consumer, "t", 0, PATIENCE)
        .unwrap()
        .1;
    assert_eq!(
        send(&producer, "t", 0, "k", "after"),
        end,
        "writes work again without a restart"
    );
    broker.kill();
    broker.start_again();
    let seen = broker.read_all("t", 0, "read_committed");
    assert_eq!(
        (seen.len(), seen.last().unwrap().value.as_deref()),
        (stored + 1, Some("after"))
    );
}
