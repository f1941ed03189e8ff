//! The topic table: one source that creates topics, documents them and feeds AsyncAPI.

use std::sync::LazyLock;

use serde::Deserialize;

static SOURCE: &str = include_str!("../../infra/kafka/topics.toml");

/// The topic that every stage reports to.
pub const TASK_EVENTS: &str = "task-events";
/// Where it is said which tasks are to stop.
pub const TASK_CONTROL: &str = "task-control";
/// The way in.
pub const IMAGE_TASKS: &str = "image-tasks";
/// The way in for what nobody waits for.
pub const IMAGE_TASKS_BULK: &str = "image-tasks-bulk";

/// Every topic there is, with the runtime's own.
#[derive(Clone, Debug)]
pub struct TopicTable {
    topics: Vec<Topic>,
    stages: Vec<String>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What its key is: `task`, `image`, or `input` for the key of the stage's input.
    pub key: String,
    /// Who writes.
    pub from: Vec<String>,
    /// Who reads, in a consumer group that shares the partitions.
    pub to: Vec<String>,
    /// Who reads all of it in every process, without a group.
    pub followed_by: Vec<String>,
    /// Whether it is read only while the queues behind its reader are short: what stands on it is bulk.
    pub held_back: bool,
    /// The event types on it.
    pub events: Vec<String>,
    /// What it is for.
    pub description: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition; the embedded broker has one.
    pub replication_factor: i32,
    /// How long records are kept.
    pub retention_hours: u64,
    /// `delete` or `compact`.
    pub cleanup_policy: String,
    /// The largest record batch.
    pub max_message_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    defaults: Defaults,
    stages: Stages,
    topic: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    partitions: i32,
    replication_factor: i32,
    retention_hours: u64,
    cleanup_policy: String,
    max_message_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stages {
    names: Vec<String>,
    retry_retention_hours: u64,
    dead_letters_retention_hours: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    key: String,
    from: Vec<String>,
    to: Vec<String>,
    #[serde(default)]
    followed_by: Vec<String>,
    #[serde(default)]
    held_back: bool,
    events: Vec<String>,
    description: String,
    partitions: Option<i32>,
    replication_factor: Option<i32>,
    retention_hours: Option<u64>,
    cleanup_policy: Option<String>,
    max_message_bytes: Option<u64>,
}

/// The retry topic of `stage`.
pub fn retry_topic(stage: &str) -> String {
    format!("{stage}-retry")
}

/// The dead-letter topic of `stage`.
pub fn dead_letter_topic(stage: &str) -> String {
    format!("{stage}-dead-letters")
}

impl TopicTable {
    /// The table of `infra/kafka/topics.toml`, which is compiled in.
    ///
    /// # Panics
    /// Where the file does not parse, which this crate's tests rule out for every build.
    pub fn embedded() -> &'static Self {
        static TABLE: LazyLock<TopicTable> = LazyLock::new(|| match TopicTable::parse(SOURCE) {
            Ok(table) => table,
            Err(error) => panic!("infra/kafka/topics.toml: {error}"),
        });
        &TABLE
    }

    /// Parses a table and adds the retry and dead-letter topics of its stages.
    ///
    /// # Errors
    /// What the TOML parser says.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let File {
            defaults,
            stages,
            topic,
        } = toml::from_str(text)?;
        let mut topics: Vec<Topic> = topic
            .into_iter()
            .map(|row| Topic {
                name: row.name,
                key: row.key,
                from: row.from,
                to: row.to,
                followed_by: row.followed_by,
                held_back: row.held_back,
                events: row.events,
                description: row.description,
                partitions: row.partitions.unwrap_or(defaults.partitions),
                replication_factor: row
                    .replication_factor
                    .unwrap_or(defaults.replication_factor),
                retention_hours: row.retention_hours.unwrap_or(defaults.retention_hours),
                cleanup_policy: row
                    .cleanup_policy
                    .unwrap_or_else(|| defaults.cleanup_policy.clone()),
                max_message_bytes: row.max_message_bytes.unwrap_or(defaults.max_message_bytes),
            })
            .collect();
        for stage in &stages.names {
            let inputs = inputs_of(&topics, stage);
            let of_runtime =
                |name: String, to: &[&str], retention_hours, description: &str| Topic {
                    name,
                    key: "input".to_owned(),
                    from: vec![stage.clone()],
                    to: to.iter().map(|reader| (*reader).to_owned()).collect(),
                    followed_by: Vec::new(),
                    held_back: false,
                    events: runtime_events(stage, &inputs),
                    description: description.to_owned(),
                    partitions: defaults.partitions,
                    replication_factor: defaults.replication_factor,
                    retention_hours,
                    cleanup_policy: "delete".to_owned(),
                    max_message_bytes: defaults.max_message_bytes,
                };
            let retry = of_runtime(
                retry_topic(stage),
                &[stage],
                stages.retry_retention_hours,
                "Input that may succeed later, with `ce_attempt` and `ce_notbefore`.",
            );
            let dead = of_runtime(
                dead_letter_topic(stage),
                &["analytics"],
                stages.dead_letters_retention_hours,
                "Input that never will succeed, as it came, with `__connect.errors.*` headers that say why.",
            );
            topics.extend([retry, dead]);
        }
        Ok(Self {
            topics,
            stages: stages.names,
        })
    }

    /// Every topic, in the order of the table.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The topic of that name.
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// The stages, in the order of the pipeline.
    pub fn stages(&self) -> &[String] {
        &self.stages
    }

    /// What `stage` writes, its retry and dead-letter topics included.
    pub fn outputs_of(&self, stage: &str) -> Vec<&Topic> {
        self.topics
            .iter()
            .filter(|topic| topic.from.iter().any(|writer| writer == stage))
            .collect()
    }

    /// What `stage` reads, without its retry topic.
    pub fn inputs_of(&self, stage: &str) -> Vec<&Topic> {
        let retry = retry_topic(stage);
        self.topics
            .iter()
            .filter(|topic| topic.to.iter().any(|reader| reader == stage) && topic.name != retry)
            .collect()
    }

    /// The queues that what `stage` lets through will wait in, one after the other: each a topic and the stage that reads it.
    /// Loops (retries, reports, what a stage leaves for itself) are none.
    pub fn queues_behind(&self, stage: &str) -> Vec<(&Topic, &str)> {
        let mut behind: Vec<(&Topic, &str)> = Vec::new();
        let mut writers = vec![stage];
        while let Some(writer) = writers.pop() {
            for topic in self.outputs_of(writer) {
                let readers = self.stages.iter().map(String::as_str).filter(|reader| {
                    topic.key == "image" && topic.to.iter().any(|name| name == reader)
                });
                for reader in readers {
                    if reader != stage && !behind.contains(&(topic, reader)) {
                        behind.push((topic, reader));
                        writers.push(reader);
                    }
                }
            }
        }
        behind
    }
}

