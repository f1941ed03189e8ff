//! Lanczos resampling of bytes, rows first and then columns.
//!
//! The order matters: both orders round to bytes in between, and differ by up to six levels. Published pipelines go
//! row by row first, so this does too, although the resizer by itself would not.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use super::SegmentError;

/// Bytes of `width` × `height` pixels. Alpha, where `pixel_type` has one, is a channel like any other.
pub(super) fn lanczos(
    source: &ImageRef<'_>,
    width: u32,
    height: u32,
) -> Result<Image<'static>, SegmentError> {
    let failed = |error: ResizeError| SegmentError::Resize {
        width,
        height,
        reason: error.to_string(),
    };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .use_alpha(false);
    let pixel_type: PixelType = source.pixel_type();
    let mut resizer = Resizer::new();
    let mut target = Image::new(width, height, pixel_type);
    if source.width() == width || source.height() == height {
        resizer
            .resize(source, &mut target, &options)
            .map_err(failed)?;
        return Ok(target);
    }
    let mut narrowed = Image::new(width, source.height(), pixel_type);
    resizer
        .resize(source, &mut narrowed, &options)
        .map_err(failed)?;
    resizer
        .resize(&narrowed, &mut target, &options)
        .map_err(failed)?;
    Ok(target)
}
