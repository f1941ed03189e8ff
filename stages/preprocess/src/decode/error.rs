//! Why a file is no picture for us.

/// Why a file could not be decoded. Every variant is final: the same bytes never decode.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are those of no picture that is known.
    #[error(
        "the file begins with {first_bytes}, which is no known kind of picture; send JPEG, PNG, WebP, GIF, BMP, TIFF or ICO"
    )]
    UnknownFormat {
        /// The first bytes in hexadecimal.
        first_bytes: String,
    },
    /// A known kind of file that is not read.
    #[error("{name} files are not read; convert it to JPEG, PNG, WebP, GIF, BMP, TIFF or ICO")]
    UnsupportedFormat {
        /// The kind.
        name: &'static str,
    },
    /// A known kind of file, with a feature of it that is not read.
    #[error(
        "this {format} file uses {feature}, which is not read; export it as 8- or 16-bit grey, RGB or CMYK"
    )]
    UnsupportedFeature {
        /// The kind of file.
        format: &'static str,
        /// The feature.
        feature: String,
    },
    /// A header that claims no pixels.
    #[error("the header claims {width} × {height} pixels")]
    NoPixels {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// A header that claims more than is allowed.
    #[error("the header claims {width} × {height} pixels, more than the limit of {limit}")]
    TooLarge {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// The limit and its option.
        limit: String,
    },
    /// The file ends before the picture does.
    #[error("the {format} file ends before its picture does; send it again in full")]
    Truncated {
        /// The kind of file.
        format: &'static str,
    },
    /// The decoder found a fault.
    #[error("the {format} file is broken: {message}")]
    Broken {
        /// The kind of file.
        format: &'static str,
        /// What the decoder said.
        message: String,
    },
    /// The decoder panicked: a defect of ours that this file brought to light.
    #[error("the decoder failed on this file: {message}")]
    DecoderPanicked {
        /// What it said.
        message: String,
    },
}

/// Messages of libraries go to people: the first line, and no more than can be read.
const MAX_MESSAGE_CHARS: usize = 200;

impl DecodeError {
    pub(crate) fn broken(format: &'static str, error: impl std::fmt::Display) -> Self {
        let message = error.to_string();
        let message = message
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(MAX_MESSAGE_CHARS)
            .collect();
        Self::Broken { format, message }
    }
}
