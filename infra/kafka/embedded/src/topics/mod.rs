//! The topics of the broker: which there are, their settings, their partitions.
//!
//! Invariant: a topic is served exactly when the journal says that it exists. Its files are made before the journal
//! says so and removed after the journal says that it is gone.

mod config;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use parking_lot::RwLock;
use uuid::Uuid;

pub use config::{Kind, SETTINGS, Setting, TopicConfig, setting};

use crate::durability::{Durability, Syncer};
use crate::error::Refusal;
use crate::log::{Partition, PartitionLog, sync_directory};
use crate::state::{Journal, JournalRecord, TopicState};

/// More partitions than this on one machine are a mistake.
const MAX_PARTITIONS: i32 = 1_000;
const MAX_NAME_BYTES: usize = 249;
const MAX_SHOWN_CHARS: usize = 200;

/// One topic.
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: Uuid,
    config: RwLock<Arc<TopicConfig>>,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

impl Topic {
    /// Its settings.
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    /// All its partitions.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.read().len()).unwrap_or(i32::MAX)
    }

    /// One partition.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions
            .read()
            .get(usize::try_from(index).ok()?)
            .cloned()
    }
}

#[derive(Default)]
struct Table {
    by_name: BTreeMap<String, Arc<Topic>>,
    name_by_id: HashMap<Uuid, String>,
}

/// All topics.
pub struct Topics {
    dir: PathBuf,
    journal: Arc<Journal>,
    syncer: Arc<Syncer>,
    table: RwLock<Table>,
    /// Held by whoever changes which topics there are.
    changing: tokio::sync::Mutex<()>,
}

