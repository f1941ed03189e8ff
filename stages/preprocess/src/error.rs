//! Why `preprocess` could not work on a message, and what that means for the message.

use atelier_runtime::{FailureClass, StageFailure};
use atelier_schemas::ErrorCode;
use atelier_stores::{BlobError, RasterError};

use crate::{DecodeError, TrimapError};

/// Errors of the stage `preprocess`.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// The picture does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The stored file is larger than the limit.
    #[error("the file has {bytes} bytes, more than the limit of {limit_bytes} (`max_file_bytes`)")]
    FileTooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// The picture's trimap cannot be used.
    #[error("the trimap cannot be used: {0}")]
    Trimap(#[from] TrimapError),
    /// The blob store refused.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The pixels could not be stored.
    #[error(transparent)]
    Raster(#[from] RasterError),
    /// The thread that did the work ended early: the process is shutting down.
    #[error("the work broke off: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// The stage is being shut down.
    #[error("the stage is shutting down")]
    ShuttingDown,
}

impl PreprocessError {
    fn blob(&self) -> Option<&BlobError> {
        match self {
            Self::Blob(error) | Self::Raster(RasterError::Blob(error)) => Some(error),
            _ => None,
        }
    }
}

impl StageFailure for PreprocessError {
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
            Self::Decode(_)
            | Self::FileTooLarge { .. }
            | Self::Trimap(_)
            | Self::Blob(_)
            | Self::Raster(_) => FailureClass::Permanent,
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
            Self::Trimap(TrimapError::Decode(_)) => ErrorCode::UndecodableImage,
            Self::Trimap(TrimapError::Raster(_)) => ErrorCode::Internal,
            Self::Trimap(_) => ErrorCode::InvalidRequest,
            Self::Decode(DecodeError::TooLarge { .. }) | Self::FileTooLarge { .. } => {
                ErrorCode::ImageTooLarge
            }
            Self::Decode(
                DecodeError::UnknownFormat { .. }
                | DecodeError::UnsupportedFormat { .. }
                | DecodeError::UnsupportedFeature { .. },
            ) => ErrorCode::UnsupportedFormat,
            Self::Decode(_) => ErrorCode::UndecodableImage,
            Self::Blob(_) | Self::Raster(_) | Self::Interrupted(_) | Self::ShuttingDown => {
                ErrorCode::Internal
            }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Decode(error) => match error {
                DecodeError::Empty => "DecodeError::Empty",
                DecodeError::UnknownFormat { .. } => "DecodeError::UnknownFormat",
                DecodeError::UnsupportedFormat { .. } => "DecodeError::UnsupportedFormat",
                DecodeError::UnsupportedFeature { .. } => "DecodeError::UnsupportedFeature",
                DecodeError::NoPixels { .. } => "DecodeError::NoPixels",
                DecodeError::TooLarge { .. } => "DecodeError::TooLarge",
                DecodeError::Truncated { .. } => "DecodeError::Truncated",
                DecodeError::Broken { .. } => "DecodeError::Broken",
                DecodeError::DecoderPanicked { .. } => "DecodeError::DecoderPanicked",
            },
            Self::Trimap(error) => match error {
                TrimapError::Decode(_) => "TrimapError::Decode",
                TrimapError::OtherSize { .. } => "TrimapError::OtherSize",
                TrimapError::Colored { .. } => "TrimapError::Colored",
                TrimapError::NoBackground => "TrimapError::NoBackground",
                TrimapError::NoSubject => "TrimapError::NoSubject",
                TrimapError::AllUnknown => "TrimapError::AllUnknown",
                TrimapError::Raster(_) => "TrimapError::Raster",
            },
            Self::FileTooLarge { .. } => "PreprocessError::FileTooLarge",
            Self::Blob(_) => "PreprocessError::Blob",
            Self::Raster(_) => "PreprocessError::Raster",
            Self::Interrupted(_) => "PreprocessError::Interrupted",
            Self::ShuttingDown => "PreprocessError::ShuttingDown",
        }
    }

    fn pointer(&self) -> Option<String> {
        match self {
            Self::Decode(_) | Self::FileTooLarge { .. } | Self::Blob(BlobError::NotFound(_)) => {
                Some("/original".to_owned())
            }
            Self::Trimap(_) => Some("/trimap".to_owned()),
            _ => None,
        }
    }
}
