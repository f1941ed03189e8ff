//! Blobs in a directory: `<folder>/blobs/ab/cdef…`, named by the SHA-256 of their bytes.
//!
//! Invariants: a file under a blob's name is whole and, with [`Durability::Fsync`], on the disk before its name is
//! known; nothing is written in place; a writer that dies leaves only an unlocked temporary file, which the next start
//! removes. A file's modification time is when the blob was last put, and of one in `blobs/aside` when it was set aside.
//! Any number of processes may share the folder.

mod sweep;

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use atelier_schemas::BlobKey;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    REFRESH_AFTER,
    temporary::{self, TemporaryFile},
};
use crate::{
    BlobError, Blobs, disk,
    options::{BlobsOptions, Durability},
};

/// How much of a source is held in memory at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// How much may be written between two looks at the free space.
const ROOM_CHECK_BYTES: u64 = 8 * 1024 * 1024;

/// A folder that keeps blobs.
#[derive(Clone)]
pub struct DirectoryBlobs {
    place: Arc<Place>,
}

struct Place {
    blobs: PathBuf,
    temporary: PathBuf,
    aside: PathBuf,
    options: BlobsOptions,
}

impl DirectoryBlobs {
    /// Opens the blobs in `folder`, makes what is missing, and removes what dead writers left.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] where the folder cannot be made or written.
    pub async fn open(folder: &Path, options: BlobsOptions) -> Result<Self, BlobError> {
        let blobs = folder.join("blobs");
        let place = Arc::new(Place {
            temporary: blobs.join("temporary"),
            aside: blobs.join("aside"),
            blobs,
            options,
        });
        let opened = Self { place };
        opened.blocking(Place::prepare).await?;
        Ok(opened)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let place = Arc::clone(&self.place);
        match tokio::task::spawn_blocking(move || work(&place)).await {
            Ok(done) => done,
            Err(error) => Err(self.place.unavailable(&io::Error::other(error))),
        }
    }
}

#[async_trait]
impl Blobs for DirectoryBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobKey, BlobError> {
        self.blocking(move |place| {
            let key = BlobKey::from_digest(Sha256::digest(&bytes).into());
            let length_bytes = bytes.len() as u64;
            if place.is_there(&key, length_bytes)? {
                return Ok(key);
            }
            place.check_room(length_bytes)?;
            let mut file = place.temporary_file()?;
            file.as_file_mut()
                .write_all(&bytes)
                .map_err(|error| place.failed(&error))?;
            place.keep(file, &key)?;
            Ok(key)
        })
        .await
    }

    async fn put_reader(
        &self,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        limit_bytes: u64,
    ) -> Result<(BlobKey, u64), BlobError> {
        let mut writer = self.blocking(Writer::start).await?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        loop {
            chunk.clear();
            // Chunks are filled before they are handed to the disk: a source that trickles costs no more threads.
            while chunk.len() < CHUNK_BYTES
                && reader
                    .read_buf(&mut chunk)
                    .await
                    .map_err(BlobError::Source)?
                    > 0
            {}
            if chunk.is_empty() {
                break;
            }
            if writer.length_bytes + chunk.len() as u64 > limit_bytes {
                return Err(BlobError::TooLarge { limit_bytes });
            }
            (writer, chunk) = self
                .blocking(move |place| writer.write(place, &chunk).map(|writer| (writer, chunk)))
                .await?;
        }
        self.blocking(move |place| writer.finish(place)).await
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, BlobError> {
        let key = key.clone();
        self.blocking(move |place| {
            let (mut file, length_bytes) = place.open_blob(&key)?;
            let bytes = place.read(&mut file, &key, length_bytes)?;
            if place.options.verify_on_read
                && BlobKey::from_digest(Sha256::digest(&bytes).into()) != key
            {
                return Err(BlobError::Corrupt(key));
            }
            Ok(bytes)
        })
        .await
    }

    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Bytes, BlobError> {
        let key = key.clone();
        self.blocking(move |place| {
            let (mut file, length_bytes) = place.open_blob(&key)?;
            let end = range.end.min(length_bytes);
            if range.start >= end {
                return Ok(Bytes::new());
            }
            file.seek(io::SeekFrom::Start(range.start))
                .map_err(|error| place.failed(&error))?;
            place.read(&mut file, &key, end - range.start)
        })
        .await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        let key = key.clone();
        self.blocking(move |place| {
            let length_of =
                || found(fs::metadata(place.path_of(&key))).map(|it| it.map(|it| it.len()));
            match length_of().map_err(|error| place.unavailable(&error))? {
                None if place.bring_back(&key)? => {
                    length_of().map_err(|error| place.unavailable(&error))
                }
                length_bytes => Ok(length_bytes),
            }
        })
        .await
    }

    async fn check(&self) -> Result<(), BlobError> {
        self.blocking(|place| {
            place.check_room(0)?;
            let mut probe = place.temporary_file()?;
            probe
                .as_file_mut()
                .write_all(b"probe")
                .map_err(|error| place.failed(&error))
        })
        .await
    }
}

/// A source on its way into a blob.
struct Writer {
    file: TemporaryFile,
    hasher: Sha256,
    length_bytes: u64,
    room_checked_at_bytes: u64,
}

impl Writer {
    fn start(place: &Place) -> Result<Self, BlobError> {
        place.check_room(0)?;
        Ok(Self {
            file: place.temporary_file()?,
            hasher: Sha256::new(),
            length_bytes: 0,
            room_checked_at_bytes: 0,
        })
    }

