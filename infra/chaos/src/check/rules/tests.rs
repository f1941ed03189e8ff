//! Every rule holds on a log where all is well, and is broken by a log made for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::check::{LedgerImage, LedgerTask, Picture, Promise, Record, StoredBlob, Watermarks};

const TASK: Uuid = Uuid::from_u128(7);

/// A made-up system in which one task with one good and one broken picture went through.
struct Made(Evidence);

/// The stages in order, each with the topic that it writes and the type of what it writes there.
const CHAIN: [(&str, &str, &str); 5] = [
    ("ingest", "images-ingested", "atelier.image.ingested.v1"),
    (
        "preprocess",
        "images-preprocessed",
        "atelier.image.preprocessed.v1",
    ),
    (
        "classify",
        "images-classified",
        "atelier.image.classified.v1",
    ),
    ("matte", "images-matted", "atelier.image.matted.v1"),
    ("compose", "images-composed", "atelier.image.composed.v1"),
];

impl Made {
    fn well() -> Self {
        let mut made = Self(Evidence::default());
        made.0.promises.push(Promise {
            task: TASK,
            pictures: vec![Picture::Good, Picture::Broken],
        });
        let task = json!({ "taskId": TASK });
        made.add(
            "image-tasks",
            "submitted",
            "atelier.task.submitted.v1",
            "gateway",
            None,
            task,
        );
        let accepted = json!({ "taskId": TASK, "images": [{}, {}] });
        made.add(
            "task-events",
            "accepted",
            "atelier.task.accepted.v1",
            "ingest",
            Some("submitted"),
            accepted,
        );
        for index in 0..2 {
            made.add_chain(index);
        }
        made.answer(
            "composed-0",
            &[
                "atelier.image.persisted.v1",
                "atelier.image.ended.v1",
                "atelier.task.ended.v1",
            ],
        );
        made.answer("failed-1", &["atelier.image.ended.v1"]);
        made.answer("accepted", &[]);
        made.add_ledger();
        made.read_everything();
        made
    }

    /// The good picture through every stage; the broken one as far as `preprocess`.
    fn add_chain(&mut self, index: u64) {
        let value = json!({ "image": { "taskId": TASK, "index": index } });
        let mut cause = "submitted".to_owned();
        for (stage, topic, event_type) in CHAIN {
            if index == 1 && stage == "preprocess" {
                let id = cause.clone();
                let input = self.find("images-ingested", &id).clone();
                let mut letter = Record {
                    topic: "preprocess-dead-letters".into(),
                    ..input.clone()
                };
                for (name, text) in [
                    ("topic", input.topic),
                    ("partition", "0".into()),
                    ("offset", input.offset.to_string()),
                ] {
                    letter
                        .headers
                        .insert(format!("__connect.errors.{name}"), text);
                }
                letter.offset = 0;
                self.0.records.push(letter);
                let failed = json!({ "taskId": TASK, "imageId": "x", "stage": "preprocess" });
                self.add(
                    "task-events",
                    "failed-1",
                    "atelier.stage.failed.v1",
                    "preprocess",
                    Some(&id),
                    failed,
                );
                return;
            }
            let id = format!("{}-{index}", topic.trim_start_matches("images-"));
            self.add(topic, &id, event_type, stage, Some(&cause), value.clone());
            let done = json!({ "taskId": TASK });
            self.add(
                "task-events",
                &format!("done-{id}"),
                "atelier.stage.completed.v1",
                stage,
                Some(&cause),
                done,
            );
            cause = id;
        }
    }

    /// What the ledger answered, on the topics and in the inbox.
    fn answer(&mut self, event: &str, types: &[&str]) {
        let index = event
            .rsplit('-')
            .next()
            .and_then(|text| text.parse::<u64>().ok());
        for (ordinal, event_type) in types.iter().enumerate() {
            let value = match *event_type {
                "atelier.task.ended.v1" => {
                    json!({ "taskId": TASK, "status": "completed", "summary": { "successCount": 1 } })
                }
                "atelier.image.ended.v1" if index == Some(1) => {
                    json!({ "taskId": TASK, "index": 1, "status": "failed", "error": { "message": "no" } })
                }
                _ => {
                    json!({ "taskId": TASK, "index": index, "status": "completed", "result": result() })
                }
            };
            let topic = if event_type.ends_with("persisted.v1") {
                "images-persisted"
            } else {
                "task-events"
            };
            self.add(
                topic,
                &format!("answer-{event}-{ordinal}"),
                event_type,
                "persist",
                Some(event),
                value,
            );
        }
        let types = types.iter().map(|&name| name.to_owned()).collect();
        self.0.ledger.inbox.insert(event.to_owned(), types);
    }

