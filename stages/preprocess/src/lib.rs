//! `preprocess`: [`ImageIngested`](atelier_schemas::events::ImageIngested) in,
//! [`ImagePreprocessed`](atelier_schemas::events::ImagePreprocessed) out.
//!
//! A picture is decoded here, once: upright (EXIF orientation applied), in sRGB (embedded profile converted), eight bits a
//! channel, first frame only, without metadata. Sharpness and noise are measured on the way.
//!
//! A trimap that came with the picture is decoded the same way, checked, and brought to its three levels.
//!
//! Invariants:
//! - The kind of file is told by its first bytes, never by a name or a media type.
//! - Sizes are read from the header and checked against [`Limits`] before anything of that size is allocated.
//! - Whatever the bytes are, the answer is pixels or a [`DecodeError`]: a decoder that panics is an error of that picture.
//! - Nothing here blocks an async thread, and no more than `max_concurrent` pictures are in memory at once.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod color;
mod decode;
mod error;
mod measure;
mod options;
mod orientation;
mod picture;
mod stage;
mod trimap;

pub use decode::{DecodeError, Format};
pub use error::PreprocessError;
pub use options::{Limits, PreprocessOptions};
pub use picture::{Prepared, prepare};
pub use stage::Preprocess;
pub use trimap::{TrimapError, three_levels};
