//! Serving one blob: ETag, conditions, ranges, in pieces.
//!
//! Invariant: no more than [`PIECE_BYTES`] of a blob are in memory per request.

use std::{ops::Range, sync::Arc};

use atelier_schemas::BlobKey;
use atelier_stores::{BlobError, Blobs};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::Stream;

/// How much is read from the store at once.
pub const PIECE_BYTES: u64 = 256 * 1024;

/// A blob to be served.
pub struct Served {
    /// Its key, also its ETag.
    pub key: BlobKey,
    /// A harmless media type.
    pub media_type: &'static str,
    /// The file name to save it under, where it is to be saved.
    pub download_as: Option<String>,
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    Nothing,
}

/// Answers with the blob, or the part of it that `request` asks for.
///
/// # Errors
/// [`BlobError`] where the blob is gone, or cannot be read.
pub async fn serve(
    blobs: &Arc<dyn Blobs>,
    served: Served,
    request: &HeaderMap,
) -> Result<Response, BlobError> {
    let Some(size) = blobs.size(&served.key).await? else {
        return Err(BlobError::NotFound(served.key));
    };
    let etag = format!("\"{}\"", served.key);
    if request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|value| matches_etag(value, &etag))
    {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        common_headers(response.headers_mut(), &etag);
        return Ok(response);
    }
    let range_applies = request
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let asked = match request.get(header::RANGE) {
        Some(range) if range_applies => asked_range(range.to_str().unwrap_or_default(), size),
        _ => Asked::Whole,
    };
    let (status, range) = match asked {
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nothing => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            insert(
                response.headers_mut(),
                header::CONTENT_RANGE,
                &format!("bytes */{size}"),
            );
            return Ok(response);
        }
    };
    let body = Body::from_stream(pieces(Arc::clone(blobs), served.key, range.clone()));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    common_headers(headers, &etag);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(served.media_type),
    );
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(range.end - range.start),
    );
    // Whatever a browser may take the bytes for, they can run nothing and load nothing.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    if status == StatusCode::PARTIAL_CONTENT {
        insert(
            headers,
            header::CONTENT_RANGE,
            &format!("bytes {}-{}/{size}", range.start, range.end - 1),
        );
    }
    if let Some(name) = served.download_as {
        insert(
            headers,
            header::CONTENT_DISPOSITION,
            &crate::media::attachment(&name),
        );
    }
    Ok(response)
}

/// The bytes `range` of a blob, piece by piece.
pub fn pieces(
    blobs: Arc<dyn Blobs>,
    key: BlobKey,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
    futures::stream::try_unfold((blobs, key, range), |(blobs, key, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start + PIECE_BYTES);
        let piece = blobs.get_range(&key, range.start..end).await?;
        if piece.len() as u64 != end - range.start {
            // A length was promised; only breaking off can say that it is not kept.
            return Err(BlobError::Corrupt(key));
        }
        Ok(Some((piece, (blobs, key, end..range.end))))
    })
}

fn common_headers(headers: &mut HeaderMap, etag: &str) {
    insert(headers, header::ETAG, etag);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // What is under an address never changes once it is there; private, because it is somebody's photograph.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=31536000, immutable"),
    );
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    // All values are made of ASCII by this module and `media::attachment`.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Weak comparison, as RFC 9110 asks for `If-None-Match`.
fn matches_etag(value: &HeaderValue, etag: &str) -> bool {
    let text = value.to_str().unwrap_or_default();
    text.trim() == "*"
        || text
            .split(',')
            .any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

/// One range of bytes. What does not parse, and a list of ranges, is answered with the whole, as RFC 9110 allows.
fn asked_range(header: &str, size: u64) -> Asked {
    let Some((first, last)) = header
        .trim()
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.is_empty(), last.is_empty()) {
        (true, true) => return Asked::Whole,
        (true, false) => match number(last) {
            Some(suffix) => size.saturating_sub(suffix)..if suffix == 0 { 0 } else { size },
            None => return Asked::Whole,
        },
        (false, open_ended) => {
            let (Some(start), Some(end)) = (
                number(first),
                if open_ended {
                    Some(u64::MAX)
                } else {
                    number(last)
                },
            ) else {
                return Asked::Whole;
            };
            if end < start {
                return Asked::Whole;
            }
            start..end.saturating_add(1).min(size)
        }
    };
    if range.start >= range.end {
        Asked::Nothing
    } else {
        Asked::Part(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (header, expected) in [
            ("bytes=0-99", Asked::Part(0..100)),
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=990-", Asked::Part(990..1000)),
            ("bytes=-10", Asked::Part(990..1000)),
            ("bytes=-5000", Asked::Part(0..1000)),
            ("bytes=500-5000", Asked::Part(500..1000)),
            ("bytes=1000-", Asked::Nothing),
            ("bytes=1000-1001", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=5-2", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=0-1,5-6", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("", Asked::Whole),
        ] {
            assert_eq!(asked_range(header, 1000), expected, "{header}");
        }
        assert_eq!(asked_range("bytes=0-", 0), Asked::Nothing);
    }

    #[test]
    fn etags_match_weakly() {
        let etag = "\"abc\"";
        for value in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(
                matches_etag(&HeaderValue::from_static(value), etag),
                "{value}"
            );
        }
        assert!(!matches_etag(&HeaderValue::from_static("\"abcd\""), etag));
    }
}
