//! The closed list of error codes that the API, the events and the page share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident => $code:literal, $suggestion:literal;)*) => {
        /// A stable code: the page owns words for it in every language, programs decide on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode { $($(#[$doc])* #[serde(rename = $code)] $variant,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as it stands on the wire.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $code),* } }

            /// What a person can do about it, in one sentence.
            pub fn suggestion(self) -> &'static str { match self { $(Self::$variant => $suggestion),* } }
        }
    };
}

error_codes! {
    /// The request or event does not match its schema.
    InvalidRequest => "invalidRequest", "correct the value that the JSON pointer names; the schema is in /api/openapi.json";
    /// An option that exists in the published format but is not built yet.
    OptionNotSupported => "optionNotSupported", "leave the option out";
    /// More images in one task than allowed.
    TooManyImages => "tooManyImages", "split the images over several tasks";
    /// The same idempotency key came with a different request.
    IdempotencyConflict => "idempotencyConflict", "use a new Idempotency-Key for a different request";
    /// Nothing of that name.
    NotFound => "notFound", "check the identifier";
    /// The image has no original that could go through the pipeline again: not yet, or it could never be fetched.
    NoOriginal => "noOriginal", "wait until the picture is taken in; if it could not be, submit it again";
    /// An image larger, in bytes or pixels, than the limits.
    ImageTooLarge => "imageTooLarge", "send a smaller picture, or raise the limit in the configuration";
    /// The bytes are no picture of a known format.
    UnsupportedFormat => "unsupportedFormat", "send JPEG, PNG, WebP, GIF, BMP, TIFF or ICO";
    /// The picture is broken: it does not decode.
    UndecodableImage => "undecodableImage", "open the picture in an editor, export it again and send that";
    /// The content type of the upload is not one that is read.
    UnsupportedMediaType => "unsupportedMediaType", "send application/json or multipart/form-data";
    /// A source address that may not be fetched: private, loopback, not http(s), with credentials.
    AddressForbidden => "addressForbidden", "use a public http or https address, or upload the picture";
    /// The source did not answer with the picture.
    FetchFailed => "fetchFailed", "check that the address answers with the picture";
    /// The source answered too slowly.
    FetchTimedOut => "fetchTimedOut", "check that the address answers in time";
    /// No model of that name is in the catalogue, or its weights are not there.
    ModelUnavailable => "modelUnavailable", "run `atelier models list`, then `atelier models pull NAME`";
    /// The model failed on this picture.
    InferenceFailed => "inferenceFailed", "try another quality; the stage's log has the details";
    /// The finished picture could not be encoded.
    EncodingFailed => "encodingFailed", "try another output format";
    /// The disk is full.
    StorageFull => "storageFull", "free disk space; nothing that was accepted is lost";
    /// A dependency (log, ledger, blobs) is down.
    DependencyUnavailable => "dependencyUnavailable", "see /health/ready for which one, and try again";
    /// The task's deadline passed before the work began.
    DeadlineExceeded => "deadlineExceeded", "give a later deadline, or none";
    /// The task was cancelled.
    Cancelled => "cancelled", "submit it again if it was cancelled by mistake";
    /// The task has ended, so it cannot be cancelled any more.
    AlreadyEnded => "alreadyEnded", "take its results; there is nothing left to stop";
    /// A defect in Atelier.
    Internal => "internal", "report it with the task's id and the log";
}

/// What went wrong, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// Stable code.
    pub code: ErrorCode,
    /// What was wrong, with which value.
    pub message: String,
    /// Where, and what to do.
    pub details: ErrorDetails,
}

/// Where it went wrong, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDetails {
    /// The stage that failed, or `gateway`.
    pub stage: String,
    /// The error's type, as in the dead letter's `exception.class.name`.
    pub reason: String,
    /// What a person can do.
    #[serde(default)]
    pub suggestions: Vec<String>,
    /// RFC 6901 pointer into the request, where one value is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

impl ErrorBody {
    /// An error of `stage` with the code's own suggestion.
    pub fn new(code: ErrorCode, stage: &str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: ErrorDetails {
                stage: stage.to_owned(),
                reason: reason.to_owned(),
                suggestions: vec![code.suggestion().to_owned()],
                pointer: None,
            },
        }
    }

    /// The same error, pointing at one value of the request.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.details.pointer = Some(pointer.into());
        self
    }
}
