//! Dead letters: listing them, and how many records wait before each stage.
//!
//! Invariant: reading takes no part in any consumer group and moves no offset.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use atelier_schemas::{
    Topic, TopicTable,
    envelope::header,
    topics::{dead_letter_topic, retry_topic},
};
use chrono::{DateTime, Utc};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::Message as _,
};
use uuid::Uuid;

use crate::{
    encode::error_header,
    kafka::{SecurityError, client::base_config, consumer::record_of, group_id},
    log_access::{QuietEvents, heard},
    options::KafkaOptions,
    record::InRecord,
};

/// The group that it reads as. It never joins it.
pub(crate) const GROUP: &str = "atelier-letters";
const TIMEOUT: Duration = Duration::from_secs(15);
/// Above this many offsets a queue is not counted record by record: its length then counts transaction markers too.
const MOST_COUNTED: i64 = 500;

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The client cannot be made.
    #[error(
        "the kafka client cannot be made: {0}; check the kafka properties of the configuration"
    )]
    Client(KafkaError),
    /// What `kafka.security` says does not hold together.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// No answer, or an error.
    #[error("kafka at {bootstrap_servers} cannot be used: {reason}")]
    Unavailable {
        /// Where.
        bootstrap_servers: String,
        /// Why, as far as is known.
        reason: String,
        /// What the client said.
        source: KafkaError,
    },
    /// A stage that is not in the table.
    #[error("there is no stage `{found}`; there are: {known}")]
    UnknownStage {
        /// The name asked for.
        found: String,
        /// Every stage.
        known: String,
    },
    /// No committed record there.
    #[error(
        "there is no record at partition {partition}, offset {offset} of `{topic}`: take a place from the list of dead letters"
    )]
    NotFound {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
}

/// A dead letter with the reason that its headers give.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The stage that gave it up.
    pub stage: String,
    /// The record, as it stands in the dead-letter topic.
    pub record: InRecord,
    /// Stable code, where the headers name one.
    pub code: Option<String>,
    /// The error's type.
    pub reason: String,
    /// The error's text.
    pub message: String,
    /// When the stage gave up.
    pub time: DateTime<Utc>,
    /// The event's id.
    pub event_id: Option<Uuid>,
    /// The event's type.
    pub event_type: Option<String>,
    /// The task.
    pub task_id: Option<Uuid>,
    /// The image.
    pub image_id: Option<Uuid>,
    /// Attempts that were made.
    pub attempts: u32,
    /// How often it was put back already.
    pub replay: u32,
}

impl DeadLetter {
    pub(crate) fn from_record(stage: &str, record: InRecord) -> Self {
        let text = |name: &str| record.header_text(name).map(str::to_owned);
        let uuid = |name: &str| {
            record
                .header_text(name)
                .and_then(|text| Uuid::parse_str(text).ok())
        };
        let count = |name: &str, default| {
            record
                .header_text(name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let time = record
            .header_text(error_header::TIME)
            .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
            .map_or(record.timestamp, |time| time.with_timezone(&Utc));
        Self {
            stage: stage.to_owned(),
            code: text(error_header::CODE),
            reason: text(error_header::EXCEPTION_CLASS).unwrap_or_default(),
            message: text(error_header::EXCEPTION_MESSAGE).unwrap_or_default(),
            time,
            event_id: uuid(header::ID),
            event_type: text(header::TYPE),
            task_id: uuid(header::CORRELATION_ID),
            image_id: uuid(header::SUBJECT),
            attempts: count(error_header::ATTEMPTS, 1),
            replay: count(header::REPLAY, 0),
            record,
        }
    }
}

/// Records that wait before one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageQueue {
    /// The stage.
    pub stage: String,
    /// What it reads, without its retry topic.
    pub input_topics: Vec<String>,
    /// Records that it has not committed yet.
    pub queued: u64,
    /// Records in its retry topic that it has not committed yet.
    pub in_retry: u64,
    /// Records that are kept in its dead-letter topic.
    pub dead_letters: u64,
}

/// Reads dead letters and queue lengths. Blocking: call it off the async threads.
pub struct LetterReader {
    kafka: KafkaOptions,
    table: TopicTable,
    reader: BaseConsumer<QuietEvents>,
    // One client per consumer group; none of them ever joins it.
    groups: HashMap<String, BaseConsumer<QuietEvents>>,
    letters: HashMap<(String, i32), KnownLetters>,
    counted: HashMap<(String, i32), Counted>,
}

/// The offsets of the letters of one partition, and how far it was read.
#[derive(Default)]
struct KnownLetters {
    offsets: VecDeque<i64>,
    next: i64,
}

/// The last count of a range: an idle queue is not read again.
#[derive(Clone, Copy)]
struct Counted {
    from: i64,
    to: i64,
    records: u64,
}

impl LetterReader {
    /// A reader of the brokers of `kafka`; connects at the first question.
    ///
    /// # Errors
    /// [`LetterError::Client`].
    pub fn new(kafka: &KafkaOptions, table: &TopicTable) -> Result<Self, LetterError> {
        let reader = consumer(kafka, GROUP)?;
        let groups = table
            .stages()
            .iter()
            .map(|stage| Ok((stage.clone(), consumer(kafka, &group_id(stage))?)))
            .collect::<Result<_, LetterError>>()?;
        let (kafka, table) = (kafka.clone(), table.clone());
        Ok(Self {
            kafka,
            table,
            reader,
            groups,
            letters: HashMap::new(),
            counted: HashMap::new(),
        })
    }