impl Topics {
    /// Opens every topic that the journal knows and removes what is left of deleted ones.
    pub fn open(dir: PathBuf, journal: Arc<Journal>, syncer: Arc<Syncer>) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let (known, deleted) = journal.read(|state| (state.topics.clone(), state.deleted.clone()));
        let topics = Self {
            dir,
            journal,
            syncer,
            table: RwLock::default(),
            changing: tokio::sync::Mutex::new(()),
        };
        for (id, name) in &deleted {
            topics.purge(name, *id);
        }
        for (name, state) in &known {
            let config = TopicConfig::from_overrides(&state.configs)
                .map_err(|error| io::Error::other(format!("topic {name}: {error}")))?;
            let topic = topics.open_topic(name, state, config, 0..state.partitions)?;
            topics.insert(topic);
        }
        topics.report_strangers()?;
        Ok(topics)
    }

    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.table.read().by_name.get(name).cloned()
    }

    /// The topic of this id.
    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        let table = self.table.read();
        table.by_name.get(table.name_by_id.get(&id)?).cloned()
    }

    /// One partition of the topic of this name.
    pub fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.table.read().by_name.get(topic)?.partition(index)
    }

    /// All topics in the order of their names.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.table.read().by_name.values().cloned().collect()
    }

    /// Checks what [`Topics::create`] would refuse.
    pub fn check_new(
        &self,
        name: &str,
        partitions: i32,
        configs: &BTreeMap<String, String>,
    ) -> Result<TopicConfig, Refusal> {
        check_name(name)?;
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let message = format!("a topic has 1 to {MAX_PARTITIONS} partitions, not {partitions}");
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        if self.get(name).is_some() {
            return Err(Refusal::new(
                ResponseError::TopicAlreadyExists,
                format!("topic {name:?} exists already"),
            ));
        }
        TopicConfig::from_overrides(configs)
            .map_err(|error| Refusal::new(ResponseError::InvalidConfig, error.to_string()))
    }

    /// Creates a topic; when this returns it outlives what an acknowledgement outlives.
    pub async fn create(
        &self,
        name: &str,
        partitions: i32,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, Refusal> {
        let _changing = self.changing.lock().await;
        let config = self.check_new(name, partitions, &configs)?;
        let state = TopicState {
            id: Uuid::new_v4(),
            partitions,
            configs,
            log_starts: BTreeMap::new(),
        };
        let id = state.id;
        let topic = match self.open_topic(name, &state, config, 0..partitions) {
            Ok(topic) => topic,
            Err(error) => {
                self.remove_files(name, id);
                return Err(storage(&error));
            }
        };
        let record = JournalRecord::TopicCreated {
            name: name.to_owned(),
            topic: state,
        };
        if let Err(error) = self.journal.commit(&self.syncer, record).await {
            self.remove_files(name, id);
            return Err(error.into());
        }
        tracing::info!(topic = name, partitions, "topic created");
        Ok(self.insert(topic))
    }

    /// Deletes a topic and its records.
    pub async fn delete(&self, name: &str) -> Result<(), Refusal> {
        let _changing = self.changing.lock().await;
        let topic = self
            .get(name)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        let record = JournalRecord::TopicDeleted {
            name: name.to_owned(),
            id: topic.id,
        };
        self.journal.commit(&self.syncer, record).await?;
        {
            let mut table = self.table.write();
            table.by_name.remove(name);
            table.name_by_id.remove(&topic.id);
        }
        for partition in topic.partitions() {
            partition.wake_watchers();
        }
        self.purge(name, topic.id);
        tracing::info!(topic = name, "topic deleted");
        Ok(())
    }

    /// Gives a topic more partitions.
    pub async fn grow(&self, name: &str, count: i32, validate_only: bool) -> Result<(), Refusal> {
        let _changing = self.changing.lock().await;
        let topic = self
            .get(name)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        let present = topic.partition_count();
        if count <= present || count > MAX_PARTITIONS {
            let message = format!(
                "topic {name:?} has {present} partitions; ask for more, up to {MAX_PARTITIONS}, not {count}"
            );
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        if validate_only {
            return Ok(());
        }
        let state = self.journal.read(|state| state.topics.get(name).cloned());
        let state = state.ok_or(ResponseError::UnknownTopicOrPartition)?;
        let config = TopicConfig::clone(&topic.config());
        let grown = self
            .open_topic(name, &state, config, present..count)
            .map_err(|error| storage(&error))?;
        let record = JournalRecord::PartitionsCreated {
            name: name.to_owned(),
            partitions: count,
        };
        self.journal.commit(&self.syncer, record).await?;
        topic.partitions.write().extend(grown.partitions());
        Ok(())
    }

    /// Replaces the settings that a topic overrides, as `change` makes them from the present ones.
    pub async fn configure(
        &self,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal>,
    ) -> Result<(), Refusal> {
        let _changing = self.changing.lock().await;
        let topic = self
            .get(name)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        let configs = change(self.overrides(name))?;
        let config = TopicConfig::from_overrides(&configs)
            .map_err(|error| Refusal::new(ResponseError::InvalidConfig, error.to_string()))?;
        if validate_only {
            return Ok(());
        }
        let record = JournalRecord::TopicConfigured {
            name: name.to_owned(),
            configs,
        };
        self.journal.commit(&self.syncer, record).await?;
        let config = Arc::new(config);
        *topic.config.write() = Arc::clone(&config);
        for partition in topic.partitions() {
            partition.log().set_config(Arc::clone(&config));
        }
        Ok(())
    }

    /// The settings in which a topic differs from the defaults.
    pub fn overrides(&self, name: &str) -> BTreeMap<String, String> {
        self.journal
            .read(|state| state.topics.get(name).map(|topic| topic.configs.clone()))
            .unwrap_or_default()
    }

    /// Writes what makes the next start quick. Nothing is appended afterwards.
    pub fn close(&self) {
        for partition in self.all().iter().flat_map(|topic| topic.partitions()) {
            if let Err(error) = partition.log().close() {
                tracing::warn!(topic = partition.topic, index = partition.index, %error, "partition not closed cleanly");
            }
        }
    }

    fn insert(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut table = self.table.write();
        table.name_by_id.insert(topic.id, topic.name.clone());
        table.by_name.insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    fn open_topic(
        &self,
        name: &str,
        state: &TopicState,
        config: TopicConfig,
        indexes: std::ops::Range<i32>,
    ) -> io::Result<Topic> {
        let config = Arc::new(config);
        let fsync = self.syncer.mode() == Durability::Fsync;
        let dir = self.topic_dir(name, state.id);
        let mut partitions = Vec::new();
        for index in indexes {
            let log_start = state.log_starts.get(&index).copied().unwrap_or(0);
            let log = PartitionLog::open(
                &dir.join(index.to_string()),
                Arc::clone(&config),
                fsync,
                log_start,
            )?;
            partitions.push(Arc::new(Partition::new(name.to_owned(), index, log)));
        }
        if fsync {
            sync_directory(&dir)?;
            sync_directory(&self.dir)?;
        }
        Ok(Topic {
            name: name.to_owned(),
            id: state.id,
            config: RwLock::new(config),
            partitions: RwLock::new(partitions),
        })
    }

    fn topic_dir(&self, name: &str, id: Uuid) -> PathBuf {
        // A file name has 255 bytes at most; the id alone tells topics apart.
        let shown: String = name.chars().take(MAX_SHOWN_CHARS).collect();
        self.dir.join(format!("{shown}.{}", id.simple()))
    }

    fn remove_files(&self, name: &str, id: Uuid) -> bool {
        let dir = self.topic_dir(name, id);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(dir = %dir.display(), %error, "files of a topic not removed; the next start tries again");
                false
            }
            _ => true,
        }
    }

    fn purge(&self, name: &str, id: Uuid) {
        if self.remove_files(name, id)
            && let Err(error) = self.journal.append(JournalRecord::TopicPurged { id })
        {
            tracing::warn!(topic = name, %error, "removal of a topic's files not recorded; the next start does it again");
        }
    }

    /// Folders that no topic of the journal explains are left alone and named.
    fn report_strangers(&self) -> io::Result<()> {
        let known: Vec<PathBuf> = self
            .all()
            .iter()
            .map(|topic| self.topic_dir(&topic.name, topic.id))
            .collect();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !known.contains(&path) {
                tracing::warn!(path = %path.display(), "belongs to no topic that the journal knows; left alone");
            }
        }
        Ok(())
    }
}

fn storage(error: &io::Error) -> Refusal {
    Refusal::new(
        ResponseError::KafkaStorageError,
        format!("the topic's files could not be made: {error}"),
    )
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fine = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name != "."
        && name != ".."
        && name.bytes().all(legal);
    if fine {
        return Ok(());
    }
    let message = format!(
        "topic name {name:?} is not allowed: use up to {MAX_NAME_BYTES} letters, digits, dots, dashes and underscores"
    );
    Err(Refusal::new(ResponseError::InvalidTopicException, message))
}
