//! What is the same for every format that is read by way of `image`.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageError, codecs::bmp::BmpDecoder};

use super::{DecodeError, Depth, Layout, Source};
use crate::{Limits, orientation};

/// Windows bitmaps.
pub(super) fn decode_bmp(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let decoder = BmpDecoder::new(Cursor::new(file)).map_err(|error| broken("BMP", error))?;
    read("BMP", decoder, limits)
}

/// Reads what `decoder` has opened: size first, pixels then.
pub(super) fn read(
    format: &'static str,
    mut decoder: impl ImageDecoder,
    limits: &Limits,
) -> Result<Source, DecodeError> {
    let (width, height) = decoder.dimensions();
    let (layout, depth, name) = match decoder.color_type() {
        ColorType::L8 => (Layout::Gray, Depth::Eight, "gray8"),
        ColorType::La8 => (Layout::GrayAlpha, Depth::Eight, "graya8"),
        ColorType::Rgb8 => (Layout::Rgb, Depth::Eight, "rgb8"),
        ColorType::Rgba8 => (Layout::Rgba, Depth::Eight, "rgba8"),
        other => {
            return Err(DecodeError::UnsupportedFeature {
                format,
                feature: format!("the pixel type {other:?}"),
            });
        }
    };
    // Some decoders keep a second buffer of four bytes a pixel.
    limits.check(width, height, (layout.samples() + 4) as u64)?;
    let mut image_limits = image::Limits::no_limits();
    image_limits.max_alloc = Some(limits.max_decoded_bytes);
    decoder
        .set_limits(image_limits)
        .map_err(|error| broken(format, error))?;
    // A profile or EXIF block that cannot be read is as good as none.
    let icc_profile = decoder.icc_profile().ok().flatten();
    let orientation = decoder
        .exif_metadata()
        .ok()
        .flatten()
        .map_or(1, |exif| orientation::of_exif(&exif));
    let mut bytes = vec![0; width as usize * height as usize * layout.samples() * depth.bytes()];
    if decoder.total_bytes() != bytes.len() as u64 {
        return Err(DecodeError::broken(
            format,
            "its size does not match its pixels",
        ));
    }
    decoder
        .read_image(&mut bytes)
        .map_err(|error| broken(format, error))?;
    Ok(Source {
        width,
        height,
        layout,
        depth,
        premultiplied: false,
        bytes,
        icc_profile,
        orientation,
        frames: 1,
        color_model: name.to_owned(),
    })
}

pub(super) fn broken(format: &'static str, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format }
        }
        ImageError::Unsupported(error) => DecodeError::UnsupportedFeature {
            format,
            feature: error.to_string(),
        },
        error => DecodeError::broken(format, error),
    }
}
