//! Windows icons and cursors: the largest, deepest picture in the file.

use std::io::Cursor;

use image::codecs::ico::IcoDecoder;

use super::{DecodeError, Source, png, simple};
use crate::Limits;

const FORMAT: &str = "ICO";
const HEADER_BYTES: usize = 6;
const ENTRY_BYTES: usize = 16;

pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let count = file.get(4..6).map_or(0, |count| {
        usize::from(u16::from_le_bytes([count[0], count[1]]))
    });
    let entries = file
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .chunks_exact(ENTRY_BYTES)
        .take(count);
    let entry = entries
        .max_by_key(|entry| rank(entry))
        .ok_or(DecodeError::Truncated { format: FORMAT })?;
    let number = |at: usize| {
        u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]) as usize
    };
    let (length, offset) = (number(8), number(12));
    let picture = file
        .get(offset..)
        .and_then(|rest| rest.get(..length))
        .ok_or(DecodeError::Truncated { format: FORMAT })?;
    // Handed on alone, so that the limits of our own PNG reader hold and no other entry is looked at.
    if picture.starts_with(b"\x89PNG\r\n\x1a\n") {
        return png::decode(picture, limits);
    }
    let mut single = Vec::with_capacity(HEADER_BYTES + ENTRY_BYTES + picture.len());
    single.extend_from_slice(&[0, 0, 1, 0, 1, 0]);
    single.extend_from_slice(&entry[..12]);
    single.extend_from_slice(&((HEADER_BYTES + ENTRY_BYTES) as u32).to_le_bytes());
    single.extend_from_slice(picture);
    let decoder =
        IcoDecoder::new(Cursor::new(single)).map_err(|error| simple::broken(FORMAT, error))?;
    simple::read(FORMAT, decoder, limits)
}

/// A side of 0 stands for 256.
fn rank(entry: &[u8]) -> (u32, u16) {
    let side = |byte: u8| if byte == 0 { 256 } else { u32::from(byte) };
    (
        side(entry[0]) * side(entry[1]),
        u16::from_le_bytes([entry[6], entry[7]]),
    )
}
