//! A trimap from decoded pixels to its three levels.
//!
//! Invariant: what comes out has the picture's size, the levels 0, 128 and 255 and no others, and some pixels of the first and
//! of the last: from nothing but unknown pixels nothing could be calculated.

use atelier_schemas::trimap::{BACKGROUND_UP_TO, SUBJECT_FROM};
use atelier_stores::{Raster, RasterError, raster::Channels};

use crate::DecodeError;

/// The level of what is unknown.
const UNKNOWN: u8 = 128;

/// How far red, green and blue of a grey pixel may be apart (of 255): JPEG keeps colour more coarsely than brightness.
const GRAY_SPREAD: u8 = 32;

/// Why a trimap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrimapError {
    /// It does not decode.
    #[error("{0}")]
    Decode(#[source] DecodeError),
    /// It has another size than the picture.
    #[error(
        "it has {width} × {height} pixels and the upright picture {expected_width} × {expected_height}: make one of the picture's size"
    )]
    OtherSize {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The picture's width in pixels.
        expected_width: u32,
        /// The picture's height in pixels.
        expected_height: u32,
    },
    /// It is in colour.
    #[error(
        "its pixel at {x}, {y} is coloured ({red}, {green}, {blue}): a trimap is grey, black is background, white the subject"
    )]
    Colored {
        /// From the left edge, in pixels.
        x: usize,
        /// From the upper edge, in pixels.
        y: usize,
        /// 0 to 255.
        red: u8,
        /// 0 to 255.
        green: u8,
        /// 0 to 255.
        blue: u8,
    },
    /// Nothing in it is surely background.
    #[error(
        "no pixel of it is surely background: paint what is not the subject black (0 to {BACKGROUND_UP_TO})"
    )]
    NoBackground,
    /// Nothing in it is surely the subject.
    #[error(
        "no pixel of it is surely the subject: paint what is opaque white ({SUBJECT_FROM} to 255)"
    )]
    NoSubject,
    /// All of it is unknown.
    #[error(
        "all of it is unknown: paint what is surely not the subject black (0 to {BACKGROUND_UP_TO}) and what is opaque white ({SUBJECT_FROM} to 255)"
    )]
    AllUnknown,
    /// The three levels are no raster: a defect.
    #[error(transparent)]
    Raster(#[from] RasterError),
}

/// The three levels of a trimap for a picture of `size` (width and height in pixels): 0, 128 and 255, grey. Its alpha is left out
/// of account. Blocking.
///
/// # Errors
/// It has another size, is in colour, or leaves out what nothing can be calculated without.
pub fn three_levels(trimap: &Raster, size: (u32, u32)) -> Result<Raster, TrimapError> {
    let (width, height) = (trimap.width(), trimap.height());
    if (width, height) != size {
        return Err(TrimapError::OtherSize {
            width,
            height,
            expected_width: size.0,
            expected_height: size.1,
        });
    }
    let channels = trimap.channels().count();
    let mut levels = Vec::with_capacity(trimap.pixels() as usize);
    let (mut has_background, mut has_subject) = (false, false);
    for (place, pixel) in trimap.data().chunks_exact(channels).enumerate() {
        let level = match *pixel {
            [red, green, blue, ..] => {
                let largest = red.max(green).max(blue);
                if largest - red.min(green).min(blue) > GRAY_SPREAD {
                    let columns = width as usize;
                    return Err(TrimapError::Colored {
                        x: place % columns,
                        y: place / columns,
                        red,
                        green,
                        blue,
                    });
                }
                ((u16::from(red) + u16::from(green) + u16::from(blue)) / 3) as u8
            }
            [gray, ..] => gray,
            [] => UNKNOWN,
        };
        levels.push(match level {
            ..=BACKGROUND_UP_TO => {
                has_background = true;
                0
            }
            SUBJECT_FROM.. => {
                has_subject = true;
                255
            }
            _ => UNKNOWN,
        });
    }
    match (has_background, has_subject) {
        (true, true) => Ok(Raster::new(width, height, Channels::Gray, levels)?),
        (false, true) => Err(TrimapError::NoBackground),
        (true, false) => Err(TrimapError::NoSubject),
        (false, false) => Err(TrimapError::AllUnknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels_of(pixels: &[u8]) -> Result<Vec<u8>, TrimapError> {
        let rgb = pixels.iter().flat_map(|level| [*level; 3]).collect();
        let width = pixels.len() as u32;
        let trimap = Raster::new(width, 1, Channels::Rgb, rgb).unwrap();
        three_levels(&trimap, (width, 1)).map(Raster::into_data)
    }

    #[test]
    fn what_is_nearly_black_or_white_is_known_and_all_between_is_not() {
        let found = levels_of(&[0, 5, 6, 102, 128, 249, 250, 255]).unwrap();
        assert_eq!(found, [0, 0, 128, 128, 128, 128, 255, 255]);
    }

    #[test]
    fn a_trimap_that_says_too_little_is_refused_with_what_it_lacks() {
        assert!(matches!(
            levels_of(&[128, 255]),
            Err(TrimapError::NoBackground)
        ));
        assert!(matches!(levels_of(&[128, 0]), Err(TrimapError::NoSubject)));
        assert!(matches!(levels_of(&[6, 249]), Err(TrimapError::AllUnknown)));
    }

    #[test]
    fn another_size_and_colours_are_refused_with_what_was_found() {
        let trimap = Raster::new(2, 1, Channels::Rgba, vec![0, 0, 0, 9, 255, 0, 0, 9]).unwrap();
        let message = three_levels(&trimap, (1, 2)).unwrap_err().to_string();
        assert!(
            message.contains("2 × 1") && message.contains("1 × 2"),
            "{message}"
        );
        let message = three_levels(&trimap, (2, 1)).unwrap_err().to_string();
        assert!(message.contains("at 1, 0 is coloured"), "{message}");
    }
}
