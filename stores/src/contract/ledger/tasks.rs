//! Creating, listing and publishing tasks.

use atelier_schemas::{
    Event, Priority, TaskStatus, request::MAX_IMAGES_PER_TASK, topics::IMAGE_TASKS_BULK,
};
use uuid::Uuid;

use super::samples::{Sample, names};
use crate::{
    LedgerError,
    contract::LedgerPlace,
    ledger::{Created, OutboxRow},
};

/// A task and its outbox row are there together, once; the same request again is a repeat, another a conflict.
pub async fn a_task_is_created_once<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(3);
    assert_eq!(
        ledger.create_task(sample.new_task("a")).await.unwrap(),
        Created::New
    );
    assert_eq!(
        ledger.create_task(sample.new_task("a")).await.unwrap(),
        Created::Repeat
    );
    assert_eq!(
        ledger.create_task(sample.new_task("b")).await.unwrap(),
        Created::Conflict
    );
    drop(ledger);
    let ledger = place.open().await;
    assert_eq!(
        ledger.create_task(sample.new_task("a")).await.unwrap(),
        Created::Repeat
    );
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!(answer.status, TaskStatus::Pending);
    assert_eq!(answer.submitted_at, sample.submitted_at());
    assert_eq!(answer.options, sample.options());
    assert_eq!(answer.ended_at, None);
    assert_eq!(
        (
            answer.summary.total_images,
            answer.summary.success_count,
            answer.summary.failure_count
        ),
        (3, 0, 0)
    );
    let sources = sample.sources();
    for (index, image) in (0..).zip(&answer.results) {
        assert_eq!((image.index, image.image_id), (index, sample.image(index)));
        assert_eq!(image.status, TaskStatus::Pending);
        assert_eq!(image.name, sources[index as usize].name);
        let upload = format!("/api/v1/tasks/{}/images/{index}/original", sample.task_id);
        assert_eq!(
            image.original_url,
            sources[index as usize].url.clone().unwrap_or(upload)
        );
        assert_eq!((&image.result_url, &image.error), (&None, &None));
        let record = ledger.image(sample.task_id, index).await.unwrap().unwrap();
        assert_eq!(
            (record.image_id, record.name),
            (image.image_id, image.name.clone())
        );
        assert_eq!(
            (record.uploaded, record.result),
            (sources[index as usize].blob.clone(), None)
        );
    }
    assert_eq!(ledger.outbox_pending(10).await.unwrap().len(), 1);
}

/// Of many creators of one id exactly one is first; the others learn whether theirs is the same.
pub async fn racing_creators_of_one_task_agree<P: LedgerPlace>() {
    let place = P::fresh().await;
    let (one, other) = (place.open().await, place.open().await);
    let sample = Sample::new(2);
    let mut creators = tokio::task::JoinSet::new();
    for creator in 0..16 {
        let ledger = if creator % 2 == 0 {
            one.clone()
        } else {
            other.clone()
        };
        let task = sample.new_task(if creator % 4 < 2 { "a" } else { "b" });
        creators.spawn(async move { (creator % 4 < 2, ledger.create_task(task).await.unwrap()) });
    }
    let answers = creators.join_all().await;
    let firsts: Vec<_> = answers
        .iter()
        .filter(|(_, created)| *created == Created::New)
        .collect();
    assert_eq!(firsts.len(), 1, "{answers:?}");
    for (is_a, created) in &answers {
        let expected = if *is_a == firsts[0].0 {
            Created::Repeat
        } else {
            Created::Conflict
        };
        assert!(
            *created == expected || *created == Created::New,
            "{answers:?}"
        );
    }
    assert_eq!(one.outbox_pending(10).await.unwrap().len(), 1);
}

/// Outbox rows come oldest first until they are marked, each as the event that it will be.
pub async fn the_outbox_keeps_its_order<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let samples: Vec<_> = (0..5).map(|_| Sample::new(1)).collect();
    for sample in &samples {
        ledger.create_task(sample.new_task("a")).await.unwrap();
    }
    let tasks = |rows: &[OutboxRow]| rows.iter().map(|row| row.task_id).collect::<Vec<_>>();
    let expected: Vec<_> = samples.iter().map(|sample| sample.task_id).collect();
    let first = ledger.outbox_pending(2).await.unwrap();
    assert_eq!(tasks(&first), expected[..2]);
    let row = &first[0];
    assert_eq!(
        (row.topic.as_str(), row.event_type.as_str()),
        ("image-tasks", "atelier.task.submitted.v1")
    );
    assert_eq!(row.created_at, samples[0].submitted_at());
    assert_eq!(row.traceparent, samples[0].new_task("a").traceparent);
    assert_eq!(
        row.value,
        Event::TaskSubmitted(samples[0].new_task("a").request)
            .to_json()
            .unwrap()
    );
    ledger.outbox_sent(&[first[0].event_id]).await.unwrap();
    drop(ledger);
    let ledger = place.open().await;
    let rest = ledger.outbox_pending(10).await.unwrap();
    assert_eq!(tasks(&rest), expected[1..]);
    // Marking twice, or what is not there, does no harm.
    let ids: Vec<_> = rest
        .iter()
        .map(|row| row.event_id)
        .chain([first[0].event_id, Uuid::new_v4()])
        .collect();
    ledger.outbox_sent(&ids).await.unwrap();
    assert_eq!(ledger.outbox_pending(10).await.unwrap(), []);
    // What nobody waits for goes another way.
    let mut bulk = Sample::new(1).new_task("a");
    bulk.request.priority = Priority::Bulk;
    ledger.create_task(bulk).await.unwrap();
    let pending = ledger.outbox_pending(10).await.unwrap();
    assert_eq!(pending[0].topic, IMAGE_TASKS_BULK);
}

