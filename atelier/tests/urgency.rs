//! What somebody waits for goes first, and what is too late is not begun: the real binaries, the real broker, the real models.
//!
//! `ATELIER_BULK_IMAGES=10000 cargo test --workspace --test urgency -- --nocapture interactive` prints how long an interactive
//! image waits behind so many.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, io::Write as _};

use atelier_schemas::{ErrorCode, TaskAnswer, TaskStatus, envelope::image_id};
use atelier_servers::Kafka;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use support::{Installation, Record, WORK_ON_EVERY_PICTURE, assert_ended_once, samples};
use uuid::Uuid;

const IMAGES_PER_BULK_TASK: usize = 20;
const MOST_IMAGES_PER_TASK: usize = 1_000;

fn dress() -> Vec<u8> {
    fs::read(samples().join("dress.jpg")).unwrap()
}

fn bulk_images() -> usize {
    let asked = std::env::var("ATELIER_BULK_IMAGES").ok();
    asked.map_or(2 * IMAGES_PER_BULK_TASK, |text| text.parse().unwrap())
}

fn upload(installation: &Installation) -> Uuid {
    let pictures = [("dress.jpg", dress())];
    let answer = installation.upload(&pictures, &json!({ "quality": "low" }));
    answer.task_id
}

/// An upstream system's request.
fn produce(installation: &Installation, topic: &str, task: Uuid, request: &Value) {
    let (id, name) = (Uuid::new_v4().to_string(), task.to_string());
    let headers = [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_id", id.as_str()),
        ("ce_source", "/test"),
        ("ce_type", "atelier.task.submitted.v1"),
        ("ce_correlationid", name.as_str()),
    ];
    let value = request.to_string();
    installation.produce(topic, name.as_bytes(), &headers, value.as_bytes());
}

fn of_task(installation: &Installation, topic: &str, task: Uuid) -> Vec<Record> {
    let name = task.to_string();
    let mut records = installation.read_topic(topic);
    records.retain(|record| record.header("ce_correlationid") == Some(&name));
    records
}

fn made_at(record: &Record) -> DateTime<Utc> {
    record.header("ce_time").unwrap().parse().unwrap()
}

/// When the stage began the work that a report of `completed` speaks of; `input` is what it read.
fn begun_at(input: &[Record], completed: &Record) -> DateTime<Utc> {
    let image = completed.header("ce_subject");
    let read = input
        .iter()
        .find(|record| image.is_none() || record.header("ce_subject") == image);
    let waited_ms = completed.json()["queueMs"].as_f64().unwrap();
    made_at(read.unwrap()) + TimeDelta::microseconds((waited_ms * 1_000.0) as i64)
}

/// Bulk tasks of a picture that is stored already.
fn submit_bulk(installation: &Installation, original: &Value, images: usize) -> Vec<Uuid> {
    let images_per_task = if images > MOST_IMAGES_PER_TASK {
        MOST_IMAGES_PER_TASK
    } else {
        IMAGES_PER_BULK_TASK
    };
    let submit = |_| {
        let task = Uuid::new_v4();
        let pictures = vec![json!({ "blob": original }); images_per_task];
        let request = json!({ "taskId": task, "images": pictures, "quality": "low" });
        produce(installation, "image-tasks-bulk", task, &request);
        task
    };
    (0..images / images_per_task).map(submit).collect()
}

