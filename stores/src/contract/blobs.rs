//! What every keeper of blobs does.

use std::{io, pin::Pin, task::Poll};

use atelier_schemas::BlobKey;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use super::BlobsPlace;
use crate::BlobError;

const NO_LIMIT: u64 = u64::MAX;

fn key_of(bytes: &[u8]) -> BlobKey {
    BlobKey::from_digest(Sha256::digest(bytes).into())
}

/// Bytes that differ for each seed and do not repeat within a chunk.
fn bytes_of(seed: u32, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Gives its bytes in pieces of odd sizes, then ends, breaks off, or waits for ever.
struct Source {
    bytes: Bytes,
    step: usize,
    ending: Ending,
}

#[derive(Clone, Copy)]
enum Ending {
    End,
    BreakOff,
    Hang,
}

impl AsyncRead for Source {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return match self.ending {
                Ending::End => Poll::Ready(Ok(())),
                Ending::BreakOff => Poll::Ready(Err(io::Error::other("the source went away"))),
                Ending::Hang => Poll::Pending,
            };
        }
        self.step = self.step % 7_919 + 1;
        let length = self.step.min(self.bytes.len()).min(buffer.remaining());
        buffer.put_slice(&self.bytes.split_to(length));
        context.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }
}

fn source(bytes: &Bytes, ending: Ending) -> Source {
    Source {
        bytes: bytes.clone(),
        step: 4_000,
        ending,
    }
}

/// Bytes come back as they were put, under their SHA-256, also after the store is opened again.
pub async fn what_is_put_is_got<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    let contents = [
        Bytes::new(),
        Bytes::from_static(b"x"),
        bytes_of(1, 70_000),
        bytes_of(2, 3_000_000),
    ];
    for bytes in &contents {
        let key = blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(key, key_of(bytes));
        assert_eq!(blobs.put(bytes.clone()).await.unwrap(), key);
        assert_eq!(blobs.get(&key).await.unwrap(), *bytes);
    }
    drop(blobs);
    let blobs = place.open().await;
    for bytes in &contents {
        assert_eq!(blobs.get(&key_of(bytes)).await.unwrap(), *bytes);
        assert_eq!(
            blobs.size(&key_of(bytes)).await.unwrap(),
            Some(bytes.len() as u64)
        );
    }
}

/// A reader's bytes make the same blob as the bytes themselves.
pub async fn a_reader_is_stored_as_its_bytes<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    for length in [0, 1, 65_536, 262_144, 1_000_003] {
        let bytes = bytes_of(3, length);
        let stored = blobs
            .put_reader(&mut source(&bytes, Ending::End), NO_LIMIT)
            .await
            .unwrap();
        assert_eq!(stored, (key_of(&bytes), length as u64));
        assert_eq!(blobs.get(&stored.0).await.unwrap(), bytes);
        assert_eq!(blobs.put(bytes).await.unwrap(), stored.0);
    }
}

/// A range is what a slice would be, cut at the end of the blob.
pub async fn ranges_are_cut_at_the_end<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    let bytes = bytes_of(4, 10_000);
    let key = blobs.put(bytes.clone()).await.unwrap();
    for (range, expected) in [
        (0..10_000, 0..10_000),
        (0..0, 0..0),
        (17..18, 17..18),
        (9_990..10_100, 9_990..10_000),
        (10_000..10_001, 0..0),
        (5..u64::MAX, 5..10_000),
        (u64::MAX - 1..u64::MAX, 0..0),
    ] {
        assert_eq!(
            blobs.get_range(&key, range.clone()).await.unwrap(),
            bytes.slice(expected),
            "{range:?}"
        );
    }
    let empty = blobs.put(Bytes::new()).await.unwrap();
    assert_eq!(blobs.get_range(&empty, 0..10).await.unwrap(), Bytes::new());
}

/// What is not there is not found.
pub async fn unknown_keys_are_not_found<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    let key = key_of(b"never stored");
    assert!(matches!(blobs.get(&key).await, Err(BlobError::NotFound(missing)) if missing == key));
    assert!(
        matches!(blobs.get_range(&key, 0..1).await, Err(BlobError::NotFound(missing)) if missing == key)
    );
    assert_eq!(blobs.size(&key).await.unwrap(), None);
}

