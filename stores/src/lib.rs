//! Ports to outside systems, named after what they keep, each with a server adapter and an embedded one.
//!
//! Every port has one contract suite (`contract`), generic over the adapter; each adapter's tests run it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod blobs;
pub mod ledger;
pub mod raster;

pub use blobs::{BlobError, Blobs};
pub use ledger::{Ledger, LedgerError};
pub use raster::{Raster, RasterError, Rasters};