    /// Dead letters of `stage`, or of every stage, newest first, no more than `limit`.
    ///
    /// # Errors
    /// [`LetterError`].
    pub fn list(&self, stage: Option<&str>, limit: usize) -> Result<Vec<DeadLetter>, LetterError> {
        let stages = match stage {
            Some(stage) => vec![self.known(stage)?],
            None => self.table.stages().iter().map(String::as_str).collect(),
        };
        let mut letters = Vec::new();
        for stage in stages {
            let topic = dead_letter_topic(stage);
            for (partition, low, high) in self.watermarks(&topic)? {
                // Each letter has a transaction marker beside it, so twice the limit holds that many.
                let from =
                    low.max(high.saturating_sub(2 * i64::try_from(limit).unwrap_or(i64::MAX / 4)));
                self.read(&topic, partition, from, high, |record| {
                    letters.push(DeadLetter::from_record(stage, record));
                })?;
            }
        }
        letters.sort_by(|a, b| {
            b.time
                .cmp(&a.time)
                .then(b.record.offset.cmp(&a.record.offset))
        });
        letters.truncate(limit);
        Ok(letters)
    }

    /// The dead letter of `stage` at one place.
    ///
    /// # Errors
    /// [`LetterError::NotFound`] where no committed record stands there.
    pub fn get(&self, stage: &str, partition: i32, offset: i64) -> Result<DeadLetter, LetterError> {
        let topic = dead_letter_topic(self.known(stage)?);
        let mut found = None;
        if let Some((_, low, high)) = self
            .watermarks(&topic)?
            .into_iter()
            .find(|(number, ..)| *number == partition)
            && (low..high).contains(&offset)
        {
            self.read(&topic, partition, offset, offset + 1, |record| {
                found = Some(record).filter(|found| found.offset == offset);
            })?;
        }
        let record = found.ok_or(LetterError::NotFound {
            topic,
            partition,
            offset,
        })?;
        Ok(DeadLetter::from_record(stage, record))
    }

    /// Records that wait before each stage, in the order of the pipeline.
    ///
    /// # Errors
    /// [`LetterError`].
    pub fn queues(&mut self) -> Result<Vec<StageQueue>, LetterError> {
        let table = self.table.clone();
        let mut queues = Vec::new();
        for stage in table.stages() {
            let inputs: Vec<&Topic> = table.inputs_of(stage);
            let mut queued = 0;
            for topic in &inputs {
                queued += self.waiting(stage, &topic.name)?;
            }
            queues.push(StageQueue {
                stage: stage.clone(),
                input_topics: inputs.iter().map(|topic| topic.name.clone()).collect(),
                queued,
                in_retry: self.waiting(stage, &retry_topic(stage))?,
                dead_letters: self.count_letters(&dead_letter_topic(stage))?,
            });
        }
        Ok(queues)
    }

