//! Which blobs are in use, and who has a duty.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::Utc;
use uuid::Uuid;

use super::samples::{Sample, blob};
use crate::{contract::LedgerPlace, ledger::KeptSince};

const HOUR: Duration = Duration::from_hours(1);

/// What an open task refers to is in use; afterwards each class for its time; the oldest open task is known.
pub async fn blobs_are_in_use_as_long_as_their_class_says<P: LedgerPlace>() {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let keys = ["original", "result", "thumbnail", "alpha", "never seen"]
        .map(|what| blob(what, 1).key)
        .to_vec();
    let set = |range: std::ops::Range<usize>| keys[range].iter().cloned().collect::<HashSet<_>>();
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
        ledger.blobs_in_use(&keys, for_ever).await.unwrap(),
        set(0..0)
    );
    assert_eq!(ledger.oldest_open_task().await.unwrap(), None);

    let sample = Sample::new(2);
    ledger.create_task(sample.new_task("a")).await.unwrap();
    assert_eq!(
        ledger.blobs_in_use(&keys, nothing).await.unwrap(),
        set(0..1)
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
        ledger.blobs_in_use(&keys, nothing).await.unwrap(),
        set(0..4)
    );
    let last = sample.image_failed(0);
    ledger.apply(Uuid::new_v4(), last).await.unwrap();

    assert_eq!(ledger.oldest_open_task().await.unwrap(), None);
    for (kept, expected) in [
        (nothing, set(0..0)),
        (kept(true, false), set(0..1)),
        (kept(false, true), set(1..4)),
        (kept(true, true), set(0..4)),
        (for_ever, set(0..4)),
    ] {
        assert_eq!(ledger.blobs_in_use(&keys, kept).await.unwrap(), expected);
    }
    assert_eq!(ledger.blobs_in_use(&[], for_ever).await.unwrap(), set(0..0));
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
