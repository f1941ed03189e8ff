//! What may be set for `preprocess`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of the stage `preprocess`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessOptions {
    /// Largest file that is read, in bytes.
    pub max_file_bytes: u64,
    /// What a picture's header may claim.
    pub limits: Limits,
    /// Pictures with a longer side, in pixels, are made smaller to it before anything else works on them; 0 keeps every
    /// picture at its own size.
    pub max_side_px: u32,
    /// Pictures that are decoded at the same time; each may need up to three times its decoded size in memory.
    pub max_concurrent: usize,
    /// Most pictures taken from the log in one go.
    pub max_batch: usize,
}

impl Default for PreprocessOptions {
    fn default() -> Self {
        Self {
            max_file_bytes: 64 * 1024 * 1024,
            limits: Limits::default(),
            max_side_px: 0,
            max_concurrent: std::thread::available_parallelism()
                .map_or(2, usize::from)
                .min(4),
            max_batch: 8,
        }
    }
}

/// What a picture's header may claim before the picture is refused undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most pixels (width × height).
    pub max_pixels: u64,
    /// Longest side, in pixels.
    pub max_dimension_px: u32,
    /// Most memory, in bytes, for the pixels as the file holds them, a decoder's working memory included.
    pub max_decoded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_dimension_px: 32_767,
            max_decoded_bytes: 1024 * 1024 * 1024,
        }
    }
}
