//! Transactions: what is committed is seen, what is aborted is not, zombies are fenced, time runs out.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::support::{
    PATIENCE, TestBroker, committed, eventually, poll_until, send, try_send, values,
};

#[test]
fn read_committed_sees_only_what_was_committed() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let producer = broker.transactional("tx", &[]);
    for (value, commits) in [
        ("one", true),
        ("two", false),
        ("three", true),
        ("four", false),
    ] {
        producer.begin_transaction().unwrap();
        send(&producer, "t", 0, "k", value);
        send(&producer, "t", 0, "k", value);
        if commits {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    let check = |broker: &TestBroker| {
        assert_eq!(
            values(&broker.read_all("t", 0, "read_committed")),
            ["one", "one", "three", "three"]
        );
        let all = broker.read_all("t", 0, "read_uncommitted");
        assert_eq!(
            values(&all),
            ["one", "one", "two", "two", "three", "three", "four", "four"]
        );
    };
    check(&broker);
    broker.kill();
    broker.start_again();
    check(&broker);
}

#[test]
fn an_open_transaction_holds_back_what_follows_it() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let transactional = broker.transactional("tx", &[]);
    transactional.begin_transaction().unwrap();
    send(&transactional, "t", 0, "k", "open");
    send(&broker.producer(&[]), "t", 0, "k", "plain");
    assert!(broker.read_all("t", 0, "read_committed").is_empty());
    assert_eq!(
        values(&broker.read_all("t", 0, "read_uncommitted")),
        ["open", "plain"]
    );
    transactional.commit_transaction(PATIENCE).unwrap();
    assert_eq!(
        values(&broker.read_all("t", 0, "read_committed")),
        ["open", "plain"]
    );
}

fn send_offset(
    producer: &FutureProducer,
    consumer: &BaseConsumer,
    offset: i64,
) -> Result<(), KafkaError> {
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset("in", 0, Offset::Offset(offset))
        .unwrap();
    producer.send_offsets_to_transaction(&offsets, &consumer.group_metadata().unwrap(), PATIENCE)
}

fn member_of_group(broker: &TestBroker, client_id: &str) -> BaseConsumer {
    let consumer = broker.consumer("g", &[("client.id", client_id)]);
    consumer.subscribe(&["in"]).unwrap();
    poll_until(&consumer, |_| consumer.assignment().unwrap().count() > 0);
    consumer
}

#[test]
fn offsets_travel_with_the_transaction() {
    let mut broker = TestBroker::start();
    broker.create_topic("in", 1, &[]);
    broker.create_topic("out", 1, &[]);
    let consumer = member_of_group(&broker, "c");
    let producer = broker.transactional("tx", &[]);
    for (offset, commits) in [(3, true), (5, false)] {
        producer.begin_transaction().unwrap();
        send(&producer, "out", 0, "k", "v");
        send_offset(&producer, &consumer, offset).unwrap();
        if commits {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
        assert_eq!(committed(&broker, "g", "in", 1).get(&0), Some(&3));
    }
    broker.kill();
    broker.start_again();
    assert_eq!(committed(&broker, "g", "in", 1).get(&0), Some(&3));
    assert_eq!(broker.read_all("out", 0, "read_committed").len(), 1);
}

#[test]
fn a_consumer_that_lost_its_group_cannot_send_offsets() {
    let broker = TestBroker::start();
    broker.create_topic("in", 1, &[]);
    let zombie = member_of_group(&broker, "zombie");
    let stale_metadata = zombie.group_metadata().unwrap();
    drop(zombie);
    let _successor = member_of_group(&broker, "successor");
    let producer = broker.transactional("tx", &[]);
    producer.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset("in", 0, Offset::Offset(9))
        .unwrap();
    let refused = producer
        .send_offsets_to_transaction(&offsets, &stale_metadata, PATIENCE)
        .unwrap_err();
    let KafkaError::Transaction(error) = &refused else {
        panic!("{refused}")
    };
    assert!(
        matches!(
            error.code(),
            RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration
        ),
        "{refused}"
    );
    producer.abort_transaction(PATIENCE).unwrap();
}

#[test]
fn a_zombie_is_fenced_by_its_successor() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let zombie = broker.transactional("tx", &[]);
    zombie.begin_transaction().unwrap();
    send(&zombie, "t", 0, "k", "zombie");
    let successor = broker.transactional("tx", &[]);
    let refused = try_send(&zombie, "t", 0, "k", "too late")
        .and_then(|_| zombie.commit_transaction(PATIENCE).map(|()| 0));
    assert!(refused.is_err(), "the zombie committed");
    let (fatal, _) = rdkafka::producer::Producer::client(&zombie)
        .fatal_error()
        .unwrap();
    assert!(
        matches!(
            fatal,
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        ),
        "{fatal:?}"
    );
    successor.begin_transaction().unwrap();
    send(&successor, "t", 0, "k", "successor");
    successor.commit_transaction(PATIENCE).unwrap();
    assert_eq!(
        values(&broker.read_all("t", 0, "read_committed")),
        ["successor"]
    );
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let slow = broker.transactional("tx", &[("transaction.timeout.ms", "1000")]);
    slow.begin_transaction().unwrap();
    send(&slow, "t", 0, "k", "slow");
    send(&broker.producer(&[]), "t", 0, "k", "behind it");
    eventually("the time-out", || {
        values(&broker.read_all("t", 0, "read_committed")) == ["behind it"]
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        slow.commit_transaction(PATIENCE).is_err(),
        "committed after its time-out"
    );
}

#[test]
fn a_restart_aborts_what_was_open_and_fences_its_producer() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 2, &[]);
    let producer = broker.transactional("tx", &[]);
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, "k", "open");
    let idle = broker.transactional("idle", &[]);
    idle.begin_transaction().unwrap();
    send(&idle, "t", 1, "k", "before");
    idle.commit_transaction(PATIENCE).unwrap();
    broker.kill();
    broker.start_again();
    assert!(broker.read_all("t", 0, "read_committed").is_empty());
    send(&broker.producer(&[]), "t", 0, "k", "after");
    assert_eq!(
        values(&broker.read_all("t", 0, "read_committed")),
        ["after"]
    );
    assert!(
        producer.commit_transaction(PATIENCE).is_err(),
        "committed what the restart had aborted"
    );
    // A producer between two transactions goes on.
    idle.begin_transaction().unwrap();
    send(&idle, "t", 1, "k", "after");
    idle.commit_transaction(PATIENCE).unwrap();
    assert_eq!(
        values(&broker.read_all("t", 1, "read_committed")),
        ["before", "after"]
    );
}
