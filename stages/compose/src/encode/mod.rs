//! Files that anybody can open: PNG, WebP, AVIF, JPEG.

mod avif;
mod jpeg;
mod png;
mod webp;

use atelier_schemas::ImageFormat;
use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use crate::{ComposeError, ComposeOptions};

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
        ImageFormat::Png => png::encode(picture)?,
        ImageFormat::Webp => webp::encode(picture, quality, options.webp_method)?,
        ImageFormat::Avif => avif::encode(picture, quality, options.avif_speed)?,
        ImageFormat::Jpeg => jpeg::encode(picture, quality)?,
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
        bytes: png::encode(matte)?,
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

/// `None` where the picture is small enough. Colours are weighted by alpha on the way, so that no fringe appears.
fn shrink(picture: &Raster, side_px: u32) -> Result<Option<Raster>, ComposeError> {
    let longest = picture.width().max(picture.height());
    if longest <= side_px {
        return Ok(None);
    }
    let failed = |error: &dyn std::fmt::Display| ComposeError::EncodingFailed {
        format: "thumbnail",
        message: error.to_string(),
    };
    let scaled = |side: u32| {
        ((u64::from(side) * u64::from(side_px) + u64::from(longest / 2)) / u64::from(longest))
            .max(1) as u32
    };
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    let pixel_type = match picture.channels() {
        Channels::Gray => PixelType::U8,
        Channels::Rgb => PixelType::U8x3,
        Channels::Rgba => PixelType::U8x4,
    };
    let source = ImageRef::new(
        picture.width(),
        picture.height(),
        picture.data(),
        pixel_type,
    )
    .map_err(|error| failed(&error))?;
    let mut target = Image::new(width, height, pixel_type);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Hamming));
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| failed(&error))?;
    Ok(Some(Raster::new(
        width,
        height,
        picture.channels(),
        target.into_vec(),
    )?))
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
