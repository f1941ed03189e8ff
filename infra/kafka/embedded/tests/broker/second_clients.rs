//! Clients that are not librdkafka inside this process: kcat, and confluent-kafka in Python.

use std::io::Write;
use std::process::{Command, Stdio};

use super::support::TestBroker;

fn kcat(broker: &TestBroker, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", &broker.address])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "kcat {arguments:?} failed");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn kcat_lists_produces_consumes_and_queries() {
    if Command::new("kcat")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        println!("skipped: kcat is not installed");
        return;
    }
    let broker = TestBroker::start();
    broker.create_topic("t", 2, &[]);
    let listed = kcat(&broker, &["-L"], "");
    assert!(listed.contains("topic \"t\" with 2 partitions"), "{listed}");
    kcat(
        &broker,
        &["-P", "-t", "t", "-p", "1", "-K", ":", "-H", "ce_id=1"],
        "a:1\nb:2\n",
    );
    let read = kcat(
        &broker,
        &["-C", "-t", "t", "-e", "-q", "-f", "%p %o %k %s %h\n"],
        "",
    );
    assert_eq!(read, "1 0 a 1 ce_id=1\n1 1 b 2 ce_id=1\n");
    let grouped = kcat(
        &broker,
        &[
            "-G",
            "g",
            "-q",
            "-e",
            "-c",
            "2",
            "-f",
            "%s\n",
            "-X",
            "auto.offset.reset=earliest",
            "t",
        ],
        "",
    );
    assert_eq!(grouped, "1\n2\n");
    let end = kcat(&broker, &["-Q", "-t", "t:1:-1"], "");
    assert!(end.contains("offset 2"), "{end}");
}

#[test]
fn confluent_kafka_finds_nothing_to_complain_of() {
    let Ok(python) = std::env::var("ATELIER_TEST_PYTHON") else {
        println!("skipped: set ATELIER_TEST_PYTHON");
        return;
    };
    let broker = TestBroker::start_with(&["--maintenance-interval-ms", "100"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_broker.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&broker.address)
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
