//! The topic table on any broker: what differs, and making it so. Nothing is ever deleted.

use std::collections::BTreeMap;

use atelier_schemas::{Topic, TopicTable};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions,
        NewTopic, ResourceSpecifier, TopicReplication,
    },
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{
    kafka::client::base_config,
    log_access::{ANSWER_TIMEOUT, LogAccessError, LogReader, QuietEvents, blocking, failed},
    options::KafkaOptions,
};

mod open;
mod shapes;

pub use open::OpenTransaction;
use shapes::{Shape, Shapes};

/// The name that it reads offsets as.
pub(crate) const GROUP: &str = "atelier-admin";

/// One thing that differs from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicChange {
    /// The topic is missing.
    Create(Topic),
    /// It has fewer partitions than the table says.
    AddPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        from: i32,
        /// How many it is to have.
        to: i32,
    },
    /// A setting differs.
    SetConfig {
        /// The topic.
        topic: String,
        /// Kafka's name of the setting.
        name: String,
        /// What it is.
        from: Option<String>,
        /// What it is to be.
        to: String,
    },
    /// It has more partitions than the table says. Kafka cannot take partitions away: only told, never applied.
    SurplusPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: i32,
        /// What the table says.
        expected: i32,
    },
    /// It has fewer copies than `kafka.replication_factor`. Only told: moving copies is the brokers' own tool's work.
    MissingCopies {
        /// The topic.
        topic: String,
        /// How many it has.
        found: i32,
        /// What is asked for.
        expected: i32,
    },
}

impl TopicChange {
    /// Whether applying the plan does something about it.
    pub fn is_applicable(&self) -> bool {
        !matches!(
            self,
            Self::SurplusPartitions { .. } | Self::MissingCopies { .. }
        )
    }
}

impl std::fmt::Display for TopicChange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Create(topic) => write!(
                formatter,
                "create {} with {} partitions",
                topic.name, topic.partitions
            ),
            Self::AddPartitions { topic, from, to } => {
                write!(formatter, "add partitions to {topic}: {from} to {to}")
            }
            Self::SetConfig {
                topic,
                name,
                from,
                to,
            } => {
                let from = from.as_deref().unwrap_or("unset");
                write!(formatter, "set {name} of {topic}: {from} to {to}")
            }
            Self::SurplusPartitions {
                topic,
                found,
                expected,
            } => {
                write!(
                    formatter,
                    "{topic} has {found} partitions, the table says {expected}; partitions cannot be taken away"
                )
            }
            Self::MissingCopies {
                topic,
                found,
                expected,
            } => {
                write!(
                    formatter,
                    "{topic} has {found} copies, kafka.replication_factor says {expected}; move it with kafka-reassign-partitions.sh"
                )
            }
        }
    }
}

/// A topic as it is on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub name: String,
    /// Its partitions; 0 where it is missing.
    pub partitions: i32,
    /// By partition, the first offset and the one behind the last committed record.
    pub offsets: BTreeMap<i32, (i64, i64)>,
    /// The settings that the table speaks of.
    pub configs: BTreeMap<String, String>,
}

/// The topics of one log.
pub struct TopicAdmin {
    client: AdminClient<QuietEvents>,
    kafka: KafkaOptions,
}

impl TopicAdmin {
    /// Administers the log at `kafka`. It does not wait for the broker.
    ///
    /// # Errors
    /// Where the properties make no client.
    pub fn new(kafka: &KafkaOptions) -> Result<Self, LogAccessError> {
        let client = base_config(kafka, GROUP)?
            .create_with_context(QuietEvents::of(kafka))
            .map_err(|source| failed("making an admin client", kafka, source))?;
        Ok(Self {
            client,
            kafka: kafka.clone(),
        })
    }

    /// How many brokers there are.
    ///
    /// # Errors
    /// [`LogAccessError`] where none can be asked.
    pub async fn brokers(&self) -> Result<usize, LogAccessError> {
        let kafka = self.kafka.clone();
        blocking(move || Ok(shapes::ask(&kafka, &[])?.brokers)).await
    }

