//! People, and what of a picture is the subject, on real networks: `atelier models pull` first.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use atelier_matte::MatteOptions;
use atelier_runtime::Stage as _;
use atelier_schemas::{
    Kind, Quality, TaskOptions,
    events::{Evidence, ImageMatted, Strategy},
};
use atelier_stores::{Raster, Rasters, raster::Channels};
use image::{RgbImage, imageops};

use support::*;

/// An astronaut with her helmet on the left, a naval officer on the right.
fn two_people() -> RgbImage {
    let left = sample("astronaut.jpg");
    let right = imageops::resize(
        &sample("naval-officer.jpg"),
        437,
        512,
        imageops::FilterType::Triangle,
    );
    let mut both = RgbImage::new(512 + 437, 512);
    imageops::replace(&mut both, &left, 0, 0);
    imageops::replace(&mut both, &right, 512, 0);
    both
}

/// What `classify` finds in the two people.
fn their_evidence() -> Evidence {
    Evidence {
        faces: vec![
            found("face", 0.94, [664.0, 93.0, 816.0, 277.0]),
            found("face", 0.93, [180.0, 61.0, 269.0, 174.0]),
        ],
        objects: vec![
            found("person", 0.94, [520.0, 28.0, 947.0, 500.0]),
            found("person", 0.87, [4.0, 14.0, 362.0, 502.0]),
        ],
        ..Evidence::default()
    }
}

fn options(quality: Quality, subject: &str) -> TaskOptions {
    TaskOptions {
        quality,
        subject: subject.parse().unwrap(),
        ..TaskOptions::default()
    }
}

struct Bench {
    rasters: Rasters,
    stage: atelier_matte::Matte,
}

/// One for all tests, because the networks take seconds to load.
static BENCH: tokio::sync::OnceCell<Bench> = tokio::sync::OnceCell::const_new();

impl Bench {
    async fn shared() -> &'static Self {
        BENCH.get_or_init(|| Self::new(0)).await
    }

    async fn new(reuse_hours: u32) -> Self {
        let rasters = rasters();
        let options = MatteOptions {
            preload: vec!["u2netp".into()],
            reuse_hours,
            ..MatteOptions::default()
        };
        let stage = started(options, &rasters, cache()).await;
        Self { rasters, stage }
    }

    async fn matte(
        &self,
        picture: Raster,
        kind: Kind,
        evidence: Evidence,
        options: TaskOptions,
    ) -> (ImageMatted, Arc<Raster>) {
        let mut message = message(&self.rasters, picture, Strategy::Segmentation, options).await;
        message.data.classification.kind = kind;
        message.data.classification.evidence = evidence;
        let outcomes = self.stage.handle(vec![message]).await.unwrap();
        let alpha = alpha(&self.rasters, &outcomes[0]).await;
        (matted(&outcomes[0]).clone(), alpha)
    }

    async fn two_people(&self, quality: Quality, subject: &str) -> (ImageMatted, Arc<Raster>) {
        let options = options(quality, subject);
        self.matte(
            raster(two_people()),
            Kind::Portrait,
            their_evidence(),
            options,
        )
        .await
    }
}

/// The alphas of her face and her helmet, of his face and of his coat.
fn of_two(alpha: &Raster) -> [u8; 4] {
    let at = |x: usize, y: u32| alpha.row(y)[x];
    [at(225, 115), at(390, 440), at(740, 185), at(720, 480)]
}

