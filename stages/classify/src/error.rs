//! Why `classify` could not start, or not work on a message, and what that means for the message.

use atelier_models::{LoadError, RunError};
use atelier_runtime::{FailureClass, StageFailure};
use atelier_schemas::ErrorCode;
use atelier_stores::{BlobError, RasterError};

/// Why the stage could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A network is missing or does not load; the message names the command that helps.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An option that must be a share is none.
    #[error("`classify.{name}` is {value}: it must be from 0 to 1")]
    NotAShare {
        /// The option.
        name: &'static str,
        /// Its value.
        value: f64,
    },
}

/// Errors of the stage `classify`.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// The pixels could not be had.
    #[error(transparent)]
    Raster(#[from] RasterError),
    /// The picture could not be made smaller for the networks.
    #[error("the picture could not be resized to {width} × {height} pixels: {reason}")]
    Resize {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// What the resizer said.
        reason: String,
    },
    /// A network failed.
    #[error(transparent)]
    Inference(#[from] RunError),
    /// A network answered in another shape than its catalogue row says.
    #[error("model `{model}` answered in an unexpected shape: {reason}")]
    UnexpectedOutput {
        /// Which model.
        model: &'static str,
        /// What was found.
        reason: String,
    },
    /// The thread that did the work ended early: the process is shutting down, or a defect.
    #[error("the work broke off: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl ClassifyError {
    fn blob(&self) -> Option<&BlobError> {
        match self {
            Self::Raster(RasterError::Blob(error)) => Some(error),
            _ => None,
        }
    }
}

impl StageFailure for ClassifyError {
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
            // Every network's input has one fixed size, so a failing run (memory, mostly) is not the picture's fault.
            Self::Inference(_)
            | Self::Interrupted(_)
            | Self::Raster(RasterError::Interrupted(_)) => FailureClass::Transient,
            Self::Raster(_) | Self::Resize { .. } | Self::UnexpectedOutput { .. } => {
                FailureClass::Permanent
            }
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
            Self::Raster(RasterError::Interrupted(_))
            | Self::Interrupted(_)
            | Self::Resize { .. } => ErrorCode::Internal,
            Self::Raster(_) => ErrorCode::UndecodableImage,
            Self::Inference(_) | Self::UnexpectedOutput { .. } => ErrorCode::InferenceFailed,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Raster(_) => "ClassifyError::Raster",
            Self::Resize { .. } => "ClassifyError::Resize",
            Self::Inference(_) => "ClassifyError::Inference",
            Self::UnexpectedOutput { .. } => "ClassifyError::UnexpectedOutput",
            Self::Interrupted(_) => "ClassifyError::Interrupted",
        }
    }

    fn pointer(&self) -> Option<String> {
        match self {
            Self::Raster(RasterError::Blob(BlobError::NotFound(_) | BlobError::Corrupt(_))) => {
                Some("/pixels".to_owned())
            }
            Self::Raster(RasterError::Blob(_) | RasterError::Interrupted(_)) => None,
            Self::Raster(_) => Some("/pixels".to_owned()),
            _ => None,
        }
    }
}
