//! What exactly once costs: messages per second through one no-op stage, and one message's way through the whole no-op chain.
//!
//! `cargo bench -p atelier-runtime`: on the embedded broker, and on Kafka where it is installed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use atelier_runtime::{
    StageRuntimeOptions,
    local::{root_envelope, root_record},
    tail,
};
use atelier_schemas::{Event, envelope::header};
use atelier_servers::{Broker, Kafka};
use chrono::Utc;
use futures::StreamExt;
use support::{each, ingest_one, kafka::Log, no_op_pipeline, task};

const MESSAGES: usize = 20_000;
const SINGLE_MESSAGES: usize = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    for broker in [Some(Broker::Embedded), Kafka::shared().map(Broker::Kafka)]
        .into_iter()
        .flatten()
    {
        let name = match broker {
            Broker::Embedded => "embedded broker",
            Broker::Kafka(_) => "kafka",
        };
        println!("{name}:");
        runtime.block_on(throughput(broker));
        runtime.block_on(latency(broker));
    }
}

async fn throughput(broker: Broker) {
    let log = Log::start(broker).await;
    let records = (0..MESSAGES).map(|_| {
        let event: Event = task(&["a"]).into();
        root_record(&event, &root_envelope("/bench", &event, Utc::now())).unwrap()
    });
    log.publish(records.collect()).await;
    let mut outputs = Box::pin(tail::tail(
        &log.kafka,
        "images-ingested",
        tail::ends(&log.kafka, "images-ingested").await.unwrap(),
    ));
    let stage = log.run(each("ingest", ingest_one), &StageRuntimeOptions::default());
    outputs.next().await.unwrap().unwrap();
    let started = Instant::now();
    for _ in 1..MESSAGES {
        outputs.next().await.unwrap().unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "no-op stage, exactly once: {:.0} messages/s ({MESSAGES} messages, two events each, {seconds:.2} s)",
        MESSAGES as f64 / seconds
    );
    stage.stop().await;
}

async fn latency(broker: Broker) {
    let log = Log::start(broker).await;
    let stages = no_op_pipeline();
    let hops = stages.len();
    let running: Vec<_> = stages
        .into_iter()
        .map(|stage| log.run(stage, &StageRuntimeOptions::default()))
        .collect();
    let publisher = atelier_runtime::Publisher::new(&log.kafka).unwrap();
    let mut outputs = Box::pin(tail::tail(
        &log.kafka,
        "images-persisted",
        tail::ends(&log.kafka, "images-persisted").await.unwrap(),
    ));
    let mut milliseconds = Vec::new();
    for round in 0..SINGLE_MESSAGES + 10 {
        let event: Event = task(&["a"]).into();
        let envelope = root_envelope("/bench", &event, Utc::now());
        let record = root_record(&event, &envelope).unwrap();
        let started = Instant::now();
        publisher.publish(&[record]).await.remove(0).unwrap();
        let output = tokio::time::timeout(Duration::from_secs(60), outputs.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(
            output.header_text(header::CORRELATION_ID)
                == event.task_id().map(|id| id.to_string()).as_deref()
        );
        // The first rounds wait for the groups to form.
        if round >= 10 {
            milliseconds.push(started.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    milliseconds.sort_by(f64::total_cmp);
    let at = |share: f64| milliseconds[((milliseconds.len() - 1) as f64 * share) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!(
        "chain of {hops} no-op stages, one message, published to read: p50 {p50:.1} ms, p99 {p99:.1} ms; a hop: p50 {:.1} ms",
        p50 / hops as f64
    );
    for stage in running {
        stage.stop().await;
    }
}
