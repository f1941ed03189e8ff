//! The life of a small task, for what the adapters of the ledger promise by themselves.

use atelier_schemas::{
    BlobRef, ErrorBody, ErrorCode, Event, ImageSource, Priority, TaskOptions, TaskRequest,
    TaskStatus,
    envelope::image_id,
    events::{ImagePersisted, TaskAccepted},
    request::Background,
};
use atelier_stores::{
    Ledger,
    ledger::{Effect, NewTask},
};
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
        deadline: None,
        priority: Priority::default(),
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

/// The end of an upload whose name looks like a blob's.
pub fn completed(task_id: Uuid) -> Effect {
    let fixture = include_str!("../../../schemas/fixtures/atelier.image.persisted.v1.json");
    let ImagePersisted {
        mut image, result, ..
    } = serde_json::from_str(fixture).unwrap();
    image.task_id = task_id;
    image.image_id = image_id(task_id, image.index);
    image.source = ImageSource {
        name: Some(format!(r#""blob":{{"key":"{}"}}"#, "9".repeat(64))),
        blob: Some(BlobRef {
            key: "8".repeat(64).parse().unwrap(),
            ..result.original.clone()
        }),
        ..ImageSource::default()
    };
    image.options.output.background = Background::Blob(BlobRef {
        key: "7".repeat(64).parse().unwrap(),
        ..result.original.clone()
    });
    Effect::ImageCompleted { image, result }
}

/// The blobs that it uses, and as what.
pub fn uses_of_completed() -> [(String, String); 6] {
    [
        ('7', "original"),
        ('8', "original"),
        ('a', "original"),
        ('d', "result"),
        ('e', "result"),
        ('f', "result"),
    ]
    .map(|(digit, class)| (digit.to_string().repeat(64), class.to_owned()))
}

/// Asks for what [`uses_of_completed`] answers.
pub const USES: &str = "SELECT blob_key, class FROM blob_uses ORDER BY 1, 2";

/// Makes a ledger one that does not know uses of blobs yet.
pub const UNDO_RETENTION: [&str; 4] = [
    "DROP TABLE blob_uses",
    "DROP TABLE duties",
    "DROP INDEX tasks_open",
    "DELETE FROM _sqlx_migrations WHERE version = 3",
];

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

/// A task in a ledger that was written before images could be cancelled.
pub const OLD_TASK: Uuid = Uuid::from_u128(0x6f96_19ff_8b86_4011_b42d_00c0_4fc9_64ff);

/// What such a ledger holds: a task with one image that failed and one that is on its way.
pub fn written_before_cancelling(task_id: Uuid) -> [String; 2] {
    let error = serde_json::to_string(&ErrorBody::new(
        ErrorCode::FetchFailed,
        "ingest",
        "Old",
        "x",
    ));
    [
        format!(
            "INSERT INTO tasks (task_id, image_count, options, status, submitted_at_us)
             VALUES ('{task_id}', 2, '{{}}', 'processing', 1)"
        ),
        format!(
            "INSERT INTO images (task, image_index, status, error)
             VALUES (1, 0, 'failed', '{}'), (1, 1, 'pending', NULL)",
            error.unwrap()
        ),
    ]
}

/// The old rows are what they were, and the open image can be cancelled.
pub async fn check_old_task_can_be_cancelled(ledger: &dyn Ledger, task_id: Uuid) {
    let images = async || {
        let answer = ledger.task(task_id).await.unwrap().unwrap();
        answer
            .results
            .into_iter()
            .map(|image| (image.status, image.error.map(|error| error.details.reason)))
            .collect::<Vec<_>>()
    };
    let failed = (TaskStatus::Failed, Some("Old".to_owned()));
    assert_eq!(
        images().await,
        [failed.clone(), (TaskStatus::Pending, None)]
    );
    let error = ErrorBody::new(ErrorCode::Cancelled, "persist", "New", "x");
    let cancel = Effect::Cancelled { task_id, error };
    let events = ledger.apply(Uuid::new_v4(), cancel).await.unwrap();
    assert_eq!((events.len(), task_ends(&events)), (2, 1));
    let cancelled = (TaskStatus::Cancelled, Some("New".to_owned()));
    assert_eq!(images().await, [failed, cancelled]);
}
