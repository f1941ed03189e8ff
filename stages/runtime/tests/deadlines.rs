//! What is past its deadline costs nothing more, ends once, and says so: on the in-process runner.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use atelier_runtime::{
    AnyStage, Batch, Batching, Clock as _, Failure, FailureClass, InRecord, LocalOptions,
    LocalRunner, Message, OutRecord, Outcome, Stage, StageInput, VirtualClock,
    encode::error_header,
    local::{root_envelope, root_record},
};
use atelier_schemas::{
    DecodeError, Envelope, Event, TaskRequest,
    envelope::header,
    events::{ImageIngested, ImagePreprocessed, StageFailed},
    from_json,
    topics::TASK_EVENTS,
};
use chrono::{DateTime, TimeDelta, Utc};
use support::{batches, each, failure, ingest_one, ingested, name_of, preprocess_one, task};
use uuid::Uuid;

/// A task whose payload names a deadline, as `ingest` reads it.
#[derive(Clone)]
struct Request(TaskRequest);

impl StageInput for Request {
    fn decode(_: &Envelope, value: &[u8]) -> Result<Option<Self>, DecodeError> {
        from_json(value).map(|request| Some(Self(request)))
    }

    fn deadline(&self) -> Option<DateTime<Utc>> {
        self.0.deadline
    }
}

fn in_seconds(clock: &VirtualClock, seconds: i64) -> DateTime<Utc> {
    clock.now() + TimeDelta::seconds(seconds)
}

fn runner(stages: Vec<Arc<dyn AnyStage>>, clock: &Arc<VirtualClock>) -> LocalRunner {
    let options = LocalOptions {
        clock: Arc::clone(clock) as _,
        ..LocalOptions::default()
    };
    LocalRunner::with_options(stages, options)
}

fn failures(runner: &LocalRunner) -> Vec<StageFailed> {
    let events = runner.events(TASK_EVENTS).unwrap();
    let failed = events.into_iter().filter_map(|(_, event)| match event {
        Event::StageFailed(failed) => Some(failed),
        _ => None,
    });
    failed.collect()
}

fn code_of(letter: &InRecord) -> Option<&str> {
    letter.header_text(error_header::CODE)
}

#[tokio::test]
async fn what_is_late_is_dropped_from_its_batch_and_its_neighbours_pass() {
    let clock = Arc::new(VirtualClock::new());
    let limits = Batching {
        max_batch: 4,
        max_pixels: u64::MAX,
        max_delay_ms: 0,
    };
    let stage = batches("ingest", limits, |batch: Batch<Request>| {
        let names: Vec<&str> = batch
            .iter()
            .map(|message| name_of(&message.data.0))
            .collect();
        assert_eq!(names, ["a", "b"]);
        let done = batch
            .iter()
            .map(|message| Outcome::emit(ingested(message.envelope.correlation_id.unwrap(), 0)));
        Ok(done.collect())
    });
    let mut runner = runner(vec![stage], &clock);
    let mut late_task = None;
    for (name, deadline) in [
        ("a", None),
        ("late", Some(in_seconds(&clock, -1))),
        ("b", Some(in_seconds(&clock, 60))),
    ] {
        let request = TaskRequest {
            deadline,
            ..task(&[name])
        };
        if name == "late" {
            late_task = request.task_id;
        }
        runner.submit(request).unwrap();
    }
    runner.run().await;
    assert_eq!(runner.records("images-ingested").len(), 2);
    let letters = runner.dead_letters("ingest");
    assert_eq!(letters.len(), 1);
    assert_eq!(code_of(&letters[0]), Some("deadlineExceeded"));
    let failures = failures(&runner);
    assert_eq!(failures.len(), 1);
    assert_eq!(Some(failures[0].task_id), late_task);
    assert!(failures[0].error.message.contains("deadline"));
    assert!(runner.counts("ingest").unwrap().balance());
}

#[tokio::test]
async fn the_next_stage_knows_the_deadline_and_the_earlier_of_two_counts() {
    let clock = Arc::new(VirtualClock::new());
    for (of_payload, of_envelope) in [(10, None), (10, Some(60)), (60, Some(10))] {
        let first = each("ingest", |message: &Message<Request>| {
            Outcome::emit(ingested(message.envelope.correlation_id.unwrap(), 0))
        });
        let slow = Arc::new(Slow(Arc::clone(&clock)));
        let never = each("classify", |_: &Message<ImagePreprocessed>| panic!("late"));
        let mut runner = runner(vec![first, slow, never], &clock);
        let expected = in_seconds(&clock, 10);
        let request = TaskRequest {
            deadline: Some(in_seconds(&clock, of_payload)),
            ..task(&["a"])
        };
        let event: Event = request.into();
        let mut envelope = root_envelope("/upstream", &event, clock.now());
        envelope.deadline = of_envelope.map(|seconds| in_seconds(&clock, seconds));
        runner.append(root_record(&event, &envelope).unwrap());
        runner.run().await;
        for topic in ["images-ingested", "images-preprocessed", TASK_EVENTS] {
            for (envelope, _) in runner.events(topic).unwrap() {
                let carried = envelope.deadline.unwrap();
                assert_eq!(carried.timestamp_millis(), expected.timestamp_millis());
            }
        }
        // It was begun in time, and kept however long it took; what follows is not begun.
        assert_eq!(runner.records("images-preprocessed").len(), 1);
        let letters = runner.dead_letters("classify");
        assert_eq!(code_of(&letters[0]), Some("deadlineExceeded"));
        let told = failures(&runner);
        assert_eq!(told.len(), 1);
        assert!(told[0].image_id.is_some());
    }
}

