//! The stage on real networks: `atelier models pull` first.
#![allow(clippy::unwrap_used)]

mod support;

use atelier_matte::{Matte, MatteOptions};
use atelier_models::ModelStore;
use atelier_runtime::{Outcome, Stage as _};
use atelier_schemas::{ErrorCode, Kind, Quality, TaskOptions, events::Strategy};
use atelier_stores::{Raster, raster::Channels};

use support::*;

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
async fn pictures_that_share_a_run_get_the_mattes_that_each_gets_alone() {
    let rasters = rasters();
    let mut mattes = Vec::new();
    for network_batch in [1, 3] {
        let options = MatteOptions {
            network_batch,
            max_batch: 6,
            max_concurrent: 1,
            reuse_hours: 0,
            ..options()
        };
        let store = ModelStore::open(None).unwrap();
        // In 32 bits the same to the last bit; what is rounded to eight depends on the order of sums.
        let on_cpu = runtime(&store).on_cpu();
        let stage = Matte::start(options, store, on_cpu, rasters.clone(), cache());
        let stage = stage.await.unwrap();
        let mut batch = Vec::new();
        for width in [200, 320, 411, 250, 300, 280] {
            let picture = disc(width, 200, Channels::Rgb);
            batch.push(message(&rasters, picture, Strategy::Segmentation, low()).await);
        }
        let outcomes = stage.handle(batch).await.unwrap();
        let alphas = outcomes.iter().map(|outcome| matted(outcome).alpha.clone());
        mattes.push(alphas.collect::<Vec<_>>());
    }
    assert_eq!(mattes[0], mattes[1]);
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
