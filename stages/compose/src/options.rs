//! What may be set for `compose`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of the stage `compose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComposeOptions {
    /// Encoder quality for WebP, AVIF and JPEG where the task names none, from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub default_quality: u8,
    /// Effort of the AVIF encoder, from 1 (smallest files, minutes) to 10 (fastest).
    #[schemars(range(min = 1, max = 10))]
    pub avif_speed: u8,
    /// Effort of the WebP encoder, from 0 (fastest) to 6 (smallest files).
    #[schemars(range(min = 0, max = 6))]
    pub webp_method: u8,
    /// Quality of thumbnails (WebP), from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub thumbnail_quality: u8,
    /// Longest side of a thumbnail, in pixels.
    pub thumbnail_side_px: u32,
    /// Fonts (TrueType or OpenType files) for the signs of watermark texts that the shipped one lacks, in the order they are tried.
    pub watermark_fonts: Vec<PathBuf>,
    /// Largest background or watermark file that is read, in bytes.
    pub max_background_file_bytes: u64,
    /// Largest background or watermark picture that is decoded, in pixels.
    pub max_background_pixels: u64,
    /// Pictures that are composed at the same time.
    pub max_concurrent: usize,
    /// Most pictures taken from the log in one go.
    pub max_batch: usize,
}

impl Default for ComposeOptions {
    fn default() -> Self {
        Self {
            default_quality: 90,
            avif_speed: 8,
            webp_method: 2,
            thumbnail_quality: 80,
            thumbnail_side_px: 256,
            watermark_fonts: Vec::new(),
            max_background_file_bytes: 64 * 1024 * 1024,
            max_background_pixels: 100_000_000,
            max_concurrent: std::thread::available_parallelism()
                .map_or(2, usize::from)
                .min(4),
            max_batch: 8,
        }
    }
}
