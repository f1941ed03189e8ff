//! What belongs to a cancelled task costs nothing more: on the in-process runner, and with `task-control` on a real log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use atelier_runtime::{
    AnyStage, Batch, Batching, Cancelled, Counts, Failure, FailureClass, LocalOptions, LocalRunner,
    Message, Outcome, RetryOptions, Stage,
    local::{root_envelope, root_record},
};
use atelier_schemas::{
    Event, TaskRequest,
    envelope::header,
    events::TaskCancelRequested,
    topics::{TASK_CONTROL, TASK_EVENTS},
};
use atelier_servers::{Broker, on_each_broker};
use bytes::Bytes;
use chrono::Utc;
use support::{
    TaskOrImage, batches, each, failure, ingest_one,
    kafka::{Log, eventually, options},
    name_of, task,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// Longest wait for what must not hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn runner(stage: Arc<dyn AnyStage>, cancelled: &Cancelled) -> LocalRunner {
    let options = LocalOptions {
        cancelled: cancelled.clone(),
        ..LocalOptions::default()
    };
    LocalRunner::with_options(vec![stage], options)
}

fn only_cancelled(counts: Counts, cancelled: u64) {
    let expected = Counts {
        taken: cancelled,
        cancelled,
        ..Counts::default()
    };
    assert!(counts.balance());
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn messages_of_a_cancelled_task_are_dropped_and_their_neighbours_pass() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&seen);
    let limits = Batching {
        max_batch: 4,
        max_pixels: u64::MAX,
        max_delay_ms: 0,
    };
    let stage = batches("ingest", limits, move |batch: Batch<TaskRequest>| {
        names.lock().unwrap().extend(
            batch
                .iter()
                .map(|message| name_of(&message.data).to_owned()),
        );
        Ok(batch.iter().map(ingest_one).collect())
    });
    let cancelled = Cancelled::none();
    let mut runner = runner(stage, &cancelled);
    for name in ["a", "unwanted", "b", "unwanted"] {
        let request = task(&[name]);
        if name == "unwanted" {
            cancelled.add(request.task_id.unwrap(), Utc::now());
        }
        runner.submit(request).unwrap();
    }
    runner.run().await;
    assert_eq!(*seen.lock().unwrap(), ["a", "b"]);
    assert_eq!(runner.records("images-ingested").len(), 2);
    assert_eq!(
        runner.records(TASK_EVENTS).len(),
        2,
        "only the others are told of"
    );
    let counts = runner.counts("ingest").unwrap();
    assert!(counts.balance());
    assert_eq!((counts.emitted, counts.cancelled), (2, 2));
}

/// A stage that says when it begins, and never ends.
struct Endless {
    begun: Arc<Notify>,
}

#[async_trait]
impl Stage for Endless {
    type Input = TaskRequest;

    fn name(&self) -> &'static str {
        "ingest"
    }

    fn batching(&self) -> Batching {
        Batching {
            max_batch: 2,
            max_pixels: u64::MAX,
            max_delay_ms: 0,
        }
    }

    async fn handle(&self, _: Batch<TaskRequest>) -> Result<Vec<Outcome>, Failure> {
        self.begun.notify_one();
        pending().await
    }
}

#[tokio::test]
async fn work_that_has_begun_is_given_up_when_all_of_it_is_cancelled() {
    let begun = Arc::new(Notify::new());
    let stage = Endless {
        begun: Arc::clone(&begun),
    };
    let cancelled = Cancelled::none();
    let mut runner = runner(Arc::new(stage), &cancelled);
    let requests = [task(&["a"]), task(&["b"])];
    for request in &requests {
        runner.submit(request.clone()).unwrap();
    }
    let cancelling = async {
        begun.notified().await;
        for request in &requests {
            cancelled.add(request.task_id.unwrap(), Utc::now());
        }
    };
    let both = async { tokio::join!(runner.run(), cancelling) };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(runner.records(TASK_EVENTS).is_empty());
    only_cancelled(runner.counts("ingest").unwrap(), 2);
}

#[tokio::test]
async fn what_comes_out_of_work_on_a_cancelled_task_is_dropped_whatever_it_is() {
    for outcome in ["emits", "retries", "rejects", "waits for what is away"] {
        let cancelled = Cancelled::none();
        let (calls, all) = (Arc::new(AtomicUsize::new(0)), cancelled.clone());
        let seen = Arc::clone(&calls);
        let stage = each("ingest", move |message: &Message<TaskRequest>| {
            seen.fetch_add(1, Ordering::SeqCst);
            all.add(message.data.task_id.unwrap(), Utc::now());
            match outcome {
                "emits" => ingest_one(message),
                "retries" => Outcome::failed(failure(FailureClass::Transient, "not now")),
                "rejects" => Outcome::failed(failure(FailureClass::Permanent, "never")),
                _ => Outcome::failed(failure(FailureClass::Unavailable, "disk is full")),
            }
        });
        let mut runner = runner(stage, &cancelled);
        runner.submit(task(&["a"])).unwrap();
        runner.run().await;
        assert_eq!(calls.load(Ordering::SeqCst), 1, "{outcome}");
        for topic in [
            "images-ingested",
            "ingest-retry",
            "ingest-dead-letters",
            TASK_EVENTS,
        ] {
            assert!(runner.records(topic).is_empty(), "{outcome}: {topic}");
        }
        only_cancelled(runner.counts("ingest").unwrap(), 1);
    }
}

