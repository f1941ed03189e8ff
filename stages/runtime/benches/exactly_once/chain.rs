//! One message at a time on its way through seven no-op stages.

use std::time::{Duration, Instant};

use atelier_runtime::{
    Message, Outcome, Publisher, StageRuntimeOptions,
    local::{root_envelope, root_record},
    tail,
};
use atelier_schemas::{
    Event, TopicTable,
    envelope::header,
    events::{ImagePersisted, Payload, StageCompleted},
};
use atelier_servers::Broker;
use chrono::Utc;
use futures::StreamExt;
use serde_json::Value;

use crate::{
    figures::quantile,
    support::{each, kafka::Log, no_op_pipeline, task},
};

const SINGLE_MESSAGES: usize = 300;
/// The first rounds wait for the groups to form.
const WARM_UP: usize = 20;
/// The seventh: it reads what the pipeline's last one writes.
const LAST: &str = "index";

fn index_one(_: &Message<ImagePersisted>) -> Outcome {
    Outcome::Emit(Vec::new())
}

/// The table with a stage behind `persist`.
fn with_seventh_stage() -> TopicTable {
    let text = include_str!("../../../../infra/kafka/topics.toml");
    let names = r#""persist"]"#;
    let longer = text
        .replacen(names, r#""persist", "index"]"#, 1)
        .replacen(r#"to = ["analytics"]"#, r#"to = ["index", "analytics"]"#, 1)
        .replace(
            r#"from = ["ingest", "preprocess", "classify", "matte", "compose", "persist"]"#,
            r#"from = ["ingest", "preprocess", "classify", "matte", "compose", "persist", "index"]"#,
        );
    TopicTable::parse(&longer).unwrap()
}

/// Prints what published → the last stage's report read takes.
pub async fn latency(name: &str, broker: Broker) {
    let mut log = Log::bare(broker).await;
    log.table = with_seventh_stage();
    log.apply().await;
    let mut stages = no_op_pipeline();
    stages.push(each(LAST, index_one));
    let hops = stages.len();
    let running: Vec<_> = stages
        .into_iter()
        .map(|stage| log.run(stage, &StageRuntimeOptions::default()))
        .collect();
    let publisher = Publisher::new(&log.kafka).unwrap();
    let ends = tail::ends(&log.kafka, "task-events").await.unwrap();
    let mut reports = Box::pin(tail::tail(&log.kafka, "task-events", ends));
    let mut milliseconds = Vec::new();
    for round in 0..SINGLE_MESSAGES + WARM_UP {
        let event: Event = task(&["a"]).into();
        let record = root_record(&event, &root_envelope("/bench", &event, Utc::now())).unwrap();
        let started = Instant::now();
        publisher.publish(&[record]).await.remove(0).unwrap();
        loop {
            let report = tokio::time::timeout(Duration::from_secs(60), reports.next());
            let report = report.await.unwrap().unwrap().unwrap();
            let is_report = report.header_text(header::TYPE) == Some(StageCompleted::EVENT_TYPE);
            let value: Value = serde_json::from_slice(report.value.as_deref().unwrap()).unwrap();
            if is_report && value["stage"] == LAST {
                break;
            }
        }
        if round >= WARM_UP {
            milliseconds.push(started.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    println!(
        "=> chain of {hops} no-op stages on {name}, one message, published to read: p50 {:.1} ms, p99 {:.1} ms\n",
        quantile(&mut milliseconds, 0.5),
        quantile(&mut milliseconds, 0.99)
    );
    for stage in running {
        stage.stop().await;
    }
}
