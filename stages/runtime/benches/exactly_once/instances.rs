//! A stage that waits for something elsewhere, with one, two and four instances.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use atelier_runtime::{
    Batch, Failure, OutRecord, Outcome, Stage, StageRuntimeOptions,
    local::{root_envelope, root_record},
};
use atelier_schemas::{Event, TopicTable, events::ImageIngested};
use atelier_servers::{Broker, Kafka};
use chrono::Utc;
use uuid::Uuid;

use crate::{
    figures::median,
    support::{
        ingested,
        kafka::{Log, Running, eventually},
        preprocess_one,
    },
};

const PARTITIONS: i32 = 8;
const WAIT: Duration = Duration::from_millis(200);
/// More than all of them work in the time, of every partition.
const BACKLOG: usize = 6_000;
/// The group hands its partitions out anew in several steps.
const SETTLING: Duration = Duration::from_secs(8);
/// How long each number of instances is measured.
const MEASURED: Duration = Duration::from_secs(15);

/// A GPU elsewhere.
struct Waiting;

#[async_trait]
impl Stage for Waiting {
    type Input = ImageIngested;

    fn name(&self) -> &'static str {
        "preprocess"
    }

    async fn handle(&self, batch: Batch<ImageIngested>) -> Result<Vec<Outcome>, Failure> {
        tokio::time::sleep(WAIT).await;
        Ok(batch.iter().map(preprocess_one).collect())
    }
}

/// Messages per second of one, two and four instances on the same backlog; each joins those that run already.
pub async fn scaling(rounds: usize) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut shares = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        let rates = rates(kafka).await;
        println!(
            "round {round}: 1 instance {:.1} messages/s, 2 {:.1}, 4 {:.1}",
            rates[0], rates[1], rates[2]
        );
        shares[0].push(rates[1] / rates[0] / 2.0);
        shares[1].push(rates[2] / rates[0] / 4.0);
    }
    let [two, four] = shares.map(median);
    println!(
        "=> a stage that waits {} ms, {PARTITIONS} partitions, share of linear: 2 instances {two:.3}, 4 instances {four:.3}\n",
        WAIT.as_millis()
    );
}

async fn rates(kafka: &'static Kafka) -> [f64; 3] {
    let mut log = Log::bare(Broker::Kafka(kafka)).await;
    let text = include_str!("../../../../infra/kafka/topics.toml");
    let partitions = format!("partitions = {PARTITIONS}");
    log.table = TopicTable::parse(&text.replacen("partitions = 4", &partitions, 1)).unwrap();
    log.apply().await;
    let records = (0..BACKLOG).map(|_| -> OutRecord {
        let event: Event = ingested(Uuid::new_v4(), 0).into();
        root_record(&event, &root_envelope("/bench", &event, Utc::now())).unwrap()
    });
    log.publish(records.collect()).await;
    let mut running: Vec<Running> = Vec::new();
    let mut rates = [0.0; 3];
    for (rate, instances) in rates.iter_mut().zip([1, 2, 4]) {
        while running.len() < instances {
            let options = StageRuntimeOptions {
                instance_id: running.len().to_string(),
                ..StageRuntimeOptions::default()
            };
            running.push(log.run(Arc::new(Waiting), &options));
        }
        eventually("partitions for every instance", || async {
            let mut stages = running.iter().map(|stage| &stage.running);
            stages.all(|stage| stage.readiness().is_ready())
        })
        .await;
        tokio::time::sleep(SETTLING).await;
        let done = || -> u64 {
            let counts = running.iter().map(|stage| stage.running.counts());
            counts.map(|counts| counts.emitted).sum()
        };
        let (before, started) = (done(), Instant::now());
        tokio::time::sleep(MEASURED).await;
        *rate = (done() - before) as f64 / started.elapsed().as_secs_f64();
    }
    for stage in running {
        stage.stop().await;
    }
    rates
}
