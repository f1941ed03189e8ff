//! People who are small in their picture, which the networks look at by themselves: `atelier models pull` first.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use atelier_matte::{Matte, MatteOptions};
use atelier_runtime::Stage as _;
use atelier_schemas::{
    Kind, TaskOptions,
    events::{Evidence, ImageMatted, Strategy},
};
use atelier_stores::{Raster, Rasters};
use image::{GrayImage, Rgb, RgbImage, imageops};

use support::*;

const WIDTH: u32 = 1_600;
const HEIGHT: u32 = 1_200;

/// Both sides of the astronaut's photograph.
const SIDE: u32 = 512;

/// As large as she is in a small picture of her, and where.
const SMALL_SIDE: u32 = 480;
const LEFT: u32 = 300;
const TOP: u32 = 720;

struct Bench {
    rasters: Rasters,
    stage: Matte,
}

impl Bench {
    async fn new() -> Self {
        let rasters = rasters();
        let options = MatteOptions {
            preload: Vec::new(),
            reuse_hours: 0,
            ..MatteOptions::default()
        };
        let stage = started(options, &rasters, cache()).await;
        Self { rasters, stage }
    }

    /// In quality high.
    async fn matte(
        &self,
        picture: RgbImage,
        kind: Kind,
        evidence: Evidence,
    ) -> (ImageMatted, Arc<Raster>) {
        let (picture, options) = (raster(picture), TaskOptions::default());
        let mut message = message(&self.rasters, picture, Strategy::Segmentation, options).await;
        message.data.classification.kind = kind;
        message.data.classification.evidence = evidence;
        let outcomes = self.stage.handle(vec![message]).await.unwrap();
        let alpha = alpha(&self.rasters, &outcomes[0]).await;
        (matted(&outcomes[0]).clone(), alpha)
    }
}

/// What `classify` finds of the astronaut in a picture of this side in pixels that stands there.
fn her_evidence(side: u32, left: u32, top: u32) -> Evidence {
    let scale = side as f32 / SIDE as f32;
    let (left, top) = (left as f32, top as f32);
    let place = |[x1, y1, x2, y2]: [f32; 4]| {
        [
            x1 * scale + left,
            y1 * scale + top,
            x2 * scale + left,
            y2 * scale + top,
        ]
    };
    Evidence {
        faces: vec![found("face", 0.93, place([180.0, 61.0, 269.0, 174.0]))],
        objects: vec![found("person", 0.87, place([4.0, 14.0, 362.0, 502.0]))],
        ..Evidence::default()
    }
}

/// A meadow under a sky.
fn meadow() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503_655)) >> 24;
        let grain = (grain % 17) as i32 - 8;
        let level = y as i32;
        let color = if y < 820 {
            [140 + level / 14, 170 + level / 20, 225 - level / 40]
        } else {
            [88, 128, 70]
        };
        Rgb(color.map(|level| (level + grain).clamp(0, 255) as u8))
    })
}

/// The astronaut, small on the meadow, and her matte there: she is cut out of her photograph first.
async fn small_on_the_meadow(bench: &Bench) -> (RgbImage, GrayImage) {
    let photograph = sample("astronaut.jpg");
    let evidence = her_evidence(SIDE, 0, 0);
    let (_, alpha) = bench
        .matte(photograph.clone(), Kind::Portrait, evidence)
        .await;
    let alpha = GrayImage::from_raw(SIDE, SIDE, alpha.data().to_vec()).unwrap();
    let filter = imageops::FilterType::Triangle;
    let her = imageops::resize(&photograph, SMALL_SIDE, SMALL_SIDE, filter);
    let her_alpha = imageops::resize(&alpha, SMALL_SIDE, SMALL_SIDE, filter);
    let (mut picture, mut matte) = (meadow(), GrayImage::new(WIDTH, HEIGHT));
    imageops::replace(&mut matte, &her_alpha, i64::from(LEFT), i64::from(TOP));
    for (x, y, alpha) in her_alpha.enumerate_pixels() {
        let under = picture.get_pixel_mut(LEFT + x, TOP + y);
        blend(under, *her.get_pixel(x, y), f32::from(alpha[0]) / 255.0);
    }
    (picture, matte)
}