    fn add_ledger(&mut self) {
        self.0.ledger.tasks.push(LedgerTask {
            task: TASK,
            status: "completed".into(),
            image_count: 2,
        });
        for (index, status, result) in [(0, "completed", result()), (1, "failed", Value::Null)] {
            self.0.ledger.images.push(LedgerImage {
                task: TASK,
                index,
                status: status.into(),
                result,
            });
        }
        let blob = StoredBlob {
            bytes: 3,
            sha256: "ab".into(),
        };
        self.0.blobs.insert("ab".into(), blob);
    }

    fn read_everything(&mut self) {
        let mut ends: BTreeMap<&str, i64> = BTreeMap::new();
        for record in &self.0.records {
            let end = ends.entry(&record.topic).or_default();
            *end = (*end).max(record.offset + 1);
        }
        for (topic, end) in ends {
            for stage in &Pipeline::get().stages {
                if stage.inputs.iter().any(|input| input == topic) {
                    self.0
                        .read_up_to
                        .insert((stage.name.clone(), topic.to_owned(), 0), end);
                }
            }
            self.0.watermarks.push(Watermarks {
                topic: topic.to_owned(),
                partition: 0,
                last_stable_offset: end,
                high_watermark: end,
            });
        }
    }

    fn add(
        &mut self,
        topic: &str,
        id: &str,
        event_type: &str,
        stage: &str,
        cause: Option<&str>,
        value: Value,
    ) {
        let offset = self
            .0
            .records
            .iter()
            .filter(|record| record.topic == topic)
            .count();
        let mut headers = BTreeMap::from([
            ("ce_id".to_owned(), id.to_owned()),
            ("ce_type".to_owned(), event_type.to_owned()),
            ("ce_source".to_owned(), format!("/atelier/{stage}")),
        ]);
        headers.extend(cause.map(|cause| ("ce_causationid".to_owned(), cause.to_owned())));
        self.0.records.push(Record {
            topic: topic.to_owned(),
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            headers,
            value,
        });
    }

    fn find(&self, topic: &str, id: &str) -> &Record {
        let mut records = self.0.records.iter();
        records
            .find(|record| record.topic == topic && record.id() == Some(id))
            .unwrap()
    }

    fn without(mut self, topic: &str, id: &str) -> Self {
        self.find(topic, id);
        self.0
            .records
            .retain(|record| record.topic != topic || record.id() != Some(id));
        self
    }

    fn twice(mut self, topic: &str, id: &str) -> Self {
        let mut again = self.find(topic, id).clone();
        again.offset += 100;
        self.0.records.push(again);
        for ((_, read, _), end) in &mut self.0.read_up_to {
            if read == topic {
                *end += 101;
            }
        }
        self
    }

    fn cancelled(mut self) -> Self {
        let value = json!({ "taskId": TASK });
        self.add(
            "task-control",
            "cancel",
            "atelier.task.cancel-requested.v1",
            "gateway",
            None,
            value,
        );
        self.answer("cancel", &[]);
        self.0
            .read_up_to
            .insert(("persist".into(), "task-control".into(), 0), 1);
        self
    }

