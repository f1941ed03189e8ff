//! Pictures that come with a trimap, and models that take one.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use atelier_matte::{Matte, MatteOptions};
use atelier_models::ModelStore;
use atelier_runtime::{Message, Outcome, Stage as _};
use atelier_schemas::{
    ErrorCode, Kind, Quality, TaskOptions,
    events::{Detection, ImageClassified, Strategy},
    matting::TrimapOrigin,
};
use atelier_stores::{Raster, Rasters, raster::Channels};

use support::*;

/// The disc's trimap: unknown is a ring around its edge.
fn ring(width: u32, height: u32) -> Raster {
    let mut levels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (right, down) = (
                x as f32 - width as f32 / 2.0,
                y as f32 - height as f32 / 2.0,
            );
            levels.push(match right.hypot(down) / (height as f32 / 4.0) {
                ..0.8 => 255,
                1.2.. => 0,
                _ => 128,
            });
        }
    }
    Raster::new(width, height, Channels::Gray, levels).unwrap()
}

async fn with_trimap(
    rasters: &Rasters,
    picture: Raster,
    options: TaskOptions,
) -> Message<ImageClassified> {
    let trimap = ring(picture.width(), picture.height());
    let mut message = message(rasters, picture, Strategy::Segmentation, options).await;
    message.data.trimap = Some(rasters.put(trimap).await.unwrap());
    message
}

