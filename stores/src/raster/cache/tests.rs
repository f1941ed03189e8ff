//! The cache is faster than the store and never differs from it.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncRead;

use super::*;
use crate::{BlobError, raster::Channels};

#[derive(Default)]
struct CountingBlobs {
    kept: Mutex<HashMap<BlobKey, Bytes>>,
    reads: AtomicUsize,
}

#[async_trait]
impl Blobs for CountingBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobKey, BlobError> {
        let key = BlobKey::from_digest(Sha256::digest(&bytes).into());
        self.kept.lock().unwrap().insert(key.clone(), bytes);
        Ok(key)
    }

    async fn put_reader(
        &self,
        _reader: &mut (dyn AsyncRead + Send + Unpin),
        limit_bytes: u64,
    ) -> Result<(BlobKey, u64), BlobError> {
        Err(BlobError::TooLarge { limit_bytes })
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, BlobError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.kept
            .lock()
            .unwrap()
            .get(key)
            .cloned()
            .ok_or_else(|| BlobError::NotFound(key.clone()))
    }

    async fn get_range(&self, key: &BlobKey, _range: Range<u64>) -> Result<Bytes, BlobError> {
        self.get(key).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        Ok(self
            .kept
            .lock()
            .unwrap()
            .get(key)
            .map(|bytes| bytes.len() as u64))
    }

    async fn check(&self) -> Result<(), BlobError> {
        Ok(())
    }
}

fn raster(seed: u8) -> Raster {
    Raster::new(
        64,
        32,
        Channels::Rgb,
        (0..64 * 32 * 3)
            .map(|index| (index as u8).wrapping_mul(seed))
            .collect(),
    )
    .unwrap()
}

#[tokio::test]
async fn a_second_stage_reads_from_memory_and_another_process_from_the_store() {
    let blobs = Arc::new(CountingBlobs::default());
    let first = Rasters::new(blobs.clone(), 1 << 20);
    let reference = first.put(raster(3)).await.unwrap();
    assert_eq!(reference.media_type, PAM_MEDIA_TYPE);
    assert_eq!(
        Some(reference.bytes),
        blobs.size(&reference.key).await.unwrap()
    );
    assert_eq!(*first.get(&reference).await.unwrap(), raster(3));
    assert_eq!(blobs.reads.load(Ordering::Relaxed), 0);

    let other_process = Rasters::new(blobs.clone(), 1 << 20);
    assert_eq!(*other_process.get(&reference).await.unwrap(), raster(3));
    assert_eq!(*other_process.get(&reference).await.unwrap(), raster(3));
    assert_eq!(blobs.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn memory_stays_within_its_bound_and_keeps_the_newest() {
    let limit_bytes = 20_000;
    let rasters = Rasters::new(Arc::new(CountingBlobs::default()), limit_bytes);
    let mut last = None;
    for seed in 1..40 {
        let reference = rasters.put(raster(seed)).await.unwrap();
        assert!(rasters.cached_bytes() <= limit_bytes);
        assert!(
            rasters.cache.lock().get(&reference.key).is_some(),
            "the newest raster was not kept"
        );
        last = Some((reference, seed));
    }
    let (reference, seed) = last.unwrap();
    assert_eq!(*rasters.get(&reference).await.unwrap(), raster(seed));
}

#[tokio::test]
async fn no_cache_still_works() {
    let rasters = Rasters::new(Arc::new(CountingBlobs::default()), 0);
    let reference = rasters.put(raster(7)).await.unwrap();
    assert_eq!(*rasters.get(&reference).await.unwrap(), raster(7));
    assert_eq!(rasters.cached_bytes(), 0);
}

#[tokio::test]
async fn a_reference_that_lies_is_refused() {
    let rasters = Rasters::new(Arc::new(CountingBlobs::default()), 1 << 20);
    let reference = rasters.put(raster(7)).await.unwrap();
    let wider = BlobRef {
        width: reference.width + 1,
        ..reference.clone()
    };
    assert!(matches!(
        rasters.get(&wider).await,
        Err(RasterError::ReferenceMismatch { .. })
    ));
    let png = BlobRef {
        media_type: "image/png".into(),
        ..reference.clone()
    };
    assert!(matches!(
        rasters.get(&png).await,
        Err(RasterError::NotPixels { .. })
    ));
    let key = rasters
        .blobs()
        .put(Bytes::from_static(b"not pixels"))
        .await
        .unwrap();
    let garbage = BlobRef {
        key,
        ..reference.clone()
    };
    assert!(matches!(
        rasters.get(&garbage).await,
        Err(RasterError::Malformed(_))
    ));
    let missing = BlobRef {
        key: BlobKey::from_digest([0; 32]),
        ..reference
    };
    assert!(matches!(
        rasters.get(&missing).await,
        Err(RasterError::Blob(BlobError::NotFound(_)))
    ));
}
