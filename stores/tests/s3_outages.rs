//! The S3 server goes away, freezes, fails, refuses or is full: the blobs say "unavailable" or "full" and why, lose
//! nothing, and need no restart.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use atelier_schemas::BlobKey;
use atelier_servers::S3;
use atelier_stores::{BlobError, Blobs, BlobsOptions, S3Blobs, open_blobs};
use bytes::Bytes;
use support::{
    CHILD_PLACE, SmallDisk, child_place,
    log::Log,
    s3::{ACCESS_KEY, BUCKET, Fault, SECRET_KEY, Server},
    s3_blobs::{
        LONG, assert_unavailable, bytes_of, credentials, impatient, open, options, try_open, url,
    },
};

const PICTURE: Bytes = Bytes::from_static(b"picture");

/// Every operation is refused as unavailable, within bounds; answers what they say.
async fn all_are_unavailable(blobs: &S3Blobs, key: &BlobKey) -> Vec<String> {
    let asking = async {
        let large = bytes_of(1, 6 * 1024 * 1024);
        vec![
            assert_unavailable(blobs.get(key).await),
            assert_unavailable(blobs.get_range(key, 0..3).await),
            assert_unavailable(blobs.get_range(key, 3..3).await),
            assert_unavailable(blobs.size(key).await),
            assert_unavailable(blobs.put(Bytes::from_static(b"another")).await),
            assert_unavailable(blobs.put_reader(&mut &large[..], u64::MAX).await),
            assert_unavailable(blobs.check().await),
        ]
    };
    tokio::time::timeout(LONG, asking).await.expect("hangs")
}

/// Everything works, with what is there and with what is new.
async fn all_work(blobs: &S3Blobs, key: &BlobKey) {
    blobs.check().await.unwrap();
    assert_eq!(blobs.get(key).await.unwrap(), PICTURE);
    let bytes = bytes_of(2, 11 * 1024 * 1024);
    let (new, _) = blobs.put_reader(&mut &bytes[..], u64::MAX).await.unwrap();
    assert_eq!(blobs.get(&new).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let server = Server::start();
    let (endpoint, settings) = (server.endpoint(), impatient(&server.endpoint()));
    let blobs = open(settings.clone()).await;
    let key = blobs.put(PICTURE).await.unwrap();
    drop(server);
    let mut said = all_are_unavailable(&blobs, &key).await;
    said.push(assert_unavailable(try_open(settings).await.map(drop)));
    for message in said {
        assert!(
            message.contains("refused") && message.contains(&endpoint),
            "{message}"
        );
    }
    let mut nowhere = impatient("http://no-such-server.invalid:9000");
    nowhere.s3.max_attempts = 1;
    let message = assert_unavailable(try_open(nowhere).await.map(drop));
    assert!(message.contains("no-such-server.invalid"), "{message}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_where_tls_is_asked_for() {
    let server = Server::start();
    let settings = impatient(&server.endpoint().replace("http:", "https:"));
    let message = assert_unavailable(try_open(settings).await.map(drop));
    assert!(message.contains("corrupt message"), "{message}");
}

#[tokio::test]
async fn a_frozen_server_is_away_until_it_moves_again() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    server.faults(|_| Some(Fault::Silence));
    for message in all_are_unavailable(&blobs, &key).await {
        assert!(message.contains("timeout"), "{message}");
    }
    // Before `/health/ready` gives up and does not know why.
    let checked = tokio::time::timeout(Duration::from_millis(2_900), blobs.check()).await;
    assert_unavailable(checked.expect("the check takes too long"));
    server.no_faults();
    all_work(&blobs, &key).await;
}

#[tokio::test]
async fn a_real_server_that_freezes_is_away_until_it_moves_again() {
    if !S3::is_installed() {
        return;
    }
    let server = S3::start(ACCESS_KEY, SECRET_KEY, None);
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    let frozen = server.freeze();
    all_are_unavailable(&blobs, &key).await;
    drop(frozen);
    all_work(&blobs, &key).await;
}

#[tokio::test]
async fn a_body_may_be_slow_but_not_for_ever() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let bytes = bytes_of(3, 1_000_000);
    let key = blobs.put(bytes.clone()).await.unwrap();
    // Longer than one request may wait for its answer to begin.
    server.faults(|_| Some(Fault::Trickle(50_000, Duration::from_millis(75))));
    assert_eq!(blobs.get(&key).await.unwrap(), bytes);
    server.faults(|_| Some(Fault::Trickle(1_000, Duration::from_millis(75))));
    let asked = tokio::time::timeout(LONG, blobs.get(&key)).await;
    let message = assert_unavailable(asked.expect("hangs"));
    assert!(message.contains("operation_timeout_ms"), "{message}");
    // Stands still in the middle.
    server.faults(|_| Some(Fault::Trickle(400_000, Duration::from_secs(600))));
    let asked = tokio::time::timeout(LONG, blobs.get(&key)).await;
    assert_unavailable(asked.expect("hangs"));
}

