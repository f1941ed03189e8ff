//! What only the directory promises: it survives kills, full disks and damage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use atelier_schemas::BlobKey;
use atelier_stores::{BlobError, Blobs, BlobsOptions, DirectoryBlobs, Durability, SweepableBlobs};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use support::{SmallDisk, child_place, kill_after};

fn options() -> BlobsOptions {
    BlobsOptions {
        min_free_bytes: 0,
        ..BlobsOptions::default()
    }
}

async fn open(folder: &Path) -> DirectoryBlobs {
    DirectoryBlobs::open(folder, options()).await.unwrap()
}

fn path_of(folder: &Path, key: &BlobKey) -> PathBuf {
    folder
        .join("blobs")
        .join(&key.as_str()[..2])
        .join(&key.as_str()[2..])
}

fn temporary_files(folder: &Path) -> usize {
    fs::read_dir(folder.join("blobs/temporary"))
        .unwrap()
        .count()
}

#[tokio::test]
async fn what_is_put_again_counts_as_written_now() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).await;
    let bytes = Bytes::from_static(b"wanted once more");
    let key = blobs.put(bytes.clone()).await.unwrap();
    let hours_ago = |hours| SystemTime::now() - Duration::from_hours(hours);
    let file = fs::File::open(path_of(folder.path(), &key)).unwrap();
    file.set_modified(hours_ago(3)).unwrap();
    let shard = u8::from_str_radix(&key.as_str()[..2], 16).unwrap();
    let old = async || {
        let old = blobs.written_before(shard, hours_ago(2)).await.unwrap();
        old.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(old().await, [key]);
    blobs.put(bytes.clone()).await.unwrap();
    assert_eq!(old().await, []);
    file.set_modified(hours_ago(3)).unwrap();
    blobs.put_reader(&mut bytes.as_ref(), 1_000).await.unwrap();
    assert_eq!(old().await, []);
}

/// Checks that every file under a blob's name is that blob; answers how many there are.
fn check_every_blob(folder: &Path) -> usize {
    let mut count = 0;
    for shard in fs::read_dir(folder.join("blobs"))
        .unwrap()
        .map(|shard| shard.unwrap())
    {
        if ["temporary", "aside"]
            .map(Into::into)
            .contains(&shard.file_name())
        {
            continue;
        }
        for blob in fs::read_dir(shard.path())
            .unwrap()
            .map(|blob| blob.unwrap())
        {
            let name = format!(
                "{}{}",
                shard.file_name().display(),
                blob.file_name().display()
            );
            let digest =
                BlobKey::from_digest(Sha256::digest(fs::read(blob.path()).unwrap()).into());
            assert_eq!(name, digest.as_str());
            count += 1;
        }
    }
    count
}

#[tokio::test]
async fn blobs_lie_under_their_hash() {
    let folder = tempfile::tempdir().unwrap();
    let key = open(folder.path())
        .await
        .put(Bytes::from_static(b"picture"))
        .await
        .unwrap();
    assert_eq!(fs::read(path_of(folder.path(), &key)).unwrap(), b"picture");
    assert_eq!(temporary_files(folder.path()), 0);
}

#[tokio::test]
async fn a_blob_that_is_there_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).await;
    let key = blobs.put(Bytes::from_static(b"picture")).await.unwrap();
    let first = fs::metadata(path_of(folder.path(), &key)).unwrap().ino();
    blobs.put(Bytes::from_static(b"picture")).await.unwrap();
    blobs.put_reader(&mut &b"picture"[..], 100).await.unwrap();
    assert_eq!(
        fs::metadata(path_of(folder.path(), &key)).unwrap().ino(),
        first
    );
}

#[tokio::test]
async fn damage_is_found_when_asked_for_and_healed_by_the_next_put() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = open(folder.path()).await;
    let verifying = BlobsOptions {
        verify_on_read: true,
        ..options()
    };
    let verifying = DirectoryBlobs::open(folder.path(), verifying)
        .await
        .unwrap();
    let key = trusting.put(Bytes::from_static(b"picture")).await.unwrap();
    let path = path_of(folder.path(), &key);
    fs::write(&path, b"pixture").unwrap();
    assert!(
        matches!(verifying.get(&key).await, Err(BlobError::Corrupt(damaged)) if damaged == key)
    );
    assert_eq!(trusting.get(&key).await.unwrap().as_ref(), b"pixture");
    // What a power cut leaves under `durability = "os"`.
    fs::write(&path, b"").unwrap();
    assert!(matches!(
        trusting.get(&key).await,
        Err(BlobError::Corrupt(_))
    ));
    assert!(matches!(
        trusting.get_range(&key, 0..3).await,
        Err(BlobError::Corrupt(_))
    ));
    trusting.put(Bytes::from_static(b"picture")).await.unwrap();
    assert_eq!(verifying.get(&key).await.unwrap().as_ref(), b"picture");
}

