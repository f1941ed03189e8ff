//! What everyone does whose blobs can be swept.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use atelier_schemas::BlobKey;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    SweepablePlace,
    ledger::samples::{Repeat, Sample},
};
use crate::{
    BlobError, Ledger, LedgerOptions, RetentionOptions, SqliteLedger, SweepableBlobs,
    retention::{Sweep, Swept},
};

const HOUR: Duration = Duration::from_hours(1);

fn later() -> SystemTime {
    SystemTime::now() + HOUR
}

fn earlier() -> SystemTime {
    SystemTime::now() - HOUR
}

async fn all_before(blobs: &dyn SweepableBlobs, before: SystemTime) -> HashSet<BlobKey> {
    let mut all = HashSet::new();
    for shard in 0..=u8::MAX {
        let keys = blobs.written_before(shard, before).await.unwrap();
        assert!(
            keys.iter().all(|(key, written)| *written < before
                && key.as_str().starts_with(&format!("{shard:02x}")))
        );
        all.extend(keys.into_iter().map(|(key, _)| key));
    }
    // A store may keep the empty blob for itself.
    all.remove(&BlobKey::from_digest(Sha256::digest([]).into()));
    all
}

/// Lists the blob and sets it aside, as a sweep does.
async fn set_aside(blobs: &dyn SweepableBlobs, key: &BlobKey) {
    let shard = u8::from_str_radix(&key.as_str()[..2], 16).unwrap();
    let listed = blobs.written_before(shard, later()).await.unwrap();
    for (_, written) in listed.iter().filter(|(listed, _)| listed == key) {
        blobs.set_aside(key, *written).await.unwrap();
    }
}

/// Every blob that was written before the time is found, in its shard, and none that was written after it.
pub async fn what_is_old_is_found_and_nothing_else<P: SweepablePlace>() {
    let place = P::fresh().await;
    let blobs = place.open_to_sweep().await;
    let mut put = HashSet::new();
    for text in 0..20 {
        put.insert(
            blobs
                .put(Bytes::from(format!("blob {text}")))
                .await
                .unwrap(),
        );
    }
    assert_eq!(all_before(&*blobs, later()).await, put);
    assert_eq!(all_before(&*blobs, earlier()).await, HashSet::new());
}

/// Whatever is asked of a blob that was set aside brings it back.
pub async fn what_is_set_aside_comes_back_when_asked_for<P: SweepablePlace>() {
    let place = P::fresh().await;
    let blobs = place.open_to_sweep().await;
    let bytes = Bytes::from_static(b"still wanted");
    let key = blobs.put(bytes.clone()).await.unwrap();
    for way in 0..4 {
        set_aside(&*blobs, &key).await;
        assert_eq!(
            blobs.aside_since_before(later()).await.unwrap(),
            std::slice::from_ref(&key)
        );
        assert_eq!(blobs.aside_since_before(earlier()).await.unwrap(), []);
        assert!(all_before(&*blobs, later()).await.is_empty());
        match way {
            0 => assert_eq!(blobs.get(&key).await.unwrap(), bytes),
            1 => assert_eq!(blobs.get_range(&key, 6..12).await.unwrap(), "wanted"),
            2 => assert_eq!(blobs.size(&key).await.unwrap(), Some(12)),
            _ => assert!(blobs.bring_back(&key).await.unwrap()),
        }
        assert_eq!(blobs.aside_since_before(later()).await.unwrap(), []);
        assert_eq!(all_before(&*blobs, later()).await, [key.clone()].into());
    }
    // Who puts it again need not look aside: the bytes are there.
    set_aside(&*blobs, &key).await;
    assert_eq!(blobs.put(bytes.clone()).await.unwrap(), key);
    blobs.erase_aside(&key).await.unwrap();
    assert_eq!(blobs.get(&key).await.unwrap(), bytes);
}

/// What was written again since it was listed stays.
pub async fn what_has_come_back_is_not_set_aside_again<P: SweepablePlace>() {
    let place = P::fresh().await;
    let blobs = place.open_to_sweep().await;
    let key = blobs.put(Bytes::from_static(b"wanted")).await.unwrap();
    let shard = u8::from_str_radix(&key.as_str()[..2], 16).unwrap();
    let listed = blobs.written_before(shard, later()).await.unwrap();
    let [(_, written)] = listed[..] else {
        panic!("{listed:?}")
    };
    // Some servers tell whole seconds.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    blobs.set_aside(&key, written).await.unwrap();
    assert!(blobs.bring_back(&key).await.unwrap());
    blobs.set_aside(&key, written).await.unwrap();
    assert_eq!(blobs.aside_since_before(later()).await.unwrap(), []);
}

