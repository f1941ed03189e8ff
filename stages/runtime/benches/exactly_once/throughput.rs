//! What exactly once costs: one no-op stage, which reads an event of 1 KB and writes the next one and its report.
//!
//! Messages per second of processor time are what the runtime answers for; messages per second of the clock depend on what
//! else the machine does, the broker first of all.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use atelier_runtime::{
    OutRecord, StageRuntimeOptions,
    local::{root_envelope, root_record},
};
use atelier_schemas::{Event, events::ImageIngested};
use atelier_servers::{Broker, Kafka};
use chrono::Utc;
use uuid::Uuid;

use crate::{
    figures::{Cost, median, number},
    support::{each, ingested, kafka::Log, preprocess_one},
};

const VALUE_BYTES: usize = 1_024;

/// The runtime and two loops in Python, in turn, on the same messages of the same Kafka.
pub async fn beside_python(rounds: usize) {
    let Some(kafka) = Kafka::shared() else { return };
    let python = std::env::var("ATELIER_TEST_PYTHON").expect(
        "set ATELIER_TEST_PYTHON to a Python with confluent-kafka (`make test-python` makes one)",
    );
    let messages = number("ATELIER_BENCH_MESSAGES", 60_000);
    let log = Log::start(Broker::Kafka(kafka)).await;
    let (mut ratios, mut ratios_of_bytes) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        publish(&log, messages).await;
        let ours = no_op(&log, messages).await;
        let same = in_python(&python, &log, messages, "event");
        let bytes = in_python(&python, &log, messages, "bytes");
        println!(
            "round {round}: runtime {ours}, the same in Python {same}, bytes handed on in Python {bytes}"
        );
        ratios.push(ours.per_core() / same.per_core());
        ratios_of_bytes.push(ours.per_core() / bytes.per_core());
    }
    println!(
        "=> no-op stage, exactly once, 1 KB, messages/s per core, runtime / the same in Python: {:.1} (/ bytes handed on unread: {:.2})\n",
        median(ratios),
        median(ratios_of_bytes)
    );
}

/// The same stage on both brokers, in turn.
pub async fn on_both_brokers(rounds: usize) {
    let Some(kafka) = Kafka::shared() else { return };
    let messages = number("ATELIER_BENCH_MESSAGES", 60_000);
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let mut rates = Vec::new();
        for broker in [Broker::Embedded, Broker::Kafka(kafka)] {
            let log = Log::start(broker).await;
            publish(&log, messages).await;
            rates.push(no_op(&log, messages).await);
        }
        println!(
            "round {round}: embedded broker {}, kafka {}",
            rates[0], rates[1]
        );
        ratios.push(rates[0].per_second() / rates[1].per_second());
    }
    println!(
        "=> no-op stage, embedded broker / kafka, messages/s: {:.2}\n",
        median(ratios)
    );
}

async fn publish(log: &Log, messages: usize) {
    let records: Vec<OutRecord> = (0..messages).map(|_| one_kilobyte()).collect();
    for records in records.chunks(10_000) {
        log.publish(records.to_vec()).await;
    }
}

/// An event whose value has [`VALUE_BYTES`] bytes.
fn one_kilobyte() -> OutRecord {
    let of_name = |name: String| {
        let mut event: ImageIngested = ingested(Uuid::new_v4(), 0);
        event.image.source.name = Some(name);
        let event: Event = event.into();
        root_record(&event, &root_envelope("/bench", &event, Utc::now())).unwrap()
    };
    let length = |record: &OutRecord| record.value.as_ref().map_or(0, |value| value.len());
    let record = of_name("n".repeat(VALUE_BYTES - length(&of_name(String::new()))));
    assert_eq!(length(&record), VALUE_BYTES);
    record
}

async fn no_op(log: &Log, messages: usize) -> Cost {
    let cpu_before = processor_time();
    let stage = log.run(
        each("preprocess", preprocess_one),
        &StageRuntimeOptions::default(),
    );
    let settled = || stage.running.counts().emitted as usize;
    while settled() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    while settled() < messages {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It has committed everything when it has ended.
    let drained = stage.stop().await;
    assert_eq!(
        (drained.counts.emitted as usize, drained.abandoned),
        (messages, 0)
    );
    Cost {
        messages,
        cpu: processor_time() - cpu_before,
        wall: started.elapsed(),
    }
}

fn in_python(python: &str, log: &Log, messages: usize, what: &str) -> Cost {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/exactly_once/no_op_stage.py");
    let output = Command::new(python)
        .arg(script)
        .args([
            log.kafka.bootstrap_servers.as_str(),
            &messages.to_string(),
            what,
        ])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the stage in Python failed");
    let said = String::from_utf8(output.stdout).unwrap();
    let mut seconds = said
        .split_whitespace()
        .map(|text| Duration::from_secs_f64(text.parse().unwrap()));
    Cost {
        messages,
        cpu: seconds.next().unwrap(),
        wall: seconds.next().unwrap(),
    }
}

/// What this process has used of all processors, user and system.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name before may hold anything; the 14th and 15th field count hundredths of a second.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}
