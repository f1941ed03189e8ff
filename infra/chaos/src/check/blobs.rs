//! Reads blobs from their folder or bucket and hashes them anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::Path,
};

use anyhow::{Context as _, bail};
use aws_config::BehaviorVersion;
use aws_sdk_s3::{
    Client,
    config::{Builder, Region},
    error::SdkError,
    operation::get_object::GetObjectError,
};
use sha2::{Digest as _, Sha256};

use super::{Promises, StoredBlob};

/// Those of `named` that are there.
pub(super) async fn read(
    promises: &Promises,
    named: &BTreeSet<&str>,
) -> anyhow::Result<BTreeMap<String, StoredBlob>> {
    let mut found = BTreeMap::new();
    if let Some(folder) = promises.blobs_url.strip_prefix("file://") {
        for key in named {
            let (shard, name) = key.split_at_checked(2).context("a key is no SHA-256")?;
            match fs::read(Path::new(folder).join("blobs").join(shard).join(name)) {
                Ok(bytes) => found.insert((*key).to_owned(), stored(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("blob {key}")),
            };
        }
        return Ok(found);
    }
    let Some(bucket) = promises.blobs_url.strip_prefix("s3://") else {
        bail!(
            "`{}` is no store that can be read: file:// or s3://",
            promises.blobs_url
        );
    };
    let client = s3(promises.s3_endpoint.as_deref()).await;
    for key in named {
        let (shard, name) = key.split_at_checked(2).context("a key is no SHA-256")?;
        let request = client.get_object().bucket(bucket);
        match request.key(format!("{shard}/{name}")).send().await {
            Ok(object) => {
                let bytes = object.body.collect().await?.into_bytes();
                found.insert((*key).to_owned(), stored(&bytes));
            }
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), GetObjectError::NoSuchKey(_)) => {}
            Err(error) => return Err(error).with_context(|| format!("blob {key}")),
        }
    }
    Ok(found)
}

async fn s3(endpoint: Option<&str>) -> Client {
    // On loopback, without TLS.
    let http = aws_smithy_http_client::Builder::new().build_http();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"));
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    Client::from_conf(Builder::from(&shared).force_path_style(true).build())
}

fn stored(bytes: &[u8]) -> StoredBlob {
    let mut sha256 = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(sha256, "{byte:02x}");
    }
    StoredBlob {
        bytes: bytes.len() as u64,
        sha256,
    }
}
