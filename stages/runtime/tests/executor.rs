//! The stage contract, outcome by outcome, on the in-process runner: it shares the executor with the Kafka loop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use atelier_runtime::{
    Batching, Cancelled, Emission, FailureClass, InRecord, LocalOptions, LocalPipeline,
    LocalRunner, OutRecord, Outcome, Readiness, RetryOptions, SystemClock,
    encode::error_header,
    execute::{Admitted, Executor},
    local::root_envelope,
    record::{Header, TopicPartition},
};
use atelier_schemas::{
    Event, TaskRequest, TopicTable,
    envelope::{event_id, header},
    events::ImageRequested,
    topics::TASK_EVENTS,
};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use support::{
    batches, context, each, failure, ingest_one, ingested, name_of, no_op_pipeline, task,
};
use tokio::sync::Semaphore;

fn stage_failures(runner: &LocalRunner) -> Vec<atelier_schemas::events::StageFailed> {
    let events = runner.events(TASK_EVENTS).unwrap();
    events
        .into_iter()
        .filter_map(|(_, event)| {
            if let Event::StageFailed(failed) = event {
                Some(failed)
            } else {
                None
            }
        })
        .collect()
}

#[tokio::test]
async fn an_emitted_event_carries_on_what_its_parent_knew() {
    let mut runner = LocalRunner::new(vec![each("ingest", ingest_one)]);
    let event: Event = task(&["a"]).into();
    let mut parent = root_envelope("/upstream", &event, Utc::now());
    parent.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    parent.deadline = Some(Utc::now() + TimeDelta::hours(1));
    runner.append(atelier_runtime::local::root_record(&event, &parent).unwrap());
    runner.run().await;

    let (child, child_event) = runner.events("images-ingested").unwrap().remove(0);
    assert_eq!(child.id, event_id(parent.id, "ingest", "0"));
    assert_eq!(
        (child.causation_id, child.correlation_id),
        (Some(parent.id), event.task_id())
    );
    assert_eq!(child.subject, child_event.image_id());
    assert_eq!(
        child.deadline.unwrap().timestamp_micros(),
        parent.deadline.unwrap().timestamp_micros()
    );
    let trace = child.traceparent.unwrap();
    assert!(
        trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-")
            && !trace.contains("b7ad6b7169203331"),
        "{trace}"
    );
    assert_eq!(
        child
            .timings
            .iter()
            .map(|timing| timing.stage.as_str())
            .collect::<Vec<_>>(),
        ["ingest"]
    );
    let key = runner.records("images-ingested")[0].key.clone().unwrap();
    assert_eq!(key, child_event.image_id().unwrap().to_string());

    let (_, progress) = runner.events(TASK_EVENTS).unwrap().remove(0);
    let Event::StageCompleted(completed) = progress else {
        panic!("{progress:?}")
    };
    assert_eq!(
        (Some(completed.task_id), completed.timing.stage.as_str()),
        (event.task_id(), "ingest")
    );
}

#[tokio::test]
async fn a_whole_chain_runs_and_its_books_balance() {
    let mut runner = LocalRunner::new(no_op_pipeline());
    for _ in 0..5 {
        runner.submit(task(&["a"])).unwrap();
    }
    runner.run().await;
    let persisted = runner.events("images-persisted").unwrap();
    assert_eq!(persisted.len(), 5);
    let stages: Vec<_> = persisted[0]
        .0
        .timings
        .iter()
        .map(|timing| timing.stage.clone())
        .collect();
    assert_eq!(
        stages,
        [
            "ingest",
            "preprocess",
            "classify",
            "matte",
            "compose",
            "persist"
        ]
    );
    for stage in stages {
        let counts = runner.counts(&stage).unwrap();
        assert!(
            counts.balance() && counts.emitted == 5,
            "{stage}: {counts:?}"
        );
    }
}

