//! The stage `ingest`: a task in, one event per picture out.
//!
//! Reads `image-tasks` (a task) and its own retry topic (one picture of a task). Writes `atelier.task.accepted.v1` to
//! `task-events` and `atelier.image.ingested.v1` to `images-ingested`; a picture that cannot be had goes to the retry topic or
//! the dead letters by itself.
//!
//! Invariants: a picture that goes on is in the blob store, is of a kind that is read by its first bytes, and claims a
//! size within the limits in its header; nothing was decoded to learn that. No connection is made to an address that is
//! not public, unless the configuration lists it, whatever a name resolves to and wherever a server redirects. One
//! picture's failure leaves its neighbours alone.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod error;
pub mod fetch;
pub mod header;
pub mod options;
pub mod stage;

pub use error::{FetchError, HeaderError, IngestError};
pub use fetch::{Fetcher, Resolver, SystemResolver};
pub use options::{FetchOptions, IngestOptions};
pub use stage::{Ingest, IngestInput};