/// What is erased is gone; what is not aside cannot be erased; unknown keys are left alone.
pub async fn what_is_erased_is_gone_and_can_be_put_again<P: SweepablePlace>() {
    let place = P::fresh().await;
    let blobs = place.open_to_sweep().await;
    let bytes = Bytes::from_static(b"no longer wanted");
    let key = blobs.put(bytes.clone()).await.unwrap();
    blobs.erase_aside(&key).await.unwrap();
    assert_eq!(blobs.get(&key).await.unwrap(), bytes);
    set_aside(&*blobs, &key).await;
    blobs.erase_aside(&key).await.unwrap();
    assert!(matches!(
        blobs.get(&key).await,
        Err(BlobError::NotFound(missing)) if missing == key
    ));
    assert_eq!(blobs.size(&key).await.unwrap(), None);
    assert!(!blobs.bring_back(&key).await.unwrap());
    blobs.set_aside(&key, later()).await.unwrap();
    assert_eq!(blobs.aside_since_before(later()).await.unwrap(), []);
    assert_eq!(blobs.put(bytes.clone()).await.unwrap(), key);
    assert_eq!(blobs.get(&key).await.unwrap(), bytes);
}

/// A ledger, and blobs that it knows of and others.
struct Scene {
    blobs: Arc<dyn SweepableBlobs>,
    ledger: SqliteLedger,
    options: RetentionOptions,
    began: DateTime<Utc>,
    _folder: tempfile::TempDir,
}

const RETENTION: RetentionOptions = RetentionOptions {
    originals_hours: Some(48),
    results_hours: Some(96),
    intermediates_hours: 2,
    aside_hours: 1,
    sweep_interval_minutes: 0,
};

impl Scene {
    async fn new(place: &impl SweepablePlace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = LedgerOptions {
            min_free_bytes: 0,
            ..LedgerOptions::default()
        };
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite"), options)
            .await
            .unwrap();
        let blobs = place.open_to_sweep().await;
        for index in 0..2 {
            for what in ["original", "result", "thumbnail", "alpha", "decoded"] {
                blobs.put(bytes_of(what, index)).await.unwrap();
            }
        }
        Self {
            blobs,
            ledger,
            options: RETENTION,
            began: Utc::now(),
            _folder: folder,
        }
    }

    async fn sweep(&self, after_hours: u32, is_dry_run: bool) -> Swept {
        let sweep = Sweep {
            blobs: &*self.blobs,
            ledger: &self.ledger,
            options: &self.options,
            now: self.began + HOUR * after_hours,
            is_dry_run,
        };
        let mut swept = sweep.run().await.unwrap();
        // The empty blob that a store may keep for itself is looked at like any other.
        let nothing = BlobKey::from_digest(Sha256::digest([]).into());
        let is_kept = self.blobs.size(&nothing).await.unwrap().is_some();
        if is_kept && swept.looked_at > 0 {
            swept.looked_at -= 1;
            swept.set_aside -= 1;
        }
        swept
    }

    async fn is_there(&self, what: &str, index: u32) -> bool {
        let key = BlobKey::from_digest(Sha256::digest(bytes_of(what, index)).into());
        self.blobs.size(&key).await.unwrap().is_some()
    }

    async fn end(&self, sample: &Sample) {
        for index in 0..2 {
            let completed = sample.completed(index);
            self.ledger.apply(Uuid::new_v4(), completed).await.unwrap();
        }
    }
}

/// As the samples' keys are made.
fn bytes_of(what: &str, index: u32) -> Bytes {
    Bytes::from(format!("{what} {index}"))
}

fn swept(looked_at: u64, set_aside: u64, brought_back: u64, erased: u64) -> Swept {
    Swept {
        looked_at,
        set_aside,
        brought_back,
        erased,
    }
}

/// Nothing goes while a task is open; afterwards intermediates, originals and results go, each in its time; what was
/// set aside and is in use again comes back.
pub async fn a_sweep_goes_by_the_ledger<P: SweepablePlace>() {
    let place = P::fresh().await;
    let scene = Scene::new(&place).await;
    let sample = Sample::new(2);
    let created = scene.ledger.create_task(sample.new_task("a"));
    created.await.unwrap();
    assert_eq!(scene.sweep(1_000, false).await, Swept::default());
    scene.end(&sample).await;

    assert_eq!(scene.sweep(1, false).await, Swept::default());
    assert_eq!(scene.sweep(3, false).await, swept(10, 2, 0, 0));
    assert_eq!(scene.sweep(5, false).await, swept(8, 0, 0, 2));
    assert!(!scene.is_there("decoded", 0).await && !scene.is_there("decoded", 1).await);
    assert!(scene.is_there("original", 0).await);

    assert_eq!(scene.sweep(49, false).await, swept(8, 2, 0, 0));
    // Its second image is an upload: the same bytes.
    let again = Sample::new(2);
    let created = scene.ledger.create_task(again.new_task("a"));
    created.await.unwrap();
    assert_eq!(scene.sweep(60, false).await, swept(0, 0, 1, 1));
    assert!(!scene.is_there("original", 0).await);
    assert!(scene.is_there("original", 1).await);
    let cancelled = again.cancelled();
    scene.ledger.apply(Uuid::new_v4(), cancelled).await.unwrap();

    assert_eq!(scene.sweep(97, false).await, swept(7, 7, 0, 0));
    assert_eq!(scene.sweep(99, false).await, swept(0, 0, 0, 7));
    assert!(!scene.is_there("result", 0).await);
}

