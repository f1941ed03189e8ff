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
    /// Where the ledger is kept: `sqlite:///absolute/file`, or `postgres://user:password@host:5432/database`, a PostgreSQL
    /// database of its own (TLS by `?sslmode=verify-full`; the password may come by `PGPASSWORD` or `~/.pgpass` instead).
    /// Absent: `ledger.sqlite` in the data folder.
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
    /// What a committed transaction outlives: `fsync` a power cut, `os` a killed process. SQLite only: PostgreSQL promises
    /// what its own configuration says.
    pub durability: Durability,
    /// Space in bytes that stays free on the disk: below it, new tasks are refused as if the disk were full, while
    /// those that were accepted may still end. SQLite only.
    pub min_free_bytes: u64,
    /// Connections that read side by side. SQLite only.
    pub read_connections: u32,
    /// Longest wait in milliseconds for another process that writes. SQLite only.
    pub busy_timeout_ms: u64,
    /// How long in hours the ledger remembers which events it applied and what it answered. An event that comes again
    /// later still changes nothing, but is answered with no events. Keep it above the retention of the dead letters.
    pub inbox_retention_hours: u32,
    /// How a PostgreSQL server is used, where `ledger_url` names one.
    pub postgres: PostgresOptions,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            min_free_bytes: DEFAULT_MIN_FREE_BYTES,
            read_connections: 4,
            busy_timeout_ms: 10_000,
            inbox_retention_hours: 960,
            postgres: PostgresOptions::default(),
        }
    }
}

/// How a PostgreSQL server is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct PostgresOptions {
    /// Most connections that this process holds. All processes together must stay below the server's `max_connections`.
    pub max_connections: u32,
    /// Longest wait in milliseconds at the start for the server's first answer.
    pub connect_timeout_ms: u64,
    /// Longest wait in milliseconds for a connection, a new one included, before the ledger counts as away.
    pub acquire_timeout_ms: u64,
    /// Longest time in milliseconds that one statement may take, its waiting for other writers included. The server ends it
    /// then; one that does not answer even so has its connection closed a second later.
    pub statement_timeout_ms: u64,
    /// Longest time in milliseconds at the start for bringing the tables up to date, or for another process that does.
    pub migration_timeout_ms: u64,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            connect_timeout_ms: 10_000,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            migration_timeout_ms: 600_000,
        }
    }
}
