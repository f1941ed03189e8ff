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
    /// Where blobs are kept: `file:///absolute/folder`, or `s3://bucket/prefix` on any server that speaks S3, where the bucket
    /// must be there. Credentials come by `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a profile in `~/.aws`, or the
    /// machine's role; never from this file. Absent: `blobs` in the data folder.
    pub blobs_url: Option<String>,
    /// Where the ledger is kept: `sqlite:///absolute/file`, or `postgres://user:password@host:5432/database`, a PostgreSQL
    /// database of its own (TLS by `?sslmode=verify-full`; the password may come by `PGPASSWORD` or `~/.pgpass` instead).
    /// Absent: `ledger.sqlite` in the data folder.
    pub ledger_url: Option<String>,
    /// Where what can be made again is remembered for a while, so that several processes need not make it twice:
    /// `redis://user:password@host:6379/0`, or `rediss://` for TLS. A server that is away costs time and nothing else.
    /// Absent: each process has its own memory.
    pub cache_url: Option<String>,
    /// How blobs are kept.
    pub blobs: BlobsOptions,
    /// How the ledger is kept.
    pub ledger: LedgerOptions,
    /// How long blobs are kept.
    pub retention: RetentionOptions,
    /// How the cache is used.
    pub cache: CacheOptions,
}

/// How the cache is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct CacheOptions {
    /// Most bytes that a process's own cache holds; a server has its own limit.
    pub memory_bytes: u64,
    /// Longest wait in milliseconds for a server, to connect and to answer.
    pub timeout_ms: u64,
    /// How long in milliseconds a server that failed is not asked again.
    pub pause_ms: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 16 * 1024 * 1024,
            timeout_ms: 200,
            pause_ms: 1_000,
        }
    }
}

/// How long blobs are kept, at least two hours after they were last written. A blob that the ledger refers to is kept as its class says, one that it does not refer to as an
/// intermediate; where several refer to the same bytes, the longest time counts. Of a task that has not ended nothing goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct RetentionOptions {
    /// How long in hours after its task's end an original (an upload, or what an address held) is kept. Absent: for ever.
    pub originals_hours: Option<u32>,
    /// How long in hours after its task's end a result is kept, with its thumbnail and its matte. Absent: for ever.
    pub results_hours: Option<u32>,
    /// How long in hours what stages hand to each other is kept after it was last written. A dead letter can be replayed for
    /// as long, so keep it above the retention of the dead letters; and the pipeline may stand still for as long.
    pub intermediates_hours: u32,
    /// How long in hours what is to go is kept aside before it is erased, at least 1. Whoever asks for it meanwhile
    /// brings it back.
    pub aside_hours: u32,
    /// How often in minutes a gateway looks for what is past its time. 0: never; `atelier sweep` does it once.
    pub sweep_interval_minutes: u32,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self {
            originals_hours: None,
            results_hours: None,
            intermediates_hours: 744,
            aside_hours: 24,
            sweep_interval_minutes: 360,
        }
    }
}

/// How blobs are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct BlobsOptions {
    /// What a stored blob outlives: `fsync` a power cut, `os` a killed process. Folders only: S3 promises what its server does.
    pub durability: Durability,
    /// Space in bytes that stays free on the disk: below it, new blobs are refused as if the disk were full. Folders only.
    pub min_free_bytes: u64,
    /// Whether whole-blob reads compare the SHA-256 of what they read with the key (about 0.5 ms for each MiB).
    pub verify_on_read: bool,
    /// How an S3 server is used, where `blobs_url` names a bucket.
    pub s3: S3Options,
}

impl Default for BlobsOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            min_free_bytes: DEFAULT_MIN_FREE_BYTES,
            verify_on_read: false,
            s3: S3Options::default(),
        }
    }
}

/// How an S3 server is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct S3Options {
    /// Address of the server, such as `https://s3.example.org:9000`; an authority of one's own is in the file that
    /// `SSL_CERT_FILE` names. Absent: `AWS_ENDPOINT_URL_S3`, a profile's, or Amazon's.
    pub endpoint: Option<String>,
    /// Region of the bucket. Absent: `AWS_REGION`, a profile's, or `us-east-1`, which servers other than Amazon's go by.
    pub region: Option<String>,
    /// Whether the bucket is the first part of the path, not of the host name. Absent: where `endpoint` is given.
    pub path_style: Option<bool>,
    /// Longest wait in milliseconds for a connection.
    pub connect_timeout_ms: u64,
    /// Longest wait in milliseconds for the answer to one request, its sending included, and longest silence in the
    /// middle of a body.
    pub request_timeout_ms: u64,
    /// Longest time in milliseconds for one read or one part of a write, with all its requests.
    pub operation_timeout_ms: u64,
    /// How often a request is sent at most before the store counts as away: a server that cannot be reached, fails
    /// (5xx) or asks to slow down is tried again after a pause that grows.
    pub max_attempts: u32,
    /// Blobs that are larger than this, in bytes, are sent in parts of this size; at least 5 MiB. Four parts of a blob
    /// are in memory at a time.
    pub part_bytes: u64,
    /// Age in hours after which an upload in parts counts as abandoned: the next start removes it.
    pub abandoned_upload_hours: u32,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            connect_timeout_ms: 3_000,
            request_timeout_ms: 30_000,
            operation_timeout_ms: 120_000,
            max_attempts: 4,
            part_bytes: 16 * 1024 * 1024,
            abandoned_upload_hours: 24,
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
