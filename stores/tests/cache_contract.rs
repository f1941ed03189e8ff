//! Both caches are held to the contract.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use atelier_servers::Redis;
use atelier_stores::{Cache, CacheOptions, MemoryCache, RedisCache, contract::CachePlace};

mod memory {
    use super::*;

    struct Memory(Arc<MemoryCache>);

    impl CachePlace for Memory {
        async fn fresh() -> Self {
            Self(Arc::new(MemoryCache::new(16 << 20)))
        }

        fn open(&self) -> Arc<dyn Cache> {
            Arc::clone(&self.0) as Arc<dyn Cache>
        }
    }

    atelier_stores::cache_contract!(Memory);
}

mod redis {
    use std::sync::{LazyLock, Mutex, Weak};

    use super::*;

    /// One server for all tests, for as long as one of them uses it.
    fn server() -> Option<Arc<Redis>> {
        static SHARED: LazyLock<Mutex<Weak<Redis>>> = LazyLock::new(Mutex::default);
        let mut shared = SHARED.lock().unwrap();
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Redis::start()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// One of the server's databases, emptied.
    struct Database {
        _server: Arc<Redis>,
        url: String,
    }

    impl CachePlace for Database {
        async fn fresh() -> Self {
            static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
            let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(number < 16, "a Redis server has 16 databases");
            let server = server().unwrap();
            let url = format!("{}/{number}", server.url());
            Self {
                _server: server,
                url,
            }
        }

        fn open(&self) -> Arc<dyn Cache> {
            // A busy machine is not a server that is away.
            let options = CacheOptions {
                timeout_ms: 30_000,
                ..CacheOptions::default()
            };
            Arc::new(RedisCache::open(&self.url, &options).unwrap())
        }
    }

    atelier_stores::cache_contract!(Database, if server().is_some());
}
