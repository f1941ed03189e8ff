//! Why a picture could not be taken in, and what that means for it.

use std::time::Duration;

use atelier_runtime::{FailureClass, StageFailure};
use atelier_schemas::{BlobKey, ErrorCode};
use atelier_stores::BlobError;

/// Errors of the stage `ingest` about one picture.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its first bytes or its header do not hold.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// More bytes than the limit.
    #[error("the picture has more than {limit_bytes} bytes (`max_bytes`)")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The event names an upload that is not there.
    #[error("there is no upload {0}: upload the picture again")]
    UploadMissing(BlobKey),
    /// The event names neither an address nor an upload.
    #[error("the image has neither `url` nor `blob`")]
    NoSource,
    /// The blob store refused.
    #[error(transparent)]
    Blob(BlobError),
    /// The picture to lay behind could not be taken in.
    #[error("the background could not be taken: {0}")]
    Background(#[source] Box<IngestError>),
    /// The picture to mark with could not be taken in.
    #[error("the watermark could not be taken: {0}")]
    Watermark(#[source] Box<IngestError>),
    /// The picture's trimap could not be taken in.
    #[error("the trimap could not be taken: {0}")]
    Trimap(#[source] Box<IngestError>),
    /// A trimap of another size than its picture.
    #[error(
        "it has {width} × {height} pixels and its picture {expected_width} × {expected_height}: make one of the picture's size"
    )]
    OtherSize {
        /// The trimap's width in pixels.
        width: u32,
        /// The trimap's height in pixels.
        height: u32,
        /// The picture's width in pixels, as it is stored.
        expected_width: u32,
        /// The picture's height in pixels, as it is stored.
        expected_height: u32,
    },
    /// The stage is being shut down.
    #[error("the stage is shutting down")]
    ShuttingDown,
}

