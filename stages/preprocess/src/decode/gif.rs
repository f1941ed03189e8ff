//! GIF: the first frame on its canvas; the others are counted, not decoded.

use std::io::Cursor;

use image::codecs::gif::GifDecoder;

use super::{DecodeError, Source, simple};
use crate::Limits;

pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let decoder =
        GifDecoder::new(Cursor::new(file)).map_err(|error| simple::broken("GIF", error))?;
    let source = simple::read("GIF", decoder, limits)?;
    Ok(Source {
        frames: count_frames(file).max(1),
        color_model: "palette8".to_owned(),
        ..source
    })
}

/// Walks the blocks; a file that breaks off has the frames that were seen until then.
fn count_frames(file: &[u8]) -> u32 {
    const IMAGE_SEPARATOR: u8 = 0x2c;
    const EXTENSION: u8 = 0x21;
    let table_bytes = |flags: u8| {
        if flags & 0x80 == 0 {
            0
        } else {
            3 << ((flags & 7) + 1)
        }
    };
    let mut frames = 0;
    let Some(&screen_flags) = file.get(10) else {
        return 0;
    };
    let mut position = 13 + table_bytes(screen_flags);
    loop {
        position = match file.get(position) {
            Some(&IMAGE_SEPARATOR) => {
                frames += 1;
                let Some(&flags) = file.get(position + 9) else {
                    return frames;
                };
                // Descriptor, local colour table, minimum code size.
                position + 10 + table_bytes(flags) + 1
            }
            Some(&EXTENSION) => position + 2,
            _ => return frames,
        };
        while let Some(&length) = file.get(position) {
            position += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
    }
}
