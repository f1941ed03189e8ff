//! Tasks in, pictures out, on the runtime's in-process runner.
#![allow(clippy::unwrap_used)]

mod server;

use std::sync::Arc;

use atelier_ingest::{FetchOptions, Ingest, IngestInput, IngestOptions};
use atelier_runtime::{
    Emission, FailureClass, LocalRunner, Message, Outcome, Stage as _, StageInput as _,
};
use atelier_schemas::{
    BlobKey, BlobRef, Envelope, ErrorCode, Event, ImageSource, Priority, TaskRequest,
    envelope::image_id,
    events::{ImageIngested, Payload as _, StageFailed, TaskAccepted},
    topics::IMAGE_TASKS_BULK,
};
use atelier_stores::{Blobs, BlobsOptions, DirectoryBlobs, blobs::MemoryBlobs};
use serde_json::json;
use server::{Server, png};
use uuid::Uuid;

fn options() -> IngestOptions {
    IngestOptions {
        max_bytes: 200_000,
        fetch: FetchOptions {
            total_timeout_ms: 1_500,
            allow_addresses: vec!["127.0.0.0/8".parse().unwrap()],
            ..FetchOptions::default()
        },
        ..IngestOptions::default()
    }
}

struct Bench {
    runner: LocalRunner,
    blobs: Arc<MemoryBlobs>,
}

impl Bench {
    fn new(options: IngestOptions) -> Self {
        let blobs = Arc::new(MemoryBlobs::new());
        let stage = Ingest::new(options, blobs.clone()).unwrap();
        Self {
            runner: LocalRunner::new(vec![Arc::new(stage)]),
            blobs,
        }
    }

    async fn run(&mut self, request: serde_json::Value) -> Envelope {
        let request: TaskRequest = serde_json::from_value(request).unwrap();
        let envelope = self.runner.submit(request).unwrap();
        self.runner.run().await;
        envelope
    }

    fn ingested(&self) -> Vec<ImageIngested> {
        let mut ingested: Vec<_> = events(&self.runner, "images-ingested")
            .into_iter()
            .map(|event| match event {
                Event::ImageIngested(ingested) => ingested,
                other => panic!("{}", other.event_type()),
            })
            .collect();
        ingested.sort_by_key(|ingested| ingested.image.index);
        ingested
    }

    fn accepted(&self) -> Vec<TaskAccepted> {
        let accepted = |event| {
            if let Event::TaskAccepted(accepted) = event {
                Some(accepted)
            } else {
                None
            }
        };
        events(&self.runner, "task-events")
            .into_iter()
            .filter_map(accepted)
            .collect()
    }

    fn failed(&self) -> Vec<StageFailed> {
        let failed = |event| {
            if let Event::StageFailed(failed) = event {
                Some(failed)
            } else {
                None
            }
        };
        events(&self.runner, "task-events")
            .into_iter()
            .filter_map(failed)
            .collect()
    }
}

fn events(runner: &LocalRunner, topic: &str) -> Vec<Event> {
    runner
        .events(topic)
        .unwrap()
        .into_iter()
        .map(|(_, event)| event)
        .collect()
}

fn upload(key: &BlobKey) -> serde_json::Value {
    // What the sender claims of its upload counts for nothing.
    json!({"blob": {"key": key, "mediaType": "text/plain", "bytes": 1, "width": 9, "height": 9}})
}

