//! The cache of one process.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use moka::{Expiry, sync::Cache as Moka};

use super::{Cache, Cached};

/// Values in this process's memory; the least used make room.
pub struct MemoryCache {
    kept: Moka<String, Kept>,
}

#[derive(Clone)]
struct Kept {
    value: Bytes,
    time: Duration,
}

/// Each value has its own time, counted from its last `put`.
struct OwnTime;

impl Expiry<String, Kept> for OwnTime {
    fn expire_after_create(&self, _key: &String, kept: &Kept, _now: Instant) -> Option<Duration> {
        Some(kept.time)
    }

    fn expire_after_update(
        &self,
        _key: &String,
        kept: &Kept,
        _now: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.time)
    }
}

impl MemoryCache {
    /// An empty cache for keys and values of up to `max_bytes` bytes together.
    pub fn new(max_bytes: u64) -> Self {
        let size = |key: &String, kept: &Kept| {
            u32::try_from(key.len() + kept.value.len()).unwrap_or(u32::MAX)
        };
        Self {
            kept: Moka::builder()
                .max_capacity(max_bytes)
                .weigher(size)
                .expire_after(OwnTime)
                .build(),
        }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Cached {
        self.kept
            .get(key)
            .map_or(Cached::Miss, |kept| Cached::Hit(kept.value))
    }

    async fn put(&self, key: &str, value: Bytes, time: Duration) {
        let time = time.max(Duration::from_secs(1));
        self.kept.insert(key.to_owned(), Kept { value, time });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_not_kept_and_pushes_nothing_out() {
        let cache = MemoryCache::new(1_000);
        let hour = Duration::from_secs(3_600);
        cache.put("small", Bytes::from_static(b"1"), hour).await;
        cache.put("large", vec![0; 2_000].into(), hour).await;
        cache.kept.run_pending_tasks();
        assert_eq!(cache.get("large").await, Cached::Miss);
        assert_eq!(
            cache.get("small").await,
            Cached::Hit(Bytes::from_static(b"1"))
        );
    }
}
