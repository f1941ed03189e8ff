//! Sending a blob: in one request, or in parts.
//!
//! Invariant: nothing is visible under a blob's key but the whole blob. A write that fails or is dropped takes its parts
//! back; those of a process that died are removed by a later start.

use std::time::Duration;

use atelier_schemas::BlobKey;
use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::task::JoinSet;

use super::{
    Place, Stored,
    client::FIRST_PAUSE,
    failure::Refusal,
    spool::{Digest, Outgoing},
};
use crate::{BlobError, blobs::REFRESH_AFTER};

/// Above this length the server is asked whether it has the blob before it is sent. Asking costs one round trip, as does
/// a body of this length on a fast line, and most blobs are new.
const ASK_FIRST_BYTES: u64 = 1024 * 1024;
/// How often a write is tried that another writer of the same blob collides with.
const COLLISIONS: u32 = 6;
/// Parts of one blob that are on their way, and in memory, side by side.
const PARALLEL_PARTS: usize = 4;
/// The most parts that S3 takes.
const MAX_PARTS: u64 = 10_000;
/// Longest time for taking parts back: the one who waits for the write has its error already.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Only if there is no such object yet.
const ABSENT: &str = "*";

/// What the server has under a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Blob,
    /// Something of another length, or the blob, written so long ago that it could be swept away: to be written anew.
    ToReplace,
}

/// How a write ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Stored,
    /// There is an object under the key already.
    Present,
    /// Another writer is at it; the server keeps one of the two, or none.
    Collided,
}