fn blend(under: &mut Rgb<u8>, over: Rgb<u8>, share: f32) {
    for (under, over) in under.0.iter_mut().zip(over.0) {
        let mixed = f32::from(*under) * (1.0 - share) + f32::from(over) * share;
        *under = mixed.round() as u8;
    }
}

fn steps(matted: &ImageMatted) -> Vec<&str> {
    let steps = &matted.matting.as_ref().unwrap().steps;
    steps.iter().map(|step| step.name.as_str()).collect()
}

/// Sum of absolute differences from a matte, in thousands of pixels.
fn wrong(alpha: &Raster, matte: &GrayImage) -> f64 {
    let pairs = alpha.data().iter().zip(matte.as_raw());
    let levels: u64 = pairs
        .map(|(found, exact)| u64::from(found.abs_diff(*exact)))
        .sum();
    levels as f64 / 255e3
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_small_is_looked_at_by_themselves_once() {
    let bench = Bench::new().await;
    let (picture, matte) = small_on_the_meadow(&bench).await;
    let evidence = her_evidence(SMALL_SIDE, LEFT, TOP);
    let (matted, alpha) = bench.matte(picture, Kind::Portrait, evidence).await;
    let steps = steps(&matted);
    assert!(steps.contains(&"isnet-general-use"), "{steps:?}");
    assert!(
        steps.iter().all(|step| !step.starts_with("wider look: ")),
        "{steps:?}"
    );
    let wrong = wrong(&alpha, &matte);
    assert!(wrong < 1.2, "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_small_person_holds_is_not_cut_in_a_straight_line() {
    let bench = Bench::new().await;
    let (mut picture, _) = small_on_the_meadow(&bench).await;
    // A long pole with a pennant, from her chest to beyond what is looked at of her.
    let (from, to) = ((530.0_f32, 1_000.0_f32), (1_450.0_f32, 560.0_f32));
    let at = |share: f32| {
        (
            from.0 + (to.0 - from.0) * share,
            from.1 + (to.1 - from.1) * share,
        )
    };
    let length = (to.0 - from.0).hypot(to.1 - from.1);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (right, down) = (x as f32 - from.0, y as f32 - from.1);
        let along = (right * (to.0 - from.0) + down * (to.1 - from.1)) / length;
        let beside = (right * (to.1 - from.1) - down * (to.0 - from.0)).abs() / length;
        let is_pole = (0.0..length).contains(&along);
        let is_pennant = (length - 180.0..length - 20.0).contains(&along)
            && down * (to.0 - from.0) > right * (to.1 - from.1);
        let half_width = if is_pennant {
            (along - length + 180.0) * 0.8
        } else {
            12.0
        };
        let share = (half_width - beside + 0.5).clamp(0.0, 1.0);
        if is_pole && share > 0.0 {
            blend(pixel, Rgb([190, 30, 40]), share);
        }
    }
    let evidence = her_evidence(SMALL_SIDE, LEFT, TOP);
    let (matted, alpha) = bench.matte(picture, Kind::Portrait, evidence).await;
    let steps = steps(&matted);
    assert!(
        steps.contains(&"wider look: isnet-general-use"),
        "{steps:?}"
    );
    let level = |(x, y): (f32, f32)| alpha.row(y as u32)[x as usize];
    for share in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97] {
        assert!(level(at(share)) > 200, "{share}: {}", level(at(share)));
    }
    assert!(
        level((LEFT as f32 + 210.0, TOP as f32 + 110.0)) > 200,
        "her face"
    );
    assert_eq!((level((40.0, 40.0)), level((1_200.0, 1_000.0))), (0, 0));
}
