//! The life of a small task, for what the adapters of the ledger promise by themselves.

use atelier_schemas::{
    ErrorBody, ErrorCode, Event, ImageSource, TaskOptions, TaskRequest, events::TaskAccepted,
};
use atelier_stores::ledger::{Effect, NewTask};
use chrono::Utc;
use uuid::Uuid;

pub fn sources() -> Vec<ImageSource> {
    vec![ImageSource {
        url: Some("https://shop.example/shirt.jpg".to_owned()),
        ..ImageSource::default()
    }]
}

pub fn new_task(task_id: Uuid) -> NewTask {
    let request = TaskRequest {
        task_id: Some(task_id),
        images: sources(),
        kind: None,
        quality: None,
        watermark: None,
        options: Some(TaskOptions::default()),
        callback: None,
    };
    NewTask {
        task_id,
        request,
        submitted_at: Utc::now(),
        traceparent: None,
        fingerprint: "f".to_owned(),
    }
}

pub fn accepted(task_id: Uuid) -> Effect {
    let options = TaskOptions::default();
    Effect::Accepted(TaskAccepted {
        task_id,
        options,
        images: sources(),
        submitted_at: Utc::now(),
    })
}

pub fn failed(task_id: Uuid) -> Effect {
    let error = ErrorBody::new(
        ErrorCode::FetchFailed,
        "ingest",
        "Sample",
        "x".repeat(2_000),
    );
    Effect::Failed {
        task_id,
        image_id: None,
        error,
    }
}

/// The events that a task's life is made of, with ids that repeat.
pub fn life_of(task_id: Uuid) -> [(Uuid, Effect); 2] {
    [
        (Uuid::new_v5(&task_id, b"accepted"), accepted(task_id)),
        (Uuid::new_v5(&task_id, b"failed"), failed(task_id)),
    ]
}

pub fn task_ends(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::TaskEnded(_)))
        .count()
}
