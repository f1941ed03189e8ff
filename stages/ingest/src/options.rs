//! What may be set for `ingest`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fetch::AddressRange;

/// Options of the stage `ingest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct IngestOptions {
    /// Largest picture that is taken, in bytes.
    pub max_bytes: u64,
    /// Most pixels (width × height) that a picture's header may claim.
    pub max_pixels: u64,
    /// Longest side, in pixels, that a picture's header may claim.
    pub max_side_px: u32,
    /// Pictures of one task that are fetched at the same time.
    pub max_concurrent_per_task: usize,
    /// Pictures that are fetched at the same time, over all tasks.
    pub max_concurrent: usize,
    /// How long one task may hold its place, in milliseconds. Pictures whose turn has not come by then go on one by one
    /// by way of the retry topic, so that a thousand slow addresses do not keep other tasks waiting.
    pub task_budget_ms: u64,
    /// How pictures are fetched.
    pub fetch: FetchOptions,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
            max_pixels: 100_000_000,
            max_side_px: 32_767,
            max_concurrent_per_task: 4,
            max_concurrent: 16,
            task_budget_ms: 15_000,
            fetch: FetchOptions::default(),
        }
    }
}

/// How pictures are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct FetchOptions {
    /// Longest time for a server to send one picture, redirects included, in milliseconds. Keeping it takes none of it.
    pub total_timeout_ms: u64,
    /// Longest time for one connection to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Slowest rate, in bytes per second, at which a server may send, measured from the first byte after
    /// `min_rate_grace_ms`.
    pub min_rate_bytes_per_second: u64,
    /// How long the rate may be lower at first, in milliseconds.
    pub min_rate_grace_ms: u64,
    /// Most redirects that are followed.
    pub max_redirects: u32,
    /// Addresses that may be fetched from although they are not public, as address or CIDR range, for example
    /// `10.1.0.0/16`. Empty: only public addresses.
    pub allow_addresses: Vec<AddressRange>,
    /// Ports that may be fetched from. Empty: any.
    pub allow_ports: Vec<u16>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            total_timeout_ms: 30_000,
            connect_timeout_ms: 5_000,
            min_rate_bytes_per_second: 1_024,
            min_rate_grace_ms: 5_000,
            max_redirects: 5,
            allow_addresses: Vec::new(),
            allow_ports: Vec::new(),
        }
    }
}
