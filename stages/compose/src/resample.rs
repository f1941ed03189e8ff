//! Pictures in another size. Colours are weighted by their alpha on the way, so that no fringe appears.

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use crate::ComposeError;

/// A part of a picture, in pixels and parts of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// `picture` made `width × height`.
pub(crate) fn to_size(
    picture: &Raster,
    width: u32,
    height: u32,
    filter: FilterType,
) -> Result<Raster, ComposeError> {
    if (picture.width(), picture.height()) == (width, height) {
        return Ok(picture.clone());
    }
    resize(picture, width, height, &options(filter))
}

/// The `part` of `picture` made `width × height`.
pub(crate) fn part_to_size(
    picture: &Raster,
    part: Part,
    width: u32,
    height: u32,
) -> Result<Raster, ComposeError> {
    let options =
        options(FilterType::CatmullRom).crop(part.left, part.top, part.width, part.height);
    resize(picture, width, height, &options)
}

/// `picture` scaled until it covers `width × height`, centred, the rest cut off.
pub(crate) fn covering(picture: &Raster, width: u32, height: u32) -> Result<Raster, ComposeError> {
    if (picture.width(), picture.height()) == (width, height) {
        return Ok(picture.clone());
    }
    let options = options(FilterType::CatmullRom).fit_into_destination(Some((0.5, 0.5)));
    resize(picture, width, height, &options)
}

/// The size with no more than `max_pixels` and the same proportions; `None` where it has no more anyway.
pub(crate) fn smaller_size(width: u32, height: u32, max_pixels: u64) -> Option<(u32, u32)> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= max_pixels {
        return None;
    }
    let scale = (max_pixels as f64 / pixels as f64).sqrt();
    let side = |length: u32| ((f64::from(length) * scale).floor() as u32).max(1);
    let (small_width, small_height) = (side(width), side(height));
    // A side of one pixel is no shorter for being rounded: the other one has to be.
    let limit = |other: u32| max_pixels.div_euclid(u64::from(other)).max(1) as u32;
    Some((
        small_width.min(limit(small_height)),
        small_height.min(limit(small_width)),
    ))
}

fn options(filter: FilterType) -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter))
}

fn resize(
    picture: &Raster,
    width: u32,
    height: u32,
    options: &ResizeOptions,
) -> Result<Raster, ComposeError> {
    let failed = |error: &dyn std::fmt::Display| ComposeError::ResizingFailed {
        message: error.to_string(),
    };
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
    Resizer::new()
        .resize(&source, &mut target, options)
        .map_err(|error| failed(&error))?;
    Ok(Raster::new(
        width,
        height,
        picture.channels(),
        target.into_vec(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_size_holds_its_limit() {
        assert_eq!(smaller_size(1_000, 800, 250_000), Some((559, 447)));
        assert_eq!(smaller_size(500, 500, 250_000), None);
        for (width, height, max_pixels) in [(10_000, 1, 50), (1, 9_999, 7), (3, 3, 1)] {
            let (width, height) = smaller_size(width, height, max_pixels).unwrap();
            assert!(width > 0 && height > 0);
            assert!(u64::from(width) * u64::from(height) <= max_pixels);
        }
    }
}
