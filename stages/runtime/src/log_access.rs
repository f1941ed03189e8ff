//! Reading and writing topics outside of a stage: no group is joined, nothing is committed, only committed records are seen.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{
    kafka::{
        client::{base_config, log_client_line},
        consumer::record_of,
        security::SecurityError,
        trouble::Trouble,
    },
    options::KafkaOptions,
    record::InRecord,
};

/// By partition, the offset of a record: the next one, the first one, as the name of the variable says.
pub type Offsets = BTreeMap<i32, i64>;

/// The log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogAccessError {
    /// The broker is away, or refuses.
    #[error("{operation} at kafka {bootstrap_servers}: {reason}")]
    Kafka {
        /// What was tried.
        operation: &'static str,
        /// Where.
        bootstrap_servers: String,
        /// Why it failed, as far as is known.
        reason: String,
        /// What the client said.
        source: KafkaError,
    },
    /// What `kafka.security` says does not hold together.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The topic is not there.
    #[error("topic `{0}` does not exist; run `atelier topics apply`")]
    MissingTopic(String),
    /// The broker answers, but does not come to the end of a topic.
    #[error("reading `{topic}` did not end within {seconds} s")]
    TooSlow {
        /// The topic.
        topic: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The task that read was stopped.
    #[error("reading was interrupted")]
    Interrupted,
}

/// Puts what librdkafka says at debug level.
#[derive(Clone, Debug)]
pub(crate) struct QuietEvents {
    pub trouble: Trouble,
}

impl QuietEvents {
    pub fn of(kafka: &KafkaOptions) -> Self {
        Self {
            trouble: Trouble::new(kafka),
        }
    }
}

impl ClientContext for QuietEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.trouble.hear_line(facility, line);
        log_client_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.hear(&error, reason);
        tracing::debug!(target: "librdkafka", %error, reason, "kafka client");
    }
}

impl ConsumerContext for QuietEvents {}

/// How long one question to the broker may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long a silence a reader looks whether the broker still knows it.
const SILENCE: Duration = Duration::from_secs(30);
/// How long reading a stretch of a topic may take.
const SCAN_TIMEOUT: Duration = Duration::from_secs(30);

/// A reader of any topic. Its calls block: use it on a thread that may.
pub(crate) struct LogReader {
    consumer: BaseConsumer<QuietEvents>,
    kafka: KafkaOptions,
    group: String,
}

impl LogReader {
    /// A reader under the name of `group`, which it never joins.
    pub fn connect(kafka: &KafkaOptions, group: &str) -> Result<Self, LogAccessError> {
        Self::connect_with(kafka, group, "read_committed")
    }

    /// The same, for offsets as they are at the moment, with what open transactions have written.
    pub fn connect_uncommitted(kafka: &KafkaOptions, group: &str) -> Result<Self, LogAccessError> {
        Self::connect_with(kafka, group, "read_uncommitted")
    }

