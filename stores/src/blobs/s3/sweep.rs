//! Setting blobs aside, bringing them back, erasing them.
//!
//! Invariant: an object is copied before it is deleted, so that at every moment a blob is under its own name, under
//! `<prefix>aside/`, or both.

use std::time::SystemTime;

use async_trait::async_trait;
use atelier_schemas::BlobKey;

use super::{Place, S3Blobs, Stored, failure::Refusal};
use crate::{BlobError, blobs::SweepableBlobs};

#[async_trait]
impl SweepableBlobs for S3Blobs {
    async fn written_before(
        &self,
        shard: u8,
        before: SystemTime,
    ) -> Result<Vec<(BlobKey, SystemTime)>, BlobError> {
        let place = &self.place;
        let folder = format!("{}{shard:02x}/", place.address.prefix);
        place
            .listed_before(&folder, before, |object| place.blob_of(object))
            .await
    }

    async fn set_aside(&self, key: &BlobKey, written: SystemTime) -> Result<(), BlobError> {
        let place = &self.place;
        // A list tells parts of a second that the answer to HEAD does not.
        let is_as_listed = |stored: Stored| stored.written.is_some_and(|now| now <= written);
        if !place.stored(key).await?.is_some_and(is_as_listed) {
            return Ok(());
        }
        if place.copy(&place.object(key), &place.aside(key)).await? {
            place.delete(&place.object(key)).await?;
        }
        Ok(())
    }

    async fn aside_since_before(&self, before: SystemTime) -> Result<Vec<BlobKey>, BlobError> {
        let folder = self.place.aside_folder();
        let aside = self.place.listed_before(&folder, before, |object| {
            object.strip_prefix(&folder)?.parse().ok()
        });
        Ok(aside.await?.into_iter().map(|(key, _)| key).collect())
    }

    async fn bring_back(&self, key: &BlobKey) -> Result<bool, BlobError> {
        self.place.bring_back(key).await
    }

    async fn erase_aside(&self, key: &BlobKey) -> Result<(), BlobError> {
        self.place.delete(&self.place.aside(key)).await
    }
}

impl Place {
    pub(super) async fn bring_back(&self, key: &BlobKey) -> Result<bool, BlobError> {
        if self.copy(&self.aside(key), &self.object(key)).await? {
            self.delete(&self.aside(key)).await?;
            return Ok(true);
        }
        // Another reader may have brought it back a moment ago.
        Ok(self.stored(key).await?.is_some())
    }

    fn aside_folder(&self) -> String {
        format!("{}aside/", self.address.prefix)
    }

    fn aside(&self, key: &BlobKey) -> String {
        format!("{}{key}", self.aside_folder())
    }

    /// Copies an object, which counts as written now; answers whether it was there.
    async fn copy(&self, from: &str, to: &str) -> Result<bool, BlobError> {
        let bucket = &self.address.bucket;
        // Of what a prefix and a key may hold, this alone has another meaning in an address.
        let source = format!("{bucket}/{from}").replace('+', "%2B");
        let copied = self
            .client
            .copy_object()
            .bucket(bucket)
            .copy_source(source)
            .key(to)
            .send()
            .await;
        match copied.map_err(|error| Refusal::of(&error)) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.is_no_such_key() => Ok(false),
            Err(refusal) => Err(self.failure(&refusal)),
        }
    }

    /// Deletes an object, if it is there.
    async fn delete(&self, object: &str) -> Result<(), BlobError> {
        let deleted = self
            .client
            .delete_object()
            .bucket(&self.address.bucket)
            .key(object)
            .send()
            .await;
        match deleted.map_err(|error| Refusal::of(&error)) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_no_such_key() => Ok(()),
            Err(refusal) => Err(self.failure(&refusal)),
        }
    }

    /// The blobs that `blob_of` finds among the objects in `folder` that were written before `before`, and when that was.
    async fn listed_before(
        &self,
        folder: &str,
        before: SystemTime,
        blob_of: impl Fn(&str) -> Option<BlobKey>,
    ) -> Result<Vec<(BlobKey, SystemTime)>, BlobError> {
        let mut keys = Vec::new();
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.address.bucket)
            .prefix(folder)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failure(&Refusal::of(&error)))?;
            for object in page.contents() {
                let written = object
                    .last_modified()
                    .and_then(|time| SystemTime::try_from(*time).ok());
                let blob = object.key().and_then(&blob_of);
                keys.extend(blob.zip(written.filter(|written| *written < before)));
            }
        }
        Ok(keys)
    }
}
