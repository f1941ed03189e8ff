//! What only S3 promises: few requests, no damage unnoticed, nothing half written, whoever dies.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use atelier_schemas::BlobKey;
use atelier_servers::S3;
use atelier_stores::{BlobError, Blobs, BlobsOptions, S3Blobs};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use support::{
    child_place, kill_when,
    s3::{ACCESS_KEY, Fault, SECRET_KEY, Server, objects},
    s3_blobs::{LONG, assert_unavailable, bytes_of, impatient, open, options, try_open},
};

const MIB: usize = 1024 * 1024;

fn key_of(bytes: &[u8]) -> BlobKey {
    BlobKey::from_digest(Sha256::digest(bytes).into())
}

fn path_of(bucket: &Path, key: &BlobKey) -> PathBuf {
    bucket
        .join("blobs")
        .join(&key.as_str()[..2])
        .join(&key.as_str()[2..])
}

/// Opens small parts, so that a blob of 12 MiB has three.
async fn open_small_parts(server: &Server) -> S3Blobs {
    open(impatient(&server.endpoint())).await
}

/// Every object is the blob of its name; answers how many there are.
fn check_every_blob(bucket: &Path) -> usize {
    let found = objects(&bucket.join("blobs"));
    for object in &found {
        let shard = object.parent().unwrap().file_name().unwrap();
        let name = object.file_name().unwrap();
        assert_eq!(
            format!("{}{}", shard.display(), name.display()),
            key_of(&fs::read(object).unwrap()).as_str()
        );
    }
    found.len()
}

/// The requests from now on, as `METHOD query`.
fn watch(server: &Server) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seeing = Arc::clone(&seen);
    server.faults(move |asked| {
        let operation = asked.query.split(['=', '&']).next().unwrap_or_default();
        let line = format!("{} {operation}", asked.method);
        seeing.lock().unwrap().push(line.trim().to_owned());
        None
    });
    seen
}

fn take(seen: &Mutex<Vec<String>>) -> String {
    std::mem::take(&mut *seen.lock().unwrap()).join(", ")
}

#[tokio::test]
async fn blobs_lie_as_they_do_in_a_folder() {
    let server = Server::start();
    let blobs = open(options(&server.endpoint())).await;
    let key = blobs.put(Bytes::from_static(b"picture")).await.unwrap();
    assert_eq!(
        fs::read(path_of(&server.bucket(), &key)).unwrap(),
        b"picture"
    );
}

#[tokio::test]
async fn what_is_there_is_not_sent_again_where_asking_is_cheaper() {
    let server = Server::start();
    let blobs = open_small_parts(&server).await;
    let seen = watch(&server);
    let (small, large, parts) = (
        Bytes::from_static(b"picture"),
        bytes_of(1, 2 * MIB),
        bytes_of(2, 12 * MIB),
    );
    blobs.put(small.clone()).await.unwrap();
    assert_eq!(take(&seen), "PUT x-id");
    blobs.put(small).await.unwrap();
    assert_eq!(take(&seen), "PUT x-id, HEAD");
    blobs.put(large.clone()).await.unwrap();
    assert_eq!(take(&seen), "HEAD, PUT x-id");
    blobs.put(large).await.unwrap();
    assert_eq!(take(&seen), "HEAD");
    blobs.put_reader(&mut &parts[..], u64::MAX).await.unwrap();
    let requests = take(&seen);
    assert!(
        requests.starts_with("HEAD, POST uploads, PUT") && requests.ends_with("POST uploadId"),
        "{requests}"
    );
    assert_eq!(requests.matches("PUT").count(), 3, "{requests}");
    blobs.put(parts.clone()).await.unwrap();
    assert_eq!(take(&seen), "HEAD");
    assert_eq!(blobs.get(&key_of(&parts)).await.unwrap(), parts);
    assert_eq!(server.unfinished_files(), 0);
}