    fn connect_with(
        kafka: &KafkaOptions,
        group: &str,
        isolation: &str,
    ) -> Result<Self, LogAccessError> {
        let consumer = base_config(kafka, "atelier-reader")?
            .set("group.id", group)
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .create_with_context(QuietEvents::of(kafka))
            .map_err(|source| failed("making a consumer", kafka, source))?;
        Ok(Self {
            consumer,
            kafka: kafka.clone(),
            group: group.to_owned(),
        })
    }

    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>, LogAccessError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let metadata = self
                .consumer
                .fetch_metadata(Some(topic), ANSWER_TIMEOUT)
                .map_err(|error| self.failed(topic, "asking for a topic", error))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let trouble = found.and_then(|found| found.error());
            let partitions: Vec<i32> = found
                .filter(|_| trouble.is_none())
                .into_iter()
                .flat_map(|found| found.partitions())
                .map(rdkafka::metadata::MetadataPartition::id)
                .collect();
            match trouble.map(RDKafkaErrorCode::from) {
                None if !partitions.is_empty() => return Ok(partitions),
                None
                | Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ) => return Err(LogAccessError::MissingTopic(topic.to_owned())),
                Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    let error = KafkaError::MetadataFetch(code);
                    return Err(self.failed(topic, "asking for a topic", error));
                }
                // The topic is there; its leaders are being elected, say.
                Some(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Some(code) => {
                    let error = KafkaError::MetadataFetch(code);
                    return Err(self.failed(topic, "asking for a topic", error));
                }
            }
        }
    }

    /// By partition, the offset behind the last record.
    pub fn ends(&self, topic: &str) -> Result<Offsets, LogAccessError> {
        self.offsets_at(topic, Offset::End)
    }

    /// By partition, the offset of the first record that is still kept.
    pub fn beginnings(&self, topic: &str) -> Result<Offsets, LogAccessError> {
        self.offsets_at(topic, Offset::Beginning)
    }

    fn offsets_at(&self, topic: &str, at: Offset) -> Result<Offsets, LogAccessError> {
        let mut question = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            question
                .add_partition_offset(topic, partition, at)
                .map_err(|error| self.failed(topic, "asking for offsets", error))?;
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.ask_for_offsets(&question) {
                // A broker that has just started does not lead its partitions yet.
                Err(error) if is_election(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                answer => {
                    return answer.map_err(|error| self.failed(topic, "asking for offsets", error));
                }
            }
        }
    }

    /// By partition, the next offset that the group of this reader's name will read: the first one where it has read none.
    pub fn committed(&self, topic: &str) -> Result<Offsets, LogAccessError> {
        let refused = |error| self.failed(topic, "asking for a group's offsets", error);
        let beginnings = self.beginnings(topic)?;
        let mut question = TopicPartitionList::new();
        for partition in beginnings.keys() {
            question.add_partition(topic, *partition);
        }
        let answer = self
            .consumer
            .committed_offsets(question, ANSWER_TIMEOUT)
            .map_err(refused)?;
        let mut committed = beginnings;
        for element in answer.elements() {
            element.error().map_err(refused)?;
            if let (Offset::Offset(offset), Some(next)) =
                (element.offset(), committed.get_mut(&element.partition()))
            {
                // What is not kept any more will not be read either.
                *next = offset.max(*next);
            }
        }
        Ok(committed)
    }

    fn ask_for_offsets(&self, question: &TopicPartitionList) -> Result<Offsets, KafkaError> {
        let answer = self
            .consumer
            .offsets_for_times(question.clone(), ANSWER_TIMEOUT)?;
        let mut offsets = Offsets::new();
        for element in answer.elements() {
            element.error()?;
            offsets.insert(element.partition(), element.offset().to_raw().unwrap_or(-1));
        }
        Ok(offsets)
    }

    /// Visits every committed record of `topic` from `from` up to, and not including, `to`, on the partitions that both name,
    /// while `visit` says so.
    pub fn scan(
        &self,
        topic: &str,
        from: &Offsets,
        to: &Offsets,
        mut visit: impl FnMut(InRecord) -> bool,
    ) -> Result<(), LogAccessError> {
        let mut open: BTreeMap<i32, i64> = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for (partition, start) in from {
            let Some(end) = to.get(partition).filter(|end| *end > start) else {
                continue;
            };
            open.insert(*partition, *end);
            assignment
                .add_partition_offset(topic, *partition, Offset::Offset(*start))
                .map_err(|error| self.failed(topic, "reading", error))?;
        }
        if open.is_empty() {
            return Ok(());
        }
        self.consumer
            .assign(&assignment)
            .map_err(|error| self.failed(topic, "reading", error))?;
        let outcome = self.visit_until(topic, &mut open, &mut visit);
        self.consumer
            .unassign()
            .map_err(|error| self.failed(topic, "reading", error))?;
        outcome
    }

    fn visit_until(
        &self,
        topic: &str,
        open: &mut BTreeMap<i32, i64>,
        visit: &mut impl FnMut(InRecord) -> bool,
    ) -> Result<(), LogAccessError> {
        let name: Arc<str> = topic.into();
        let deadline = Instant::now() + SCAN_TIMEOUT;
        while !open.is_empty() {
            if Instant::now() > deadline {
                return Err(LogAccessError::TooSlow {
                    topic: topic.to_owned(),
                    seconds: SCAN_TIMEOUT.as_secs(),
                });
            }
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let record = record_of(&message, Arc::clone(&name));
                    let partition = record.source.partition;
                    let Some(end) = open.get(&partition).copied() else {
                        continue;
                    };
                    let offset = record.offset;
                    if offset < end && !visit(record) {
                        return Ok(());
                    }
                    if offset + 1 >= end {
                        open.remove(&partition);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(self.failed(topic, "reading", error)),
                None => {}
            }
        }
        Ok(())
    }

    /// Reads on from `from` without an end, while `visit` says so. Outages are waited for; a reader whose client finds no
    /// broker any more where a new one does (see `kafka::membership`) ends with an error, and is to be made anew.
    pub fn follow(
        &self,
        topic: &str,
        from: &Offsets,
        mut visit: impl FnMut(Option<InRecord>) -> bool,
    ) -> Result<(), LogAccessError> {
        let mut assignment = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            let start = from
                .get(&partition)
                .map_or(Offset::Beginning, |offset| Offset::Offset(*offset));
            assignment
                .add_partition_offset(topic, partition, start)
                .map_err(|error| self.failed(topic, "reading", error))?;
        }
        self.consumer
            .assign(&assignment)
            .map_err(|error| self.failed(topic, "reading", error))?;
        let name: Arc<str> = topic.into();
        let mut last_heard = Instant::now();
        loop {
            let record = match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => Some(record_of(&message, Arc::clone(&name))),
                Some(Err(KafkaError::PartitionEOF(_))) | None => None,
                Some(Err(error)) if is_passing(&error) => None,
                Some(Err(error)) => return Err(self.failed(topic, "reading", error)),
            };
            if record.is_some() {
                last_heard = Instant::now();
            }
            if !visit(record) {
                return Ok(());
            }
            if last_heard.elapsed() >= SILENCE {
                self.check_that_it_is_not_forgotten(topic)?;
                last_heard = Instant::now();
            }
        }
    }

    fn check_that_it_is_not_forgotten(&self, topic: &str) -> Result<(), LogAccessError> {
        let Err(error) = self.consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT) else {
            return Ok(());
        };
        let other = Self::connect(&self.kafka, &self.group)?;
        match other.consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT) {
            Ok(_) => Err(self.failed(topic, "reading", error)),
            // Nobody finds a broker.
            Err(_) => Ok(()),
        }
    }

    fn failed(&self, topic: &str, operation: &'static str, source: KafkaError) -> LogAccessError {
        let trouble = &self.consumer.context().trouble;
        let forbidden = match source.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                Some(trouble.forbidden(&format!("topic `{topic}`")))
            }
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                Some(trouble.forbidden(&format!("consumer group `{}`", self.group)))
            }
            _ => None,
        };
        LogAccessError::Kafka {
            operation,
            bootstrap_servers: self.kafka.bootstrap_servers.clone(),
            reason: forbidden
                .or_else(|| heard(&self.consumer))
                .unwrap_or_else(|| source.to_string()),
            source,
        }
    }
}

/// What the client's events say of its connections. Only for a client whose work has failed: what else comes is lost.
pub(crate) fn heard(consumer: &BaseConsumer<QuietEvents>) -> Option<String> {
    let trouble = &consumer.context().trouble;
    let deadline = Instant::now() + Duration::from_millis(100);
    while trouble.text().is_none() && Instant::now() < deadline {
        // Events are served by polling alone.
        let _ = consumer.poll(Duration::from_millis(10));
    }
    trouble.text()
}

/// Whoever leads a partition is being decided.
fn is_election(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::FencedLeaderEpoch
        )
    )
}

/// librdkafka connects again by itself.
fn is_passing(error: &KafkaError) -> bool {
    is_election(error)
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::OperationTimedOut
            )
        )
}

pub(crate) fn failed(
    operation: &'static str,
    kafka: &KafkaOptions,
    source: KafkaError,
) -> LogAccessError {
    LogAccessError::Kafka {
        operation,
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        reason: source.to_string(),
        source,
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogAccessError> + Send + 'static,
) -> Result<T, LogAccessError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(LogAccessError::Interrupted))
}