#[tokio::test]
async fn a_task_becomes_one_event_per_picture() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let key = bench.blobs.put(png(50, 60).into()).await.unwrap();
    let task_id = Uuid::new_v4();
    let images = json!([server.url("/good.png"), {"url": server.url("/other.png"), "name": "b.png"}, upload(&key)]);
    let envelope = bench
        .run(json!({"taskId": task_id, "images": images, "type": "product"}))
        .await;

    let accepted = bench.accepted();
    assert_eq!(accepted.len(), 1);
    assert_eq!(
        (accepted[0].task_id, accepted[0].images.len()),
        (task_id, 3)
    );
    assert_eq!(
        accepted[0].submitted_at.timestamp_micros(),
        envelope.time.timestamp_micros()
    );
    let ingested = bench.ingested();
    let sizes: Vec<_> = ingested
        .iter()
        .map(|image| (image.original.width, image.original.height))
        .collect();
    assert_eq!(sizes, [(40, 30), (31, 17), (50, 60)]);
    for (index, image) in (0..).zip(&ingested) {
        assert_eq!((image.image.index, image.image.image_count), (index, 3));
        assert_eq!(image.image.image_id, image_id(task_id, index));
        assert_eq!(image.original.media_type, "image/png");
        assert_eq!(
            bench.blobs.size(&image.original.key).await.unwrap(),
            Some(image.original.bytes)
        );
        assert_eq!(image.background, None);
    }
    assert_eq!(ingested[1].image.source.name.as_deref(), Some("b.png"));
    assert_eq!(bench.runner.dead_letters("ingest").len(), 0);
}

#[tokio::test]
async fn one_picture_fails_alone() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let huge = bench.blobs.put(huge_png().into()).await.unwrap();
    let missing: BlobKey = "ab".repeat(32).parse().unwrap();
    let images = json!([
        server.url("/404"),
        server.url("/good.png"),
        "http://169.254.169.254/latest/meta-data/",
        upload(&huge),
        upload(&missing),
        server.url("/text"),
        "file:///etc/passwd",
        server.url("/other.png"),
    ]);
    bench.run(json!({"images": images})).await;
    let indices: Vec<_> = bench
        .ingested()
        .iter()
        .map(|image| image.image.index)
        .collect();
    assert_eq!(indices, [1, 7]);
    let accepted = bench.accepted().remove(0);
    let verdict = |failed: &StageFailed| {
        let index =
            (0..8).find(|index| Some(image_id(accepted.task_id, *index)) == failed.image_id);
        (index, failed.error.code)
    };
    let mut failed: Vec<_> = bench.failed().iter().map(verdict).collect();
    failed.sort_by_key(|(index, _)| *index);
    assert_eq!(
        failed,
        [
            (Some(0), ErrorCode::FetchFailed),
            (Some(2), ErrorCode::AddressForbidden),
            (Some(3), ErrorCode::ImageTooLarge),
            (Some(4), ErrorCode::NotFound),
            (Some(5), ErrorCode::UnsupportedFormat),
            (Some(6), ErrorCode::AddressForbidden),
        ]
    );
    assert_eq!(bench.runner.dead_letters("ingest").len(), 6);
}

/// A small file whose header claims 60,000 × 60,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut file = png(4, 4);
    file[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    file[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    file
}

#[tokio::test]
async fn what_may_succeed_later_does() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    bench
        .run(json!({"images": [server.url("/503-at-first")]}))
        .await;
    assert_eq!(bench.ingested().len(), 1);
    assert_eq!(bench.failed(), []);
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn what_never_succeeds_ends_in_the_dead_letters() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    bench
        .run(json!({"images": [server.url("/503"), server.url("/good.png")]}))
        .await;
    assert_eq!(bench.ingested().len(), 1);
    let failed = bench.failed();
    assert_eq!(
        (failed.len(), failed[0].error.code),
        (1, ErrorCode::FetchFailed)
    );
    assert_eq!(bench.runner.dead_letters("ingest").len(), 1);
    assert!(server.requests() > 2, "it was tried again");
}

#[tokio::test]
async fn a_background_is_fetched_once_per_task() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let output = json!({"background": server.url("/other.png")});
    let images: Vec<_> = (0..5).map(|_| server.url("/good.png")).collect();
    bench
        .run(json!({"images": images, "options": {"output": output}}))
        .await;
    let ingested = bench.ingested();
    assert_eq!(ingested.len(), 5);
    let background = ingested[0].background.clone().unwrap();
    assert_eq!((background.width, background.height), (31, 17));
    assert!(
        ingested
            .iter()
            .all(|image| image.background.as_ref() == Some(&background))
    );
    assert_eq!(server.requests(), 6);
}

