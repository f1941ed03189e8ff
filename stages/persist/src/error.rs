//! Why an event could not be recorded, and what that means for it.

use atelier_runtime::{FailureClass, StageFailure};
use atelier_schemas::ErrorCode;
use atelier_stores::{LedgerError, ledger::Contradiction};

/// Errors of the stage `persist`.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The event contradicts what the ledger knows.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

impl StageFailure for PersistError {
    fn class(&self) -> FailureClass {
        match self {
            // Every event needs the ledger: waiting beats moving all of them to the dead letters.
            Self::Ledger(LedgerError::Full { .. } | LedgerError::Unavailable { .. }) => {
                FailureClass::Unavailable
            }
            Self::Ledger(
                LedgerError::Contradiction(_)
                | LedgerError::Corrupt { .. }
                | LedgerError::InvalidCursor(_),
            )
            | Self::Contradiction(_) => FailureClass::Permanent,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Ledger(LedgerError::Full { .. }) => ErrorCode::StorageFull,
            Self::Ledger(LedgerError::Unavailable { .. }) => ErrorCode::DependencyUnavailable,
            Self::Contradiction(_) | Self::Ledger(LedgerError::Contradiction(_)) => {
                ErrorCode::InvalidRequest
            }
            Self::Ledger(LedgerError::Corrupt { .. } | LedgerError::InvalidCursor(_)) => {
                ErrorCode::Internal
            }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Contradiction(_) | Self::Ledger(LedgerError::Contradiction(_)) => {
                "PersistError::Contradiction"
            }
            Self::Ledger(LedgerError::Full { .. }) => "LedgerError::Full",
            Self::Ledger(LedgerError::Unavailable { .. }) => "LedgerError::Unavailable",
            Self::Ledger(LedgerError::Corrupt { .. }) => "LedgerError::Corrupt",
            Self::Ledger(LedgerError::InvalidCursor(_)) => "LedgerError::InvalidCursor",
        }
    }
}
