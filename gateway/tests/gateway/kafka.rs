//! The same promises on a broker: on the embedded one, and on a Kafka that these tests share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::common::{Place, Server, eventually, options};
use atelier_broker::{Broker as EmbeddedBroker, BrokerOptions, RunningBroker};
use atelier_gateway::{
    Dependencies,
    kafka::KafkaLog,
    log::{EventLog as _, Line as _, Position},
};
use atelier_runtime::{KafkaOptions, encode::error_header};
use atelier_schemas::{Envelope, Event, StageTiming, TopicTable, events::StageCompleted};
use atelier_servers::{Broker, on_each_broker};
use futures::StreamExt as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

on_each_broker! {
    an_accepted_task_stands_on_the_log_once_with_its_trace,
    progress_is_followed_and_resumed_over_markers_and_a_restart,
    history_ends_where_it_should_although_the_last_offset_is_a_marker,
    queues_are_counted_without_markers,
    a_dead_letter_is_listed_and_goes_back_as_it_came,
    what_a_crash_left_in_the_outbox_goes_out_after_the_restart,
}

/// Key, headers and value.
type WrittenRecord = (Uuid, Vec<(String, Vec<u8>)>, Vec<u8>);

// On a shared log two outboxes would fence each other, and one test would read what another writes.
static TURN: Mutex<()> = Mutex::const_new(());

/// A broker with every topic of the table.
struct TestBroker {
    options: KafkaOptions,
    _embedded: Option<(RunningBroker, tempfile::TempDir)>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl TestBroker {
    async fn start(broker: Broker) -> Self {
        let (embedded, address, turn) = match broker {
            Broker::Embedded => {
                let folder = tempfile::tempdir().unwrap();
                let mut options = BrokerOptions::new(folder.path());
                options.listen = "127.0.0.1:0".parse().unwrap();
                let running = EmbeddedBroker::start(options).unwrap();
                let address = running.address().to_string();
                (Some((running, folder)), address, None)
            }
            Broker::Kafka(kafka) => (None, kafka.bootstrap_servers(), Some(TURN.lock().await)),
        };
        let broker = Self {
            options: KafkaOptions::at(address),
            _embedded: embedded,
            _turn: turn,
        };
        let admin: AdminClient<DefaultClientContext> = broker.config().create().unwrap();
        let topics: Vec<NewTopic<'_>> = TopicTable::embedded()
            .topics()
            .iter()
            .map(|topic| NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(1)))
            .collect();
        // On a broker that is shared they are there already.
        admin
            .create_topics(&topics, &AdminOptions::new())
            .await
            .unwrap();
        broker
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.options.bootstrap_servers);
        config
    }

    fn log(&self) -> KafkaLog {
        KafkaLog::connect(&self.options).unwrap()
    }

    /// Writes records in one transaction, as stages do, and leaves its marker behind.
    fn write(&self, topic: &str, records: &[WrittenRecord]) {
        let mut config = self.config();
        config.set("transactional.id", Uuid::new_v4().to_string());
        let producer: BaseProducer = config.create().unwrap();
        let limit = Duration::from_secs(20);
        producer.init_transactions(limit).unwrap();
        producer.begin_transaction().unwrap();
        for (key, headers, value) in records {
            let headers = headers
                .iter()
                .fold(OwnedHeaders::new(), |made, (name, value)| {
                    made.insert(Header {
                        key: name,
                        value: Some(value),
                    })
                });
            let key = key.to_string();
            producer
                .send(
                    BaseRecord::to(topic)
                        .key(&key)
                        .payload(value)
                        .headers(headers),
                )
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(limit).unwrap();
        producer.commit_transaction(limit).unwrap();
    }

    fn write_event(&self, event: &Event) {
        let task_id = event.task_id().unwrap();
        let envelope = Envelope::root("/atelier/test", event.event_type(), Uuid::new_v4(), task_id);
        self.write(
            event.topic(),
            &[(task_id, envelope.to_headers(), event.to_json().unwrap())],
        );
    }

    /// Everything committed on `topic`.
    fn read_all(&self, topic: &str) -> Vec<(BTreeMap<String, String>, Vec<u8>)> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut places = TopicPartitionList::new();
        let partitions = TopicTable::embedded().get(topic).unwrap().partitions;
        for partition in 0..partitions {
            places
                .add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&places).unwrap();
        let mut ends = 0;
        let mut records = Vec::new();
        while ends < partitions {
            match consumer
                .poll(Duration::from_secs(10))
                .expect("the topic does not end")
            {
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
                Err(error) => panic!("{error}"),
                Ok(message) => {
                    let headers = message
                        .headers()
                        .into_iter()
                        .flat_map(rdkafka::message::Headers::iter);
                    let headers = headers.map(|header| {
                        (
                            header.key.to_owned(),
                            String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned(),
                        )
                    });
                    records.push((
                        headers.collect(),
                        message.payload().unwrap_or_default().to_vec(),
                    ));
                }
            }
        }
        records
    }
}

