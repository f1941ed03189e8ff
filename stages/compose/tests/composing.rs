//! Every format on every background, looked at pixel by pixel; cropping, smoothing, halos, thumbnails, refusals.
#![allow(clippy::unwrap_used)]

mod support;

use atelier_compose::{ComposeError, ComposeOptions, Composed, Encoded, compose, encode_picture};
use atelier_schemas::{
    Background, BlobKey, BlobRef, ImageFormat, OutputOptions,
    request::{Channels as Contents, Crop},
};
use atelier_stores::{Raster, raster::Channels};
use image::{DynamicImage, RgbaImage};
use support::disc;

const SUBJECT: [u8; 3] = [210, 60, 40];
const GROUND: [u8; 3] = [20, 160, 70];
const FORMATS: [ImageFormat; 4] = [
    ImageFormat::Png,
    ImageFormat::Webp,
    ImageFormat::Avif,
    ImageFormat::Jpeg,
];

fn options() -> ComposeOptions {
    ComposeOptions {
        avif_speed: 10,
        ..ComposeOptions::default()
    }
}

fn composed(output: &OutputOptions, background: Option<&[u8]>) -> Composed {
    let (picture, matte) = disc(120, 90, SUBJECT, GROUND);
    compose(&picture, &matte, output, background, &options()).unwrap()
}

fn decode(encoded: &Encoded) -> DynamicImage {
    let image = image::load_from_memory(&encoded.bytes).unwrap();
    assert_eq!(
        (image.width(), image.height()),
        (encoded.width, encoded.height)
    );
    image
}

