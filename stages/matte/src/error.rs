//! Why `matte` could not work on a message, or could not start, and what that means for the message.

use atelier_models::{LoadError, SegmentError};
use atelier_runtime::{FailureClass, StageFailure};
use atelier_schemas::ErrorCode;
use atelier_stores::{BlobError, RasterError};

use crate::solve::SolveError;

/// Errors of the stage `matte`.
#[derive(Debug, thiserror::Error)]
pub enum MatteError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// The network failed on this picture.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The pixels could not be read or the matte not stored.
    #[error(transparent)]
    Raster(#[from] RasterError),
    /// What a trimap leaves unknown could not be found.
    #[error("the matte could not be solved within the trimap: {0}")]
    Solve(#[from] SolveError),
    /// The picture is to be matted within a trimap and has none.
    #[error("the picture is to be matted within a trimap and has none")]
    NoTrimap,
    /// A trimap came with a picture for which a model was named that takes none.
    #[error(
        "the model `{model}` takes no trimap: leave out `model`, or the trimap, or name one of {takers}"
    )]
    TrimapUnused {
        /// The model.
        model: String,
        /// The models that take one.
        takers: String,
    },
    /// The picture is said to bring its own alpha and does not.
    #[error("the picture is to keep its own alpha and has none")]
    NoAlpha,
    /// The thread that did the work ended early: a panic in it, or the process is shutting down.
    #[error("the work broke off: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// The stage is being shut down.
    #[error("the stage is shutting down")]
    ShuttingDown,
}

impl MatteError {
    fn blob(&self) -> Option<&BlobError> {
        match self {
            Self::Raster(RasterError::Blob(error)) => Some(error),
            _ => None,
        }
    }
}

impl StageFailure for MatteError {
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
            // Memory may have been short; a picture that the network never takes ends in the dead letters all the same.
            Self::Segment(SegmentError::Run(_))
            | Self::Raster(RasterError::Interrupted(_))
            | Self::Interrupted(_)
            | Self::ShuttingDown => FailureClass::Transient,
            Self::Model(_)
            | Self::Segment(_)
            | Self::Solve(_)
            | Self::Raster(_)
            | Self::TrimapUnused { .. }
            | Self::NoTrimap
            | Self::NoAlpha => FailureClass::Permanent,
        }
    }

    fn code(&self) -> ErrorCode {
        match self.blob() {
            Some(BlobError::NotFound(_)) => return ErrorCode::NotFound,
            Some(BlobError::Full { .. }) => return ErrorCode::StorageFull,
            Some(BlobError::Unavailable { .. } | BlobError::Source(_)) => {
                return ErrorCode::DependencyUnavailable;
            }
            Some(BlobError::TooLarge { .. } | BlobError::Corrupt(_)) | None => {}
        }
        match self {
            Self::Model(_) => ErrorCode::ModelUnavailable,
            Self::Segment(_) => ErrorCode::InferenceFailed,
            Self::TrimapUnused { .. } | Self::Solve(SolveError::Unsolvable { .. }) => {
                ErrorCode::InvalidRequest
            }
            Self::Solve(_)
            | Self::NoTrimap
            | Self::Raster(_)
            | Self::NoAlpha
            | Self::Interrupted(_)
            | Self::ShuttingDown => ErrorCode::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Model(LoadError::UnknownModel { .. }) => "LoadError::UnknownModel",
            Self::Model(LoadError::WrongPurpose { .. }) => "LoadError::WrongPurpose",
            Self::Model(LoadError::Missing { .. }) => "LoadError::Missing",
            Self::Model(LoadError::WrongFile { .. }) => "LoadError::WrongFile",
            Self::Model(_) => "LoadError::Unloadable",
            Self::Segment(SegmentError::Run(_)) => "SegmentError::Run",
            Self::Segment(_) => "MatteError::Segment",
            Self::Raster(_) => "MatteError::Raster",
            Self::Solve(SolveError::OtherSize { .. }) => "SolveError::OtherSize",
            Self::Solve(SolveError::Unsolvable { .. }) => "SolveError::Unsolvable",
            Self::Solve(SolveError::Enlarge(_)) => "SolveError::Enlarge",
            Self::NoTrimap => "MatteError::NoTrimap",
            Self::TrimapUnused { .. } => "MatteError::TrimapUnused",
            Self::NoAlpha => "MatteError::NoAlpha",
            Self::Interrupted(_) => "MatteError::Interrupted",
            Self::ShuttingDown => "MatteError::ShuttingDown",
        }
    }

    fn pointer(&self) -> Option<String> {
        match self {
            Self::Model(_) | Self::TrimapUnused { .. } => Some("/image/options/model".to_owned()),
            Self::Solve(_) | Self::NoTrimap => Some("/trimap".to_owned()),
            Self::NoAlpha => Some("/classification/strategy".to_owned()),
            Self::Segment(_) | Self::Raster(RasterError::Blob(BlobError::NotFound(_))) => {
                Some("/pixels".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use atelier_models::RunError;

    use super::*;

    #[test]
    fn what_can_be_repaired_waits_and_what_cannot_is_rejected() {
        let run = RunError {
            model: "u2net".into(),
            reason: "out of memory".into(),
        };
        assert_eq!(
            MatteError::Segment(SegmentError::Run(run)).class(),
            FailureClass::Transient
        );
        let full = BlobError::Full {
            place: "/".into(),
            reason: "no space".into(),
        };
        let full = MatteError::Raster(RasterError::Blob(full));
        assert_eq!(
            (full.class(), full.code()),
            (FailureClass::Unavailable, ErrorCode::StorageFull)
        );
        let missing = LoadError::Missing {
            name: "silueta".into(),
            fix: "fetch it".into(),
        };
        let missing = MatteError::Model(missing);
        assert_eq!(
            (missing.class(), missing.code()),
            (FailureClass::Permanent, ErrorCode::ModelUnavailable)
        );
    }
}