#[tokio::test]
async fn damage_is_found_when_asked_for_and_another_length_is_healed_by_the_next_put() {
    let server = Server::start();
    let verifying = open(options(&server.endpoint())).await;
    let trusting = BlobsOptions {
        verify_on_read: false,
        ..options(&server.endpoint())
    };
    let trusting = open(trusting).await;
    let picture = Bytes::from_static(b"picture");
    let key = trusting.put(picture.clone()).await.unwrap();
    let path = path_of(&server.bucket(), &key);
    fs::write(&path, b"pixture").unwrap();
    for read in [
        verifying.get(&key).await,
        verifying.get_range(&key, 0..7).await,
        verifying.get_range(&key, 0..100).await,
    ] {
        assert!(
            matches!(&read, Err(BlobError::Corrupt(damaged)) if *damaged == key),
            "{read:?}"
        );
    }
    assert_eq!(verifying.get_range(&key, 1..7).await.unwrap(), "ixture");
    assert_eq!(trusting.get(&key).await.unwrap(), "pixture");
    fs::write(&path, b"").unwrap();
    for read in [
        trusting.get(&key).await,
        trusting.get_range(&key, 0..3).await,
    ] {
        assert!(matches!(read, Err(BlobError::Corrupt(_))), "{read:?}");
    }
    trusting.put(picture.clone()).await.unwrap();
    assert_eq!(verifying.get(&key).await.unwrap(), picture);
    // The same for one that is asked for before it is sent.
    let large = bytes_of(3, 2 * MIB);
    let key = trusting.put(large.clone()).await.unwrap();
    fs::write(path_of(&server.bucket(), &key), b"short").unwrap();
    trusting
        .put_reader(&mut &large[..], u64::MAX)
        .await
        .unwrap();
    assert_eq!(verifying.get(&key).await.unwrap(), large);
}