#[tokio::test]
async fn poison_goes_to_the_dead_letters_as_it_came_and_neighbours_pass() {
    let mut runner = LocalRunner::new(vec![each("ingest", ingest_one)]);
    let event: Event = task(&["a"]).into();
    let good =
        atelier_runtime::local::root_record(&event, &root_envelope("/x", &event, Utc::now()))
            .unwrap();
    let task_id = event.task_id().unwrap().to_string();
    let no_headers = OutRecord {
        headers: vec![],
        value: Some(Bytes::from_static(b"\xff\x00garbage")),
        ..good.clone()
    };
    let not_json = OutRecord {
        value: Some(Bytes::from_static(b"{\"images\":")),
        ..good.clone()
    };
    let wrong_value = OutRecord {
        value: Some(Bytes::from_static(br#"{"images":[{"url":7}]}"#)),
        ..good.clone()
    };
    let tombstone = OutRecord {
        value: None,
        ..good.clone()
    };
    let mut wrong_type = good.clone();
    atelier_runtime::record::set_header(
        &mut wrong_type.headers,
        header::TYPE,
        "atelier.task.submitted.v2",
    );
    let mut null_header = good.clone();
    null_header.headers.push(Header {
        name: header::DEADLINE.into(),
        value: None,
    });
    let poison = [
        no_headers.clone(),
        not_json,
        wrong_value,
        tombstone,
        wrong_type,
        null_header,
    ];
    for record in poison.clone() {
        runner.append(record);
        runner.append(good.clone());
    }
    runner.run().await;

    assert_eq!(runner.records("images-ingested").len(), poison.len());
    let dead = runner.dead_letters("ingest");
    let reasons: Vec<&str> = dead
        .iter()
        .map(|record| record.header_text(error_header::EXCEPTION_CLASS).unwrap())
        .collect();
    let expected = [
        "EnvelopeError::Missing",
        "DecodeError::NotJson",
        "DecodeError::Mismatch",
        "DecodeError::NotJson",
        "DecodeError::UnknownType",
        "EnvelopeError::Malformed",
    ];
    assert_eq!(reasons, expected);
    for (index, (dead, original)) in dead.iter().zip(&poison).enumerate() {
        assert_eq!((&dead.key, &dead.value), (&original.key, &original.value));
        assert_eq!(dead.headers[..original.headers.len()], original.headers[..]);
        assert_eq!(dead.header_text(error_header::TOPIC), Some("image-tasks"));
        assert_eq!(
            dead.header_text(error_header::OFFSET),
            Some((index * 2).to_string().as_str())
        );
    }
    assert_eq!(
        dead[2].header_text(error_header::POINTER),
        Some("/images/0/url")
    );
    // Without headers and without a readable value nobody can be told.
    let failures = stage_failures(&runner);
    assert_eq!(failures.len(), poison.len() - 1);
    assert!(
        failures
            .iter()
            .all(|failed| failed.task_id.to_string() == task_id && failed.stage == "ingest")
    );
    assert_eq!(
        failures[1].error.details.pointer.as_deref(),
        Some("/images/0/url")
    );
    assert!(runner.counts("ingest").unwrap().balance());
}

#[tokio::test]
async fn a_transient_failure_is_tried_in_place_then_by_the_retry_topic_up_to_the_limit() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let stage = each(
        "ingest",
        move |_: &atelier_runtime::Message<TaskRequest>| {
            seen.fetch_add(1, Ordering::SeqCst);
            Outcome::failed(failure(FailureClass::Transient, "not now"))
        },
    );
    let retry = RetryOptions {
        in_place_tries: 2,
        max_attempts: 3,
        ..RetryOptions::default()
    };
    let mut runner = LocalRunner::with_options(
        vec![stage],
        LocalOptions {
            retry,
            ..LocalOptions::default()
        },
    );
    let submitted = runner.submit(task(&["a"])).unwrap();
    runner.run().await;

    assert_eq!(calls.load(Ordering::SeqCst), 2 * 3);
    let retried = runner.records("ingest-retry");
    let attempts: Vec<_> = retried
        .iter()
        .map(|record| record.header_text(header::ATTEMPT).unwrap())
        .collect();
    assert_eq!(attempts, ["2", "3"]);
    let original = runner.records("image-tasks")[0].clone();
    assert!(
        retried
            .iter()
            .all(|record| record.value == original.value && record.key == original.key)
    );
    assert!(retried.iter().all(|record| record.header_text(header::ID) == Some(submitted.id.to_string().as_str())));
    let dead = runner.dead_letters("ingest");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header_text(error_header::ATTEMPTS), Some("3"));
    assert_eq!(dead[0].header_text(error_header::CODE), Some("fetchFailed"));
    assert_eq!(stage_failures(&runner).len(), 1);
    let counts = runner.counts("ingest").unwrap();
    assert!(counts.balance());
    assert_eq!(
        (counts.taken, counts.retried, counts.dead_lettered),
        (3, 2, 1)
    );
}

