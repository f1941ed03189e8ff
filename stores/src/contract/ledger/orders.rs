//! What holds whatever the order, the overlap and the interruption.

use std::{collections::HashMap, sync::Arc, time::Duration};

use atelier_schemas::{Event, TaskAnswer, TaskStatus};
use proptest::prelude::*;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{for_many, samples::Sample};
use crate::{Ledger, contract::LedgerPlace, ledger::Effect};

/// What becomes of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Completes,
    Fails,
    /// Fails, and its dead letter is replayed; the two may overtake each other.
    FailsAndCompletes,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Accepted,
    Completed(u32),
    Failed(u32),
    TaskFailed,
    /// One of the earlier steps again, under the same event id.
    Repeat(prop::sample::Index),
}

#[derive(Clone, Debug)]
struct Scenario {
    by_request: bool,
    task_fails: bool,
    fates: Vec<Fate>,
    steps: Vec<Step>,
    batch: usize,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let fate = prop_oneof![
        Just(Fate::Completes),
        Just(Fate::Fails),
        Just(Fate::FailsAndCompletes)
    ];
    (
        prop::collection::vec(fate, 1..4),
        prop::bool::weighted(0.3),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    )
        .prop_flat_map(|(fates, task_fails, repeats)| {
            let mut steps = vec![Step::Accepted];
            for (index, fate) in (0..).zip(&fates) {
                if *fate != Fate::Fails {
                    steps.push(Step::Completed(index));
                }
                if *fate != Fate::Completes {
                    steps.push(Step::Failed(index));
                }
            }
            if task_fails {
                steps.push(Step::TaskFailed);
            }
            steps.extend(repeats.into_iter().map(Step::Repeat));
            (
                Just(fates),
                Just(task_fails),
                Just(steps).prop_shuffle(),
                any::<bool>(),
                1_usize..5,
            )
        })
        .prop_map(|(fates, task_fails, steps, by_request, batch)| Scenario {
            by_request,
            task_fails,
            fates,
            steps,
            batch,
        })
}

/// Accepted, completed, failed, in every order, with repeats, in batches of every size, for tasks that came by request and
/// by topic: the ledger ends in the same state, and every end is told exactly once.
pub async fn any_order_of_arrival_ends_in_the_same_state<P: LedgerPlace>() {
    for_many::<P, _>(scenarios(), |ledger, scenario| {
        Handle::current().block_on(check_scenario(ledger, scenario))
    })
    .await;
}

async fn check_scenario(ledger: &dyn Ledger, scenario: &Scenario) -> Result<(), TestCaseError> {
    let sample = Sample::new(u32::try_from(scenario.fates.len()).unwrap());
    if scenario.by_request {
        ledger.create_task(sample.new_task("a")).await.unwrap();
    }
    let mut applied: Vec<(Uuid, Effect)> = Vec::new();
    for step in &scenario.steps {
        let event = match step {
            Step::Accepted => (Uuid::new_v4(), sample.accepted()),
            Step::Completed(index) => (Uuid::new_v4(), sample.completed(*index)),
            Step::Failed(index) => (Uuid::new_v4(), sample.image_failed(*index)),
            Step::TaskFailed => (Uuid::new_v4(), sample.task_failed()),
            Step::Repeat(_) if applied.is_empty() => continue,
            Step::Repeat(earlier) => applied[earlier.index(applied.len())].clone(),
        };
        applied.push(event);
    }
    let mut answers: HashMap<Uuid, Vec<Event>> = HashMap::new();
    let mut told: Vec<Event> = Vec::new();
    for batch in applied.chunks(scenario.batch) {
        let answer = ledger.apply_all(batch.to_vec()).await.unwrap();
        for ((event_id, _), events) in batch.iter().zip(answer) {
            let events = events.unwrap();
            match answers.get(event_id) {
                Some(first) => {
                    prop_assert_eq!(first, &events, "a repeat is answered as the first time");
                }
                None => {
                    told.extend(events.iter().cloned());
                    answers.insert(*event_id, events);
                }
            }
        }
    }
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    check_state(scenario, &sample, &answer)?;
    check_told(scenario, &told)
}

fn check_state(
    scenario: &Scenario,
    sample: &Sample,
    answer: &TaskAnswer,
) -> Result<(), TestCaseError> {
    let completed = |fate: &Fate| *fate != Fate::Fails;
    let successes = scenario.fates.iter().filter(|fate| completed(fate)).count();
    let expected = if successes > 0 {
        TaskStatus::Completed
    } else {
        TaskStatus::Failed
    };
    prop_assert_eq!(answer.status, expected);
    prop_assert_eq!(answer.summary.success_count as usize, successes);
    prop_assert_eq!(
        answer.summary.failure_count as usize,
        scenario.fates.len() - successes
    );
    prop_assert_eq!(answer.summary.total_images as usize, scenario.fates.len());
    prop_assert_eq!(&answer.options, &sample.options());
    prop_assert_eq!(answer.submitted_at, sample.submitted_at());
    prop_assert!(answer.ended_at.is_some());
    let mut total = 0.0;
    for ((index, image), fate) in (0..).zip(&answer.results).zip(&scenario.fates) {
        prop_assert_eq!(&image.name, &sample.sources()[index].name);
        prop_assert_eq!(image.status == TaskStatus::Completed, completed(fate));
        prop_assert_eq!(image.error.is_none(), completed(fate));
        prop_assert_eq!(image.metadata.is_some(), completed(fate));
        total += image
            .metadata
            .as_ref()
            .map_or(0.0, |metadata| metadata.processing_time);
    }
    prop_assert!((answer.summary.total_processing_time - total).abs() < 1e-6);
    Ok(())
}

