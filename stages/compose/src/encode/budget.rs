//! A quality at which a file is no larger than was asked for.

use atelier_schemas::ImageFormat;

use super::Encoded;
use crate::ComposeError;

/// Halvings of the range of qualities: from 90, the one that is found is no more than three from the best.
const HALVINGS: usize = 5;

/// The largest file of no more than `max_bytes` that a few encodings find, at a quality up to `quality`.
pub(super) fn search(
    format: ImageFormat,
    quality: u8,
    max_bytes: u64,
    encode: impl Fn(u8) -> Result<Encoded, ComposeError>,
) -> Result<Encoded, ComposeError> {
    let fits = |encoded: &Encoded| encoded.bytes.len() as u64 <= max_bytes;
    let best = encode(quality)?;
    if fits(&best) {
        return Ok(best);
    }
    let smallest = encode(1)?;
    if !fits(&smallest) {
        return Err(too_large(format, smallest.bytes.len(), max_bytes));
    }
    let (mut found, mut fitting, mut too_good) = (smallest, 1, quality);
    for _ in 0..HALVINGS {
        let middle = fitting + (too_good - fitting) / 2;
        if middle == fitting {
            break;
        }
        let encoded = encode(middle)?;
        if fits(&encoded) {
            (found, fitting) = (encoded, middle);
        } else {
            too_good = middle;
        }
    }
    Ok(found)
}

/// What to say of a file that cannot be made smaller.
pub(super) fn too_large(format: ImageFormat, found: usize, asked: u64) -> ComposeError {
    let (format, advice) = match format {
        ImageFormat::Png => (
            "PNG",
            "ask for WebP or AVIF, or for fewer pixels (`maxPixels`)",
        ),
        ImageFormat::Webp => ("WebP", "ask for fewer pixels (`maxPixels`)"),
        ImageFormat::Avif => ("AVIF", "ask for fewer pixels (`maxPixels`)"),
        ImageFormat::Jpeg => (
            "JPEG",
            "ask for WebP or AVIF, or for fewer pixels (`maxPixels`)",
        ),
        ImageFormat::Zip => ("ZIP", "ask for WebP, or for fewer pixels (`maxPixels`)"),
    };
    ComposeError::FileTooLarge {
        format,
        found: found as u64,
        asked,
        advice,
    }
}