#[tokio::test]
async fn a_background_that_never_comes_fails_every_picture_with_that_reason() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let output = json!({"background": server.url("/404")});
    let images = [server.url("/good.png"), server.url("/other.png")];
    bench
        .run(json!({"images": images, "options": {"output": output}}))
        .await;
    assert_eq!((bench.accepted().len(), bench.ingested().len()), (1, 0));
    let failed = bench.failed();
    assert_eq!(failed.len(), 2);
    for failed in failed {
        assert!(failed.image_id.is_some());
        assert!(
            failed.error.message.contains("background") && failed.error.message.contains("404"),
            "{:?}",
            failed.error
        );
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_trimap_goes_on_with_its_picture() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let trimap = bench.blobs.put(png(50, 60).into()).await.unwrap();
    let picture = bench.blobs.put(png(60, 50).into()).await.unwrap();
    let (mut turned, blob) = (upload(&picture), upload(&trimap));
    // The picture may lie on its side, so that its upright size is the trimap's.
    turned["trimap"] = blob;
    let fetched = json!({"url": server.url("/good.png"), "trimap": server.url("/good.png")});
    bench
        .run(json!({"images": [turned, fetched, server.url("/good.png")]}))
        .await;
    let ingested = bench.ingested();
    let sizes: Vec<_> = ingested
        .iter()
        .map(|image| {
            image
                .trimap
                .as_ref()
                .map(|trimap| (trimap.width, trimap.height))
        })
        .collect();
    let good = &ingested[2].original;
    assert_eq!(
        sizes,
        [Some((50, 60)), Some((good.width, good.height)), None]
    );
}

#[tokio::test]
async fn a_trimap_that_cannot_be_taken_fails_its_picture_alone() {
    let server = Server::start().await;
    for (path, said) in [
        ("/text", "is no JPEG"),
        ("/404", "404"),
        ("/other.png", "it has 31 × 17 pixels and its picture"),
    ] {
        let mut bench = Bench::new(options());
        let picture = json!({"url": server.url("/good.png"), "trimap": server.url(path)});
        bench
            .run(json!({"images": [picture, server.url("/good.png")]}))
            .await;
        assert_eq!(bench.ingested().len(), 1, "{path}");
        let message = &bench.failed()[0].error.message;
        assert!(
            message.contains("the trimap") && message.contains(said),
            "{path}: {message}"
        );
    }
}

#[tokio::test]
async fn a_background_that_is_no_picture_fails_before_any_model_runs() {
    let server = Server::start().await;
    for (path, said) in [
        ("/text", "is no JPEG"),
        ("/empty", "empty"),
        ("/404", "404"),
    ] {
        let mut bench = Bench::new(options());
        let output = json!({"background": server.url(path)});
        bench
            .run(json!({"images": [server.url("/good.png")], "options": {"output": output}}))
            .await;
        assert_eq!(bench.ingested().len(), 0, "{path}");
        let message = &bench.failed()[0].error.message;
        assert!(
            message.contains("the background") && message.contains(said),
            "{path}: {message}"
        );
    }
}

#[tokio::test]
async fn a_watermark_is_fetched_once_per_task_and_goes_with_every_picture() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let images: Vec<_> = (0..3).map(|_| server.url("/good.png")).collect();
    bench
        .run(json!({"images": images, "watermark": server.url("/other.png")}))
        .await;
    let ingested = bench.ingested();
    assert_eq!(ingested.len(), 3);
    let mark = ingested[0].watermark.clone().unwrap();
    assert_eq!((mark.width, mark.height), (31, 17));
    for image in ingested {
        assert_eq!(
            (image.watermark, image.background),
            (Some(mark.clone()), None)
        );
    }
    assert_eq!(server.requests(), 4);
}

