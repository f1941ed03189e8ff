//! What single events do.

use atelier_schemas::{Event, TaskStatus};
use uuid::Uuid;

use super::samples::{Sample, error, names, result};
use crate::{
    Ledger, LedgerError,
    contract::LedgerPlace,
    ledger::{Created, Effect},
};

async fn apply(ledger: &dyn Ledger, effect: Effect) -> Vec<Event> {
    ledger.apply(Uuid::new_v4(), effect).await.unwrap()
}

/// The plain case: accepted, each image completes, the last one ends the task; the answer shows it all.
pub async fn a_task_goes_from_pending_to_completed<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    assert_eq!(names(&apply(&*ledger, sample.accepted()).await), [""; 0]);
    assert_eq!(
        ledger.task(sample.task_id).await.unwrap().unwrap().status,
        TaskStatus::Processing
    );
    assert_eq!(
        names(&apply(&*ledger, sample.completed(1)).await),
        ["persisted 1", "ended 1 completed"]
    );
    let last = apply(&*ledger, sample.completed(0)).await;
    assert_eq!(
        names(&last),
        ["persisted 0", "ended 0 completed", "task completed"]
    );

    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!(answer.status, TaskStatus::Completed);
    assert!(answer.ended_at.is_some());
    assert_eq!(
        (
            answer.summary.total_images,
            answer.summary.success_count,
            answer.summary.failure_count
        ),
        (2, 2, 0)
    );
    let total = result(0).metadata.processing_time + result(1).metadata.processing_time;
    assert!((answer.summary.total_processing_time - total).abs() < 1e-9);
    let Some(Event::TaskEnded(ended)) = last.last() else {
        panic!("{last:?}")
    };
    assert_eq!(
        (ended.summary.clone(), &ended.error),
        (answer.summary, &None)
    );
    for (index, image) in (0..).zip(&answer.results) {
        let path = |what: &str| {
            Some(format!(
                "/api/v1/tasks/{}/images/{index}/{what}",
                sample.task_id
            ))
        };
        assert_eq!(image.status, TaskStatus::Completed);
        assert_eq!(image.metadata, Some(result(index).metadata));
        assert_eq!(image.result_url, path("result"));
        assert_eq!(
            (&image.thumbnail_url, &image.alpha_url),
            (&path("thumbnail"), &path("alpha"))
        );
        let record = ledger.image(sample.task_id, index).await.unwrap().unwrap();
        assert_eq!(record.result, Some(result(index)));
    }
}

/// A repeat answers with the same events, to the last bit, changes nothing, and does so after the ledger is opened again.
pub async fn a_repeat_is_answered_as_the_first_time<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(3);
    let effects = [
        sample.completed(2),
        sample.image_failed(0),
        sample.completed(0),
        sample.accepted(),
        sample.image_failed(1),
        sample.task_failed(),
    ];
    let events: Vec<_> = effects
        .into_iter()
        .map(|effect| (Uuid::new_v4(), effect))
        .collect();
    let first = ledger.apply_all(events.clone()).await.unwrap();
    let state = ledger.task(sample.task_id).await.unwrap();
    assert_eq!(ledger.apply_all(events.clone()).await.unwrap(), first);
    drop(ledger);
    let ledger = place.open().await;
    for ((event_id, effect), answer) in events.iter().rev().zip(first.iter().rev()) {
        assert_eq!(
            ledger.apply(*event_id, effect.clone()).await.unwrap(),
            *answer.as_ref().unwrap()
        );
    }
    assert_eq!(ledger.task(sample.task_id).await.unwrap(), state);
    let twice_in_one_batch = vec![
        (Uuid::nil(), Sample::new(1).completed(0)),
        (Uuid::nil(), sample.completed(0)),
    ];
    let answers = ledger.apply_all(twice_in_one_batch).await.unwrap();
    assert_eq!(answers[0], answers[1]);
}

/// One image fails, the other does not; the task is completed with both counts.
pub async fn a_failed_image_does_not_fail_its_neighbours<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    apply(&*ledger, sample.accepted()).await;
    let failed = apply(&*ledger, sample.image_failed(0)).await;
    assert_eq!(names(&failed), ["ended 0 failed"]);
    let Event::ImageEnded(ended) = &failed[0] else {
        panic!("{failed:?}")
    };
    assert_eq!(
        (&ended.error, ended.image_id),
        (&Some(error("broken picture")), sample.image(0))
    );
    let last = names(&apply(&*ledger, sample.completed(1)).await);
    assert_eq!(last, ["persisted 1", "ended 1 completed", "task completed"]);
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.error), (TaskStatus::Completed, None));
    assert_eq!(
        (answer.summary.success_count, answer.summary.failure_count),
        (1, 1)
    );
    assert_eq!(answer.results[0].error, Some(error("broken picture")));
    assert_eq!(answer.results[0].result_url, None);
}

