//! The stage as the runtime calls it: one outcome a message, in order, neighbours unharmed.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use atelier_compose::{Compose, ComposeOptions};
use atelier_runtime::{Emission, Message, Outcome, Stage as _};
use atelier_schemas::{
    Background, BlobKey, BlobRef, Envelope, ErrorCode, Event, ImageFormat, ImageSource, Kind,
    TaskOptions, Watermark,
    events::{
        Classification, Evidence, ImageContext, ImageMatted, Measurements, ModelUse, Strategy,
    },
};
use atelier_stores::{Blobs, Raster, Rasters, blobs::MemoryBlobs, raster::Channels};
use support::disc;
use uuid::Uuid;

fn message(pixels: &BlobRef, alpha: &BlobRef, background: Background) -> Message<ImageMatted> {
    let (task_id, image_id) = (Uuid::new_v4(), Uuid::new_v4());
    let mut options = TaskOptions::default();
    options.output.background = background;
    let image = ImageContext {
        task_id,
        image_id,
        index: 0,
        image_count: 1,
        source: ImageSource::default(),
        options,
        submitted_at: chrono::Utc::now(),
    };
    let classification = Classification {
        kind: Kind::Product,
        confidence: 1.0,
        forced: true,
        complexity: 0.5,
        strategy: Strategy::Segmentation,
        evidence: Evidence::default(),
    };
    let model = ModelUse {
        name: "u2netp".into(),
        provider: "cpu".into(),
        inference_ms: 1.0,
        processor: "general".into(),
        reused: false,
    };
    Message {
        envelope: Envelope::root("/test", "atelier.image.matted.v1", Uuid::new_v4(), task_id),
        data: ImageMatted {
            image,
            original: pixels.clone(),
            background: None,
            watermark: None,
            pixels: pixels.clone(),
            measurements: Measurements::default(),
            classification,
            alpha: alpha.clone(),
            model,
            matting: None,
            foreground: None,
        },
    }
}

#[tokio::test]
async fn a_batch_has_one_outcome_a_message() {
    let blobs = Arc::new(MemoryBlobs::new());
    let rasters = Rasters::new(blobs.clone(), 1 << 24);
    let stage = Compose::new(ComposeOptions::default(), rasters.clone());
    let (picture, matte) = disc(300, 200, [200, 10, 10], [10, 200, 10]);
    let (_, other_matte) = disc(200, 300, [0; 3], [0; 3]);
    let (pixels, alpha) = (
        rasters.put(picture).await.unwrap(),
        rasters.put(matte).await.unwrap(),
    );
    let other_alpha = rasters.put(other_matte).await.unwrap();
    let missing = BlobRef {
        key: BlobKey::from_digest([9; 32]),
        ..alpha.clone()
    };
    let mut as_webp = message(&pixels, &alpha, Background::Transparent);
    as_webp.data.image.options.output.format = ImageFormat::Webp;
    let batch = vec![
        message(&pixels, &alpha, Background::Transparent),
        message(&pixels, &other_alpha, Background::Transparent),
        message(&pixels, &missing, Background::Transparent),
        message(
            &pixels,
            &alpha,
            Background::Url("https://a.example/b.png".into()),
        ),
        as_webp,
    ];
    let outcomes = stage.handle(batch).await.unwrap();
    assert_eq!(outcomes.len(), 5);
    for (index, media_type) in [(0, "image/png"), (4, "image/webp")] {
        let Outcome::Emit(emissions) = &outcomes[index] else {
            panic!("{:?}", outcomes[index])
        };
        let [Emission::Event(Event::ImageComposed(event))] = emissions.as_slice() else {
            panic!("{emissions:?}")
        };
        assert_eq!(
            (
                event.result.width,
                event.result.height,
                event.result.media_type.as_str()
            ),
            (300, 200, media_type)
        );
        assert_eq!((event.thumbnail.width, event.thumbnail.height), (256, 171));
        assert_eq!(event.alpha.media_type, "image/png");
        for reference in [&event.result, &event.thumbnail, &event.alpha] {
            let file = blobs.get(&reference.key).await.unwrap();
            assert_eq!(file.len() as u64, reference.bytes);
            assert!(image::load_from_memory(&file).is_ok());
        }
    }
    for (index, code, pointer) in [
        (1, ErrorCode::InvalidRequest, Some("/alpha")),
        (2, ErrorCode::NotFound, None),
        (3, ErrorCode::InvalidRequest, Some("/background")),
    ] {
        let Outcome::Reject(failure) = &outcomes[index] else {
            panic!("{:?}", outcomes[index])
        };
        assert_eq!(
            (failure.body.code, failure.body.details.pointer.as_deref()),
            (code, pointer)
        );
    }
}

