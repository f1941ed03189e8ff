//! The little that the remove.bg dialect needs done to a finished picture: shrink it to a number of pixels, and find the
//! box around the subject.
//!
//! Invariant: what is decoded here was encoded by the pipeline; even so, decoding is bounded, and no more than
//! `picture_slots` pictures are decoded at once.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, Rgba, RgbaImage};

/// Largest decoded picture, in bytes.
const DECODE_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;
/// Encoder quality where the sender has no say.
const LOSSY_QUALITY: u8 = 90;

/// A picture that cannot be decoded or encoded.
#[derive(Debug, thiserror::Error)]
#[error("the finished picture cannot be prepared: {0}")]
pub struct PictureError(String);

impl From<image::ImageError> for PictureError {
    fn from(error: image::ImageError) -> Self {
        Self(error.to_string())
    }
}

/// The box around the subject, in pixels of its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreground {
    /// From the upper edge.
    pub top: u32,
    /// From the left edge.
    pub left: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

/// A format that this module writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lossless.
    Png,
    /// Without alpha.
    Jpeg,
    /// Lossy, with alpha.
    Webp,
}

impl Encoding {
    /// Media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }
}

/// Decodes a picture of the pipeline, whatever its format.
///
/// # Errors
/// Where it does not decode within the limits.
pub fn decode(bytes: &[u8]) -> Result<DynamicImage, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| PictureError(error.to_string()))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODE_LIMIT_BYTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    decoder.set_limits(limits)?;
    Ok(DynamicImage::from_decoder(decoder)?)
}

/// The picture with no more than `max_pixels`, its proportions kept; as it is where it has no more anyway. Every pixel is
/// the mean of those that it covers, weighted with their alpha: a transparent pixel does not colour its neighbours.
pub fn shrunk(picture: DynamicImage, max_pixels: u64) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= max_pixels {
        return picture;
    }
    let gray = !picture.color().has_color();
    let large = picture.into_rgba8();
    #[allow(clippy::cast_precision_loss)]
    let scale = (max_pixels as f64 / pixels as f64).sqrt();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let side = |length: u32| ((f64::from(length) * scale).floor() as u32).max(1);
    let (small_width, small_height) = (side(width), side(height));
    let covered = |at: u32, small: u32, large: u32| {
        let edge = |at: u32| {
            u32::try_from(u64::from(at) * u64::from(large) / u64::from(small)).unwrap_or(large)
        };
        edge(at)..edge(at + 1).max(edge(at) + 1).min(large)
    };
    let small = RgbaImage::from_fn(small_width, small_height, |x, y| {
        let columns = covered(x, small_width, width);
        let rows = covered(y, small_height, height);
        let mut mean = WeightedMean::default();
        for row in rows {
            for column in columns.clone() {
                mean.add(large.get_pixel(column, row).0);
            }
        }
        Rgba(mean.pixel())
    });
    let small = DynamicImage::ImageRgba8(small);
    if gray {
        DynamicImage::ImageLuma8(small.into_luma8())
    } else {
        small
    }
}

#[derive(Default)]
struct WeightedMean {
    count: u64,
    alpha: u64,
    colour: [u64; 3],
}

impl WeightedMean {
    fn add(&mut self, [red, green, blue, alpha]: [u8; 4]) {
        self.count += 1;
        self.alpha += u64::from(alpha);
        for (sum, channel) in self.colour.iter_mut().zip([red, green, blue]) {
            *sum += u64::from(channel) * u64::from(alpha);
        }
    }

    fn pixel(&self) -> [u8; 4] {
        let rounded = |sum: u64, divisor: u64| {
            u8::try_from((sum + divisor / 2) / divisor.max(1)).unwrap_or(u8::MAX)
        };
        let [red, green, blue] = self.colour.map(|sum| rounded(sum, self.alpha));
        [red, green, blue, rounded(self.alpha, self.count)]
    }
}

/// Writes a picture.
///
/// # Errors
/// What the encoder says.
pub fn encode(picture: &DynamicImage, encoding: Encoding) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    match encoding {
        Encoding::Png => picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?,
        Encoding::Jpeg => {
            let encoder =
                image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, LOSSY_QUALITY);
            picture.to_rgb8().write_with_encoder(encoder)?;
        }
        Encoding::Webp => {
            let pixels = picture.to_rgba8();
            let encoder = webp::Encoder::from_rgba(&pixels, pixels.width(), pixels.height());
            let encoded = encoder
                .encode_simple(false, f32::from(LOSSY_QUALITY))
                .map_err(|error| PictureError(format!("webp: {error:?}")))?;
            bytes.extend_from_slice(&encoded);
        }
    }
    Ok(bytes)
}

