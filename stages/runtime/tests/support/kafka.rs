//! A log for tests: the embedded broker in a folder of its own, or the Kafka that this binary's tests share, emptied first.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use atelier_broker::{Broker as EmbeddedBroker, BrokerOptions, RunningBroker};
use atelier_runtime::{
    AnyStage, Cancelled, InRecord, KafkaOptions, OutRecord, Publisher, RetryOptions, RunningStage,
    StageRuntimeOptions, TopicAdmin,
    local::{root_envelope, root_record},
    tail,
};
use atelier_schemas::{Event, TopicTable};
use atelier_servers::{Broker, Kafka};
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
    server: Server,
    _turn: MutexGuard<'static, ()>,
}

enum Server {
    // Nothing only while it restarts.
    Embedded(Option<RunningBroker>, tempfile::TempDir),
    Kafka(&'static Kafka),
    /// Somebody else ends it.
    Other,
}

impl Log {
    /// A log with every topic of the table.
    pub async fn start(broker: Broker) -> Self {
        let log = Self::bare(broker).await;
        log.apply().await;
        log
    }

    /// A log without topics.
    pub async fn bare(broker: Broker) -> Self {
        let turn = TURN.lock().await;
        log_if_asked();
        let (server, address) = match broker {
            Broker::Embedded => {
                let folder = tempfile::tempdir().unwrap();
                let running = embedded(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)));
                let address = running.address().to_string();
                (Server::Embedded(Some(running), folder), address)
            }
            Broker::Kafka(kafka) => {
                let address = kafka.bootstrap_servers();
                empty(&KafkaOptions::at(&address)).await;
                (Server::Kafka(kafka), address)
            }
        };
        Self {
            kafka: KafkaOptions::at(address),
            table: TopicTable::embedded().clone(),
            server,
            _turn: turn,
        }
    }

    /// The log of a Kafka that nobody else uses, with every topic.
    pub async fn of(kafka: KafkaOptions) -> Self {
        let log = Self {
            kafka,
            table: TopicTable::embedded().clone(),
            server: Server::Other,
            _turn: TURN.lock().await,
        };
        log_if_asked();
        log.apply().await;
        log
    }

    pub async fn apply(&self) {
        let admin = TopicAdmin::new(&self.kafka).unwrap();
        admin.apply(&self.table).await.unwrap();
        // A broker tells of new topics a while after it made them.
        eventually("a leader of every partition", || async {
            admin.describe(&self.table).await.is_ok_and(|topics| {
                topics
                    .iter()
                    .all(|topic| i32::try_from(topic.offsets.len()) == Ok(topic.partitions))
            })
        })
        .await;
    }

    /// Ends the broker (Kafka as a crash does), waits, and starts it on the same data and port.
    pub async fn restart(&mut self, pause: Duration) {
        match &mut self.server {
            Server::Embedded(running, folder) => {
                let broker = running.take().unwrap();
                let address = broker.address();
                tokio::task::spawn_blocking(move || broker.stop())
                    .await
                    .unwrap();
                tokio::time::sleep(pause).await;
                *running = Some(embedded(folder.path(), address));
            }
            Server::Other => panic!("not ours to restart"),
            Server::Kafka(kafka) => {
                let kafka = *kafka;
                tokio::task::spawn_blocking(move || {
                    kafka.kill();
                    std::thread::sleep(pause);
                    kafka.run();
                })
                .await
                .unwrap();
            }
        }
    }

    pub async fn submit_many(&self, count: usize) {
        let records = (0..count).map(|_| {
            let event: Event = super::task(&["a"]).into();
            root_record(&event, &root_envelope("/upstream", &event, Utc::now())).unwrap()
        });
        self.publish(records.collect()).await;
    }

    /// Waits until each of `count` events stands on the topic, and none of them twice.
    pub async fn assert_each_once(&self, topic: &str, count: usize) {
        let records = self.wait_for(topic, count).await;
        let ids: std::collections::HashSet<&str> = records
            .iter()
            .map(|record| {
                record
                    .header_text(atelier_schemas::envelope::header::ID)
                    .unwrap()
            })
            .collect();
        assert_eq!(ids.len(), records.len(), "an event on {topic} was doubled");
        assert_eq!(ids.len(), count, "an event on {topic} was lost");
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
    EmbeddedBroker::start(BrokerOptions {
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
    let mut groups: Vec<&str> = table.stages().iter().map(String::as_str).collect();
    groups.push("atelier-outbox");
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
