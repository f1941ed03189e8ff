//! Starting the broker's binary, and shorthands for librdkafka.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

/// Nothing that works takes this long; it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker in a process of its own, on a folder of its own.
pub struct TestBroker {
    child: Option<Child>,
    pub address: String,
    pub dir: TempDir,
    flags: Vec<String>,
    is_mounted: bool,
}

impl TestBroker {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(flags: &[&str]) -> Self {
        let mut broker = Self::stopped(flags);
        broker.start_again();
        broker
    }

    /// On a disk of three megabytes; `None` where the test may not mount one.
    pub fn start_on_a_small_disk() -> Option<Self> {
        let mut broker = Self::stopped(&[]);
        let data = broker.dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(&data)
            .stderr(Stdio::null());
        broker.is_mounted = mount.status().is_ok_and(|status| status.success());
        if !broker.is_mounted {
            return None;
        }
        broker.start_again();
        Some(broker)
    }

    /// Makes the small disk a large one.
    pub fn make_room(&self) {
        let data = self.dir.path().join("data");
        let mounted = Command::new("mount")
            .args(["-o", "remount,size=50m"])
            .arg(data)
            .status()
            .unwrap();
        assert!(mounted.success());
    }

    fn stopped(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self {
            child: None,
            address: "127.0.0.1:0".to_owned(),
            dir,
            flags,
            is_mounted: false,
        }
    }

    /// Starts on the same folder and, from the second time on, the same port.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "still running");
        let mut child = command()
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--listen", &self.address, "--log", "warn"])
            .args(&self.flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("not ready: {line:?}"));
        self.address = address.to_owned();
        self.child = Some(child);
    }

    /// kill -9
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) {
        let mut child = self.child.take().unwrap();
        let sent = Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
        assert!(child.wait().unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("broker.address.family", "v4");
        config
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> FutureProducer {
        with(self.config(), settings).create().unwrap()
    }

    pub fn transactional(&self, id: &str, settings: &[(&str, &str)]) -> FutureProducer {
        let mut config = with(self.config(), settings);
        let producer: FutureProducer = config.set("transactional.id", id).create().unwrap();
        rdkafka::producer::Producer::init_transactions(&producer, PATIENCE).unwrap();
        producer
    }

    pub fn consumer(&self, group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "300")
            .set("fetch.wait.max.ms", "100");
        with(config, settings).create().unwrap()
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let outcome = wait(self.admin().create_topics(&[topic], &AdminOptions::new())).unwrap();
        outcome[0].clone().unwrap();
    }

    /// Everything in a partition between its first offset and its end now, as a consumer with `isolation` sees it.
    pub fn read_all(&self, topic: &str, partition: i32, isolation: &str) -> Vec<Seen> {
        let consumer = self.consumer(
            "reader",
            &[
                ("isolation.level", isolation),
                ("enable.partition.eof", "true"),
            ],
        );
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
        consumer.assign(&assignment).unwrap();
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => seen.push(Seen::from(&message)),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return seen,
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        panic!("no end of {topic}-{partition} after {} records", seen.len());
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if self.is_mounted {
            Command::new("umount")
                .arg(self.dir.path().join("data"))
                .status()
                .unwrap();
        }
    }
}

pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_atelier-broker"))
}

fn with(mut config: ClientConfig, settings: &[(&str, &str)]) -> ClientConfig {
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

/// One record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub timestamp_ms: Option<i64>,
}

impl From<&BorrowedMessage<'_>> for Seen {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            offset: message.offset(),
            key: message.key().map(text),
            value: message.payload().map(text),
            timestamp_ms: message.timestamp().to_millis(),
        }
    }
}

pub fn values(seen: &[Seen]) -> Vec<&str> {
    seen.iter()
        .map(|record| record.value.as_deref().unwrap_or(""))
        .collect()
}

pub fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Sends one record and returns its offset.
pub fn send(producer: &FutureProducer, topic: &str, partition: i32, key: &str, value: &str) -> i64 {
    try_send(producer, topic, partition, key, value).unwrap()
}

pub fn try_send(
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    key: &str,
    value: &str,
) -> Result<i64, rdkafka::error::KafkaError> {
    let record = FutureRecord::to(topic)
        .partition(partition)
        .key(key)
        .payload(value);
    wait(producer.send(record, PATIENCE))
        .map(|delivery| delivery.offset)
        .map_err(|(error, _)| error)
}

/// Polls until `done` says so; fails when it does not within [`PATIENCE`].
pub fn poll_until(consumer: &BaseConsumer, mut done: impl FnMut(Option<Seen>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let seen = match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => Some(Seen::from(&message)),
            Some(Err(error)) => panic!("{error}"),
            None => None,
        };
        if done(seen) {
            return;
        }
    }
    panic!("did not happen within {PATIENCE:?}");
}

/// Waits until `done` says so.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(
            Instant::now() < deadline,
            "{what} did not happen within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The group's committed offsets of a topic, by partition.
pub fn committed(
    broker: &TestBroker,
    group: &str,
    topic: &str,
    partitions: i32,
) -> BTreeMap<i32, i64> {
    let consumer = broker.consumer(group, &[]);
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(topic, 0, partitions - 1);
    let found = consumer.committed_offsets(wanted, PATIENCE).unwrap();
    let offsets = found.elements();
    let known = offsets.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    known.collect()
}
