//! Reads every topic with a plain Kafka client.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use serde_json::Value;

use super::{Record, Watermarks};
use crate::pipeline::Pipeline;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long all of them may take, with new clients after each that fails: librdkafka 2.12 forgets every broker where an answer names
/// none, which a Kafka that was just started again may give, and a client that has forgotten them asks nobody any more.
const LIMIT: Duration = Duration::from_secs(150);

/// What stands on the topics.
pub(super) struct Log {
    pub records: Vec<Record>,
    pub watermarks: Vec<Watermarks>,
    pub read_up_to: BTreeMap<(String, String, i32), i64>,
}

/// Every committed record, and how far everybody has read.
pub(super) fn read(bootstrap_servers: &str, pipeline: &Pipeline) -> anyhow::Result<Log> {
    with_new_clients(|| read_once(bootstrap_servers, pipeline))
}

fn with_new_clients<T>(ask: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let since = Instant::now();
    loop {
        match ask() {
            Err(_) if since.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(500)),
            answer => return answer,
        }
    }
}

fn read_once(bootstrap_servers: &str, pipeline: &Pipeline) -> anyhow::Result<Log> {
    let committed = client(bootstrap_servers, "atelier-check", "read_committed")?;
    let partitions = partitions(&committed, pipeline)?;
    let records = records(&committed, &partitions)?;
    let all = client(bootstrap_servers, "atelier-check", "read_uncommitted")?;
    let mut watermarks = Vec::new();
    for (topic, partition) in &partitions {
        let (_, last_stable_offset) = watermarks_of(&committed, topic, *partition)?;
        let (_, high_watermark) = watermarks_of(&all, topic, *partition)?;
        watermarks.push(Watermarks {
            topic: topic.clone(),
            partition: *partition,
            last_stable_offset,
            high_watermark,
        });
    }
    let read_up_to = read_up_to(bootstrap_servers, pipeline, &partitions)?;
    Ok(Log {
        records,
        watermarks,
        read_up_to,
    })
}

/// A number that changes while anything is written or read: the ends of all topics and the committed offsets of all stages.
///
/// # Errors
/// The brokers do not answer.
pub fn progress(bootstrap_servers: &str) -> anyhow::Result<i64> {
    with_new_clients(|| progress_once(bootstrap_servers, Pipeline::get()))
}

fn progress_once(bootstrap_servers: &str, pipeline: &Pipeline) -> anyhow::Result<i64> {
    let all = client(bootstrap_servers, "atelier-check", "read_uncommitted")?;
    let partitions = partitions(&all, pipeline)?;
    let mut sum = 0;
    for (topic, partition) in &partitions {
        sum += watermarks_of(&all, topic, *partition)?.1;
    }
    let read: i64 = read_up_to(bootstrap_servers, pipeline, &partitions)?
        .values()
        .sum();
    Ok(sum + read)
}

/// The first and the last offset.
fn watermarks_of(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
) -> anyhow::Result<(i64, i64)> {
    consumer
        .fetch_watermarks(topic, partition, PATIENCE)
        .with_context(|| format!("the ends of {topic} partition {partition}"))
}

fn client(bootstrap_servers: &str, group: &str, isolation: &str) -> anyhow::Result<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .create()
        .context("no kafka client can be made")
}

fn partitions(
    consumer: &BaseConsumer,
    pipeline: &Pipeline,
) -> anyhow::Result<BTreeSet<(String, i32)>> {
    let metadata = consumer.fetch_metadata(None, PATIENCE)?;
    let mut partitions = BTreeSet::new();
    for topic in &pipeline.topics {
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic)
            .with_context(|| format!("there is no topic {topic}"))?;
        let numbers = found.partitions().iter().map(|partition| partition.id());
        partitions.extend(numbers.map(|number| (topic.clone(), number)));
    }
    Ok(partitions)
}

fn records(
    consumer: &BaseConsumer,
    partitions: &BTreeSet<(String, i32)>,
) -> anyhow::Result<Vec<Record>> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut records = Vec::new();
    let mut ends = 0;
    let since = Instant::now();
    // One end for each partition: a quiet system has no second.
    while ends < partitions.len() {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) if since.elapsed() > PATIENCE => return Err(error.into()),
            Some(Err(_)) | None if since.elapsed() <= PATIENCE => {}
            Some(Err(_)) | None => bail!(
                "{} of {} partitions do not end within {} s",
                partitions.len() - ends,
                partitions.len(),
                PATIENCE.as_secs()
            ),
        }
    }
    consumer.unassign()?;
    Ok(records)
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
        headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                (header.key.to_owned(), value.into_owned())
            })
            .collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        headers,
        value: message
            .payload()
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or(Value::Null),
    }
}

/// The committed offsets of every stage, asked for without joining its group.
fn read_up_to(
    bootstrap_servers: &str,
    pipeline: &Pipeline,
    partitions: &BTreeSet<(String, i32)>,
) -> anyhow::Result<BTreeMap<(String, String, i32), i64>> {
    let mut offsets = BTreeMap::new();
    for stage in &pipeline.stages {
        let group = client(bootstrap_servers, &stage.name, "read_committed")?;
        let mut list = TopicPartitionList::new();
        let read = partitions
            .iter()
            .filter(|(topic, _)| stage.inputs.contains(topic));
        for (topic, partition) in read {
            list.add_partition(topic, *partition);
        }
        for element in group.committed_offsets(list, PATIENCE)?.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let topic = element.topic().to_owned();
                offsets.insert((stage.name.clone(), topic, element.partition()), offset);
            }
        }
    }
    Ok(offsets)
}