#[tokio::test]
async fn only_the_failing_message_of_a_batch_is_handled_again() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let limits = Batching {
        max_batch: 4,
        max_pixels: u64::MAX,
        max_delay_ms: 0,
    };
    let stage = batches(
        "ingest",
        limits,
        move |batch: Vec<atelier_runtime::Message<TaskRequest>>| {
            let first = seen.lock().unwrap().is_empty();
            seen.lock().unwrap().push(batch.len());
            Ok(batch
                .iter()
                .map(|message| match name_of(&message.data) {
                    "flaky" if first => {
                        Outcome::failed(failure(FailureClass::Transient, "not now"))
                    }
                    _ => ingest_one(message),
                })
                .collect())
        },
    );
    let mut runner = LocalRunner::new(vec![stage]);
    for name in ["a", "flaky", "b", "c"] {
        runner.submit(task(&[name])).unwrap();
    }
    runner.run().await;
    assert_eq!(*sizes.lock().unwrap(), [4, 1]);
    assert_eq!(runner.records("images-ingested").len(), 4);
    assert!(runner.records("ingest-retry").is_empty());
}

#[tokio::test]
async fn a_failed_batch_is_bisected_and_a_panic_fails_alone() {
    for panics in [true, false] {
        let limits = Batching {
            max_batch: 8,
            max_pixels: u64::MAX,
            max_delay_ms: 0,
        };
        let stage = batches(
            "ingest",
            limits,
            move |batch: Vec<atelier_runtime::Message<TaskRequest>>| {
                if batch.iter().any(|message| name_of(&message.data) == "bad") {
                    assert!(!panics, "cannot bear this picture");
                    return Err(failure(FailureClass::Permanent, "cannot bear this picture"));
                }
                Ok(batch.iter().map(ingest_one).collect())
            },
        );
        let mut runner = LocalRunner::new(vec![stage]);
        for name in ["a", "b", "c", "bad", "d", "e", "f", "g"] {
            runner.submit(task(&[name])).unwrap();
        }
        runner.run().await;
        assert_eq!(runner.records("images-ingested").len(), 7);
        let dead = runner.dead_letters("ingest");
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].offset, 0);
        assert_eq!(dead[0].header_text(error_header::OFFSET), Some("3"));
        let message = dead[0]
            .header_text(error_header::EXCEPTION_MESSAGE)
            .unwrap();
        assert!(message.contains("cannot bear this picture"), "{message}");
        assert!(runner.counts("ingest").unwrap().balance());
    }
}

#[tokio::test]
async fn a_stage_that_miscounts_loses_nothing() {
    let limits = Batching {
        max_batch: 4,
        max_pixels: u64::MAX,
        max_delay_ms: 0,
    };
    let stage = batches(
        "ingest",
        limits,
        |batch: Vec<atelier_runtime::Message<TaskRequest>>| {
            Ok(batch.iter().take(1).map(ingest_one).collect())
        },
    );
    let mut runner = LocalRunner::new(vec![stage]);
    for name in ["a", "b", "c"] {
        runner.submit(task(&[name])).unwrap();
    }
    runner.run().await;
    // Alone, each gets its one outcome.
    assert_eq!(runner.records("images-ingested").len(), 3);
    assert!(runner.counts("ingest").unwrap().balance());
}

#[tokio::test]
async fn what_every_message_needs_is_waited_for_without_counting_attempts() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let stage = each(
        "ingest",
        move |message: &atelier_runtime::Message<TaskRequest>| {
            if seen.fetch_add(1, Ordering::SeqCst) < 40 {
                return Outcome::failed(failure(FailureClass::Unavailable, "disk is full"));
            }
            ingest_one(message)
        },
    );
    let mut runner = LocalRunner::new(vec![stage]);
    runner.submit(task(&["a"])).unwrap();
    runner.run().await;
    assert_eq!(calls.load(Ordering::SeqCst), 41);
    assert_eq!(runner.records("images-ingested").len(), 1);
    assert!(runner.records("ingest-retry").is_empty() && runner.dead_letters("ingest").is_empty());
}

