//! Repeats of pictures, and which versions they are.

use std::collections::HashSet;

use atelier_schemas::{Event, TaskStatus, answer::VersionAnswer, request::MAX_IMAGES_PER_TASK};
use chrono::Utc;
use uuid::Uuid;

use super::samples::{Repeat, Sample, blob, error};
use crate::{
    Ledger,
    contract::LedgerPlace,
    ledger::{BlobUse, Created, Effect, KeptSince},
};

async fn create(ledger: &dyn Ledger, repeat: &Repeat) {
    let created = ledger.create_task(repeat.new_task()).await.unwrap();
    assert_eq!(created, Created::New);
}

async fn apply(ledger: &dyn Ledger, effect: Effect) -> Vec<Event> {
    ledger.apply(Uuid::new_v4(), effect).await.unwrap()
}

/// A sample all of whose images have their results.
async fn finished(ledger: &dyn Ledger, image_count: u32) -> Sample {
    let sample = Sample::new(image_count);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    for index in 0..image_count {
        apply(ledger, sample.completed(index)).await;
    }
    sample
}

async fn versions(ledger: &dyn Ledger, task: &Sample, index: u32) -> Vec<VersionAnswer> {
    let versions = ledger.versions(task.task_id, index).await.unwrap();
    versions.unwrap()
}

/// Version and image of each.
fn told(versions: &[VersionAnswer]) -> Vec<(u32, Uuid)> {
    versions
        .iter()
        .map(|version| (version.image.version, version.image.image_id))
        .collect()
}

fn versions_in(events: &[Event]) -> Vec<u32> {
    let version = |event: &Event| match event {
        Event::ImagePersisted(event) => Some(event.version),
        Event::ImageEnded(event) => Some(event.version),
        Event::ImageRepaired(event) => Some(event.version),
        _ => None,
    };
    events.iter().filter_map(version).collect()
}

/// A repeat is version 2, its repeat version 3; each names what it repeats, all are found from each, and the first stays.
pub async fn repeats_are_versions_of_the_first<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let first = finished(&*ledger, 3).await;
    let before = ledger.task(first.task_id).await.unwrap();
    assert_eq!(
        told(&versions(&*ledger, &first, 2).await),
        [(1, first.image(2))]
    );

    // Of the three the last and the second, in this order.
    let second = Repeat::of(&[(&first, 2, 2), (&first, 1, 1)]);
    create(&*ledger, &second).await;
    let again = ledger.create_task(second.new_task()).await.unwrap();
    assert_eq!(again, Created::Repeat);
    let third = second.again();
    create(&*ledger, &third).await;
    let events = apply(&*ledger, third.completed(0)).await;
    assert_eq!(versions_in(&events), [3, 3]);

    let all = [
        (1, first.image(2)),
        (2, second.task.image(0)),
        (3, third.task.image(0)),
    ];
    for (task, index) in [(&first, 2), (&second.task, 0), (&third.task, 0)] {
        assert_eq!(told(&versions(&*ledger, task, index).await), all);
    }
    let found = versions(&*ledger, &first, 2).await;
    assert_eq!(found[1].task_id, second.task.task_id);
    assert_eq!(found[1].options, second.task.options());
    assert_eq!(found[1].image.status, TaskStatus::Pending);
    assert_eq!(
        found[2].image.result_url,
        Some(format!(
            "/api/v1/tasks/{}/images/0/result",
            third.task.task_id
        ))
    );
    assert_eq!(
        told(&versions(&*ledger, &first, 0).await),
        [(1, first.image(0))]
    );

    let answer = ledger.task(third.task.task_id).await.unwrap().unwrap();
    for (index, image) in (0..).zip(answer.results) {
        let expected = (3, Some(second.repeat_of(index)));
        assert_eq!((image.version, image.repeat_of), expected);
    }
    assert_eq!(ledger.task(first.task_id).await.unwrap(), before);
    let rows = ledger.outbox_pending(10).await.unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&rows[1].value).unwrap();
    assert_eq!(
        sent["images"][0]["repeatOf"]["imageId"],
        serde_json::json!(first.image(2))
    );
}

