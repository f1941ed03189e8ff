//! What a cancel does: it ends what has not ended, once, whatever comes before or after it.

use std::collections::HashMap;

use atelier_schemas::{Event, TaskStatus, events::TaskCancelRequested, topics::TASK_CONTROL};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{
    for_many,
    samples::{Sample, error, names},
};
use crate::{
    Ledger,
    contract::LedgerPlace,
    ledger::{CancelRequested, Effect},
};

async fn apply(ledger: &dyn Ledger, effect: Effect) -> Vec<String> {
    names(&ledger.apply(Uuid::new_v4(), effect).await.unwrap())
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
}

/// Results stay, open images end as cancelled, the task ends with them; what comes later is not told.
pub async fn a_cancelled_task_ends_its_open_images<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(4);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    apply(&*ledger, sample.accepted()).await;
    apply(&*ledger, sample.completed(0)).await;
    apply(&*ledger, sample.image_failed(1)).await;
    let events = ledger
        .apply(Uuid::new_v4(), sample.cancelled())
        .await
        .unwrap();
    assert_eq!(
        names(&events),
        ["ended 2 cancelled", "ended 3 cancelled", "task cancelled"]
    );
    let reason = Some(error("nobody wants it any more"));
    let Some(Event::TaskEnded(ended)) = events.last() else {
        panic!("{events:?}")
    };
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    let summary = &answer.summary;
    assert_eq!((&ended.summary, &ended.error), (summary, &reason));
    assert_eq!(
        (
            summary.success_count,
            summary.failure_count,
            summary.cancelled_count
        ),
        (1, 1, 2)
    );
    assert_eq!(
        (answer.status, &answer.error),
        (TaskStatus::Cancelled, &reason)
    );
    assert_eq!(answer.results[2].error, reason);
    assert!(answer.results[0].result_url.is_some() && answer.ended_at.is_some());
    for late in [
        sample.completed(2),
        sample.image_failed(3),
        sample.task_failed(),
        sample.cancelled(),
        sample.accepted(),
    ] {
        assert_eq!(apply(&*ledger, late).await, [""; 0]);
        assert_eq!(ledger.task(sample.task_id).await.unwrap().unwrap(), answer);
    }
}

/// A task whose images have all ended stays what it is.
pub async fn a_cancel_that_comes_too_late_changes_nothing<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let (completed, failed) = (Sample::new(1), Sample::new(1));
    apply(&*ledger, completed.completed(0)).await;
    apply(&*ledger, failed.accepted()).await;
    apply(&*ledger, failed.image_failed(0)).await;
    for sample in [completed, failed] {
        let before = ledger.task(sample.task_id).await.unwrap();
        assert_eq!(apply(&*ledger, sample.cancelled()).await, [""; 0]);
        assert_eq!(ledger.task(sample.task_id).await.unwrap(), before);
    }
}

/// A cancel that overtakes its task ends it; its images end as cancelled when they become known, the task not again.
pub async fn a_cancel_may_overtake_its_task<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    for by_context in [false, true] {
        let sample = Sample::new(2);
        assert_eq!(
            apply(&*ledger, sample.cancelled()).await,
            ["task cancelled"]
        );
        let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.results.len()),
            (TaskStatus::Cancelled, 0)
        );
        let first = if by_context {
            sample.completed(1)
        } else {
            sample.accepted()
        };
        assert_eq!(
            apply(&*ledger, first).await,
            ["ended 0 cancelled", "ended 1 cancelled"]
        );
        assert_eq!(apply(&*ledger, sample.completed(0)).await, [""; 0]);
        assert_eq!(apply(&*ledger, sample.accepted()).await, [""; 0]);
        let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.summary.cancelled_count),
            (TaskStatus::Cancelled, 2)
        );
        assert_eq!(answer.submitted_at, sample.submitted_at());
    }
}

