//! What may be configured about the stores.
//!
//! Invariant: every field has a default that is safe, and its unit in its name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Space that is left to the system before the stores say that they are full: 256 MiB.
const DEFAULT_MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;

/// What "stored" promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Stored means on the disk: it outlives a power cut.
    #[default]
    Fsync,
    /// Stored means handed to the operating system: it outlives `kill -9`, not a power cut.
    Os,
}

/// Where things are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct StoresOptions {
    /// Where blobs are kept: `file:///absolute/folder`. Absent: `blobs` in the data folder.
    pub blobs_url: Option<String>,
    /// Where the ledger is kept: `sqlite:///absolute/file`. Absent: `ledger.sqlite` in the data folder.
    pub ledger_url: Option<String>,
    /// How blobs are kept.
    pub blobs: BlobsOptions,
    /// How the ledger is kept.
    pub ledger: LedgerOptions,
}

/// How blobs are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct BlobsOptions {
    /// What a stored blob outlives: `fsync` a power cut, `os` a killed process.
    pub durability: Durability,
    /// Space in bytes that stays free on the disk: below it, new blobs are refused as if the disk were full.
    pub min_free_bytes: u64,
    /// Whether whole-blob reads compare the SHA-256 of what they read with the key (about 0.5 ms for each MiB).
    pub verify_on_read: bool,
}

impl Default for BlobsOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            min_free_bytes: DEFAULT_MIN_FREE_BYTES,
            verify_on_read: false,
        }
    }
}

/// How the ledger is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct LedgerOptions {
    /// What a committed transaction outlives: `fsync` a power cut, `os` a killed process.
    pub durability: Durability,
    /// Space in bytes that stays free on the disk: below it, new tasks are refused as if the disk were full, while
    /// those that were accepted may still end.
    pub min_free_bytes: u64,
    /// Connections that read side by side.
    pub read_connections: u32,
    /// Longest wait in milliseconds for another process that writes.
    pub busy_timeout_ms: u64,
    /// How long in hours the ledger remembers which events it applied and what it answered. An event that comes again
    /// later still changes nothing, but is answered with no events. Keep it above the retention of the dead letters.
    pub inbox_retention_hours: u32,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            min_free_bytes: DEFAULT_MIN_FREE_BYTES,
            read_connections: 4,
            busy_timeout_ms: 10_000,
            inbox_retention_hours: 960,
        }
    }
}
