//! Setting blobs aside, bringing them back, erasing them.
//!
//! Invariant: a blob is renamed, so that it is under its own name or in `blobs/aside`, and it has the present time before it
//! comes there: nothing looks older than it is.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use async_trait::async_trait;
use atelier_schemas::BlobKey;

use super::{DirectoryBlobs, Place, found};
use crate::{BlobError, blobs::SweepableBlobs};

#[async_trait]
impl SweepableBlobs for DirectoryBlobs {
    async fn written_before(
        &self,
        shard: u8,
        before: SystemTime,
    ) -> Result<Vec<(BlobKey, SystemTime)>, BlobError> {
        self.blocking(move |place| {
            let shard = format!("{shard:02x}");
            place.files_before(&place.blobs.join(&shard), &shard, before)
        })
        .await
    }

    async fn set_aside(&self, key: &BlobKey, written: SystemTime) -> Result<(), BlobError> {
        let key = key.clone();
        self.blocking(move |place| {
            let found = found(fs::metadata(place.path_of(&key)).and_then(|it| it.modified()));
            if found.map_err(|error| place.unavailable(&error))? != Some(written) {
                return Ok(());
            }
            // The time first: a file that comes there with an old one could be erased at once.
            place
                .move_as_new(&place.path_of(&key), &place.aside_of(&key))
                .map(drop)
        })
        .await
    }

    async fn aside_since_before(&self, before: SystemTime) -> Result<Vec<BlobKey>, BlobError> {
        let aside = self.blocking(move |place| place.files_before(&place.aside, "", before));
        Ok(aside.await?.into_iter().map(|(key, _)| key).collect())
    }

    async fn bring_back(&self, key: &BlobKey) -> Result<bool, BlobError> {
        let key = key.clone();
        self.blocking(move |place| place.bring_back(&key)).await
    }

    async fn erase_aside(&self, key: &BlobKey) -> Result<(), BlobError> {
        let key = key.clone();
        self.blocking(move |place| {
            found(fs::remove_file(place.aside_of(&key)))
                .map(drop)
                .map_err(|error| place.unavailable(&error))
        })
        .await
    }
}

impl Place {
    fn aside_of(&self, key: &BlobKey) -> PathBuf {
        self.aside.join(key.as_str())
    }

    /// Gives a file the present time; answers whether it is there.
    pub(super) fn mark_as_new(&self, path: &Path) -> Result<bool, BlobError> {
        let marked = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
        found(marked)
            .map(|there| there.is_some())
            .map_err(|error| self.failed(&error))
    }

    /// Gives a file the present time and another name; answers whether it was there.
    fn move_as_new(&self, from: &Path, to: &Path) -> Result<bool, BlobError> {
        if !self.mark_as_new(from)? {
            return Ok(false);
        }
        let moved = found(fs::rename(from, to)).map_err(|error| self.failed(&error))?;
        Ok(moved.is_some())
    }

    pub(super) fn bring_back(&self, key: &BlobKey) -> Result<bool, BlobError> {
        let path = self.path_of(key);
        if self.move_as_new(&self.aside_of(key), &path)? {
            self.sync_parent(&path)?;
            return Ok(true);
        }
        // Another reader may have brought it back a moment ago.
        path.try_exists().map_err(|error| self.unavailable(&error))
    }

    /// The keys of the files in `folder`, whose names follow `prefix` in the key, that were last written before `before`,
    /// and when that was.
    fn files_before(
        &self,
        folder: &Path,
        prefix: &str,
        before: SystemTime,
    ) -> Result<Vec<(BlobKey, SystemTime)>, BlobError> {
        let listed = || -> io::Result<Vec<(BlobKey, SystemTime)>> {
            let mut keys = Vec::new();
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let Ok(key) = format!("{prefix}{}", name.to_string_lossy()).parse() else {
                    continue;
                };
                // One that has gone since it was listed is no concern of ours.
                let Some(metadata) = found(entry.metadata())? else {
                    continue;
                };
                let written = metadata.modified()?;
                if written < before {
                    keys.push((key, written));
                }
            }
            Ok(keys)
        };
        listed().map_err(|error| self.unavailable(&error))
    }
}
