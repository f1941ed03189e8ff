//! Blobs on a server that speaks S3: `<prefix>/ab/cdef…`, named by the SHA-256 of their bytes as in a folder, so that a
//! copy of the one is the other.
//!
//! Invariants: every body is sent with its SHA-256 and refused by the server where it does not match; under a key there
//! is the whole blob or nothing; a write is conditional on there being none, so that racing writers of the same bytes
//! do not write over each other. Any number of processes may share the bucket.

pub(crate) mod address;
mod client;
mod failure;
mod spool;
mod sweep;
mod upload;

use std::{
    future::Future,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use atelier_schemas::BlobKey;
use aws_sdk_s3::{
    Client,
    config::{
        Builder as Settings, SharedCredentialsProvider, retry::RetryConfig, timeout::TimeoutConfig,
    },
    primitives::ByteStream,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncRead;

use self::{
    address::Address,
    client::{FIRST_PAUSE, MAX_PAUSE},
    failure::{Refusal, chain},
    spool::{Outgoing, blocking},
};
use crate::{BlobError, Blobs, options::BlobsOptions};

/// Longest wait for each of the two answers of [`Blobs::check`]: together below the three seconds that `/health/ready`
/// waits, so that it tells the reason.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1_400);
/// Up to this place the servers count bytes.
const MAX_PLACE: u64 = i64::MAX as u64;

/// A bucket, or a part of one, that keeps blobs.
#[derive(Clone)]
pub struct S3Blobs {
    place: Arc<Place>,
}

struct Place {
    client: Client,
    address: Address,
    /// The address and the server, as messages name it.
    name: String,
    options: BlobsOptions,
}

/// What the server tells of a blob without its bytes.
struct Stored {
    length_bytes: u64,
    /// By the server's clock.
    written: Option<SystemTime>,
}

/// An answer with bytes.
struct Fetched {
    bytes: Bytes,
    /// Length of the whole blob, where the answer tells it.
    total_bytes: Option<u64>,
}

impl S3Blobs {
    /// Opens the blobs at `url`, `s3://bucket/prefix`, with `credentials` or those of the SDK's usual ways (environment,
    /// profile files, the machine's role), and removes what dead writers left.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] where the bucket cannot be read and written, and why.
    pub async fn open(
        url: &str,
        options: BlobsOptions,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Self, BlobError> {
        let unavailable = |place: String, reason: String| BlobError::Unavailable { place, reason };
        let address =
            address::parse(url).map_err(|reason| unavailable("its URL".to_owned(), reason))?;
        let name = match &options.s3.endpoint {
            Some(endpoint) => format!("{address} on {endpoint}"),
            None => address.to_string(),
        };
        let client = client::connect(&options.s3, credentials)
            .await
            .map_err(|reason| unavailable(name.clone(), reason))?;
        let place = Arc::new(Place {
            client,
            address,
            name,
            options,
        });
        place.probe(None).await?;
        match place.remove_abandoned().await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(
                    place = place.name,
                    removed,
                    "removed what interrupted writers left"
                );
            }
            // It costs space, not blobs.
            Err(error) => {
                tracing::warn!(%error, "cannot look for what interrupted writers left; let the server remove old multipart uploads");
            }
        }
        Ok(Self { place })
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobKey, BlobError> {
        let blob = Outgoing::of_bytes(bytes)
            .await
            .map_err(|error| self.place.unavailable(error.to_string()))?;
        self.place.keep(&blob).await?;
        Ok(blob.key)
    }

    async fn put_reader(
        &self,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        limit_bytes: u64,
    ) -> Result<(BlobKey, u64), BlobError> {
        let memory_bytes = usize::try_from(self.place.options.s3.part_bytes).unwrap_or(usize::MAX);
        let blob = Outgoing::of_reader(reader, limit_bytes, memory_bytes).await?;
        self.place.keep(&blob).await?;
        Ok((blob.key, blob.length_bytes))
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, BlobError> {
        match self.place.fetch_wherever(key, None).await? {
            Some(fetched) => self.place.verified(key, fetched.bytes).await,
            None => Err(self.place.unavailable(
                "it answered 416 to a request without a range; is it a server of S3?".to_owned(),
            )),
        }
    }

    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Bytes, BlobError> {
        if range.is_empty() || range.start > MAX_PLACE {
            return match self.size(key).await? {
                Some(_) => Ok(Bytes::new()),
                None => Err(BlobError::NotFound(key.clone())),
            };
        }
        let asked = match range.end - 1 {
            last if last < MAX_PLACE => format!("bytes={}-{last}", range.start),
            _ => format!("bytes={}-", range.start),
        };
        match self.place.fetch_wherever(key, Some(asked)).await? {
            Some(fetched) => self.place.cut(key, range, fetched).await,
            // It begins at the end or behind it.
            None if range.start > 0 => Ok(Bytes::new()),
            None => self.place.verified(key, Bytes::new()).await,
        }
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        if let Some(stored) = self.place.stored(key).await? {
            return Ok(Some(stored.length_bytes));
        }
        // A bucket that is gone must not look like a blob that is.
        self.place.find_bucket(Settings::default()).await?;
        if !self.place.bring_back(key).await? {
            return Ok(None);
        }
        let stored = self.place.stored(key).await?;
        Ok(stored.map(|stored| stored.length_bytes))
    }

    async fn check(&self) -> Result<(), BlobError> {
        let hasty = Settings::default()
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_timeout(CHECK_TIMEOUT)
                    .build(),
            )
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(2)
                    .with_initial_backoff(FIRST_PAUSE),
            );
        self.place.probe(Some(hasty)).await
    }
}

impl Place {
    /// Whether blobs can be read and written: reads the empty blob, and writes it if it is not there. After the first time
    /// the server only says that it is, once it has checked that it might be written.
    async fn probe(&self, settings: Option<Settings>) -> Result<(), BlobError> {
        let settings = settings.unwrap_or_default();
        let nothing = self.object(&BlobKey::from_digest(Sha256::digest([]).into()));
        let read = self
            .client
            .get_object()
            .bucket(&self.address.bucket)
            .key(&nothing)
            .customize()
            .config_override(settings.clone())
            .send()
            .await;
        if let Err(error) = read {
            let refusal = Refusal::of(&error);
            if !refusal.is_no_such_key() {
                return Err(self.failure(&refusal));
            }
            // There are servers to which a write would make the bucket.
            self.find_bucket(settings.clone()).await?;
        }
        let written = self
            .client
            .put_object()
            .bucket(&self.address.bucket)
            .key(&nothing)
            .if_none_match("*")
            .body(ByteStream::from_static(b""))
            .customize()
            .config_override(settings)
            .send()
            .await;
        match written.map_err(|error| Refusal::of(&error)) {
            Ok(_) => Ok(()),
            Err(refusal) if matches!(refusal.status, Some(409 | 412)) => Ok(()),
            Err(refusal) => Err(self.failure(&refusal)),
        }
    }

    async fn find_bucket(&self, settings: Settings) -> Result<(), BlobError> {
        let found = self
            .client
            .head_bucket()
            .bucket(&self.address.bucket)
            .customize()
            .config_override(settings)
            .send()
            .await;
        match found.map_err(|error| Refusal::of(&error)) {
            Ok(_) => Ok(()),
            // The answer to HEAD has no words.
            Err(refusal) if refusal.status == Some(404) => Err(self.unavailable(format!(
                "it answered 404: there is no bucket `{}`; make the bucket, or correct `stores.blobs_url` or `stores.blobs.s3.endpoint`",
                self.address.bucket
            ))),
            Err(refusal) => Err(self.failure(&refusal)),
        }
    }

    /// What is there; `None` where the server says 404.
    async fn stored(&self, key: &BlobKey) -> Result<Option<Stored>, BlobError> {
        let found = self
            .client
            .head_object()
            .bucket(&self.address.bucket)
            .key(self.object(key))
            .send()
            .await;
        match found {
            Ok(found) => match found.content_length.map(u64::try_from) {
                Some(Ok(length_bytes)) => Ok(Some(Stored {
                    length_bytes,
                    written: found
                        .last_modified
                        .and_then(|time| SystemTime::try_from(time).ok()),
                })),
                _ => Err(self.unavailable(format!("it tells no length of the blob {key}"))),
            },
            Err(error) => match Refusal::of(&error) {
                refusal if refusal.status == Some(404) => Ok(None),
                refusal => Err(self.failure(&refusal)),
            },
        }
    }

    /// As [`Place::fetch`] does; a blob that was set aside is brought back.
    async fn fetch_wherever(
        &self,
        key: &BlobKey,
        range: Option<String>,
    ) -> Result<Option<Fetched>, BlobError> {
        match self.fetch(key, range.clone()).await {
            Err(BlobError::NotFound(_)) if self.bring_back(key).await? => {
                self.fetch(key, range).await
            }
            fetched => fetched,
        }
    }

    /// The blob or a range of it; `None` where the range begins behind its end. A body that breaks off is asked for
    /// again.
    async fn fetch(
        &self,
        key: &BlobKey,
        range: Option<String>,
    ) -> Result<Option<Fetched>, BlobError> {
        let timeout_ms = self.options.s3.operation_timeout_ms;
        let fetching = async {
            let mut pause = FIRST_PAUSE;
            for attempt in 1.. {
                match self.fetch_once(key, range.clone()).await {
                    Err(Interrupted::BrokeOff(reason))
                        if attempt >= self.options.s3.max_attempts =>
                    {
                        return Err(self.unavailable(format!(
                            "the blob {key} broke off {attempt} times: {reason}"
                        )));
                    }
                    Err(Interrupted::BrokeOff(_)) => {}
                    Err(Interrupted::Failed(error)) => return Err(error),
                    Ok(fetched) => return Ok(fetched),
                }
                tokio::time::sleep(pause).await;
                pause = MAX_PAUSE.min(pause * 2);
            }
            Ok(None)
        };
        within(timeout_ms, fetching).await.unwrap_or_else(|| {
            Err(self.unavailable(format!(
                "the blob {key} did not arrive within {timeout_ms} ms (`stores.blobs.s3.operation_timeout_ms`)"
            )))
        })
    }

    async fn fetch_once(
        &self,
        key: &BlobKey,
        range: Option<String>,
    ) -> Result<Option<Fetched>, Interrupted> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.address.bucket)
            .key(self.object(key))
            .set_range(range)
            .send()
            .await;
        let found = match answer {
            Ok(found) => found,
            Err(error) => {
                return match Refusal::of(&error) {
                    refusal if refusal.status == Some(416) => Ok(None),
                    refusal if refusal.is_no_such_key() => {
                        Err(Interrupted::Failed(BlobError::NotFound(key.clone())))
                    }
                    refusal => Err(Interrupted::Failed(self.failure(&refusal))),
                };
            }
        };
        let total_bytes = found
            .content_range
            .as_deref()
            .and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        match found.body.collect().await {
            Ok(body) => Ok(Some(Fetched {
                bytes: body.into_bytes(),
                total_bytes,
            })),
            Err(error) => Err(Interrupted::BrokeOff(chain(&error))),
        }
    }

    /// What was asked for, once it is known to be that.
    async fn cut(
        &self,
        key: &BlobKey,
        range: Range<u64>,
        fetched: Fetched,
    ) -> Result<Bytes, BlobError> {
        let Some(total_bytes) = fetched.total_bytes else {
            return Err(
                self.unavailable("it does not know ranges; is it a server of S3?".to_owned())
            );
        };
        let end = range.end.min(total_bytes);
        if fetched.bytes.len() as u64 != end.saturating_sub(range.start) {
            return Err(BlobError::Corrupt(key.clone()));
        }
        if range.start == 0 && end == total_bytes {
            return self.verified(key, fetched.bytes).await;
        }
        Ok(fetched.bytes)
    }

    /// The whole of a blob, compared with its key where that is wanted.
    async fn verified(&self, key: &BlobKey, bytes: Bytes) -> Result<Bytes, BlobError> {
        // Nothing where something was is always noticed.
        if !self.options.verify_on_read && !bytes.is_empty() {
            return Ok(bytes);
        }
        let (bytes, found) = blocking(move || {
            let found = BlobKey::from_digest(Sha256::digest(&bytes).into());
            Ok((bytes, found))
        })
        .await
        .map_err(|error| self.unavailable(error.to_string()))?;
        if found == *key {
            Ok(bytes)
        } else {
            Err(BlobError::Corrupt(key.clone()))
        }
    }

    /// The name of a blob in the bucket. The shards keep folders small on servers that store files.
    fn object(&self, key: &BlobKey) -> String {
        let (shard, name) = key.as_str().split_at(2);
        format!("{}{shard}/{name}", self.address.prefix)
    }

    /// The blob whose name this is; there may be others' objects in the bucket.
    fn blob_of(&self, object: &str) -> Option<BlobKey> {
        let name = object.strip_prefix(&self.address.prefix)?;
        let (shard, name) = name.split_once('/')?;
        (shard.len() == 2)
            .then(|| format!("{shard}{name}").parse().ok())
            .flatten()
    }

    fn failure(&self, refusal: &Refusal) -> BlobError {
        if refusal.is_full() {
            BlobError::Full {
                place: self.name.clone(),
                reason: refusal.reason().to_owned(),
            }
        } else {
            self.unavailable(refusal.reason().to_owned())
        }
    }

    fn unavailable(&self, reason: String) -> BlobError {
        BlobError::Unavailable {
            place: self.name.clone(),
            reason,
        }
    }
}

/// Why a blob did not arrive.
enum Interrupted {
    /// In the middle of it; the same request may succeed.
    BrokeOff(String),
    Failed(BlobError),
}

async fn within<T>(timeout_ms: u64, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(timeout_ms), work)
        .await
        .ok()
}
