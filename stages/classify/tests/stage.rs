//! The stage on real networks: `atelier models pull` first.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use atelier_classify::{Classifier, ClassifyOptions, ClassifyStage, OpenError};
use atelier_models::ModelStore;
use atelier_runtime::{LocalRunner, Message, Outcome, Stage as _};
use atelier_schemas::{
    BlobKey, Envelope, ErrorCode, Event, ImageSource, Kind, KindChoice, TaskOptions,
    events::{ImageClassified, ImageContext, ImagePreprocessed, Measurements, Strategy},
};
use atelier_stores::{Raster, Rasters, blobs::MemoryBlobs, raster::Channels};
use support::{classifier, logo, models, sample};
use uuid::Uuid;

fn rasters() -> Rasters {
    Rasters::new(Arc::new(MemoryBlobs::default()), 64 << 20)
}

fn stage(rasters: &Rasters) -> ClassifyStage {
    let (store, runtime) = models();
    ClassifyStage::open(
        ClassifyOptions::default(),
        rasters.clone(),
        &store,
        &runtime,
    )
    .unwrap_or_else(|error| panic!("{error}"))
}

async fn preprocessed(rasters: &Rasters, picture: Raster, kind: KindChoice) -> ImagePreprocessed {
    let pixels = rasters.put(picture).await.unwrap();
    ImagePreprocessed {
        image: ImageContext {
            task_id: Uuid::from_u128(1),
            image_id: Uuid::from_u128(2),
            index: 0,
            image_count: 1,
            // A name that lies: it must not matter.
            source: ImageSource {
                name: Some("portrait-of-a-person.svg".into()),
                ..ImageSource::default()
            },
            options: TaskOptions {
                kind,
                ..TaskOptions::default()
            },
            submitted_at: chrono::DateTime::UNIX_EPOCH,
        },
        original: pixels.clone(),
        background: None,
        watermark: Some(pixels.clone()),
        trimap: Some(pixels.clone()),
        pixels,
        measurements: Measurements {
            sharpness: 12.5,
            ..Measurements::default()
        },
    }
}

