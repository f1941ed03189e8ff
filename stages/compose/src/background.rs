//! A picture to lay behind: a file decoded under limits, or the picture itself out of focus, made to cover the canvas.

use std::io::Cursor;

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader};

use crate::{
    ComposeError,
    place::{self, Frame},
    resample,
    soften::{self, Beyond, blur_plane},
};

/// Bytes that decoding may take for each pixel allowed: sixteen-bit RGBA.
const DECODER_BYTES_PER_PIXEL: u64 = 8;
const MAX_SIDE_PX: u32 = 32_767;
/// Most pixels that are blurred as they are: larger pictures are made smaller first, whatever the blur.
const MAX_BLURRED_PIXELS: f32 = 4e6;
/// The weight of an opaque subject in the blur of what is behind it.
const LEAST_WEIGHT: f32 = 0.004;

/// Decodes `file` and makes it `width × height`: scaled until it covers the canvas, centred, the rest cut off.
pub(crate) fn cover(
    file: &[u8],
    width: u32,
    height: u32,
    max_pixels: u64,
) -> Result<Raster, ComposeError> {
    let picture = decode(file, max_pixels)?;
    let (picture, channels) = if picture.color().has_alpha() {
        (
            DynamicImage::ImageRgba8(picture.into_rgba8()),
            Channels::Rgba,
        )
    } else {
        (DynamicImage::ImageRgb8(picture.into_rgb8()), Channels::Rgb)
    };
    let picture = Raster::new(
        picture.width(),
        picture.height(),
        channels,
        picture.into_bytes(),
    )?;
    resample::covering(&picture, width, height)
}

/// The part of `picture` under `frame`, out of focus by `sigma_px` and made to cover `width × height`. The subject gives as
/// little as possible of its colour to what is around it: only the background is blurred, and carried on behind the subject.
pub(crate) fn out_of_focus(
    picture: &Raster,
    alpha: &Raster,
    frame: Frame,
    sigma_px: f32,
    (width, height): (u32, u32),
) -> Result<Raster, ComposeError> {
    let whole = Frame::of(picture);
    let frame = frame.shared(&whole).unwrap_or(whole);
    let (picture, alpha) = (place::cut(picture, frame)?, place::cut(alpha, frame)?);
    let step = soften::step(sigma_px).max((picture.pixels() as f32 / MAX_BLURRED_PIXELS).sqrt());
    let small_side = |side: u32| ((side as f32 / step).ceil() as u32).max(1);
    let (small_width, small_height) = (small_side(frame.width), small_side(frame.height));
    let small = resample::to_size(&picture, small_width, small_height, FilterType::Box)?;
    let alpha = resample::to_size(&alpha, small_width, small_height, FilterType::Box)?;
    // What is behind an opaque subject is far from all that is known: there the subject itself is better than nothing.
    let weights: Vec<f32> = alpha
        .data()
        .iter()
        .map(|alpha| (f32::from(255 - alpha) / 255.0).max(LEAST_WEIGHT))
        .collect();
    let blur = |mut plane: Vec<f32>| {
        let sigma = sigma_px * small_width as f32 / frame.width as f32;
        blur_plane(
            &mut plane,
            small_width as usize,
            sigma,
            sigma,
            Beyond::Border,
        );
        plane
    };
    let stride = small.channels().count();
    let planes = [0, 1, 2].map(|channel| {
        let colors = small.data().chunks_exact(stride).zip(&weights);
        blur(
            colors
                .map(|(pixel, weight)| f32::from(pixel[channel]) * weight)
                .collect(),
        )
    });
    let weights = blur(weights);
    let data = (0..weights.len())
        .flat_map(|index| {
            planes
                .each_ref()
                .map(|plane| (plane[index] / weights[index]).round().clamp(0.0, 255.0) as u8)
        })
        .collect();
    let blurred = Raster::new(small_width, small_height, Channels::Rgb, data)?;
    resample::covering(&blurred, width, height)
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
