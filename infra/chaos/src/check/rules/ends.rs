//! Each task has one end; each picture has one, and the right one.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Findings;
use crate::check::{Evidence, Fault, Picture, Record, Rule};

const TASK_ENDED: &str = "atelier.task.ended.v1";
const IMAGE_ENDED: &str = "atelier.image.ended.v1";

pub(super) fn each_task_has_one_end(evidence: &Evidence, found: &mut Findings) {
    let mut ends: BTreeMap<Uuid, usize> = BTreeMap::new();
    for task in evidence.events(TASK_ENDED).filter_map(Record::task) {
        *ends.entry(task).or_default() += 1;
    }
    for task in evidence.tasks() {
        let count = ends.get(&task).copied().unwrap_or_default();
        found.not_one(Rule::OneEndPerTask, task, "it", count);
    }
}

pub(super) fn each_image_has_one_end(evidence: &Evidence, found: &mut Findings) {
    let ends = ends_of_images(evidence);
    for (task, images) in image_counts(evidence) {
        for index in 0..images {
            let count = ends.get(&(task, index)).map_or(0, Vec::len);
            found.not_one(Rule::OneEndPerImage, task, &format!("image {index}"), count);
        }
    }
    for ((task, index), records) in ends {
        let complete = records.iter().all(|record| {
            let completed = record.value["status"] == "completed";
            completed != record.value["result"].is_null()
                && completed == record.value["error"].is_null()
        });
        if !complete {
            let text = format!("image {index} ended with neither, or both, of result and reason");
            found.add(Rule::OneEndPerImage, Fault::Disagreeing, Some(task), text);
        }
    }
}

pub(super) fn outcomes_are_as_promised(evidence: &Evidence, found: &mut Findings) {
    let ends = ends_of_images(evidence);
    let cancelled = evidence.cancelled();
    for promise in &evidence.promises {
        if cancelled.contains(&promise.task) {
            continue;
        }
        for (index, picture) in (0..).zip(&promise.pictures) {
            let wanted = match picture {
                Picture::Good => "completed",
                Picture::Broken => "failed",
            };
            for record in ends.get(&(promise.task, index)).into_iter().flatten() {
                let status = record.value["status"].as_str().unwrap_or_default();
                if status != wanted {
                    let text = format!(
                        "image {index} is {status}, should be {wanted}: {}",
                        record.value["error"]["message"]
                    );
                    let task = Some(promise.task);
                    found.add(Rule::OutcomeAsPromised, Fault::Disagreeing, task, text);
                }
            }
        }
    }
}

fn ends_of_images(evidence: &Evidence) -> BTreeMap<(Uuid, u64), Vec<&Record>> {
    let mut ends: BTreeMap<(Uuid, u64), Vec<&Record>> = BTreeMap::new();
    for record in evidence.events(IMAGE_ENDED) {
        if let (Some(task), Some(index)) = (record.task(), record.value["index"].as_u64()) {
            ends.entry((task, index)).or_default().push(record);
        }
    }
    ends
}

/// How many pictures each task has: as promised, else as the ledger says.
fn image_counts(evidence: &Evidence) -> BTreeMap<Uuid, u64> {
    let known = evidence.ledger.tasks.iter();
    let mut counts: BTreeMap<Uuid, u64> = known.map(|task| (task.task, task.image_count)).collect();
    let promised = evidence.promises.iter();
    counts.extend(promised.map(|promise| (promise.task, promise.pictures.len() as u64)));
    counts
}
