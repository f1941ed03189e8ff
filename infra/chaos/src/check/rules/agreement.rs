//! Ledger, blobs and topics say the same.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Findings;
use crate::check::{Evidence, Fault, LedgerImage, Record, Rule, evidence::blobs_of};

pub(super) fn the_ledger_agrees(evidence: &Evidence, found: &mut Findings) {
    let mut disagree = |task: Uuid, text: String| {
        found.add(Rule::LedgerAgrees, Fault::Disagreeing, Some(task), text);
    };
    let known: BTreeSet<Uuid> = evidence.ledger.tasks.iter().map(|task| task.task).collect();
    for task in evidence.tasks().difference(&known) {
        disagree(*task, "the ledger does not know it".to_owned());
    }
    let by_index: BTreeMap<(Uuid, u64), &LedgerImage> = evidence
        .ledger
        .images
        .iter()
        .map(|image| ((image.task, image.index), image))
        .collect();
    let mut ended_images = BTreeSet::new();
    for record in evidence.events("atelier.image.ended.v1") {
        let (Some(task), Some(index)) = (record.task(), record.value["index"].as_u64()) else {
            continue;
        };
        ended_images.insert((task, index));
        let Some(image) = by_index.get(&(task, index)) else {
            disagree(task, format!("the ledger has no image {index}"));
            continue;
        };
        if record.value["status"] != image.status.as_str() {
            let on_topic = &record.value["status"];
            let text = format!(
                "image {index} is {on_topic} on the topic and {} in the ledger",
                image.status
            );
            disagree(task, text);
        } else if record.value["result"] != image.result {
            let text = format!("image {index} has another result on the topic than in the ledger");
            disagree(task, text);
        }
    }
    for image in &evidence.ledger.images {
        let has_ended = image.status != "pending";
        if has_ended && !ended_images.contains(&(image.task, image.index)) {
            let text = format!(
                "image {} is {} in the ledger and has no end on the topic",
                image.index, image.status
            );
            disagree(image.task, text);
        }
    }
    let ends: BTreeMap<Uuid, &Record> = evidence
        .events("atelier.task.ended.v1")
        .filter_map(|record| Some((record.task()?, record)))
        .collect();
    for task in &evidence.ledger.tasks {
        match ends.get(&task.task) {
            Some(end) if end.value["status"] != task.status.as_str() => {
                let on_topic = &end.value["status"];
                disagree(
                    task.task,
                    format!(
                        "it is {on_topic} on the topic and {} in the ledger",
                        task.status
                    ),
                );
            }
            Some(end) => {
                let completed = evidence
                    .ledger
                    .images
                    .iter()
                    .filter(|image| image.task == task.task && image.status == "completed");
                let counted = completed.count() as u64;
                if end.value["summary"]["successCount"].as_u64() != Some(counted) {
                    let told = &end.value["summary"]["successCount"];
                    disagree(
                        task.task,
                        format!("its end tells of {told} results, the ledger has {counted}"),
                    );
                }
            }
            None => disagree(
                task.task,
                format!(
                    "it is {} in the ledger and has no end on the topic",
                    task.status
                ),
            ),
        }
    }
}

pub(super) fn the_blobs_agree(evidence: &Evidence, found: &mut Findings) {
    let on_topics = evidence
        .events("atelier.image.ended.v1")
        .filter_map(|record| Some((record.task()?, &record.value["result"])));
    let in_ledger = evidence
        .ledger
        .images
        .iter()
        .map(|image| (image.task, &image.result));
    let mut asked = BTreeSet::new();
    for (task, result) in on_topics.chain(in_ledger) {
        for (key, bytes) in blobs_of(result) {
            if !asked.insert((task, key)) {
                continue;
            }
            match evidence.blobs.get(key) {
                None => found.add(
                    Rule::BlobsAgree,
                    Fault::Lost,
                    Some(task),
                    format!("blob {key} is not there"),
                ),
                Some(stored) if stored.sha256 != key || stored.bytes != bytes => found.add(
                    Rule::BlobsAgree,
                    Fault::Disagreeing,
                    Some(task),
                    format!(
                        "blob {key} of {bytes} bytes has {} bytes with SHA-256 {}",
                        stored.bytes, stored.sha256
                    ),
                ),
                Some(_) => {}
            }
        }
    }
}

pub(super) fn the_outbox_is_empty(evidence: &Evidence, found: &mut Findings) {
    for task in &evidence.ledger.unsent {
        let text = "the outbox holds an event that was not sent".to_owned();
        found.add(Rule::OutboxEmpty, Fault::Lost, Some(*task), text);
    }
}

pub(super) fn no_transaction_is_open(evidence: &Evidence, found: &mut Findings) {
    for partition in &evidence.watermarks {
        if partition.last_stable_offset != partition.high_watermark {
            let text = format!(
                "{}/{} can be read up to {} of {}: a transaction is open",
                partition.topic,
                partition.partition,
                partition.last_stable_offset,
                partition.high_watermark
            );
            found.add(Rule::NoOpenTransaction, Fault::Disagreeing, None, text);
        }
    }
}
