//! Lossy WebP with alpha, by libwebp: nothing in Rust writes it yet.

use ::webp::{Encoder, PixelLayout, WebPConfig};
use atelier_stores::{Raster, raster::Channels};

use super::{check_side, gray_to_rgb};
use crate::ComposeError;

const FORMAT: &str = "WebP";

/// The format has fourteen bits for a side.
pub(super) const MAX_SIDE_PX: u32 = 16_383;

pub(super) fn encode(picture: &Raster, quality: u8, method: u8) -> Result<Vec<u8>, ComposeError> {
    check_side(picture, FORMAT, MAX_SIDE_PX, "PNG or AVIF")?;
    let failed = |message: String| ComposeError::EncodingFailed {
        format: FORMAT,
        message,
    };
    let mut config = WebPConfig::new()
        .map_err(|()| failed("libwebp is not of the expected version".to_owned()))?;
    config.quality = f32::from(quality);
    config.method = i32::from(method.min(6));
    let (width, height) = (picture.width(), picture.height());
    let encoded =
        match picture.channels() {
            Channels::Gray => {
                let colors = gray_to_rgb(picture.data());
                Encoder::new(&colors, PixelLayout::Rgb, width, height).encode_advanced(&config)
            }
            Channels::Rgb => Encoder::new(picture.data(), PixelLayout::Rgb, width, height)
                .encode_advanced(&config),
            Channels::Rgba => Encoder::new(picture.data(), PixelLayout::Rgba, width, height)
                .encode_advanced(&config),
        };
    encoded
        .map(|memory| memory.to_vec())
        .map_err(|error| failed(format!("{error:?}")))
}
