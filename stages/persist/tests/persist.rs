//! Events in, a ledger that agrees, and the same answer to a repeat; on the real SQLite ledger.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, sync::Arc};

use atelier_persist::{Persist, PersistOptions};
use atelier_runtime::{LocalRunner, OutRecord, local::root_envelope, local::root_record};
use atelier_schemas::{
    Envelope, ErrorCode, Event, TaskStatus,
    envelope::image_id,
    events::{ImageComposed, StageFailed, TaskAccepted, TaskCancelRequested},
};
use atelier_stores::{Ledger, ledger::SqliteLedger, options::LedgerOptions};
use chrono::Utc;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

fn fixture(event_type: &str) -> Event {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../schemas/fixtures")
        .join(format!("{event_type}.json"));
    let envelope = Envelope::root("/test", event_type, Uuid::nil(), Uuid::nil());
    Event::decode(&envelope, &fs::read(path).unwrap()).unwrap()
}

fn composed(task: Uuid, index: u32) -> ImageComposed {
    let Event::ImageComposed(mut event) = fixture("atelier.image.composed.v1") else {
        panic!("wrong fixture")
    };
    event.image.task_id = task;
    event.image.index = index;
    event.image.image_id = image_id(task, index);
    event
}

fn accepted(task: Uuid) -> TaskAccepted {
    let Event::TaskAccepted(event) = fixture("atelier.task.accepted.v1") else {
        panic!("wrong fixture")
    };
    TaskAccepted {
        task_id: task,
        ..event
    }
}

fn failed(task: Uuid, index: Option<u32>, stage: &str) -> StageFailed {
    let Event::StageFailed(event) = fixture("atelier.stage.failed.v1") else {
        panic!("wrong fixture")
    };
    StageFailed {
        task_id: task,
        image_id: index.map(|index| image_id(task, index)),
        stage: stage.to_owned(),
        ..event
    }
}

async fn runner(folder: &TempDir) -> (LocalRunner, Arc<dyn Ledger>) {
    let ledger = SqliteLedger::open(
        &folder.path().join("ledger.sqlite"),
        LedgerOptions::default(),
    )
    .await
    .unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let stage = Persist::new(PersistOptions::default(), Arc::clone(&ledger));
    (LocalRunner::new(vec![Arc::new(stage)]), ledger)
}

fn record(event: Event) -> OutRecord {
    let envelope = root_envelope("/test", &event, Utc::now());
    root_record(&event, &envelope).unwrap()
}

fn count(runner: &LocalRunner, topic: &str, wanted: &str) -> usize {
    runner
        .events(topic)
        .unwrap()
        .iter()
        .filter(|(envelope, _)| envelope.event_type == wanted)
        .count()
}

#[tokio::test]
async fn the_last_image_closes_the_task_and_a_repeat_says_the_same_again() {
    let folder = TempDir::new().unwrap();
    let (mut runner, ledger) = runner(&folder).await;
    let task = Uuid::new_v4();
    let done = record(composed(task, 0).into());
    for input in [
        record(accepted(task).into()),
        done.clone(),
        record(failed(task, Some(1), "preprocess").into()),
    ] {
        runner.append(input);
    }
    runner.run().await;
    let answer = ledger.task(task).await.unwrap().unwrap();
    assert_eq!(answer.status, TaskStatus::Completed);
    assert_eq!(
        (answer.summary.success_count, answer.summary.failure_count),
        (1, 1)
    );
    assert_eq!(count(&runner, "task-events", "atelier.image.ended.v1"), 2);
    assert_eq!(count(&runner, "task-events", "atelier.task.ended.v1"), 1);
    assert_eq!(
        count(&runner, "images-persisted", "atelier.image.persisted.v1"),
        1
    );

    let first: Vec<(Uuid, Vec<u8>)> = runner
        .events("images-persisted")
        .unwrap()
        .iter()
        .map(|(envelope, event)| (envelope.id, event.to_json().unwrap()))
        .collect();
    runner.append(done);
    runner.run().await;
    let persisted = runner.events("images-persisted").unwrap();
    assert_eq!(persisted.len(), 2, "a repeat must answer again");
    assert_eq!(
        (persisted[1].0.id, persisted[1].1.to_json().unwrap()),
        first[0],
        "and with the same event"
    );
    assert_eq!(
        ledger.task(task).await.unwrap().unwrap(),
        answer,
        "and change nothing"
    );
}