/// The id of a task that came by topic cannot be taken by a request.
pub async fn a_task_by_topic_and_one_by_request_do_not_mix<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let by_topic = Sample::new(1);
    ledger
        .apply(Uuid::new_v4(), by_topic.accepted())
        .await
        .unwrap();
    assert_eq!(
        ledger.create_task(by_topic.new_task("a")).await.unwrap(),
        Created::Conflict
    );
    let refused = Sample::new(1);
    ledger
        .apply(Uuid::new_v4(), refused.task_failed())
        .await
        .unwrap();
    assert_eq!(
        ledger.create_task(refused.new_task("a")).await.unwrap(),
        Created::Conflict
    );
    assert_eq!(ledger.outbox_pending(10).await.unwrap(), []);
}

/// Following the cursor gives every task that was there at the start once, newest first, while others are added and
/// while those that are listed change.
pub async fn pages_are_stable_under_inserts<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let mut expected = Vec::new();
    for number in 0..23 {
        let sample = Sample::new(1);
        expected.insert(0, sample.task_id);
        match number % 3 {
            0 => drop(ledger.create_task(sample.new_task("a")).await.unwrap()),
            1 => drop(
                ledger
                    .apply(Uuid::new_v4(), sample.completed(0))
                    .await
                    .unwrap(),
            ),
            _ => drop(
                ledger
                    .apply(Uuid::new_v4(), sample.task_failed())
                    .await
                    .unwrap(),
            ),
        }
    }
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let (page, next) = ledger.tasks(cursor.as_deref(), 5).await.unwrap();
        assert!(page.len() <= 5);
        seen.extend(page.iter().map(|task| task.task_id));
        ledger
            .create_task(Sample::new(1).new_task("a"))
            .await
            .unwrap();
        let last = Sample {
            task_id: *seen.last().unwrap(),
            image_count: 1,
        };
        ledger.apply(Uuid::new_v4(), last.accepted()).await.unwrap();
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, expected);
    let (page, next) = ledger.tasks(None, 1_000).await.unwrap();
    assert_eq!((page.len(), next), (23 + 5, None));
}

/// What is not there is none, and what is no cursor is refused.
pub async fn unknown_keys_are_none<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    assert_eq!(ledger.task(Uuid::new_v4()).await.unwrap(), None);
    assert_eq!(ledger.image(Uuid::new_v4(), 0).await.unwrap(), None);
    assert_eq!(ledger.tasks(None, 10).await.unwrap(), (Vec::new(), None));
    let sample = Sample::new(1);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    assert_eq!(ledger.image(sample.task_id, 1).await.unwrap(), None);
    for cursor in [
        "",
        "1",
        "t-",
        "t--1",
        "t-zz",
        "t-0",
        "' OR 1=1 --",
        "t-fffffffffffffffff",
    ] {
        let refused = ledger.tasks(Some(cursor), 10).await;
        assert!(
            matches!(refused, Err(LedgerError::InvalidCursor(_))),
            "`{cursor}`: {refused:?}"
        );
    }
}

/// As many images as one task may carry, and a failure of all of them at once.
pub async fn the_largest_task_is_kept<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let count = u32::try_from(MAX_IMAGES_PER_TASK).unwrap();
    let sample = Sample::new(count);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    ledger
        .apply(Uuid::new_v4(), sample.accepted())
        .await
        .unwrap();
    let completed = names(
        &ledger
            .apply(Uuid::new_v4(), sample.completed(count - 1))
            .await
            .unwrap(),
    );
    assert_eq!(
        completed,
        [
            format!("persisted {}", count - 1),
            format!("ended {} completed", count - 1)
        ]
    );
    let told = names(
        &ledger
            .apply(Uuid::new_v4(), sample.task_failed())
            .await
            .unwrap(),
    );
    let expected: Vec<_> = (0..count - 1)
        .map(|index| format!("ended {index} failed"))
        .chain(["task completed".to_owned()])
        .collect();
    assert_eq!(told, expected);
    let answer = ledger.task(sample.task_id).await.unwrap().unwrap();
    assert_eq!(
        (answer.summary.success_count, answer.summary.failure_count),
        (1, count - 1)
    );
}

/// A ledger that works says so.
pub async fn a_ledger_in_order_says_so<P: LedgerPlace>() {
    let place = P::fresh().await;
    place.open().await.check().await.unwrap();
}
