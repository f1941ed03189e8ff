//! The pipeline with its blobs on an S3 server, which fails and is full for a while.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[path = "../../stores/tests/support/s3.rs"]
mod s3;

use std::fs;

use atelier_schemas::TaskStatus;
use s3::{ACCESS_KEY, BUCKET, Fault, SECRET_KEY, Server, objects};
use serde_json::{Value, json};
use support::{Installation, assert_ended_once, samples};

fn installation(server: &Server) -> Installation {
    let mut installation = Installation::new(&format!(
        "[stores]\nblobs_url = \"s3://{BUCKET}/blobs\"\n[stores.blobs.s3]\nendpoint = \"{}\"\n",
        server.endpoint()
    ));
    installation.environment = vec![
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
    ];
    installation
}

fn dress() -> Vec<u8> {
    fs::read(samples().join("dress.jpg")).unwrap()
}

#[test]
fn a_photograph_goes_through_the_pipeline_by_way_of_s3() {
    let server = Server::start();
    let mut installation = installation(&server);
    installation.start_up();
    let low = json!({ "quality": "low" });

    let first = installation.upload(&[("dress.jpg", dress())], &low);
    let ended = installation.wait_for_end(first.task_id);
    assert_eq!(ended.status, TaskStatus::Completed);
    let result = installation.bytes(ended.results[0].result_url.as_ref().unwrap());
    let picture = image::load_from_memory(&result).unwrap().into_rgba8();
    assert!(picture.get_pixel(200, 150)[3] > 240 && picture.get_pixel(5, 495)[3] < 15);
    let kept: Vec<Vec<u8>> = objects(&server.bucket())
        .iter()
        .map(|object| fs::read(object).unwrap())
        .collect();
    assert!(kept.contains(&result) && kept.contains(&dress()));
    assert!(!installation.folder.path().join("data/blobs").exists());

    // It fails while a picture is on its way: the stages wait, nothing is lost.
    let second = installation.upload(
        &[(
            "jacket.jpg",
            fs::read(samples().join("jacket.jpg")).unwrap(),
        )],
        &low,
    );
    server.faults(|_| Some(Fault::Refuse(503, "SlowDown", "please wait")));
    let message = installation.wait_for("the state of the blobs", || {
        let answer = installation
            .client()
            .get(installation.url("/health/ready"))
            .send()
            .unwrap();
        (answer.status() == 503).then(|| answer.text().unwrap())
    });
    let health: Value = serde_json::from_str(&message).unwrap();
    let blobs = health["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|dependency| dependency["name"] == "blobs")
        .unwrap();
    let said = blobs["message"].as_str().unwrap();
    assert!(
        said.contains("SlowDown: please wait") && said.contains(&server.endpoint()),
        "{said}"
    );
    let mut other = dress();
    other.push(0);
    let (status, body) = installation.try_upload(other.clone());
    assert_eq!(status, 503, "{body}");
    server.faults(|asked| {
        (asked.method == "PUT").then_some(Fault::Refuse(507, "XMinioStorageFull", "no room"))
    });
    let (status, body) = installation.try_upload(other);
    assert_eq!(status, 507, "{body}");
    assert!(body.contains("no room"), "{body}");

    server.no_faults();
    let ended = installation.wait_for_end(second.task_id);
    assert_eq!(ended.status, TaskStatus::Completed);
    assert_ended_once(&installation, &[first.task_id, second.task_id], 1);
    assert!(installation.terminate("up"));
    assert!(!installation.log("up").contains(SECRET_KEY));
}
