//! Records: what goes in comes out; offsets, times, retention and compaction.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};

use super::support::{
    PATIENCE, Seen, TestBroker, committed, eventually, poll_until, send, values, wait,
};

#[test]
fn keys_values_headers_and_tombstones_come_out_as_they_went_in() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let producer = broker.producer(&[("enable.idempotence", "true")]);
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "ce_id",
            value: Some("1"),
        })
        .insert(Header {
            key: "empty",
            value: None::<&str>,
        });
    let record = FutureRecord::to("t")
        .key("k")
        .payload("v")
        .headers(headers)
        .timestamp(1_234);
    assert_eq!(wait(producer.send(record, PATIENCE)).unwrap().offset, 0);
    let tombstone: FutureRecord<'_, str, str> = FutureRecord::to("t").key("k");
    assert_eq!(wait(producer.send(tombstone, PATIENCE)).unwrap().offset, 1);

    let consumer = broker.consumer("g", &[]);
    consumer.subscribe(&["t"]).unwrap();
    let mut count = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    while count < 2 {
        assert!(std::time::Instant::now() < deadline);
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        assert_eq!(message.key(), Some("k".as_bytes()));
        if message.offset() == 0 {
            assert_eq!(message.payload(), Some("v".as_bytes()));
            assert_eq!(message.timestamp().to_millis(), Some(1_234));
            let headers = message.headers().unwrap();
            assert_eq!(headers.get(0).value, Some("1".as_bytes()));
            assert_eq!(headers.get(1).value, None);
        } else {
            assert_eq!(message.payload(), None);
        }
        count += 1;
    }
}

#[test]
fn compressed_batches_are_kept_and_given_back() {
    let broker = TestBroker::start();
    broker.create_topic("plain", 1, &[]);
    broker.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    for topic in ["plain", "compacted"] {
        for codec in ["none", "gzip", "snappy", "lz4"] {
            let producer = broker.producer(&[("compression.type", codec), ("linger.ms", "20")]);
            let value = format!("{codec}-{}", "x".repeat(2_000));
            let sending: Vec<_> = (0..20)
                .map(|_| {
                    producer
                        .send_result(FutureRecord::to(topic).key("k").payload(&value))
                        .map_err(|(error, _)| error)
                        .unwrap()
                })
                .collect();
            for delivery in sending {
                wait(delivery).unwrap().unwrap();
            }
        }
        let seen = broker.read_all(topic, 0, "read_committed");
        assert_eq!(seen.len(), 80);
        assert!(seen[79].value.as_deref().unwrap().starts_with("lz4-x"));
    }
}

#[test]
fn a_consumer_resumes_inside_a_batch() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let producer = broker.producer(&[("linger.ms", "200")]);
    let sending: Vec<_> = (0..10)
        .map(|number| {
            producer
                .send_result(FutureRecord::<str, str>::to("t").payload(&number.to_string()))
                .map_err(|(error, _)| error)
                .unwrap()
        })
        .collect();
    for delivery in sending {
        wait(delivery).unwrap().unwrap();
    }
    let consumer = broker.consumer("g", &[]);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset("t", 0, Offset::Offset(4))
        .unwrap();
    consumer
        .commit(&offsets, rdkafka::consumer::CommitMode::Sync)
        .unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let mut seen = Vec::new();
    poll_until(&consumer, |record| {
        seen.extend(record);
        seen.len() == 6
    });
    assert_eq!(values(&seen), ["4", "5", "6", "7", "8", "9"]);
}

#[test]
fn offsets_are_found_by_time() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    for codec in ["none", "gzip"] {
        let producer = broker.producer(&[("linger.ms", "50"), ("compression.type", codec)]);
        // Time 0 means "now" to librdkafka.
        let base = if codec == "none" { 1 } else { 101 };
        let sending: Vec<_> = (0..100)
            .map(|number| {
                let record = FutureRecord::<str, str>::to("t")
                    .payload("x")
                    .timestamp(1_000 * (base + number));
                producer
                    .send_result(record)
                    .map_err(|(error, _)| error)
                    .unwrap()
            })
            .collect();
        for delivery in sending {
            wait(delivery).unwrap().unwrap();
        }
    }
    let consumer = broker.consumer("g", &[]);
    let find = |timestamp: i64| {
        let mut wanted = TopicPartitionList::new();
        wanted
            .add_partition_offset("t", 0, Offset::Offset(timestamp))
            .unwrap();
        consumer
            .offsets_for_times(wanted, PATIENCE)
            .unwrap()
            .elements()[0]
            .offset()
    };
    assert_eq!(find(0), Offset::Offset(0));
    assert_eq!(find(41_500), Offset::Offset(41));
    assert_eq!(find(143_000), Offset::Offset(142));
    assert_eq!(find(999_000_000), Offset::End);
    assert_eq!(
        consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(),
        (0, 200)
    );
}

