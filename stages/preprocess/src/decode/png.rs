//! PNG, by the `png` crate: every colour type and depth, interlaced or not; of an animation the default picture.

use std::io::Cursor;

use ::png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::{DecodeError, Depth, Layout, Source};
use crate::{Limits, orientation};

const FORMAT: &str = "PNG";

/// What all chunks beside the pixels may take together, decompressed: room for a colour profile and EXIF.
const MAX_ANCILLARY_BYTES: usize = 8 * 1024 * 1024;

pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let mut decoder = Decoder::new_with_limits(
        Cursor::new(file),
        ::png::Limits {
            bytes: MAX_ANCILLARY_BYTES,
        },
    );
    // Text is of no use here, and a compressed text chunk can be a bomb.
    decoder.set_ignore_text_chunk(true);
    // Palette to RGB, transparency chunks to alpha, less than eight bits to eight.
    decoder.set_transformations(Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(broken)?;
    let (width, height) = (header.width, header.height);
    let color_model = color_model(header.color_type, header.bit_depth);
    // Before the palette's transparency is known, the most that a pixel can expand to.
    let sample_bytes = if header.bit_depth == BitDepth::Sixteen {
        2
    } else {
        1
    };
    limits.check(width, height, 4 * sample_bytes)?;

    let mut reader = decoder.read_info().map_err(broken)?;
    let (color_type, bit_depth) = reader.output_color_type();
    let layout = match color_type {
        ColorType::Grayscale => Layout::Gray,
        ColorType::GrayscaleAlpha => Layout::GrayAlpha,
        ColorType::Rgb => Layout::Rgb,
        ColorType::Rgba => Layout::Rgba,
        ColorType::Indexed => return Err(DecodeError::broken(FORMAT, "its palette is missing")),
    };
    let depth = if bit_depth == BitDepth::Sixteen {
        Depth::Sixteen
    } else {
        Depth::Eight
    };
    let mut bytes = vec![0; width as usize * height as usize * layout.samples() * depth.bytes()];
    if reader.output_buffer_size() != Some(bytes.len()) {
        return Err(DecodeError::broken(
            FORMAT,
            "its first frame is not of the picture's size",
        ));
    }
    reader.next_frame(&mut bytes).map_err(broken)?;
    if depth == Depth::Sixteen {
        for sample in bytes.as_chunks_mut::<2>().0 {
            *sample = u16::from_be_bytes(*sample).to_ne_bytes();
        }
    }
    let info = reader.info();
    Ok(Source {
        width,
        height,
        layout,
        depth,
        premultiplied: false,
        bytes,
        icc_profile: info.icc_profile.as_ref().map(|profile| profile.to_vec()),
        orientation: info
            .exif_metadata
            .as_ref()
            .map_or(1, |exif| orientation::of_exif(exif)),
        frames: info
            .animation_control
            .map_or(1, |animation| animation.num_frames.max(1)),
        color_model,
    })
}

fn color_model(color_type: ColorType, depth: BitDepth) -> String {
    let name = match color_type {
        ColorType::Grayscale => "gray",
        ColorType::GrayscaleAlpha => "graya",
        ColorType::Indexed => "palette",
        ColorType::Rgb => "rgb",
        ColorType::Rgba => "rgba",
    };
    format!("{name}{}", depth as u8)
}

fn broken(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        error => DecodeError::broken(FORMAT, error),
    }
}
