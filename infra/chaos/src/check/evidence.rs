//! What the checker knows: everything that stands on the topics and in the stores once the system is quiet.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A task that a client was told is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The task.
    pub task: Uuid,
    /// Its pictures in order; none where the event itself could not be read.
    pub pictures: Vec<Picture>,
}

/// What a picture is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Picture {
    /// It has a result, unless its task is cancelled.
    Good,
    /// It has a reason instead.
    Broken,
}

/// A committed record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Headers as text.
    pub headers: BTreeMap<String, String>,
    /// The value as JSON; null where it is none.
    pub value: Value,
}

impl Record {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The event's id.
    pub fn id(&self) -> Option<&str> {
        self.header("ce_id")
    }

    /// The event's type.
    pub fn event_type(&self) -> &str {
        self.header("ce_type").unwrap_or_default()
    }

    /// The id of the event that caused this one.
    pub fn cause(&self) -> Option<&str> {
        self.header("ce_causationid")
    }

    /// The stage that made it.
    pub fn stage(&self) -> Option<&str> {
        self.header("ce_source")?.strip_prefix("/atelier/")
    }

    /// Which attempt it stands for, from 1.
    pub fn attempt(&self) -> u32 {
        self.header("ce_attempt")
            .and_then(|text| text.parse().ok())
            .unwrap_or(1)
    }

    /// The task that it speaks of: what the body says counts more than the header.
    pub fn task(&self) -> Option<Uuid> {
        let named = self.value["taskId"].as_str();
        let of_image = self.value["image"]["taskId"].as_str();
        let text = named.or(of_image).or(self.header("ce_correlationid"))?;
        text.parse().ok()
    }

    /// Where it stands, for people.
    pub fn place(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// How far a partition can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What a reader of committed records gets to.
    pub last_stable_offset: i64,
    /// What there is.
    pub high_watermark: i64,
}

/// A task in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerTask {
    /// The task.
    pub task: Uuid,
    /// Its status.
    pub status: String,
    /// How many pictures it has.
    pub image_count: u64,
}

/// A picture in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerImage {
    /// Its task.
    pub task: Uuid,
    /// Its place in the task.
    pub index: u64,
    /// Its status.
    pub status: String,
    /// Its result; null where it has none.
    pub result: Value,
}

/// The ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Its tasks.
    pub tasks: Vec<LedgerTask>,
    /// Their pictures.
    pub images: Vec<LedgerImage>,
    /// The types of the events that followed from each event that was applied, by its id.
    pub inbox: BTreeMap<String, Vec<String>>,
    /// Tasks with rows of the outbox that are not marked as sent.
    pub unsent: Vec<Uuid>,
}

/// A blob as it lies in its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What clients were told.
    pub promises: Vec<Promise>,
    /// Every committed record.
    pub records: Vec<Record>,
    /// Every partition.
    pub watermarks: Vec<Watermarks>,
    /// The committed offset of each group (stage), topic and partition.
    pub read_up_to: BTreeMap<(String, String, i32), i64>,
    /// The ledger.
    pub ledger: Ledger,
    /// The blobs that topics and ledger name, as far as they are there.
    pub blobs: BTreeMap<String, StoredBlob>,
}

impl Evidence {
    /// Events of one type.
    pub fn events<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| {
            record.event_type() == event_type && !is_of_the_runtime(&record.topic)
        })
    }

    /// Tasks that somebody asked to stop.
    pub fn cancelled(&self) -> BTreeSet<Uuid> {
        self.events("atelier.task.cancel-requested.v1")
            .filter_map(Record::task)
            .collect()
    }

    /// Every task that a client, the log or the ledger knows of.
    pub fn tasks(&self) -> BTreeSet<Uuid> {
        let promised = self.promises.iter().map(|promise| promise.task);
        let submitted = self
            .events("atelier.task.submitted.v1")
            .filter_map(Record::task);
        let known = self.ledger.tasks.iter().map(|task| task.task);
        promised.chain(submitted).chain(known).collect()
    }
}

/// Whether a topic holds copies of inputs: what is to be tried again, or given up.
pub fn is_of_the_runtime(topic: &str) -> bool {
    topic.ends_with("-retry") || topic.ends_with("-dead-letters")
}

/// The blobs that a result names, with their lengths.
pub fn blobs_of(result: &Value) -> impl Iterator<Item = (&str, u64)> {
    ["original", "result", "thumbnail", "alpha"]
        .into_iter()
        .filter_map(|role| {
            let blob = &result[role];
            Some((blob["key"].as_str()?, blob["bytes"].as_u64()?))
        })
}
