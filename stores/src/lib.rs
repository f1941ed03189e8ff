//! Ports to outside systems, named after what they keep, each with a server adapter and an embedded one.
//!
//! Every port has one contract suite (`contract`), generic over the adapter; each adapter's tests run it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod blobs;
pub mod cache;
#[cfg(feature = "contract")]
pub mod contract;
mod disk;
pub mod ledger;
pub mod open;
pub mod options;
pub mod raster;
pub mod retention;

pub use blobs::{BlobError, Blobs, DirectoryBlobs, S3Blobs, SweepableBlobs};
pub use cache::{Cache, Cached, MemoryCache, RedisCache};
pub use disk::free_bytes;
pub use ledger::{Ledger, LedgerError, LedgerState, PostgresLedger, SqliteLedger};
pub use open::{
    OpenError, check_cache, inspect_ledger, open_blobs, open_cache, open_ledger, without_password,
};
pub use options::{
    BlobsOptions, CacheOptions, Durability, LedgerOptions, PostgresOptions, RetentionOptions,
    S3Options, StoresOptions,
};
pub use raster::{Raster, RasterError, Rasters};
