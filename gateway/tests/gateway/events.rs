//! Live progress: snapshots, ids, resuming, also over a restart of the gateway.

use std::time::Duration;

use crate::common::{End, Place, Server, eventually, options, partition_of};
use atelier_gateway::GatewayOptions;
use atelier_schemas::{Envelope, ErrorCode, Event, StageTiming, events::StageCompleted};
use serde_json::Value;
use uuid::Uuid;

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq)]
struct Received {
    id: Option<String>,
    event: String,
    data: String,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// Reads a stream event by event.
struct Stream {
    response: reqwest::Response,
    buffer: String,
}

impl Stream {
    async fn open(server: &Server, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = server.client.get(server.url(path));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            buffer: String::new(),
        }
    }

    /// The next event; `None` where the stream ended.
    async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let mut received = Received::default();
                for line in block.lines() {
                    match line
                        .split_once(':')
                        .map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value)))
                    {
                        Some(("id", value)) => received.id = Some(value.to_owned()),
                        Some(("event", value)) => value.clone_into(&mut received.event),
                        Some(("data", value)) => value.clone_into(&mut received.data),
                        _ => {}
                    }
                }
                if received.event.is_empty() {
                    continue;
                }
                return Some(received);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk())
                .await
                .expect("the stream hangs")
                .ok()??;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn rest(mut self) -> Vec<Received> {
        let mut received = Vec::new();
        while let Some(event) = self.next().await {
            received.push(event);
        }
        received
    }
}

fn worked(task_id: Uuid, stage: &str) -> Event {
    StageCompleted {
        task_id,
        image_id: None,
        timing: StageTiming {
            stage: stage.into(),
            queue_ms: 1.0,
            processing_time_ms: 2.0,
        },
    }
    .into()
}

#[tokio::test]
async fn a_task_is_followed_from_its_snapshot_to_its_end() {
    let place = Place::new().await;
    let server = place.start().await;
    let id = server.submit().await;
    let other = server.submit().await;
    let path = format!("/api/v1/tasks/{id}/events");
    let mut stream = Stream::open(&server, &path, None).await;
    let snapshot = stream.next().await.unwrap();
    assert_eq!((snapshot.event.as_str(), &snapshot.id), ("snapshot", &None));
    assert_eq!(snapshot.json()["taskId"], id.to_string());
    place.log.append(&worked(other, "matte"), Uuid::new_v4());
    let result = place
        .result(&crate::common::png(2, 2, [1; 4]), "image/png", (2, 2))
        .await;
    place.finish(id, &[result]).await;
    let events = stream.rest().await;
    let types: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(types.last(), Some(&"atelier.task.ended.v1"), "{types:?}");
    assert!(
        types.contains(&"atelier.stage.completed.v1") && types.contains(&"atelier.image.ended.v1"),
        "{types:?}"
    );
    for event in &events {
        let data = event.json();
        assert_eq!(data["type"], event.event);
        assert_eq!(
            data["data"]["taskId"],
            id.to_string(),
            "an event of another task: {data}"
        );
        assert!(data["eventId"].is_string() && data["time"].is_string());
        assert!(
            event
                .id
                .as_ref()
                .unwrap()
                .starts_with(&format!("{}-", partition_of(id)))
        );
    }
    let again = Stream::open(&server, &path, None).await.rest().await;
    assert_eq!(again.len(), 1, "a task that has ended is its snapshot");
    assert_eq!(again[0].json()["status"], "completed");
    server.stop().await;
}

#[tokio::test]
async fn a_client_resumes_where_it_was_also_after_a_restart_of_the_gateway() {
    let place = Place::new().await;
    let server = place.start().await;
    let id = server.submit().await;
    let path = format!("/api/v1/tasks/{id}/events");
    let mut stream = Stream::open(&server, &path, None).await;
    stream.next().await.unwrap();
    place.log.append(&worked(id, "ingest"), Uuid::new_v4());
    let last = stream.next().await.unwrap().id.unwrap();
    server.stop().await;
    assert_eq!(
        stream.rest().await,
        [],
        "the stream ends cleanly with the gateway"
    );

    place.log.append(&worked(id, "preprocess"), Uuid::new_v4());
    let server = place.start().await;
    place.log.append(&worked(id, "classify"), Uuid::new_v4());
    let mut stream = Stream::open(&server, &path, Some(&last)).await;
    assert_eq!(stream.next().await.unwrap().event, "snapshot");
    place.log.append(&worked(id, "matte"), Uuid::new_v4());
    for stage in ["preprocess", "classify", "matte"] {
        let event = stream.next().await.unwrap();
        assert_eq!(event.json()["data"]["stage"], stage);
    }
    drop(stream);
    place
        .finish(id, &[End::failure(ErrorCode::FetchFailed)])
        .await;
    let missed = Stream::open(&server, &path, Some(&last)).await.rest().await;
    let end = missed.last().unwrap();
    assert_eq!(
        end.event, "atelier.task.ended.v1",
        "it ends although the task had ended before"
    );
    let response = server
        .client
        .get(server.url(&path))
        .header("last-event-id", end.id.clone().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.status(),
        204,
        "nothing came after the end, and the browser shall stop asking"
    );
    server.stop().await;
}

