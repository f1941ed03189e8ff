//! The journal: one append-only file from which everything but the records themselves is known again after a crash.
//!
//! One line per record: a CRC-32C in hex, a space, JSON. Invariants: the state in memory is the file's records applied in
//! order; a write that fails is cut off and changes nothing; at a start the file ends after its last whole line (what is
//! behind it is set aside in `journal.cut`, for a person to look at). When the file has grown it is written anew from the
//! state under a temporary name and renamed over the old one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::records::{ClusterState, JournalRecord};
use crate::durability::{Durability, SyncError, SyncTarget, Syncer};
use crate::log::sync_directory;

const FILE_NAME: &str = "journal";
const CUT_FILE_NAME: &str = "journal.cut";
/// The first line says which format follows.
const FORMAT_LINE: &str = "atelier-broker journal 1";

/// A change could not be recorded; it has not happened, unless a sync failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused the write.
    #[error("the journal could not be written: {0}")]
    Write(#[source] io::Error),
    /// The write is there but nobody knows whether the disk has it.
    #[error("the journal could not be synced: {0}")]
    Sync(#[from] SyncError),
    /// An earlier sync failed.
    #[error("the journal takes no writes since a sync failed ({0}); restart the broker")]
    Offline(String),
}

struct Inner {
    file: Arc<File>,
    bytes: u64,
    bytes_when_compact: u64,
    untidy_tail: bool,
    offline: Option<String>,
    state: ClusterState,
}

/// The journal and the state that follows from it.
pub struct Journal {
    dir: PathBuf,
    fsync: bool,
    compact_from_bytes: u64,
    inner: Mutex<Inner>,
}

impl Journal {
    /// Opens the journal in `dir` and reads it.
    pub fn open(dir: &Path, mode: Durability, compact_from_bytes: u64) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        remove_leftover(&path.with_extension("new"))?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)?;
        let (state, bytes) = replay(&file, dir)?;
        let mut inner = Inner {
            file: Arc::new(file),
            bytes,
            bytes_when_compact: bytes,
            untidy_tail: false,
            offline: None,
            state,
        };
        if bytes == 0 {
            inner.write(format!("{FORMAT_LINE}\n").as_bytes())?;
        }
        let fsync = mode == Durability::Fsync;
        if fsync {
            inner.file.sync_data()?;
            sync_directory(dir)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            fsync,
            compact_from_bytes,
            inner: Mutex::new(inner),
        })
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        look(&self.inner.lock().state)
    }

    /// Whether a sync failed, so that nobody knows what the disk holds.
    pub fn is_offline(&self) -> bool {
        self.inner.lock().offline.is_some()
    }

    /// Records a change and applies it. It outlives the process; for more see [`Journal::commit`].
    pub fn append(&self, record: JournalRecord) -> Result<(), JournalError> {
        self.append_with(|_| record)
    }

    /// As [`Journal::append`], for a record that depends on the state.
    pub fn append_with(
        &self,
        make: impl FnOnce(&ClusterState) -> JournalRecord,
    ) -> Result<(), JournalError> {
        let mut inner = self.inner.lock();
        if let Some(reason) = &inner.offline {
            return Err(JournalError::Offline(reason.clone()));
        }
        let record = make(&inner.state);
        let line = encode(&record).map_err(JournalError::Write)?;
        inner.write(&line).map_err(JournalError::Write)?;
        inner.state.apply(record);
        if inner.bytes
            > self
                .compact_from_bytes
                .max(inner.bytes_when_compact.saturating_mul(2))
        {
            self.compact(&mut inner);
        }
        Ok(())
    }

    /// Records a change and returns when it is as durable as the broker promises.
    pub async fn commit(
        self: &Arc<Self>,
        syncer: &Syncer,
        record: JournalRecord,
    ) -> Result<(), JournalError> {
        self.append(record)?;
        self.sync_with(syncer).await
    }

    /// Waits until every change so far is as durable as the broker promises.
    pub async fn sync_with(self: &Arc<Self>, syncer: &Syncer) -> Result<(), JournalError> {
        let target: Arc<dyn SyncTarget> = Arc::<Self>::clone(self);
        Ok(syncer.sync(target).await?)
    }

    /// Writes the state as a new file. A failure leaves the old file in use, which is as good, only longer.
    fn compact(&self, inner: &mut Inner) {
        match self.write_compacted(&inner.state) {
            Ok((file, bytes)) => {
                tracing::debug!(
                    before_bytes = inner.bytes,
                    after_bytes = bytes,
                    "journal compacted"
                );
                inner.file = Arc::new(file);
                inner.bytes = bytes;
                inner.bytes_when_compact = bytes;
                inner.untidy_tail = false;
            }
            Err(error) => {
                tracing::warn!(%error, "journal not compacted; it stays as it is");
                inner.bytes_when_compact = inner.bytes;
            }
        }
    }

    fn write_compacted(&self, state: &ClusterState) -> io::Result<(File, u64)> {
        let mut content = format!("{FORMAT_LINE}\n").into_bytes();
        for record in state.to_records() {
            content.extend_from_slice(&encode(&record)?);
        }
        let path = self.dir.join(FILE_NAME);
        let temporary = path.with_extension("new");
        remove_leftover(&temporary)?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&temporary)?;
        file.write_all(&content)?;
        if self.fsync {
            file.sync_data()?;
        }
        std::fs::rename(&temporary, &path)?;
        if self.fsync {
            sync_directory(&self.dir)?;
        }
        Ok((file, u64::try_from(content.len()).unwrap_or(u64::MAX)))
    }
}

