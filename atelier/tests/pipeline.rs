//! A photograph in, a stored cut-out back: the real binaries, the real brokers, the real models.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, io::Read as _, time::Duration};

use atelier_schemas::TaskStatus;
use atelier_servers::Kafka;
use serde_json::{Value, json};
use support::{Installation, samples};
use uuid::Uuid;

fn sample(name: &str) -> Vec<u8> {
    fs::read(samples().join(name)).unwrap()
}

fn low() -> Value {
    json!({ "quality": "low" })
}

#[test]
fn pictures_go_in_and_cut_outs_come_back() {
    everything(Installation::new(""));
}

#[test]
fn pictures_go_in_and_cut_outs_come_back_on_kafka() {
    if let Some(kafka) = Kafka::start("") {
        everything(Installation::on_kafka(kafka.bootstrap_servers()));
    }
}

fn everything(mut installation: Installation) {
    installation.start_up();

    a_task_with_a_broken_picture(&installation);
    the_same_key_is_the_same_task(&installation);
    a_task_by_topic(&installation);
    garbage_on_every_topic_goes_to_dead_letters(&installation);
    a_dead_letter_is_repaired_and_replayed(&installation);
    removebg_answers_with_the_picture(&installation);

    assert!(
        installation.terminate("up"),
        "SIGTERM must drain and leave with status 0:\n{}",
        installation.log("up")
    );
    let log = installation.log("up");
    assert!(!log.contains("panicked"), "{log}");

    installation.start_up();
    let page = String::from_utf8(installation.bytes("/")).unwrap();
    assert!(page.contains("<!doctype html>") || page.contains("<!DOCTYPE html>"));
    let tasks: Value = serde_json::from_slice(&installation.bytes("/api/v1/tasks")).unwrap();
    assert!(
        !tasks["tasks"].as_array().unwrap().is_empty(),
        "the second start must know the tasks of the first"
    );
}

fn a_task_with_a_broken_picture(installation: &Installation) {
    let mut truncated = sample("jacket.jpg");
    truncated.truncate(200);
    let pictures = [
        ("dress.jpg", sample("dress.jpg")),
        ("broken.jpg", truncated),
        ("fur-hat.jpg", sample("fur-hat.jpg")),
    ];
    let task = installation.upload(&pictures, &low());
    let ended = installation.wait_for_end(task.task_id);
    assert_eq!(ended.status, TaskStatus::Completed);
    let statuses: Vec<TaskStatus> = ended.results.iter().map(|image| image.status).collect();
    assert_eq!(
        statuses,
        [
            TaskStatus::Completed,
            TaskStatus::Failed,
            TaskStatus::Completed
        ]
    );
    let error = ended.results[1].error.as_ref().unwrap();
    assert!(!error.details.suggestions.is_empty() && !error.message.is_empty());
    assert_eq!(
        (ended.summary.success_count, ended.summary.failure_count),
        (2, 1)
    );

    let dress = &ended.results[0];
    let metadata = dress.metadata.as_ref().unwrap();
    assert_eq!(
        (metadata.dimensions.width, metadata.dimensions.height),
        (400, 502)
    );
    assert_eq!(metadata.model.name, "u2netp");
    let ready = installation.client().get(installation.url("/health/ready"));
    let ready: Value = serde_json::from_str(&ready.send().unwrap().text().unwrap()).unwrap();
    let in_use = json!({"stage": "matte", "provider": metadata.model.provider});
    assert!(
        ready["providers"].as_array().unwrap().contains(&in_use),
        "{ready}"
    );
    let matting = metadata.matting.as_ref().unwrap();
    assert!(
        matting.no_subject.is_none() && matting.confidence > 0.5,
        "{matting:?}"
    );
    let picture = image::load_from_memory(&installation.bytes(dress.result_url.as_ref().unwrap()))
        .unwrap()
        .into_rgba8();
    // The dress fills the middle; the quilt lies in the corners.
    assert!(
        picture.get_pixel(200, 150)[3] > 240,
        "the subject must be kept"
    );
    assert!(
        picture.get_pixel(5, 495)[3] < 15,
        "the background must be gone"
    );
    let thumbnail =
        image::load_from_memory(&installation.bytes(dress.thumbnail_url.as_ref().unwrap()))
            .unwrap();
    assert!(thumbnail.width() <= 256 && thumbnail.height() <= 256);

    let stages: Vec<&str> = metadata
        .stages
        .iter()
        .map(|timing| timing.stage.as_str())
        .collect();
    assert_eq!(
        stages,
        ["ingest", "preprocess", "classify", "matte", "compose"]
    );
    support::assert_ended_once(installation, &[task.task_id], 3);
    follow_by_correlation_id(installation, task.task_id);
}