    /// What differs from the table, in its order.
    ///
    /// # Errors
    /// [`LogAccessError`] where the broker cannot be asked.
    pub async fn plan(&self, table: &TopicTable) -> Result<Vec<TopicChange>, LogAccessError> {
        let shapes = self.shapes(table).await?.topics;
        let there: Vec<&str> = table
            .topics()
            .iter()
            .map(|topic| topic.name.as_str())
            .filter(|name| shapes.contains_key(*name))
            .collect();
        let configs = self.configs(&there).await?;
        let mut changes = Vec::new();
        for topic in table.topics() {
            let Some(Shape { partitions, copies }) = shapes.get(&topic.name).copied() else {
                changes.push(TopicChange::Create(topic.clone()));
                continue;
            };
            let name = topic.name.clone();
            let expected = self.copies_of(topic);
            if copies < expected {
                changes.push(TopicChange::MissingCopies {
                    topic: name.clone(),
                    found: copies,
                    expected,
                });
            }
            match partitions.cmp(&topic.partitions) {
                std::cmp::Ordering::Less => changes.push(TopicChange::AddPartitions {
                    topic: name,
                    from: partitions,
                    to: topic.partitions,
                }),
                std::cmp::Ordering::Greater => {
                    changes.push(TopicChange::SurplusPartitions {
                        topic: name,
                        found: partitions,
                        expected: topic.partitions,
                    });
                }
                std::cmp::Ordering::Equal => {}
            }
            let actual = configs.get(&topic.name);
            for (name, to) in self.configs_of(topic) {
                let from = actual
                    .and_then(|resource| resource.get(name))
                    .and_then(|entry| entry.value.clone());
                if from.as_ref() != Some(&to) {
                    changes.push(TopicChange::SetConfig {
                        topic: topic.name.clone(),
                        name: name.to_owned(),
                        from,
                        to,
                    });
                }
            }
        }
        Ok(changes)
    }

    /// Makes the log as the table says; the changes that were made. Running it twice changes nothing the second time.
    ///
    /// # Errors
    /// [`LogAccessError`] at the first change that the broker refuses.
    pub async fn apply(&self, table: &TopicTable) -> Result<Vec<TopicChange>, LogAccessError> {
        let changes: Vec<TopicChange> = self
            .plan(table)
            .await?
            .into_iter()
            .filter(TopicChange::is_applicable)
            .collect();
        self.create(&changes).await?;
        self.add_partitions(&changes).await?;
        self.set_configs(&changes).await?;
        Ok(changes)
    }

    /// Every topic of the table as it is on the broker.
    ///
    /// # Errors
    /// [`LogAccessError`] where the broker cannot be asked.
    pub async fn describe(&self, table: &TopicTable) -> Result<Vec<TopicState>, LogAccessError> {
        let shapes = self.shapes(table).await?.topics;
        let there: Vec<&str> = table
            .topics()
            .iter()
            .map(|topic| topic.name.as_str())
            .filter(|name| shapes.contains_key(*name))
            .collect();
        let configs = self.configs(&there).await?;
        let offsets = self
            .offsets(there.iter().map(|name| (*name).to_owned()).collect())
            .await?;
        let state = |topic: &Topic| {
            let known = |name: &str| {
                configs
                    .get(&topic.name)
                    .and_then(|resource| resource.get(name))
                    .and_then(|entry| entry.value.clone())
            };
            TopicState {
                name: topic.name.clone(),
                partitions: shapes.get(&topic.name).map_or(0, |shape| shape.partitions),
                offsets: offsets.get(&topic.name).cloned().unwrap_or_default(),
                configs: self
                    .configs_of(topic)
                    .into_iter()
                    .filter_map(|(name, _)| known(name).map(|value| (name.to_owned(), value)))
                    .collect(),
            }
        };
        Ok(table.topics().iter().map(state).collect())
    }

    fn copies_of(&self, topic: &Topic) -> i32 {
        self.kafka
            .replication_factor
            .unwrap_or(topic.replication_factor)
    }

    async fn shapes(&self, table: &TopicTable) -> Result<Shapes, LogAccessError> {
        let kafka = self.kafka.clone();
        let wanted: Vec<String> = table
            .topics()
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        blocking(move || shapes::ask(&kafka, &wanted)).await
    }

    async fn offsets(
        &self,
        topics: Vec<String>,
    ) -> Result<BTreeMap<String, BTreeMap<i32, (i64, i64)>>, LogAccessError> {
        let kafka = self.kafka.clone();
        blocking(move || {
            let reader = LogReader::connect(&kafka, GROUP)?;
            let mut all = BTreeMap::new();
            for topic in topics {
                let (first, behind_last) = (reader.beginnings(&topic)?, reader.ends(&topic)?);
                let both = first.iter().map(|(partition, first)| {
                    (
                        *partition,
                        (
                            *first,
                            behind_last.get(partition).copied().unwrap_or(*first),
                        ),
                    )
                });
                let both = both.collect();
                all.insert(topic, both);
            }
            Ok(all)
        })
        .await
    }