#[tokio::test]
async fn a_body_that_is_cut_is_asked_for_again() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let bytes = bytes_of(4, 1_000_000);
    let key = blobs.put(bytes.clone()).await.unwrap();
    let cuts = |left: usize| {
        let left = AtomicUsize::new(left);
        move |_: &support::s3::Asked<'_>| {
            let cut = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
            cut.is_ok().then_some(Fault::CutBody)
        }
    };
    server.faults(cuts(2));
    assert_eq!(blobs.get(&key).await.unwrap(), bytes);
    server.faults(cuts(1));
    let part = blobs.get_range(&key, 10..900_000).await.unwrap();
    assert_eq!(part, bytes.slice(10..900_000));
    server.faults(cuts(usize::MAX));
    let message = assert_unavailable(blobs.get(&key).await);
    assert!(message.contains("broke off 3 times"), "{message}");
}

#[tokio::test]
async fn failures_that_pass_are_waited_for_and_others_are_told() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    for (status, code) in [
        (503, "SlowDown"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
    ] {
        for failures in [2, usize::MAX] {
            let asked = Arc::new(AtomicUsize::new(0));
            let counting = Arc::clone(&asked);
            server.faults(move |_| {
                let earlier = counting.fetch_add(1, Ordering::SeqCst);
                (earlier < failures).then_some(Fault::Refuse(status, code, "please wait"))
            });
            if failures == 2 {
                assert_eq!(blobs.get(&key).await.unwrap(), PICTURE);
            } else {
                let message = assert_unavailable(blobs.get(&key).await);
                assert!(
                    message.contains(&format!("{status} {code}: please wait")),
                    "{message}"
                );
            }
            assert_eq!(asked.load(Ordering::SeqCst), 3, "max_attempts");
        }
    }
    server.no_faults();
    all_work(&blobs, &key).await;
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    for (status, code, advice) in [
        (403, "AccessDenied", "s3:PutObject"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "renew the credentials"),
        (404, "NoSuchBucket", "make the bucket"),
        (301, "PermanentRedirect", "stores.blobs.s3.region"),
        (
            400,
            "AuthorizationHeaderMalformed",
            "stores.blobs.s3.region",
        ),
        (501, "NotImplemented", "conditional writes"),
    ] {
        server.faults(move |_| Some(Fault::Refuse(status, code, "no")));
        let messages = [
            assert_unavailable(blobs.get(&key).await),
            assert_unavailable(blobs.put(Bytes::from_static(b"another")).await),
            assert_unavailable(blobs.check().await),
        ];
        for message in messages {
            assert!(
                message.contains(code) && message.contains(advice),
                "{message}"
            );
        }
        // The answer to HEAD has no body.
        let message = assert_unavailable(blobs.size(&key).await);
        assert!(message.contains(&status.to_string()), "{message}");
    }
    // Some other web server.
    server.faults(|_| Some(Fault::Refuse(404, "", "")));
    for message in all_are_unavailable(&blobs, &key).await {
        assert!(message.contains("404"), "{message}");
    }
}

#[tokio::test]
async fn wrong_credentials_and_buckets_are_told_at_the_start() {
    let server = Server::start();
    let endpoint = server.endpoint();
    check_wrong_starts(&endpoint).await;
    if S3::is_installed() {
        let server = S3::start(ACCESS_KEY, SECRET_KEY, None);
        check_wrong_starts(&server.endpoint()).await;
    }
}