/// The request is one row of the outbox, however often it is made; there is none for what is unknown or has ended.
pub async fn a_cancel_is_asked_for_once<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(1);
    let unknown = ledger.request_cancel(sample.task_id, at(0), None).await;
    assert_eq!(unknown.unwrap(), CancelRequested::Unknown);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    for again in 0..3 {
        let asked = ledger
            .request_cancel(sample.task_id, at(again), traceparent.clone())
            .await;
        assert_eq!(asked.unwrap(), CancelRequested::Requested);
    }
    let rows = ledger.outbox_pending(10).await.unwrap();
    let topics: Vec<&str> = rows.iter().map(|row| row.topic.as_str()).collect();
    assert_eq!(topics, ["image-tasks", TASK_CONTROL]);
    let request: TaskCancelRequested = serde_json::from_slice(&rows[1].value).unwrap();
    assert_eq!(
        (request.task_id, request.requested_at, request.reason),
        (sample.task_id, at(0), None)
    );
    assert_eq!(
        (rows[1].task_id, &rows[1].traceparent, rows[1].created_at),
        (sample.task_id, &traceparent, at(0))
    );
    // The request alone changes nothing: that is for the one who reads it.
    assert_eq!(
        ledger.task(sample.task_id).await.unwrap().unwrap().status,
        TaskStatus::Pending
    );
    apply(&*ledger, sample.cancelled()).await;
    let ended = Sample::new(1);
    apply(&*ledger, ended.completed(0)).await;
    for (sample, status) in [
        (sample, TaskStatus::Cancelled),
        (ended, TaskStatus::Completed),
    ] {
        let late = ledger.request_cancel(sample.task_id, at(9), None).await;
        assert_eq!(late.unwrap(), CancelRequested::Ended(status));
    }
    assert_eq!(ledger.outbox_pending(10).await.unwrap().len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Accepted,
    Completed(u32),
    Failed(u32),
    TaskFailed,
    Cancelled,
    /// One of the earlier steps again, under the same event id.
    Repeat(prop::sample::Index),
}

#[derive(Clone, Debug)]
struct Scenario {
    by_request: bool,
    image_count: u32,
    steps: Vec<Step>,
    batch: usize,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    (
        1_u32..4,
        prop::bool::weighted(0.2),
        1_usize..3,
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    )
        .prop_flat_map(|(image_count, task_fails, cancels, repeats)| {
            let mut steps = vec![Step::Accepted];
            for index in 0..image_count {
                steps.extend([Step::Completed(index), Step::Failed(index)]);
            }
            steps.extend(task_fails.then_some(Step::TaskFailed));
            steps.extend(std::iter::repeat_n(Step::Cancelled, cancels));
            steps.extend(repeats.into_iter().map(Step::Repeat));
            (
                Just(image_count),
                Just(steps).prop_shuffle(),
                any::<bool>(),
                1_usize..5,
            )
        })
        .prop_map(|(image_count, steps, by_request, batch)| Scenario {
            by_request,
            image_count,
            steps,
            batch,
        })
}

/// What the ledger should be and tell, said once more in a few lines and without SQL.
struct Model {
    is_known: bool,
    status: TaskStatus,
    images: Vec<TaskStatus>,
    early_failures: Vec<u32>,
}

