//! Why `compose` could not work on a message, and what that means for the message.

use std::path::PathBuf;

use atelier_runtime::{FailureClass, StageFailure};
use atelier_schemas::ErrorCode;
use atelier_stores::{BlobError, RasterError};

use crate::watermark::invisible::MarkError;

/// Errors of the stage `compose`.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// Pixels and matte are not of one size.
    #[error(
        "the matte has {matte_width} × {matte_height} pixels, the picture {width} × {height}; they must be alike"
    )]
    MatteSize {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// In pixels.
        matte_width: u32,
        /// In pixels.
        matte_height: u32,
    },
    /// The matte or the pixels are of the wrong kind.
    #[error("the {what} has the wrong kind of pixels: {found}")]
    WrongChannels {
        /// `matte` or `picture`.
        what: &'static str,
        /// What it has.
        found: String,
    },
    /// The format cannot hold a picture of this size.
    #[error(
        "{format} holds no more than {limit_px} pixels a side, the picture has {width} × {height}; \
         choose {alternative} or a smaller picture"
    )]
    TooLargeForFormat {
        /// The format.
        format: &'static str,
        /// Its limit in pixels a side.
        limit_px: u32,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// A format that can.
        alternative: &'static str,
    },
    /// An encoder failed.
    #[error("the {format} encoder failed: {message}; try another output format")]
    EncodingFailed {
        /// The format.
        format: &'static str,
        /// What it said.
        message: String,
    },
    /// The finished file is larger than was asked for, whatever the encoder's quality.
    #[error(
        "the smallest {format} of this picture has {found} bytes, at most {asked} were asked for (`maxBytes`); {advice}"
    )]
    FileTooLarge {
        /// The format.
        format: &'static str,
        /// The smallest file's bytes.
        found: u64,
        /// The limit in bytes.
        asked: u64,
        /// What to do.
        advice: &'static str,
    },
    /// The canvas has more pixels than are composed.
    #[error(
        "the canvas would have {width} × {height} pixels, at most {limit} pixels are composed; crop with a smaller margin"
    )]
    CanvasTooLarge {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// Most pixels.
        limit: u64,
    },
    /// A picture could not be brought into another size.
    #[error("the picture could not be brought into another size: {message}")]
    ResizingFailed {
        /// What the library said.
        message: String,
    },
    /// A background was asked for, and the event carries none.
    #[error("a background picture was asked for, but the event carries none")]
    BackgroundMissing,
    /// The background does not decode.
    #[error("the background picture cannot be used: {message}")]
    BackgroundUnusable {
        /// Why.
        message: String,
    },
    /// The background is larger than the limit.
    #[error("the background picture is too large: {message}")]
    BackgroundTooLarge {
        /// Its size and the limit.
        message: String,
    },
    /// A mark's picture was asked for, and the event carries none.
    #[error("a watermark picture was asked for, but the event carries none")]
    WatermarkMissing,
    /// The mark's picture does not decode.
    #[error("the watermark picture cannot be used: {message}")]
    WatermarkUnusable {
        /// Why.
        message: String,
    },
    /// The mark's picture is larger than the limit.
    #[error("the watermark picture is too large: {message}")]
    WatermarkTooLarge {
        /// Its size and the limit.
        message: String,
    },
    /// A text with nothing to be seen.
    #[error("the watermark text has nothing to be seen; give it letters")]
    WatermarkEmpty,
    /// A sign that no font has.
    #[error(
        "no font has the sign `{sign}` (U+{:04X}) of the watermark text: leave it out, or name a font that has it in \
         `stages.compose.watermark_fonts`", u32::from(*.sign)
    )]
    WatermarkSign {
        /// The sign.
        sign: char,
    },
    /// A sign of a script that is more than letters side by side.
    #[error(
        "the sign `{sign}` (U+{:04X}) of the watermark text belongs to a script whose letters join or run to the left, which is \
         not set: give the text as a picture", u32::from(*.sign)
    )]
    WatermarkScript {
        /// The sign.
        sign: char,
    },
    /// A font that cannot be read.
    #[error(
        "the font {} cannot be used: {message}; check `stages.compose.watermark_fonts`",
        path.display()
    )]
    WatermarkFont {
        /// Its file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A payload that is none.
    #[error("{message}")]
    PayloadUnusable {
        /// What was expected.
        message: String,
    },
    /// The picture cannot be marked invisibly.
    #[error(transparent)]
    Invisible(#[from] MarkError),
    /// The work panicked: a defect of ours that this picture brought to light.
    #[error("composing this picture failed: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The pixels could not be fetched or stored.
    #[error(transparent)]
    Raster(#[from] RasterError),
    /// The blob store refused.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The thread that did the work ended early: the process is shutting down.
    #[error("the work broke off: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// The stage is being shut down.
    #[error("the stage is shutting down")]
    ShuttingDown,
}

impl ComposeError {
    fn blob(&self) -> Option<&BlobError> {
        match self {
            Self::Blob(error) | Self::Raster(RasterError::Blob(error)) => Some(error),
            _ => None,
        }
    }
}

impl StageFailure for ComposeError {
    fn class(&self) -> FailureClass {
        match self.blob() {
            Some(BlobError::Full { .. } | BlobError::Unavailable { .. }) => {
                return FailureClass::Unavailable;
            }
            Some(BlobError::Source(_)) => return FailureClass::Transient,
            Some(BlobError::NotFound(_) | BlobError::Corrupt(_) | BlobError::TooLarge { .. }) => {
                return FailureClass::Permanent;
            }
            None => {}
        }
        match self {
            Self::Interrupted(_)
            | Self::ShuttingDown
            | Self::Raster(RasterError::Interrupted(_)) => FailureClass::Transient,
            _ => FailureClass::Permanent,
        }
    }

    fn code(&self) -> ErrorCode {
        match self.blob() {
            Some(BlobError::NotFound(_)) => return ErrorCode::NotFound,
            Some(BlobError::Full { .. }) => return ErrorCode::StorageFull,
            Some(BlobError::Unavailable { .. } | BlobError::Source(_)) => {
                return ErrorCode::DependencyUnavailable;
            }
            Some(BlobError::TooLarge { .. }) => return ErrorCode::ImageTooLarge,
            Some(BlobError::Corrupt(_)) => return ErrorCode::UndecodableImage,
            None => {}
        }
        match self {
            Self::TooLargeForFormat { .. } | Self::EncodingFailed { .. } => {
                ErrorCode::EncodingFailed
            }
            Self::BackgroundTooLarge { .. } | Self::WatermarkTooLarge { .. } => {
                ErrorCode::ImageTooLarge
            }
            Self::BackgroundUnusable { .. } | Self::WatermarkUnusable { .. } => {
                ErrorCode::UndecodableImage
            }
            Self::BackgroundMissing
            | Self::FileTooLarge { .. }
            | Self::CanvasTooLarge { .. }
            | Self::MatteSize { .. }
            | Self::WrongChannels { .. }
            | Self::WatermarkMissing
            | Self::WatermarkEmpty
            | Self::WatermarkSign { .. }
            | Self::WatermarkScript { .. }
            | Self::PayloadUnusable { .. }
            | Self::Invisible(MarkError::TooLittle { .. }) => ErrorCode::InvalidRequest,
            _ => ErrorCode::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::MatteSize { .. } => "ComposeError::MatteSize",
            Self::WrongChannels { .. } => "ComposeError::WrongChannels",
            Self::TooLargeForFormat { .. } => "ComposeError::TooLargeForFormat",
            Self::EncodingFailed { .. } => "ComposeError::EncodingFailed",
            Self::FileTooLarge { .. } => "ComposeError::FileTooLarge",
            Self::CanvasTooLarge { .. } => "ComposeError::CanvasTooLarge",
            Self::ResizingFailed { .. } => "ComposeError::ResizingFailed",
            Self::BackgroundMissing => "ComposeError::BackgroundMissing",
            Self::BackgroundUnusable { .. } => "ComposeError::BackgroundUnusable",
            Self::BackgroundTooLarge { .. } => "ComposeError::BackgroundTooLarge",
            Self::WatermarkMissing => "ComposeError::WatermarkMissing",
            Self::WatermarkUnusable { .. } => "ComposeError::WatermarkUnusable",
            Self::WatermarkTooLarge { .. } => "ComposeError::WatermarkTooLarge",
            Self::WatermarkEmpty => "ComposeError::WatermarkEmpty",
            Self::WatermarkSign { .. } => "ComposeError::WatermarkSign",
            Self::WatermarkScript { .. } => "ComposeError::WatermarkScript",
            Self::WatermarkFont { .. } => "ComposeError::WatermarkFont",
            Self::PayloadUnusable { .. } => "ComposeError::PayloadUnusable",
            Self::Invisible(_) => "ComposeError::Invisible",
            Self::Panicked { .. } => "ComposeError::Panicked",
            Self::Raster(_) => "ComposeError::Raster",
            Self::Blob(_) => "ComposeError::Blob",
            Self::Interrupted(_) => "ComposeError::Interrupted",
            Self::ShuttingDown => "ComposeError::ShuttingDown",
        }
    }

    fn pointer(&self) -> Option<String> {
        let pointer = match self {
            Self::MatteSize { .. } => "/alpha",
            Self::WrongChannels { what: "matte", .. } => "/alpha",
            Self::WrongChannels { .. } => "/pixels",
            Self::TooLargeForFormat { .. } | Self::EncodingFailed { .. } => {
                "/image/options/output/format"
            }
            Self::FileTooLarge { .. } => "/image/options/output/maxBytes",
            Self::CanvasTooLarge { .. } => "/image/options/output/cropMargin",
            Self::BackgroundMissing
            | Self::BackgroundUnusable { .. }
            | Self::BackgroundTooLarge { .. } => "/background",
            Self::WatermarkMissing
            | Self::WatermarkUnusable { .. }
            | Self::WatermarkTooLarge { .. } => "/watermark",
            Self::WatermarkEmpty | Self::WatermarkSign { .. } | Self::WatermarkScript { .. } => {
                "/image/options/watermark/text"
            }
            Self::PayloadUnusable { .. } => "/image/options/watermark/invisible/payload",
            Self::Invisible(MarkError::TooLittle { .. }) => "/image/options/watermark/invisible",
            _ => return None,
        };
        Some(pointer.to_owned())
    }
}
