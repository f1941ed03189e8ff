//! Marks on finished pictures, pixel by pixel: place, size, opacity, tiling, mixing, alpha, text, payload, refusals.
#![allow(clippy::unwrap_used)]

mod support;

use atelier_compose::{ComposeError, ComposeOptions, Mark, Parts, compose_parts, invisible};
use atelier_schemas::{
    Background, OutputOptions, Watermark,
    watermark::{Anchor, Blend, InvisibleMark, PercentPosition, Position, Tile},
};
use atelier_stores::{Raster, raster::Channels};
use image::{Rgba, RgbaImage};
use support::disc;

const GROUND: [u8; 4] = [40, 80, 120, 255];

/// A mark of 8 × 4 pixels: its left half red, its right half blue.
fn mark_file() -> Vec<u8> {
    let picture = RgbaImage::from_fn(8, 4, |x, _| {
        Rgba(if x < 4 {
            [255, 0, 0, 255]
        } else {
            [0, 0, 255, 255]
        })
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// A canvas of 200 × 100 pixels of nothing but ground, marked.
fn try_marked(watermark: &Watermark, background: Background) -> Result<RgbaImage, ComposeError> {
    let picture = Raster::new(200, 100, Channels::Rgb, vec![0; 60_000]).unwrap();
    let matte = Raster::new(200, 100, Channels::Gray, vec![0; 20_000]).unwrap();
    let output = OutputOptions {
        background,
        ..OutputOptions::default()
    };
    let file = mark_file();
    let is_picture = watermark.text.is_none();
    let mark = Mark {
        watermark,
        file: is_picture.then_some(file.as_slice()),
    };
    let options = ComposeOptions::default();
    let parts = Parts {
        mark: Some(mark),
        ..Parts::of(&picture, &matte)
    };
    let composed = compose_parts(&parts, &output, &options)?;
    Ok(image::load_from_memory(&composed.result.bytes)
        .unwrap()
        .into_rgba8())
}

fn marked(watermark: &Watermark) -> RgbaImage {
    try_marked(watermark, Background::Color(GROUND)).unwrap()
}

/// The mark at its own size, opaque.
fn plain() -> Watermark {
    Watermark {
        opacity: Some(1.0),
        scale: Some(0.04),
        ..Watermark::from_url("https://shop.example/mark.png")
    }
}

/// The box of what differs from the ground: left, top, and the first pixels beyond it.
fn marked_box(picture: &RgbaImage) -> [u32; 4] {
    let differing = picture
        .enumerate_pixels()
        .filter(|(_, _, pixel)| pixel.0 != GROUND);
    differing.fold(
        [u32::MAX, u32::MAX, 0, 0],
        |[left, top, right, bottom], (x, y, _)| {
            [left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)]
        },
    )
}

#[test]
fn a_mark_lies_where_it_was_asked_for() {
    // A margin of 2 % of the shorter side: 2 pixels.
    for (anchor, left, top) in [
        (Anchor::TopLeft, 2, 2),
        (Anchor::Top, 96, 2),
        (Anchor::TopRight, 190, 2),
        (Anchor::Left, 2, 48),
        (Anchor::Center, 96, 48),
        (Anchor::Right, 190, 48),
        (Anchor::BottomLeft, 2, 94),
        (Anchor::Bottom, 96, 94),
        (Anchor::BottomRight, 190, 94),
    ] {
        let picture = marked(&Watermark {
            position: Some(Position::Named(anchor)),
            ..plain()
        });
        assert_eq!(
            marked_box(&picture),
            [left, top, left + 8, top + 4],
            "{anchor:?}"
        );
        assert_eq!(picture.get_pixel(left, top).0, [255, 0, 0, 255]);
        assert_eq!(picture.get_pixel(left + 7, top + 3).0, [0, 0, 255, 255]);
    }
    for (x, y, left, top) in [
        (0.0, 0.0, 0, 0),
        (100.0, 100.0, 192, 96),
        (25.0, 75.0, 48, 72),
    ] {
        let picture = marked(&Watermark {
            position: Some(Position::Percent(PercentPosition { x, y })),
            ..plain()
        });
        assert_eq!(
            marked_box(&picture),
            [left, top, left + 8, top + 4],
            "{x} %, {y} %"
        );
    }
}

#[test]
fn scale_is_the_share_of_the_width_and_the_mark_stays_on_the_canvas() {
    let width_and_height = |scale: f32| {
        let [left, top, right, bottom] = marked_box(&marked(&Watermark {
            scale: Some(scale),
            position: Some(Position::Named(Anchor::Center)),
            ..plain()
        }));
        (right - left, bottom - top)
    };
    assert_eq!(width_and_height(0.2), (40, 20));
    assert_eq!(width_and_height(1.0), (200, 100));
}

#[test]
fn opacity_and_mixing_are_those_that_were_asked_for() {
    let red_half = |watermark: Watermark| marked(&watermark).get_pixel(191, 95).0;
    let with = |opacity: Option<f32>, blend: Blend| {
        red_half(Watermark {
            opacity,
            blend,
            ..plain()
        })
    };
    assert_eq!(with(Some(1.0), Blend::Normal), [255, 0, 0, 255]);
    assert_eq!(with(Some(0.25), Blend::Normal), [94, 60, 90, 255]);
    assert_eq!(with(None, Blend::Normal), [148, 40, 60, 255]);
    assert_eq!(with(Some(0.0), Blend::Normal), GROUND);
    assert_eq!(with(Some(1.0), Blend::Multiply), [40, 0, 0, 255]);
    assert_eq!(with(Some(1.0), Blend::Screen), [255, 80, 120, 255]);
    assert_eq!(with(Some(1.0), Blend::Overlay), [80, 0, 0, 255]);
}

#[test]
fn a_tiled_mark_covers_the_canvas_in_even_steps() {
    let tiled = |spacing: f32, angle_degrees: f32| {
        marked(&Watermark {
            tile: Some(Tile {
                spacing,
                angle_degrees,
            }),
            ..plain()
        })
    };
    // Marks of 8 × 4 with 4 between them, one of them in the middle of the canvas.
    let straight = tiled(0.5, 0.0);
    for (x, y, pixel) in straight.enumerate_pixels() {
        let (across, down) = ((x + 12 * 8 - 96) % 12, (y + 8 * 6 - 48) % 8);
        let expected = match (across, down) {
            (0..4, 0..4) => [255, 0, 0, 255],
            (4..8, 0..4) => [0, 0, 255, 255],
            _ => GROUND,
        };
        assert_eq!(pixel.0, expected, "{x}, {y}");
    }
    // A quarter turn: what lay beside each other lies above each other.
    let turned = tiled(0.5, 90.0);
    let colors: Vec<[u8; 4]> = (0..12)
        .map(|down| turned.get_pixel(100, 46 + down).0)
        .collect();
    let count = |color: [u8; 4]| colors.iter().filter(|found| **found == color).count();
    assert_eq!(
        (
            count([255, 0, 0, 255]),
            count([0, 0, 255, 255]),
            count(GROUND)
        ),
        (4, 4, 4)
    );
    // Any angle covers about the same share.
    let share = |picture: &RgbaImage| {
        let ground = picture.pixels().filter(|pixel| pixel.0 == GROUND).count();
        1.0 - ground as f64 / 20_000.0
    };
    assert!(
        (share(&straight) - 1.0 / 3.0).abs() < 0.03,
        "{}",
        share(&straight)
    );
    assert!(
        share(&tiled(0.5, -30.0)) > 0.33,
        "{}",
        share(&tiled(0.5, -30.0))
    );
}

#[test]
fn on_a_transparent_canvas_the_mark_is_part_of_the_picture() {
    let half = Watermark {
        opacity: Some(0.5),
        ..plain()
    };
    let picture = try_marked(&half, Background::Transparent).unwrap();
    assert_eq!(picture.get_pixel(191, 95).0, [255, 0, 0, 128]);
    assert_eq!(picture.get_pixel(100, 50).0, [0; 4]);
}

#[test]
fn a_text_is_drawn_in_its_colour_and_size() {
    let text = Watermark {
        text: Some("Žluť © Дом".into()),
        text_color: Some("#ffee00".into()),
        opacity: Some(1.0),
        scale: Some(0.5),
        position: Some(Position::Named(Anchor::Center)),
        ..Watermark::default()
    };
    let picture = marked(&text);
    let [left, top, right, bottom] = marked_box(&picture);
    assert!((right - left).abs_diff(100) <= 3, "{left} to {right}");
    assert!(left.abs_diff(200 - right) <= 1 && top.abs_diff(100 - bottom) <= 1);
    let full = picture
        .pixels()
        .filter(|pixel| pixel.0 == [255, 238, 0, 255])
        .count();
    assert!(full > 100, "{full} pixels are wholly covered");
    let line = |text_size_px: f32| {
        let picture = marked(&Watermark {
            text_size_px: Some(text_size_px),
            ..text.clone()
        });
        let [_, top, _, bottom] = marked_box(&picture);
        bottom - top
    };
    assert!(line(24.0).abs_diff(2 * line(12.0)) <= 2);
}

#[test]
fn what_cannot_be_laid_on_is_refused_by_name() {
    let refused = |watermark: &Watermark, file: Option<&[u8]>, options: &ComposeOptions| {
        let (picture, matte) = disc(90, 60, [200, 30, 30], [10, 20, 30]);
        let mark = Some(Mark { watermark, file });
        let parts = Parts {
            mark,
            ..Parts::of(&picture, &matte)
        };
        compose_parts(&parts, &OutputOptions::default(), options).unwrap_err()
    };
    let options = ComposeOptions::default();
    let error = refused(&plain(), None, &options);
    assert!(matches!(error, ComposeError::WatermarkMissing), "{error}");
    let error = refused(&plain(), Some(b"no picture at all"), &options);
    assert!(
        matches!(error, ComposeError::WatermarkUnusable { .. }),
        "{error}"
    );
    let small = ComposeOptions {
        max_background_pixels: 16,
        ..options.clone()
    };
    let error = refused(&plain(), Some(&mark_file()), &small);
    assert!(
        matches!(error, ComposeError::WatermarkTooLarge { .. }),
        "{error}"
    );
    let text = Watermark {
        text: Some("服".into()),
        ..Watermark::default()
    };
    let error = refused(&text, None, &options);
    assert!(error.to_string().contains("`服` (U+670D)"), "{error}");
    let payload = Watermark {
        invisible: Some(InvisibleMark {
            payload: "c0ffee01".into(),
        }),
        ..Watermark::default()
    };
    let error = refused(&payload, None, &options);
    assert!(matches!(error, ComposeError::Invisible(_)), "{error}");
}

#[test]
fn both_marks_go_together_and_the_payload_is_read_from_the_file() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/dress.jpg");
    let picture = support::read_rgb(&path);
    let pixels = picture.pixels() as usize;
    let matte = Raster::new(
        picture.width(),
        picture.height(),
        Channels::Gray,
        vec![255; pixels],
    )
    .unwrap();
    let watermark = Watermark {
        text: Some("© Atelier".into()),
        invisible: Some(InvisibleMark {
            payload: "00c0ffee01".into(),
        }),
        ..Watermark::default()
    };
    let mark = Some(Mark {
        watermark: &watermark,
        file: None,
    });
    let output = OutputOptions {
        format: atelier_schemas::ImageFormat::Jpeg,
        ..OutputOptions::default()
    };
    let parts = Parts {
        mark,
        ..Parts::of(&picture, &matte)
    };
    let composed = compose_parts(&parts, &output, &ComposeOptions::default());
    let file = composed.unwrap().result.bytes;
    let result = image::load_from_memory(&file).unwrap().into_rgb8();
    let (width, height) = result.dimensions();
    let result = Raster::new(width, height, Channels::Rgb, result.into_raw()).unwrap();
    let reading = invisible::read(&result).unwrap().unwrap();
    assert_eq!(reading.payload, b"\x00\xc0\xff\xee\x01");
}
