//! Decoded pixels on their way between stages: a bounded in-process cache in front of the blob store.
//!
//! Between stages of one process a raster is handed on as it is; another process reads it from the blob store, where it
//! stands as PAM (netpbm's P7): a short text header and the bytes, nothing to decompress.
//!
//! Invariant: a [`Raster`] always holds exactly `width × height × channels` bytes, and neither side is zero.

mod cache;
mod pam;

pub use cache::Rasters;

use std::ops::Deref;

use atelier_schemas::BlobKey;
use bytes::Bytes;

use crate::BlobError;

/// Media type of a raster in the blob store.
pub const PAM_MEDIA_TYPE: &str = "image/x-portable-arbitrarymap";

/// Eight-bit pixels in rows from the top, without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Raster {
    width: u32,
    height: u32,
    channels: Channels,
    data: Bytewise,
}

/// The bytes of a raster, equal where the bytes are.
#[derive(Clone)]
enum Bytewise {
    /// Nobody else's.
    Owned(Vec<u8>),
    /// A part of what the blob store has: a picture that is in memory is there once.
    Shared(Bytes),
}

impl Deref for Bytewise {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl PartialEq for Bytewise {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytewise {}

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

impl Channels {
    /// Bytes of one pixel.
    pub const fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// Why pixels could not be made, kept or found.
#[derive(Debug, thiserror::Error)]
pub enum RasterError {
    /// A side of zero pixels.
    #[error("a raster of {width} × {height} pixels has no pixels: both sides must be at least 1")]
    Empty {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The bytes are not as many as the size asks for.
    #[error("{actual_bytes} bytes do not make {width} × {height} pixels of {channels:?}")]
    LengthMismatch {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// What a pixel is made of.
        channels: Channels,
        /// Bytes that were given.
        actual_bytes: usize,
    },
    /// The bytes are not PAM of the kind that Atelier writes.
    #[error("the stored pixels are not readable: {0}")]
    Malformed(&'static str),
    /// The reference does not name stored pixels.
    #[error("blob {key} is `{media_type}`, not stored pixels (`{PAM_MEDIA_TYPE}`)")]
    NotPixels {
        /// The blob.
        key: BlobKey,
        /// What its reference says it is.
        media_type: String,
    },
    /// The blob is not the size that its reference says.
    #[error(
        "blob {key} holds {width} × {height} pixels, its reference says {claimed_width} × {claimed_height}"
    )]
    ReferenceMismatch {
        /// The blob.
        key: BlobKey,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// In pixels.
        claimed_width: u32,
        /// In pixels.
        claimed_height: u32,
    },
    /// The blob store refused.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The thread that did the work ended early: the process is shutting down, or a defect.
    #[error("the work on the pixels broke off: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl Raster {
    /// Takes `data` as the pixels.
    ///
    /// # Errors
    /// [`RasterError::Empty`] for a side of 0, [`RasterError::LengthMismatch`] unless `data` is exactly
    /// `width × height × channels` bytes.
    pub fn new(
        width: u32,
        height: u32,
        channels: Channels,
        data: Vec<u8>,
    ) -> Result<Self, RasterError> {
        Self::of(width, height, channels, Bytewise::Owned(data))
    }

    fn of(
        width: u32,
        height: u32,
        channels: Channels,
        data: Bytewise,
    ) -> Result<Self, RasterError> {
        if width == 0 || height == 0 {
            return Err(RasterError::Empty { width, height });
        }
        if byte_length(width, height, channels) != Some(data.len()) {
            return Err(RasterError::LengthMismatch {
                width,
                height,
                channels,
                actual_bytes: data.len(),
            });
        }
        Ok(Self {
            width,
            height,
            channels,
            data,
        })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// What a pixel is made of.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// The bytes, row after row from the top, without padding.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes, for keeps: copied where the blob store has them too.
    pub fn into_data(self) -> Vec<u8> {
        match self.data {
            Bytewise::Owned(bytes) => bytes,
            Bytewise::Shared(bytes) => bytes.into(),
        }
    }

    /// One row of bytes; empty below the picture.
    pub fn row(&self, y: u32) -> &[u8] {
        let stride = self.width as usize * self.channels.count();
        let start = (y as usize).saturating_mul(stride);
        self.data
            .get(start..start.saturating_add(stride))
            .unwrap_or_default()
    }

    /// Number of pixels.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl std::fmt::Debug for Raster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Raster({} × {}, {:?})",
            self.width, self.height, self.channels
        )
    }
}

/// Bytes of a picture; `None` where a machine word cannot hold the number.
fn byte_length(width: u32, height: u32, channels: Channels) -> Option<usize> {
    (width as usize)
        .checked_mul(height as usize)?
        .checked_mul(channels.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_checked() {
        assert!(Raster::new(2, 3, Channels::Rgb, vec![0; 18]).is_ok());
        for (width, height, length) in [
            (2, 3, 17),
            (2, 3, 19),
            (0, 3, 0),
            (3, 0, 0),
            (u32::MAX, u32::MAX, 12),
        ] {
            assert!(
                Raster::new(width, height, Channels::Rgb, vec![0; length]).is_err(),
                "{width} × {height}"
            );
        }
    }

    #[test]
    fn rows_end_with_the_picture() {
        let raster = Raster::new(2, 2, Channels::Gray, vec![1, 2, 3, 4]).unwrap();
        assert_eq!(raster.row(1), [3, 4]);
        assert!(raster.row(2).is_empty());
        assert!(raster.row(u32::MAX).is_empty());
    }
}
