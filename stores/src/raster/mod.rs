//! Decoded pixels on their way between stages: a bounded in-process cache in front of the blob store.
//!
//! Between stages of one process a raster is handed on as it is; another process reads it from the blob store, where it
//! stands as PAM (netpbm's P7): a short text header and the bytes, nothing to decompress.

use std::sync::Arc;

use atelier_schemas::{BlobKey, BlobRef};

use crate::{BlobError, Blobs};

/// Eight-bit pixels in rows from the top, without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Raster {
    /// Width in pixels, at least 1.
    width: u32,
    /// Height in pixels, at least 1.
    height: u32,
    channels: Channels,
    data: Vec<u8>,
}

/// What a pixel is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One byte: grey, or alpha.
    Gray,
    /// Three bytes, sRGB.
    Rgb,
    /// Four bytes, sRGB with straight alpha.
    Rgba,
}
