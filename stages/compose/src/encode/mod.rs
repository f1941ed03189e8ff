//! Files that anybody can open: PNG, WebP, AVIF, JPEG, and a ZIP of colours and alpha.
//!
//! Every one is sRGB and says so where its format can (PNG and AVIF; WebP and JPEG are sRGB where they say nothing). None holds
//! anything else of the original: no EXIF, no place, no other profile.

mod avif;
mod budget;
mod jpeg;
mod png;
mod webp;
mod zip;

use atelier_schemas::ImageFormat;
use atelier_stores::Raster;
use fast_image_resize::FilterType;

use crate::{ComposeError, ComposeOptions, resample};

/// An encoded picture.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: &'static str,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// Encodes `picture` in no more than `max_bytes`, at the best quality up to `quality` that a few encodings find. Blocks.
///
/// # Errors
/// Those of [`encode_picture`], and [`ComposeError::FileTooLarge`].
pub(crate) fn encode_within(
    picture: &Raster,
    format: ImageFormat,
    quality: u8,
    max_bytes: Option<u64>,
    options: &ComposeOptions,
) -> Result<Encoded, ComposeError> {
    let at_quality = |quality: u8| encode_picture(picture, format, quality, options);
    let Some(max_bytes) = max_bytes else {
        return at_quality(quality);
    };
    if format != ImageFormat::Png {
        return budget::search(format, quality.clamp(1, 100), max_bytes, at_quality);
    }
    let fast = at_quality(quality)?;
    if fast.bytes.len() as u64 <= max_bytes {
        return Ok(fast);
    }
    let bytes = png::encode(picture, png::Effort::Small)?;
    if bytes.len() as u64 > max_bytes {
        return Err(budget::too_large(format, bytes.len(), max_bytes));
    }
    Ok(Encoded { bytes, ..fast })
}

/// Encodes `picture`; JPEG takes no RGBA. `quality` is from 1 to 100 and means nothing to PNG. Blocks.
///
/// # Errors
/// [`ComposeError::TooLargeForFormat`] and [`ComposeError::EncodingFailed`].
pub fn encode_picture(
    picture: &Raster,
    format: ImageFormat,
    quality: u8,
    options: &ComposeOptions,
) -> Result<Encoded, ComposeError> {
    let quality = quality.clamp(1, 100);
    let bytes = match format {
        ImageFormat::Png => png::encode(picture, png::Effort::Fast)?,
        ImageFormat::Webp => webp::encode(picture, quality, options.webp_method)?,
        ImageFormat::Avif => avif::encode(picture, quality, options.avif_speed)?,
        ImageFormat::Jpeg => jpeg::encode(picture, quality)?,
        ImageFormat::Zip => zip::encode(picture, quality)?,
    };
    Ok(Encoded {
        bytes,
        media_type: format.media_type(),
        width: picture.width(),
        height: picture.height(),
    })
}

/// Encodes a matte as a grey PNG. Blocks.
///
/// # Errors
/// [`ComposeError::EncodingFailed`].
pub fn encode_alpha_png(matte: &Raster) -> Result<Encoded, ComposeError> {
    let media_type = ImageFormat::Png.media_type();
    Ok(Encoded {
        bytes: png::encode(matte, png::Effort::Fast)?,
        media_type,
        width: matte.width(),
        height: matte.height(),
    })
}

/// A small WebP of `picture`, no longer than the option says on any side. Blocks.
pub(crate) fn thumbnail(
    picture: &Raster,
    options: &ComposeOptions,
) -> Result<Encoded, ComposeError> {
    let side_px = options.thumbnail_side_px.clamp(1, webp::MAX_SIDE_PX);
    let small = shrink(picture, side_px)?;
    let picture = small.as_ref().unwrap_or(picture);
    let bytes = webp::encode(
        picture,
        options.thumbnail_quality.clamp(1, 100),
        options.webp_method,
    )?;
    Ok(Encoded {
        bytes,
        media_type: ImageFormat::Webp.media_type(),
        width: picture.width(),
        height: picture.height(),
    })
}

/// `None` where the picture is small enough.
fn shrink(picture: &Raster, side_px: u32) -> Result<Option<Raster>, ComposeError> {
    let longest = picture.width().max(picture.height());
    if longest <= side_px {
        return Ok(None);
    }
    let scaled = |side: u32| {
        ((u64::from(side) * u64::from(side_px) + u64::from(longest / 2)) / u64::from(longest))
            .max(1) as u32
    };
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    resample::to_size(picture, width, height, FilterType::Hamming).map(Some)
}

/// Refuses what a format cannot hold, and says which one can.
fn check_side(
    picture: &Raster,
    format: &'static str,
    limit_px: u32,
    alternative: &'static str,
) -> Result<(), ComposeError> {
    let (width, height) = (picture.width(), picture.height());
    if width.max(height) > limit_px {
        return Err(ComposeError::TooLargeForFormat {
            format,
            limit_px,
            width,
            height,
            alternative,
        });
    }
    Ok(())
}

/// Grey as RGB, for formats without grey.
fn gray_to_rgb(gray: &[u8]) -> Vec<u8> {
    gray.iter().flat_map(|value| [*value; 3]).collect()
}