/// Why a picture could not be fetched. What the server sent is never repeated.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an address at all.
    #[error("`{url}` is not an address: {reason}")]
    InvalidUrl {
        /// The address, cut to a readable length.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// An address that may not be fetched.
    #[error("`{target}` may not be fetched: {reason}")]
    Forbidden {
        /// The host, or the scheme.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// More redirects than allowed.
    #[error("`{host}` redirects more than {limit} times")]
    TooManyRedirects {
        /// The host that redirected last.
        host: String,
        /// The limit.
        limit: u32,
    },
    /// The server answered with something else than 200.
    #[error("`{host}` answered with status {status}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// A redirect without a place to go.
    #[error("`{host}` redirects with status {status} to no valid address")]
    InvalidRedirect {
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// The name, the connection or the transfer failed.
    #[error("fetching from `{host}` failed: {reason}")]
    Broken {
        /// The host.
        host: String,
        /// What happened.
        reason: String,
    },
    /// It took too long.
    #[error("`{host}` did not send the picture within {} ms", limit.as_millis())]
    TimedOut {
        /// The host.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// It sent too slowly to be waited for.
    #[error("`{host}` sent less than {min_bytes_per_second} bytes per second")]
    TooSlow {
        /// The host.
        host: String,
        /// The limit.
        min_bytes_per_second: u64,
    },
}

/// What is wrong with a picture's first bytes or header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// No kind of picture that is read.
    #[error("the file is no JPEG, PNG, WebP, GIF, BMP, TIFF or ICO: it begins with {first_bytes}")]
    UnknownFormat {
        /// The first bytes in hexadecimal.
        first_bytes: String,
    },
    /// The header is cut off or says nothing sensible.
    #[error("the header of the {format} file does not hold: {reason}")]
    Broken {
        /// The kind.
        format: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The header claims more than is taken.
    #[error("the picture claims {width} × {height} pixels, more than {limit}")]
    TooManyPixels {
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// The limit that it breaks, with the name of the option.
        limit: String,
    },
}

impl StageFailure for IngestError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Fetch(error) => error.class(),
            Self::Blob(BlobError::Full { .. } | BlobError::Unavailable { .. }) => {
                FailureClass::Unavailable
            }
            Self::Blob(BlobError::Source(_)) | Self::ShuttingDown => FailureClass::Transient,
            Self::Background(error) | Self::Watermark(error) | Self::Trimap(error) => error.class(),
            Self::Blob(
                BlobError::NotFound(_) | BlobError::Corrupt(_) | BlobError::TooLarge { .. },
            )
            | Self::Header(_)
            | Self::TooLarge { .. }
            | Self::UploadMissing(_)
            | Self::OtherSize { .. }
            | Self::NoSource => FailureClass::Permanent,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Fetch(error) => error.code(),
            Self::Header(HeaderError::Empty | HeaderError::UnknownFormat { .. }) => {
                ErrorCode::UnsupportedFormat
            }
            Self::Header(HeaderError::Broken { .. }) => ErrorCode::UndecodableImage,
            Self::Header(HeaderError::TooManyPixels { .. })
            | Self::TooLarge { .. }
            | Self::Blob(BlobError::TooLarge { .. }) => ErrorCode::ImageTooLarge,
            Self::UploadMissing(_) => ErrorCode::NotFound,
            Self::NoSource | Self::OtherSize { .. } => ErrorCode::InvalidRequest,
            Self::Blob(BlobError::Full { .. }) => ErrorCode::StorageFull,
            Self::Blob(BlobError::Unavailable { .. } | BlobError::Source(_))
            | Self::ShuttingDown => ErrorCode::DependencyUnavailable,
            Self::Blob(BlobError::NotFound(_) | BlobError::Corrupt(_)) => ErrorCode::Internal,
            Self::Background(error) | Self::Watermark(error) | Self::Trimap(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.reason(),
            Self::Header(HeaderError::Empty) => "HeaderError::Empty",
            Self::Header(HeaderError::UnknownFormat { .. }) => "HeaderError::UnknownFormat",
            Self::Header(HeaderError::Broken { .. }) => "HeaderError::Broken",
            Self::Header(HeaderError::TooManyPixels { .. }) => "HeaderError::TooManyPixels",
            Self::TooLarge { .. } => "IngestError::TooLarge",
            Self::UploadMissing(_) => "IngestError::UploadMissing",
            Self::NoSource => "IngestError::NoSource",
            Self::Blob(BlobError::Full { .. }) => "BlobError::Full",
            Self::Blob(BlobError::Unavailable { .. }) => "BlobError::Unavailable",
            Self::Blob(BlobError::Source(_)) => "BlobError::Source",
            Self::Blob(BlobError::NotFound(_)) => "BlobError::NotFound",
            Self::Blob(BlobError::Corrupt(_)) => "BlobError::Corrupt",
            Self::Blob(BlobError::TooLarge { .. }) => "BlobError::TooLarge",
            Self::Background(_) => "IngestError::Background",
            Self::Watermark(_) => "IngestError::Watermark",
            Self::Trimap(_) => "IngestError::Trimap",
            Self::OtherSize { .. } => "IngestError::OtherSize",
            Self::ShuttingDown => "IngestError::ShuttingDown",
        }
    }
}

impl FetchError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Status {
                status: 408 | 425 | 429 | 500..,
                ..
            }
            | Self::Broken { .. }
            | Self::TimedOut { .. }
            | Self::TooSlow { .. } => FailureClass::Transient,
            Self::InvalidUrl { .. }
            | Self::Forbidden { .. }
            | Self::TooManyRedirects { .. }
            | Self::InvalidRedirect { .. }
            | Self::Status { .. } => FailureClass::Permanent,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidUrl { .. } | Self::Forbidden { .. } => ErrorCode::AddressForbidden,
            Self::TimedOut { .. } | Self::TooSlow { .. } => ErrorCode::FetchTimedOut,
            Self::TooManyRedirects { .. }
            | Self::InvalidRedirect { .. }
            | Self::Status { .. }
            | Self::Broken { .. } => ErrorCode::FetchFailed,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "FetchError::InvalidUrl",
            Self::Forbidden { .. } => "FetchError::Forbidden",
            Self::TooManyRedirects { .. } => "FetchError::TooManyRedirects",
            Self::InvalidRedirect { .. } => "FetchError::InvalidRedirect",
            Self::Status { .. } => "FetchError::Status",
            Self::Broken { .. } => "FetchError::Broken",
            Self::TimedOut { .. } => "FetchError::TimedOut",
            Self::TooSlow { .. } => "FetchError::TooSlow",
        }
    }
}