impl Place {
    /// Stores the blob, if it is not there already.
    pub(super) async fn keep(&self, blob: &Outgoing) -> Result<(), BlobError> {
        let mut condition = Some(ABSENT);
        if blob.length_bytes > ASK_FIRST_BYTES {
            match self.look(blob).await? {
                Found::Blob => return Ok(()),
                Found::ToReplace => condition = None,
                Found::Nothing => {}
            }
        }
        for collision in 0..COLLISIONS {
            match self.send(blob, condition).await? {
                Sent::Stored => return Ok(()),
                // The same bytes, by the key: ours from an attempt whose answer was lost, or another writer's.
                Sent::Present => match self.look(blob).await? {
                    Found::Blob => return Ok(()),
                    Found::ToReplace => condition = None,
                    Found::Nothing => {}
                },
                Sent::Collided => tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(collision)).await,
            }
        }
        Err(self.unavailable(format!(
            "writers of the blob {} collide again and again; try again later",
            blob.key
        )))
    }

    async fn look(&self, blob: &Outgoing) -> Result<Found, BlobError> {
        match self.stored(&blob.key).await? {
            None => Ok(Found::Nothing),
            Some(Stored {
                length_bytes,
                written,
            }) if length_bytes == blob.length_bytes => {
                let is_old = written
                    .is_some_and(|written| written.elapsed().is_ok_and(|age| age > REFRESH_AFTER));
                Ok(if is_old {
                    Found::ToReplace
                } else {
                    Found::Blob
                })
            }
            Some(Stored {
                length_bytes: found_bytes,
                ..
            }) => {
                tracing::warn!(key = %blob.key, length_bytes = blob.length_bytes, found_bytes, "a stored blob was damaged; writing it again");
                Ok(Found::ToReplace)
            }
        }
    }

    async fn send(&self, blob: &Outgoing, condition: Option<&str>) -> Result<Sent, BlobError> {
        if blob.length_bytes <= self.options.s3.part_bytes {
            self.send_whole(blob, condition).await
        } else {
            self.send_in_parts(blob, condition).await
        }
    }

    async fn send_whole(
        &self,
        blob: &Outgoing,
        condition: Option<&str>,
    ) -> Result<Sent, BlobError> {
        let (bytes, digest) = blob
            .part(0..blob.length_bytes)
            .await
            .map_err(|error| self.unavailable(error.to_string()))?;
        let answer = self
            .client
            .put_object()
            .bucket(&self.address.bucket)
            .key(self.object(&blob.key))
            .set_if_none_match(condition.map(str::to_owned))
            .checksum_sha256(STANDARD.encode(digest))
            .body(ByteStream::from(bytes))
            .customize()
            // The signature covers the checksum, and the server compares that with the body: one hash is enough.
            .disable_payload_signing()
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Sent::Stored),
            Err(error) => self.refused(&Refusal::of(&error)),
        }
    }

    async fn send_in_parts(
        &self,
        blob: &Outgoing,
        condition: Option<&str>,
    ) -> Result<Sent, BlobError> {
        let mut upload = Upload::begin(self, &blob.key).await?;
        let sent = match upload.send_parts(self, blob).await {
            Ok(parts) => upload.complete(self, blob, parts, condition).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(Sent::Stored) => upload.is_over = true,
            _ => upload.abort().await,
        }
        sent
    }

    /// Some refusals of a conditional write are no failures.
    fn refused(&self, refusal: &Refusal) -> Result<Sent, BlobError> {
        match refusal.status {
            Some(412) => Ok(Sent::Present),
            Some(409) => Ok(Sent::Collided),
            _ => Err(self.failure(refusal)),
        }
    }

    /// Removes the parts that dead processes left; answers how many uploads that were.
    pub(super) async fn remove_abandoned(&self) -> Result<usize, BlobError> {
        let listed = self
            .client
            .list_multipart_uploads()
            .bucket(&self.address.bucket)
            .prefix(&self.address.prefix)
            .send()
            .await
            .map_err(|error| self.failure(&Refusal::of(&error)))?;
        let age = Duration::from_secs(u64::from(self.options.s3.abandoned_upload_hours) * 3600);
        let mut removed = 0;
        for listed in listed.uploads() {
            let began = listed
                .initiated()
                .and_then(|time| std::time::SystemTime::try_from(*time).ok());
            let is_abandoned =
                began.is_some_and(|began| began.elapsed().is_ok_and(|since| since >= age));
            if let (true, Some(object), Some(id)) = (is_abandoned, listed.key(), listed.upload_id())
                && self.blob_of(object).is_some()
            {
                abort(&self.client, &self.address.bucket, object, id).await;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// An upload in parts. Dropping it takes back what was sent.
struct Upload {
    client: Client,
    bucket: String,
    object: String,
    id: String,
    is_over: bool,
}

impl Upload {
    async fn begin(place: &Place, key: &BlobKey) -> Result<Self, BlobError> {
        let object = place.object(key);
        let begun = place
            .client
            .create_multipart_upload()
            .bucket(&place.address.bucket)
            .key(&object)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await
            .map_err(|error| place.failure(&Refusal::of(&error)))?;
        let id = begun
            .upload_id
            .ok_or_else(|| place.unavailable("it began an upload without an id".to_owned()))?;
        Ok(Self {
            client: place.client.clone(),
            bucket: place.address.bucket.clone(),
            object,
            id,
            is_over: false,
        })
    }

    /// Sends every part; answers with what completes them, in order.
    async fn send_parts(
        &self,
        place: &Place,
        blob: &Outgoing,
    ) -> Result<Vec<CompletedPart>, BlobError> {
        let part_bytes = place
            .options
            .s3
            .part_bytes
            .max(blob.length_bytes.div_ceil(MAX_PARTS));
        let mut starts =
            (0..blob.length_bytes).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX));
        let mut completed = Vec::new();
        let mut running = JoinSet::new();
        let mut number = 0;
        loop {
            while running.len() < PARALLEL_PARTS
                && let Some(start) = starts.next()
            {
                number += 1;
                let end = blob.length_bytes.min(start + part_bytes);
                running.spawn(self.part(blob.clone(), start..end, number));
            }
            match running.join_next().await {
                None => break,
                Some(Ok(Ok(part))) => completed.push(part),
                Some(Ok(Err(NotSent::Refused(refusal)))) => return Err(place.failure(&refusal)),
                Some(Ok(Err(NotSent::Unread(error)))) => {
                    return Err(place.unavailable(error.to_string()));
                }
                Some(Err(error)) => return Err(place.unavailable(error.to_string())),
            }
        }
        completed.sort_by_key(|part| part.part_number);
        Ok(completed)
    }

    /// Sends one part.
    fn part(
        &self,
        blob: Outgoing,
        range: std::ops::Range<u64>,
        number: i32,
    ) -> impl Future<Output = Result<CompletedPart, NotSent>> + Send + 'static {
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.object)
            .upload_id(&self.id)
            .part_number(number);
        async move {
            let (bytes, digest): (_, Digest) = blob.part(range).await.map_err(NotSent::Unread)?;
            let checksum = STANDARD.encode(digest);
            let sent = request
                .checksum_sha256(&checksum)
                .body(ByteStream::from(bytes))
                .customize()
                .disable_payload_signing()
                .send()
                .await
                .map_err(|error| NotSent::Refused(Refusal::of(&error)))?;
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag)
                .checksum_sha256(checksum)
                .build())
        }
    }

    async fn complete(
        &self,
        place: &Place,
        blob: &Outgoing,
        parts: Vec<CompletedPart>,
        condition: Option<&str>,
    ) -> Result<Sent, BlobError> {
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.object)
            .upload_id(&self.id)
            .set_if_none_match(condition.map(str::to_owned))
            .set_mpu_object_size(i64::try_from(blob.length_bytes).ok())
            .multipart_upload(parts)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Sent::Stored),
            Err(error) => {
                let refusal = Refusal::of(&error);
                // An attempt whose answer was lost may have completed it; what servers say to the next one differs.
                match place.look(blob).await {
                    Ok(Found::Blob) => Ok(Sent::Present),
                    _ => place.refused(&refusal),
                }
            }
        }
    }

    async fn abort(&mut self) {
        self.is_over = true;
        abort(&self.client, &self.bucket, &self.object, &self.id).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Outside a runtime the process is ending; then the next start removes it.
        if !self.is_over
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let client = self.client.clone();
            let (bucket, object, id) = (
                std::mem::take(&mut self.bucket),
                std::mem::take(&mut self.object),
                std::mem::take(&mut self.id),
            );
            runtime.spawn(async move { abort(&client, &bucket, &object, &id).await });
        }
    }
}

async fn abort(client: &Client, bucket: &str, object: &str, id: &str) {
    let aborting = client
        .abort_multipart_upload()
        .bucket(bucket)
        .key(object)
        .upload_id(id)
        .send();
    let refusal = match tokio::time::timeout(ABORT_TIMEOUT, aborting).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => Refusal::of(&error),
        Err(_) => Refusal::no_answer_within(ABORT_TIMEOUT),
    };
    if !refusal.is_no_such_upload() {
        // A later start removes it.
        tracing::warn!(
            bucket,
            object,
            reason = refusal.reason(),
            "could not take back the parts of a write that failed"
        );
    }
}

/// Why a part did not arrive.
enum NotSent {
    Refused(Refusal),
    Unread(std::io::Error),
}