    fn known<'a>(&self, stage: &'a str) -> Result<&'a str, LetterError> {
        if self.table.stages().iter().any(|known| known == stage) {
            return Ok(stage);
        }
        Err(LetterError::UnknownStage {
            found: stage.chars().take(80).collect(),
            known: self.table.stages().join(", "),
        })
    }

    /// Records of `topic` that the group of `stage` has not committed.
    fn waiting(&mut self, stage: &str, topic: &str) -> Result<u64, LetterError> {
        let watermarks = self.watermarks(topic)?;
        let mut list = TopicPartitionList::new();
        for (partition, ..) in &watermarks {
            list.add_partition(topic, *partition);
        }
        let Some(group) = self.groups.get(stage) else {
            return Ok(0);
        };
        let committed = group
            .committed_offsets(list, TIMEOUT)
            .map_err(|source| self.unavailable(&format!("consumer group `{stage}`"), source))?;
        let mut waiting = 0;
        for (partition, low, high) in watermarks {
            let from = match committed
                .find_partition(topic, partition)
                .map(|element| element.offset())
            {
                Some(Offset::Offset(offset)) => offset.max(low),
                _ => low,
            };
            waiting += self.count(topic, partition, from, high)?;
        }
        Ok(waiting)
    }

    fn count(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<u64, LetterError> {
        let length = to.saturating_sub(from).max(0);
        if length == 0 || length > MOST_COUNTED {
            return Ok(length.unsigned_abs());
        }
        let place = (topic.to_owned(), partition);
        if let Some(counted) = self
            .counted
            .get(&place)
            .filter(|counted| (counted.from, counted.to) == (from, to))
        {
            return Ok(counted.records);
        }
        let mut records = 0;
        self.read(topic, partition, from, to, |_| records += 1)?;
        self.counted.insert(place, Counted { from, to, records });
        Ok(records)
    }

    fn count_letters(&mut self, topic: &str) -> Result<u64, LetterError> {
        let mut total = 0;
        for (partition, low, high) in self.watermarks(topic)? {
            let place = (topic.to_owned(), partition);
            let mut known = self.letters.remove(&place).unwrap_or_default();
            if high < known.next {
                // The topic was made anew.
                known = KnownLetters::default();
            }
            while known.offsets.front().is_some_and(|offset| *offset < low) {
                known.offsets.pop_front();
            }
            let from = known.next.max(low);
            if from < high {
                self.read(topic, partition, from, high, |record| {
                    known.offsets.push_back(record.offset);
                })?;
                known.next = high;
            }
            total += known.offsets.len() as u64;
            self.letters.insert(place, known);
        }
        Ok(total)
    }

    /// Partition, low and high watermark of every partition.
    fn watermarks(&self, topic: &str) -> Result<Vec<(i32, i64, i64)>, LetterError> {
        let metadata = self
            .reader
            .fetch_metadata(Some(topic), TIMEOUT)
            .map_err(|source| self.unavailable(&format!("topic `{topic}`"), source))?;
        let partitions = metadata
            .topics()
            .first()
            .map_or(&[][..], |topic| topic.partitions());
        partitions
            .iter()
            .map(|partition| {
                let (low, high) = self
                    .reader
                    .fetch_watermarks(topic, partition.id(), TIMEOUT)
                    .map_err(|source| self.unavailable(&format!("topic `{topic}`"), source))?;
                Ok((partition.id(), low, high))
            })
            .collect()
    }

    /// Every committed record between `from` and `to` of one partition.
    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
        mut visit: impl FnMut(InRecord),
    ) -> Result<(), LetterError> {
        if from >= to {
            return Ok(());
        }
        let unavailable = |source| self.unavailable(&format!("topic `{topic}`"), source);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))
            .map_err(unavailable)?;
        self.reader.assign(&list).map_err(unavailable)?;
        let name: Arc<str> = topic.into();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.reader.poll(Duration::from_millis(100)) {
                // What was fetched for an earlier assignment may still come.
                Some(Ok(message))
                    if message.topic() != topic || message.partition() != partition => {}
                Some(Ok(message)) if message.offset() >= to => break,
                Some(Ok(message)) => {
                    let last = message.offset() + 1 >= to;
                    visit(record_of(&message, Arc::clone(&name)));
                    if last {
                        break;
                    }
                }
                // Only markers are left before the end.
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => break,
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(source)) if Instant::now() > deadline => return Err(unavailable(source)),
                Some(Err(_)) => {}
                None if Instant::now() > deadline => {
                    return Err(unavailable(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::OperationTimedOut,
                    )));
                }
                None => {}
            }
        }
        self.reader.unassign().map_err(unavailable)
    }

    /// What became of a question about `resource`, such as ``topic `image-tasks` ``.
    fn unavailable(&self, resource: &str, source: KafkaError) -> LetterError {
        let is_forbidden = matches!(
            source.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
            )
        );
        let forbidden = is_forbidden.then(|| self.reader.context().trouble.forbidden(resource));
        LetterError::Unavailable {
            bootstrap_servers: self.kafka.bootstrap_servers.clone(),
            reason: forbidden
                .or_else(|| heard(&self.reader))
                .unwrap_or_else(|| source.to_string()),
            source,
        }
    }
}

fn consumer(kafka: &KafkaOptions, group: &str) -> Result<BaseConsumer<QuietEvents>, LetterError> {
    base_config(kafka, "atelier-letters")?
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .create_with_context(QuietEvents::of(kafka))
        .map_err(LetterError::Client)
}
