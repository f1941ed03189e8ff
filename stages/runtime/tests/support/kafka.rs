//! A log for tests: the embedded broker in a folder of its own, or the one that ATELIER_KAFKA names, emptied first.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use atelier_broker::{Broker, BrokerOptions, RunningBroker};
use atelier_runtime::{
    AnyStage, Cancelled, InRecord, KafkaOptions, OutRecord, Publisher, RetryOptions, RunningStage,
    StageRuntimeOptions, TopicAdmin,
    local::{root_envelope, root_record},
    tail,
};
use atelier_schemas::{Event, TopicTable};
use chrono::Utc;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

// Topics and groups have fixed names, so a shared log serves one test at a time; and two cores serve one test at a time better.
static TURN: Mutex<()> = Mutex::const_new(());

/// How long anything may take before a test says that it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Log {
    pub kafka: KafkaOptions,
    pub table: TopicTable,
    broker: Option<(RunningBroker, tempfile::TempDir)>,
    _turn: MutexGuard<'static, ()>,
}

impl Log {
    /// A log with every topic of the table.
    pub async fn start() -> Self {
        let log = Self::bare().await;
        log.apply().await;
        log
    }

    /// A log without topics.
    pub async fn bare() -> Self {
        let turn = TURN.lock().await;
        log_if_asked();
        let table = TopicTable::embedded().clone();
        if let Ok(address) = std::env::var("ATELIER_KAFKA") {
            let kafka = KafkaOptions::at(address);
            empty(&kafka).await;
            return Self {
                kafka,
                table,
                broker: None,
                _turn: turn,
            };
        }
        let folder = tempfile::tempdir().unwrap();
        let broker = embedded(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let kafka = KafkaOptions::at(broker.address().to_string());
        Self {
            kafka,
            table,
            broker: Some((broker, folder)),
            _turn: turn,
        }
    }

    pub fn is_embedded(&self) -> bool {
        self.broker.is_some()
    }

    pub async fn apply(&self) {
        TopicAdmin::new(&self.kafka)
            .unwrap()
            .apply(&self.table)
            .await
            .unwrap();
        // A broker tells of new topics a while after it made them.
        for topic in self.table.topics() {
            eventually("a leader", || async {
                tail::ends(&self.kafka, &topic.name).await.is_ok()
            })
            .await;
        }
    }

    /// Stops the embedded broker, waits, and starts it on the same data and port. Does nothing to a log of others.
    pub async fn restart(&mut self, pause: Duration) {
        let Some((broker, folder)) = self.broker.take() else {
            return;
        };
        let address = broker.address();
        tokio::task::spawn_blocking(move || broker.stop())
            .await
            .unwrap();
        tokio::time::sleep(pause).await;
        self.broker = Some((embedded(folder.path(), address), folder));
    }

    pub async fn submit(&self, event: impl Into<Event>) -> atelier_schemas::Envelope {
        let event = event.into();
        let envelope = root_envelope("/upstream", &event, Utc::now());
        self.publish(vec![root_record(&event, &envelope).unwrap()])
            .await;
        envelope
    }

    pub async fn publish(&self, records: Vec<OutRecord>) {
        for result in Publisher::new(&self.kafka).unwrap().publish(&records).await {
            result.unwrap();
        }
    }

    pub async fn records(&self, topic: &str) -> Vec<InRecord> {
        let to = tail::ends(&self.kafka, topic).await.unwrap();
        tail::read(&self.kafka, topic, BTreeMap::new(), to)
            .await
            .unwrap()
    }

    /// Waits until a topic has so many committed records, and gives it a moment to have more.
    pub async fn wait_for(&self, topic: &str, count: usize) -> Vec<InRecord> {
        let start = Instant::now();
        loop {
            let found = self.records(topic).await.len();
            if found >= count {
                break;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{topic} has {found} of {count} records after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.records(topic).await
    }

    pub fn run(&self, stage: Arc<dyn AnyStage>, options: &StageRuntimeOptions) -> Running {
        self.run_heeding(stage, options, &Cancelled::none())
    }

    pub fn run_heeding(
        &self,
        stage: Arc<dyn AnyStage>,
        options: &StageRuntimeOptions,
        cancelled: &Cancelled,
    ) -> Running {
        let shutdown = CancellationToken::new();
        let running = RunningStage::start(
            stage,
            &self.kafka,
            &self.table,
            options,
            cancelled,
            shutdown.clone(),
        )
        .unwrap();
        Running { running, shutdown }
    }
}

pub struct Running {
    pub running: RunningStage,
    pub shutdown: CancellationToken,
}

impl Running {
    pub async fn stop(self) -> atelier_runtime::Drained {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.running.ended())
            .await
            .expect("the stage ends")
            .unwrap()
    }
}

/// Logs where RUST_LOG says what.
pub fn log_if_asked() {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        // An earlier test of this process may have done it.
        let _ = atelier_runtime::telemetry::init_logging(
            atelier_runtime::telemetry::LogFormat::Text,
            &filter,
        );
    }
}

/// Options with short waits.
pub fn options(instance_id: &str) -> StageRuntimeOptions {
    StageRuntimeOptions {
        instance_id: instance_id.to_owned(),
        drain_timeout_ms: 5_000,
        retry: RetryOptions {
            in_place_tries: 1,
            delay_ms: 300,
            max_attempts: 3,
            ..RetryOptions::default()
        },
        ..StageRuntimeOptions::default()
    }
}

/// Waits for something that must come.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(
            start.elapsed() < PATIENCE,
            "{what} did not come within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn embedded(folder: &std::path::Path, listen: SocketAddr) -> RunningBroker {
    Broker::start(BrokerOptions {
        listen,
        ..BrokerOptions::new(folder)
    })
    .unwrap()
}

async fn empty(kafka: &KafkaOptions) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap_servers);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let topics = || {
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer
            .fetch_metadata(None, Duration::from_secs(10))
            .unwrap();
        let names: Vec<String> = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect();
        names
            .into_iter()
            .filter(|name| !name.starts_with("__"))
            .collect::<Vec<_>>()
    };
    let table = TopicTable::embedded();
    let groups: Vec<&str> = table.stages().iter().map(String::as_str).collect();
    eventually("an empty log", || async {
        let there = topics();
        let names: Vec<&str> = there.iter().map(String::as_str).collect();
        if !names.is_empty() {
            let _ = admin.delete_topics(&names, &options).await;
        }
        let deleted = admin.delete_groups(&groups, &options).await.unwrap();
        let gone = |error: &rdkafka::types::RDKafkaErrorCode| {
            *error == rdkafka::types::RDKafkaErrorCode::GroupIdNotFound
        };
        let all_gone = deleted.iter().all(|result| {
            result
                .as_ref()
                .map_or_else(|(_, error)| gone(error), |_| true)
        });
        names.is_empty() && all_gone
    })
    .await;
}