#[tokio::test]
async fn all_tasks_are_followed_with_a_position_on_every_partition() {
    let place = Place::new().await;
    let server = place.start().await;
    let tasks: Vec<Uuid> = (0..12_u128).map(Uuid::from_u128).collect();
    let mut stream = Stream::open(&server, "/api/v1/events", None).await;
    assert_eq!(stream.next().await.unwrap().event, "position");
    for task in &tasks {
        place.log.append(&worked(*task, "ingest"), *task);
    }
    let mut received = Vec::new();
    for _ in &tasks {
        received.push(stream.next().await.unwrap());
    }
    assert_eq!(
        received.last().unwrap().id.as_deref(),
        Some("0-2,1-2,2-2,3-2")
    );
    for task in &tasks {
        place.log.append(&worked(*task, "matte"), *task);
    }
    // From the middle: everything behind that position, each once.
    let middle = received[5].id.clone().unwrap();
    let mut resumed = Stream::open(&server, "/api/v1/events", Some(&middle)).await;
    let mut seen = Vec::new();
    for _ in 0..6 + tasks.len() {
        let event = resumed.next().await.unwrap().json();
        seen.push((
            event["data"]["taskId"].to_string(),
            event["data"]["stage"].to_string(),
        ));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "an event came twice");
    for id in ["x", "1", "0-1,,2", "0--1"] {
        let response = server
            .client
            .get(server.url("/api/v1/events"))
            .header("last-event-id", id)
            .send()
            .await
            .unwrap();
        if id != "0-1,,2" {
            assert_eq!(response.status(), 422, "{id}");
        }
    }
    // An id from a log that was since begun anew.
    let mut ahead = Stream::open(&server, "/api/v1/events", Some("0-999999")).await;
    place
        .log
        .append(&worked(Uuid::from_u128(0), "persist"), Uuid::new_v4());
    loop {
        let event = ahead.next().await.unwrap().json();
        if event["data"]["stage"] == "persist" {
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn garbage_on_the_topic_stops_nobody() {
    let place = Place::new().await;
    let server = place.start().await;
    let id = server.submit().await;
    let mut stream = Stream::open(&server, &format!("/api/v1/tasks/{id}/events"), None).await;
    stream.next().await.unwrap();
    let partition = partition_of(id);
    place
        .log
        .append_raw(partition, Vec::new(), b"\xff\xfe".to_vec());
    let envelope = Envelope::root("/x", "atelier.stage.completed.v1", Uuid::new_v4(), id);
    place
        .log
        .append_raw(partition, envelope.to_headers(), b"{\"half\":".to_vec());
    let unknown = Envelope::root("/x", "atelier.unknown.v9", Uuid::new_v4(), id);
    place
        .log
        .append_raw(partition, unknown.to_headers(), b"{}".to_vec());
    place.log.append(&worked(id, "matte"), Uuid::new_v4());
    assert_eq!(
        stream.next().await.unwrap().event,
        "atelier.stage.completed.v1"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_falls_behind_is_let_go_and_finds_the_rest_in_the_log() {
    let place = Place::new().await;
    let server = place
        .start_with(GatewayOptions {
            event_ring_events: 8,
            ..options()
        })
        .await;
    let id = server.submit().await;
    let path = format!("/api/v1/tasks/{id}/events");
    let mut stream = Stream::open(&server, &path, None).await;
    stream.next().await.unwrap();
    // More than sockets and buffers hold, all at once.
    let wide = "x".repeat(20_000);
    for number in 0..2_000 {
        place
            .log
            .append(&worked(id, &format!("{number}-{wide}")), Uuid::new_v4());
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut numbers = Vec::new();
    let mut last = None;
    let mut connections = 1;
    let mut source = Some(stream);
    while numbers.len() < 2_000 {
        let mut open = match source.take() {
            Some(open) => open,
            None => {
                connections += 1;
                assert!(connections < 500, "no progress");
                Stream::open(&server, &path, last.as_deref()).await
            }
        };
        while let Some(event) = open.next().await {
            if event.event == "snapshot" {
                continue;
            }
            let stage = event.json()["data"]["stage"].as_str().unwrap().to_owned();
            numbers.push(stage.split('-').next().unwrap().parse::<u32>().unwrap());
            last = event.id;
            if numbers.len() == 2_000 {
                break;
            }
        }
    }
    assert!(
        connections > 1,
        "the client was never let go: the test shows nothing"
    );
    assert_eq!(
        numbers,
        (0..2_000).collect::<Vec<_>>(),
        "every event once, in order"
    );
    server.stop().await;
}

#[tokio::test]
async fn idle_streams_are_kept_alive_and_limited() {
    let place = Place::new().await;
    let server = place
        .start_with(GatewayOptions {
            heartbeat_ms: 50,
            max_event_streams: 2,
            ..options()
        })
        .await;
    let mut one = server.get("/api/v1/events").await;
    let mut text = String::new();
    while !text.contains(": ping") {
        text.push_str(std::str::from_utf8(&one.chunk().await.unwrap().unwrap()).unwrap());
    }
    let two = server.get("/api/v1/events").await;
    assert_eq!(server.get("/api/v1/events").await.status(), 503);
    drop(two);
    eventually("the place is free again", async || {
        server.get("/api/v1/events").await.status() == 200
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn streams_of_unknown_tasks_are_404() {
    let place = Place::new().await;
    let server = place.start().await;
    assert_eq!(
        server
            .get("/api/v1/tasks/6f1c1f5e-0000-4000-8000-000000000000/events")
            .await
            .status(),
        404
    );
    server.stop().await;
}
