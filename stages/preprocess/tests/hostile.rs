//! Files made to do harm: all of them get an answer, none of them takes memory that was not earned.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Cursor,
    time::{Duration, Instant},
};

use atelier_preprocess::{DecodeError, Limits, prepare};
use image::{DynamicImage, ImageFormat, RgbImage};
use proptest::prelude::*;
use support::{decode, rgb_gradient};

/// Far more than any of these needs, far less than a hang.
const TIME_BOUND: Duration = Duration::from_secs(30);

fn png_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let checksum = crc32(&[name.as_slice(), data].concat());
    [
        &(data.len() as u32).to_be_bytes(),
        name.as_slice(),
        data,
        &checksum.to_be_bytes(),
    ]
    .concat()
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ]
    .concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), png_chunk(b"IHDR", &header)].concat()
}

/// A real PNG with `chunk` put in after its header.
fn png_with(chunk: &[u8]) -> Vec<u8> {
    let mut file = encode(ImageFormat::Png);
    file.splice(33..33, chunk.iter().copied());
    file
}

fn encode(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_raw(40, 30, rgb_gradient(40, 30)).unwrap();
    let mut file = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image)
        .write_to(&mut file, format)
        .unwrap();
    file.into_inner()
}

/// A zlib stream of `megabytes` of zeros, made without a compressor: a thousandth of that long.
fn zlib_bomb(megabytes: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1 << 10, (megabytes << 10) as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; megabytes << 20]).unwrap();
    writer.finish().unwrap();
    // The payload of all IDAT chunks is one zlib stream.
    let (mut stream, mut position) = (Vec::new(), 8);
    while position < file.len() {
        let length = u32::from_be_bytes(file[position..position + 4].try_into().unwrap()) as usize;
        if &file[position + 4..position + 8] == b"IDAT" {
            stream.extend_from_slice(&file[position + 8..position + 8 + length]);
        }
        position += length + 12;
    }
    stream
}

fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

#[test]
fn bombs_in_text_and_profile_chunks_do_not_go_off() {
    let bomb = zlib_bomb(256);
    assert!(bomb.len() < 2 << 20);
    let before_bytes = peak_memory_bytes();
    let text = [b"Comment\0\0".as_slice(), &bomb].concat();
    let international = [b"Comment\0\x01\0\0\0".as_slice(), &bomb].concat();
    for chunk in [
        png_chunk(b"zTXt", &text),
        png_chunk(b"iTXt", &international),
    ] {
        let prepared = decode(&png_with(&chunk)).unwrap();
        assert_eq!(prepared.raster.data(), rgb_gradient(40, 30));
    }
    // A profile that is a bomb may be refused or left out.
    let profile = [b"icc\0\0".as_slice(), &bomb].concat();
    if let Ok(prepared) = decode(&png_with(&png_chunk(b"iCCP", &profile))) {
        assert!(!prepared.measurements.profile_converted);
    }
    let grown_bytes = peak_memory_bytes() - before_bytes;
    assert!(grown_bytes < 128 << 20, "{} MiB", grown_bytes >> 20);
}

#[test]
fn headers_that_claim_too_much_are_refused_undecoded() {
    let jpeg = b"\xff\xd8\xff\xc0\0\x11\x08\xea\x60\xea\x60\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xda\0\x02\xff\xd9".to_vec();
    let gif = b"GIF89a\x60\xea\x60\xea\0\0\0,\0\0\0\0\x60\xea\x60\xea\0\x02\x01\0\0;".to_vec();
    let mut bmp = encode(ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000_u32.to_le_bytes());
    let lossless_webp =
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f\0\0\0\0\0\0\0\0".to_vec();
    let before_bytes = peak_memory_bytes();
    for (name, file) in [
        ("png", png_header(60_000, 60_000)),
        ("jpeg", jpeg),
        ("gif", gif),
        ("bmp", bmp),
        ("webp", lossless_webp),
    ] {
        let started = Instant::now();
        let error = decode(&file).unwrap_err();
        assert!(
            matches!(error, DecodeError::TooLarge { .. }),
            "{name}: {error}"
        );
        assert!(started.elapsed() < TIME_BOUND);
    }
    assert!(peak_memory_bytes() - before_bytes < 512 << 20);
    // A size within the limits whose pixels are missing is not believed to be a picture either.
    let error = decode(&png_header(9_000, 9_000)).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::Truncated { .. } | DecodeError::Broken { .. }
        ),
        "{error}"
    );
}

#[test]
fn each_limit_is_named_when_it_is_passed() {
    let file = encode(ImageFormat::Png);
    let wide = Limits::default();
    for (limits, name) in [
        (
            Limits {
                max_pixels: 1_199,
                ..wide
            },
            "max_pixels",
        ),
        (
            Limits {
                max_dimension_px: 39,
                ..wide
            },
            "max_dimension_px",
        ),
        (
            Limits {
                max_decoded_bytes: 4_799,
                ..wide
            },
            "max_decoded_bytes",
        ),
    ] {
        let error = prepare(&file, &limits, 0).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("40 × 30"), "{error}");
    }
    assert!(
        prepare(
            &file,
            &Limits {
                max_pixels: 1_200,
                max_dimension_px: 40,
                max_decoded_bytes: 4_800
            },
            0
        )
        .is_ok()
    );
}

#[test]
fn nothing_and_noise_are_refused() {
    assert!(matches!(decode(b""), Err(DecodeError::Empty)));
    let noise: Vec<u8> = (0..100_000_u64)
        .map(|index| (index.wrapping_mul(6_364_136_223_846_793_005) >> 56) as u8)
        .collect();
    assert!(decode(&noise).is_err());
}

#[test]
fn a_jpeg_that_breaks_off_is_refused_rather_than_filled_with_grey() {
    let file = encode(ImageFormat::Jpeg);
    for length in [file.len() / 2, file.len() - 2] {
        assert!(matches!(
            decode(&file[..length]),
            Err(DecodeError::Truncated { format: "JPEG" })
        ));
    }
}

fn valid_files() -> Vec<Vec<u8>> {
    let formats = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Ico,
    ];
    let mut files: Vec<Vec<u8>> = formats.into_iter().map(encode).collect();
    files.push(
        webp::Encoder::from_rgb(&rgb_gradient(40, 30), 40, 30)
            .encode(80.0)
            .to_vec(),
    );
    let mut progressive = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut progressive, 90);
    encoder.set_progressive(true);
    encoder
        .encode(&rgb_gradient(40, 30), 40, 30, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    files.push(progressive);
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_get_an_answer(
        which in 0..9_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = valid_files().swap_remove(which);
        for (place, value) in changes {
            let place = place.index(file.len());
            file[place] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let limits = Limits { max_pixels: 4_000_000, max_dimension_px: 16_000, max_decoded_bytes: 64 << 20 };
        let started = Instant::now();
        // A panic in a decoder would be caught and answered; one of our own would fail this test.
        if let Ok(prepared) = prepare(&file, &limits, 0) {
            prop_assert!(prepared.raster.pixels() <= limits.max_pixels);
        }
        prop_assert!(started.elapsed() < TIME_BOUND);
    }
}