fn check_told(scenario: &Scenario, told: &[Event]) -> Result<(), TestCaseError> {
    let count =
        |matches: &dyn Fn(&Event) -> bool| told.iter().filter(|event| matches(event)).count();
    for (index, fate) in (0..).zip(&scenario.fates) {
        let ended = |status: TaskStatus| {
            count(
                &|event| matches!(event, Event::ImageEnded(end) if end.index == index && end.status == status),
            )
        };
        let repaired =
            count(&|event| matches!(event, Event::ImageRepaired(repair) if repair.index == index));
        let persisted = count(
            &|event| matches!(event, Event::ImagePersisted(record) if record.image.index == index),
        );
        let (good, bad) = (ended(TaskStatus::Completed), ended(TaskStatus::Failed));
        prop_assert_eq!(good + bad, 1, "image {} ends once", index);
        let has_result = usize::from(*fate != Fate::Fails);
        prop_assert_eq!(persisted, has_result);
        prop_assert_eq!(
            good + repaired,
            has_result,
            "each result is told once, as an end or as a repair"
        );
        if *fate == Fate::Completes && !scenario.task_fails {
            prop_assert_eq!(repaired, 0);
        }
    }
    prop_assert_eq!(count(&|event| matches!(event, Event::TaskEnded(_))), 1);
    if !scenario.task_fails {
        let last_end = told
            .iter()
            .rposition(|event| matches!(event, Event::ImageEnded(_)));
        let task_end = told
            .iter()
            .position(|event| matches!(event, Event::TaskEnded(_)));
        prop_assert!(last_end < task_end, "the task ends after its last image");
    }
    Ok(())
}

/// The same events applied at once through several handles: every handle gets the same answers, and the ends are told once.
pub async fn racing_appliers_of_the_same_events_agree<P: LedgerPlace>() {
    let place = P::fresh().await;
    let samples: Vec<_> = (0..10).map(|_| Sample::new(3)).collect();
    let mut events = Vec::new();
    for sample in &samples {
        let effects = [
            sample.accepted(),
            sample.completed(0),
            sample.completed(1),
            sample.image_failed(1),
            sample.image_failed(2),
        ];
        events.extend(effects.into_iter().map(|effect| (Uuid::new_v4(), effect)));
    }
    let mut appliers = tokio::task::JoinSet::new();
    for applier in 0..4_usize {
        let ledger = place.open().await;
        let mut events = events.clone();
        // Each one starts somewhere else.
        let start = applier * 13 % events.len();
        events.rotate_left(start);
        appliers.spawn(async move {
            let mut answers = HashMap::new();
            for batch in events.chunks(applier + 1) {
                let applied = ledger.apply_all(batch.to_vec()).await.unwrap();
                answers.extend(
                    batch
                        .iter()
                        .map(|(id, _)| *id)
                        .zip(applied.into_iter().map(Result::unwrap)),
                );
            }
            answers
        });
    }
    let answers = appliers.join_all().await;
    for other in &answers[1..] {
        assert_eq!(other, &answers[0]);
    }
    let told: Vec<_> = answers[0].values().flatten().collect();
    let ends = told
        .iter()
        .filter(|event| matches!(event, Event::ImageEnded(_)))
        .count();
    let task_ends = told
        .iter()
        .filter(|event| matches!(event, Event::TaskEnded(_)))
        .count();
    assert_eq!((ends, task_ends), (30, 10));
}

/// A batch that is dropped at a random moment, with the ledger opened anew after it, was applied wholly or not at all; done
/// again, its answers are complete and every end is in them once.
pub async fn an_abandoned_batch_is_applied_wholly_or_not_at_all<P: LedgerPlace>() {
    let place = P::fresh().await;
    let mut ledger: Arc<dyn Ledger> = place.open().await;
    for round in 0..40_u64 {
        let samples: Vec<_> = (0..8).map(|_| Sample::new(1)).collect();
        let batch: Vec<_> = samples
            .iter()
            .map(|sample| (Uuid::new_v4(), sample.completed(0)))
            .collect();
        let work = ledger.apply_all(batch.clone());
        drop(tokio::time::timeout(Duration::from_micros(round * 150), work).await);
        if round % 5 == 0 {
            drop(ledger);
            ledger = place.open().await;
        }
        // One look at all of them, because what was given up may still be under way in a handle that lives on.
        let (newest, _) = ledger.tasks(None, 8).await.unwrap();
        let is_known = |sample: &&Sample| newest.iter().any(|task| task.task_id == sample.task_id);
        let known = samples.iter().filter(is_known).count();
        assert!(
            known == 0 || known == samples.len(),
            "{known} of {} tasks",
            samples.len()
        );
        let answers = ledger.apply_all(batch).await.unwrap();
        for answer in answers {
            let ends = answer
                .unwrap()
                .iter()
                .filter(|event| matches!(event, Event::TaskEnded(_)))
                .count();
            assert_eq!(ends, 1);
        }
    }
}