/// All images fail, so does the task.
pub async fn a_task_without_any_result_has_failed<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    apply(&*ledger, sample.accepted()).await;
    apply(&*ledger, sample.image_failed(0)).await;
    assert_eq!(
        names(&apply(&*ledger, sample.image_failed(1)).await),
        ["ended 1 failed", "task failed"]
    );
    assert_eq!(
        ledger.task(sample.task_id).await.unwrap().unwrap().status,
        TaskStatus::Failed
    );
}

/// A failure without an image is every open image's failure, and the task's reason.
pub async fn a_task_that_fails_as_a_whole_ends_its_open_images<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(3);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    apply(&*ledger, sample.image_failed(1)).await;
    let told = apply(&*ledger, sample.task_failed()).await;
    assert_eq!(
        names(&told),
        ["ended 0 failed", "ended 2 failed", "task failed"]
    );
    let reason = Some(error("the request does not hold"));
    let Some(Event::TaskEnded(ended)) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!((&ended.error, ended.summary.failure_count), (&reason, 3));
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!(
        (answer.status, &answer.error),
        (TaskStatus::Failed, &reason)
    );
    assert_eq!(answer.results[0].error, reason);
    assert_eq!(answer.results[1].error, Some(error("broken picture")));
    assert_eq!(names(&apply(&*ledger, sample.task_failed()).await), [""; 0]);
}

/// A request by topic that is refused is a task that has ended, although nothing else is known of it. When it comes
/// repaired after all, its images have ended with it, and their results are repairs.
pub async fn a_refused_task_by_topic_ends_at_once<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    assert_eq!(
        names(&apply(&*ledger, sample.task_failed()).await),
        ["task failed"]
    );
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!(
        (answer.status, answer.results.len()),
        (TaskStatus::Failed, 0)
    );
    assert_eq!(answer.error, Some(error("the request does not hold")));
    assert!(answer.ended_at.is_some());

    assert_eq!(
        names(&apply(&*ledger, sample.accepted()).await),
        ["ended 0 failed", "ended 1 failed"]
    );
    assert_eq!(
        ledger
            .task(sample.task_id)
            .await
            .unwrap()
            .unwrap()
            .submitted_at,
        sample.submitted_at()
    );
    assert_eq!(
        names(&apply(&*ledger, sample.completed(1)).await),
        ["persisted 1", "repaired 1"]
    );
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.error), (TaskStatus::Completed, None));
    assert_eq!(
        (answer.summary.success_count, answer.summary.failure_count),
        (1, 1)
    );
}

/// A failure that overtakes all that is known of its task is not lost.
pub async fn an_early_failure_ends_its_image_when_the_task_is_known<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    assert_eq!(
        names(&apply(&*ledger, sample.image_failed(1)).await),
        [""; 0]
    );
    assert_eq!(ledger.task(sample.task_id).await.unwrap(), None);
    assert_eq!(
        names(&apply(&*ledger, sample.accepted()).await),
        ["ended 1 failed"]
    );
    let last = names(&apply(&*ledger, sample.completed(0)).await);
    assert_eq!(last, ["persisted 0", "ended 0 completed", "task completed"]);

    let by_context = Sample::new(2);
    apply(&*ledger, by_context.image_failed(0)).await;
    let told = names(&apply(&*ledger, by_context.completed(1)).await);
    assert_eq!(
        told,
        [
            "ended 0 failed",
            "persisted 1",
            "ended 1 completed",
            "task completed"
        ]
    );
}

/// A dead letter that was replayed brings its result; nothing ends twice.
pub async fn a_result_after_a_failure_is_a_repair<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    apply(&*ledger, sample.accepted()).await;
    apply(&*ledger, sample.image_failed(0)).await;
    let early = apply(&*ledger, sample.completed(0)).await;
    assert_eq!(
        names(&early),
        ["persisted 0", "repaired 0"],
        "repaired while its neighbour is on its way"
    );
    let ended = names(&apply(&*ledger, sample.image_failed(1)).await);
    assert_eq!(ended, ["ended 1 failed", "task completed"]);
    let late = apply(&*ledger, sample.completed(1)).await;
    assert_eq!(names(&late), ["persisted 1", "repaired 1"]);
    let Event::ImageRepaired(repaired) = &late[1] else {
        panic!("{late:?}")
    };
    assert_eq!(
        (
            repaired.summary.success_count,
            repaired.summary.failure_count
        ),
        (2, 0)
    );
    assert_eq!(repaired.result, result(1));
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!(
        (answer.status, &answer.summary),
        (TaskStatus::Completed, &repaired.summary)
    );
    assert_eq!(
        (answer.results[1].status, &answer.results[1].error),
        (TaskStatus::Completed, &None)
    );
    assert!(answer.results[1].result_url.is_some());

    let all_failed = Sample::new(1);
    apply(&*ledger, all_failed.accepted()).await;
    assert_eq!(
        names(&apply(&*ledger, all_failed.image_failed(0)).await),
        ["ended 0 failed", "task failed"]
    );
    let ended_at = ledger
        .task(all_failed.task_id)
        .await
        .unwrap()
        .unwrap()
        .ended_at;
    assert_eq!(
        names(&apply(&*ledger, all_failed.completed(0)).await),
        ["persisted 0", "repaired 0"]
    );
    let answer = ledger.task(all_failed.task_id).await.unwrap().unwrap();
    assert_eq!(
        (answer.status, answer.ended_at),
        (TaskStatus::Completed, ended_at)
    );
}