/// Writers with clients of their own, of blobs of one request and of many.
async fn race(bucket: &Path, options: BlobsOptions) {
    for bytes in [bytes_of(4, 300_000), bytes_of(5, 11 * MIB)] {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16 {
            let (options, bytes) = (options.clone(), bytes.clone());
            writers.spawn(async move {
                let blobs = open(options).await;
                match writer % 2 {
                    0 => blobs.put(bytes).await.unwrap(),
                    _ => blobs.put_reader(&mut &bytes[..], u64::MAX).await.unwrap().0,
                }
            });
        }
        for key in writers.join_all().await {
            assert_eq!(key, key_of(&bytes));
        }
        let blobs = open(options.clone()).await;
        assert_eq!(blobs.get(&key_of(&bytes)).await.unwrap(), bytes);
    }
    // With the empty one that a start writes.
    assert_eq!(check_every_blob(bucket), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_racing_writers_of_one_blob_agree() {
    let server = Server::start();
    let mut options = impatient(&server.endpoint());
    options.s3.request_timeout_ms = 30_000;
    options.s3.operation_timeout_ms = 60_000;
    race(&server.bucket(), options.clone()).await;
    assert_eq!(server.unfinished_files(), 0);
    if S3::is_installed() {
        let server = S3::start(ACCESS_KEY, SECRET_KEY, None);
        options.s3.endpoint = Some(server.endpoint());
        race(&server.bucket(), options).await;
        assert_eq!(server.unfinished_uploads(), 0);
    }
}

#[tokio::test]
async fn writers_that_collide_try_again() {
    let server = Server::start();
    let blobs = open_small_parts(&server).await;
    for (seed, length) in [(6, 1_000), (7, 11 * MIB)] {
        let left = AtomicUsize::new(2);
        server.faults(move |asked| {
            let is_write = asked.method == "PUT" && !asked.query.contains("partNumber")
                || asked.method == "POST" && asked.query.starts_with("uploadId");
            let collides = is_write
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok();
            collides.then_some(Fault::Refuse(
                409,
                "ConditionalRequestConflict",
                "another writer",
            ))
        });
        let bytes = bytes_of(seed, length);
        let key = blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(blobs.get(&key).await.unwrap(), bytes);
    }
    server.faults(|asked| {
        (asked.method == "PUT").then_some(Fault::Refuse(409, "ConditionalRequestConflict", "no"))
    });
    let refused = assert_unavailable(blobs.put(bytes_of(8, 10)).await);
    assert!(refused.contains("collide"), "{refused}");
    assert_eq!(server.unfinished_files(), 0);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_loss() {
    let server = Server::start();
    let blobs = open_small_parts(&server).await;
    for (seed, length) in [(9, 1_000), (10, 2 * MIB), (11, 11 * MIB)] {
        let mut lost = false;
        server.faults(move |asked| {
            let is_last = asked.method == "PUT" && !asked.query.contains("partNumber")
                || asked.method == "POST" && asked.query.starts_with("uploadId");
            (is_last && !std::mem::replace(&mut lost, true)).then_some(Fault::LoseAnswer)
        });
        let bytes = bytes_of(seed, length);
        let key = blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(blobs.get(&key).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn parts_of_a_write_that_fails_or_is_dropped_are_taken_back() {
    let server = Server::start();
    let blobs = open_small_parts(&server).await;
    let bytes = bytes_of(12, 12 * MIB);
    server.faults(|asked| {
        let is_second = asked.query.contains("partNumber=2");
        is_second.then_some(Fault::Refuse(500, "InternalError", "a part is lost"))
    });
    let refused = assert_unavailable(blobs.put(bytes.clone()).await);
    assert!(refused.contains("a part is lost"), "{refused}");
    assert_eq!(server.unfinished_files(), 0);
    server.faults(|asked| {
        asked
            .query
            .contains("partNumber=2")
            .then_some(Fault::Silence)
    });
    let write = blobs.put(bytes.clone());
    let dropped = tokio::time::timeout(Duration::from_millis(700), write).await;
    assert!(dropped.is_err(), "a part is never answered");
    let waiting = async {
        while server.unfinished_files() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
    assert_eq!(blobs.size(&key_of(&bytes)).await.unwrap(), None);
    server.no_faults();
    blobs.put(bytes.clone()).await.unwrap();
    assert_eq!(blobs.get(&key_of(&bytes)).await.unwrap(), bytes);
}

/// Kills writers in the middle of their parts, which `unfinished` counts: what they acknowledged is there, what is there
/// is whole.
fn kill_writers(endpoint: &str, bucket: &Path, unfinished: impl Fn() -> usize) {
    for round in 1..4 {
        let (kept, begun) = (objects(&bucket.join("blobs")).len(), unfinished());
        // Whether a write was seen to end, so that the next upload that is seen has just begun.
        let is_between = Cell::new(false);
        let is_time = || {
            // The first may be the empty one of the start.
            if objects(&bucket.join("blobs")).len() <= kept + round {
                return false;
            }
            let is_begun = unfinished() > begun;
            is_between.set(is_between.get() || !is_begun);
            is_begun && is_between.get()
        };
        let child = "child_that_stores_until_it_is_killed";
        let acknowledged = kill_when(child, endpoint.as_ref(), is_time);
        assert!(!acknowledged.is_empty());
        for key in &acknowledged {
            let path = path_of(bucket, &key.parse().unwrap());
            assert!(path.exists(), "{key} was acknowledged");
        }
        check_every_blob(bucket);
    }
}

#[test]
fn kill_9_in_the_middle_of_parts_loses_nothing_that_was_acknowledged() {
    let server = Server::start();
    kill_writers(&server.endpoint(), &server.bucket(), || {
        server.unfinished_files()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_leaves_parts_only_until_a_later_start() {
    if !S3::is_installed() {
        return;
    }
    let server = S3::start(ACCESS_KEY, SECRET_KEY, None);
    // At least one of them has a writer that was killed before it could complete it.
    while server.unfinished_uploads() == 0 {
        tokio::task::block_in_place(|| {
            kill_writers(&server.endpoint(), &server.bucket(), || {
                server.unfinished_uploads()
            });
        });
    }
    // They may belong to a writer that lives.
    open(options(&server.endpoint())).await;
    assert!(server.unfinished_uploads() > 0);
    let mut hasty = options(&server.endpoint());
    hasty.s3.abandoned_upload_hours = 0;
    open(hasty).await;
    assert_eq!(server.unfinished_uploads(), 0);
}

#[tokio::test]
#[ignore = "the process that the other tests kill"]
#[allow(clippy::print_stdout)]
async fn child_that_stores_until_it_is_killed() {
    let endpoint = child_place().expect("started by the other test");
    let mut options = impatient(endpoint.to_str().unwrap());
    options.s3.request_timeout_ms = 30_000;
    options.s3.operation_timeout_ms = 60_000;
    let blobs = try_open(options).await.unwrap();
    for number in 0_u64.. {
        let seed = u64::from(std::process::id()) << 32 | number;
        let bytes = bytes_of(seed, 12 * MIB);
        let key = match number % 2 {
            0 => blobs.put(bytes).await.unwrap(),
            _ => blobs.put_reader(&mut &bytes[..], u64::MAX).await.unwrap().0,
        };
        println!("done {key}");
    }
}