/// Exactly the limit is taken, one byte more is not, and leaves nothing, however endless the source.
pub async fn what_is_too_large_is_not_kept<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    let bytes = bytes_of(5, 300_000);
    let stored = blobs
        .put_reader(&mut source(&bytes, Ending::End), 300_000)
        .await
        .unwrap();
    assert_eq!(stored.1, 300_000);
    let longer = bytes_of(6, 300_001);
    let refused = blobs
        .put_reader(&mut source(&longer, Ending::End), 300_000)
        .await;
    assert!(
        matches!(
            refused,
            Err(BlobError::TooLarge {
                limit_bytes: 300_000
            })
        ),
        "{refused:?}"
    );
    assert_eq!(blobs.size(&key_of(&longer)).await.unwrap(), None);
    let mut endless = tokio::io::repeat(0);
    let refused = blobs.put_reader(&mut endless, 1_000_000).await;
    assert!(
        matches!(
            refused,
            Err(BlobError::TooLarge {
                limit_bytes: 1_000_000
            })
        ),
        "{refused:?}"
    );
}

/// A source that fails leaves nothing, and its error is told apart from the store's own.
pub async fn a_source_that_breaks_off_is_not_kept<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    let bytes = bytes_of(7, 500_000);
    let broken = blobs
        .put_reader(&mut source(&bytes, Ending::BreakOff), NO_LIMIT)
        .await;
    assert!(
        matches!(&broken, Err(BlobError::Source(error)) if error.to_string().contains("went away")),
        "{broken:?}"
    );
    assert_eq!(blobs.size(&key_of(&bytes)).await.unwrap(), None);
}

/// Many writers of the same bytes all succeed, and a reader sees nothing or the whole.
pub async fn racing_writers_of_one_blob_agree<P: BlobsPlace>() {
    let place = P::fresh().await;
    let (one, other) = (place.open().await, place.open().await);
    let bytes = bytes_of(8, 1_500_000);
    let key = key_of(&bytes);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..12 {
        let (blobs, bytes) = (
            if writer % 2 == 0 {
                one.clone()
            } else {
                other.clone()
            },
            bytes.clone(),
        );
        writers.spawn(async move {
            match writer % 3 {
                0 => {
                    blobs
                        .put_reader(&mut source(&bytes, Ending::End), NO_LIMIT)
                        .await
                        .unwrap()
                        .0
                }
                _ => blobs.put(bytes).await.unwrap(),
            }
        });
    }
    let mut seen_whole = false;
    while !seen_whole {
        match one.get(&key).await {
            Ok(found) => {
                assert_eq!(found, bytes);
                seen_whole = true;
            }
            Err(BlobError::NotFound(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    while let Some(stored) = writers.join_next().await {
        assert_eq!(stored.unwrap(), key);
    }
    assert_eq!(other.get(&key).await.unwrap(), bytes);
}

/// Writers of different bytes do not disturb each other.
pub async fn racing_writers_of_many_blobs_keep_them_apart<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..64 {
        let blobs = blobs.clone();
        writers.spawn(async move {
            blobs
                .put(bytes_of(seed, 4_096 + seed as usize))
                .await
                .unwrap()
        });
    }
    writers.join_all().await;
    for seed in 0..64 {
        let bytes = bytes_of(seed, 4_096 + seed as usize);
        assert_eq!(blobs.get(&key_of(&bytes)).await.unwrap(), bytes);
    }
}

/// A write that is dropped in the middle leaves nothing, and does not stand in the way of the next one.
pub async fn an_abandoned_write_leaves_nothing<P: BlobsPlace>() {
    let place = P::fresh().await;
    let blobs = place.open().await;
    let bytes = bytes_of(9, 900_000);
    let mut hanging = source(&bytes, Ending::Hang);
    let write = blobs.put_reader(&mut hanging, NO_LIMIT);
    let abandoned = tokio::time::timeout(std::time::Duration::from_millis(200), write).await;
    assert!(
        abandoned.is_err(),
        "the source never ends, so neither does the write"
    );
    assert_eq!(blobs.size(&key_of(&bytes)).await.unwrap(), None);
    drop(blobs);
    let blobs = place.open().await;
    assert_eq!(blobs.size(&key_of(&bytes)).await.unwrap(), None);
    blobs.put(bytes.clone()).await.unwrap();
    assert_eq!(blobs.get(&key_of(&bytes)).await.unwrap(), bytes);
}

/// A store that works says so.
pub async fn a_store_in_order_says_so<P: BlobsPlace>() {
    let place = P::fresh().await;
    place.open().await.check().await.unwrap();
}
