//! The port [`Cache`]: small values that can be made again, kept for a while so that they need not be.
//!
//! Invariant: a cache cannot fail, only have nothing. Whoever asks it does the work itself when the answer is not
//! [`Cached::Hit`], so that a cache that is lost costs time and never a result.

mod memory;
mod redis;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{memory::MemoryCache, redis::RedisCache};

/// What a cache answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// What was kept last under the key.
    Hit(Bytes),
    /// Nothing, or what was there is past its time.
    Miss,
    /// The server does not answer, or refuses; it is asked again a little later.
    Away,
}

/// Keeps small values under names, each for its time, and may forget any of them at any moment.
#[async_trait]
pub trait Cache: Send + Sync {
    /// What is kept under `key`.
    async fn get(&self, key: &str) -> Cached;

    /// Keeps `value` under `key` for `time`, in place of what was there; or does not, where there is no room or the server is
    /// away. `time` is counted in whole seconds, at least one.
    async fn put(&self, key: &str, value: Bytes, time: Duration);
}