/// A stage that has no models loaded, and those of `brought` in its folder.
async fn stage_with(rasters: &Rasters, brought: &[(&str, &str)]) -> (tempfile::TempDir, Matte) {
    let pulled = ModelStore::open(None).unwrap();
    let runtime = runtime(&pulled);
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
    let exports = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tests/exports");
    for (name, export) in brought {
        let file = store.path(store.catalogue().find(name).unwrap());
        std::fs::copy(exports.join(format!("{export}.onnx")), file).unwrap();
    }
    let options = MatteOptions {
        preload: Vec::new(),
        ..MatteOptions::default()
    };
    let stage = Matte::start(options, store, runtime, rasters.clone(), cache()).await;
    (folder, stage.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_with_a_trimap_is_solved_without_any_network() {
    let rasters = rasters();
    let (_folder, stage) = stage_with(&rasters, &[]).await;
    let picture = disc(200, 160, Channels::Rgb);
    let batch = vec![with_trimap(&rasters, picture, TaskOptions::default()).await];
    let outcomes = stage.handle(batch).await.unwrap();
    let matted = matted(&outcomes[0]);
    assert_eq!(
        (matted.model.name.as_str(), matted.model.processor.as_str()),
        ("closed-form", "trimap")
    );
    let matting = matted.matting.as_ref().unwrap();
    let trimap = matting.trimap.as_ref().unwrap();
    assert_eq!(trimap.origin, TrimapOrigin::Given);
    assert!((0.05..0.2).contains(&trimap.unknown_share), "{trimap:?}");
    assert!(matting.confidence > 0.9 && !matting.steps.is_empty());
    // The disc's edge is where its colours change, in the middle of the ring.
    let alpha = alpha(&rasters, &outcomes[0]).await;
    let row = alpha.row(80);
    assert_eq!((row[100], row[190]), (255, 0));
    assert!(row[138] > 250 && row[142] < 5, "{} {}", row[138], row[142]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_transparent_in_the_picture_stays_so() {
    let rasters = rasters();
    let (_folder, stage) = stage_with(&rasters, &[("vitmatte-small", "vitmatte")]).await;
    for options in [TaskOptions::default(), named("vitmatte-small")] {
        let picture = disc(200, 160, Channels::Rgba);
        let batch = vec![with_trimap(&rasters, picture, options).await];
        let outcomes = stage.handle(batch).await.unwrap();
        let alpha = alpha(&rasters, &outcomes[0]).await;
        assert_eq!((alpha.row(80)[90], alpha.row(80)[110]), (255, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_trimap_is_another_matte() {
    let rasters = rasters();
    let (_folder, stage) = stage_with(&rasters, &[]).await;
    let first = with_trimap(&rasters, disc(80, 60, Channels::Rgb), low()).await;
    let again = with_trimap(&rasters, disc(80, 60, Channels::Rgb), low()).await;
    let mut other = with_trimap(&rasters, disc(80, 60, Channels::Rgb), low()).await;
    let levels = (0..80 * 60).map(|place| if place < 2_400 { 255 } else { 0 });
    let halves = Raster::new(80, 60, Channels::Gray, levels.collect()).unwrap();
    other.data.trimap = Some(rasters.put(halves.clone()).await.unwrap());
    let mut outcomes = Vec::new();
    for message in [first, again, other] {
        outcomes.extend(stage.handle(vec![message]).await.unwrap());
    }
    assert!(matted(&outcomes[1]).model.reused && !matted(&outcomes[2]).model.reused);
    assert_eq!(matted(&outcomes[0]).alpha, matted(&outcomes[1]).alpha);
    assert_eq!(alpha(&rasters, &outcomes[2]).await.data(), halves.data());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_takes_a_trimap_gets_the_given_one() {
    let rasters = rasters();
    let brought = [
        ("vitmatte-small", "vitmatte"),
        ("trimap_custom", "image-trimap"),
    ];
    let (_folder, stage) = stage_with(&rasters, &brought).await;
    for (name, _) in brought {
        let picture = disc(200, 160, Channels::Rgb);
        let batch = vec![with_trimap(&rasters, picture, named(name)).await];
        let outcomes = stage.handle(batch).await.unwrap();
        let matted = matted(&outcomes[0]);
        assert_eq!(matted.model.name, name);
        let matting = matted.matting.as_ref().unwrap();
        assert_eq!(matting.trimap.as_ref().unwrap().origin, TrimapOrigin::Given);
        let steps: Vec<&str> = matting
            .steps
            .iter()
            .map(|step| step.name.as_str())
            .collect();
        assert_eq!(steps, [name, "finish"]);
        // In the ring the tiny networks give the square of the luma: the disc's there, and nearly nothing beside it.
        let alpha = alpha(&rasters, &outcomes[0]).await;
        let row = alpha.row(80);
        // Nearly: `auto` may calculate in bfloat16.
        let square = |level: f32| (level / 255.0).powi(2);
        let luma = 0.299 * square(230.0) + 0.587 * square(60.0) + 0.114 * square(40.0);
        assert!(
            (f32::from(row[136]) - 255.0 * luma).abs() < 2.0,
            "{}",
            row[136]
        );
        assert_eq!((row[100], row[190]), (255, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_takes_a_trimap_gets_one_of_the_qualitys_network_otherwise() {
    let rasters = rasters();
    let brought = [
        ("vitmatte-small", "vitmatte"),
        ("isnet-general-use", "isnet"),
        ("u2net", "u2net"),
    ];
    let (_folder, stage) = stage_with(&rasters, &brought).await;
    for (quality, coarse) in [
        (Quality::High, "isnet-general-use"),
        (Quality::Medium, "u2net"),
    ] {
        let options = TaskOptions {
            quality,
            ..named("vitmatte-small")
        };
        // White on black, so that the tiny coarse networks are sure.
        let mut pixels = vec![0; 300 * 200 * 3];
        for y in 50..150 {
            pixels[(y * 300 + 100) * 3..(y * 300 + 200) * 3].fill(255);
        }
        let picture = Raster::new(300, 200, Channels::Rgb, pixels).unwrap();
        let message = message(&rasters, picture, Strategy::Segmentation, options).await;
        let outcomes = stage.handle(vec![message]).await.unwrap();
        let matting = matted(&outcomes[0]).matting.as_ref().unwrap();
        assert_eq!(matting.trimap.as_ref().unwrap().origin, TrimapOrigin::Made);
        let steps: Vec<&str> = matting
            .steps
            .iter()
            .map(|step| step.name.as_str())
            .collect();
        assert_eq!(steps, [coarse, "vitmatte-small", "finish"]);
        let alpha = alpha(&rasters, &outcomes[0]).await;
        assert_eq!((alpha.row(100)[150], alpha.row(100)[20]), (255, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn around_a_head_more_is_left_unknown() {
    let rasters = rasters();
    let (folder, stage) = stage_with(&rasters, &[("vitmatte-small", "vitmatte")]).await;
    let pulled = ModelStore::open(None).unwrap();
    for name in ["u2netp", "pose_landmarks33"] {
        let file = pulled.path(pulled.catalogue().find(name).unwrap());
        std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/astronaut.jpg");
    let picture = image::open(sample).unwrap().into_rgb8();
    let (width, height) = picture.dimensions();
    let picture = Raster::new(width, height, Channels::Rgb, picture.into_raw()).unwrap();
    let face = Detection {
        label: "face".to_owned(),
        score: 0.93,
        x: 180.0,
        y: 61.0,
        width: 89.0,
        height: 113.0,
    };
    let matte = async |kind: Kind| {
        let options = TaskOptions {
            quality: Quality::Low,
            ..named("vitmatte-small")
        };
        let picture = picture.clone();
        let mut message = message(&rasters, picture, Strategy::Segmentation, options).await;
        message.data.classification.kind = kind;
        message.data.classification.evidence.faces = vec![face.clone()];
        let outcomes = stage.handle(vec![message]).await.unwrap();
        let matting = matted(&outcomes[0]).matting.clone().unwrap();
        (matting, alpha(&rasters, &outcomes[0]).await)
    };
    let (product, without) = matte(Kind::Product).await;
    let (portrait, with) = matte(Kind::Portrait).await;
    let steps: Vec<&str> = portrait
        .steps
        .iter()
        .map(|step| step.name.as_str())
        .collect();
    let expected = ["u2netp", "pose_landmarks33", "vitmatte-small", "finish"];
    assert_eq!(steps, expected);
    assert_eq!(product.steps.len(), 3);
    let points = &portrait.measured.key_points;
    assert!(points.iter().any(|point| point.name == "leftEye"));
    // The tiny network gives what is unknown its shade, and nothing here is quite black or white.
    let unknown = |alpha: &Raster, rows: std::ops::Range<u32>| {
        let levels = rows.flat_map(|y| alpha.row(y)[60..400].to_vec());
        levels.filter(|level| (2..254).contains(level)).count()
    };
    let (head, before) = (unknown(&with, 0..170), unknown(&without, 0..170));
    assert!(2 * head > 3 * before, "{head} of {before}");
    let (body, before) = (unknown(&with, 330..512), unknown(&without, 330..512));
    assert_eq!(body, before, "a body has no hair");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_takes_no_trimap_is_refused_where_one_is_given() {
    let rasters = rasters();
    let (_folder, stage) = stage_with(&rasters, &[]).await;
    for (name, code, said) in [
        ("u2net", ErrorCode::InvalidRequest, "vitmatte-small"),
        ("nothing", ErrorCode::ModelUnavailable, "no model `nothing`"),
    ] {
        let picture = disc(80, 60, Channels::Rgb);
        let batch = vec![with_trimap(&rasters, picture, named(name)).await];
        let outcomes = stage.handle(batch).await.unwrap();
        let Outcome::Reject(failure) = &outcomes[0] else {
            panic!("{:?}", outcomes[0])
        };
        assert_eq!(failure.body.code, code);
        assert!(
            failure.body.message.contains(said),
            "{}",
            failure.body.message
        );
        let pointer = failure.body.details.pointer.as_deref();
        assert_eq!(pointer, Some("/image/options/model"));
    }
}