fn an_interactive_image_does_not_wait(mut installation: Installation) {
    let config = installation.folder.path().join("atelier.toml");
    let mut config = fs::OpenOptions::new().append(true).open(config).unwrap();
    write!(config, "{WORK_ON_EVERY_PICTURE}").unwrap();
    if bulk_images() <= 2 * IMAGES_PER_BULK_TASK {
        writeln!(config, "[stages.ingest.runtime]\nbulk_under_way = 2").unwrap();
    }
    installation.start_up();
    let first = upload(&installation);
    installation.wait_for_end(first);
    let original = of_task(&installation, "images-ingested", first)[0].json()["original"].clone();

    let bulk = submit_bulk(&installation, &original, bulk_images());
    let done = |task: &Uuid| {
        let answer: Option<TaskAnswer> = installation.task(*task);
        answer.map_or(0, |task| task.summary.success_count as usize)
    };
    installation.wait_for("bulk to begin", || {
        (bulk.iter().map(done).sum::<usize>() > 0).then_some(())
    });
    let submitted_at = Utc::now();
    let task = upload(&installation);
    assert_eq!(
        installation.wait_for_end(task).status,
        TaskStatus::Completed
    );
    let done_meanwhile: usize = bulk.iter().map(done).sum();
    assert!(done_meanwhile < bulk_images(), "bulk was done first");

    let image = image_id(task, 0).to_string();
    let of_stage = |stage: &str| {
        let reports = of_task(&installation, "task-events", task);
        let is_it = |record: &Record| {
            record.event_type() == "atelier.stage.completed.v1" && record.json()["stage"] == stage
        };
        reports.into_iter().find(is_it).unwrap()
    };
    let preprocessed = of_stage("preprocess");
    assert_eq!(preprocessed.header("ce_subject"), Some(image.as_str()));
    let ingested = of_task(&installation, "images-ingested", task);
    // It stands for all of its images.
    let mut requests = of_task(&installation, "image-tasks", task);
    requests.retain(|record| record.header("ce_subject").is_none());
    let after_ms = |at: DateTime<Utc>| (at - submitted_at).num_milliseconds();
    println!(
        "behind {} bulk images, {done_meanwhile} of them done by its end: ingest begun after {} ms, preprocess after {} ms, ended after {} ms",
        bulk_images(),
        after_ms(begun_at(&requests, &of_stage("ingest"))),
        after_ms(begun_at(&ingested, &preprocessed)),
        after_ms(installation.task(task).unwrap().ended_at.unwrap()),
    );
    let ingested = made_at(&ingested[0]);
    let let_in_before = installation
        .read_topic("images-ingested")
        .iter()
        .filter(|record| record.header("ce_priority") == Some("bulk"))
        .filter(|record| made_at(record) < ingested)
        .count();
    let bulk_under_way = if bulk_images() > 2 * IMAGES_PER_BULK_TASK {
        16
    } else {
        2
    };
    assert!(
        let_in_before <= done_meanwhile + bulk_under_way,
        "{let_in_before} were let in before it, {done_meanwhile} were done by its end"
    );
    if bulk_images() <= 2 * IMAGES_PER_BULK_TASK {
        for task in &bulk {
            let ended = installation.wait_for_end(*task);
            assert_eq!(ended.summary.success_count as usize, IMAGES_PER_BULK_TASK);
        }
        assert_ended_once(&installation, &bulk, IMAGES_PER_BULK_TASK);
        assert_ended_once(&installation, &[task], 1);
    }
    let log = installation.log("up");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn an_interactive_image_does_not_wait_for_bulk() {
    an_interactive_image_does_not_wait(Installation::new(""));
}

#[test]
fn an_interactive_image_does_not_wait_for_bulk_on_kafka() {
    if let Some(kafka) = Kafka::shared() {
        an_interactive_image_does_not_wait(Installation::on_kafka(kafka.bootstrap_servers()));
    }
}

fn in_seconds(seconds: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::seconds(seconds)
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn assert_failed_late(task: &TaskAnswer) {
    let failed = task
        .results
        .iter()
        .filter(|image| image.status != TaskStatus::Completed);
    for image in failed {
        assert_eq!(image.status, TaskStatus::Failed);
        let error = image.error.as_ref().unwrap();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{}", error.message);
    }
}

#[test]
fn what_is_not_begun_by_its_deadline_fails_once_and_what_is_done_stays() {
    let mut installation = Installation::new(WORK_ON_EVERY_PICTURE);
    installation.start_up();
    installation.wait_for_end(upload(&installation));

    let count = 40;
    let deadline = in_seconds(5);
    let mut form = reqwest::blocking::multipart::Form::new()
        .text("options", json!({ "quality": "high" }).to_string())
        .text("deadline", text(deadline));
    for number in 0..count {
        let mut picture = dress();
        picture.push(number);
        let part = reqwest::blocking::multipart::Part::bytes(picture).file_name("dress.jpg");
        form = form.part("images", part);
    }
    let url = installation.url("/api/v1/tasks");
    let answer = installation
        .client()
        .post(url)
        .multipart(form)
        .send()
        .unwrap();
    assert_eq!(answer.status(), 202);
    let accepted: TaskAnswer = serde_json::from_str(&answer.text().unwrap()).unwrap();
    let late = accepted.task_id;
    let ended = installation.wait_for_end(late);
    println!(
        "{} of {count} were done; the end came {} ms after the deadline",
        ended.summary.success_count,
        (ended.ended_at.unwrap() - deadline).num_milliseconds()
    );
    assert!(ended.summary.success_count < u32::from(count));
    assert_failed_late(&ended);
    let classified = of_task(&installation, "images-classified", late);
    let begun_late = of_task(&installation, "task-events", late)
        .iter()
        .filter(|record| record.event_type() == "atelier.stage.completed.v1")
        .filter(|record| record.json()["stage"] == "matte")
        .filter(|record| begun_at(&classified, record) > deadline + TimeDelta::seconds(1))
        .count();
    assert_eq!(begun_late, 0, "models that were begun after the deadline");

    let by_topic = Uuid::new_v4();
    let request = json!({
        "taskId": by_topic, "images": ["https://picture.invalid/1.jpg"], "deadline": text(in_seconds(-1)),
    });
    produce(&installation, "image-tasks", by_topic, &request);
    let refused = installation.wait_for_end(by_topic);
    assert_eq!(refused.status, TaskStatus::Failed);
    assert_eq!(
        refused.error.as_ref().unwrap().code,
        ErrorCode::DeadlineExceeded
    );
    let letters = of_task(&installation, "ingest-dead-letters", by_topic);
    assert_eq!(letters.len(), 1);

    assert!(installation.terminate("up"), "{}", installation.log("up"));
    installation.start_up();
    installation.wait_for_end(upload(&installation));
    assert_eq!(installation.task(late).unwrap(), ended);
    assert_eq!(installation.task(by_topic).unwrap(), refused);
    assert_ended_once(&installation, &[late], usize::from(count));
    assert_ended_once(&installation, &[by_topic], 0);
    let log = installation.log("up");
    assert!(!log.contains("panicked"), "{log}");
}