impl Model {
    fn new(scenario: &Scenario) -> Self {
        Self {
            is_known: scenario.by_request,
            status: TaskStatus::Pending,
            images: vec![TaskStatus::Pending; scenario.image_count as usize],
            early_failures: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) -> Vec<String> {
        let mut told = Vec::new();
        match step {
            Step::Accepted => self.become_known(&mut told),
            Step::Completed(index) => {
                self.become_known(&mut told);
                self.complete(*index, &mut told);
            }
            Step::Failed(index) if self.is_known => {
                self.end(*index, TaskStatus::Failed, &mut told);
            }
            Step::Failed(_) if self.status.is_terminal() => {}
            Step::Failed(index) => self.early_failures.push(*index),
            Step::TaskFailed => self.end_task(TaskStatus::Failed, &mut told),
            Step::Cancelled => self.end_task(TaskStatus::Cancelled, &mut told),
            Step::Repeat(_) => {}
        }
        told
    }

    fn become_known(&mut self, told: &mut Vec<String>) {
        if std::mem::replace(&mut self.is_known, true) {
            return;
        }
        for index in std::mem::take(&mut self.early_failures) {
            self.end(index, TaskStatus::Failed, told);
        }
        if self.status.is_terminal() {
            self.end_open_images(self.status, told);
        }
    }

    fn complete(&mut self, index: u32, told: &mut Vec<String>) {
        let image = &mut self.images[index as usize];
        match *image {
            TaskStatus::Pending => {
                told.push(format!("persisted {index}"));
                self.end(index, TaskStatus::Completed, told);
            }
            TaskStatus::Failed => {
                *image = TaskStatus::Completed;
                told.extend([format!("persisted {index}"), format!("repaired {index}")]);
                if self.status == TaskStatus::Failed {
                    self.status = TaskStatus::Completed;
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, index: u32, status: TaskStatus, told: &mut Vec<String>) {
        let image = &mut self.images[index as usize];
        if *image != TaskStatus::Pending {
            return;
        }
        *image = status;
        told.push(format!("ended {index} {}", status.as_str()));
        if !self.status.is_terminal() && !self.images.contains(&TaskStatus::Pending) {
            let has_result = self.images.contains(&TaskStatus::Completed);
            self.tell_end(
                if has_result {
                    TaskStatus::Completed
                } else {
                    TaskStatus::Failed
                },
                told,
            );
        }
    }

    fn end_open_images(&mut self, status: TaskStatus, told: &mut Vec<String>) {
        for (index, image) in self.images.iter_mut().enumerate() {
            if *image == TaskStatus::Pending {
                *image = status;
                told.push(format!("ended {index} {}", status.as_str()));
            }
        }
    }

    fn end_task(&mut self, status: TaskStatus, told: &mut Vec<String>) {
        if self.status.is_terminal() {
            return;
        }
        if self.is_known {
            self.end_open_images(status, told);
        }
        let has_result = self.images.contains(&TaskStatus::Completed);
        let is_failure = status == TaskStatus::Failed;
        self.tell_end(
            if is_failure && has_result {
                TaskStatus::Completed
            } else {
                status
            },
            told,
        );
    }

    fn tell_end(&mut self, status: TaskStatus, told: &mut Vec<String>) {
        self.status = status;
        told.push(format!("task {}", status.as_str()));
    }
}

/// Accepted, completed, failed, cancelled, repeated, in every order and in batches of every size: what is told and what is
/// kept is what the model says, and each end is told once.
pub async fn a_cancel_in_any_order_ends_everything_once<P: LedgerPlace>() {
    for_many::<P, _>(scenarios(), |ledger, scenario| {
        Handle::current().block_on(check_scenario(ledger, scenario))
    })
    .await;
}

async fn check_scenario(ledger: &dyn Ledger, scenario: &Scenario) -> Result<(), TestCaseError> {
    let sample = Sample::new(scenario.image_count);
    if scenario.by_request {
        ledger.create_task(sample.new_task("a")).await.unwrap();
    }
    let mut model = Model::new(scenario);
    let mut expected: HashMap<Uuid, Vec<String>> = HashMap::new();
    let mut events: Vec<(Uuid, Effect)> = Vec::new();
    for step in &scenario.steps {
        let effect = match step {
            Step::Accepted => sample.accepted(),
            Step::Completed(index) => sample.completed(*index),
            Step::Failed(index) => sample.image_failed(*index),
            Step::TaskFailed => sample.task_failed(),
            Step::Cancelled => sample.cancelled(),
            Step::Repeat(_) if events.is_empty() => continue,
            Step::Repeat(earlier) => {
                events.push(events[earlier.index(events.len())].clone());
                continue;
            }
        };
        let event_id = Uuid::new_v4();
        expected.insert(event_id, model.take(step));
        events.push((event_id, effect));
    }
    for batch in events.chunks(scenario.batch) {
        let answers = ledger.apply_all(batch.to_vec()).await.unwrap();
        for ((event_id, _), answer) in batch.iter().zip(answers) {
            prop_assert_eq!(&names(&answer.unwrap()), &expected[event_id]);
        }
    }
    let told: Vec<&String> = expected.values().flatten().collect();
    for index in 0..scenario.image_count {
        let end = format!("ended {index} ");
        prop_assert_eq!(told.iter().filter(|name| name.starts_with(&end)).count(), 1);
    }
    let task_ends = told.iter().filter(|name| name.starts_with("task "));
    prop_assert_eq!(task_ends.count(), 1);
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    let statuses: Vec<TaskStatus> = answer.results.iter().map(|image| image.status).collect();
    prop_assert_eq!((answer.status, statuses), (model.status, model.images));
    let summary = &answer.summary;
    prop_assert_eq!(
        summary.success_count + summary.failure_count + summary.cancelled_count,
        summary.total_images
    );
    prop_assert!(answer.error.is_some() || answer.status != TaskStatus::Cancelled);
    Ok(())
}