impl SyncTarget for Journal {
    fn sync(&self) -> io::Result<()> {
        let file = Arc::clone(&self.inner.lock().file);
        file.sync_data().inspect_err(|error| {
            self.inner.lock().offline.get_or_insert(error.to_string());
        })
    }

    fn name(&self) -> String {
        FILE_NAME.to_owned()
    }
}

impl Inner {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.untidy_tail {
            self.file.set_len(self.bytes)?;
            self.untidy_tail = false;
        }
        if let Err(error) = (&*self.file).write_all(line) {
            self.untidy_tail = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += u64::try_from(line.len()).unwrap_or(0);
        Ok(())
    }
}

fn encode(record: &JournalRecord) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes())
}

/// `None`: the line is torn. An error: it is whole, but of a format that this version does not know.
fn decode(line: &[u8]) -> Option<io::Result<JournalRecord>> {
    let line = line.strip_suffix(b"\n")?;
    let (stated, json) = (line.get(..8)?, line.get(9..)?);
    let stated = u32::from_str_radix(std::str::from_utf8(stated).ok()?, 16).ok()?;
    (stated == crc32c::crc32c(json)).then(|| {
        serde_json::from_slice(json).map_err(|error| {
            io::Error::other(format!(
                "a whole journal record is not known to this version: {error}"
            ))
        })
    })
}

/// Applies every whole line and cuts off what follows the last one; returns the state and the bytes that are left.
fn replay(file: &File, dir: &Path) -> io::Result<(ClusterState, u64)> {
    let mut state = ClusterState::default();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut bytes = 0_u64;
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if bytes == 0 {
            if line.ends_with(b"\n") && line.trim_ascii_end() != FORMAT_LINE.as_bytes() {
                let found = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
                return Err(io::Error::other(format!(
                    "the journal in {} begins with {found:?}, not {FORMAT_LINE:?}: it is damaged or of another version",
                    dir.display()
                )));
            }
            if !line.ends_with(b"\n") {
                break;
            }
        } else {
            let Some(record) = decode(&line) else {
                break;
            };
            state.apply(record?);
        }
        bytes += u64::try_from(read).unwrap_or(0);
    }
    let file_bytes = file.metadata()?.len();
    if bytes < file_bytes {
        set_aside(dir, bytes)?;
        tracing::warn!(
            cut_bytes = file_bytes - bytes,
            "cut off a torn tail of the journal; it is in {CUT_FILE_NAME}"
        );
        file.set_len(bytes)?;
    }
    Ok((state, bytes))
}

fn set_aside(dir: &Path, from_byte: u64) -> io::Result<()> {
    let content = std::fs::read(dir.join(FILE_NAME))?;
    let from = usize::try_from(from_byte).map_err(io::Error::other)?;
    std::fs::write(dir.join(CUT_FILE_NAME), &content[from..])
}

fn remove_leftover(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
