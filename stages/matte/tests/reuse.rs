//! What was matted before is used again: `atelier models pull` first.
#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::Arc, time::Duration};

use atelier_matte::{Matte, MatteOptions};
use atelier_runtime::Stage as _;
use atelier_schemas::{
    TaskOptions,
    events::{ImageMatted, Strategy},
};
use atelier_stores::{Cache, Cached, Rasters, blobs::MemoryBlobs, raster::Channels};

use support::*;

/// The outcome for the disc, with these options.
async fn matte_disc(stage: &Matte, rasters: &Rasters, options: TaskOptions) -> ImageMatted {
    let picture = disc(320, 240, Channels::Rgb);
    let message = message(rasters, picture, Strategy::Segmentation, options).await;
    matted(&stage.handle(vec![message]).await.unwrap()[0]).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matte_that_was_made_before_is_used_again() {
    let (rasters, cache) = (rasters(), cache());
    let stage = started(options(), &rasters, Arc::clone(&cache)).await;
    let first = matte_disc(&stage, &rasters, low()).await;
    assert!(!first.model.reused && first.model.inference_ms > 0.0);
    // By another process that has the same cache, too.
    let other = started(options(), &rasters, Arc::clone(&cache)).await;
    for stage in [&stage, &other] {
        let again = matte_disc(stage, &rasters, named("u2netp")).await;
        assert!(again.model.reused && again.model.inference_ms == 0.0);
        assert_eq!(again.alpha, first.alpha);
        assert_eq!(again.model.provider, first.model.provider);
        let (again, first) = (again.matting.unwrap(), first.matting.clone().unwrap());
        assert_eq!(again.confidence, first.confidence);
        assert!(again.steps.is_empty() && !first.steps.is_empty());
    }
    let by_another_model = matte_disc(&stage, &rasters, named("u2net")).await;
    assert!(!by_another_model.model.reused);
    let never = MatteOptions {
        reuse_hours: 0,
        ..options()
    };
    let forgetful = started(never, &rasters, cache).await;
    assert!(!matte_disc(&forgetful, &rasters, low()).await.model.reused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matte_that_is_gone_is_made_again() {
    let blobs = Arc::new(MemoryBlobs::default());
    // Nothing in memory besides the blobs.
    let rasters = Rasters::new(Arc::clone(&blobs) as Arc<_>, 0);
    let stage = stage(&rasters).await;
    let first = matte_disc(&stage, &rasters, low()).await;
    blobs.release(&first.alpha.key);
    let again = matte_disc(&stage, &rasters, low()).await;
    assert!(!again.model.reused);
    assert_eq!(again.alpha, first.alpha);
    assert!(matte_disc(&stage, &rasters, low()).await.model.reused);
}

/// A cache that is away, or holds what another version wrote.
struct Useless(Cached);

#[async_trait::async_trait]
impl Cache for Useless {
    async fn get(&self, _key: &str) -> Cached {
        self.0.clone()
    }

    async fn put(&self, _key: &str, _value: bytes::Bytes, _time: Duration) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_every_picture_is_worked_on() {
    let rasters = rasters();
    for answer in [
        Cached::Away,
        Cached::Hit("nothing that can be read".into()),
        Cached::Hit("{}".into()),
    ] {
        let stage = started(options(), &rasters, Arc::new(Useless(answer))).await;
        for _ in 0..2 {
            let made = matte_disc(&stage, &rasters, low()).await;
            assert!(!made.model.reused && made.model.inference_ms > 0.0);
        }
    }
}