#[tokio::test]
async fn a_repeat_finds_its_blobs_already_there() {
    let blobs = Arc::new(MemoryBlobs::new());
    let rasters = Rasters::new(blobs.clone(), 0);
    let stage = Compose::new(ComposeOptions::default(), rasters.clone());
    let (picture, matte) = disc(300, 200, [200, 10, 10], [10, 200, 10]);
    let (pixels, alpha) = (
        rasters.put(picture).await.unwrap(),
        rasters.put(matte).await.unwrap(),
    );
    let repeated = message(&pixels, &alpha, Background::Color([1, 2, 3, 255]));
    let first = stage.handle(vec![repeated.clone()]).await.unwrap();
    assert_eq!(first, stage.handle(vec![repeated]).await.unwrap());
}

#[tokio::test]
async fn colours_that_are_known_are_taken_as_they_are() {
    let rasters = Rasters::new(Arc::new(MemoryBlobs::new()), 1 << 24);
    let stage = Compose::new(ComposeOptions::default(), rasters.clone());
    let (picture, matte) = disc(60, 60, [200, 10, 10], [10, 200, 10]);
    // No estimate from a red disc on green would come to this.
    let known: Vec<u8> = matte
        .data()
        .iter()
        .flat_map(|alpha| [1, 2, 250, *alpha])
        .collect();
    let foreground = Raster::new(60, 60, Channels::Rgba, known).unwrap();
    let (pixels, alpha) = (
        rasters.put(picture).await.unwrap(),
        rasters.put(matte.clone()).await.unwrap(),
    );
    let mut message = message(&pixels, &alpha, Background::Transparent);
    message.data.foreground = Some(rasters.put(foreground).await.unwrap());
    let outcomes = stage.handle(vec![message]).await.unwrap();
    let Outcome::Emit(emissions) = &outcomes[0] else {
        panic!("{:?}", outcomes[0])
    };
    let [Emission::Event(Event::ImageComposed(event))] = emissions.as_slice() else {
        panic!("{emissions:?}")
    };
    let file = rasters.blobs().get(&event.result.key).await.unwrap();
    let result = image::load_from_memory(&file).unwrap().into_rgba8();
    for (pixel, alpha) in result.pixels().zip(matte.data()) {
        let expected = if *alpha == 0 {
            [0; 4]
        } else {
            [1, 2, 250, *alpha]
        };
        assert_eq!(pixel.0, expected);
    }
}

#[tokio::test]
async fn the_mark_that_the_event_refers_to_is_laid_on() {
    let blobs = Arc::new(MemoryBlobs::new());
    let rasters = Rasters::new(blobs.clone(), 1 << 24);
    let stage = Compose::new(ComposeOptions::default(), rasters.clone());
    let (picture, matte) = disc(300, 200, [200, 10, 10], [10, 200, 10]);
    let (pixels, alpha) = (
        rasters.put(picture).await.unwrap(),
        rasters.put(matte).await.unwrap(),
    );
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(4, 4, image::Rgb([0, 0, 255]))
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    let key = blobs.put(file.into_inner().into()).await.unwrap();
    let mut marked = message(&pixels, &alpha, Background::Color([255; 4]));
    marked.data.image.options.watermark = Some(Watermark {
        opacity: Some(1.0),
        ..Watermark::from_url("https://shop.example/mark.png")
    });
    let without_reference = marked.clone();
    marked.data.watermark = Some(BlobRef {
        key,
        ..alpha.clone()
    });
    let outcomes = stage.handle(vec![marked, without_reference]).await.unwrap();
    let [Outcome::Emit(emissions), Outcome::Reject(failure)] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    let [Emission::Event(Event::ImageComposed(event))] = emissions.as_slice() else {
        panic!("{emissions:?}")
    };
    let result = blobs.get(&event.result.key).await.unwrap();
    let result = image::load_from_memory(&result).unwrap().into_rgb8();
    assert_eq!(result.get_pixel(290, 190).0, [0, 0, 255]);
    assert_eq!(result.get_pixel(2, 2).0, [255; 3]);
    assert_eq!(failure.body.details.pointer.as_deref(), Some("/watermark"));
}
