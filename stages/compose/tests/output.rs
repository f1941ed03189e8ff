//! Backgrounds, shadows, canvases, formats and limits, looked at pixel by pixel and byte by byte.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Cursor, Read as _};

use atelier_compose::{ComposeError, ComposeOptions, Composed, Encoded, compose};
use atelier_runtime::StageFailure as _;
use atelier_schemas::{ImageFormat, OutputOptions, shadow::ShadowOutcome};
use atelier_stores::{Raster, raster::Channels};
use image::RgbaImage;
use support::disc;

const SUBJECT: [u8; 3] = [210, 60, 40];
const GROUND: [u8; 3] = [20, 160, 70];

fn output(json: &str) -> OutputOptions {
    serde_json::from_str(json).unwrap()
}

fn options() -> ComposeOptions {
    ComposeOptions {
        avif_speed: 10,
        ..ComposeOptions::default()
    }
}

fn composed(json: &str) -> Composed {
    let (picture, matte) = disc(120, 90, SUBJECT, GROUND);
    compose(&picture, &matte, &output(json), None, &options()).unwrap()
}

fn decode(encoded: &Encoded) -> RgbaImage {
    let image = image::load_from_memory(&encoded.bytes).unwrap();
    assert_eq!(
        (image.width(), image.height()),
        (encoded.width, encoded.height)
    );
    image.into_rgba8()
}

/// A box on a ground that gets darker to the right, with a soft shadow of its own to the right of it: picture, matte, and how
/// dark the shadow truly is.
fn box_with_shadow(depth: f32, texture: impl Fn(u32, u32) -> f32) -> (Raster, Raster, Vec<f32>) {
    let (width, height) = (400_u32, 300_u32);
    let (mut colors, mut alphas, mut depths) = (Vec::new(), Vec::new(), Vec::new());
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let inside = (120..220).contains(&x) && (80..240).contains(&y);
        let (dx, dy) = ((x as f32 - 215.0) / 60.0, (y as f32 - 225.0) / 22.0);
        let shadow = depth * (-0.5 * (dx * dx + dy * dy)).exp();
        let ground = (0.9 - 0.2 * x as f32 / width as f32) * (1.0 + texture(x, y)) * (1.0 - shadow);
        let value = |share: f32| (share.clamp(0.0, 1.0) * 255.0).round() as u8;
        colors.extend(if inside {
            [30, 60, 200]
        } else {
            [value(ground), value(ground * 0.95), value(ground * 0.9)]
        });
        alphas.push(if inside { 255 } else { 0 });
        depths.push(if inside { 0.0 } else { shadow });
    }
    (
        Raster::new(width, height, Channels::Rgb, colors).unwrap(),
        Raster::new(width, height, Channels::Gray, alphas).unwrap(),
        depths,
    )
}

