//! A picture to lay behind: decoded under limits, made to cover the canvas.

use std::io::Cursor;

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::{DynamicImage, ImageDecoder, ImageReader};

use crate::ComposeError;

/// Bytes that decoding may take for each pixel allowed: sixteen-bit RGBA.
const DECODER_BYTES_PER_PIXEL: u64 = 8;
const MAX_SIDE_PX: u32 = 32_767;

/// Decodes `file` and makes it `width × height`: scaled until it covers the canvas, centred, the rest cut off.
pub(crate) fn cover(
    file: &[u8],
    width: u32,
    height: u32,
    max_pixels: u64,
) -> Result<Raster, ComposeError> {
    let picture = decode(file, max_pixels)?;
    let (picture, channels, pixel_type) = if picture.color().has_alpha() {
        (
            DynamicImage::ImageRgba8(picture.into_rgba8()),
            Channels::Rgba,
            PixelType::U8x4,
        )
    } else {
        (
            DynamicImage::ImageRgb8(picture.into_rgb8()),
            Channels::Rgb,
            PixelType::U8x3,
        )
    };
    let unusable = |error: &dyn std::fmt::Display| ComposeError::BackgroundUnusable {
        message: error.to_string(),
    };
    if (picture.width(), picture.height()) == (width, height) {
        return Ok(Raster::new(width, height, channels, picture.into_bytes())?);
    }
    let source = ImageRef::new(
        picture.width(),
        picture.height(),
        picture.as_bytes(),
        pixel_type,
    )
    .map_err(|error| unusable(&error))?;
    let mut target = Image::new(width, height, pixel_type);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .fit_into_destination(Some((0.5, 0.5)));
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| unusable(&error))?;
    Ok(Raster::new(width, height, channels, target.into_vec())?)
}

pub(crate) fn decode(file: &[u8], max_pixels: u64) -> Result<DynamicImage, ComposeError> {
    let unusable = |error: image::ImageError| ComposeError::BackgroundUnusable {
        message: error.to_string(),
    };
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| ComposeError::BackgroundUnusable {
            message: error.to_string(),
        })?;
    let mut limits = image::Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits.max_alloc = Some(max_pixels.saturating_mul(DECODER_BYTES_PER_PIXEL));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unusable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        let message = format!("{width} × {height} pixels, at most {max_pixels} are decoded");
        return Err(ComposeError::BackgroundTooLarge { message });
    }
    let orientation = decoder
        .orientation()
        .unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unusable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}