/// However many repeat the same pictures at once, in whatever order, each is a version of its own and none is left out.
pub async fn racing_repeats_are_different_versions<P: LedgerPlace>() {
    const RACERS: u32 = 12;
    let place = P::fresh().await;
    let (one, other) = (place.open().await, place.open().await);
    let first = finished(&*one, 3).await;
    let mut racing = tokio::task::JoinSet::new();
    for racer in 0..RACERS {
        let ledger = if racer % 2 == 0 { &one } else { &other }.clone();
        let images = [0, 1, 2].map(|index| (index + racer) % 3);
        let repeat = Repeat::of(&images.map(|index| (&first, index, index)));
        racing.spawn(async move {
            create(&*ledger, &repeat).await;
            repeat.task.task_id
        });
    }
    let tasks: HashSet<Uuid> = racing.join_all().await.into_iter().collect();
    for index in 0..3 {
        let versions = versions(&*one, &first, index).await;
        let numbers: Vec<u32> = versions
            .iter()
            .map(|version| version.image.version)
            .collect();
        assert_eq!(numbers, (1..=RACERS + 1).collect::<Vec<_>>());
        let repeating: HashSet<Uuid> = versions[1..]
            .iter()
            .map(|version| version.task_id)
            .collect();
        assert_eq!(repeating, tasks);
    }
}

/// A repeat that comes by topic is a version as soon as the ledger knows what it repeats; all its ends say which one.
pub async fn a_repeat_by_topic_is_a_version_once_both_are_known<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let first = Sample::new(2);
    let overtaking = Repeat::of(&[(&first, 1, 1), (&first, 0, 0)]);
    apply(&*ledger, overtaking.accepted()).await;
    let answer = ledger.task(overtaking.task.task_id).await.unwrap().unwrap();
    assert_eq!(
        (answer.results[0].version, answer.results[0].repeat_of),
        (1, None)
    );
    for effect in [first.completed(0), first.completed(1)] {
        apply(&*ledger, effect).await;
    }
    let events = apply(&*ledger, overtaking.completed(0)).await;
    assert_eq!(versions_in(&events), [2, 2]);

    let failing = Repeat::of(&[(&first, 1, 1), (&first, 1, 1), (&first, 0, 0)]);
    apply(&*ledger, failing.accepted()).await;
    let failed = Effect::Failed {
        task_id: failing.task.task_id,
        image_id: Some(failing.task.image(1)),
        error: error("broken"),
    };
    assert_eq!(versions_in(&apply(&*ledger, failed).await), [4]);
    let repaired = apply(&*ledger, failing.completed(1)).await;
    assert_eq!(versions_in(&repaired), [4, 4]);
    let cancelled = Effect::Cancelled {
        task_id: failing.task.task_id,
        error: error("no longer wanted"),
    };
    assert_eq!(versions_in(&apply(&*ledger, cancelled).await), [3, 2]);
    let all = [
        (1, first.image(1)),
        (2, overtaking.task.image(0)),
        (3, failing.task.image(0)),
        (4, failing.task.image(1)),
    ];
    assert_eq!(told(&versions(&*ledger, &first, 1).await), all);
}