async fn check_wrong_starts(endpoint: &str) {
    let url = url();
    let wrong_secret = S3Blobs::open(&url, impatient(endpoint), credentials("s3cret guess"));
    let message = assert_unavailable(wrong_secret.await.map(drop));
    assert!(
        message.contains("SignatureDoesNotMatch") && message.contains("AWS_SECRET_ACCESS_KEY"),
        "{message}"
    );
    let wrong_bucket = format!("s3://no-such-{BUCKET}/blobs");
    let wrong_bucket = S3Blobs::open(&wrong_bucket, impatient(endpoint), credentials(SECRET_KEY));
    let message = assert_unavailable(wrong_bucket.await.map(drop));
    assert!(message.contains("make the bucket"), "{message}");
}

#[tokio::test]
async fn a_bucket_that_goes_is_no_blob_that_goes() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    std::fs::rename(server.bucket(), server.bucket().with_extension("gone")).unwrap();
    assert_unavailable(blobs.size(&key).await);
    std::fs::rename(server.bucket().with_extension("gone"), server.bucket()).unwrap();
    assert_eq!(blobs.get(&key).await.unwrap(), PICTURE);
}

#[tokio::test]
async fn clocks_that_differ_are_told_apart_from_wrong_secrets() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    server.faults(|_| {
        Some(Fault::RefuseWithClockBehind(
            403,
            "RequestTimeTooSkewed",
            3_600,
        ))
    });
    let message = assert_unavailable(blobs.get(&key).await);
    assert!(
        message.contains("RequestTimeTooSkewed") && message.contains("NTP"),
        "{message}"
    );
    server.no_faults();
    // The SDK goes by the server's clock, and learns from the next refusal that it is right again.
    if let Err(error) = blobs.get(&key).await {
        assert!(
            error.to_string().contains("RequestTimeTooSkewed"),
            "{error}"
        );
    }
    assert_eq!(blobs.get(&key).await.unwrap(), PICTURE);
}

#[tokio::test]
async fn a_server_without_room_is_full_and_recovers() {
    let server = Server::start();
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    for (status, code) in [
        (507, "XMinioStorageFull"),
        (507, "InsufficientStorage"),
        (403, "QuotaExceeded"),
        (400, "XMinioAdminBucketQuotaExceeded"),
    ] {
        server.faults(move |asked| {
            (asked.method == "PUT").then_some(Fault::Refuse(status, code, "no room"))
        });
        let large = bytes_of(5, 11 * 1024 * 1024);
        for refused in [
            blobs.put(Bytes::from_static(b"another")).await.unwrap_err(),
            blobs.put(large).await.unwrap_err(),
            blobs.check().await.unwrap_err(),
        ] {
            assert!(
                matches!(&refused, BlobError::Full { reason, .. } if reason.contains(code)),
                "{refused}"
            );
        }
        assert_eq!(server.unfinished_files(), 0);
        assert_eq!(blobs.get(&key).await.unwrap(), PICTURE);
    }
    server.no_faults();
    all_work(&blobs, &key).await;
}

#[tokio::test]
async fn a_full_disk_of_a_real_server_refuses_loses_nothing_and_recovers() {
    if !S3::is_installed() {
        return;
    }
    let Some(disk) = SmallDisk::mount(24 * 1_024) else {
        return;
    };
    let server = S3::start(ACCESS_KEY, SECRET_KEY, Some(disk.path()));
    let blobs = open(impatient(&server.endpoint())).await;
    let content = |number: u64| bytes_of(number, 1_000_000);
    let mut kept = Vec::new();
    let refused = loop {
        match blobs.put(content(kept.len() as u64)).await {
            Ok(key) => kept.push(key),
            Err(error) => break error,
        }
        assert!(kept.len() < 50, "24 MiB do not hold 50 MB");
    };
    assert!(matches!(refused, BlobError::Full { .. }), "{refused}");
    assert!(kept.len() > 5, "{}", kept.len());
    let parts = bytes_of(100, 11 * 1024 * 1024);
    let refused = blobs.put(parts.clone()).await.unwrap_err();
    assert!(matches!(refused, BlobError::Full { .. }), "{refused}");
    assert_eq!(server.unfinished_uploads(), 0);
    for (number, key) in (0..).zip(&kept) {
        assert_eq!(blobs.get(key).await.unwrap(), content(number));
    }
    disk.grow(64 * 1_024);
    blobs.put(parts).await.unwrap();
    blobs.check().await.unwrap();
    drop(server);
}

