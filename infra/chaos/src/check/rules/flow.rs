//! What goes into a stage comes out of it, once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::Findings;
use crate::{
    check::{Evidence, Fault, Record, Rule, evidence::is_of_the_runtime},
    pipeline::{Pipeline, Stage, TASK_EVENTS, dead_letter_topic, retry_topic},
};

/// The one who writes the ledger; what it took is in the ledger's inbox.
const KEEPER: &str = "persist";
/// The one who takes tasks apart.
const SPLITTER: &str = "ingest";

pub(super) fn no_id_stands_twice(evidence: &Evidence, found: &mut Findings) {
    let mut seen: HashMap<(&str, String), &Record> = HashMap::new();
    for record in &evidence.records {
        let id = record.id().unwrap_or_default();
        // An input that is tried again, or given up, keeps its id: each attempt, and each place it came from, once.
        let identity = if is_of_the_runtime(&record.topic) {
            let of = |name| record.header(name).unwrap_or_default();
            format!(
                "{id} attempt {} from {}/{}@{}",
                record.attempt(),
                of("__connect.errors.topic"),
                of("__connect.errors.partition"),
                of("__connect.errors.offset"),
            )
        } else if id.is_empty() {
            continue;
        } else {
            id.to_owned()
        };
        if let Some(first) = seen.insert((&record.topic, identity), record) {
            let text = format!(
                "event {id} ({}) stands at {} and at {}",
                record.event_type(),
                first.place(),
                record.place()
            );
            found.add(Rule::NoIdTwice, Fault::Doubled, record.task(), text);
        }
    }
}

/// What is needed to ask of one input what became of it.
struct Books<'a> {
    /// Records by the event that caused them and the stage that made them.
    caused: HashMap<(&'a str, &'a str), Vec<&'a Record>>,
    /// What stands on a retry topic, by id and attempt.
    retried: HashSet<(&'a str, &'a str, u32)>,
    /// Where the dead letters of each stage came from.
    dead: HashSet<(&'a str, String)>,
    cancelled: BTreeSet<Uuid>,
    inbox: &'a BTreeMap<String, Vec<String>>,
}

pub(super) fn nothing_is_dropped(evidence: &Evidence, pipeline: &Pipeline, found: &mut Findings) {
    let books = Books::of(evidence);
    for stage in &pipeline.stages {
        for record in &evidence.records {
            if !stage.inputs.contains(&record.topic) {
                continue;
            }
            let place = (stage.name.clone(), record.topic.clone(), record.partition);
            let read_up_to = evidence.read_up_to.get(&place).copied().unwrap_or_default();
            let task = record.task();
            let what = format!("{} ({})", record.place(), record.event_type());
            if record.offset >= read_up_to {
                let text = format!("{what} was not read by {}", stage.name);
                found.add(Rule::NothingDropped, Fault::Lost, task, text);
                continue;
            }
            let ways = books.ways_out(stage, record);
            if ways.is_empty() && !books.may_leave_nothing(stage, record) {
                let text = format!("{what} went into {} and nothing came out", stage.name);
                found.add(Rule::NothingDropped, Fault::Lost, task, text);
            } else if ways.len() > 1 {
                let text = format!("{what} left {} in several ways: {ways:?}", stage.name);
                found.add(Rule::NothingDropped, Fault::Doubled, task, text);
            }
        }
    }
}