fn worked(task_id: Uuid, stage: &str) -> Event {
    StageCompleted {
        task_id,
        image_id: None,
        timing: StageTiming {
            stage: stage.into(),
            queue_ms: 1.0,
            processing_time_ms: 2.0,
        },
    }
    .into()
}

fn dependencies(place: &Place, log: &KafkaLog) -> Dependencies {
    Dependencies {
        log: Arc::new(log.clone()),
        line: Arc::new(log.clone()),
        ..place.dependencies()
    }
}

async fn an_accepted_task_stands_on_the_log_once_with_its_trace(broker: Broker) {
    let broker = TestBroker::start(broker).await;
    let place = Place::new().await;
    let server = Server::start(options(), dependencies(&place, &broker.log())).await;
    let id = server.submit().await;
    eventually("the outbox is empty", async || {
        place.ledger.outbox_pending(10).await.unwrap().is_empty()
    })
    .await;
    server.stop().await;
    let records = broker.read_all("image-tasks");
    let of_task: Vec<_> = records
        .iter()
        .filter(|(headers, _)| headers["ce_correlationid"] == id.to_string())
        .collect();
    let [(headers, value)] = of_task.as_slice() else {
        panic!("{} records", of_task.len())
    };
    assert_eq!(
        (headers["ce_type"].as_str(), headers["ce_source"].as_str()),
        ("atelier.task.submitted.v1", "/atelier/gateway")
    );
    assert!(headers.contains_key("traceparent"));
    let request: serde_json::Value = serde_json::from_slice(value).unwrap();
    assert_eq!(request["taskId"], id.to_string());
}