/// Opens the blobs as `open_blobs` does, in a process whose environment has these variables and no others of the SDK.
fn open_in_a_child(endpoint: &str, variables: &[(&str, &str)]) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_opens", "--exact", "--ignored", "--nocapture"])
        .env(CHILD_PLACE, endpoint)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/nowhere/config")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    let said = output.lines().find_map(|line| line.split_once("opened: "));
    said.map(|(_, said)| said.to_owned()).expect(&output)
}

#[tokio::test]
#[ignore = "the process in which `credentials_come_from_the_environment_or_a_profile` opens"]
#[allow(clippy::print_stdout)]
async fn child_that_opens() {
    let endpoint = child_place().expect("started by the other test");
    let settings: BlobsOptions = impatient(endpoint.to_str().unwrap());
    match open_blobs(&url(), &settings).await {
        Ok(blobs) => println!("opened: {}", blobs.check().await.is_ok()),
        Err(error) => println!("opened: {error}"),
    }
}

#[test]
fn credentials_come_from_the_environment_or_a_profile() {
    let server = Server::start();
    let endpoint = server.endpoint();
    let key = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    assert_eq!(open_in_a_child(&endpoint, &key), "true");
    let file = tempfile::NamedTempFile::new().unwrap();
    let profile = format!(
        "[atelier]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    );
    std::fs::write(file.path(), profile).unwrap();
    let of_profile = [
        ("AWS_SHARED_CREDENTIALS_FILE", file.path().to_str().unwrap()),
        ("AWS_PROFILE", "atelier"),
    ];
    assert_eq!(open_in_a_child(&endpoint, &of_profile), "true");
    // A server without TLS needs no certificates.
    let no_certificates = [
        ("SSL_CERT_FILE", "/nowhere"),
        ("SSL_CERT_DIR", "/nowhere"),
        key[0],
        key[1],
    ];
    assert_eq!(open_in_a_child(&endpoint, &no_certificates), "true");
    let said = open_in_a_child(&endpoint.replace("http:", "https:"), &no_certificates);
    assert!(said.contains("ca-certificates"), "{said}");
    for (variables, expected) in [
        (vec![], "no credentials"),
        (
            vec![key[0], ("AWS_SECRET_ACCESS_KEY", "s3cret guess")],
            "SignatureDoesNotMatch",
        ),
    ] {
        let said = open_in_a_child(&endpoint, &variables);
        assert!(
            said.starts_with(&format!("`stores.blobs_url` is `{}`", url()))
                && said.contains(expected)
                && said.contains("AWS_SECRET_ACCESS_KEY"),
            "{said}"
        );
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn no_log_has_a_secret_at_whatever_level() {
    let server = Server::start();
    let log = Log::of_this_thread();
    let blobs = open(impatient(&server.endpoint())).await;
    let key = blobs.put(PICTURE).await.unwrap();
    server.faults(|_| Some(Fault::Refuse(403, "SignatureDoesNotMatch", "no")));
    assert_unavailable(blobs.get(&key).await);
    let logged = log.text();
    assert!(logged.contains("TRACE") && logged.contains(ACCESS_KEY));
    assert!(!logged.contains(SECRET_KEY));
}

#[tokio::test]
async fn a_source_that_is_slow_costs_the_server_no_time() {
    let server = Server::start();
    let blobs = open(options(&server.endpoint())).await;
    let (mut sender, mut source) = tokio::io::duplex(1_000);
    server.faults(|asked| panic!("{} before the source ended", asked.method));
    let write = tokio::spawn(async move { blobs.put_reader(&mut source, u64::MAX).await });
    tokio::io::AsyncWriteExt::write_all(&mut sender, b"pict")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.no_faults();
    tokio::io::AsyncWriteExt::write_all(&mut sender, b"ure")
        .await
        .unwrap();
    drop(sender);
    assert_eq!(write.await.unwrap().unwrap().1, 7);
}
