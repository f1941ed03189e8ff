//! Errors that say by their type what is to be done about them.

use atelier_schemas::{DecodeError, EnvelopeError, ErrorBody, ErrorCode};

/// What an error means for the message at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Never will succeed: to the dead letters at once.
    Permanent,
    /// May succeed later: retried in place for a short while, then by way of the retry topic, up to the attempt limit.
    Transient,
    /// Not the message's fault: something that every message needs is away (blobs, ledger, disk). The stage waits in
    /// place, paused, for as long as it takes, and no attempt is counted.
    Unavailable,
}

/// A stage's own error type: each variant knows its class and code.
pub trait StageFailure: std::error::Error + Send + Sync + 'static {
    /// What is to be done.
    fn class(&self) -> FailureClass;
    /// The stable code that people and programs see.
    fn code(&self) -> ErrorCode;
    /// The error's name, as it stands in `__connect.errors.exception.class.name`, for example `FetchError::TimedOut`.
    fn reason(&self) -> &'static str;
    /// RFC 6901 pointer into the event's value, where one value is at fault.
    fn pointer(&self) -> Option<String> {
        None
    }
}

/// An error on its way to a retry topic or the dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What is to be done.
    pub class: FailureClass,
    /// Code, message, reason and pointer; the stage's name is filled in by the runtime.
    pub body: ErrorBody,
}

impl Failure {
    /// What the runtime itself finds wrong with a message, or with a stage, for good.
    pub(crate) fn permanent(code: ErrorCode, reason: &'static str, message: String) -> Self {
        Self {
            class: FailureClass::Permanent,
            body: ErrorBody::new(code, "", reason, message),
        }
    }
}

impl StageFailure for EnvelopeError {
    fn class(&self) -> FailureClass {
        FailureClass::Permanent
    }

    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidRequest
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "EnvelopeError::Missing",
            Self::Malformed { .. } => "EnvelopeError::Malformed",
        }
    }
}

impl StageFailure for DecodeError {
    fn class(&self) -> FailureClass {
        FailureClass::Permanent
    }

    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidRequest
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "DecodeError::NotJson",
            Self::Mismatch { .. } => "DecodeError::Mismatch",
            Self::UnknownType { .. } => "DecodeError::UnknownType",
        }
    }

    fn pointer(&self) -> Option<String> {
        // An inherent method of the same name.
        Self::pointer(self).map(str::to_owned)
    }
}

impl<E: StageFailure> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some libraries repeat their cause in their own message.
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        let mut body = ErrorBody::new(error.code(), "", error.reason(), message);
        body.details.pointer = error.pointer();
        Self {
            class: error.class(),
            body,
        }
    }
}
