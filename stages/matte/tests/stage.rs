//! The stage on real networks: `atelier models pull` first.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use atelier_matte::{Matte, MatteOptions};
use atelier_models::{ModelStore, ProviderChoice, Runtime};
use atelier_runtime::{Emission, Message, Outcome, Stage as _};
use atelier_schemas::{
    Envelope, ErrorCode, Event, ImageSource, Kind, Quality, TaskOptions,
    events::{
        Classification, Evidence, ImageClassified, ImageContext, ImageMatted, Measurements,
        Strategy,
    },
};
use atelier_stores::{
    Cache, Cached, MemoryCache, Raster, Rasters, blobs::MemoryBlobs, raster::Channels,
};
use uuid::Uuid;

/// Only the small model, so that a test starts in no time.
fn options() -> MatteOptions {
    MatteOptions {
        preload: vec!["u2netp".into()],
        ..MatteOptions::default()
    }
}

fn runtime(store: &ModelStore) -> Runtime {
    Runtime::load(store, ProviderChoice::Auto).unwrap_or_else(|error| panic!("{error}"))
}

async fn stage(rasters: &Rasters) -> Matte {
    started(options(), rasters, cache()).await
}

async fn started(options: MatteOptions, rasters: &Rasters, cache: Arc<dyn Cache>) -> Matte {
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

fn cache() -> Arc<dyn Cache> {
    Arc::new(MemoryCache::new(1 << 20))
}

fn rasters() -> Rasters {
    Rasters::new(Arc::new(MemoryBlobs::default()), 64 << 20)
}

/// A bright disc on a dark ground, as RGB, or as RGBA whose right half is transparent.
fn disc(width: u32, height: u32, channels: Channels) -> Raster {
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

async fn message(
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

fn low() -> TaskOptions {
    TaskOptions {
        quality: Quality::Low,
        ..TaskOptions::default()
    }
}

fn named(model: &str) -> TaskOptions {
    TaskOptions {
        model: Some(model.into()),
        ..TaskOptions::default()
    }
}

fn matted(outcome: &Outcome) -> &ImageMatted {
    match outcome {
        Outcome::Emit(emissions) => match emissions.as_slice() {
            [Emission::Event(Event::ImageMatted(matted))] => matted,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

async fn alpha(rasters: &Rasters, outcome: &Outcome) -> Arc<Raster> {
    rasters.get(&matted(outcome).alpha).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_matted_in_order_and_the_same_every_time() {
    let rasters = rasters();
    let options = MatteOptions {
        reuse_hours: 0,
        ..options()
    };
    let stage = started(options, &rasters, cache()).await;
    let mut batch = Vec::new();
    for width in [200, 320, 411, 200] {
        let picture = disc(width, 200, Channels::Rgb);
        batch.push(message(&rasters, picture, Strategy::Segmentation, low()).await);
    }
    let outcomes = stage.handle(batch).await.unwrap();
    for (outcome, width) in outcomes.iter().zip([200, 320, 411, 200]) {
        let alpha = alpha(&rasters, outcome).await;
        assert_eq!(
            (alpha.width(), alpha.height(), alpha.channels()),
            (width, 200, Channels::Gray)
        );
        assert!(alpha.row(100)[width as usize / 2] > 200 && alpha.row(2)[2] < 30);
        assert_eq!(matted(outcome).model.name, "u2netp");
        assert!(matted(outcome).model.inference_ms > 0.0);
        let matting = matted(outcome).matting.as_ref().unwrap();
        assert_eq!(matting.processor, Kind::Product);
        assert!(matting.confidence > 0.5 && matting.no_subject.is_none());
        let steps: Vec<&str> = matting
            .steps
            .iter()
            .map(|step| step.name.as_str())
            .collect();
        assert_eq!(steps, ["prepare", "u2netp", "finish"]);
    }
    assert_eq!(matted(&outcomes[0]).alpha, matted(&outcomes[3]).alpha);
}

#[tokio::test(flavor = "multi_thread")]
async fn quality_high_is_refined_and_a_named_model_works_alone() {
    let rasters = rasters();
    let stage = stage(&rasters).await;
    let steps = async |options: TaskOptions| {
        let picture = disc(300, 200, Channels::Rgb);
        let message = message(&rasters, picture, Strategy::Segmentation, options).await;
        let outcomes = stage.handle(vec![message]).await.unwrap();
        let matted = matted(&outcomes[0]);
        assert_eq!(matted.model.name, "isnet-general-use");
        let steps = &matted.matting.as_ref().unwrap().steps;
        let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        let networks_ms: f64 = steps[1..steps.len() - 1].iter().map(|step| step.ms).sum();
        assert!((matted.model.inference_ms - networks_ms).abs() < 1e-6);
        names
    };
    let high = TaskOptions::default();
    let named = TaskOptions {
        model: Some("isnet-general-use".into()),
        ..TaskOptions::default()
    };
    // A disc leaves nothing in doubt, so U²-Netp is not asked.
    assert_eq!(
        steps(high).await,
        ["prepare", "isnet-general-use", "refiner", "finish"]
    );
    assert_eq!(
        steps(named).await,
        ["prepare", "isnet-general-use", "finish"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_nothing_comes_back_whole_and_says_why() {
    let rasters = rasters();
    let stage = stage(&rasters).await;
    for quality in [Quality::Low, Quality::High] {
        let blank = Raster::new(200, 100, Channels::Rgb, vec![128; 60_000]).unwrap();
        let options = TaskOptions {
            quality,
            ..TaskOptions::default()
        };
        let message = message(&rasters, blank, Strategy::Segmentation, options).await;
        let outcomes = stage.handle(vec![message]).await.unwrap();
        assert!(
            alpha(&rasters, &outcomes[0])
                .await
                .data()
                .iter()
                .all(|alpha| *alpha == 255)
        );
        let matting = matted(&outcomes[0]).matting.as_ref().unwrap();
        assert!(matting.no_subject.is_some(), "{matting:?}");
        assert_eq!(matting.confidence, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_the_same_time_give_the_same_mattes() {
    let rasters = rasters();
    let options = MatteOptions {
        intra_threads: 1,
        max_concurrent_runs: 2,
        reuse_hours: 0,
        ..options()
    };
    let stage = started(options, &rasters, cache()).await;
    let mut batch = Vec::new();
    for _ in 0..4 {
        batch.push(
            message(
                &rasters,
                disc(320, 240, Channels::Rgb),
                Strategy::Segmentation,
                low(),
            )
            .await,
        );
    }
    let outcomes = stage.handle(batch).await.unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| matted(outcome).alpha == matted(&outcomes[0]).alpha)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pictures_own_alpha_is_kept_or_taken_into_account() {
    let rasters = rasters();
    let stage = stage(&rasters).await;
    let picture = || disc(320, 240, Channels::Rgba);
    let batch = vec![
        message(&rasters, picture(), Strategy::KeepAlpha, low()).await,
        message(&rasters, picture(), Strategy::Segmentation, low()).await,
        message(&rasters, picture(), Strategy::KeepAlpha, named("u2netp")).await,
        message(
            &rasters,
            disc(320, 240, Channels::Rgb),
            Strategy::KeepAlpha,
            low(),
        )
        .await,
    ];
    let outcomes = stage.handle(batch).await.unwrap();
    let kept = alpha(&rasters, &outcomes[0]).await;
    assert_eq!(
        (kept.row(2)[2], kept.row(120)[120], kept.row(120)[300]),
        (255, 255, 0)
    );
    assert_eq!(matted(&outcomes[0]).model.name, "own-alpha");
    for outcome in &outcomes[1..3] {
        let cut = alpha(&rasters, outcome).await;
        assert!(
            cut.row(120)[150] > 200 && cut.row(2)[2] < 30,
            "the disc's left half is cut out"
        );
        assert_eq!(cut.row(120)[170], 0, "what was transparent stays so");
        assert_eq!(matted(outcome).model.name, "u2netp");
    }
    assert!(
        matches!(&outcomes[3], Outcome::Reject(failure) if failure.body.details.reason == "MatteError::NoAlpha")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_cannot_be_used_are_rejected_beside_a_neighbour_that_can() {
    let rasters = rasters();
    let stage = stage(&rasters).await;
    let mut batch = Vec::new();
    for options in [
        named("photoshop"),
        named("sam"),
        named("yunet"),
        named("birefnet-cod"),
        low(),
    ] {
        batch.push(
            message(
                &rasters,
                disc(100, 80, Channels::Rgb),
                Strategy::Segmentation,
                options,
            )
            .await,
        );
    }
    let outcomes = stage.handle(batch).await.unwrap();
    let expected = [
        "isnet-general-use, u2net, u2netp",
        "no matting model",
        "no matting model",
        "/birefnet-cod.onnx",
    ];
    for (outcome, words) in outcomes.iter().zip(expected) {
        let Outcome::Reject(failure) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(failure.body.code, ErrorCode::ModelUnavailable);
        assert_eq!(
            failure.body.details.pointer.as_deref(),
            Some("/image/options/model")
        );
        assert!(
            failure.body.message.contains(words),
            "{}",
            failure.body.message
        );
    }
    assert_eq!(matted(&outcomes[4]).model.name, "u2netp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_model_is_loaded_when_it_is_first_asked_for() {
    let rasters = rasters();
    let nothing_preloaded = MatteOptions {
        preload: Vec::new(),
        ..MatteOptions::default()
    };
    let stage = started(nothing_preloaded, &rasters, cache()).await;
    for model in ["u2netp", "u2net", "u2netp"] {
        let message = message(
            &rasters,
            disc(100, 80, Channels::Rgb),
            Strategy::Segmentation,
            named(model),
        )
        .await;
        assert_eq!(
            matted(&stage.handle(vec![message]).await.unwrap()[0])
                .model
                .name,
            model
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pixels_that_are_gone_are_rejected() {
    let rasters = rasters();
    let stage = stage(&rasters).await;
    let mut gone = message(
        &rasters,
        disc(100, 80, Channels::Rgb),
        Strategy::Segmentation,
        low(),
    )
    .await;
    gone.data.pixels.key = "0".repeat(64).parse().unwrap();
    let outcomes = stage.handle(vec![gone]).await.unwrap();
    assert!(
        matches!(&outcomes[0], Outcome::Reject(failure) if failure.body.code == ErrorCode::NotFound)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_default_model_is_an_error_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let pulled = ModelStore::open(None).unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    let runtime = runtime(&pulled);
    let start = |options| Matte::start(options, store.clone(), runtime.clone(), rasters(), cache());
    let message = start(options()).await.err().unwrap().to_string();
    assert_eq!(
        message,
        "model `u2netp` is not there: run `atelier models pull u2netp`"
    );
    let unknown = MatteOptions {
        preload: vec!["nothing".into()],
        ..MatteOptions::default()
    };
    let error = Matte::start(unknown, pulled, runtime, rasters(), cache())
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("there is no model `nothing`"),
        "{error}"
    );
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_flat_graphic_runs_no_network_and_another_goes_to_the_next_processor() {
    let rasters = rasters();
    let stage = stage(&rasters).await;
    let ramp = (0..200 * 200).flat_map(|index| [(index % 200) as u8, (index / 200) as u8, 90]);
    let ramp = Raster::new(200, 200, Channels::Rgb, ramp.collect()).unwrap();
    let one_color = Raster::new(9, 7, Channels::Rgb, vec![80; 9 * 7 * 3]).unwrap();
    let mut batch = Vec::new();
    for (picture, options) in [
        (disc(320, 240, Channels::Rgb), low()),
        (ramp, low()),
        (disc(320, 240, Channels::Rgb), named("u2netp")),
        (one_color, low()),
        (disc(320, 240, Channels::Rgba), low()),
    ] {
        let mut message = message(&rasters, picture, Strategy::FlatColor, options).await;
        message.data.classification.kind = Kind::Graphic;
        batch.push(message);
    }
    let outcomes = stage.handle(batch).await.unwrap();
    let reports: Vec<_> = outcomes
        .iter()
        .map(|outcome| matted(outcome).matting.clone().unwrap())
        .collect();
    assert_eq!(matted(&outcomes[0]).model.name, "flat-colors");
    assert_eq!(reports[0].processor, Kind::Graphic);
    let colors = matted(&outcomes[0]).foreground.as_ref().unwrap();
    let colors = rasters.get(colors).await.unwrap();
    assert_eq!(colors.row(120)[160 * 4..161 * 4], [230, 60, 40, 255]);
    assert_eq!(colors.row(2)[11], 0);
    for (report, words) in [(&reports[1], "of its border"), (&reports[2], "`u2netp`")] {
        assert_eq!(report.processor, Kind::Product);
        let fell_back = report.fell_back.as_ref().unwrap();
        assert_eq!(fell_back.from, Kind::Graphic);
        assert!(fell_back.reason.contains(words), "{}", fell_back.reason);
    }
    assert!(matted(&outcomes[1]).foreground.is_none());
    assert!(reports[3].no_subject.is_some());
    let whole = alpha(&rasters, &outcomes[3]).await;
    assert!(whole.data().iter().all(|alpha| *alpha == 255));
    let own = alpha(&rasters, &outcomes[4]).await;
    assert_eq!(
        (own.row(120)[150], own.row(120)[170], own.row(2)[2]),
        (255, 0, 0),
        "what was transparent stays so"
    );
}