/// Who repeats what is not known, or names another picture, has a picture of its own.
pub async fn a_claim_that_does_not_hold_makes_no_version<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let first = finished(&*ledger, 2).await;
    let open = Sample::new(2);
    apply(&*ledger, open.accepted()).await;
    let mut claims = Repeat::of(&[
        // Another picture than the image has.
        (&first, 1, 0),
        (&Sample::new(1), 0, 0),
        (&first, 7, 1),
        // Not fetched yet, so that nobody knows its original.
        (&open, 0, 0),
        (&first, 0, 0),
    ]);
    let of_itself = claims.repeat_of(4);
    claims.sources[4].repeat_of = Some(of_itself);
    apply(&*ledger, claims.accepted()).await;
    for index in 0..5 {
        apply(&*ledger, claims.completed(index)).await;
        assert_eq!(
            told(&versions(&*ledger, &claims.task, index).await),
            [(1, claims.task.image(index))]
        );
    }
    assert_eq!(versions(&*ledger, &first, 1).await.len(), 1);

    // What has been repeated stays the first, although what it claims turns out to hold.
    let late = Sample::new(1);
    let claiming = Repeat::of(&[(&late, 0, 0)]);
    apply(&*ledger, claiming.accepted()).await;
    create(&*ledger, &claiming.again()).await;
    apply(&*ledger, late.completed(0)).await;
    apply(&*ledger, claiming.completed(0)).await;
    assert_eq!(versions(&*ledger, &late, 0).await.len(), 1);
    assert_eq!(versions(&*ledger, &claiming.task, 0).await.len(), 2);
}

/// As many images as a task may have are repeated at once, also each of them twice.
pub async fn the_largest_task_is_repeated<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let first = Sample::new(MAX_IMAGES_PER_TASK.try_into().unwrap());
    ledger.create_task(first.new_task("a")).await.unwrap();
    // The odd ones are uploads, so that their originals are known at once.
    let uploads = (0..first.image_count).filter(|index| index % 2 == 1);
    let twice: Vec<_> = uploads
        .flat_map(|index| [(&first, index, index); 2])
        .collect();
    let repeat = Repeat::of(&twice);
    create(&*ledger, &repeat).await;
    let answer = ledger.task(repeat.task.task_id).await.unwrap().unwrap();
    assert_eq!(answer.results.len(), MAX_IMAGES_PER_TASK);
    for (image, version) in answer.results.iter().zip([2, 3].iter().cycle()) {
        assert_eq!(image.version, *version);
    }
    for index in [1, first.image_count - 1] {
        assert_eq!(versions(&*ledger, &first, index).await.len(), 3);
    }
}

/// While a repeat is open its original is in use, however long ago the first task ended.
pub async fn a_repeat_keeps_its_original<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let first = finished(&*ledger, 1).await;
    let keys = [blob("original", 0).key, blob("result", 0).key];
    let later = Some(Utc::now() + chrono::TimeDelta::hours(1));
    let nothing = KeptSince {
        originals: later,
        results: later,
    };
    let uses = async || {
        let uses = ledger.blob_uses(&keys, nothing).await.unwrap();
        keys.clone().map(|key| uses[&key])
    };
    assert_eq!(uses().await, [BlobUse::Past, BlobUse::Past]);
    let repeat = Repeat::of(&[(&first, 0, 0)]);
    create(&*ledger, &repeat).await;
    assert_eq!(uses().await, [BlobUse::InUse, BlobUse::Past]);
    apply(&*ledger, repeat.completed(0)).await;
    assert_eq!(uses().await, [BlobUse::Past, BlobUse::Past]);
}

/// Every image of a task is known with its original, where there is one.
pub async fn originals_are_known_as_soon_as_they_are_there<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let sample = Sample::new(3);
    assert_eq!(ledger.images(sample.task_id).await.unwrap(), None);
    assert_eq!(ledger.versions(sample.task_id, 0).await.unwrap(), None);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    apply(&*ledger, sample.completed(2)).await;
    apply(&*ledger, sample.image_failed(0)).await;
    let records = ledger.images(sample.task_id).await.unwrap().unwrap();
    for (index, record) in (0..).zip(&records) {
        let alone = ledger.image(sample.task_id, index).await.unwrap();
        assert_eq!(alone.as_ref(), Some(record));
    }
    let known: Vec<_> = records
        .iter()
        .map(|record| (record.status, record.original().cloned()))
        .collect();
    let expected = [
        (TaskStatus::Failed, None),
        (TaskStatus::Pending, Some(blob("original", 1))),
        (TaskStatus::Completed, Some(blob("original", 2))),
    ];
    assert_eq!(known, expected);
    assert_eq!(ledger.versions(sample.task_id, 3).await.unwrap(), None);
}