#[test]
fn without_networks_a_person_is_a_product_of_which_nothing_is_known() {
    let (_, runtime) = models();
    // A folder where no network lies.
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().into())).unwrap();
    let options = ClassifyOptions {
        networks: false,
        ..ClassifyOptions::default()
    };
    let classifier = Classifier::open(options, &store, &runtime).unwrap();
    for (picture, kind) in [
        (sample("naval-officer.jpg"), Kind::Product),
        (logo(), Kind::Graphic),
    ] {
        let found = classifier.classify(&picture, KindChoice::Auto).unwrap();
        assert_eq!(found.classification.kind, kind);
        let known = found.classification.evidence;
        assert!(known.faces.is_empty() && known.objects.is_empty() && known.labels.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_becomes_the_next_with_all_it_carried() {
    let rasters = rasters();
    let input = preprocessed(&rasters, sample("jacket.jpg"), KindChoice::Auto).await;
    let mut runner = LocalRunner::new(vec![Arc::new(stage(&rasters))]);
    runner.submit(input.clone()).unwrap();
    runner.run().await;
    assert!(runner.dead_letters("classify").is_empty());
    let events = runner.events("images-classified").unwrap();
    let [(_, Event::ImageClassified(classified))] = events.as_slice() else {
        panic!("{events:?}")
    };
    let ImageClassified {
        image,
        original,
        background,
        watermark,
        pixels,
        measurements,
        trimap,
        classification,
    } = classified.clone();
    assert_eq!(
        ImagePreprocessed {
            image,
            original,
            background,
            watermark,
            pixels,
            measurements,
            trimap
        },
        input
    );
    assert_eq!(
        (classification.kind, classification.forced),
        (Kind::Product, false)
    );
    assert!(!classification.evidence.labels.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pixels_that_are_gone_are_the_messages_fault_and_say_so() {
    let rasters = rasters();
    let mut input = preprocessed(&rasters, logo(), KindChoice::Auto).await;
    input.pixels.key = BlobKey::from_digest([7; 32]);
    let envelope = Envelope::root(
        "test",
        "atelier.image.preprocessed.v1",
        Uuid::from_u128(2),
        Uuid::from_u128(1),
    );
    let outcomes = stage(&rasters)
        .handle(vec![Message {
            envelope,
            data: input,
        }])
        .await
        .unwrap();
    let [Outcome::Reject(failure)] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    assert_eq!(failure.body.code, ErrorCode::NotFound);
    assert_eq!(failure.body.details.pointer.as_deref(), Some("/pixels"));
}

#[test]
fn the_same_picture_is_classified_the_same_way() {
    let classifier = classifier();
    for name in ["dress.jpg", "lemur.png"] {
        let picture = sample(name);
        let first = classifier
            .classify(&picture, KindChoice::Auto)
            .unwrap()
            .classification;
        let second = classifier
            .classify(&picture, KindChoice::Auto)
            .unwrap()
            .classification;
        assert_eq!(first, second, "{name}");
    }
}

#[test]
fn the_samples_are_products_and_fur_asks_for_matting() {
    let classifier = classifier();
    for (name, strategy) in [
        ("dress.jpg", Strategy::Segmentation),
        ("jacket.jpg", Strategy::Segmentation),
        ("slippers.jpg", Strategy::Segmentation),
        ("lemur.png", Strategy::SegmentationWithMatting),
    ] {
        let found = classifier
            .classify(&sample(name), KindChoice::Auto)
            .unwrap()
            .classification;
        assert_eq!(
            (found.kind, found.strategy),
            (Kind::Product, strategy),
            "{name}: {found:?}"
        );
        assert!(
            (0.0..=1.0).contains(&found.complexity) && found.confidence > 0.4,
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_logo_is_a_graphic_without_a_network_being_asked() {
    let found = classifier().classify(&logo(), KindChoice::Auto).unwrap();
    assert_eq!(
        (found.classification.kind, found.classification.strategy),
        (Kind::Graphic, Strategy::FlatColor)
    );
    assert!(found.classification.confidence >= 0.95 && found.classification.complexity < 0.1);
    assert!(
        found.cost.faces.is_zero() && found.cost.objects.is_zero() && found.cost.labels.is_zero()
    );
}

#[test]
fn a_chosen_kind_is_kept_and_the_rest_is_measured() {
    let classifier = classifier();
    let lemur = sample("lemur.png");
    for (choice, kind, strategy) in [
        (
            KindChoice::Portrait,
            Kind::Portrait,
            Strategy::SegmentationWithMatting,
        ),
        (
            KindChoice::Product,
            Kind::Product,
            Strategy::SegmentationWithMatting,
        ),
        (KindChoice::Graphic, Kind::Graphic, Strategy::Segmentation),
    ] {
        let found = classifier.classify(&lemur, choice).unwrap();
        let classification = &found.classification;
        assert_eq!(
            (
                classification.kind,
                classification.forced,
                classification.confidence
            ),
            (kind, true, 1.0)
        );
        assert_eq!(classification.strategy, strategy, "{classification:?}");
        assert!(
            classification.evidence.soft_gradient_share > 0.1 && classification.complexity > 0.1
        );
        // Faces decide on the kind, which is decided, and tell `matte` where the people of a portrait are.
        assert_eq!(found.cost.faces.is_zero(), choice != KindChoice::Portrait);
    }
}

#[test]
fn a_portraits_people_are_found_whoever_says_that_it_is_one() {
    let classifier = classifier();
    let astronaut = sample("astronaut.jpg");
    let evidence = |choice| {
        let found = classifier.classify(&astronaut, choice).unwrap();
        assert_eq!(found.classification.kind, Kind::Portrait, "{choice:?}");
        found.classification.evidence
    };
    let (found, forced) = (evidence(KindChoice::Auto), evidence(KindChoice::Portrait));
    assert_eq!(found.faces.len(), 1);
    assert!(found.objects.iter().any(|object| object.label == "person"));
    assert_eq!(
        (&forced.faces, &forced.objects),
        (&found.faces, &found.objects)
    );
}

#[test]
fn boxes_are_in_the_pictures_own_pixels() {
    let classifier = classifier();
    let lemur = sample("lemur.png");
    let found = classifier
        .classify(&lemur, KindChoice::Auto)
        .unwrap()
        .classification;
    let (width, height) = (lemur.width() as f32, lemur.height() as f32);
    assert!(!found.evidence.objects.is_empty());
    for object in &found.evidence.objects {
        assert!(object.x >= 0.0 && object.y >= 0.0, "{object:?}");
        assert!(
            object.x + object.width <= width + 0.5 && object.y + object.height <= height + 0.5,
            "{object:?}"
        );
    }
}

#[test]
fn one_pixel_and_thin_pictures_are_classified() {
    let classifier = classifier();
    for (width, height) in [(1, 1), (1, 3_000), (3_000, 1), (2, 2)] {
        for channels in [Channels::Gray, Channels::Rgba] {
            let data = (0..width * height * channels.count() as u32)
                .map(|index| (index * 97 % 251) as u8)
                .collect();
            let raster = Raster::new(width, height, channels, data).unwrap();
            for choice in [KindChoice::Auto, KindChoice::Product] {
                let found = classifier.classify(&raster, choice).unwrap().classification;
                assert!((0.0..=1.0).contains(&found.complexity), "{found:?}");
            }
        }
    }
}

#[test]
fn a_missing_network_names_the_command() {
    let (_, runtime) = models();
    let folder = tempfile::tempdir().unwrap();
    let empty = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    let Err(error) = Classifier::open(ClassifyOptions::default(), &empty, &runtime) else {
        panic!("it opened")
    };
    assert!(
        error
            .to_string()
            .contains("run `atelier models pull yunet`"),
        "{error}"
    );
}

#[test]
fn an_option_out_of_its_range_is_refused_at_start() {
    let (store, runtime) = models();
    let options = ClassifyOptions {
        matting_complexity: 2.0,
        ..ClassifyOptions::default()
    };
    let Err(error) = Classifier::open(options, &store, &runtime) else {
        panic!("it opened")
    };
    assert!(
        matches!(
            error,
            OpenError::NotAShare {
                name: "matting_complexity",
                ..
            }
        ),
        "{error}"
    );
}