#[test]
fn records_topics_and_offsets_outlive_a_restart() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 3, &[("segment.bytes", "4096")]);
    let producer = broker.producer(&[]);
    for number in 0..60 {
        send(
            &producer,
            "t",
            number % 3,
            "k",
            &format!("{number}-{}", "y".repeat(300)),
        );
    }
    let consumer = broker.consumer("g", &[]);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset("t", 1, Offset::Offset(7))
        .unwrap();
    consumer
        .commit(&offsets, rdkafka::consumer::CommitMode::Sync)
        .unwrap();
    drop((producer, consumer));
    for graceful in [true, false] {
        if graceful {
            broker.terminate();
        } else {
            broker.kill();
        }
        broker.start_again();
        for partition in 0..3 {
            let seen = broker.read_all("t", partition, "read_committed");
            assert_eq!(seen.len(), 20);
            assert!(
                seen.iter()
                    .zip(0..)
                    .all(|(record, offset)| record.offset == offset)
            );
        }
        assert_eq!(committed(&broker, "g", "t", 3).get(&1), Some(&7));
    }
}

#[test]
fn compaction_keeps_the_last_record_of_each_key() {
    let mut broker = TestBroker::start_with(&["--maintenance-interval-ms", "100"]);
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "2048"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0"),
        ("delete.retention.ms", "1"),
    ];
    broker.create_topic("t", 1, &configs);
    let producer = broker.producer(&[("compression.type", "gzip")]);
    for round in 0..20 {
        for key in ["a", "b", "c"] {
            send(
                &producer,
                "t",
                0,
                key,
                &format!("{key}{round}-{}", "z".repeat(100)),
            );
        }
    }
    let tombstone: FutureRecord<'_, str, str> = FutureRecord::to("t").partition(0).key("b");
    wait(producer.send(tombstone, PATIENCE)).unwrap();
    let transactional = broker.transactional("tx", &[]);
    for (value, commits) in [("a-aborted", false), ("a-committed", true)] {
        rdkafka::producer::Producer::begin_transaction(&transactional).unwrap();
        send(&transactional, "t", 0, "a", value);
        if commits {
            rdkafka::producer::Producer::commit_transaction(&transactional, PATIENCE).unwrap();
        } else {
            rdkafka::producer::Producer::abort_transaction(&transactional, PATIENCE).unwrap();
        }
    }
    // The active segment is never compacted: age alone seals it, then one more pass drops the tombstone.
    let compacted = |broker: &TestBroker| -> Vec<(String, Option<String>)> {
        let seen = broker.read_all("t", 0, "read_committed");
        assert!(seen.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        seen.into_iter()
            .map(|Seen { key, value, .. }| (key.unwrap(), value))
            .collect()
    };
    let expected_value = format!("c19-{}", "z".repeat(100));
    let expected = vec![
        ("c".to_owned(), Some(expected_value)),
        ("a".to_owned(), Some("a-committed".to_owned())),
    ];
    eventually("compaction", || compacted(&broker) == expected);
    assert_eq!(
        broker.read_all("t", 0, "read_uncommitted").len(),
        2,
        "aborted records are gone for everyone"
    );
    broker.kill();
    broker.start_again();
    assert_eq!(compacted(&broker), expected);
    let end = send(&broker.producer(&[]), "t", 0, "d", "after");
    assert!(end >= 63, "offsets go on where they were: {end}");
}

#[test]
fn retention_removes_old_segments_by_size_and_age() {
    let broker = TestBroker::start_with(&["--maintenance-interval-ms", "100"]);
    broker.create_topic(
        "by-size",
        1,
        &[("segment.bytes", "1024"), ("retention.bytes", "3000")],
    );
    broker.create_topic("by-age", 1, &[("retention.ms", "300")]);
    let producer = broker.producer(&[]);
    for number in 0..40 {
        send(&producer, "by-size", 0, "k", &"x".repeat(400));
        send(&producer, "by-age", 0, "k", &number.to_string());
    }
    let consumer = broker.consumer("g", &[]);
    eventually("retention by size", || {
        let (low, high) = consumer.fetch_watermarks("by-size", 0, PATIENCE).unwrap();
        high == 40 && (30..40).contains(&low)
    });
    eventually("retention by age", || {
        consumer.fetch_watermarks("by-age", 0, PATIENCE).unwrap() == (40, 40)
    });
    assert_eq!(send(&producer, "by-age", 0, "k", "next"), 40);
    let seen = broker.read_all("by-size", 0, "read_committed");
    assert_eq!(seen.last().unwrap().offset, 39);
}

#[test]
fn log_append_time_is_the_brokers() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let producer = broker.producer(&[]);
    let record = FutureRecord::to("t").key("k").payload("v").timestamp(5);
    wait(producer.send(record, PATIENCE)).unwrap();
    let seen = broker.read_all("t", 0, "read_committed");
    assert!(seen[0].timestamp_ms.unwrap() > 1_600_000_000_000);
}

#[test]
fn a_waiting_consumer_is_woken_by_a_produce() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let consumer = broker.consumer(
        "g",
        &[
            ("fetch.wait.max.ms", "20000"),
            ("socket.timeout.ms", "60000"),
        ],
    );
    consumer.subscribe(&["t"]).unwrap();
    let producer = broker.producer(&[]);
    send(&producer, "t", 0, "k", "first");
    poll_until(&consumer, |record| record.is_some());
    std::thread::sleep(Duration::from_millis(300));
    let sent = std::time::Instant::now();
    send(&producer, "t", 0, "k", "second");
    poll_until(&consumer, |record| record.is_some());
    assert!(
        sent.elapsed() < Duration::from_secs(10),
        "the fetch slept through: {:?}",
        sent.elapsed()
    );
}