/// An original goes when its class's time is over, although what the ledger does not know stays for longer.
pub async fn a_class_may_be_kept_shorter_than_intermediates<P: SweepablePlace>() {
    let place = P::fresh().await;
    let mut scene = Scene::new(&place).await;
    scene.options = RetentionOptions {
        originals_hours: Some(3),
        results_hours: None,
        intermediates_hours: 100,
        ..RETENTION
    };
    let sample = Sample::new(2);
    let created = scene.ledger.create_task(sample.new_task("a"));
    created.await.unwrap();
    scene.end(&sample).await;
    let set_aside = async |after_hours| {
        scene.sweep(after_hours, false).await;
        let aside = scene.blobs.aside_since_before(later()).await.unwrap();
        aside.len()
    };
    assert_eq!(set_aside(2).await, 0);
    assert_eq!(set_aside(4).await, 2);
    assert!(scene.is_there("original", 0).await && scene.is_there("original", 1).await);
    scene.options.aside_hours = u32::MAX;
    scene.options.results_hours = Some(u32::MAX);
    // They came back; the decoded pictures go with them.
    let known = scene.sweep(101, true).await.set_aside;
    assert_eq!(known, 4);
}

/// A dry run tells what a sweep would do.
pub async fn a_dry_run_does_nothing<P: SweepablePlace>() {
    let place = P::fresh().await;
    let scene = Scene::new(&place).await;
    for _ in 0..2 {
        assert_eq!(scene.sweep(3, true).await, swept(10, 10, 0, 0));
    }
    assert_eq!(scene.sweep(3, false).await, swept(10, 10, 0, 0));
    for _ in 0..2 {
        assert_eq!(scene.sweep(5, true).await, swept(0, 0, 0, 10));
    }
}

/// Who has put a blob gets it, although it is set aside in between.
pub async fn a_sweep_races_those_who_put_and_get<P: SweepablePlace>() {
    const ROUNDS: u32 = 40;
    let place = P::fresh().await;
    let blobs = place.open_to_sweep().await;
    let work: Vec<_> = (0..4_u32)
        .map(|worker| {
            let blobs = Arc::clone(&blobs);
            let (rounds, done) = tokio::sync::watch::channel(0_u32);
            let work = tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let bytes = bytes_of("shared", (worker + round) % 3);
                    let key = blobs.put(bytes.clone()).await.unwrap();
                    assert_eq!(blobs.size(&key).await.unwrap(), Some(bytes.len() as u64));
                    assert_eq!(blobs.get(&key).await.unwrap(), bytes);
                    rounds.send_replace(round + 1);
                }
            });
            (work, done)
        })
        .collect();
    let mut sweeps = 0;
    while work.iter().any(|(work, _)| !work.is_finished()) {
        for index in 0..3 {
            let key = BlobKey::from_digest(Sha256::digest(bytes_of("shared", index)).into());
            set_aside(&*blobs, &key).await;
        }
        // A blob that came back is new: no sweep sets it aside again while one who asked for it then still waits.
        let rounds: Vec<u32> = work.iter().map(|(_, done)| *done.borrow()).collect();
        sweeps += 1;
        for ((_, done), rounds) in work.iter().zip(rounds) {
            // An error: it is done with everything.
            let _ = done.clone().wait_for(|done| *done > rounds).await;
        }
    }
    for (work, _) in work {
        work.await.unwrap();
    }
    assert!(sweeps > 1, "{sweeps}");
}

/// Who repeats a picture whose time is over finds its original, whatever sweeps at the same time, and keeps it.
pub async fn a_sweep_races_those_who_repeat<P: SweepablePlace>() {
    const ROUNDS: u32 = 20;
    let place = P::fresh().await;
    let scene = Arc::new(Scene::new(&place).await);
    let sample = Sample::new(2);
    let created = scene.ledger.create_task(sample.new_task("a"));
    created.await.unwrap();
    scene.end(&sample).await;
    for round in 0..ROUNDS {
        let mut tasks = Vec::new();
        let mut repeating = JoinSet::new();
        for index in 0..2 {
            let repeat = Repeat::of(&[(&sample, index, index)]);
            tasks.push(repeat.task.clone());
            let scene = Arc::clone(&scene);
            // First as the gateway does, then as the stages do.
            repeating.spawn(async move {
                assert!(scene.is_there("original", index).await, "{round}");
                scene.ledger.create_task(repeat.new_task()).await.unwrap();
                let key = repeat.sources[0].blob.clone().unwrap().key;
                let bytes = scene.blobs.get(&key).await.unwrap();
                assert_eq!(bytes, bytes_of("original", index));
            });
        }
        tokio::join!(repeating.join_all(), scene.sweep(49, false));
        // What went aside under their hands is in use now.
        scene.sweep(60, false).await;
        for (index, task) in (0..).zip(tasks) {
            assert!(scene.is_there("original", index).await, "{round}");
            let cancelled = task.cancelled();
            scene.ledger.apply(Uuid::new_v4(), cancelled).await.unwrap();
        }
    }
    scene.sweep(120, false).await;
    scene.sweep(180, false).await;
    assert!(!scene.is_there("original", 0).await);
}