#[tokio::test]
async fn a_watermark_that_does_not_load_fails_every_picture_with_its_name() {
    let server = Server::start().await;
    for url in [
        server.url("/404"),
        "http://127.0.0.1.nowhere.invalid/".into(),
    ] {
        let mut bench = Bench::new(options());
        let images = [server.url("/good.png"), server.url("/other.png")];
        bench
            .run(json!({"images": images, "options": {"watermark": {"url": url}}}))
            .await;
        assert_eq!(bench.ingested().len(), 0, "{url}");
        let failed = bench.failed();
        assert!(!failed.is_empty(), "{url}");
        for failed in failed {
            let message = &failed.error.message;
            assert!(
                message.contains("the watermark could not be taken"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn a_text_needs_nothing_fetched() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let mark = json!({"text": "©", "invisible": {"payload": "c0ffee01"}});
    bench
        .run(json!({"images": [server.url("/good.png")], "options": {"watermark": mark}}))
        .await;
    assert_eq!(bench.ingested()[0].watermark, None);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_task_over_its_budget_sends_the_rest_on_one_by_one() {
    let server = Server::start().await;
    let mut bench = Bench::new(IngestOptions {
        task_budget_ms: 0,
        max_concurrent_per_task: 1,
        ..options()
    });
    let output = json!({"background": server.url("/other.png")});
    let images: Vec<_> = (0..6).map(|_| server.url("/good.png")).collect();
    bench
        .run(json!({"images": images, "options": {"output": output}}))
        .await;
    let indices: Vec<_> = bench
        .ingested()
        .iter()
        .map(|image| image.image.index)
        .collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    assert_eq!(bench.accepted().len(), 1);
    assert_eq!(bench.runner.records("ingest-retry").len(), 5);
    assert_eq!(
        server.requests(),
        7,
        "the background is fetched once all the same"
    );
}

#[tokio::test]
async fn the_pictures_of_a_bulk_task_wait_for_their_turn_one_by_one() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    let deadline = "2126-01-31T18:00:00Z";
    let urls: Vec<String> = (0..3).map(|_| server.url("/good.png")).collect();
    bench
        .run(json!({ "images": urls, "priority": "bulk", "deadline": deadline }))
        .await;
    let waiting = bench.runner.events(IMAGE_TASKS_BULK).unwrap();
    let types: Vec<&str> = waiting
        .iter()
        .map(|(envelope, _)| envelope.event_type.as_str())
        .collect();
    let [task, image] = ["atelier.task.submitted.v1", "atelier.image.requested.v1"];
    assert_eq!(
        types,
        [task, image, image],
        "the first goes on with its task"
    );
    assert!(bench.runner.records("ingest-retry").is_empty());
    let indices: Vec<u32> = bench
        .ingested()
        .iter()
        .map(|image| image.image.index)
        .collect();
    assert_eq!(indices, [0, 1, 2]);
    for (envelope, _) in bench.runner.events("images-ingested").unwrap() {
        assert_eq!(envelope.priority, Priority::Bulk);
        assert_eq!(envelope.deadline, Some(deadline.parse().unwrap()));
    }
}

#[tokio::test]
async fn a_request_past_its_deadline_fetches_nothing_and_fails_as_a_whole() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    bench
        .run(json!({ "images": [server.url("/good.png")], "deadline": "2026-01-31T18:00:00Z" }))
        .await;
    assert!(bench.accepted().is_empty() && bench.ingested().is_empty());
    let failed = bench.failed();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].image_id, None);
    assert_eq!(failed[0].error.code, ErrorCode::DeadlineExceeded);
    assert_eq!(bench.runner.dead_letters("ingest").len(), 1);
}

#[tokio::test]
async fn a_request_that_does_not_hold_is_refused_with_its_pointer() {
    let mut bench = Bench::new(options());
    let task_id = Uuid::new_v4();
    bench.run(json!({"taskId": task_id, "images": []})).await;
    bench.run(json!({"taskId": task_id, "images": ["https://a.example/1.jpg"], "callback": "https://b.example"})).await;
    let failed = bench.failed();
    let pointers: Vec<_> = failed
        .iter()
        .map(|failed| failed.error.details.pointer.as_deref())
        .collect();
    assert_eq!(pointers, [Some("/images"), Some("/callback")]);
    assert!(
        failed
            .iter()
            .all(|failed| failed.task_id == task_id && failed.image_id.is_none())
    );
    assert_eq!((bench.accepted().len(), bench.ingested().len()), (0, 0));
}

#[tokio::test]
async fn the_task_id_comes_from_the_body_the_headers_or_the_event() {
    let blobs = Arc::new(MemoryBlobs::new());
    let key = blobs.put(png(5, 5).into()).await.unwrap();
    let stage = Ingest::new(options(), blobs).unwrap();
    let source = ImageSource {
        blob: Some(BlobRef {
            key,
            media_type: String::new(),
            bytes: 0,
            width: 0,
            height: 0,
        }),
        ..ImageSource::default()
    };
    let (in_body, in_header, event_id) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let accepted_id = async |body: Option<Uuid>, header: Option<Uuid>| {
        let mut envelope = Envelope::root("/test", TaskRequest::EVENT_TYPE, event_id, event_id);
        envelope.correlation_id = header;
        let value = json!({"images": [source], "taskId": body}).to_string();
        let data = IngestInput::decode(&envelope, value.as_bytes())
            .unwrap()
            .unwrap();
        let outcomes = stage
            .handle(vec![Message { envelope, data }])
            .await
            .unwrap();
        match &outcomes[..] {
            [Outcome::Emit(emissions)] => match &emissions[..] {
                [
                    Emission::Event(Event::TaskAccepted(accepted)),
                    Emission::Event(Event::ImageIngested(image)),
                ] => {
                    assert_eq!(image.image.task_id, accepted.task_id);
                    accepted.task_id
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(accepted_id(Some(in_body), Some(in_header)).await, in_body);
    assert_eq!(accepted_id(None, Some(in_header)).await, in_header);
    let made = accepted_id(None, None).await;
    assert_eq!(
        accepted_id(None, None).await,
        made,
        "a repeat is the same task"
    );
    assert!(![in_body, in_header, event_id].contains(&made));
}

#[tokio::test]
async fn a_full_store_makes_the_whole_task_wait() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let full = BlobsOptions {
        min_free_bytes: u64::MAX,
        ..BlobsOptions::default()
    };
    let blobs = DirectoryBlobs::open(folder.path(), full).await.unwrap();
    let stage = Ingest::new(options(), Arc::new(blobs)).unwrap();
    let request: TaskRequest =
        serde_json::from_value(json!({"images": [server.url("/good.png")]})).unwrap();
    let envelope = Envelope::root(
        "/test",
        TaskRequest::EVENT_TYPE,
        Uuid::new_v4(),
        Uuid::new_v4(),
    );
    let outcomes = stage
        .handle(vec![Message {
            envelope,
            data: IngestInput::Task(Box::new(request)),
        }])
        .await
        .unwrap();
    let [Outcome::Retry(failure)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(
        (failure.class, failure.body.code),
        (FailureClass::Unavailable, ErrorCode::StorageFull)
    );
}

#[tokio::test]
async fn garbage_goes_to_the_dead_letters_while_its_neighbour_passes() {
    let server = Server::start().await;
    let mut bench = Bench::new(options());
    for value in [
        &b"\xff\x00garbage"[..],
        b"{}",
        b"{\"images\":7}",
        b"{\"images\":[\"x\"],\"unknown\":1}",
        b"",
    ] {
        let event = Event::TaskSubmitted(
            serde_json::from_value(json!({"images": ["https://a.example/1.jpg"]})).unwrap(),
        );
        let envelope = atelier_runtime::local::root_envelope("/test", &event, chrono::Utc::now());
        let mut record = atelier_runtime::local::root_record(&event, &envelope).unwrap();
        record.value = Some(value.to_vec().into());
        bench.runner.append(record);
    }
    bench
        .run(json!({"images": [server.url("/good.png")]}))
        .await;
    assert_eq!(bench.runner.dead_letters("ingest").len(), 5);
    assert_eq!(bench.ingested().len(), 1);
}
