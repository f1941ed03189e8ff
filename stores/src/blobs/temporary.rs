//! Temporary files that a dead writer cannot leave behind for ever.
//!
//! Invariant: a writer holds an exclusive lock on its file for as long as it lives, so a file that can be locked has no
//! writer. The one who removes holds the lock while it does, and a writer that got the lock too late sees that its file
//! has no name any more and takes another.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

/// Where the file system has no locks, only files of this age are taken for dead.
const STALE_AGE: Duration = Duration::from_secs(3600);

/// A file under a temporary name; removed when dropped, unless renamed.
pub(super) struct TemporaryFile {
    file: File,
    path: Option<PathBuf>,
}

impl TemporaryFile {
    /// Makes a new file in `folder`.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        loop {
            let path = folder.join(Uuid::new_v4().to_string());
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)?;
            let created = Self {
                file,
                path: Some(path),
            };
            match flock(&created.file, FlockOperation::LockExclusive) {
                Ok(())
                | Err(
                    rustix::io::Errno::NOSYS
                    | rustix::io::Errno::NOLCK
                    | rustix::io::Errno::OPNOTSUPP,
                ) => {}
                Err(error) => return Err(error.into()),
            }
            if created.file.metadata()?.nlink() > 0 {
                return Ok(created);
            }
        }
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    pub(super) fn as_file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its final name, in place of whatever had it.
    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
        if let Some(from) = &self.path {
            fs::rename(from, to)?;
            self.path = None;
        }
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next start removes it.
            tracing::warn!(path = %path.display(), %error, "could not remove a temporary file");
        }
    }
}

/// Removes the files in `folder` whose writers are dead; answers how many there were.
pub(super) fn remove_stale(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let dead = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(rustix::io::Errno::WOULDBLOCK) => false,
            Err(_) => file
                .metadata()?
                .modified()?
                .elapsed()
                .is_ok_and(|age| age > STALE_AGE),
        };
        if dead && fs::remove_file(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_without_a_writer_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let alive = TemporaryFile::create(folder.path()).unwrap();
        fs::write(folder.path().join("left-by-a-dead-writer"), b"half").unwrap();
        assert_eq!(remove_stale(folder.path()).unwrap(), 1);
        let to = folder.path().join("kept");
        alive.rename(&to).unwrap();
        assert!(to.exists());
    }

    #[test]
    fn a_dropped_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        drop(TemporaryFile::create(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn writers_and_cleaners_do_not_disturb_each_other() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("temporary");
        fs::create_dir(&folder).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (root, folder) = (root.path(), &folder);
                scope.spawn(move || {
                    for round in 0..200 {
                        let file = TemporaryFile::create(folder).unwrap();
                        file.rename(&root.join(format!("kept-{writer}-{round}")))
                            .unwrap();
                    }
                });
            }
            for _ in 0..200 {
                remove_stale(&folder).unwrap();
            }
        });
        let kept = fs::read_dir(root.path()).unwrap().count() - 1;
        assert_eq!(kept, 800);
    }
}