#[tokio::test]
async fn a_batch_that_is_settled_does_not_wait_for_another_turn() {
    let executor = Executor::new(
        each("ingest", ingest_one),
        TopicTable::embedded(),
        RetryOptions::default(),
        Arc::new(SystemClock),
        Readiness::new("ingest"),
        &Cancelled::none(),
    );
    let event: Event = task(&["a"]).into();
    let record =
        atelier_runtime::local::root_record(&event, &root_envelope("/x", &event, Utc::now()))
            .unwrap();
    let read = InRecord {
        source: TopicPartition {
            topic: record.topic.into(),
            partition: 0,
        },
        offset: 0,
        key: record.key,
        headers: record.headers,
        value: record.value,
        timestamp: Utc::now(),
    };
    let Admitted::Work(work) = executor.admit(read, 0) else {
        panic!("to be handled")
    };
    let gate = Arc::new(Semaphore::new(1));
    let permit = Arc::clone(&gate).acquire_owned().await.unwrap();
    // Whoever is next gets the gate, and keeps it.
    let next = async {
        let _held = Arc::clone(&gate).acquire_owned().await.unwrap();
        std::future::pending::<()>().await;
    };
    let both = async {
        tokio::select! {
            biased;
            () = next => panic!("it keeps the gate"),
            left = executor.execute(vec![work], permit, &gate, &|_| {}) => left.left,
        }
    };
    let left = tokio::time::timeout(std::time::Duration::from_secs(20), both).await;
    assert_eq!(left.expect("it is done"), 0);
}

#[tokio::test]
async fn past_its_deadline_a_message_costs_no_work() {
    let stage = each("ingest", |_: &atelier_runtime::Message<TaskRequest>| {
        panic!("must not be asked")
    });
    let mut runner = LocalRunner::new(vec![stage]);
    let event: Event = task(&["a"]).into();
    let mut envelope = root_envelope("/x", &event, Utc::now());
    envelope.deadline = Some(Utc::now() - TimeDelta::seconds(10));
    runner.append(atelier_runtime::local::root_record(&event, &envelope).unwrap());
    runner.run().await;
    assert_eq!(
        runner.dead_letters("ingest")[0].header_text(error_header::CODE),
        Some("deadlineExceeded")
    );
    assert_eq!(stage_failures(&runner).len(), 1);
}