    async fn configs(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, ConfigResource>, LogAccessError> {
        let mut configs = BTreeMap::new();
        if topics.is_empty() {
            return Ok(configs);
        }
        let specifiers: Vec<ResourceSpecifier<'_>> = topics
            .iter()
            .map(|topic| ResourceSpecifier::Topic(topic))
            .collect();
        let answers = self
            .client
            .describe_configs(&specifiers, &options())
            .await
            .map_err(|source| failed("asking for the settings of topics", &self.kafka, source))?;
        for (topic, answer) in topics.iter().zip(answers) {
            let resource =
                answer.map_err(|code| self.refused("asking for the settings of topics", code))?;
            configs.insert((*topic).to_owned(), resource);
        }
        Ok(configs)
    }

    async fn create(&self, changes: &[TopicChange]) -> Result<(), LogAccessError> {
        let missing: Vec<&Topic> = changes
            .iter()
            .filter_map(|change| {
                if let TopicChange::Create(topic) = change {
                    Some(topic)
                } else {
                    None
                }
            })
            .collect();
        let configs: Vec<Vec<(&str, String)>> =
            missing.iter().map(|topic| self.configs_of(topic)).collect();
        let new: Vec<NewTopic<'_>> = missing
            .iter()
            .zip(&configs)
            .map(|(topic, configs)| {
                let new = NewTopic::new(
                    &topic.name,
                    topic.partitions,
                    TopicReplication::Fixed(self.copies_of(topic)),
                );
                configs
                    .iter()
                    .fold(new, |new, (name, value)| new.set(name, value))
            })
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let results = self
            .client
            .create_topics(&new, &options())
            .await
            .map_err(|source| failed("creating topics", &self.kafka, source))?;
        for result in results {
            match result {
                // Somebody else applied the same table at the same moment.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(self.refused("creating topics", code)),
            }
        }
        Ok(())
    }

    async fn add_partitions(&self, changes: &[TopicChange]) -> Result<(), LogAccessError> {
        let new: Vec<NewPartitions<'_>> = changes
            .iter()
            .filter_map(|change| match change {
                TopicChange::AddPartitions { topic, to, .. } => {
                    Some(NewPartitions::new(topic, usize::try_from(*to).unwrap_or(0)))
                }
                TopicChange::Create(_)
                | TopicChange::SetConfig { .. }
                | TopicChange::SurplusPartitions { .. }
                | TopicChange::MissingCopies { .. } => None,
            })
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let results = self
            .client
            .create_partitions(&new, &options())
            .await
            .map_err(|source| failed("adding partitions", &self.kafka, source))?;
        results.into_iter().try_for_each(|result| {
            result
                .map(drop)
                .map_err(|(_, code)| self.refused("adding partitions", code))
        })
    }

    /// Kafka's call replaces every setting of a topic, so those that were set by hand are sent again.
    async fn set_configs(&self, changes: &[TopicChange]) -> Result<(), LogAccessError> {
        let mut wanted: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
        for change in changes {
            if let TopicChange::SetConfig {
                topic, name, to, ..
            } = change
            {
                wanted
                    .entry(topic)
                    .or_default()
                    .insert(name.clone(), to.clone());
            }
        }
        let topics: Vec<&str> = wanted.keys().copied().collect();
        for (topic, resource) in self.configs(&topics).await? {
            let set_before = resource
                .entries
                .into_iter()
                .filter(|entry| entry.source == ConfigSource::DynamicTopic);
            if let Some(settings) = wanted.get_mut(topic.as_str()) {
                for entry in set_before {
                    if let Some(value) = entry.value {
                        settings.entry(entry.name).or_insert(value);
                    }
                }
            }
        }
        let alterations: Vec<AlterConfig<'_>> = wanted
            .iter()
            .map(|(topic, settings)| {
                let alteration = AlterConfig::new(ResourceSpecifier::Topic(topic));
                settings
                    .iter()
                    .fold(alteration, |alteration, (name, value)| {
                        alteration.set(name, value)
                    })
            })
            .collect();
        if alterations.is_empty() {
            return Ok(());
        }
        let results = self
            .client
            .alter_configs(&alterations, &options())
            .await
            .map_err(|source| failed("changing settings", &self.kafka, source))?;
        results.into_iter().try_for_each(|result| {
            result
                .map(drop)
                .map_err(|(_, code)| self.refused("changing settings", code))
        })
    }

    /// The table's row, and what is set for all topics, in Kafka's names.
    fn configs_of(&self, topic: &Topic) -> Vec<(&'static str, String)> {
        let mut configs = vec![
            ("cleanup.policy", topic.cleanup_policy.clone()),
            (
                "retention.ms",
                (topic.retention_hours * 3_600_000).to_string(),
            ),
            ("max.message.bytes", topic.max_message_bytes.to_string()),
        ];
        if let Some(copies) = self.kafka.min_insync_replicas {
            configs.push(("min.insync.replicas", copies.to_string()));
        }
        configs
    }

    fn refused(&self, operation: &'static str, code: RDKafkaErrorCode) -> LogAccessError {
        failed(operation, &self.kafka, KafkaError::AdminOp(code))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER_TIMEOUT))
        .operation_timeout(Some(ANSWER_TIMEOUT))
}