#[test]
fn a_gradient_lies_behind() {
    let result =
        decode(&composed(r##"{"background":"linear-gradient(90deg, #000, #fff)"}"##).result);
    let at = |x: u32| result.get_pixel(x, 45).0;
    assert!(at(1)[0] < 6 && at(118)[0] > 249);
    assert_eq!(at(60), [210, 60, 40, 255]);
    let seen_through =
        decode(&composed(r##"{"background":"radial-gradient(#ff000080, #ff000000)"}"##).result);
    assert!(seen_through.get_pixel(20, 45).0[3] > 20);
    assert!(seen_through.get_pixel(0, 0).0[3] < 4);
}

#[test]
fn the_blurred_original_keeps_the_background_and_loses_the_subject() {
    // A ground of stripes, so that a blur is seen, and a subject that must not bleed into it.
    let (picture, matte) = disc(240, 180, SUBJECT, GROUND);
    let striped: Vec<u8> = picture
        .data()
        .chunks_exact(3)
        .zip(matte.data())
        .enumerate()
        .flat_map(|(index, (pixel, alpha))| match alpha {
            0 if index % 240 / 4 % 2 == 0 => [0, 0, 0],
            0 => [0, 200, 0],
            _ => [pixel[0], pixel[1], pixel[2]],
        })
        .collect();
    let picture = Raster::new(240, 180, Channels::Rgb, striped).unwrap();
    let made = |json: &str| {
        let made = compose(&picture, &matte, &output(json), None, &options()).unwrap();
        decode(&made.result)
    };
    let result = made(r#"{"background":{"blur":8}}"#);
    let [red, green, _, alpha] = result.get_pixel(20, 90).0;
    assert_eq!(alpha, 255);
    assert!(green.abs_diff(100) < 15, "the stripes are gone: {green}");
    assert!(red < 6, "nothing of the subject far away: {red}");
    // Just outside of the disc, which ends some 60 pixels from the middle.
    assert!(
        result.get_pixel(120 + 68, 90).0[0] < 40,
        "{:?}",
        result.get_pixel(188, 90)
    );
    assert!(result.get_pixel(120, 90).0[0] > 200);
    let cropped = made(r#"{"background":{"blur":8},"crop":"subject"}"#);
    assert!(cropped.width() < 140 && cropped.get_pixel(0, 0).0[3] == 255);
}

#[test]
fn a_dropped_shadow_is_under_the_subject_and_over_the_background() {
    let shadow =
        r#""shadow":{"type":"drop","opacity":1,"blur":"0px","offsetX":"20px","offsetY":"0px"}"#;
    let transparent = composed(&format!("{{{shadow}}}"));
    assert_eq!(transparent.shadow, Some(ShadowOutcome::Drawn));
    let pixel = |picture: &RgbaImage, x: u32| picture.get_pixel(x, 45).0;
    let cut_out = decode(&transparent.result);
    // The disc's radius is 30, its edge three pixels soft on either side: it ends at 93, its shadow at 113.
    assert_eq!(pixel(&cut_out, 100), [0, 0, 0, 255]);
    assert_eq!(pixel(&cut_out, 60), [210, 60, 40, 255]);
    assert_eq!(pixel(&cut_out, 118)[3], 0);
    let on_white = decode(&composed(&format!(r##"{{"background":"#fff",{shadow}}}"##)).result);
    assert_eq!(pixel(&on_white, 100), [0, 0, 0, 255]);
    assert_eq!(pixel(&on_white, 118), [255; 4]);
    let cropped = composed(&format!(r#"{{"crop":"subject",{shadow}}}"#)).result;
    assert!(cropped.width.abs_diff(86) <= 3, "{}", cropped.width);
    let alpha = decode(&composed(&format!(r#"{{"channels":"alpha",{shadow}}}"#)).result);
    assert_eq!(
        pixel(&alpha, 100),
        [255; 4],
        "on alpha alone it is part of it"
    );
    let tinted = shadow.replace("\"opacity\":1", "\"opacity\":0.5,\"color\":\"#0000ff\"");
    let [red, green, blue, alpha] = pixel(&decode(&composed(&format!("{{{tinted}}}")).result), 100);
    assert!([red, green, blue] == [0, 0, 255] && alpha.abs_diff(128) < 2);
}

#[test]
fn a_contact_shadow_is_on_the_ground_below() {
    let (picture, matte) = disc(480, 360, SUBJECT, GROUND);
    let wanted = output(r#"{"shadow":{"type":"contact","opacity":1}}"#);
    let made = compose(&picture, &matte, &wanted, None, &options()).unwrap();
    let picture = decode(&made.result);
    // The disc's lowest point is at (240, 300), its edge three pixels soft on either side.
    assert!(
        picture.get_pixel(240, 304).0[3] > 80,
        "{:?}",
        picture.get_pixel(240, 304)
    );
    assert_eq!(picture.get_pixel(240, 50).0[3], 0, "above");
    assert!(picture.get_pixel(360, 304).0[3] < 20, "beside");
    let cut_off = r#"{"shadow":"contact"}"#;
    let (picture, matte) = disc(120, 60, SUBJECT, GROUND);
    let crop = |raster: &Raster| {
        let bytes = raster.channels().count();
        let data = raster.data()[..120 * 40 * bytes].to_vec();
        Raster::new(120, 40, raster.channels(), data).unwrap()
    };
    let made = compose(
        &crop(&picture),
        &crop(&matte),
        &output(cut_off),
        None,
        &options(),
    )
    .unwrap();
    assert_eq!(made.shadow, Some(ShadowOutcome::NoGround));
}

#[test]
fn the_pictures_own_shadow_is_kept_as_a_layer() {
    let (picture, matte, depths) = box_with_shadow(0.4, |_, _| 0.0);
    let made = compose(
        &picture,
        &matte,
        &output(r#"{"shadow":"keep"}"#),
        None,
        &options(),
    )
    .unwrap();
    assert_eq!(made.shadow, Some(ShadowOutcome::Kept));
    let result = decode(&made.result);
    let mut worst: f32 = 0.0;
    for (x, y, pixel) in result.enumerate_pixels() {
        let inside = (115..225).contains(&x) && (75..245).contains(&y);
        if inside {
            continue;
        }
        assert_eq!(pixel.0[..3], [0; 3], "a shadow only darkens");
        let truth = depths[(y * 400 + x) as usize];
        worst = worst.max((f32::from(pixel.0[3]) / 255.0 - truth).abs());
    }
    assert!(worst < 0.06, "off by {worst}");
    let on_blue = output(r##"{"shadow":"keep","background":"#8080ff"}"##);
    let made = compose(&picture, &matte, &on_blue, None, &options()).unwrap();
    let [red, green, blue, _] = decode(&made.result).get_pixel(240, 235).0;
    assert!(
        red < 105 && red == green && blue > red,
        "{red} {green} {blue}"
    );
}

#[test]
fn where_no_shadow_can_be_told_there_is_none() {
    let none = box_with_shadow(0.0, |_, _| 0.0);
    let noise = |x: u32, y: u32| {
        let hash = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519);
        ((hash >> 8) & 0xff) as f32 / 255.0 - 0.5
    };
    // Patches, so that making it smaller does not even them out.
    let busy = box_with_shadow(0.4, |x, y| noise(x / 12, y / 12));
    for ((picture, matte, _), outcome) in [
        (none, ShadowOutcome::NotFound),
        (busy, ShadowOutcome::BackgroundTooBusy),
    ] {
        let made = compose(
            &picture,
            &matte,
            &output(r#"{"shadow":"keep"}"#),
            None,
            &options(),
        )
        .unwrap();
        assert_eq!(made.shadow, Some(outcome));
        let plain = compose(&picture, &matte, &output("{}"), None, &options()).unwrap();
        assert_eq!(made.result.bytes, plain.result.bytes, "{outcome:?}");
    }
}

#[test]
fn the_canvas_has_the_size_that_was_asked_for() {
    let made = composed(
        r##"{"size":{"width":200,"height":300},"scale":"50%","position":"bottom","background":"#ffffff"}"##,
    );
    let picture = decode(&made.result);
    assert_eq!((picture.width(), picture.height()), (200, 300));
    // The disc is as wide as half of the canvas, and on its lower edge.
    let subject = made.subject.unwrap();
    assert!(subject.width.abs_diff(100) <= 2, "{subject:?}");
    assert!(
        (subject.top + subject.height).abs_diff(300) <= 1,
        "{subject:?}"
    );
    assert_eq!(picture.get_pixel(100, 250).0, [210, 60, 40, 255]);
    assert_eq!(picture.get_pixel(100, 100).0, [255; 4]);
    let small = composed(r#"{"maxPixels":1000}"#);
    assert!(u64::from(small.result.width) * u64::from(small.result.height) <= 1_000);
    assert_eq!((small.result.width, small.result.height), (36, 27));
    assert_eq!(composed("{}").subject.unwrap().left, 27);
}

#[test]
fn a_mask_is_black_or_white() {
    for more in ["", r#","scale":"70%""#, r#","maxPixels":2000"#] {
        let mask = decode(&composed(&format!(r#"{{"channels":"mask"{more}}}"#)).result);
        assert!(
            mask.pixels().all(|pixel| [0, 255].contains(&pixel.0[0])),
            "{more}"
        );
        assert!(mask.pixels().any(|pixel| pixel.0[0] == 255), "{more}");
    }
}

/// The bytes of a file of a ZIP.
fn unpacked(archive: &[u8], name: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut file = Vec::new();
    archive
        .by_name(name)
        .unwrap()
        .read_to_end(&mut file)
        .unwrap();
    file
}

#[test]
fn a_zip_is_what_a_png_would_be() {
    let archive = composed(r#"{"format":"zip"}"#).result;
    assert_eq!(archive.media_type, "application/zip");
    let png = decode(&composed("{}").result);
    let color = image::load_from_memory(&unpacked(&archive.bytes, "color.jpg"))
        .unwrap()
        .into_rgb8();
    let alpha = image::load_from_memory(&unpacked(&archive.bytes, "alpha.png"))
        .unwrap()
        .into_luma8();
    for (x, y, pixel) in png.enumerate_pixels() {
        assert_eq!(alpha.get_pixel(x, y).0[0], pixel.0[3]);
        if pixel.0[3] > 0 {
            let off = color
                .get_pixel(x, y)
                .0
                .iter()
                .zip(pixel.0)
                .map(|(a, b)| a.abs_diff(b))
                .max();
            assert!(
                off.unwrap() < 24,
                "({x}, {y}): {:?}, not {pixel:?}",
                color.get_pixel(x, y)
            );
        }
    }
}

/// Something that does not compress well.
fn noisy() -> (Raster, Raster) {
    let (picture, matte) = disc(240, 180, SUBJECT, GROUND);
    let mut state = 1_u32;
    let data = picture
        .data()
        .iter()
        .map(|value| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            value.wrapping_add((state >> 26) as u8)
        })
        .collect();
    (Raster::new(240, 180, Channels::Rgb, data).unwrap(), matte)
}

#[test]
fn files_are_no_larger_than_was_asked_for() {
    let (picture, matte) = noisy();
    let made = |json: &str| compose(&picture, &matte, &output(json), None, &options());
    for format in ["webp", "jpeg", "avif", "zip"] {
        let free = made(&format!(r#"{{"format":"{format}"}}"#))
            .unwrap()
            .result
            .bytes
            .len();
        let limit = free * 6 / 10;
        let tight = made(&format!(r#"{{"format":"{format}","maxBytes":{limit}}}"#));
        let found = tight.unwrap().result.bytes.len();
        assert!(
            found <= limit && found > limit / 3,
            "{format}: {found} of {limit}, {free} free"
        );
        let enough = made(&format!(r#"{{"format":"{format}","maxBytes":{free}}}"#));
        assert_eq!(enough.unwrap().result.bytes.len(), free, "{format}");
    }
    for format in ["png", "webp"] {
        let error = made(&format!(r#"{{"format":"{format}","maxBytes":100}}"#)).unwrap_err();
        let ComposeError::FileTooLarge {
            found, asked: 100, ..
        } = error
        else {
            panic!("{error}")
        };
        assert!(found > 100);
        assert!(error.to_string().contains(&found.to_string()));
        assert_eq!(
            error.pointer().as_deref(),
            Some("/image/options/output/maxBytes")
        );
    }
}

#[test]
fn files_say_that_they_are_srgb_and_nothing_else() {
    let contains =
        |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    let (picture, matte) = disc(120, 90, SUBJECT, GROUND);
    for (format, tag) in [
        (ImageFormat::Png, Some(&b"sRGB"[..])),
        // In the AV1 stream; the container repeats only what differs from that.
        (ImageFormat::Avif, None),
        (ImageFormat::Webp, None),
        (ImageFormat::Jpeg, None),
        (ImageFormat::Zip, Some(b"sRGB")),
    ] {
        let output = OutputOptions {
            format,
            ..OutputOptions::default()
        };
        let bytes = compose(&picture, &matte, &output, None, &options())
            .unwrap()
            .result
            .bytes;
        if let Some(tag) = tag {
            assert!(contains(&bytes, tag), "{format:?}");
        }
        for foreign in [
            &b"Exif"[..],
            b"eXIf",
            b"GPS",
            b"ICC_PROFILE",
            b"ICCP",
            b"iCCP",
            b"http://ns.adobe",
        ] {
            assert!(!contains(&bytes, foreign), "{format:?}: {foreign:?}");
        }
    }
}

#[test]
fn the_number_of_cores_changes_no_byte() {
    let (picture, matte, _) = box_with_shadow(0.4, |_, _| 0.0);
    for json in [
        r##"{"shadow":"keep","background":"linear-gradient(30deg, #fff, #88f)"}"##,
        r#"{"shadow":"drop","background":{"blur":12},"crop":"subject","cropMargin":"10%","scale":"80%"}"#,
        r#"{"shadow":"contact","size":{"width":333,"height":222},"format":"zip","semitransparency":false}"#,
    ] {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| compose(&picture, &matte, &output(json), None, &options()).unwrap())
        };
        let (one, three) = (on(1), on(3));
        assert_eq!(one.result.bytes, three.result.bytes, "{json}");
        assert_eq!(one.thumbnail.bytes, three.thumbnail.bytes, "{json}");
    }
}

#[test]
fn one_pixel_and_no_subject_are_composed_with_everything_too() {
    let everything = [
        r#"{"shadow":"keep"}"#,
        r#"{"shadow":"drop","crop":"subject","cropMargin":"50%"}"#,
        r#"{"shadow":"contact","scale":"50%"}"#,
        r#"{"background":{"blur":20},"size":{"width":7,"height":5}}"#,
        r##"{"background":"radial-gradient(#fff, #000)","maxPixels":1}"##,
        r#"{"format":"zip","semitransparency":false,"position":"0%"}"#,
        r#"{"channels":"mask","scale":"fit"}"#,
    ];
    for (width, height) in [(1, 1), (1, 300), (300, 1), (5, 4)] {
        for alpha in [0, 100, 255] {
            let pixels = (width * height) as usize;
            let picture = Raster::new(width, height, Channels::Rgb, vec![90; pixels * 3]).unwrap();
            let matte = Raster::new(width, height, Channels::Gray, vec![alpha; pixels]).unwrap();
            for json in everything {
                let made = compose(&picture, &matte, &output(json), None, &options());
                let made = made
                    .unwrap_or_else(|error| panic!("{width} × {height}, {alpha}, {json}: {error}"));
                assert_eq!(made.subject.is_none(), alpha < 16, "{json}");
            }
        }
    }
}

#[test]
fn a_canvas_beyond_all_bounds_is_refused() {
    let (picture, matte) = disc(120, 90, SUBJECT, GROUND);
    let vast = output(r#"{"crop":"subject","cropMarginPx":10000}"#);
    let error = compose(&picture, &matte, &vast, None, &options()).unwrap_err();
    assert!(
        matches!(error, ComposeError::CanvasTooLarge { .. }),
        "{error}"
    );
}