#[tokio::test]
async fn a_part_of_a_task_fails_without_the_others() {
    let stage = each(
        "ingest",
        |message: &atelier_runtime::Message<support::TaskOrImage>| match &message.data {
            support::TaskOrImage::Task(request) => {
                let task_id = request.task_id.unwrap();
                let again = ImageRequested {
                    image: context(task_id, 1),
                };
                let never = ImageRequested {
                    image: context(task_id, 2),
                };
                Outcome::Emit(vec![
                    Emission::Event(ingested(task_id, 0).into()),
                    Emission::Retry(again.into(), failure(FailureClass::Transient, "timed out")),
                    Emission::Reject(never.into(), failure(FailureClass::Permanent, "no picture")),
                ])
            }
            support::TaskOrImage::Image(requested) => {
                Outcome::emit(ingested(requested.image.task_id, requested.image.index))
            }
        },
    );
    let mut runner = LocalRunner::new(vec![stage]);
    let parent = runner.submit(task(&["a", "b", "c"])).unwrap();
    runner.run().await;

    let ingested = runner.events("images-ingested").unwrap();
    assert_eq!(
        ingested
            .iter()
            .filter_map(|(_, event)| event.image())
            .map(|image| image.index)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    let (retried, _) = runner.events("ingest-retry").unwrap().remove(0);
    assert_eq!(
        (retried.id, retried.attempt),
        (event_id(parent.id, "ingest", "1"), 2)
    );
    assert!(retried.not_before.is_some());
    let (dead, dead_event) = runner.events("ingest-dead-letters").unwrap().remove(0);
    assert_eq!(dead.id, event_id(parent.id, "ingest", "2"));
    let failed = stage_failures(&runner).remove(0);
    assert_eq!(failed.image_id, dead_event.image_id());
    assert_eq!(failed.error.details.stage, "ingest");
}

#[tokio::test]
async fn a_repeat_makes_the_same_ids() {
    let mut ids = Vec::new();
    let event: Event = task(&["a"]).into();
    let envelope = root_envelope("/x", &event, Utc::now());
    for _ in 0..2 {
        let mut runner = LocalRunner::new(no_op_pipeline());
        runner.append(atelier_runtime::local::root_record(&event, &envelope).unwrap());
        runner.run().await;
        let all: Vec<_> = [TASK_EVENTS, "images-matted", "images-persisted"]
            .iter()
            .flat_map(|topic| runner.events(topic).unwrap())
            .map(|(envelope, _)| envelope.id)
            .collect();
        assert_eq!(
            all.iter().collect::<HashSet<_>>().len(),
            all.len(),
            "ids are unique"
        );
        ids.push(all);
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_value_larger_than_its_topic_is_a_dead_letter_that_says_so() {
    // The table allows 1 MiB everywhere; the input is just below, the dead letter with its headers above.
    let mut runner = LocalRunner::new(vec![each(
        "ingest",
        |_: &atelier_runtime::Message<TaskRequest>| panic!("not asked"),
    )]);
    let event: Event = task(&["a"]).into();
    let mut record =
        atelier_runtime::local::root_record(&event, &root_envelope("/x", &event, Utc::now()))
            .unwrap();
    let size = 1_048_576 - 600;
    record.value = Some(Bytes::from(vec![b'x'; size]));
    runner.append(record);
    runner.run().await;
    let dead = &runner.dead_letters("ingest")[0];
    assert_eq!(dead.value, None);
    assert_eq!(
        dead.header_text(error_header::OMITTED_VALUE_BYTES),
        Some(size.to_string().as_str())
    );
    assert_eq!(
        dead.header_text(header::CORRELATION_ID),
        event.task_id().map(|id| id.to_string()).as_deref()
    );
}

#[tokio::test]
async fn an_event_larger_than_its_topic_fails_its_message() {
    let stage = each(
        "ingest",
        |message: &atelier_runtime::Message<TaskRequest>| {
            let mut event = ingested(message.data.task_id.unwrap(), 0);
            event.image.source.name = Some("x".repeat(2_000_000));
            Outcome::emit(event)
        },
    );
    let mut runner = LocalRunner::new(vec![stage]);
    runner.submit(task(&["a"])).unwrap();
    runner.run().await;
    assert!(runner.records("images-ingested").is_empty());
    let dead = &runner.dead_letters("ingest")[0];
    assert_eq!(
        dead.header_text(error_header::EXCEPTION_CLASS),
        Some("RecordTooLarge")
    );
    assert!(
        dead.header_text(error_header::EXCEPTION_MESSAGE)
            .unwrap()
            .contains("has 200"),
        "says how large"
    );
    assert!(dead.value.is_some());
}

#[tokio::test]
async fn the_pipeline_runs_all_stages_at_once_within_its_bounds() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (enter, peak) = (Arc::clone(&waiting), Arc::clone(&most));
    let leave = Arc::clone(&waiting);
    let mut stages = no_op_pipeline();
    stages[0] = each("ingest", move |message| {
        peak.fetch_max(enter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        ingest_one(message)
    });
    stages[5] = each("persist", move |message| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        leave.fetch_sub(1, Ordering::SeqCst);
        support::persist_one(message)
    });
    let options = LocalOptions {
        queue_capacity: 2,
        ..LocalOptions::in_real_time()
    };
    let (pipeline, mut observed) = LocalPipeline::start(stages, &options);
    for _ in 0..100 {
        pipeline.submit(task(&["a"])).await.unwrap();
    }
    let counts = pipeline.finish().await;
    assert_eq!(counts["persist"].emitted, 100);
    assert!(
        counts.values().all(atelier_runtime::Counts::balance),
        "{counts:?}"
    );
    let mut persisted = 0;
    while let Ok(record) = observed.try_recv() {
        persisted += usize::from(record.topic == "images-persisted");
    }
    assert_eq!(persisted, 100);
    // Six stages of two places, and two batches each on the way.
    assert!(
        most.load(Ordering::SeqCst) <= 6 * (2 + 2),
        "{}",
        most.load(Ordering::SeqCst)
    );
}

#[tokio::test]
async fn the_pipeline_waits_for_retries() {
    let failed_once = AtomicUsize::new(0);
    let stage = each("ingest", move |message| {
        match failed_once.fetch_add(1, Ordering::SeqCst) {
            0 => Outcome::failed(failure(FailureClass::Transient, "not now")),
            _ => ingest_one(message),
        }
    });
    let retry = RetryOptions {
        in_place_tries: 1,
        delay_ms: 30,
        ..RetryOptions::default()
    };
    let (pipeline, _) = LocalPipeline::start(
        vec![stage],
        &LocalOptions {
            retry,
            ..LocalOptions::in_real_time()
        },
    );
    pipeline.submit(task(&["a"])).await.unwrap();
    let counts = pipeline.finish().await;
    assert_eq!((counts["ingest"].retried, counts["ingest"].emitted), (1, 1));
}
