//! Stopping a task: asked for once, answered for what it is, and followed to its end like any other.

use std::sync::atomic::Ordering;

use crate::common::{End, Form, Place, Server, eventually, png};
use atelier_schemas::{ErrorCode, topics::TASK_CONTROL};
use serde_json::Value;
use uuid::Uuid;

async fn delete(server: &Server, id: impl std::fmt::Display) -> (u16, Value) {
    let url = server.url(&format!("/api/v1/tasks/{id}"));
    let response = server.client.delete(url).send().await.unwrap();
    (
        response.status().as_u16(),
        response.json().await.unwrap_or_default(),
    )
}

fn cancels(place: &Place) -> Vec<Uuid> {
    let published = place.log.published.lock().unwrap();
    published
        .iter()
        .filter(|row| row.topic == TASK_CONTROL)
        .map(|row| row.task_id)
        .collect()
}

#[tokio::test]
async fn a_task_is_stopped_once_and_says_so() {
    let place = Place::new().await;
    let server = place.start().await;
    let id = server.submit().await;
    for _ in 0..3 {
        let (status, answer) = delete(&server, id).await;
        assert_eq!((status, answer["status"].as_str()), (202, Some("pending")));
    }
    eventually("it is on the log", async || !cancels(&place).is_empty()).await;
    let stream = server.get(&format!("/api/v1/tasks/{id}/events")).await;
    place.cancel(id).await;
    let (status, answer) = delete(&server, id).await;
    assert_eq!(
        (status, answer["status"].as_str()),
        (200, Some("cancelled"))
    );
    assert_eq!(answer["summary"]["cancelledCount"], 1);
    assert_eq!(answer["results"][0]["error"]["code"], "cancelled");
    eventually("the outbox is empty", async || {
        place.ledger.outbox_pending(10).await.unwrap().is_empty()
    })
    .await;
    assert_eq!(cancels(&place), [id]);
    let told = stream.text().await.unwrap();
    for event in [
        "event: atelier.image.ended.v1",
        "event: atelier.task.ended.v1",
    ] {
        assert_eq!(told.matches(event).count(), 1, "{told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_unknown_or_has_ended_is_not_stopped() {
    let place = Place::new().await;
    let server = place.start().await;
    for unknown in [Uuid::new_v4().to_string(), "no-uuid".to_owned()] {
        let (status, answer) = delete(&server, unknown).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (404, Some("notFound"))
        );
    }
    let picture = png(2, 2, [1, 2, 3, 255]);
    let done = place.result(&picture, "image/png", (2, 2)).await;
    for (end, name) in [
        (done, "completed"),
        (End::failure(ErrorCode::FetchFailed), "failed"),
    ] {
        let id = server.submit().await;
        place.finish(id, &[end]).await;
        let (status, answer) = delete(&server, id).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (409, Some("alreadyEnded")),
            "{answer}"
        );
        assert_eq!(answer["taskId"], id.to_string());
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(name), "{message}");
    }
    assert!(cancels(&place).is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_cancel_goes_out_after_a_crash_before_its_publication() {
    let place = Place::new().await;
    place.log.down.store(true, Ordering::SeqCst);
    let server = place.start().await;
    let id = server.submit().await;
    assert_eq!(delete(&server, id).await.0, 202);
    server.kill().await;
    place.log.down.store(false, Ordering::SeqCst);
    let server = place.start().await;
    eventually("it is on the log", async || cancels(&place) == [id]).await;
    let order: Vec<String> = place
        .log
        .published
        .lock()
        .unwrap()
        .iter()
        .map(|row| row.topic.clone())
        .collect();
    assert_eq!(order, ["image-tasks", TASK_CONTROL]);
    server.stop().await;
}

#[tokio::test]
async fn who_waits_for_the_picture_of_a_cancelled_task_is_told() {
    let place = Place::new().await;
    let server = place.start().await;
    let form = Form::new().file("image_file", "a.jpg", b"\xff\xd8\xff some jpeg");
    let waiting = server.post_form("/v1.0/removebg", form);
    let cancelling = async {
        let published = || place.log.published.lock().unwrap().first().cloned();
        eventually("it is on the log", async || published().is_some()).await;
        place.cancel(published().unwrap().task_id).await;
    };
    let (response, ()) = tokio::join!(waiting, cancelling);
    assert_eq!(response.status(), 409);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["errors"][0]["code"], "cancelled");
    server.stop().await;
}