/// The box around what is not wholly transparent in a matte; of nothing where all is.
pub fn foreground(alpha: &DynamicImage) -> Foreground {
    let alpha = alpha.to_luma8();
    let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
    for (x, y, _) in alpha
        .enumerate_pixels()
        .filter(|(_, _, pixel)| pixel.0[0] > 0)
    {
        left = left.min(x);
        top = top.min(y);
        right = right.max(x + 1);
        bottom = bottom.max(y + 1);
    }
    if right == 0 {
        return Foreground::default();
    }
    Foreground {
        top,
        left,
        width: right - left,
        height: bottom - top,
    }
}

impl Foreground {
    /// The same box in a picture that was scaled from `from` to `to` (width, height).
    #[must_use]
    pub fn scaled(self, from: (u32, u32), to: (u32, u32)) -> Self {
        let scale = |value: u32, from: u32, to: u32| {
            let scaled = u64::from(value) * u64::from(to) / u64::from(from.max(1));
            u32::try_from(scaled).unwrap_or(to)
        };
        let (left, top) = (
            scale(self.left, from.0, to.0),
            scale(self.top, from.1, to.1),
        );
        let (right, bottom) = (
            scale(self.left + self.width, from.0, to.0),
            scale(self.top + self.height, from.1, to.1),
        );
        Self {
            top,
            left,
            width: right - left,
            height: bottom - top,
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::*;

    #[test]
    fn shrinking_keeps_proportions_and_colours_at_the_edge() {
        let mut picture = RgbaImage::from_pixel(2000, 1000, Rgba([255, 255, 255, 0]));
        for x in 0..1000 {
            for y in 0..1000 {
                picture.put_pixel(x, y, Rgba([200, 0, 0, 255]));
            }
        }
        let small = shrunk(DynamicImage::ImageRgba8(picture), 250_000);
        assert_eq!((small.width(), small.height()), (707, 353));
        let small = small.to_rgba8();
        for pixel in small.pixels().filter(|pixel| pixel.0[3] > 8) {
            assert!(
                pixel.0[1] < 12 && pixel.0[0].abs_diff(200) < 12,
                "white bled in: {pixel:?}"
            );
        }
        assert_eq!(
            shrunk(DynamicImage::new_rgba8(500, 500), 250_000).width(),
            500
        );
        assert_eq!(
            shrunk(DynamicImage::new_luma8(900, 900), 250_000).color(),
            image::ColorType::L8
        );
    }

    #[test]
    fn every_encoding_reads_back() {
        let picture =
            DynamicImage::ImageRgba8(RgbaImage::from_pixel(40, 30, Rgba([10, 200, 30, 255])));
        for encoding in [Encoding::Png, Encoding::Jpeg, Encoding::Webp] {
            let read = decode(&encode(&picture, encoding).unwrap())
                .unwrap()
                .to_rgba8();
            assert_eq!((read.width(), read.height()), (40, 30));
            let pixel = read.get_pixel(20, 15).0;
            assert!(
                pixel[0].abs_diff(10) < 12
                    && pixel[1].abs_diff(200) < 12
                    && pixel[2].abs_diff(30) < 12,
                "{encoding:?}: {pixel:?}"
            );
        }
    }

    #[test]
    fn the_box_holds_the_subject() {
        let mut alpha = GrayImage::new(100, 50);
        alpha.put_pixel(10, 5, Luma([1]));
        alpha.put_pixel(29, 44, Luma([255]));
        let found = foreground(&DynamicImage::ImageLuma8(alpha));
        assert_eq!(
            found,
            Foreground {
                top: 5,
                left: 10,
                width: 20,
                height: 40
            }
        );
        assert_eq!(
            found.scaled((100, 50), (50, 25)),
            Foreground {
                top: 2,
                left: 5,
                width: 10,
                height: 20
            }
        );
        assert_eq!(
            foreground(&DynamicImage::ImageLuma8(GrayImage::new(3, 3))),
            Foreground::default()
        );
    }
}