fn steps(matted: &ImageMatted) -> Vec<&str> {
    let steps = &matted.matting.as_ref().unwrap().steps;
    steps.iter().map(|step| step.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_the_people_are_the_subject_unless_one_is_chosen() {
    let bench = Bench::shared().await;
    for quality in [Quality::High, Quality::Low] {
        // The small network of quality low does not see her helmet.
        let sees_helmet = quality == Quality::High;
        let (_, all) = bench.two_people(quality, "all").await;
        let [her_face, her_helmet, his_face, his_coat] = of_two(&all);
        assert!(
            her_face > 200 && his_face > 200 && his_coat > 200,
            "{quality:?}"
        );
        assert!(her_helmet > 128 || !sees_helmet, "{her_helmet}");
        let (_, alpha) = bench.two_people(quality, "main").await;
        let [her_face, her_helmet, his_face, his_coat] = of_two(&alpha);
        assert_eq!((her_face, her_helmet), (0, 0), "{quality:?}");
        assert!(his_face > 200 && his_coat > 200, "{quality:?}");
        // The rectangle ends within her arm: it chooses, and does not cut.
        let (_, alpha) = bench.two_people(quality, "0% 0% 32% 100%").await;
        let [her_face, her_helmet, his_face, his_coat] = of_two(&alpha);
        assert!(her_face > 200, "{quality:?}");
        assert!(
            her_helmet > 128 || !sees_helmet,
            "what she holds is hers: {quality:?} {her_helmet}"
        );
        assert_eq!((his_face, his_coat), (0, 0), "{quality:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matte_of_one_subject_is_not_used_for_another() {
    let bench = Bench::new(1).await;
    let reused = async |subject: &str| bench.two_people(Quality::Low, subject).await.0.model.reused;
    assert!(!reused("all").await);
    assert!(!reused("main").await);
    assert!(!reused("0% 0% 32% 100%").await);
    assert!(reused("main").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_tells_faces_boxes_and_points_of_everybody() {
    let bench = Bench::shared().await;
    let (matted, _) = bench.two_people(Quality::High, "all").await;
    assert_eq!(matted.model.processor, "portrait");
    let matting = matted.matting.as_ref().unwrap();
    assert_eq!(
        (matting.processor, &matting.fell_back),
        (Kind::Portrait, &None)
    );
    assert_eq!(matting.measured.faces.len(), 2);
    assert_eq!(matting.measured.boxes.len(), 2);
    assert!(
        matting
            .measured
            .boxes
            .iter()
            .all(|found| found.label == "person" && found.score > 0.9)
    );
    for (person, face) in [(0, 664.0..816.0), (1, 180.0..269.0)] {
        let points = || {
            let all = matting.measured.key_points.iter();
            all.filter(move |point| point.person == person)
        };
        let nose = points().find(|point| point.name == "nose").unwrap();
        assert!(face.contains(&nose.x), "{nose:?}");
        assert!(points().any(|point| point.name == "leftShoulder"));
        assert!(
            points().all(|point| point.name != "leftAnkle"),
            "no feet are to be seen"
        );
    }
    let expected = [
        "pose_landmarks33",
        "prepare",
        "isnet-general-use",
        "refiner",
        "finish",
    ];
    assert_eq!(steps(&matted), expected);
    let bytes = serde_json::to_vec(matting).unwrap().len();
    assert!(
        bytes < 16 << 10,
        "a report travels in events, and has {bytes} bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_looked_for_only_where_they_decide() {
    let bench = Bench::shared().await;
    let (all, _) = bench.two_people(Quality::Low, "all").await;
    assert_eq!(steps(&all), ["prepare", "u2netp", "finish"]);
    let measured = all.matting.unwrap().measured;
    assert_eq!((measured.faces.len(), measured.boxes.len()), (2, 2));
    let (main, _) = bench.two_people(Quality::Low, "main").await;
    let expected = ["pose_landmarks33", "prepare", "u2netp", "subject", "finish"];
    assert_eq!(steps(&main), expected);
    let named = TaskOptions {
        model: Some("u2netp".into()),
        ..options(Quality::High, "main")
    };
    let picture = raster(two_people());
    let (named, alpha) = bench
        .matte(picture, Kind::Portrait, their_evidence(), named)
        .await;
    assert_eq!(steps(&named), expected);
    assert_eq!(of_two(&alpha)[0], 0, "a model by name has a subject, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portrait_of_nobody_says_so_and_is_cut_out() {
    let bench = Bench::shared().await;
    let in_the_flag = Evidence {
        objects: vec![found("person", 0.5, [0.0, 0.0, 110.0, 200.0])],
        ..Evidence::default()
    };
    for (name, evidence, words) in [
        ("slippers.jpg", Evidence::default(), "nobody was found"),
        ("astronaut.jpg", in_the_flag, "is none"),
    ] {
        let picture = raster(sample(name));
        let (matted, alpha) = bench
            .matte(
                picture,
                Kind::Portrait,
                evidence,
                options(Quality::High, "all"),
            )
            .await;
        let matting = matted.matting.unwrap();
        let fell_back = matting.fell_back.unwrap();
        assert_eq!(
            (fell_back.from, matting.processor),
            (Kind::Portrait, Kind::Product)
        );
        assert!(fell_back.reason.contains(words), "{}", fell_back.reason);
        assert!(matting.no_subject.is_none());
        let there = alpha.data().iter().filter(|alpha| **alpha > 128).count();
        let share = there as f32 / alpha.pixels() as f32;
        assert!((0.05..0.9).contains(&share), "{name} {share}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rectangle_with_nothing_in_it_leaves_the_picture_whole_and_says_why() {
    let bench = Bench::shared().await;
    // The sky between the flag and the officer's hat.
    let nothing = "92% 0% 100% 20%";
    for kind in [Kind::Portrait, Kind::Product] {
        let evidence = their_evidence();
        let (matted, alpha) = bench
            .matte(
                raster(two_people()),
                kind,
                evidence,
                options(Quality::High, nothing),
            )
            .await;
        let reason = matted.matting.unwrap().no_subject.unwrap();
        assert!(reason.contains("`subject`"), "{reason}");
        assert!(alpha.data().iter().all(|alpha| *alpha == 255));
    }
}

/// Discs of these radii at these places on a dark ground.
fn discs(width: u32, height: u32, discs: &[(f32, f32, f32)]) -> Raster {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let is_in = |(at_x, at_y, radius): &(f32, f32, f32)| {
            (x as f32 - at_x).hypot(y as f32 - at_y) < *radius
        };
        let shade = ((x * 7 + y * 3) % 16) as u8;
        if discs.iter().any(is_in) {
            image::Rgb([230 - shade, 60 + shade, 40])
        } else {
            image::Rgb([20 + shade, 30, 60 - shade])
        }
    });
    raster(picture)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_things_one_is_the_subject_where_that_is_asked_for() {
    let bench = Bench::shared().await;
    let two = || discs(400, 200, &[(110.0, 100.0, 60.0), (310.0, 100.0, 40.0)]);
    for (subject, expected) in [
        ("all", [true, true]),
        ("main", [true, false]),
        ("50% 0% 100% 100%", [false, true]),
    ] {
        let (matted, alpha) = bench
            .matte(
                two(),
                Kind::Product,
                Evidence::default(),
                options(Quality::High, subject),
            )
            .await;
        let row = alpha.row(100);
        assert_eq!([row[110] > 200, row[310] > 200], expected, "{subject}");
        assert_eq!(
            [row[110] == 0, row[310] == 0],
            expected.map(|there| !there),
            "{subject}"
        );
        assert!(matted.matting.unwrap().fell_back.is_none());
    }
    // A graphic has no parts, so that it goes to the processor that tells them.
    let (matted, alpha) = bench
        .matte(
            two(),
            Kind::Graphic,
            Evidence::default(),
            options(Quality::Low, "main"),
        )
        .await;
    assert_eq!(alpha.row(100)[310], 0);
    assert!(
        matted
            .matting
            .unwrap()
            .fell_back
            .unwrap()
            .reason
            .contains("`main`")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_small_in_a_large_picture_is_looked_at_twice() {
    let bench = Bench::shared().await;
    let second = |matted: &ImageMatted| {
        let steps = &matted.matting.as_ref().unwrap().steps;
        steps
            .iter()
            .any(|step| step.name == "second look: isnet-general-use")
    };
    for (picture, quality, expected) in [
        (
            discs(1_800, 1_200, &[(600.0, 500.0, 130.0)]),
            Quality::High,
            true,
        ),
        (
            discs(1_800, 1_200, &[(600.0, 500.0, 130.0)]),
            Quality::Low,
            false,
        ),
        // It fills the picture, and this is not shrunk for the networks.
        (
            discs(1_800, 1_200, &[(900.0, 600.0, 500.0)]),
            Quality::High,
            false,
        ),
        (
            discs(600, 400, &[(200.0, 160.0, 45.0)]),
            Quality::High,
            false,
        ),
    ] {
        let size = picture.width();
        let (matted, alpha) = bench
            .matte(
                picture,
                Kind::Product,
                Evidence::default(),
                options(quality, "all"),
            )
            .await;
        assert_eq!(second(&matted), expected, "{size} {quality:?}");
        assert_eq!((alpha.width(), alpha.row(2)[2]), (size, 0));
        let boxes = &matted.matting.unwrap().measured.boxes;
        assert_eq!(boxes[0].label, "salient");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_picture_with_its_own_alpha_the_subject_is_chosen_too() {
    let bench = Bench::shared().await;
    let pixels = (0..40 * 20_usize).flat_map(|place| {
        let x = place % 40;
        let is_there = (2..8).contains(&x) || (15..35).contains(&x);
        [10, 200, 30, if is_there { 255 } else { 0 }]
    });
    let picture = Raster::new(40, 20, Channels::Rgba, pixels.collect()).unwrap();
    for (subject, expected) in [
        ("all", [255, 255]),
        ("main", [0, 255]),
        ("0% 0% 25% 100%", [255, 0]),
    ] {
        let message = message(
            &bench.rasters,
            picture.clone(),
            Strategy::KeepAlpha,
            options(Quality::Low, subject),
        )
        .await;
        let outcomes = bench.stage.handle(vec![message]).await.unwrap();
        let alpha = alpha(&bench.rasters, &outcomes[0]).await;
        assert_eq!([alpha.row(9)[5], alpha.row(9)[25]], expected, "{subject}");
    }
}
