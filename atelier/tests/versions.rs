//! A finished picture is made again with other options, over HTTP and by topic; what was made before stays.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use atelier_schemas::{TaskAnswer, TaskStatus, answer::VersionsAnswer};
use atelier_servers::Kafka;
use serde_json::{Value, json};
use support::{Installation, samples};
use uuid::Uuid;

#[test]
fn a_picture_is_made_again() {
    make_again(Installation::new(""));
}

#[test]
fn a_picture_is_made_again_on_kafka() {
    if let Some(kafka) = Kafka::start("") {
        make_again(Installation::on_kafka(kafka.bootstrap_servers()));
    }
}

fn make_again(mut installation: Installation) {
    installation.start_up();
    let dress = fs::read(samples().join("dress.jpg")).unwrap();
    let pictures = [("dress.jpg", dress.clone())];
    let first = installation.upload(&pictures, &json!({ "quality": "low" }));
    let first = installation.wait_for_end(first.task_id);
    let cut_out = result_of(&installation, &first);

    let second = repeat(&installation, first.task_id, "#ff0000");
    let second = installation.wait_for_end(second.task_id);
    assert_eq!(second.status, TaskStatus::Completed, "{second:?}");
    assert_eq!(second.results[0].version, 2);
    let on_red = result_of(&installation, &second);
    assert_eq!(corner(&cut_out)[3], 0);
    assert_eq!(corner(&on_red), [255, 0, 0, 255]);

    let third = by_topic(&installation, &second);
    let third = installation.wait_for_end(third);
    let on_blue = result_of(&installation, &third);
    assert_eq!(corner(&on_blue), [0, 0, 255, 255]);

    let path = format!("/api/v1/tasks/{}/images/0/versions", first.task_id);
    let VersionsAnswer { versions } = serde_json::from_slice(&installation.bytes(&path)).unwrap();
    let tasks = [first.task_id, second.task_id, third.task_id];
    assert_eq!(versions.len(), 3);
    for (((version, number), task), bytes) in versions
        .iter()
        .zip(1..)
        .zip(tasks)
        .zip([&cut_out, &on_red, &on_blue])
    {
        assert_eq!((version.image.version, version.task_id), (number, task));
        let url = version.image.result_url.as_ref().unwrap();
        assert_eq!(&installation.bytes(url), bytes, "version {number}");
        assert_eq!(
            installation.bytes(&version.image.original_url),
            dress,
            "version {number}"
        );
    }
    support::assert_ended_once(&installation, &tasks, 1);
    assert_eq!(ended(&installation, third.task_id)["version"], 3);
    let ingested = installation.read_topic("images-ingested");
    assert_eq!(ingested.len(), 3);
    for record in ingested {
        assert_eq!(
            record.json()["original"]["key"],
            ended(&installation, first.task_id)["result"]["original"]["key"]
        );
    }
}

fn repeat(installation: &Installation, task: Uuid, background: &str) -> TaskAnswer {
    let answer = installation
        .client()
        .post(installation.url(&format!("/api/v1/tasks/{task}/repeat")))
        .json(&options(background))
        .send()
        .unwrap();
    assert_eq!(answer.status(), 202);
    answer.json().unwrap()
}

fn options(background: &str) -> Value {
    json!({ "options": { "quality": "low", "output": { "background": background } } })
}

/// As an upstream system does it, with what the end of the image told.
fn by_topic(installation: &Installation, repeated: &TaskAnswer) -> Uuid {
    let task = Uuid::new_v4();
    let end = installation.wait_for("the end on the log", || {
        Some(ended(installation, repeated.task_id)).filter(|end| !end.is_null())
    });
    let mut body = options("#0000ff");
    body["taskId"] = json!(task);
    body["images"] = json!([{
        "blob": end["result"]["original"],
        "repeatOf": { "taskId": end["taskId"], "imageId": end["imageId"] },
    }]);
    installation.submit_by_topic(&body);
    task
}

/// The end of the task's image, as it stands on the log; null while it does not.
fn ended(installation: &Installation, task: Uuid) -> Value {
    let events = installation.read_topic("task-events");
    let ends = events.iter().filter(|event| {
        event.event_type() == "atelier.image.ended.v1" && event.json()["taskId"] == json!(task)
    });
    ends.map(|event| event.json()).next().unwrap_or_default()
}

fn result_of(installation: &Installation, task: &TaskAnswer) -> Vec<u8> {
    installation.bytes(task.results[0].result_url.as_ref().unwrap())
}

/// The colour of a pixel that does not belong to the dress.
fn corner(picture: &[u8]) -> [u8; 4] {
    let picture = image::load_from_memory(picture).unwrap().into_rgba8();
    picture.get_pixel(5, 495).0
}