/// Takes a minute for each picture.
struct Slow(Arc<VirtualClock>);

#[async_trait]
impl Stage for Slow {
    type Input = ImageIngested;

    fn name(&self) -> &'static str {
        "preprocess"
    }

    async fn handle(&self, batch: Batch<Self::Input>) -> Result<Vec<Outcome>, Failure> {
        self.0.sleep(std::time::Duration::from_secs(60)).await;
        Ok(batch.iter().map(preprocess_one).collect())
    }
}

#[tokio::test]
async fn a_message_that_waits_for_another_attempt_ends_at_its_deadline() {
    let clock = Arc::new(VirtualClock::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let stage = each("ingest", move |_: &Message<Request>| {
        seen.fetch_add(1, Ordering::SeqCst);
        Outcome::failed(failure(FailureClass::Transient, "not now"))
    });
    let mut runner = runner(vec![stage], &clock);
    let deadline = in_seconds(&clock, 3);
    let request = TaskRequest {
        deadline: Some(deadline),
        ..task(&["a"])
    };
    runner.submit(request).unwrap();
    runner.run().await;
    // Three tries in place; the second attempt would have come after five seconds.
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let letters = runner.dead_letters("ingest");
    assert_eq!(code_of(&letters[0]), Some("deadlineExceeded"));
    let ended_at = letters[0].header_text(error_header::TIME).unwrap();
    let ended_at = DateTime::parse_from_rfc3339(ended_at).unwrap();
    let late_ms = (ended_at.with_timezone(&Utc) - deadline).num_milliseconds();
    assert!((0..100).contains(&late_ms), "{late_ms} ms late");
}

#[tokio::test]
async fn a_letter_that_is_replayed_is_worked_whatever_its_payload_says() {
    let clock = Arc::new(VirtualClock::new());
    let stage = each("ingest", |message: &Message<Request>| {
        Outcome::emit(ingested(message.envelope.correlation_id.unwrap(), 0))
    });
    let mut runner = runner(vec![stage], &clock);
    let event: Event = TaskRequest {
        deadline: Some(in_seconds(&clock, -60)),
        ..task(&["a"])
    }
    .into();
    let mut envelope = root_envelope("/upstream", &event, clock.now());
    envelope.replay = 1;
    runner.append(OutRecord {
        topic: "ingest-retry".to_owned(),
        ..root_record(&event, &envelope).unwrap()
    });
    runner.run().await;
    assert_eq!(runner.records("images-ingested").len(), 1);
}

/// A stage that keeps the tasks' books.
struct Bookkeeper;

#[async_trait]
impl Stage for Bookkeeper {
    type Input = TaskRequest;

    fn name(&self) -> &'static str {
        "ingest"
    }

    fn drops_unwanted(&self) -> bool {
        false
    }

    async fn handle(&self, batch: Batch<TaskRequest>) -> Result<Vec<Outcome>, Failure> {
        Ok(batch.iter().map(ingest_one).collect())
    }
}

#[tokio::test]
async fn who_keeps_the_books_records_what_is_late() {
    let clock = Arc::new(VirtualClock::new());
    let mut runner = runner(vec![Arc::new(Bookkeeper)], &clock);
    let event: Event = task(&["a"]).into();
    let mut envelope = root_envelope("/upstream", &event, clock.now());
    envelope.deadline = Some(in_seconds(&clock, -60));
    runner.append(root_record(&event, &envelope).unwrap());
    runner.run().await;
    assert_eq!(runner.records("images-ingested").len(), 1);
}

#[tokio::test]
async fn a_repeat_of_a_late_message_makes_the_same_report() {
    let event: Event = task(&["a"]).into();
    let mut ids = Vec::new();
    let clock = Arc::new(VirtualClock::new());
    let mut envelope = root_envelope("/upstream", &event, clock.now());
    envelope.id = Uuid::new_v4();
    envelope.deadline = Some(in_seconds(&clock, -1));
    for _ in 0..2 {
        let stage = each("ingest", ingest_one);
        let mut runner = runner(vec![stage], &clock);
        runner.append(root_record(&event, &envelope).unwrap());
        runner.run().await;
        let reports = runner.records(TASK_EVENTS);
        assert_eq!(reports.len(), 1);
        ids.push(reports[0].header_text(header::ID).unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
}