impl<'a> Books<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let mut books = Self {
            caused: HashMap::new(),
            retried: HashSet::new(),
            dead: HashSet::new(),
            cancelled: evidence.cancelled(),
            inbox: &evidence.ledger.inbox,
        };
        for record in &evidence.records {
            let topic = record.topic.as_str();
            if topic.ends_with("-retry") {
                books
                    .retried
                    .insert((topic, record.id().unwrap_or_default(), record.attempt()));
            } else if topic.ends_with("-dead-letters") {
                let of = |name| record.header(name).unwrap_or_default();
                let came_from = format!(
                    "{}/{}@{}",
                    of("__connect.errors.topic"),
                    of("__connect.errors.partition"),
                    of("__connect.errors.offset")
                );
                books.dead.insert((topic, came_from));
            } else if let (Some(cause), Some(stage)) = (record.cause(), record.stage()) {
                books.caused.entry((stage, cause)).or_default().push(record);
            }
        }
        books
    }

    /// By which of the ways an input left a stage.
    fn ways_out(&self, stage: &Stage, record: &Record) -> Vec<&'static str> {
        let id = record.id().unwrap_or_default();
        let caused = self.caused.get(&(stage.name.as_str(), id));
        let mut ways = Vec::new();
        let emitted = caused.into_iter().flatten().any(|output| {
            stage.outputs.contains(&output.topic)
                || output.event_type() == "atelier.task.accepted.v1"
        });
        if emitted || (stage.name == KEEPER && self.inbox.contains_key(id)) {
            ways.push("worked");
        }
        let retry = retry_topic(&stage.name);
        if self.retried.contains(&(&retry, id, record.attempt() + 1)) {
            ways.push("tried again");
        }
        // A part of a fanned-out task is given up beside the others, which go on.
        let letters = dead_letter_topic(&stage.name);
        if ways.is_empty() && self.dead.contains(&(&letters, record.place())) {
            ways.push("given up");
        }
        ways
    }

    /// Whether an input may go into a stage and leave nothing: its task is cancelled, or it is none of the stage's business.
    fn may_leave_nothing(&self, stage: &Stage, record: &Record) -> bool {
        if stage.name != KEEPER {
            return record
                .task()
                .is_some_and(|task| self.cancelled.contains(&task));
        }
        match record.event_type() {
            "atelier.task.accepted.v1" => false,
            "atelier.stage.failed.v1" => {
                record.value["imageId"].is_null() && record.value["stage"] != SPLITTER
            }
            _ => record.topic == TASK_EVENTS,
        }
    }
}

/// A task that was taken apart has each of its pictures on its way, or given up.
pub(super) fn each_part_of_a_task_goes_on(evidence: &Evidence, found: &mut Findings) {
    let mut parts: BTreeMap<Uuid, BTreeSet<u64>> = BTreeMap::new();
    for record in &evidence.records {
        let has_left =
            record.event_type() == "atelier.image.ingested.v1" && !is_of_the_runtime(&record.topic);
        let goes_on = has_left || record.topic == dead_letter_topic(SPLITTER);
        let index = record.value["image"]["index"].as_u64();
        if let (true, Some(task), Some(index)) = (goes_on, record.task(), index) {
            parts.entry(task).or_default().insert(index);
        }
    }
    let cancelled = evidence.cancelled();
    for accepted in evidence.events("atelier.task.accepted.v1") {
        let Some(task) = accepted.task().filter(|task| !cancelled.contains(task)) else {
            continue;
        };
        let images = accepted.value["images"].as_array().map_or(0, Vec::len);
        let gone_on = parts.get(&task).map_or(0, BTreeSet::len);
        if gone_on < images {
            let text = format!("{gone_on} of its {images} images went on from {SPLITTER}");
            found.add(Rule::NothingDropped, Fault::Lost, Some(task), text);
        }
    }
}

/// What the ledger answered stands on the topics, each event as often as it was answered.
pub(super) fn answers_are_published(evidence: &Evidence, found: &mut Findings) {
    let mut published: HashMap<&str, Vec<(&str, Option<Uuid>)>> = HashMap::new();
    for record in &evidence.records {
        // What persist says of its own work is no answer of the ledger.
        let is_answer = record.stage() == Some(KEEPER)
            && !is_of_the_runtime(&record.topic)
            && !record.event_type().starts_with("atelier.stage.");
        if let (true, Some(cause)) = (is_answer, record.cause()) {
            let answer = (record.event_type(), record.task());
            published.entry(cause).or_default().push(answer);
        }
    }
    let requests: HashMap<&str, Option<Uuid>> = evidence
        .records
        .iter()
        .filter_map(|record| Some((record.id()?, record.task())))
        .collect();
    for (event, answers) in &evidence.ledger.inbox {
        let on_topics = published.remove(event.as_str()).unwrap_or_default();
        if answers.len() == on_topics.len() {
            continue;
        }
        let task = requests.get(event.as_str()).copied().flatten();
        let fault = if on_topics.len() < answers.len() {
            Fault::Lost
        } else {
            Fault::Doubled
        };
        let text = format!(
            "event {event} was answered with {answers:?}; {} of that stand on the topics",
            on_topics.len()
        );
        found.add(Rule::AnswersPublished, fault, task, text);
    }
}
