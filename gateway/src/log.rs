//! What the gateway needs of the log, as ports: [`EventLog`] to publish and to read `task-events`, [`Line`] to see how
//! the stages stand. [`crate::kafka`] speaks to a broker; tests use one in memory.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use atelier_stores::Ledger;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Why the log could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The broker cannot be reached or used now.
    #[error("the log at {place} cannot be used: {reason}")]
    Unavailable {
        /// The broker's address.
        place: String,
        /// What the client said.
        reason: String,
    },
    /// No record at this place.
    #[error(
        "no record at {topic}, partition {partition}, offset {offset}: take one from /api/v1/dead-letters"
    )]
    NoSuchRecord {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// A record that cannot go back to where it came from.
    #[error(
        "the record at {topic}, partition {partition}, offset {offset} cannot be replayed: {reason}"
    )]
    NotReplayable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// Why.
        reason: String,
    },
}

/// One record of `task-events`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its value.
    pub value: Vec<u8>,
    /// The broker's time.
    pub received: DateTime<Utc>,
}

/// A place in `task-events`: for each partition the offset of the next record. A partition that is not named starts at
/// its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(pub BTreeMap<i32, i64>);

impl Position {
    /// The next offset of `partition`.
    pub fn next(&self, partition: i32) -> i64 {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    /// Notes that the record at `offset` was passed; never goes back.
    pub fn pass(&mut self, partition: i32, offset: i64) {
        let next = self.0.entry(partition).or_insert(0);
        *next = (*next).max(offset + 1);
    }

    /// Cuts every partition to `end`: an id from a log that was since begun anew must not hide its events.
    pub fn cut_to(&mut self, end: &Self) {
        for (partition, next) in &mut self.0 {
            *next = (*next).min(end.next(*partition));
        }
    }

    /// Whether every partition stands where `other`'s does, or further on.
    pub fn reaches(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(partition, next)| self.next(*partition) >= *next)
    }
}

/// On the wire: the last offset passed on each partition, `0-12,1-7`.
impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (partition, next) in self.0.iter().filter(|(_, next)| **next > 0) {
            write!(formatter, "{separator}{partition}-{}", next - 1)?;
            separator = ",";
        }
        Ok(())
    }
}

/// A `Last-Event-ID` that is not one of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an event id of this stream: send the last one that was received, such as 0-12 or 0-12,1-7"
)]
pub struct InvalidEventId(String);

impl FromStr for Position {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidEventId(text.chars().take(80).collect());
        let mut position = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (partition, offset) = part.split_once('-').ok_or_else(invalid)?;
            let partition: u16 = partition.parse().map_err(|_| invalid())?;
            let offset: i64 = offset.parse().map_err(|_| invalid())?;
            // The largest offset must not overflow when the next one is asked for.
            if !(0..i64::MAX).contains(&offset) {
                return Err(invalid());
            }
            position.pass(i32::from(partition), offset);
        }
        Ok(position)
    }
}

/// The log as the gateway uses it.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Publishes what stands in the outbox of `ledger`, until `shutdown`: at once when `wake` rings, else every `poll`. A
    /// row is marked as sent only after the broker has it, so a crash in between publishes it again under the same event
    /// id, which ingest recognises; rows of one task keep their order.
    async fn relay(
        &self,
        ledger: Arc<dyn Ledger>,
        poll: Duration,
        wake: Arc<Notify>,
        shutdown: CancellationToken,
    );

    /// The position behind the last committed record of `task-events`.
    async fn end(&self) -> Result<Position, LogError>;

    /// Every committed record of `task-events` from `from` on, without an end.
    fn tail(&self, from: Position) -> BoxStream<'static, Result<LogRecord, LogError>>;

    /// The committed records of `task-events` between `from` and `to`, on the partitions that `to` names.
    fn read(&self, from: Position, to: Position)
    -> BoxStream<'static, Result<LogRecord, LogError>>;
}

/// How the stages stand, and their dead letters.
#[async_trait]
pub trait Line: Send + Sync {
    /// One row per stage, in the order of the pipeline.
    async fn queues(&self) -> Result<Vec<StageQueues>, LogError>;

    /// Dead letters of `stage`, or of every stage, newest first, no more than `limit`.
    async fn dead_letters(
        &self,
        stage: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, LogError>;

    /// Puts a dead letter back to where it failed; answers with the event's id.
    async fn replay(&self, stage: &str, partition: i32, offset: i64) -> Result<Uuid, LogError>;
}

/// What waits before a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageQueues {
    /// The stage.
    pub name: String,
    /// What it reads.
    pub input_topics: Vec<String>,
    /// Events that it has not read yet.
    pub queued: u64,
    /// Events that wait for another attempt.
    pub in_retry: u64,
    /// Events that it gave up and that are still kept.
    pub dead_letters: u64,
}

/// An event that a stage gave up.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The stage that gave it up.
    pub stage: String,
    /// The dead-letter topic.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was given up.
    pub time: DateTime<Utc>,
    /// Stable code, where the record names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The error's type.
    pub reason: String,
    /// What was wrong.
    pub message: String,
    /// The event, where its headers could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// Its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Uuid>,
    /// The image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<Uuid>,
    /// The attempt that failed last.
    pub attempt: u32,
    /// How often it was replayed.
    pub replay: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let position: Position = "0-12,1-7,2-0,3-9".parse().unwrap();
        assert_eq!(position.next(0), 13);
        assert_eq!(position.next(2), 1);
        assert_eq!(position.next(9), 0);
        assert_eq!(position.to_string(), "0-12,1-7,2-0,3-9");
        assert_eq!("3-41".parse::<Position>().unwrap().to_string(), "3-41");
        assert_eq!("".parse::<Position>().unwrap(), Position::default());
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in [
            "x",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "1--2",
            "99999-1",
            "0-18446744073709551615",
            "0-1,?",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_position_never_goes_back() {
        let mut position = Position::default();
        position.pass(1, 5);
        position.pass(1, 3);
        assert_eq!(position.next(1), 6);
        assert!(position.reaches(&"1-5".parse().unwrap()));
        assert!(!position.reaches(&"1-6".parse().unwrap()));
    }
}