    fn found(&self) -> Vec<(Rule, Fault)> {
        let mut found: Vec<(Rule, Fault)> = judge(&self.0, Pipeline::get())
            .findings
            .iter()
            .map(|finding| (finding.rule, finding.fault))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn breaks(&self, rule: Rule, fault: Fault) {
        let found = self.found();
        assert!(found.contains(&(rule, fault)), "{found:?}");
    }
}

fn result() -> Value {
    json!({ "result": { "key": "ab", "bytes": 3 } })
}

#[test]
fn a_log_where_all_is_well_pleases() {
    assert_eq!(Made::well().found(), []);
    assert_eq!(Made::well().cancelled().found(), []);
}

#[test]
fn a_task_has_one_end() {
    let end = "answer-composed-0-2";
    Made::well()
        .without("task-events", end)
        .breaks(Rule::OneEndPerTask, Fault::Lost);
    Made::well()
        .twice("task-events", end)
        .breaks(Rule::OneEndPerTask, Fault::Doubled);
    // Nothing at all is known of a task that was accepted.
    let mut made = Made::well();
    made.0.promises.push(Promise {
        task: Uuid::from_u128(8),
        pictures: vec![Picture::Good],
    });
    made.breaks(Rule::OneEndPerTask, Fault::Lost);
    made.breaks(Rule::OneEndPerImage, Fault::Lost);
    made.breaks(Rule::LedgerAgrees, Fault::Disagreeing);
}

#[test]
fn an_image_has_one_end_with_a_result_or_a_reason() {
    let end = "answer-failed-1-0";
    Made::well()
        .without("task-events", end)
        .breaks(Rule::OneEndPerImage, Fault::Lost);
    Made::well()
        .twice("task-events", end)
        .breaks(Rule::OneEndPerImage, Fault::Doubled);
    let mut made = Made::well();
    let record = made
        .0
        .records
        .iter_mut()
        .find(|record| record.id() == Some(end))
        .unwrap();
    record.value["result"] = result();
    made.breaks(Rule::OneEndPerImage, Fault::Disagreeing);
}

#[test]
fn a_good_picture_has_a_result_unless_it_is_cancelled() {
    let mut made = Made::well();
    made.0.promises[0].pictures[1] = Picture::Good;
    assert_eq!(
        made.found(),
        [(Rule::OutcomeAsPromised, Fault::Disagreeing)]
    );
    assert_eq!(made.cancelled().found(), []);
}

#[test]
fn no_id_stands_twice() {
    let made = Made::well().twice("images-matted", "matted-0");
    assert_eq!(made.found(), [(Rule::NoIdTwice, Fault::Doubled)]);
    Made::well()
        .twice("preprocess-dead-letters", "ingested-1")
        .breaks(Rule::NoIdTwice, Fault::Doubled);
}

#[test]
fn what_goes_into_a_stage_comes_out() {
    let nothing_came_out = (Rule::NothingDropped, Fault::Lost);
    // What follows is missing too, but nobody read it: only the stage that dropped it is named.
    let made = Made::well().without("images-matted", "matted-0");
    assert_eq!(made.found(), [nothing_came_out]);
    assert_eq!(made.cancelled().found(), []);
    let made = Made::well().without("preprocess-dead-letters", "ingested-1");
    assert_eq!(made.found(), [nothing_came_out]);
    let made = Made::well().without("images-ingested", "ingested-1");
    assert_eq!(made.found(), [nothing_came_out]);
    let mut made = Made::well();
    made.0.ledger.inbox.remove("accepted");
    assert_eq!(made.found(), [nothing_came_out]);
    let mut made = Made::well();
    made.0
        .read_up_to
        .insert(("matte".into(), "images-classified".into(), 0), 0);
    assert_eq!(made.found(), [nothing_came_out]);
}

#[test]
fn an_input_leaves_a_stage_by_one_way() {
    let mut made = Made::well();
    let mut again = made.find("images-classified", "classified-0").clone();
    again.topic = "matte-retry".into();
    again.headers.insert("ce_attempt".into(), "2".into());
    made.0.records.push(again);
    made.0
        .read_up_to
        .insert(("matte".into(), "matte-retry".into(), 0), 1);
    made.breaks(Rule::NothingDropped, Fault::Doubled);
    // Tried again and then done is one way after the other.
    let mut done = made.find("images-matted", "matted-0").clone();
    done.headers
        .insert("ce_causationid".into(), "classified-0".into());
    assert_eq!(done, *made.find("images-matted", "matted-0"));
}

#[test]
fn what_the_ledger_answered_is_published() {
    let persisted = "answer-composed-0-0";
    let made = Made::well().without("images-persisted", persisted);
    assert_eq!(made.found(), [(Rule::AnswersPublished, Fault::Lost)]);
    Made::well()
        .twice("images-persisted", persisted)
        .breaks(Rule::AnswersPublished, Fault::Doubled);
}

#[test]
fn the_ledger_agrees_with_the_topics() {
    let disagree = [(Rule::LedgerAgrees, Fault::Disagreeing)];
    let mut made = Made::well();
    made.0.ledger.tasks[0].status = "failed".into();
    assert_eq!(made.found(), disagree);
    let mut made = Made::well();
    made.0.ledger.images[0].status = "pending".into();
    assert_eq!(made.found(), disagree);
    let mut made = Made::well();
    made.0.ledger.images[0].result["extra"] = json!(1);
    assert_eq!(made.found(), disagree);
    let mut made = Made::well();
    made.0.ledger.tasks.clear();
    assert_eq!(made.found(), disagree);
}

#[test]
fn blobs_are_there_and_are_what_their_names_say() {
    let mut made = Made::well();
    made.0.blobs.clear();
    assert_eq!(made.found(), [(Rule::BlobsAgree, Fault::Lost)]);
    for (bytes, sha256) in [(4, "ab"), (3, "cd")] {
        let mut made = Made::well();
        let sha256 = sha256.to_owned();
        made.0
            .blobs
            .insert("ab".into(), StoredBlob { bytes, sha256 });
        assert_eq!(made.found(), [(Rule::BlobsAgree, Fault::Disagreeing)]);
    }
}

#[test]
fn the_outbox_is_empty_and_no_transaction_is_open() {
    let mut made = Made::well();
    made.0.ledger.unsent.push(TASK);
    assert_eq!(made.found(), [(Rule::OutboxEmpty, Fault::Lost)]);
    let mut made = Made::well();
    made.0.watermarks[0].last_stable_offset -= 1;
    assert_eq!(
        made.found(),
        [(Rule::NoOpenTransaction, Fault::Disagreeing)]
    );
}
