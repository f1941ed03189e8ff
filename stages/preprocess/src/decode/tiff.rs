//! TIFF: grey, RGB, CMYK and YCbCr of 8 or 16 bits, with or without alpha; the first page.

use std::io::Cursor;

use ::tiff::{
    ColorType, TiffError,
    decoder::{Decoder, Limits as TiffLimits},
    tags::Tag,
};

use super::{DecodeError, Depth, Layout, Source, jpeg};
use crate::Limits;

const FORMAT: &str = "TIFF";

/// Largest value of one tag; the colour profile is one.
const MAX_TAG_BYTES: usize = 8 * 1024 * 1024;
/// Pages are counted up to here; a chain of directories can be made endless.
const MAX_PAGES_COUNTED: u32 = 1_000;

pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let max_bytes = usize::try_from(limits.max_decoded_bytes).unwrap_or(usize::MAX);
    let tiff_limits = {
        let mut tiff_limits = TiffLimits::default();
        tiff_limits.decoding_buffer_size = max_bytes;
        tiff_limits.intermediate_buffer_size = max_bytes;
        tiff_limits.ifd_value_size = MAX_TAG_BYTES;
        tiff_limits
    };
    let mut decoder = Decoder::new(Cursor::new(file))
        .map_err(broken)?
        .with_limits(tiff_limits);
    let (width, height) = decoder.dimensions().map_err(broken)?;
    // Checked before the colour type is known with the most that a pixel can take.
    limits.check(width, height, 1)?;
    let kind = Kind::of(decoder.colortype().map_err(broken)?)?;
    let samples = kind.layout.samples();
    limits.check(width, height, (samples * kind.depth.bytes()) as u64)?;
    let sample_format = decoder
        .find_tag_unsigned_vec::<u16>(Tag::SampleFormat)
        .ok()
        .flatten()
        .unwrap_or_default();
    if sample_format.iter().any(|format| *format != 1) {
        let feature = "samples that are floating point or signed".to_owned();
        return Err(DecodeError::UnsupportedFeature {
            format: FORMAT,
            feature,
        });
    }
    let extra = decoder
        .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)
        .ok()
        .flatten()
        .unwrap_or_default();
    let icc_profile = decoder.get_tag_u8_vec(Tag::IccProfile).ok();
    let orientation = decoder
        .find_tag_unsigned::<u16>(Tag::Orientation)
        .ok()
        .flatten()
        .unwrap_or(1);

    let mut bytes = vec![0; width as usize * height as usize * samples * kind.depth.bytes()];
    let layout = decoder.image_buffer_layout().map_err(broken)?;
    if layout.complete_len != bytes.len() {
        let feature = "a packing of samples other than whole bytes".to_owned();
        return Err(DecodeError::UnsupportedFeature {
            format: FORMAT,
            feature,
        });
    }
    decoder.read_image_bytes(&mut bytes).map_err(broken)?;
    if layout.planes > 1 {
        bytes = interleave(&bytes, samples, kind.depth);
    }
    if kind.ycbcr {
        for [first, second, third] in bytes.as_chunks_mut::<3>().0 {
            [*first, *second, *third] = jpeg::ycbcr_to_rgb(*first, *second, *third);
        }
    }
    Ok(Source {
        width,
        height,
        layout: kind.layout,
        depth: kind.depth,
        // ExtraSamples 1 is associated, that is premultiplied, alpha.
        premultiplied: kind.layout == Layout::Rgba && extra.first() == Some(&1),
        bytes,
        icc_profile,
        orientation: u8::try_from(orientation)
            .ok()
            .filter(|value| (1..=8).contains(value))
            .unwrap_or(1),
        frames: count_pages(&mut decoder),
        color_model: kind.name,
    })
}

struct Kind {
    layout: Layout,
    depth: Depth,
    ycbcr: bool,
    name: String,
}

impl Kind {
    fn of(color_type: ColorType) -> Result<Self, DecodeError> {
        let (layout, bits, name, ycbcr) = match color_type {
            ColorType::Gray(bits) => (Layout::Gray, bits, "gray", false),
            ColorType::GrayA(bits)
            | ColorType::Multiband {
                bit_depth: bits,
                num_samples: 2,
            } => (Layout::GrayAlpha, bits, "graya", false),
            ColorType::RGB(bits) => (Layout::Rgb, bits, "rgb", false),
            ColorType::RGBA(bits) => (Layout::Rgba, bits, "rgba", false),
            ColorType::CMYK(bits) => (Layout::Cmyk, bits, "cmyk", false),
            ColorType::YCbCr(8) => (Layout::Rgb, 8, "ycbcr", true),
            other => return Err(unsupported(&other)),
        };
        let depth = match bits {
            8 => Depth::Eight,
            16 => Depth::Sixteen,
            _ => return Err(unsupported(&color_type)),
        };
        Ok(Self {
            layout,
            depth,
            ycbcr,
            name: format!("{name}{bits}"),
        })
    }
}

fn unsupported(color_type: &ColorType) -> DecodeError {
    DecodeError::UnsupportedFeature {
        format: FORMAT,
        feature: format!("the colour type {color_type:?}"),
    }
}

/// One plane after the other becomes one pixel after the other.
fn interleave(planes: &[u8], samples: usize, depth: Depth) -> Vec<u8> {
    let sample_bytes = depth.bytes();
    let plane_bytes = planes.len() / samples.max(1);
    let mut pixels = vec![0; planes.len()];
    for (index, pixel) in pixels.chunks_exact_mut(samples * sample_bytes).enumerate() {
        for (plane, sample) in pixel.chunks_exact_mut(sample_bytes).enumerate() {
            let start = plane * plane_bytes + index * sample_bytes;
            sample.copy_from_slice(&planes[start..start + sample_bytes]);
        }
    }
    pixels
}

fn count_pages(decoder: &mut Decoder<Cursor<&[u8]>>) -> u32 {
    let mut pages = 1;
    while pages < MAX_PAGES_COUNTED && decoder.more_images() && decoder.next_image().is_ok() {
        pages += 1;
    }
    pages
}

fn broken(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        TiffError::UnsupportedError(error) => DecodeError::UnsupportedFeature {
            format: FORMAT,
            feature: error.to_string(),
        },
        error => DecodeError::broken(FORMAT, error),
    }
}