/// A picture that is blue in its left half and yellow in its right half, four times as wide as high.
fn background_file() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(400, 100, |x, _| {
        image::Rgb(if x < 200 { [0, 0, 255] } else { [255, 255, 0] })
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

fn some_blob() -> BlobRef {
    let key = BlobKey::from_digest([7; 32]);
    BlobRef {
        key,
        media_type: "image/png".into(),
        bytes: 1,
        width: 0,
        height: 0,
    }
}

fn close(found: [u8; 4], expected: [u8; 4], tolerance: u8) -> bool {
    found
        .iter()
        .zip(expected)
        .all(|(found, expected)| found.abs_diff(expected) <= tolerance)
}

#[test]
fn every_format_on_every_background_shows_the_right_pixels() {
    let file = background_file();
    let subject = [SUBJECT[0], SUBJECT[1], SUBJECT[2], 255];
    // At (4, 45) and (115, 45) nothing of the subject is left; (60, 45) is its middle.
    for (background, left, right) in [
        (Background::Transparent, [0, 0, 0, 0], [0, 0, 0, 0]),
        (
            Background::Color([250, 200, 0, 255]),
            [250, 200, 0, 255],
            [250, 200, 0, 255],
        ),
        (
            Background::Color([250, 200, 0, 128]),
            [250, 200, 0, 128],
            [250, 200, 0, 128],
        ),
        (
            Background::Blob(some_blob()),
            [0, 0, 255, 255],
            [255, 255, 0, 255],
        ),
    ] {
        for format in FORMATS
            .into_iter()
            .filter(|format| *format != ImageFormat::Avif)
        {
            let output = OutputOptions {
                format,
                background: background.clone(),
                ..OutputOptions::default()
            };
            let composed = composed(&output, Some(&file));
            assert_eq!(composed.result.media_type, format.media_type());
            let result = decode(&composed.result).into_rgba8();
            let tolerance = if format == ImageFormat::Png { 0 } else { 12 };
            for (x, mut expected) in [(4, left), (60, subject), (115, right)] {
                if format == ImageFormat::Jpeg {
                    // What shines through is white.
                    let alpha = u32::from(expected[3]);
                    let over_white = |value: u8| {
                        ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
                    };
                    expected = [
                        over_white(expected[0]),
                        over_white(expected[1]),
                        over_white(expected[2]),
                        255,
                    ];
                }
                let mut found = result.get_pixel(x, 45).0;
                if found[3] == 0 && expected[3] == 0 && format == ImageFormat::Webp {
                    // Invisible colours are the encoder's own affair.
                    found = [0; 4];
                }
                assert!(
                    close(found, expected, tolerance),
                    "{format:?} on {background:?} at {x}: {found:?}, not {expected:?}"
                );
            }
        }
    }
}

#[test]
fn avif_is_a_picture_of_the_right_size_with_alpha_where_it_is_needed() {
    for (background, channels) in [
        (Background::Transparent, 4),
        (Background::Color([255; 4]), 3),
    ] {
        let output = OutputOptions {
            format: ImageFormat::Avif,
            background,
            ..OutputOptions::default()
        };
        let avif = composed(&output, None).result.bytes;
        assert_eq!(&avif[4..12], b"ftypavif");
        let holds = |name: &[u8]| avif.windows(name.len()).any(|window| window == name);
        // The box of the alpha plane, and that of the size: 120 × 90.
        assert_eq!(
            holds(b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"),
            channels == 4
        );
        assert!(holds(
            &[
                b"ispe\0\0\0\0".as_slice(),
                &120_u32.to_be_bytes(),
                &90_u32.to_be_bytes()
            ]
            .concat()
        ));
    }
}

#[test]
fn nothing_of_the_old_background_shows_on_a_new_one() {
    // A green ground must not leave green on the edge of a red disc, on black nor on white.
    for ground in [[0_u8, 0, 0, 255], [255, 255, 255, 255]] {
        let output = OutputOptions {
            background: Background::Color(ground),
            ..OutputOptions::default()
        };
        let result = decode(&composed(&output, None).result).into_rgb8();
        let (_, matte) = disc(120, 90, SUBJECT, GROUND);
        for ((x, y, found), alpha) in result.enumerate_pixels().zip(matte.data()) {
            for channel in 0..3 {
                let alpha = f64::from(*alpha) / 255.0;
                let expected = alpha * f64::from(SUBJECT[channel])
                    + (1.0 - alpha) * f64::from(ground[channel]);
                let difference = (f64::from(found.0[channel]) - expected).abs();
                assert!(
                    difference < 8.0,
                    "({x}, {y}): {found:?}, {expected:.0} expected in channel {channel}"
                );
            }
        }
    }
}

#[test]
fn what_cannot_be_seen_has_no_colour() {
    let result = decode(&composed(&OutputOptions::default(), None).result).into_rgba8();
    let mut invisible = 0;
    for pixel in result.pixels().filter(|pixel| pixel.0[3] == 0) {
        assert_eq!(pixel.0, [0; 4]);
        invisible += 1;
    }
    assert!(invisible > 1_000);
}

#[test]
fn cropping_keeps_the_subject_and_its_margin() {
    let whole = decode(&composed(&OutputOptions::default(), None).result).into_rgba8();
    let output = OutputOptions {
        crop: Crop::Subject,
        crop_margin_px: 5,
        ..OutputOptions::default()
    };
    let cropped_files = composed(&output, None);
    let cropped = decode(&cropped_files.result).into_rgba8();
    assert!(cropped.width() < 80 && cropped.height() < 80);
    let subject_pixels = |image: &RgbaImage| image.pixels().filter(|pixel| pixel.0[3] > 20).count();
    assert_eq!(subject_pixels(&cropped), subject_pixels(&whole));
    let mut border = (0..cropped.width()).flat_map(|x| (0..5).map(move |y| (x, y)));
    assert!(
        border.all(|(x, y)| cropped.get_pixel(x, y).0[3] < 20),
        "the margin is not empty"
    );
    assert!(
        (0..cropped.width()).any(|x| cropped.get_pixel(x, 5).0[3] >= 16),
        "the margin is too wide"
    );
    // The matte goes with the whole picture.
    assert_eq!(
        (cropped_files.alpha.width, cropped_files.alpha.height),
        (120, 90)
    );
}

#[test]
fn an_empty_matte_is_an_empty_picture_not_a_failure() {
    let (picture, matte) = disc(40, 30, SUBJECT, GROUND);
    let empty = Raster::new(40, 30, Channels::Gray, vec![0; matte.data().len()]).unwrap();
    for format in FORMATS {
        let output = OutputOptions {
            format,
            crop: Crop::Subject,
            ..OutputOptions::default()
        };
        let composed = compose(&picture, &empty, &output, None, &options()).unwrap();
        assert_eq!((composed.result.width, composed.result.height), (40, 30));
    }
}

#[test]
fn smoothing_widens_the_edge_and_brings_no_old_colour_back() {
    let (picture, matte) = disc(120, 90, SUBJECT, GROUND);
    let partial = |encoded: &Encoded| {
        decode(encoded)
            .into_luma8()
            .pixels()
            .filter(|pixel| (1..255).contains(&pixel.0[0]))
            .count()
    };
    let sharp = compose(
        &picture,
        &matte,
        &OutputOptions::default(),
        None,
        &options(),
    )
    .unwrap();
    let output = OutputOptions {
        edge_smoothing_px: 4.0,
        ..OutputOptions::default()
    };
    let smooth = compose(&picture, &matte, &output, None, &options()).unwrap();
    assert!(partial(&smooth.alpha) > 2 * partial(&sharp.alpha));
    for pixel in decode(&smooth.result)
        .into_rgba8()
        .pixels()
        .filter(|pixel| pixel.0[3] > 16)
    {
        let [red, green, blue, alpha] = pixel.0;
        let found = [red, green, blue, 255];
        assert!(
            close(found, [SUBJECT[0], SUBJECT[1], SUBJECT[2], 255], 24),
            "{found:?} under alpha {alpha}"
        );
    }
}

#[test]
fn the_matte_alone_is_grey_in_every_format() {
    let (_, matte) = disc(120, 90, SUBJECT, GROUND);
    for format in FORMATS
        .into_iter()
        .filter(|format| *format != ImageFormat::Avif)
    {
        let output = OutputOptions {
            format,
            channels: Contents::Alpha,
            ..OutputOptions::default()
        };
        let result = decode(&composed(&output, None).result).into_luma8();
        let tolerance = if format == ImageFormat::Png { 0 } else { 16 };
        assert!(
            result
                .as_raw()
                .iter()
                .zip(matte.data())
                .all(|(found, alpha)| found.abs_diff(*alpha) <= tolerance)
        );
    }
}

#[test]
fn thumbnails_are_small_and_have_no_fringe() {
    let (picture, matte) = disc(1_000, 600, SUBJECT, [0, 0, 0]);
    let composed = compose(
        &picture,
        &matte,
        &OutputOptions::default(),
        None,
        &options(),
    )
    .unwrap();
    assert_eq!(
        (composed.thumbnail.width, composed.thumbnail.height),
        (256, 154)
    );
    assert_eq!(composed.thumbnail.media_type, "image/webp");
    for pixel in decode(&composed.thumbnail)
        .into_rgba8()
        .pixels()
        .filter(|pixel| pixel.0[3] > 100)
    {
        assert!(pixel.0[0] > 170, "{pixel:?} is darker than the subject");
    }
}

#[test]
fn alpha_of_the_pictures_own_is_kept_and_never_widened() {
    let data: Vec<u8> = (0..64 * 64)
        .flat_map(|index| [200, 100, 50, if index % 64 < 32 { 0 } else { 180 }])
        .collect();
    let picture = Raster::new(64, 64, Channels::Rgba, data).unwrap();
    let full = Raster::new(64, 64, Channels::Gray, vec![255; 64 * 64]).unwrap();
    let result = decode(
        &compose(&picture, &full, &OutputOptions::default(), None, &options())
            .unwrap()
            .result,
    )
    .into_rgba8();
    assert_eq!(result.get_pixel(10, 10).0, [0; 4]);
    assert_eq!(result.get_pixel(50, 10).0, [200, 100, 50, 180]);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for format in FORMATS {
        let output = OutputOptions {
            format,
            ..OutputOptions::default()
        };
        let (first, second) = (composed(&output, None), composed(&output, None));
        assert_eq!(first.result.bytes, second.result.bytes, "{format:?}");
        assert_eq!(
            (first.alpha.bytes, first.thumbnail.bytes),
            (second.alpha.bytes, second.thumbnail.bytes)
        );
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_with_another_that_can() {
    let wide = Raster::new(16_384, 1, Channels::Rgb, vec![0; 16_384 * 3]).unwrap();
    let error = encode_picture(&wide, ImageFormat::Webp, 90, &options()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(
        error,
        ComposeError::TooLargeForFormat {
            limit_px: 16_383,
            ..
        }
    ));
    assert!(text.contains("16383") && text.contains("PNG"), "{text}");
    assert!(encode_picture(&wide, ImageFormat::Png, 90, &options()).is_ok());
}

#[test]
fn a_background_that_is_no_picture_or_too_large_is_refused() {
    let (picture, matte) = disc(40, 30, SUBJECT, GROUND);
    let output = OutputOptions {
        background: Background::Blob(some_blob()),
        ..OutputOptions::default()
    };
    let refused = |file: Option<&[u8]>, options: &ComposeOptions| {
        compose(&picture, &matte, &output, file, options).unwrap_err()
    };
    assert!(matches!(
        refused(None, &options()),
        ComposeError::BackgroundMissing
    ));
    assert!(matches!(
        refused(Some(b"no picture"), &options()),
        ComposeError::BackgroundUnusable { .. }
    ));
    let small = ComposeOptions {
        max_background_pixels: 100,
        ..options()
    };
    assert!(matches!(
        refused(Some(&background_file()), &small),
        ComposeError::BackgroundTooLarge { .. } | ComposeError::BackgroundUnusable { .. }
    ));
}

#[test]
fn sizes_that_differ_are_refused() {
    let (picture, _) = disc(40, 30, SUBJECT, GROUND);
    let (_, matte) = disc(30, 40, SUBJECT, GROUND);
    let error = compose(
        &picture,
        &matte,
        &OutputOptions::default(),
        None,
        &options(),
    )
    .unwrap_err();
    assert!(matches!(error, ComposeError::MatteSize { .. }));
}
