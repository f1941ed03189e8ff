//! Who reads and writes which topic, from the one table of topics.

use std::sync::LazyLock;

use serde::Deserialize;

static SOURCE: &str = include_str!("../../kafka/topics.toml");

/// The way from topic to topic.
#[derive(Debug)]
pub struct Pipeline {
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Every topic there is.
    pub topics: Vec<String>,
}

/// A stage and its topics.
#[derive(Debug)]
pub struct Stage {
    /// Its name, which is also its consumer group.
    pub name: String,
    /// What it reads, its retry topic included.
    pub inputs: Vec<String>,
    /// What it writes, without what the runtime writes for every stage.
    pub outputs: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    stages: Names,
    topic: Vec<Row>,
}

#[derive(Deserialize)]
struct Names {
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    from: Vec<String>,
    to: Vec<String>,
}

impl Pipeline {
    /// The table of `infra/kafka/topics.toml`, which is compiled in.
    ///
    /// # Panics
    /// Where it does not parse, which this crate's tests rule out.
    pub fn get() -> &'static Self {
        static PIPELINE: LazyLock<Pipeline> = LazyLock::new(|| match toml::from_str(SOURCE) {
            Ok(file) => Pipeline::of(file),
            Err(error) => panic!("infra/kafka/topics.toml: {error}"),
        });
        &PIPELINE
    }

    fn of(file: File) -> Self {
        let named = |rows: &[&Row]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        let stages: Vec<Stage> = file
            .stages
            .names
            .iter()
            .map(|name| {
                let read: Vec<&Row> = file
                    .topic
                    .iter()
                    .filter(|row| row.to.contains(name))
                    .collect();
                let written: Vec<&Row> = file
                    .topic
                    .iter()
                    .filter(|row| row.from.contains(name) && row.name != TASK_EVENTS)
                    .collect();
                let mut inputs = named(&read);
                inputs.push(retry_topic(name));
                Stage {
                    name: name.clone(),
                    inputs,
                    outputs: named(&written),
                }
            })
            .collect();
        let mut topics: Vec<String> = file.topic.into_iter().map(|row| row.name).collect();
        for stage in &stages {
            topics.push(retry_topic(&stage.name));
            topics.push(dead_letter_topic(&stage.name));
        }
        Self { stages, topics }
    }
}

/// Where every stage says what it did.
pub const TASK_EVENTS: &str = "task-events";
/// Where cancels are asked for.
pub const TASK_CONTROL: &str = "task-control";

/// The retry topic of a stage.
pub fn retry_topic(stage: &str) -> String {
    format!("{stage}-retry")
}

/// The dead-letter topic of a stage.
pub fn dead_letter_topic(stage: &str) -> String {
    format!("{stage}-dead-letters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_reads_what_the_table_says() {
        let stages = &Pipeline::get().stages;
        let persist = stages.iter().find(|stage| stage.name == "persist").unwrap();
        assert_eq!(
            persist.inputs,
            [
                "task-control",
                "images-composed",
                "task-events",
                "persist-retry"
            ]
        );
        assert_eq!(persist.outputs, ["images-persisted"]);
        assert!(stages.iter().all(|stage| stage.inputs.len() >= 2));
    }
}
