//! Administration with librdkafka's admin client: topics, partitions, settings, records.

use rdkafka::admin::{
    AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::support::{PATIENCE, TestBroker, send, try_send, values, wait};

fn topic_code(broker: &TestBroker, topic: &NewTopic<'_>) -> Option<RDKafkaErrorCode> {
    let outcome = wait(broker.admin().create_topics([topic], &AdminOptions::new())).unwrap();
    outcome[0].as_ref().err().map(|(_, code)| *code)
}

fn new(name: &str, partitions: i32) -> NewTopic<'_> {
    NewTopic::new(name, partitions, TopicReplication::Fixed(1))
}

#[test]
fn what_cannot_be_done_is_refused_with_kafkas_code() {
    let broker = TestBroker::start();
    assert_eq!(topic_code(&broker, &new("t", 1)), None);
    let cases = [
        (new("t", 1), RDKafkaErrorCode::TopicAlreadyExists),
        (
            NewTopic::new("r", 1, TopicReplication::Fixed(3)),
            RDKafkaErrorCode::InvalidReplicationFactor,
        ),
        (new("a/b", 1), RDKafkaErrorCode::InvalidTopic),
        (new("p", 5_000), RDKafkaErrorCode::InvalidPartitions),
        (
            new("c", 1).set("no.such.setting", "1"),
            RDKafkaErrorCode::InvalidConfig,
        ),
        (
            new("c", 1).set("cleanup.policy", "burn"),
            RDKafkaErrorCode::InvalidConfig,
        ),
    ];
    for (topic, code) in cases {
        assert_eq!(topic_code(&broker, &topic), Some(code), "{topic:?}");
    }
    let producer = broker.producer(&[("message.timeout.ms", "2000")]);
    let unknown = try_send(&producer, "nobody-made-me", 0, "k", "v").unwrap_err();
    assert!(
        matches!(
            unknown.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::MessageTimedOut
            )
        ),
        "{unknown}"
    );
}

#[test]
fn topics_grow_and_go() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let admin = broker.admin();
    let grown =
        wait(admin.create_partitions(&[NewPartitions::new("t", 3)], &AdminOptions::new())).unwrap();
    grown[0].clone().unwrap();
    let shrunk =
        wait(admin.create_partitions(&[NewPartitions::new("t", 2)], &AdminOptions::new())).unwrap();
    assert_eq!(
        shrunk[0].as_ref().unwrap_err().1,
        RDKafkaErrorCode::InvalidPartitions
    );
    send(&broker.producer(&[]), "t", 2, "k", "v");
    broker.kill();
    broker.start_again();
    assert_eq!(values(&broker.read_all("t", 2, "read_committed")), ["v"]);
    let gone = wait(broker.admin().delete_topics(&["t"], &AdminOptions::new())).unwrap();
    gone[0].clone().unwrap();
    broker.create_topic("t", 1, &[]);
    assert!(
        broker.read_all("t", 0, "read_committed").is_empty(),
        "the old topic's records came back"
    );
    let folders = std::fs::read_dir(broker.dir.path().join("data/topics"))
        .unwrap()
        .count();
    assert_eq!(folders, 1, "the old topic's files are still there");
}

fn setting(broker: &TestBroker, topic: &str, name: &str) -> String {
    let resource = ResourceSpecifier::Topic(topic);
    let described = wait(
        broker
            .admin()
            .describe_configs(&[resource], &AdminOptions::new()),
    )
    .unwrap();
    let described = described[0].as_ref().unwrap();
    described.get(name).unwrap().value.clone().unwrap()
}

#[test]
fn settings_are_described_and_altered() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 1, &[("segment.bytes", "4096")]);
    assert_eq!(setting(&broker, "t", "segment.bytes"), "4096");
    assert_eq!(setting(&broker, "t", "max.message.bytes"), "1048588");
    let alter = AlterConfig::new(ResourceSpecifier::Topic("t")).set("max.message.bytes", "1000");
    wait(broker.admin().alter_configs(&[alter], &AdminOptions::new()))
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(
        setting(&broker, "t", "segment.bytes"),
        "134217728",
        "what the request leaves out is the default again"
    );
    let refused = try_send(&broker.producer(&[]), "t", 0, "k", &"x".repeat(2_000)).unwrap_err();
    assert_eq!(
        refused.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge)
    );
    send(&broker.producer(&[]), "t", 0, "k", "small");
    broker.kill();
    broker.start_again();
    assert_eq!(setting(&broker, "t", "max.message.bytes"), "1000");
    let bad = AlterConfig::new(ResourceSpecifier::Topic("t")).set("max.message.bytes", "minus one");
    // This client does not tell what the broker answered for a single topic; check_broker.py looks at the code.
    wait(broker.admin().alter_configs(&[bad], &AdminOptions::new())).unwrap();
    assert_eq!(setting(&broker, "t", "max.message.bytes"), "1000");
}

#[test]
fn the_broker_describes_its_own_settings() {
    let broker = TestBroker::start_with(&["--durability", "os"]);
    let described = wait(
        broker
            .admin()
            .describe_configs(&[ResourceSpecifier::Broker(1)], &AdminOptions::new()),
    )
    .unwrap();
    let described = described[0].as_ref().unwrap();
    assert_eq!(
        described.get("durability").unwrap().value.as_deref(),
        Some("os")
    );
    assert!(described.get("durability").unwrap().is_read_only);
}

#[test]
fn deleted_records_stay_deleted() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 1, &[("segment.bytes", "1024")]);
    let producer = broker.producer(&[]);
    for number in 0..20 {
        send(
            &producer,
            "t",
            0,
            "k",
            &format!("{number}{}", "x".repeat(200)),
        );
    }
    let mut before = TopicPartitionList::new();
    before
        .add_partition_offset("t", 0, Offset::Offset(13))
        .unwrap();
    wait(broker.admin().delete_records(&before, &AdminOptions::new())).unwrap();
    let check = |broker: &TestBroker| {
        let consumer = broker.consumer("g", &[]);
        assert_eq!(
            consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(),
            (13, 20)
        );
        assert_eq!(broker.read_all("t", 0, "read_committed")[0].offset, 13);
    };
    check(&broker);
    broker.kill();
    broker.start_again();
    check(&broker);
    let mut all = TopicPartitionList::new();
    all.add_partition_offset("t", 0, Offset::End).unwrap();
    wait(broker.admin().delete_records(&all, &AdminOptions::new())).unwrap();
    let consumer = broker.consumer("g", &[]);
    assert_eq!(
        consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(),
        (20, 20)
    );
    let mut beyond = TopicPartitionList::new();
    beyond
        .add_partition_offset("t", 0, Offset::Offset(99))
        .unwrap();
    let outcome = wait(broker.admin().delete_records(&beyond, &AdminOptions::new()));
    let refused = match outcome {
        Err(KafkaError::AdminOp(code)) => code == RDKafkaErrorCode::OffsetOutOfRange,
        Err(_) => false,
        Ok(list) => list.elements()[0].error().is_err(),
    };
    assert!(refused, "deleted records that are not there");
}
