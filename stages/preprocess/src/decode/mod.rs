//! From a file's bytes to its pixels as the file holds them, with what the file says about them.
//!
//! One module per format. Each reads the header, asks [`Limits`], and only then allocates.

mod error;
mod format;
mod gif;
mod ico;
mod jpeg;
mod png;
mod simple;
mod tiff;
mod webp;

pub use error::DecodeError;
pub use format::Format;

use crate::Limits;

/// What a pixel is made of, in the file's own colour model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
    /// 0 is no ink, the maximum full ink, whatever the file's own convention was.
    Cmyk,
}

impl Layout {
    pub(crate) const fn samples(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// How wide a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Eight,
    /// Two bytes in the machine's order.
    Sixteen,
}

impl Depth {
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Eight => 1,
            Self::Sixteen => 2,
        }
    }
}

/// Pixels as they stand in a file: not yet upright, not yet sRGB.
#[derive(Debug)]
pub(crate) struct Source {
    pub width: u32,
    pub height: u32,
    pub layout: Layout,
    pub depth: Depth,
    /// Whether the colours were multiplied by alpha.
    pub premultiplied: bool,
    /// Rows from the top, without padding.
    pub bytes: Vec<u8>,
    pub icc_profile: Option<Vec<u8>>,
    /// EXIF orientation, 1 to 8.
    pub orientation: u8,
    pub frames: u32,
    /// For people and for analysis: `rgb8`, `cmyk8`, `palette4` …
    pub color_model: String,
}

/// Reads the first picture in `file`.
pub(crate) fn decode(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let source = match Format::of(file)? {
        Format::Jpeg => jpeg::decode(file, limits),
        Format::Png => png::decode(file, limits),
        Format::WebP => webp::decode(file, limits),
        Format::Gif => gif::decode(file, limits),
        Format::Bmp => simple::decode_bmp(file, limits),
        Format::Tiff => tiff::decode(file, limits),
        Format::Ico => ico::decode(file, limits),
    }?;
    let expected = source.width as usize
        * source.height as usize
        * source.layout.samples()
        * source.depth.bytes();
    if source.bytes.len() != expected {
        let message = format!(
            "{} bytes were decoded where {expected} were announced",
            source.bytes.len()
        );
        return Err(DecodeError::Broken {
            format: "picture",
            message,
        });
    }
    Ok(source)
}

impl Limits {
    /// Whether a picture of this size may be decoded; `decoder_bytes_per_pixel` counts all that its decoder allocates.
    pub(crate) fn check(
        &self,
        width: u32,
        height: u32,
        decoder_bytes_per_pixel: u64,
    ) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            return Err(DecodeError::NoPixels { width, height });
        }
        let pixels = u64::from(width) * u64::from(height);
        if width.max(height) > self.max_dimension_px {
            let limit = format!(
                "{} pixels a side (`max_dimension_px`)",
                self.max_dimension_px
            );
            return Err(DecodeError::TooLarge {
                width,
                height,
                limit,
            });
        }
        if pixels > self.max_pixels {
            let limit = format!("{} pixels (`max_pixels`)", self.max_pixels);
            return Err(DecodeError::TooLarge {
                width,
                height,
                limit,
            });
        }
        if pixels.saturating_mul(decoder_bytes_per_pixel) > self.max_decoded_bytes {
            let limit = format!(
                "{} bytes of memory (`max_decoded_bytes`)",
                self.max_decoded_bytes
            );
            return Err(DecodeError::TooLarge {
                width,
                height,
                limit,
            });
        }
        Ok(())
    }
}
