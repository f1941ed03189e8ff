//! WebP, lossy and lossless; of an animation the first frame on its canvas.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;

use super::{DecodeError, Source, simple};
use crate::Limits;

const FORMAT: &str = "WebP";

pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let chunks = Chunks::read(file, limits)?;
    let decoder =
        WebPDecoder::new(Cursor::new(file)).map_err(|error| simple::broken(FORMAT, error))?;
    let source = simple::read(FORMAT, decoder, limits)?;
    Ok(Source {
        frames: chunks.frames.max(1),
        ..source
    })
}

/// What the container says. A file's canvas may be small while the bitstream inside is not, and the decoder believes
/// the bitstream: so its size is checked too.
#[derive(Default)]
struct Chunks {
    frames: u32,
}

impl Chunks {
    fn read(file: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        let mut chunks = Self::default();
        let mut rest = file.get(12..).unwrap_or_default();
        while let Some((name, payload, after)) = next_chunk(rest) {
            if name == b"ANMF" {
                chunks.frames = chunks.frames.saturating_add(1);
                // A frame's own header is 16 bytes long; chunks follow.
                let mut inner = payload.get(16..).unwrap_or_default();
                while chunks.frames == 1
                    && let Some((name, payload, after)) = next_chunk(inner)
                {
                    check_bitstream(name, payload, limits)?;
                    inner = after;
                }
            }
            check_bitstream(name, payload, limits)?;
            rest = after;
        }
        Ok(chunks)
    }
}

fn next_chunk(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = bytes.split_at_checked(4)?;
    let (length, rest) = rest.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    // What a broken length claims beyond the file is left to the decoder to complain about.
    let payload = rest.get(..length.min(rest.len()))?;
    let after = rest
        .get(length.saturating_add(length % 2)..)
        .unwrap_or_default();
    Some((name, payload, after))
}

fn check_bitstream(name: &[u8], payload: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let size = match name {
        // Frame tag (3 bytes), start code (3), then two 14-bit sizes with scaling bits.
        b"VP8 " => payload.get(6..10).map(|size| {
            let size: Vec<u32> = size
                .chunks_exact(2)
                .map(|side| u32::from(side[0]) | u32::from(side[1] & 0x3f) << 8)
                .collect();
            (size[0], size[1])
        }),
        // Signature byte, then two 14-bit sizes less one.
        b"VP8L" => payload
            .get(1..5)
            .and_then(|size| size.try_into().ok())
            .map(|size| {
                let packed = u32::from_le_bytes(size);
                ((packed & 0x3fff) + 1, (packed >> 14 & 0x3fff) + 1)
            }),
        _ => None,
    };
    size.map_or(Ok(()), |(width, height)| limits.check(width, height, 8))
}
