//! How many events a second the ledger applies, by batch and durability, and how many blobs a second are kept and
//! read.
//! Run with `cargo bench -p atelier-stores`; the disk decides most of it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/support/s3.rs"]
mod s3;

use std::time::Instant;

use atelier_schemas::{
    ErrorBody, ErrorCode, ImageSource, TaskOptions, envelope::image_id, events::TaskAccepted,
};
use atelier_servers::S3;
use atelier_stores::{
    Blobs, BlobsOptions, DirectoryBlobs, Durability, Ledger, LedgerOptions, S3Blobs, S3Options,
    SqliteLedger, ledger::Effect,
};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use chrono::Utc;
use uuid::Uuid;

const TASKS: usize = 500;
const BLOBS: u32 = 200;
const BLOB_BYTES: usize = 1024 * 1024;

fn effects() -> Vec<(Uuid, Effect)> {
    let of_task = |_| {
        let task_id = Uuid::new_v4();
        let source = ImageSource {
            url: Some("https://shop.example/1.jpg".to_owned()),
            ..ImageSource::default()
        };
        let accepted = TaskAccepted {
            task_id,
            options: TaskOptions::default(),
            images: vec![source],
            submitted_at: Utc::now(),
        };
        let failed = Effect::Failed {
            task_id,
            image_id: Some(image_id(task_id, 0)),
            error: ErrorBody::new(
                ErrorCode::FetchFailed,
                "ingest",
                "Bench",
                "a reason of ordinary length",
            ),
        };
        [
            (Uuid::new_v4(), Effect::Accepted(accepted)),
            (Uuid::new_v4(), failed),
        ]
    };
    (0..TASKS).flat_map(of_task).collect()
}

async fn bench_ledger(durability: Durability, batch: usize) {
    let folder = tempfile::tempdir().unwrap();
    let options = LedgerOptions {
        durability,
        min_free_bytes: 0,
        ..LedgerOptions::default()
    };
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite"), options)
        .await
        .unwrap();
    let effects = effects();
    let begun_at = Instant::now();
    for batch in effects.chunks(batch) {
        ledger.apply_all(batch.to_vec()).await.unwrap();
    }
    let rate = effects.len() as f64 / begun_at.elapsed().as_secs_f64();
    println!("ledger, {durability:?}, {batch:>3} events a transaction: {rate:>8.0} events/s");
    ledger.close().await;
}

async fn bench_blobs(name: &str, blobs: &dyn Blobs) {
    let mut keys = Vec::new();
    let begun_at = Instant::now();
    for number in 0..BLOBS {
        let mut bytes = vec![0; BLOB_BYTES];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        keys.push(blobs.put(Bytes::from(bytes)).await.unwrap());
    }
    let put = f64::from(BLOBS) / begun_at.elapsed().as_secs_f64();
    let begun_at = Instant::now();
    for key in &keys {
        assert_eq!(blobs.get(key).await.unwrap().len(), BLOB_BYTES);
    }
    let got = f64::from(BLOBS) / begun_at.elapsed().as_secs_f64();
    println!(
        "blobs, {name}, {BLOB_BYTES} bytes each: {put:>8.0} put/s, {got:>8.0} got/s, one after the other"
    );
}

async fn bench_directory(durability: Durability) {
    let folder = tempfile::tempdir().unwrap();
    let options = BlobsOptions {
        durability,
        min_free_bytes: 0,
        ..BlobsOptions::default()
    };
    let blobs = DirectoryBlobs::open(folder.path(), options).await.unwrap();
    bench_blobs(&format!("folder, {durability:?}"), &blobs).await;
}

async fn bench_s3(name: &str, endpoint: String) {
    let options = BlobsOptions {
        s3: S3Options {
            endpoint: Some(endpoint),
            ..S3Options::default()
        },
        ..BlobsOptions::default()
    };
    let credentials = Credentials::new(s3::ACCESS_KEY, s3::SECRET_KEY, None, None, "bench");
    let blobs = S3Blobs::open(
        &format!("s3://{}", s3::BUCKET),
        options,
        Some(SharedCredentialsProvider::new(credentials)),
    )
    .await
    .unwrap();
    bench_blobs(name, &blobs).await;
}

#[tokio::main]
async fn main() {
    for durability in [Durability::Fsync, Durability::Os] {
        for batch in [1, 16, 64] {
            bench_ledger(durability, batch).await;
        }
        bench_directory(durability).await;
    }
    let server = s3::Server::start();
    bench_s3("S3 inside this process", server.endpoint()).await;
    if S3::is_installed() {
        let server = S3::start(s3::ACCESS_KEY, s3::SECRET_KEY, None);
        bench_s3("S3 by versitygw", server.endpoint()).await;
    }
}