/// What an analyst does with kcat: one task through every topic.
fn follow_by_correlation_id(installation: &Installation, task: Uuid) {
    // The broken picture may fail at its header (in ingest) or in the decoder.
    for (topic, expected) in [
        ("image-tasks", 1..=1),
        ("images-ingested", 2..=3),
        ("images-preprocessed", 2..=2),
        ("images-classified", 2..=2),
        ("images-matted", 2..=2),
        ("images-composed", 2..=2),
        ("images-persisted", 2..=2),
    ] {
        let found = installation
            .read_topic(topic)
            .into_iter()
            .filter(|record| record.header("ce_correlationid") == Some(&task.to_string()))
            .count();
        assert!(
            expected.contains(&found),
            "{topic} has {found} records of the task"
        );
    }
}

fn the_same_key_is_the_same_task(installation: &Installation) {
    let key = Uuid::new_v4().to_string();
    let submit = |quality: &str| {
        let blob: Value = {
            let list: Value =
                serde_json::from_slice(&installation.bytes("/api/v1/tasks?limit=1")).unwrap();
            list["tasks"][0]["results"][0].clone()
        };
        assert!(blob.is_object());
        installation
            .client()
            .post(installation.url("/api/v1/tasks"))
            .header("Idempotency-Key", &key)
            .json(&json!({ "images": ["https://picture.invalid/1.jpg"], "quality": quality }))
            .send()
            .unwrap()
    };
    let (first, second, other) = (submit("low"), submit("low"), submit("high"));
    assert_eq!(
        (
            first.status().as_u16(),
            second.status().as_u16(),
            other.status().as_u16()
        ),
        (202, 200, 409)
    );
    let id = |answer: reqwest::blocking::Response| {
        serde_json::from_str::<Value>(&answer.text().unwrap()).unwrap()["taskId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(id(first), id(second));
}

fn a_task_by_topic(installation: &Installation) {
    // The upload of another task is a blob that an upstream system may name.
    let uploaded = installation.upload(&[("slippers.jpg", sample("slippers.jpg"))], &low());
    installation.wait_for_end(uploaded.task_id);
    let submitted = installation
        .read_topic("image-tasks")
        .into_iter()
        .find(|record| record.json()["taskId"] == json!(uploaded.task_id.to_string()))
        .unwrap()
        .json();
    let task = Uuid::new_v4();
    installation.submit_by_topic(&json!({
        "taskId": task.to_string(),
        "images": [submitted["images"][0]],
        "options": { "quality": "low", "output": { "format": "webp", "background": "#ff0000" } },
    }));
    let ended = installation.wait_for_end(task);
    assert_eq!(ended.status, TaskStatus::Completed);
    let picture = installation.bytes(ended.results[0].result_url.as_ref().unwrap());
    let corner = *image::load_from_memory(&picture)
        .unwrap()
        .into_rgba8()
        .get_pixel(3, 3);
    assert!(
        corner[0] > 200 && corner[1] < 60 && corner[3] == 255,
        "the background must be red, is {corner:?}"
    );
    support::assert_ended_once(installation, &[task], 1);
}

fn garbage_on_every_topic_goes_to_dead_letters(installation: &Installation) {
    let table = atelier_schemas::TopicTable::embedded();
    let read_by_stages: Vec<&str> = table
        .topics()
        .iter()
        .filter(|topic| {
            topic
                .to
                .iter()
                .any(|reader| table.stages().contains(reader))
        })
        .map(|topic| topic.name.as_str())
        .collect();
    let before = dead_letters(installation);
    for topic in table.topics() {
        installation.produce(&topic.name, b"k", &[], b"\xff\x00 no event at all");
        let type_of_topic = topic
            .events
            .first()
            .map_or("atelier.nothing.v1", String::as_str);
        let id = Uuid::new_v4().to_string();
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", id.as_str()),
            ("ce_source", "/test"),
            ("ce_type", type_of_topic),
        ];
        installation.produce(
            &topic.name,
            b"k",
            &headers,
            br#"{"taskId":7,"images":"none"}"#,
        );
    }
    // Two on each topic that a stage reads; garbage with a type that a reader of task-events has no use for is skipped.
    let neighbour = installation.upload(&[("dress.jpg", sample("dress.jpg"))], &low());
    assert_eq!(
        installation.wait_for_end(neighbour.task_id).status,
        TaskStatus::Completed
    );
    let expected = before + 2 * read_by_stages.len() + 2 * table.stages().len();
    installation.wait_for("garbage in the dead letters", || {
        (dead_letters(installation) >= expected - 1).then_some(())
    });
    for record in installation.read_topic("matte-dead-letters") {
        if record.value.starts_with(b"{\"taskId\":7")
            && record.header("__connect.errors.topic").is_some()
        {
            let message = record.header("__connect.errors.exception.message").unwrap();
            assert!(!message.is_empty());
        }
    }
}

fn dead_letters(installation: &Installation) -> usize {
    let table = atelier_schemas::TopicTable::embedded();
    table
        .stages()
        .iter()
        .map(|stage| {
            installation
                .read_topic(&format!("{stage}-dead-letters"))
                .len()
        })
        .sum()
}

fn a_dead_letter_is_repaired_and_replayed(installation: &Installation) {
    let task = Uuid::new_v4();
    installation.submit_by_topic(&json!({ "taskId": task.to_string(), "images": ["https://picture.invalid/1.jpg"], "quality": "best" }));
    let letter = installation.wait_for("the dead letter", || {
        installation
            .read_topic("ingest-dead-letters")
            .into_iter()
            .find(|record| record.header("ce_correlationid") == Some(&task.to_string()))
    });
    let message = letter.header("__connect.errors.exception.message").unwrap();
    assert!(
        message.contains("/quality"),
        "the pointer of the fault must be in `{message}`"
    );
    let list = installation
        .command(&["replay", "ingest"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&list.stdout).into_owned();
    let place = format!("{}:{}", letter.partition, letter.offset);
    assert!(list.status.success() && shown.contains(&place), "{shown}");

    let submitted = installation.read_topic("image-tasks");
    let image = submitted
        .iter()
        .filter_map(|record| serde_json::from_slice::<Value>(&record.value).ok())
        .find_map(|body| {
            body["images"][0]["blob"]
                .is_object()
                .then(|| body["images"][0].clone())
        })
        .unwrap();
    let repaired = installation.folder.path().join("repaired.json");
    let body = json!({ "taskId": task.to_string(), "images": [image], "options": low() });
    fs::write(&repaired, body.to_string()).unwrap();
    let replay = installation
        .command(&[
            "replay",
            "ingest",
            "--at",
            &place,
            "--value",
            repaired.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(
        replay.status.success(),
        "{}",
        String::from_utf8_lossy(&replay.stderr)
    );
    let answer = installation.wait_for("the repaired result", || {
        installation.task(task).filter(|answer| {
            answer
                .results
                .iter()
                .any(|image| image.result_url.is_some())
        })
    });
    assert!(
        !installation
            .bytes(answer.results[0].result_url.as_ref().unwrap())
            .is_empty()
    );
}

fn removebg_answers_with_the_picture(installation: &Installation) {
    let part =
        reqwest::blocking::multipart::Part::bytes(sample("dress.jpg")).file_name("dress.jpg");
    let form = reqwest::blocking::multipart::Form::new()
        .part("image_file", part)
        .text("format", "png");
    let mut answer = installation
        .client()
        .post(installation.url("/v1.0/removebg"))
        .header("X-Api-Key", "any")
        .timeout(Duration::from_secs(120))
        .multipart(form)
        .send()
        .unwrap();
    let mut bytes = Vec::new();
    answer.read_to_end(&mut bytes).unwrap();
    assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(
        image::guess_format(&bytes).unwrap(),
        image::ImageFormat::Png
    );
}
