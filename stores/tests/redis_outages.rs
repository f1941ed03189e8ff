//! Redis goes away and comes back: the cache has nothing meanwhile, soon says so, and needs no restart.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use atelier_servers::Redis;
use atelier_stores::{Cache, CacheOptions, Cached, RedisCache, check_cache, open_cache};
use bytes::Bytes;
use support::log::Log;

const HOUR: Duration = Duration::from_secs(3_600);
/// For what must come sooner or later.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> CacheOptions {
    CacheOptions {
        timeout_ms: 500,
        pause_ms: 100,
        ..CacheOptions::default()
    }
}

fn value() -> Bytes {
    Bytes::from_static(b"value")
}

/// Puts and gets until both work.
async fn comes_back(cache: &RedisCache) {
    let since = Instant::now();
    loop {
        cache.put("key", value(), HOUR).await;
        if cache.get("key").await == Cached::Hit(value()) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "the cache does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Gets until the server counts as away: a busy machine may let the first answers come late.
async fn goes_away(cache: &RedisCache) {
    let since = Instant::now();
    while cache.get("key").await != Cached::Away {
        assert!(since.elapsed() < PATIENCE, "the cache does not go away");
    }
}

async fn admin(server: &Redis, password: Option<&str>, words: &[&str]) {
    let url = server.url();
    let url = password.map_or(url.clone(), |password| {
        url.replace("//", &format!("//:{password}@"))
    });
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_missed_once_and_found_again() {
    let Some(server) = Redis::start() else { return };
    let log = Log::of_this_thread();
    let cache = RedisCache::open(&server.url(), &options()).unwrap();
    comes_back(&cache).await;
    server.kill();
    goes_away(&cache).await;
    for _ in 0..50 {
        cache.put("other", value(), HOUR).await;
        assert_eq!(cache.get("key").await, Cached::Away);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let said = log.text();
    assert_eq!(said.matches("the cache is away").count(), 1, "{said}");
    server.run();
    comes_back(&cache).await;
    let said = log.text();
    assert_eq!(said.matches("the cache answers again").count(), 1, "{said}");
}

#[tokio::test]
async fn nobody_waits_for_a_server_that_stands_still() {
    let Some(server) = Redis::start() else { return };
    let settings = CacheOptions {
        timeout_ms: 100,
        pause_ms: 3_600_000,
        ..options()
    };
    let cache = RedisCache::open(&server.url(), &settings).unwrap();
    let asked = {
        let _frozen = server.freeze();
        goes_away(&cache).await;
        let since = Instant::now();
        for _ in 0..10_000 {
            assert_eq!(cache.get("key").await, Cached::Away);
        }
        since.elapsed()
    };
    // Each would have waited for at least 100 ms.
    assert!(asked < Duration::from_secs(60), "{asked:?}");
    let patient = RedisCache::open(&server.url(), &options()).unwrap();
    comes_back(&patient).await;
}

#[tokio::test]
async fn a_slow_server_counts_as_away_until_it_is_fast_again() {
    let Some(server) = Redis::start() else { return };
    let cache = RedisCache::open(&server.url(), &options()).unwrap();
    comes_back(&cache).await;
    admin(&server, None, &["CLIENT", "PAUSE", "3000"]).await;
    goes_away(&cache).await;
    comes_back(&cache).await;
}

#[tokio::test]
async fn a_full_server_still_answers_and_says_so_once() {
    let Some(server) = Redis::start() else { return };
    let log = Log::of_this_thread();
    let cache = RedisCache::open(&server.url(), &options()).unwrap();
    comes_back(&cache).await;
    admin(&server, None, &["CONFIG", "SET", "maxmemory", "1"]).await;
    for _ in 0..20 {
        cache.put("other", value(), HOUR).await;
        assert_eq!(cache.get("key").await, Cached::Hit(value()));
        assert_eq!(cache.get("other").await, Cached::Miss);
    }
    let said = log.text();
    assert_eq!(said.matches("takes no values").count(), 1, "{said}");
    assert!(!said.contains("is away"), "{said}");
    admin(&server, None, &["CONFIG", "SET", "maxmemory", "0"]).await;
    cache.put("other", value(), HOUR).await;
    assert_eq!(cache.get("other").await, Cached::Hit(value()));
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let Some(server) = Redis::start() else { return };
    let log = Log::of_this_thread();
    admin(&server, None, &["CONFIG", "SET", "requirepass", "right"]).await;
    for (credentials, reason) in [(":wrong-one@", "WRONGPASS"), ("", "NOAUTH")] {
        let url = server.url().replace("//", &format!("//{credentials}"));
        let cache = RedisCache::open(&url, &options()).unwrap();
        goes_away(&cache).await;
        let refused = check_cache(&url, &options()).await.unwrap_err().to_string();
        let knows = refused.contains("`stores.cache_url`")
            && (refused.contains(reason) || refused.to_lowercase().contains("auth"));
        assert!(knows, "{refused}");
        assert!(!refused.contains("wrong-one"), "{refused}");
    }
    assert!(!log.text().contains("wrong-one"), "{}", log.text());
    let url = server.url().replace("//", "//:right@");
    check_cache(&url, &options()).await.unwrap();
    comes_back(&RedisCache::open(&url, &options()).unwrap()).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_error_and_a_bad_url_is() {
    let cache = open_cache(Some("redis://maker:secret@127.0.0.1:1"), &options()).unwrap();
    cache.put("key", value(), HOUR).await;
    assert_eq!(cache.get("key").await, Cached::Away);
    for url in [
        "127.0.0.1:6379",
        "http://maker:secret@127.0.0.1",
        "redis://host:6379/x",
    ] {
        let refused = open_cache(Some(url), &options()).err().unwrap().to_string();
        assert!(
            refused.contains("`stores.cache_url`") && refused.contains("redis://user"),
            "{refused}"
        );
        assert!(!refused.contains("secret"), "{refused}");
    }
}
