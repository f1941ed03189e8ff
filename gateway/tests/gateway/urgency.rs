//! Deadlines and priorities of tasks: taken in every form, refused with their value, and on the topic where they belong.

use crate::common::{Form, Place, eventually, task_id};
use atelier_schemas::{
    TaskRequest, from_json,
    topics::{IMAGE_TASKS, IMAGE_TASKS_BULK},
};
use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

const IMAGE: &str = "https://a.example/1.jpg";

fn in_seconds(seconds: i64) -> String {
    let time = Utc::now() + TimeDelta::seconds(seconds);
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[tokio::test]
async fn bulk_tasks_go_to_their_own_topic_with_what_was_asked_for() {
    let place = Place::new().await;
    let server = place.start().await;
    let deadline = in_seconds(3_600);
    let body = |priority: &str| {
        json!({ "images": [IMAGE], "priority": priority, "deadline": deadline }).to_string()
    };
    let form = Form::new()
        .text("urls", IMAGE)
        .text("deadline", &deadline)
        .text("priority", "bulk");
    let mut ids = Vec::new();
    for (response, topic) in [
        (
            server.post_json("/api/v1/tasks", body("bulk")).await,
            IMAGE_TASKS_BULK,
        ),
        (
            server.post_json("/api/v1/tasks", body("interactive")).await,
            IMAGE_TASKS,
        ),
        (
            server.post_form("/api/v1/tasks", form).await,
            IMAGE_TASKS_BULK,
        ),
    ] {
        assert_eq!(response.status(), 202);
        ids.push((task_id(&response.json().await.unwrap()), topic));
    }
    eventually("they are on the log", async || {
        place.log.published.lock().unwrap().len() == ids.len()
    })
    .await;
    for row in place.log.published.lock().unwrap().iter() {
        let (_, topic) = ids.iter().find(|(id, _)| *id == row.task_id).unwrap();
        assert_eq!(row.topic, *topic);
        let request: TaskRequest = from_json(&row.value).unwrap();
        assert_eq!(request.deadline, Some(deadline.parse().unwrap()));
    }
    server.stop().await;
}

#[tokio::test]
async fn deadlines_and_priorities_that_make_no_sense_are_refused_with_their_value() {
    let place = Place::new().await;
    let server = place.start().await;
    let passed = in_seconds(-5);
    for (name, value, code) in [
        ("deadline", "tomorrow", "invalidRequest"),
        ("deadline", "2126-01-31T18:00:00", "invalidRequest"),
        ("deadline", &passed, "deadlineExceeded"),
        ("priority", "urgent", "invalidRequest"),
    ] {
        let body = json!({ "images": [IMAGE], name: value }).to_string();
        let form = Form::new().text("urls", IMAGE).text(name, value);
        for response in [
            server.post_json("/api/v1/tasks", body).await,
            server.post_form("/api/v1/tasks", form).await,
        ] {
            let status = response.status().as_u16();
            let answer: Value = response.json().await.unwrap();
            let error = &answer["error"];
            assert_eq!(
                (status, error["code"].as_str()),
                (422, Some(code)),
                "{answer}"
            );
            assert_eq!(error["details"]["pointer"], format!("/{name}"));
            assert!(
                error["message"].as_str().unwrap().contains(value),
                "{answer}"
            );
        }
    }
    let twice = Form::new()
        .text("priority", "bulk")
        .text("priority", "bulk");
    assert_eq!(server.post_form("/api/v1/tasks", twice).await.status(), 422);
    assert!(place.ledger.outbox_pending(10).await.unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_after_the_deadline_is_answered_with_the_task() {
    let place = Place::new().await;
    let server = place.start().await;
    let deadline = (Utc::now() + TimeDelta::seconds(1)).to_rfc3339();
    let post = async |deadline: &str, key: &'static str| {
        let request = server
            .client
            .post(server.url("/api/v1/tasks"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let body = json!({ "images": [IMAGE], "deadline": deadline }).to_string();
        request.body(body).send().await.unwrap()
    };
    let first = post(&deadline, "order-17").await;
    assert_eq!(first.status(), 202);
    let id = task_id(&first.json().await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let again = post(&deadline, "order-17").await;
    assert_eq!(again.status(), 200);
    assert_eq!(task_id(&again.json().await.unwrap()), id);
    assert_eq!(post(&in_seconds(60), "order-17").await.status(), 409);
    assert_eq!(post(&deadline, "order-18").await.status(), 422);
    server.stop().await;
}
