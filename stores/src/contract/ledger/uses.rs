//! Which blobs are in use, and who has a duty.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use atelier_schemas::{Watermark, request::Background};
use chrono::Utc;
use uuid::Uuid;

use super::samples::{Sample, blob};
use crate::{
    contract::LedgerPlace,
    ledger::{BlobUse, KeptSince},
};

const HOUR: Duration = Duration::from_hours(1);

/// What an open task refers to is in use; afterwards each class for its time; the oldest open task is known.
pub async fn blobs_are_in_use_as_long_as_their_class_says<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let keys = [
        "background",
        "mark",
        "trimap",
        "original",
        "result",
        "thumbnail",
        "alpha",
        "never seen",
    ]
    .map(|what| blob(what, 1).key)
    .to_vec();
    // Those of the first range are in use, those of the second were.
    let uses = |in_use: Range<usize>, past: Range<usize>| {
        let of = |range: Range<usize>, what| keys[range].iter().map(move |key| (key.clone(), what));
        of(in_use, BlobUse::InUse)
            .chain(of(past, BlobUse::Past))
            .collect::<HashMap<_, _>>()
    };
    let kept = |originals: bool, results: bool| {
        let since = |kept: bool| {
            Some(if kept {
                Utc::now() - HOUR
            } else {
                Utc::now() + HOUR
            })
        };
        KeptSince {
            originals: since(originals),
            results: since(results),
        }
    };
    let for_ever = KeptSince {
        originals: None,
        results: None,
    };
    let nothing = kept(false, false);
    assert_eq!(
        ledger.blob_uses(&keys, for_ever).await.unwrap(),
        uses(0..0, 0..0)
    );
    assert_eq!(ledger.oldest_open_task().await.unwrap(), None);

    let sample = Sample::new(2);
    let mut task = sample.new_task("a");
    let options = task.request.options.as_mut().unwrap();
    options.output.background = Background::Blob(blob("background", 1));
    options.watermark = Some(Watermark {
        blob: Some(blob("mark", 1)),
        ..Watermark::default()
    });
    ledger.create_task(task).await.unwrap();
    assert_eq!(
        ledger.blob_uses(&keys, nothing).await.unwrap(),
        uses(0..4, 0..0)
    );
    assert_eq!(
        ledger.oldest_open_task().await.unwrap(),
        Some(sample.submitted_at())
    );
    let effects = [sample.accepted(), sample.completed(1)];
    for effect in effects {
        ledger.apply(Uuid::new_v4(), effect).await.unwrap();
    }
    assert_eq!(
        ledger.blob_uses(&keys, nothing).await.unwrap(),
        uses(0..7, 0..0)
    );
    let last = sample.image_failed(0);
    ledger.apply(Uuid::new_v4(), last).await.unwrap();

    assert_eq!(ledger.oldest_open_task().await.unwrap(), None);
    for (kept, expected) in [
        (nothing, uses(0..0, 0..7)),
        (kept(true, false), uses(0..4, 4..7)),
        (kept(false, true), uses(4..7, 0..4)),
        (kept(true, true), uses(0..7, 0..0)),
        (for_ever, uses(0..7, 0..0)),
    ] {
        assert_eq!(ledger.blob_uses(&keys, kept).await.unwrap(), expected);
    }
    assert_eq!(
        ledger.blob_uses(&[], for_ever).await.unwrap(),
        uses(0..0, 0..0)
    );
}

/// Of many who want a duty one has it, until the next time.
pub async fn a_duty_is_taken_once<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.take_duty("sweep", Utc::now() - HOUR).await })
        })
        .collect();
    let mut taken = 0;
    for taker in takers {
        taken += u32::from(taker.await.unwrap().unwrap());
    }
    assert_eq!(taken, 1);
    assert!(
        ledger
            .take_duty("another", Utc::now() - HOUR)
            .await
            .unwrap()
    );
    assert!(ledger.take_duty("sweep", Utc::now() + HOUR).await.unwrap());
}
