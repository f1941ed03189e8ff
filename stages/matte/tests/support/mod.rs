//! The stage over blobs in memory, pictures for it, and what it answered.
// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::{path::Path, sync::Arc};

use atelier_matte::{Matte, MatteOptions};
use atelier_models::{ModelStore, ProviderChoice, Runtime};
use atelier_runtime::{Emission, Message, Outcome};
use atelier_schemas::{
    Envelope, Event, ImageSource, Kind, Quality, TaskOptions,
    events::{
        Classification, Detection, Evidence, ImageClassified, ImageContext, ImageMatted,
        Measurements, Strategy,
    },
};
use atelier_stores::{Cache, MemoryCache, Raster, Rasters, blobs::MemoryBlobs, raster::Channels};
use image::RgbImage;
use uuid::Uuid;

/// Only the small model, so that a test starts in no time.
pub fn options() -> MatteOptions {
    MatteOptions {
        preload: vec!["u2netp".into()],
        ..MatteOptions::default()
    }
}

pub fn runtime(store: &ModelStore) -> Runtime {
    Runtime::load(store, ProviderChoice::Auto).unwrap_or_else(|error| panic!("{error}"))
}

pub async fn stage(rasters: &Rasters) -> Matte {
    started(options(), rasters, cache()).await
}

pub async fn started(options: MatteOptions, rasters: &Rasters, cache: Arc<dyn Cache>) -> Matte {
    let store = ModelStore::open(None).unwrap();
    Matte::start(
        options,
        store.clone(),
        runtime(&store),
        rasters.clone(),
        cache,
    )
    .await
    .unwrap_or_else(|error| panic!("{error}"))
}

/// One of the repository's photographs.
pub fn sample(name: &str) -> RgbImage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../samples")
        .join(name);
    image::open(path).unwrap().into_rgb8()
}

pub fn raster(picture: RgbImage) -> Raster {
    let (width, height) = picture.dimensions();
    Raster::new(width, height, Channels::Rgb, picture.into_raw()).unwrap()
}

/// Something that `classify` found between these sides, in pixels.
pub fn found(label: &str, score: f32, [left, top, right, bottom]: [f32; 4]) -> Detection {
    Detection {
        label: label.to_owned(),
        score,
        x: left,
        y: top,
        width: right - left,
        height: bottom - top,
    }
}

pub fn cache() -> Arc<dyn Cache> {
    Arc::new(MemoryCache::new(1 << 20))
}

pub fn rasters() -> Rasters {
    Rasters::new(Arc::new(MemoryBlobs::default()), 64 << 20)
}

/// A bright disc on a dark ground, as RGB, or as RGBA whose right half is transparent.
pub fn disc(width: u32, height: u32, channels: Channels) -> Raster {
    let (center_x, center_y, radius) =
        (width as f32 / 2.0, height as f32 / 2.0, height as f32 / 4.0);
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let inside = (x as f32 - center_x).hypot(y as f32 - center_y) < radius;
            pixels.extend(if inside { [230, 60, 40] } else { [20, 30, 60] });
            if channels == Channels::Rgba {
                pixels.push(if x < width / 2 { 255 } else { 0 });
            }
        }
    }
    Raster::new(width, height, channels, pixels).unwrap()
}

pub async fn message(
    rasters: &Rasters,
    picture: Raster,
    strategy: Strategy,
    options: TaskOptions,
) -> Message<ImageClassified> {
    let pixels = rasters.put(picture).await.unwrap();
    let (task_id, image_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let image = ImageContext {
        task_id,
        image_id,
        index: 0,
        image_count: 1,
        source: ImageSource {
            url: Some("https://a.example/1.jpg".into()),
            ..ImageSource::default()
        },
        options,
        submitted_at: chrono::DateTime::UNIX_EPOCH,
    };
    let data = ImageClassified {
        image,
        original: pixels.clone(),
        background: None,
        watermark: None,
        trimap: None,
        pixels,
        measurements: Measurements::default(),
        classification: Classification {
            kind: Kind::Product,
            confidence: 1.0,
            forced: false,
            complexity: 0.5,
            strategy,
            evidence: Evidence::default(),
        },
    };
    Message {
        envelope: Envelope::root("test", "atelier.image.classified.v1", image_id, task_id),
        data,
    }
}

pub fn low() -> TaskOptions {
    TaskOptions {
        quality: Quality::Low,
        ..TaskOptions::default()
    }
}

pub fn named(model: &str) -> TaskOptions {
    TaskOptions {
        model: Some(model.into()),
        ..TaskOptions::default()
    }
}

pub fn matted(outcome: &Outcome) -> &ImageMatted {
    match outcome {
        Outcome::Emit(emissions) => match emissions.as_slice() {
            [Emission::Event(Event::ImageMatted(matted))] => matted,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

pub async fn alpha(rasters: &Rasters, outcome: &Outcome) -> Arc<Raster> {
    rasters.get(&matted(outcome).alpha).await.unwrap()
}
