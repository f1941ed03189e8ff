//! Things with a hole in them, cut out in quality high: what is seen through a ring, a handle or a frame is background. They are drawn
//! here, with the texture of photographs, so that the matte is known. `atelier models pull` first.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use atelier_models::{
    Mask, ModelStore, Picture, ProviderChoice, Refiner, Runtime, Segmenter, SessionOptions,
};
use image::{RgbImage, imageops};

const SIDE: u32 = 640;

/// Where a thing is and what is seen through it; both sides of the picture are 1.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Thing,
    Hole,
    Ground,
}

fn is_in(x: f32, y: f32, [left, top, right, bottom]: [f32; 4]) -> bool {
    (left..right).contains(&x) && (top..bottom).contains(&y)
}

fn ring(x: f32, y: f32) -> Part {
    match (x - 0.48).hypot(y - 0.52) {
        ..0.19 => Part::Hole,
        ..0.29 => Part::Thing,
        _ => Part::Ground,
    }
}

fn mug(x: f32, y: f32) -> Part {
    if is_in(x, y, [0.24, 0.28, 0.58, 0.74]) {
        return Part::Thing;
    }
    match (x - 0.6).hypot(y - 0.5) {
        ..0.1 => Part::Hole,
        ..0.16 => Part::Thing,
        _ => Part::Ground,
    }
}

fn bag(x: f32, y: f32) -> Part {
    if is_in(x, y, [0.22, 0.48, 0.78, 0.82]) {
        return Part::Thing;
    }
    match (x - 0.5).hypot(y - 0.48) {
        ..0.15 => Part::Hole,
        ..0.19 => Part::Thing,
        _ => Part::Ground,
    }
}

fn frame(x: f32, y: f32) -> Part {
    if is_in(x, y, [0.33, 0.37, 0.67, 0.65]) {
        return Part::Hole;
    }
    if is_in(x, y, [0.22, 0.26, 0.78, 0.76]) {
        return Part::Thing;
    }
    Part::Ground
}

fn sample(name: &str) -> RgbImage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../samples")
        .join(name);
    image::open(path).unwrap().into_rgb8()
}

/// The middle of a photograph, as large as the picture.
fn middle_of(name: &str) -> RgbImage {
    let photograph = sample(name);
    let side = photograph.width().min(photograph.height()) / 3;
    let (left, top) = (
        (photograph.width() - side) / 2,
        (photograph.height() - side) / 2,
    );
    let middle = imageops::crop_imm(&photograph, left, top, side, side).to_image();
    imageops::resize(&middle, SIDE, SIDE, imageops::FilterType::CatmullRom)
}

/// A wall that is lit from above.
fn wall([red, green, blue]: [i32; 3]) -> RgbImage {
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let grain = ((x * 7 + y * 13 + x * y) % 7) as i32 - 3 - (y * 24 / SIDE) as i32;
        image::Rgb([red, green, blue].map(|level| (level + grain).clamp(0, 255) as u8))
    })
}

/// The picture, and how much of each pixel is the thing's and the hole's (0 to 16).
struct Scene {
    pixels: RgbImage,
    thing: Vec<u8>,
    hole: Vec<u8>,
}

/// How much of a pixel is the thing's and the hole's, of 16.
fn shares(shape: fn(f32, f32) -> Part, x: u32, y: u32) -> (u8, u8) {
    let at = |pixel: u32, part: u32| (pixel as f32 + (part as f32 + 0.5) / 4.0) / SIDE as f32;
    let parts = (0..16).map(|part| shape(at(x, part % 4), at(y, part / 4)));
    let parts: Vec<Part> = parts.collect();
    let count = |wanted| parts.iter().filter(|part| **part == wanted).count() as u8;
    (count(Part::Thing), count(Part::Hole))
}

fn scene(shape: fn(f32, f32) -> Part, texture: &RgbImage, ground: &RgbImage) -> Scene {
    let (mut thing, mut hole) = (Vec::new(), Vec::new());
    let mut pixels = ground.clone();
    for (x, y, pixel) in pixels.enumerate_pixels_mut() {
        let (of_thing, of_hole) = shares(shape, x, y);
        thing.push(of_thing);
        hole.push(of_hole);
        let share = f32::from(of_thing) / 16.0;
        // Round, and lit from the left.
        let light = 1.05 - 0.4 * ((x as f32 / SIDE as f32 - 0.35) / 0.5).powi(2);
        for (ground, texture) in pixel.0.iter_mut().zip(texture.get_pixel(x, y).0) {
            let own = (f32::from(texture) * light).min(255.0);
            *ground = (own * share + f32::from(*ground) * (1.0 - share)) as u8;
        }
    }
    Scene {
        pixels,
        thing,
        hole,
    }
}

struct High {
    first: Segmenter,
    second: Segmenter,
    refiner: Refiner,
}

impl High {
    fn open() -> Self {
        let store = ModelStore::open(None).unwrap();
        let runtime =
            Runtime::load(&store, ProviderChoice::Auto).unwrap_or_else(|error| panic!("{error}"));
        let options = SessionOptions::default();
        let segmenter = |name| Segmenter::open(&runtime, &store, name, &options).unwrap();
        Self {
            first: segmenter("isnet-general-use"),
            second: segmenter("u2netp"),
            refiner: Refiner::open(&runtime, &store, &options).unwrap(),
        }
    }

    fn matte(&self, pixels: &RgbImage) -> Mask {
        let picture = Picture {
            width: SIDE,
            height: SIDE,
            channels: 3,
            pixels,
        };
        let prepared = self.first.prepare(&picture).unwrap();
        let raw = self
            .refiner
            .infer(&picture, &prepared, &self.first, &self.second)
            .unwrap();
        self.refiner.finish(&raw, &picture).unwrap()
    }
}

/// The mean alpha, 0 to 1, of the pixels that are wholly of a part.
fn mean(matte: &Mask, part: &[u8]) -> f64 {
    let of_part = matte
        .alpha
        .iter()
        .zip(part)
        .filter(|(_, share)| **share == 16);
    let (sum, count) = of_part.fold((0.0, 0.0), |(sum, count), (alpha, _)| {
        (sum + f64::from(*alpha) / 255.0, count + 1.0)
    });
    sum / count
}

#[test]
fn what_is_seen_through_a_thing_is_background() {
    let high = High::open();
    let (light, grey) = (wall([235, 232, 225]), wall([190, 195, 205]));
    for (name, shape, texture, ground) in [
        (
            "ring",
            ring as fn(f32, f32) -> Part,
            "woollen-hat.jpg",
            &grey,
        ),
        ("mug", mug, "jacket.jpg", &light),
        ("mug", mug, "dress.jpg", &grey),
        ("bag", bag, "fringed-skirt.jpg", &light),
        ("frame", frame, "fur-hat.jpg", &grey),
    ] {
        let scene = scene(shape, &middle_of(texture), ground);
        let matte = high.matte(&scene.pixels);
        let (thing, hole) = (mean(&matte, &scene.thing), mean(&matte, &scene.hole));
        assert!(
            thing > 0.97 && hole < 0.02,
            "{name} {texture}: {thing} {hole}"
        );
    }
}