#[tokio::test]
async fn a_message_that_waits_for_another_try_is_dropped_at_once() {
    let cancelled = Cancelled::none();
    let failed = Arc::new(Notify::new());
    let has_failed = Arc::clone(&failed);
    let stage = each("ingest", move |_: &Message<TaskRequest>| {
        has_failed.notify_one();
        Outcome::failed(failure(FailureClass::Transient, "not now"))
    });
    let an_hour_ms = 3_600_000;
    let options = LocalOptions {
        retry: RetryOptions {
            in_place_backoff_ms: an_hour_ms,
            in_place_max_backoff_ms: an_hour_ms,
            ..RetryOptions::default()
        },
        cancelled: cancelled.clone(),
        ..LocalOptions::in_real_time()
    };
    let mut runner = LocalRunner::with_options(vec![stage], options);
    let request = task(&["a"]);
    let task_id = request.task_id.unwrap();
    runner.submit(request).unwrap();
    let cancelling = async {
        failed.notified().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        cancelled.add(task_id, Utc::now());
    };
    let both = async { tokio::join!(runner.run(), cancelling) };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    only_cancelled(runner.counts("ingest").unwrap(), 1);
}

#[tokio::test]
async fn the_retry_topic_gives_nothing_back_and_the_payload_names_the_task_where_no_header_does() {
    let cancelled = Cancelled::none();
    let stage = each("ingest", |_: &Message<TaskOrImage>| {
        panic!("must not be asked")
    });
    let mut runner = runner(stage, &cancelled);
    for topic in ["image-tasks", "ingest-retry"] {
        let request = task(&["a"]);
        cancelled.add(request.task_id.unwrap(), Utc::now());
        let event: Event = request.into();
        let mut record =
            root_record(&event, &root_envelope("/upstream", &event, Utc::now())).unwrap();
        record.topic = topic.to_owned();
        record
            .headers
            .retain(|header| header.name != header::CORRELATION_ID);
        runner.append(record);
    }
    runner.run().await;
    only_cancelled(runner.counts("ingest").unwrap(), 2);
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
async fn a_stage_that_keeps_the_books_sees_everything() {
    let cancelled = Cancelled::none();
    let mut runner = runner(Arc::new(Bookkeeper), &cancelled);
    let request = task(&["a"]);
    cancelled.add(request.task_id.unwrap(), Utc::now());
    runner.submit(request).unwrap();
    runner.run().await;
    assert_eq!(runner.counts("ingest").unwrap().emitted, 1);
}

fn cancel(task_id: Uuid) -> TaskCancelRequested {
    TaskCancelRequested {
        task_id,
        requested_at: Utc::now(),
        reason: None,
    }
}

async fn a_stage_knows_what_was_cancelled_before_it_started_and_learns_what_is_cancelled_later(
    broker: Broker,
) {
    let mut log = Log::start(broker).await;
    let (before, after, wanted) = (task(&["a"]), task(&["a"]), task(&["a"]));
    let ids = [&before, &after, &wanted].map(|request| request.task_id.unwrap());
    // What persist would not read is no cancel: its task would never end.
    let event: Event = cancel(ids[2]).into();
    let good = root_record(&event, &root_envelope("/upstream", &event, Utc::now())).unwrap();
    let mut headless = good.clone();
    headless.headers.clear();
    let mut garbage = good;
    garbage.value = Some(Bytes::from_static(b"\xff no event"));
    log.publish(vec![headless, garbage]).await;
    log.submit(cancel(ids[0])).await;
    log.submit(before).await;

    let seen = Arc::new(Mutex::new(Vec::new()));
    let handled = Arc::clone(&seen);
    let stage = each("ingest", move |message: &Message<TaskRequest>| {
        handled.lock().unwrap().push(message.data.task_id.unwrap());
        ingest_one(message)
    });
    let cancelled = Cancelled::follow(&log.kafka, &log.table);
    let running = log.run_heeding(stage, &options("0"), &cancelled);
    eventually("the first is dropped", || async {
        running.running.counts().cancelled == 1
    })
    .await;

    // Also after an outage of the log.
    log.restart(Duration::from_millis(300)).await;
    log.submit(cancel(ids[1])).await;
    eventually("the second is known", || async {
        cancelled.contains(ids[1])
    })
    .await;
    log.submit(after).await;
    log.submit(wanted).await;
    eventually("both are settled", || async {
        let counts = running.running.counts();
        // What was not committed when the log went away is dropped once more.
        counts.cancelled >= 2 && counts.emitted == 1
    })
    .await;
    let drained = running.stop().await;
    assert!(drained.counts.balance(), "{drained:?}");
    assert_eq!(*seen.lock().unwrap(), [ids[2]]);
}

async fn a_missing_topic_holds_nobody_up_and_is_read_when_it_is_there(broker: Broker) {
    let log = Log::bare(broker).await;
    let cancelled = Cancelled::follow(&log.kafka, &log.table);
    assert!(
        cancelled.wait_until_complete(PATIENCE).await,
        "without `{TASK_CONTROL}` nothing can have been cancelled"
    );
    log.apply().await;
    let task_id = Uuid::new_v4();
    log.submit(cancel(task_id)).await;
    eventually("it is known", || async { cancelled.contains(task_id) }).await;
}

on_each_broker! {
    a_stage_knows_what_was_cancelled_before_it_started_and_learns_what_is_cancelled_later,
    a_missing_topic_holds_nobody_up_and_is_read_when_it_is_there,
}