    fn write(mut self, place: &Place, chunk: &[u8]) -> Result<Self, BlobError> {
        if self.length_bytes - self.room_checked_at_bytes >= ROOM_CHECK_BYTES {
            place.check_room(chunk.len() as u64)?;
            self.room_checked_at_bytes = self.length_bytes;
        }
        self.file
            .as_file_mut()
            .write_all(chunk)
            .map_err(|error| place.failed(&error))?;
        self.hasher.update(chunk);
        self.length_bytes += chunk.len() as u64;
        Ok(self)
    }

    fn finish(self, place: &Place) -> Result<(BlobKey, u64), BlobError> {
        let key = BlobKey::from_digest(self.hasher.finalize().into());
        if !place.is_there(&key, self.length_bytes)? {
            place.keep(self.file, &key)?;
        }
        Ok((key, self.length_bytes))
    }
}

impl Place {
    fn prepare(&self) -> Result<(), BlobError> {
        let failed = |error: io::Error| self.failed(&error);
        fs::create_dir_all(&self.temporary).map_err(failed)?;
        fs::create_dir_all(&self.aside).map_err(failed)?;
        // All 256 at once: afterwards no put has to make, and sync, a folder.
        for shard in 0..=u8::MAX {
            match fs::create_dir(self.blobs.join(format!("{shard:02x}"))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if self.options.durability == Durability::Fsync {
            let parents = [self.blobs.as_path()]
                .into_iter()
                .chain(self.blobs.parent());
            for parent in parents {
                sync_folder(parent).map_err(failed)?;
            }
        }
        let removed = temporary::remove_stale(&self.temporary).map_err(failed)?;
        if removed > 0 {
            tracing::info!(place = %self.blobs.display(), removed, "removed what interrupted writers left");
        }
        self.temporary_file().map(drop)
    }

    fn path_of(&self, key: &BlobKey) -> PathBuf {
        let (shard, name) = key.as_str().split_at(2);
        self.blobs.join(shard).join(name)
    }

    /// Whether the blob is stored already. A file of another length (left by a power cut under [`Durability::Os`]) is
    /// not the blob: it is written again.
    fn is_there(&self, key: &BlobKey, length_bytes: u64) -> Result<bool, BlobError> {
        let path = self.path_of(key);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == length_bytes => {
                let is_old = metadata
                    .modified()
                    .is_ok_and(|written| written.elapsed().is_ok_and(|age| age > REFRESH_AFTER));
                if is_old && !self.mark_as_new(&path)? {
                    return Ok(false);
                }
                // Another writer may have renamed it a moment ago and not have synced the folder yet.
                self.sync_parent(&path)?;
                Ok(true)
            }
            Ok(metadata) => {
                tracing::warn!(%key, length_bytes, found_bytes = metadata.len(), "a stored blob was damaged; writing it again");
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    fn keep(&self, file: TemporaryFile, key: &BlobKey) -> Result<(), BlobError> {
        if self.options.durability == Durability::Fsync {
            file.as_file()
                .sync_all()
                .map_err(|error| self.failed(&error))?;
        }
        let path = self.path_of(key);
        file.rename(&path).map_err(|error| self.failed(&error))?;
        self.sync_parent(&path)
    }

    fn sync_parent(&self, path: &Path) -> Result<(), BlobError> {
        match (self.options.durability, path.parent()) {
            (Durability::Fsync, Some(parent)) => {
                sync_folder(parent).map_err(|error| self.failed(&error))
            }
            _ => Ok(()),
        }
    }

    fn temporary_file(&self) -> Result<TemporaryFile, BlobError> {
        TemporaryFile::create(&self.temporary).map_err(|error| self.failed(&error))
    }

    fn open_blob(&self, key: &BlobKey) -> Result<(File, u64), BlobError> {
        let open =
            || found(File::open(self.path_of(key))).map_err(|error| self.unavailable(&error));
        let file = match open()? {
            None if self.bring_back(key)? => open()?,
            opened => opened,
        };
        let file = file.ok_or_else(|| BlobError::NotFound(key.clone()))?;
        let length_bytes = file
            .metadata()
            .map_err(|error| self.unavailable(&error))?
            .len();
        // The one truncation that a file system leaves behind by itself.
        if length_bytes == 0 && *key != BlobKey::from_digest(Sha256::digest([]).into()) {
            return Err(BlobError::Corrupt(key.clone()));
        }
        Ok((file, length_bytes))
    }

    fn read(&self, file: &mut File, key: &BlobKey, length_bytes: u64) -> Result<Bytes, BlobError> {
        let capacity = usize::try_from(length_bytes)
            .map_err(|error| self.unavailable(&io::Error::other(error)))?;
        let mut bytes = Vec::with_capacity(capacity);
        file.take(length_bytes)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unavailable(&error))?;
        // A blob never shrinks: someone has cut the file under our hands.
        if bytes.len() != capacity {
            Err(BlobError::Corrupt(key.clone()))
        } else {
            Ok(Bytes::from(bytes))
        }
    }

    fn check_room(&self, needed_bytes: u64) -> Result<(), BlobError> {
        match disk::lack_of_room(&self.blobs, needed_bytes, self.options.min_free_bytes) {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(BlobError::Full {
                place: self.name(),
                reason,
            }),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    fn failed(&self, error: &io::Error) -> BlobError {
        if disk::is_full(error) {
            BlobError::Full {
                place: self.name(),
                reason: error.to_string(),
            }
        } else {
            self.unavailable(error)
        }
    }

    fn unavailable(&self, error: &io::Error) -> BlobError {
        BlobError::Unavailable {
            place: self.name(),
            reason: error.to_string(),
        }
    }

    fn name(&self) -> String {
        self.blobs.display().to_string()
    }
}

/// `None` where there is no such file.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