/// Later events about an image that has its result change nothing.
pub async fn the_first_end_stands<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(1);
    apply(&*ledger, sample.accepted()).await;
    apply(&*ledger, sample.completed(0)).await;
    let state = ledger.task(sample.task_id).await.unwrap();
    let Effect::ImageCompleted { image, .. } = sample.completed(0) else {
        panic!("not a completion")
    };
    for effect in [
        sample.image_failed(0),
        sample.task_failed(),
        sample.completed(0),
        Effect::ImageCompleted {
            image,
            result: result(7),
        },
        sample.accepted(),
    ] {
        assert_eq!(names(&apply(&*ledger, effect).await), [""; 0]);
        assert_eq!(ledger.task(sample.task_id).await.unwrap(), state);
    }
}

/// Events that cannot be about the task are refused one by one; their neighbours in the batch are applied.
pub async fn contradictions_leave_no_trace<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    let changed = |change: fn(&mut atelier_schemas::events::ImageContext)| {
        let mut image = sample.context(1);
        change(&mut image);
        Effect::ImageCompleted {
            image,
            result: result(1),
        }
    };
    let stranger = Sample::new(1);
    let Effect::Accepted(mut empty) = stranger.accepted() else {
        panic!("not an acceptance")
    };
    empty.images.clear();
    let bad = [
        changed(|image| image.index = 7),
        changed(|image| image.index = 0),
        changed(|image| image.image_id = Uuid::nil()),
        changed(|image| image.image_count = 3),
        changed(|image| image.image_count = 0),
        changed(|image| image.image_count = u32::MAX),
        Effect::Accepted(empty),
    ];
    for effect in bad {
        let before = ledger.task(sample.task_id).await.unwrap();
        let event_id = Uuid::new_v4();
        let alone = ledger.apply(event_id, effect.clone()).await;
        assert!(
            matches!(alone, Err(LedgerError::Contradiction(_))),
            "{alone:?}"
        );
        assert_eq!(ledger.task(sample.task_id).await.unwrap(), before);
        let (left, right) = (Sample::new(1), Sample::new(1));
        let batch = vec![
            (Uuid::new_v4(), left.completed(0)),
            (event_id, effect),
            (Uuid::new_v4(), right.completed(0)),
        ];
        let answers = ledger.apply_all(batch).await.unwrap();
        assert!(
            answers[0].is_ok() && answers[1].is_err() && answers[2].is_ok(),
            "{answers:?}"
        );
        for neighbour in [left, right] {
            assert_eq!(
                ledger
                    .task(neighbour.task_id)
                    .await
                    .unwrap()
                    .unwrap()
                    .status,
                TaskStatus::Completed
            );
        }
        assert_eq!(ledger.task(sample.task_id).await.unwrap(), before);
    }
    // A failure is never refused: refusing it would only make another one.
    let unknown_image = Effect::Failed {
        task_id: sample.task_id,
        image_id: Some(Uuid::nil()),
        error: error("garbage"),
    };
    assert_eq!(names(&apply(&*ledger, unknown_image).await), [""; 0]);
    assert_eq!(
        names(&apply(&*ledger, sample.completed(0)).await),
        ["persisted 0", "ended 0 completed"]
    );
}

/// Another task under a known id changes nothing of the first.
pub async fn the_first_description_of_a_task_stands<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(2);
    assert_eq!(
        ledger.create_task(sample.new_task("a")).await.unwrap(),
        Created::New
    );
    apply(&*ledger, sample.accepted()).await;
    let state = ledger.task(sample.task_id).await.unwrap();
    let longer = Sample {
        task_id: sample.task_id,
        image_count: 5,
    };
    assert_eq!(names(&apply(&*ledger, longer.accepted()).await), [""; 0]);
    assert_eq!(ledger.task(sample.task_id).await.unwrap(), state);
}
