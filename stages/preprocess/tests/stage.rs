//! The stage as the runtime calls it: one outcome a message, in order, neighbours unharmed.
#![allow(clippy::unwrap_used)]

mod support;

use std::{io::Cursor, sync::Arc};

use atelier_preprocess::{Preprocess, PreprocessOptions};
use atelier_runtime::{Emission, FailureClass, Message, Outcome, Stage as _};
use atelier_schemas::{
    BlobKey, BlobRef, Envelope, ErrorCode, Event, ImageSource, TaskOptions,
    events::{ImageContext, ImageIngested},
};
use atelier_stores::{Blobs, Rasters, blobs::MemoryBlobs, raster::PAM_MEDIA_TYPE};
use image::{DynamicImage, ImageFormat, RgbImage};
use support::rgb_gradient;
use uuid::Uuid;

fn png() -> Vec<u8> {
    let image = RgbImage::from_raw(40, 30, rgb_gradient(40, 30)).unwrap();
    let mut file = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image)
        .write_to(&mut file, ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

fn message(key: BlobKey, bytes: u64) -> Message<ImageIngested> {
    let (task_id, image_id) = (Uuid::new_v4(), Uuid::new_v4());
    let image = ImageContext {
        task_id,
        image_id,
        index: 0,
        image_count: 1,
        source: ImageSource::default(),
        options: TaskOptions::default(),
        submitted_at: chrono::Utc::now(),
    };
    let original = BlobRef {
        key,
        media_type: "image/png".into(),
        bytes,
        width: 40,
        height: 30,
    };
    Message {
        envelope: Envelope::root(
            "/test",
            "atelier.image.ingested.v1",
            Uuid::new_v4(),
            task_id,
        ),
        data: ImageIngested {
            image,
            original,
            background: None,
            watermark: None,
            trimap: None,
        },
    }
}

#[tokio::test]
async fn a_batch_has_one_outcome_a_message() {
    let blobs = Arc::new(MemoryBlobs::new());
    let rasters = Rasters::new(blobs.clone(), 1 << 24);
    let options = PreprocessOptions {
        max_file_bytes: 100_000,
        ..PreprocessOptions::default()
    };
    let stage = Preprocess::new(options, rasters.clone());
    let good = blobs.put(png().into()).await.unwrap();
    let bad = blobs
        .put(bytes::Bytes::from_static(b"\x89PNG\r\n\x1a\nnot really"))
        .await
        .unwrap();
    let large = blobs.put(vec![0; 100_001].into()).await.unwrap();
    let missing = BlobKey::from_digest([9; 32]);
    let batch = vec![
        message(good.clone(), 1),
        message(bad, 1),
        // The event says one byte; the store knows better.
        message(large, 1),
        message(missing, 1),
        message(good, 1),
    ];
    let outcomes = stage.handle(batch).await.unwrap();
    assert_eq!(outcomes.len(), 5);
    for index in [0, 4] {
        let Outcome::Emit(emissions) = &outcomes[index] else {
            panic!("{:?}", outcomes[index])
        };
        let [Emission::Event(Event::ImagePreprocessed(event))] = emissions.as_slice() else {
            panic!("{emissions:?}")
        };
        assert_eq!(
            (
                event.pixels.width,
                event.pixels.height,
                event.pixels.media_type.as_str()
            ),
            (40, 30, PAM_MEDIA_TYPE)
        );
        assert_eq!(
            rasters.get(&event.pixels).await.unwrap().data(),
            rgb_gradient(40, 30)
        );
        assert!(event.measurements.sharpness > 0.0);
    }
    for (index, code) in [
        (1, ErrorCode::UndecodableImage),
        (2, ErrorCode::ImageTooLarge),
        (3, ErrorCode::NotFound),
    ] {
        let Outcome::Reject(failure) = &outcomes[index] else {
            panic!("{:?}", outcomes[index])
        };
        assert_eq!(
            (failure.class, failure.body.code),
            (FailureClass::Permanent, code)
        );
        assert_eq!(failure.body.details.pointer.as_deref(), Some("/original"));
        assert!(failure.body.details.reason.contains("::"));
    }
}
