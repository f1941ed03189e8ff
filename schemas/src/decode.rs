//! JSON to types, with the JSON pointer of the first fault.

use serde::de::DeserializeOwned;

/// A document that does not match its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not JSON at all.
    #[error("not JSON: {reason}")]
    NotJson {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// JSON, but a value is missing, unknown, or of the wrong type.
    #[error("at `{pointer}`: {reason}")]
    Mismatch {
        /// RFC 6901 pointer to the fault; the empty string is the whole document.
        pointer: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A `ce_type` that this stage does not read: a newer version, or an event of another topic.
    #[error("event type `{found}` is not read here; expected {expected}")]
    UnknownType {
        /// The type in the event.
        found: String,
        /// The types that are read.
        expected: String,
    },
}

impl DecodeError {
    /// RFC 6901 pointer to the fault, where there is one.
    pub fn pointer(&self) -> Option<&str> {
        match self {
            Self::Mismatch { pointer, .. } => Some(pointer),
            Self::NotJson { .. } | Self::UnknownType { .. } => None,
        }
    }
}

/// Parses `bytes` as JSON of type `T`.
///
/// # Errors
/// [`DecodeError::NotJson`] or [`DecodeError::Mismatch`], the latter with the pointer of the first fault.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer_of(error.path());
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => DecodeError::Mismatch {
                pointer,
                reason: inner.to_string(),
            },
            _ => DecodeError::NotJson {
                reason: inner.to_string(),
            },
        }
    })?;
    deserializer.end().map_err(|error| DecodeError::NotJson {
        reason: error.to_string(),
    })?;
    Ok(value)
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |mut pointer, segment| {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            // Enum variants and unknown segments are no part of a JSON pointer.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
        pointer
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskRequest;

    #[test]
    fn names_the_pointer_of_a_wrong_type() {
        let error =
            from_json::<TaskRequest>(br#"{"images":["https://a.example/1.jpg",{"url":7}]}"#)
                .unwrap_err();
        assert_eq!(error.pointer(), Some("/images/1/url"), "{error}");
    }

    #[test]
    fn names_the_pointer_of_an_unknown_field() {
        let error = from_json::<TaskRequest>(
            br#"{"images":["https://a.example/1.jpg"],"options":{"output":{"colour":1}}}"#,
        )
        .unwrap_err();
        assert_eq!(error.pointer(), Some("/options/output/colour"), "{error}");
    }

    #[test]
    fn garbage_is_not_json() {
        assert!(matches!(
            from_json::<TaskRequest>(b"\xff\x00"),
            Err(DecodeError::NotJson { .. })
        ));
        assert!(matches!(
            from_json::<TaskRequest>(b"{} trailing"),
            Err(DecodeError::Mismatch { .. } | DecodeError::NotJson { .. })
        ));
    }
}