fn inputs_of(topics: &[Topic], stage: &str) -> Vec<Topic> {
    topics
        .iter()
        .filter(|topic| topic.to.iter().any(|reader| reader == stage))
        .cloned()
        .collect()
}

/// The runtime's topics carry the stage's own input; ingest also leaves single images of a task there.
fn runtime_events(stage: &str, inputs: &[Topic]) -> Vec<String> {
    let mut events: Vec<String> = inputs
        .iter()
        .flat_map(|topic| topic.events.clone())
        .collect();
    let requested = "atelier.image.requested.v1";
    if stage == "ingest" && !events.iter().any(|event| event == requested) {
        events.push(requested.to_owned());
    }
    events.dedup();
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;

    #[test]
    fn every_event_stands_on_the_topic_that_the_table_gives_it() {
        let table = TopicTable::embedded();
        for event in Event::catalogue() {
            let topic = table
                .get(event.topic)
                .unwrap_or_else(|| panic!("{} is not in the table", event.topic));
            assert!(
                topic.events.iter().any(|name| name == event.event_type),
                "{} on {}",
                event.event_type,
                event.topic
            );
        }
        for topic in table.topics() {
            for name in &topic.events {
                assert!(
                    Event::catalogue()
                        .iter()
                        .any(|event| event.event_type == name),
                    "{name} has no type"
                );
            }
        }
    }

    #[test]
    fn every_stage_learns_what_is_cancelled_for_as_long_as_its_request_is_kept() {
        let table = TopicTable::embedded();
        let control = table.get(TASK_CONTROL).unwrap();
        for stage in table.stages() {
            assert!(
                control.to.contains(stage) != control.followed_by.contains(stage),
                "{stage} reads `{TASK_CONTROL}` in one way"
            );
        }
        let requests = table.get("image-tasks").unwrap();
        assert_eq!(control.retention_hours, requests.retention_hours);
    }

    #[test]
    fn behind_ingest_are_the_queues_of_every_other_stage_and_behind_persist_none() {
        let table = TopicTable::embedded();
        let names = |stage| -> Vec<(&str, &str)> {
            let queues = table.queues_behind(stage);
            let named = queues
                .into_iter()
                .map(|(topic, reader)| (&*topic.name, reader));
            named.collect()
        };
        assert_eq!(
            names("ingest"),
            [
                ("images-ingested", "preprocess"),
                ("images-preprocessed", "classify"),
                ("images-classified", "matte"),
                ("images-matted", "compose"),
                ("images-composed", "persist"),
            ]
        );
        assert!(names("persist").is_empty());
    }

    #[test]
    fn what_is_held_back_has_one_reader_and_queues_behind_it_to_go_by() {
        let table = TopicTable::embedded();
        let held_back: Vec<&Topic> = table
            .topics()
            .iter()
            .filter(|topic| topic.held_back)
            .collect();
        assert_eq!(held_back.len(), 1);
        assert_eq!(held_back[0].name, IMAGE_TASKS_BULK);
        assert_eq!(held_back[0].to.len(), 1);
        assert!(!table.queues_behind(&held_back[0].to[0]).is_empty());
    }

    #[test]
    fn every_stage_has_inputs_retry_and_dead_letters() {
        let table = TopicTable::embedded();
        for stage in table.stages() {
            assert!(!table.inputs_of(stage).is_empty(), "{stage} reads nothing");
            assert!(table.get(&retry_topic(stage)).is_some());
            assert!(table.get(&dead_letter_topic(stage)).is_some());
        }
    }
}