async fn progress_is_followed_and_resumed_over_markers_and_a_restart(broker: Broker) {
    let broker = TestBroker::start(broker).await;
    let place = Place::new().await;
    let server = Server::start(options(), dependencies(&place, &broker.log())).await;
    let id = server.submit().await;
    let path = format!("/api/v1/tasks/{id}/events");
    let mut stream = server.get(&path).await;
    let mut text = String::new();
    broker.write_event(&worked(id, "ingest"));
    while !text.contains("atelier.stage.completed.v1\n") || !text.ends_with("\n\n") {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap()
        .to_owned();
    server.stop().await;
    for stage in ["preprocess", "classify"] {
        broker.write_event(&worked(id, stage));
    }
    let server = Server::start(options(), dependencies(&place, &broker.log())).await;
    let mut stream = server
        .client
        .get(server.url(&path))
        .header("last-event-id", &last)
        .send()
        .await
        .unwrap();
    let mut text = String::new();
    broker.write_event(&worked(id, "matte"));
    while !text.contains("\"stage\":\"matte\"") {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let stages: Vec<usize> = ["preprocess", "classify", "matte"]
        .iter()
        .map(|stage| text.matches(&format!("\"stage\":\"{stage}\"")).count())
        .collect();
    assert_eq!(stages, [1, 1, 1], "{text}");
    assert_eq!(text.matches("\"stage\":\"ingest\"").count(), 0);
    server.stop().await;
}

async fn history_ends_where_it_should_although_the_last_offset_is_a_marker(broker: Broker) {
    let broker = TestBroker::start(broker).await;
    let log = broker.log();
    assert!(
        log.read(Position::default(), log.end().await.unwrap())
            .collect::<Vec<_>>()
            .await
            .iter()
            .all(Result::is_ok)
    );
    let before = log.end().await.unwrap();
    for number in 0..8_u128 {
        broker.write_event(&worked(Uuid::from_u128(number), "ingest"));
    }
    let end = log.end().await.unwrap();
    let read: Vec<_> =
        tokio::time::timeout(Duration::from_secs(30), log.read(before, end).collect())
            .await
            .unwrap();
    assert_eq!(read.len(), 8);
    assert!(read.iter().all(Result::is_ok));
}

async fn queues_are_counted_without_markers(broker: Broker) {
    let broker = TestBroker::start(broker).await;
    let log = broker.log();
    let of = async |stage: &str| {
        log.queues()
            .await
            .unwrap()
            .into_iter()
            .find(|row| row.name == stage)
            .unwrap()
    };
    let before = of("classify").await;
    for number in 0..6_u128 {
        broker.write(
            "images-preprocessed",
            &[(Uuid::from_u128(number), Vec::new(), b"{}".to_vec())],
        );
        broker.write(
            "classify-retry",
            &[(Uuid::from_u128(number), Vec::new(), b"{}".to_vec())],
        );
    }
    let waiting = of("classify").await;
    assert_eq!(
        (
            waiting.queued - before.queued,
            waiting.in_retry - before.in_retry
        ),
        (6, 6)
    );
    assert_eq!(waiting.input_topics, ["images-preprocessed"]);

    // The stage's group reads all of it and commits behind the last record, before the last marker.
    let consumer: BaseConsumer = broker
        .config()
        .set("group.id", "classify")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut places = TopicPartitionList::new();
    for partition in 0..TopicTable::embedded()
        .get("images-preprocessed")
        .unwrap()
        .partitions
    {
        places
            .add_partition_offset("images-preprocessed", partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&places).unwrap();
    let (mut ends, mut passed) = (0, BTreeMap::new());
    while ends < places.count() {
        match consumer.poll(Duration::from_secs(10)).unwrap() {
            Ok(message) => {
                passed.insert(message.partition(), message.offset() + 1);
            }
            Err(_) => ends += 1,
        }
    }
    let mut commit = TopicPartitionList::new();
    for (partition, offset) in passed {
        commit
            .add_partition_offset("images-preprocessed", partition, Offset::Offset(offset))
            .unwrap();
    }
    consumer.commit(&commit, CommitMode::Sync).unwrap();
    assert_eq!(of("classify").await.queued, 0, "an empty queue is empty");
    assert_eq!(of("classify").await.queued, 0);
}

async fn a_dead_letter_is_listed_and_goes_back_as_it_came(broker: Broker) {
    let broker = TestBroker::start(broker).await;
    let log = broker.log();
    let (task_id, image_id, event_id) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let mut envelope = Envelope::root(
        "/atelier/preprocess",
        "atelier.image.preprocessed.v1",
        event_id,
        task_id,
    );
    envelope.subject = Some(image_id);
    envelope.attempt = 3;
    let mut headers = envelope.to_headers();
    for (name, value) in [
        (error_header::TOPIC, "images-preprocessed"),
        (error_header::EXCEPTION_CLASS, "DecodeError"),
        (error_header::EXCEPTION_MESSAGE, "at `/image`: missing"),
        (error_header::CODE, "invalidRequest"),
        (error_header::ATTEMPTS, "3"),
    ] {
        headers.push((name.to_owned(), value.as_bytes().to_vec()));
    }
    broker.write(
        "classify-dead-letters",
        &[(image_id, headers, b"{\"a\": 1}".to_vec())],
    );
    broker.write(
        "classify-dead-letters",
        &[(image_id, Vec::new(), b"garbage".to_vec())],
    );
    let letters = log.dead_letters(Some("classify"), 50).await.unwrap();
    let letter = letters
        .iter()
        .find(|letter| letter.event_id == Some(event_id))
        .unwrap();
    assert_eq!(
        (
            letter.code.as_deref(),
            letter.reason.as_str(),
            letter.attempt
        ),
        (Some("invalidRequest"), "DecodeError", 3)
    );
    assert_eq!(
        (letter.task_id, letter.image_id),
        (Some(task_id), Some(image_id))
    );
    let row = log
        .queues()
        .await
        .unwrap()
        .into_iter()
        .find(|row| row.name == "classify")
        .unwrap();
    assert_eq!(row.dead_letters, letters.len() as u64);

    assert_eq!(
        log.replay("classify", letter.partition, letter.offset)
            .await
            .unwrap(),
        event_id
    );
    let back = broker.read_all("classify-retry");
    let (headers, value) = back
        .iter()
        .find(|(headers, _)| headers.get("ce_id") == Some(&event_id.to_string()))
        .unwrap();
    assert_eq!(value, b"{\"a\": 1}");
    assert_eq!(
        (
            headers.get("ce_replay").map(String::as_str),
            headers.get("ce_attempt")
        ),
        (Some("1"), None)
    );
    assert!(
        headers.keys().all(|name| !name.contains("errors")),
        "{headers:?}"
    );
    let garbage = letters
        .iter()
        .find(|letter| letter.event_id.is_none())
        .unwrap();
    assert!(
        log.replay("classify", garbage.partition, garbage.offset)
            .await
            .is_err(),
        "what is no event cannot go back by itself"
    );
    assert!(log.replay("classify", 0, 999_999).await.is_err());
    assert!(log.replay("classify", 99, 0).await.is_err());
}

async fn what_a_crash_left_in_the_outbox_goes_out_after_the_restart(broker: Broker) {
    let broker = TestBroker::start(broker).await;
    let place = Place::new().await;
    let away = KafkaLog::connect(&KafkaOptions::at("127.0.0.1:1")).unwrap();
    let server = Server::start(options(), dependencies(&place, &away)).await;
    let ids = [
        server.submit().await,
        server.submit().await,
        server.submit().await,
    ];
    server.kill().await;
    let server = Server::start(options(), dependencies(&place, &broker.log())).await;
    eventually("the outbox is empty", async || {
        place.ledger.outbox_pending(10).await.unwrap().is_empty()
    })
    .await;
    let records = broker.read_all("image-tasks");
    for id in ids {
        assert_eq!(
            records
                .iter()
                .filter(|(headers, _)| headers["ce_correlationid"] == id.to_string())
                .count(),
            1
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_named_and_waited_for() {
    let place = Place::new().await;
    let log = KafkaLog::connect(&KafkaOptions::at("127.0.0.1:1")).unwrap();
    let server = Server::start(options(), dependencies(&place, &log)).await;
    server.submit().await;
    assert_eq!(server.get("/health/ready").await.status(), 503);
    assert_eq!(
        place.ledger.outbox_pending(10).await.unwrap().len(),
        1,
        "it waits in the outbox"
    );
    server.stop().await;
}
