//! The contract of [`Cache`](crate::Cache).

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::CachePlace;
use crate::Cached;

const HOUR: Duration = Duration::from_secs(3_600);

fn hit(value: &[u8]) -> Cached {
    Cached::Hit(Bytes::copy_from_slice(value))
}

/// Any bytes, under any name, and nothing under another.
pub async fn what_is_put_is_got_as_it_is<P: CachePlace>() {
    let place = P::fresh().await;
    let cache = place.open();
    assert_eq!(cache.get("matte:a").await, Cached::Miss);
    let values: [(&str, &[u8]); 4] = [
        ("matte:a", b"plain"),
        ("matte:", b""),
        ("mättε \r\n\0", &[0, 0xff, 0xfe, b'\r', b'\n', 0]),
        ("matte:large", &[7; 100_000]),
    ];
    for (key, value) in values {
        cache.put(key, Bytes::copy_from_slice(value), HOUR).await;
    }
    for (key, value) in values {
        assert_eq!(cache.get(key).await, hit(value), "{key}");
    }
    assert_eq!(cache.get("matte").await, Cached::Miss);
}

/// A second value takes the place of the first, and its time too.
pub async fn what_was_put_last_counts<P: CachePlace>() {
    let place = P::fresh().await;
    let cache = place.open();
    cache
        .put("key", Bytes::from_static(b"first"), Duration::from_secs(1))
        .await;
    cache.put("key", Bytes::from_static(b"second"), HOUR).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(cache.get("key").await, hit(b"second"));
}

/// It is there before its time is over, and not after; others stay.
pub async fn a_value_has_its_time<P: CachePlace>() {
    let place = P::fresh().await;
    let cache = place.open();
    cache.put("long", Bytes::from_static(b"1"), HOUR).await;
    // Less than a second is a second.
    cache
        .put("short", Bytes::from_static(b"1"), Duration::ZERO)
        .await;
    assert_eq!(cache.get("short").await, hit(b"1"));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(cache.get("short").await, Cached::Miss);
    assert_eq!(cache.get("long").await, hit(b"1"));
}

/// Whole values only, and in the end one.
pub async fn racing_writers_leave_one_of_their_values<P: CachePlace>() {
    let place = P::fresh().await;
    let mut writers = JoinSet::new();
    for writer in 0..8_u8 {
        let cache = place.open();
        writers.spawn(async move {
            let value = Bytes::from(vec![writer; 20_000]);
            for _ in 0..20 {
                cache.put("key", value.clone(), HOUR).await;
                if let Cached::Hit(found) = cache.get("key").await {
                    assert!(found.len() == 20_000 && found.iter().all(|byte| *byte == found[0]));
                } else {
                    panic!("nothing is there although it was put");
                }
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    assert!(matches!(place.open().get("key").await, Cached::Hit(_)));
}
