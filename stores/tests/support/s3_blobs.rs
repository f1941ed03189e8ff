//! What the tests of blobs on S3 share.

use std::time::Duration;

use atelier_stores::{BlobError, BlobsOptions, S3Blobs, S3Options};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;

use super::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};

pub fn url() -> String {
    format!("s3://{BUCKET}/blobs")
}

pub fn credentials(secret_key: &str) -> Option<SharedCredentialsProvider> {
    let credentials = Credentials::new(ACCESS_KEY, secret_key, None, None, "tests");
    Some(SharedCredentialsProvider::new(credentials))
}

pub fn options(endpoint: &str) -> BlobsOptions {
    BlobsOptions {
        verify_on_read: true,
        s3: S3Options {
            endpoint: Some(endpoint.to_owned()),
            ..S3Options::default()
        },
        ..BlobsOptions::default()
    }
}

/// Waits for nothing long, so that tests of waiting are short; parts are as small as they may be.
pub fn impatient(endpoint: &str) -> BlobsOptions {
    let mut options = options(endpoint);
    options.s3 = S3Options {
        connect_timeout_ms: 500,
        request_timeout_ms: 1_000,
        operation_timeout_ms: 4_000,
        max_attempts: 3,
        part_bytes: 5 * 1024 * 1024,
        ..options.s3
    };
    options
}

pub async fn try_open(options: BlobsOptions) -> Result<S3Blobs, BlobError> {
    S3Blobs::open(&url(), options, credentials(SECRET_KEY)).await
}

pub async fn open(options: BlobsOptions) -> S3Blobs {
    try_open(options).await.unwrap()
}

pub fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, BlobError>) -> String {
    match answer {
        Err(error @ BlobError::Unavailable { .. }) => {
            let message = error.to_string();
            assert!(
                message.contains(&format!("{BUCKET}/blobs"))
                    && !message.contains("s3cret")
                    && !message.contains('\n')
                    && message.len() < 700,
                "{message}"
            );
            message
        }
        other => panic!("{other:?}"),
    }
}

/// Bytes that differ for each seed.
pub fn bytes_of(seed: u64, length: usize) -> Bytes {
    let words = (0..).map(|place: u64| {
        let mixed = (place ^ seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// No test of waiting takes longer.
pub const LONG: Duration = Duration::from_secs(40);
