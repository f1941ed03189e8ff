//! Every kind of file that is read, made here by an encoder and looked at pixel by pixel.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Cursor;

use atelier_preprocess::DecodeError;
use atelier_stores::raster::Channels;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage, RgbaImage};
use moxcms::ColorProfile;
use support::{decode, difference, rgb_gradient};
use tiff::encoder::{TiffEncoder, TiffValue, colortype};

const WIDTH: u32 = 48;
const HEIGHT: u32 = 32;

fn rgb() -> RgbImage {
    RgbImage::from_raw(WIDTH, HEIGHT, rgb_gradient(WIDTH, HEIGHT)).unwrap()
}

fn rgba() -> RgbaImage {
    let mut image = DynamicImage::ImageRgb8(rgb()).into_rgba8();
    image
        .enumerate_pixels_mut()
        .for_each(|(x, _, pixel)| pixel.0[3] = (x * 5) as u8);
    image
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn png(
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
    change: impl FnOnce(&mut png::Info<'static>),
) -> Vec<u8> {
    let mut info = png::Info::with_size(WIDTH, HEIGHT);
    (info.color_type, info.bit_depth) = (color, depth);
    change(&mut info);
    let mut file = Vec::new();
    let mut writer = png::Encoder::with_info(&mut file, info)
        .unwrap()
        .write_header()
        .unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    file
}

fn jpeg(
    color: jpeg_encoder::ColorType,
    data: &[u8],
    change: impl FnOnce(&mut jpeg_encoder::Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 100);
    change(&mut encoder);
    encoder
        .encode(data, WIDTH as u16, HEIGHT as u16, color)
        .unwrap();
    file
}

fn tiff<C: colortype::ColorType>(data: &[C::Inner]) -> Vec<u8>
where
    [C::Inner]: TiffValue,
{
    let mut file = Cursor::new(Vec::new());
    TiffEncoder::new(&mut file)
        .unwrap()
        .write_image::<C>(WIDTH, HEIGHT, data)
        .unwrap();
    file.into_inner()
}

/// Ink values of a picture whose colours are `rgb`.
fn inks(rgb: &[u8]) -> Vec<u8> {
    let pixels = rgb.as_chunks::<3>().0.iter();
    pixels
        .flat_map(|[red, green, blue]| [255 - red, 255 - green, 255 - blue, 0])
        .collect()
}

#[track_caller]
fn assert_close(file: &[u8], expected: &[u8], tolerance: u8, color_model: &str) {
    let prepared = decode(file).unwrap();
    assert_eq!(
        (prepared.raster.width(), prepared.raster.height()),
        (WIDTH, HEIGHT)
    );
    assert_eq!(prepared.measurements.color_model, color_model);
    let (mean, largest) = difference(prepared.raster.data(), expected);
    assert!(
        largest <= tolerance,
        "{color_model}: differs by up to {largest} levels, {mean} on average"
    );
}

#[test]
fn lossless_files_come_back_exactly() {
    let (rgb, rgba) = (rgb(), rgba());
    for (format, model, model_with_alpha) in [
        (ImageFormat::Png, "rgb8", "rgba8"),
        (ImageFormat::WebP, "rgb8", "rgba8"),
        (ImageFormat::Bmp, "rgb8", "rgba8"),
        (ImageFormat::Tiff, "rgb8", "rgba8"),
        (ImageFormat::Ico, "rgb8", "rgba8"),
    ] {
        assert_close(
            &encode(&DynamicImage::ImageRgb8(rgb.clone()), format),
            rgb.as_raw(),
            0,
            model,
        );
        let file = encode(&DynamicImage::ImageRgba8(rgba.clone()), format);
        assert_close(&file, rgba.as_raw(), 0, model_with_alpha);
        assert!(decode(&file).unwrap().measurements.has_alpha);
    }
}

#[test]
fn jpeg_in_all_its_colour_models() {
    let rgb = rgb_gradient(WIDTH, HEIGHT);
    let gray: Vec<u8> = rgb.chunks(3).map(|pixel| pixel[0]).collect();
    let as_rgb: Vec<u8> = gray.iter().flat_map(|value| [*value; 3]).collect();
    assert_close(
        &jpeg(jpeg_encoder::ColorType::Rgb, &rgb, |_| {}),
        &rgb,
        6,
        "ycbcr8",
    );
    assert_close(
        &jpeg(jpeg_encoder::ColorType::Rgb, &rgb, |encoder| {
            encoder.set_progressive(true);
        }),
        &rgb,
        6,
        "ycbcr8",
    );
    assert_close(
        &jpeg(jpeg_encoder::ColorType::Luma, &gray, |_| {}),
        &as_rgb,
        4,
        "gray8",
    );
    // The encoder writes Adobe's marker and inverted inks, as Photoshop does.
    assert_close(
        &jpeg(jpeg_encoder::ColorType::Cmyk, &inks(&rgb), |_| {}),
        &rgb,
        6,
        "cmyk8",
    );
    assert_close(
        &jpeg(jpeg_encoder::ColorType::CmykAsYcck, &inks(&rgb), |_| {}),
        &rgb,
        6,
        "ycck8",
    );
}

#[test]
fn sixteen_bits_become_eight_by_rounding() {
    let rgb = rgb_gradient(WIDTH, HEIGHT);
    // A third of a step above each level: rounds down to it. Two thirds: rounds up.
    for (offset, step_up) in [(85_u16, 0_u8), (171, 1)] {
        let samples: Vec<u16> = rgb
            .iter()
            .map(|value| u16::from((*value).min(254)) * 257 + offset)
            .collect();
        let expected: Vec<u8> = rgb
            .iter()
            .map(|value| (*value).min(254) + step_up)
            .collect();
        let big_endian: Vec<u8> = samples
            .iter()
            .flat_map(|sample| sample.to_be_bytes())
            .collect();
        assert_close(
            &png(
                png::ColorType::Rgb,
                png::BitDepth::Sixteen,
                &big_endian,
                |_| {},
            ),
            &expected,
            0,
            "rgb16",
        );
        assert_close(&tiff::<colortype::RGB16>(&samples), &expected, 0, "rgb16");
    }
}

#[test]
fn png_palettes_and_grey_of_few_bits() {
    let palette: Vec<u8> = [[250, 10, 20], [10, 240, 30], [20, 30, 230], [9, 8, 7]].concat();
    let indices: Vec<u8> = (0..WIDTH / 4 * HEIGHT).map(|_| 0b00_01_10_11).collect();
    let expected: Vec<u8> = (0..WIDTH / 4 * HEIGHT)
        .flat_map(|_| palette.clone())
        .collect();
    let opaque = png(
        png::ColorType::Indexed,
        png::BitDepth::Two,
        &indices,
        |info| info.palette = Some(palette.clone().into()),
    );
    assert_close(&opaque, &expected, 0, "palette2");

    let transparent = png(
        png::ColorType::Indexed,
        png::BitDepth::Two,
        &indices,
        |info| {
            info.palette = Some(palette.clone().into());
            info.trns = Some(vec![0, 128].into());
        },
    );
    let with_alpha: Vec<u8> = (0..WIDTH / 4 * HEIGHT)
        .flat_map(|_| {
            [
                250, 10, 20, 0, 10, 240, 30, 128, 20, 30, 230, 255, 9, 8, 7, 255,
            ]
        })
        .collect();
    assert_close(&transparent, &with_alpha, 0, "palette2");

    let gray: Vec<u8> = (0..WIDTH / 4 * HEIGHT)
        .flat_map(|_| [0_u8, 85, 170, 255])
        .flat_map(|value| [value; 3])
        .collect();
    assert_close(
        &png(
            png::ColorType::Grayscale,
            png::BitDepth::Two,
            &indices,
            |_| {},
        ),
        &gray,
        0,
        "gray2",
    );
}

#[test]
fn tiff_inks_and_grey() {
    let rgb = rgb_gradient(WIDTH, HEIGHT);
    let gray: Vec<u8> = rgb.chunks(3).map(|pixel| pixel[0]).collect();
    let as_rgb: Vec<u8> = gray.iter().flat_map(|value| [*value; 3]).collect();
    assert_close(&tiff::<colortype::CMYK8>(&inks(&rgb)), &rgb, 0, "cmyk8");
    let wide_inks: Vec<u16> = inks(&rgb).iter().map(|ink| u16::from(*ink) * 257).collect();
    assert_close(&tiff::<colortype::CMYK16>(&wide_inks), &rgb, 0, "cmyk16");
    assert_close(&tiff::<colortype::Gray8>(&gray), &as_rgb, 0, "gray8");
    let floats: Vec<f32> = rgb.iter().map(|value| f32::from(*value) / 255.0).collect();
    let error = decode(&tiff::<colortype::RGB32Float>(&floats)).unwrap_err();
    assert!(
        matches!(error, DecodeError::UnsupportedFeature { .. }),
        "{error}"
    );
}

#[test]
fn grey_with_alpha_and_an_alpha_that_says_nothing() {
    let pairs: Vec<u8> = (0..WIDTH * HEIGHT)
        .flat_map(|index| [(index % 251) as u8, (index % 7 * 40) as u8])
        .collect();
    let expected: Vec<u8> = pairs
        .chunks(2)
        .flat_map(|pair| [pair[0], pair[0], pair[0], pair[1]])
        .collect();
    assert_close(
        &png(
            png::ColorType::GrayscaleAlpha,
            png::BitDepth::Eight,
            &pairs,
            |_| {},
        ),
        &expected,
        0,
        "graya8",
    );

    let opaque = DynamicImage::ImageRgb8(rgb()).into_rgba8();
    let prepared = decode(&encode(&DynamicImage::ImageRgba8(opaque), ImageFormat::Png)).unwrap();
    assert!(!prepared.measurements.has_alpha);
    assert_eq!(
        (prepared.raster.channels(), prepared.raster.data()),
        (Channels::Rgb, rgb().as_raw().as_slice())
    );
}

#[test]
fn animations_give_their_first_frame() {
    let frames = [[200_u8, 30, 40, 255], [10, 220, 30, 255], [0, 0, 250, 255]];
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    let pictures = frames
        .map(|color| image::Frame::new(RgbaImage::from_pixel(WIDTH, HEIGHT, image::Rgba(color))));
    encoder.encode_frames(pictures).unwrap();
    drop(encoder);

    let config = webp::WebPConfig::new().unwrap();
    let raw: Vec<Vec<u8>> = frames
        .iter()
        .map(|color| color.repeat((WIDTH * HEIGHT) as usize))
        .collect();
    let mut encoder = webp::AnimEncoder::new(WIDTH, HEIGHT, &config);
    for (index, frame) in raw.iter().enumerate() {
        encoder.add_frame(webp::AnimFrame::from_rgba(
            frame,
            WIDTH,
            HEIGHT,
            index as i32 * 100,
        ));
    }
    let animated_webp = encoder.encode().to_vec();

    for file in [gif, animated_webp] {
        let prepared = decode(&file).unwrap();
        assert_eq!(prepared.measurements.frames, 3);
        assert_eq!(prepared.raster.channels(), Channels::Rgb);
        let expected: Vec<u8> = frames[0][..3].repeat((WIDTH * HEIGHT) as usize);
        let (_, largest) = difference(prepared.raster.data(), &expected);
        assert!(largest <= 6, "the first frame differs by {largest} levels");
    }
}

/// A colour that sRGB and Display P3 show differently: P3 (200, 50, 50) is sRGB (217, 26, 39), by the matrices of the
/// two standards.
const P3: [u8; 3] = [200, 50, 50];
const P3_IN_SRGB: [u8; 3] = [217, 26, 39];

#[test]
fn embedded_profiles_are_converted() {
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let pixels = P3.repeat((WIDTH * HEIGHT) as usize);
    let wide: Vec<u8> = pixels
        .iter()
        .flat_map(|value| (u16::from(*value) * 257).to_be_bytes())
        .collect();
    let files = [
        png(png::ColorType::Rgb, png::BitDepth::Eight, &pixels, |info| {
            info.icc_profile = Some(profile.clone().into());
        }),
        png(png::ColorType::Rgb, png::BitDepth::Sixteen, &wide, |info| {
            info.icc_profile = Some(profile.clone().into());
        }),
        jpeg(jpeg_encoder::ColorType::Rgb, &pixels, |encoder| {
            encoder.add_icc_profile(&profile).unwrap();
        }),
    ];
    for file in files {
        let prepared = decode(&file).unwrap();
        assert!(prepared.measurements.profile_converted);
        let found: [u8; 3] = prepared.raster.data()[..3].try_into().unwrap();
        assert!(
            found
                .iter()
                .zip(P3_IN_SRGB)
                .all(|(found, expected)| found.abs_diff(expected) <= 3),
            "{found:?}"
        );
    }
}

#[test]
fn grey_profiles_are_converted() {
    let profile = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    // Linear light 55 of 255 is sRGB 128.
    let pixels = vec![55; (WIDTH * HEIGHT) as usize];
    let file = png(
        png::ColorType::Grayscale,
        png::BitDepth::Eight,
        &pixels,
        |info| info.icc_profile = Some(profile.into()),
    );
    let prepared = decode(&file).unwrap();
    assert!(prepared.measurements.profile_converted);
    assert!(
        prepared
            .raster
            .data()
            .iter()
            .all(|value| value.abs_diff(128) <= 2),
        "{:?}",
        &prepared.raster.data()[..3]
    );
}

#[test]
fn broken_and_foreign_profiles_are_left_out() {
    let rgb = rgb_gradient(WIDTH, HEIGHT);
    let gray_profile = ColorProfile::new_gray_with_gamma(2.2).encode().unwrap();
    for profile in [b"no profile".to_vec(), vec![0; 200], gray_profile] {
        let file = png(png::ColorType::Rgb, png::BitDepth::Eight, &rgb, |info| {
            info.icc_profile = Some(profile.into());
        });
        let prepared = decode(&file).unwrap();
        assert!(!prepared.measurements.profile_converted);
        assert_eq!(prepared.raster.data(), rgb);
    }
}

#[test]
fn exif_orientation_in_png_and_jpeg() {
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let rgb = rgb_gradient(WIDTH, HEIGHT);
    let png_file = png(png::ColorType::Rgb, png::BitDepth::Eight, &rgb, |info| {
        info.exif_metadata = Some(exif.clone().into());
    });
    exif.splice(0..0, *b"Exif\0\0");
    let jpeg_file = jpeg(jpeg_encoder::ColorType::Rgb, &rgb, |encoder| {
        encoder.add_app_segment(1, exif).unwrap();
    });
    for file in [png_file, jpeg_file] {
        let prepared = decode(&file).unwrap();
        assert_eq!(prepared.measurements.orientation, 6);
        assert_eq!(
            (prepared.raster.width(), prepared.raster.height()),
            (HEIGHT, WIDTH)
        );
        // A quarter turn clockwise: the lower left corner comes to the upper left.
        let corner = &rgb[((HEIGHT - 1) * WIDTH * 3) as usize..][..3];
        assert!(difference(&prepared.raster.data()[..3], corner).1 <= 6);
    }
}

#[test]
fn larger_pictures_are_made_smaller_when_asked() {
    let big = GrayImage::from_fn(640, 200, |x, _| image::Luma([(x / 3) as u8]));
    let file = encode(&DynamicImage::ImageLuma8(big), ImageFormat::Png);
    let prepared =
        atelier_preprocess::prepare(&file, &atelier_preprocess::Limits::default(), 160).unwrap();
    assert_eq!(
        (prepared.raster.width(), prepared.raster.height()),
        (160, 50)
    );
}