#[tokio::test]
async fn the_reserve_stops_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let key = open(folder.path())
        .await
        .put(Bytes::from_static(b"picture"))
        .await
        .unwrap();
    let reserve = BlobsOptions {
        min_free_bytes: u64::MAX,
        ..options()
    };
    let full = DirectoryBlobs::open(folder.path(), reserve).await.unwrap();
    for refused in [
        full.put(Bytes::from_static(b"more")).await.unwrap_err(),
        full.put_reader(&mut &b"more"[..], 100).await.unwrap_err(),
        full.check().await.unwrap_err(),
    ] {
        assert!(
            matches!(&refused, BlobError::Full { reason, .. } if reason.contains("min_free_bytes")),
            "{refused}"
        );
    }
    // What is there already needs no room.
    assert_eq!(full.put(Bytes::from_static(b"picture")).await.unwrap(), key);
    assert_eq!(full.get(&key).await.unwrap().as_ref(), b"picture");
    assert_eq!(temporary_files(folder.path()), 0);
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount(4_096) else {
        return;
    };
    let blobs = open(disk.path()).await;
    let content = |number: u32| Bytes::from(number.to_le_bytes().repeat(64 * 1024));
    let mut kept = Vec::new();
    let refused = loop {
        let number = u32::try_from(kept.len()).unwrap();
        let stored = if number % 2 == 0 {
            blobs.put(content(number)).await
        } else {
            blobs
                .put_reader(&mut &content(number)[..], u64::MAX)
                .await
                .map(|(key, _)| key)
        };
        match stored {
            Ok(key) => kept.push(key),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "4 MiB do not hold 25 MiB");
    };
    assert!(matches!(refused, BlobError::Full { .. }), "{refused}");
    assert!(kept.len() > 5);
    // A file that grows until the system says no, not one that is refused beforehand.
    let mut endless = tokio::io::repeat(7);
    let refused = blobs.put_reader(&mut endless, u64::MAX).await.unwrap_err();
    assert!(matches!(refused, BlobError::Full { .. }), "{refused}");
    assert_eq!(temporary_files(disk.path()), 0);
    assert_eq!(check_every_blob(disk.path()), kept.len());
    for (number, key) in (0..).zip(&kept) {
        assert_eq!(blobs.get(key).await.unwrap(), content(number));
    }
    disk.grow(8_192);
    blobs.put(content(1_000)).await.unwrap();
    blobs.check().await.unwrap();
}

#[tokio::test]
async fn a_start_removes_what_dead_writers_left() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await);
    fs::write(folder.path().join("blobs/temporary/left"), b"half a pict").unwrap();
    drop(open(folder.path()).await);
    assert_eq!(temporary_files(folder.path()), 0);
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let more = Duration::from_millis(round * 7);
        acknowledged.extend(kill_after(
            "child_that_stores_until_it_is_killed",
            folder.path().as_os_str(),
            20,
            more,
        ));
        let blobs = open(folder.path()).await;
        assert_eq!(temporary_files(folder.path()), 0);
        assert!(check_every_blob(folder.path()) >= acknowledged.len());
        for key in &acknowledged {
            assert!(
                blobs.size(&key.parse().unwrap()).await.unwrap().is_some(),
                "{key} was acknowledged"
            );
        }
    }
}

#[tokio::test]
#[ignore = "the process that `kill_9_loses_nothing_that_was_acknowledged` kills"]
#[allow(clippy::print_stdout)]
async fn child_that_stores_until_it_is_killed() {
    let folder = child_place().expect("started by the other test");
    let blobs = DirectoryBlobs::open(
        Path::new(&folder),
        BlobsOptions {
            durability: Durability::Os,
            ..options()
        },
    )
    .await
    .unwrap();
    for number in 0_u64.. {
        let seed = format!("{} {number} ", std::process::id());
        let bytes = Bytes::from(seed.repeat(1 + 37 * (number % 1_000) as usize));
        let key = match number % 2 {
            0 => blobs.put(bytes).await.unwrap(),
            _ => blobs.put_reader(&mut &bytes[..], u64::MAX).await.unwrap().0,
        };
        println!("done {key}");
    }
}