#[tokio::test]
async fn what_is_done_is_recorded_however_late_and_a_late_repeat_is_answered_as_the_first_time() {
    let folder = TempDir::new().unwrap();
    let (mut runner, ledger) = runner(&folder).await;
    let task = Uuid::new_v4();
    let event: Event = composed(task, 0).into();
    let mut envelope = root_envelope("/test", &event, Utc::now());
    // It is in time at first; the second time, after a crash, its deadline has passed.
    for deadline in ["2126-01-31T18:00:00Z", "2026-01-31T18:00:00Z"] {
        envelope.deadline = Some(deadline.parse().unwrap());
        runner.append(root_record(&event, &envelope).unwrap());
    }
    let late: Event = composed(task, 1).into();
    let mut other = root_envelope("/test", &late, Utc::now());
    other.deadline = envelope.deadline;
    runner.append(root_record(&late, &other).unwrap());
    runner.run().await;
    let persisted = runner.events("images-persisted").unwrap();
    let ids: Vec<Uuid> = persisted.iter().map(|(envelope, _)| envelope.id).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert!(runner.dead_letters("persist").is_empty());
    let answer = ledger.task(task).await.unwrap().unwrap();
    assert_eq!(answer.summary.success_count, 2);
}

#[tokio::test]
async fn only_ingest_fails_a_task_as_a_whole() {
    let folder = TempDir::new().unwrap();
    let (mut runner, ledger) = runner(&folder).await;
    let (task, other) = (Uuid::new_v4(), Uuid::new_v4());
    for input in [
        record(accepted(task).into()),
        record(failed(task, None, "matte").into()),
        record(accepted(other).into()),
        record(failed(other, None, "ingest").into()),
    ] {
        runner.append(input);
    }
    runner.run().await;
    assert_eq!(
        ledger.task(task).await.unwrap().unwrap().status,
        TaskStatus::Processing
    );
    assert_eq!(
        ledger.task(other).await.unwrap().unwrap().status,
        TaskStatus::Failed
    );
}

#[tokio::test]
async fn a_result_after_a_failure_is_a_repair_and_no_second_end() {
    let folder = TempDir::new().unwrap();
    let (mut runner, ledger) = runner(&folder).await;
    let task = Uuid::new_v4();
    for input in [
        record(accepted(task).into()),
        record(failed(task, Some(0), "matte").into()),
        record(failed(task, Some(1), "matte").into()),
        record(composed(task, 0).into()),
    ] {
        runner.append(input);
        runner.run().await;
    }
    assert_eq!(count(&runner, "task-events", "atelier.task.ended.v1"), 1);
    assert_eq!(
        count(&runner, "task-events", "atelier.image.repaired.v1"),
        1
    );
    let answer = ledger.task(task).await.unwrap().unwrap();
    assert_eq!(answer.status, TaskStatus::Completed);
    assert!(answer.results[0].result_url.is_some());
}

#[tokio::test]
async fn garbage_goes_to_the_dead_letters_and_other_events_are_skipped() {
    let folder = TempDir::new().unwrap();
    let (mut runner, _) = runner(&folder).await;
    let task = Uuid::new_v4();
    let mut broken = record(composed(task, 0).into());
    broken.value = Some(json!({ "image": 7 }).to_string().into());
    runner.append(broken);
    let mut unknown = record(accepted(task).into());
    for header in &mut unknown.headers {
        if header.name == "ce_type" {
            header.value = Some("atelier.task.accepted.v99".into());
        }
    }
    runner.append(unknown);
    runner.append(record(fixture("atelier.stage.completed.v1")));
    runner.run().await;
    assert_eq!(runner.dead_letters("persist").len(), 2);
    let reason = runner.dead_letters("persist")[0]
        .header_text("__connect.errors.exception.message")
        .unwrap()
        .to_owned();
    assert!(reason.contains("/image"), "{reason}");
}

#[tokio::test]
async fn a_cancelled_task_ends_once_and_late_results_are_not_told() {
    let folder = TempDir::new().unwrap();
    let (mut runner, ledger) = runner(&folder).await;
    let task = Uuid::new_v4();
    let Event::TaskCancelRequested(request) = fixture("atelier.task.cancel-requested.v1") else {
        panic!("wrong fixture")
    };
    let reason = request.reason.clone().unwrap();
    let cancel = record(
        TaskCancelRequested {
            task_id: task,
            ..request
        }
        .into(),
    );
    for input in [
        record(accepted(task).into()),
        record(composed(task, 0).into()),
        cancel.clone(),
        record(composed(task, 1).into()),
        cancel,
    ] {
        runner.append(input);
        runner.run().await;
    }
    let answer = ledger.task(task).await.unwrap().unwrap();
    assert_eq!(answer.status, TaskStatus::Cancelled);
    let summary = &answer.summary;
    assert_eq!((summary.success_count, summary.cancelled_count), (1, 1));
    let error = answer.results[1].error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::Cancelled);
    assert!(error.message.contains(&reason), "{}", error.message);
    let mut ids: Vec<Uuid> = runner
        .events("task-events")
        .unwrap()
        .iter()
        .filter(|(_, event)| matches!(event, Event::ImageEnded(_) | Event::TaskEnded(_)))
        .map(|(envelope, _)| envelope.id)
        .collect();
    assert_eq!(ids.len(), 5, "the repeat answers with what it told first");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "under the ids of the first time");
    assert_eq!(
        count(&runner, "images-persisted", "atelier.image.persisted.v1"),
        1
    );
    assert_eq!(
        count(&runner, "task-events", "atelier.stage.completed.v1"),
        2
    );
}
