//! The data directory: its lock, the cluster's id, and whether the machine has died since the last run.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::BrokerError;

const LOCK_FILE: &str = "lock";
const META_FILE: &str = "meta.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Serialize, Deserialize)]
struct Meta {
    cluster_id: String,
    /// The machine's boot in which the last run was; empty after a graceful stop.
    boot_id: String,
}

/// The data directory, locked for as long as this lives.
pub struct DataDir {
    path: PathBuf,
    meta: Meta,
    /// The machine died under the last run: what was not synced may be missing.
    pub machine_died: bool,
    _lock: File,
}

impl DataDir {
    /// Makes, locks and opens the directory.
    pub fn open(path: &Path) -> Result<Self, BrokerError> {
        let failed = |source: io::Error| BrokerError::DataDir {
            dir: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = take_lock(path)?;
        let boot_id = std::fs::read_to_string(BOOT_ID)
            .map(|id| id.trim().to_owned())
            .unwrap_or_default();
        let meta_path = path.join(META_FILE);
        let known: Option<Meta> = match std::fs::read(&meta_path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| BrokerError::Recovery {
                dir: path.to_owned(),
                reason: format!("{META_FILE} is damaged ({error}); restore it, or remove it to give the cluster a new id"),
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let machine_died = known
            .as_ref()
            .is_some_and(|meta| !meta.boot_id.is_empty() && meta.boot_id != boot_id);
        let cluster_id = known.map_or_else(
            || Uuid::new_v4().simple().to_string(),
            |meta| meta.cluster_id,
        );
        let dir = Self {
            path: path.to_owned(),
            meta: Meta {
                cluster_id,
                boot_id,
            },
            machine_died,
            _lock: lock,
        };
        dir.write_meta().map_err(failed)?;
        Ok(dir)
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.meta.cluster_id
    }

    /// Remembers that the run ended by itself.
    pub fn close(mut self) {
        self.meta.boot_id.clear();
        if let Err(error) = self.write_meta() {
            tracing::warn!(%error, "graceful stop not recorded; the next start is more careful than need be");
        }
    }

    fn write_meta(&self) -> io::Result<()> {
        let temporary = self.path.join("meta.json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&self.meta)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.path.join(META_FILE))
    }
}

fn take_lock(dir: &Path) -> Result<File, BrokerError> {
    let failed = |source: io::Error| BrokerError::DataDir {
        dir: dir.to_owned(),
        source,
    };
    let path = dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            return Err(BrokerError::InUse {
                dir: dir.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
