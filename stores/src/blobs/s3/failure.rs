//! What a server's refusal means to us, and what to do about it.
//!
//! Invariant: a message is one line, has the server's own words, and no credentials.

use std::{error::Error, time::Duration};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

/// Longest text of a server that is passed on, in characters.
const MAX_TEXT: usize = 300;

/// Codes that mean "no room": of Amazon's dialect at large, MinIO, Ceph and versitygw.
const FULL_CODES: [&str; 6] = [
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
    "XMinioStorageFullException",
];

/// An answer that was no success.
pub(super) struct Refusal {
    /// The HTTP status; `None` where there was no answer.
    pub(super) status: Option<u16>,
    code: Option<String>,
    reason: String,
}

impl Refusal {
    /// What the SDK says, in our terms.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        let (code, message) = match error {
            SdkError::ServiceError(answer) => (answer.err().code(), answer.err().message()),
            _ => (None, None),
        };
        let said = match (error, status) {
            (SdkError::ServiceError(_), Some(status)) => {
                let words: Vec<&str> = [code, message]
                    .into_iter()
                    .flatten()
                    .filter(|words| !words.is_empty())
                    .collect();
                match words.as_slice() {
                    [] => format!("it answered {status}"),
                    words => format!("it answered {status} {}", words.join(": ")),
                }
            }
            (_, Some(status)) => format!("it answered {status}, not as S3 does: {}", chain(error)),
            (_, None) => chain(error),
        };
        let reason = match advice(code, status) {
            Some(advice) => format!("{}; {advice}", one_line(&said)),
            None => one_line(&said),
        };
        Self {
            status,
            code: code.map(str::to_owned),
            reason,
        }
    }

    /// The server did not answer in time.
    pub(super) fn no_answer_within(limit: Duration) -> Self {
        Self {
            status: None,
            code: None,
            reason: format!("no answer within {} ms", limit.as_millis()),
        }
    }

    /// Whether the server says that there is no such object. Only where it says so in a body: any other web server would
    /// answer 404 too.
    pub(super) fn is_no_such_key(&self) -> bool {
        self.status == Some(404) && matches!(self.code.as_deref(), Some("NoSuchKey"))
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.status == Some(507)
            || self
                .code
                .as_deref()
                .is_some_and(|code| FULL_CODES.contains(&code))
    }

    /// Whether the upload in parts is over: completed, or taken back.
    pub(super) fn is_no_such_upload(&self) -> bool {
        self.code.as_deref() == Some("NoSuchUpload")
    }

    /// What happened, and what to do; one line.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

/// What an operator can do about it.
fn advice(code: Option<&str>, status: Option<u16>) -> Option<&'static str> {
    let by_code = match code.unwrap_or_default() {
        "InvalidAccessKeyId" => {
            "check AWS_ACCESS_KEY_ID or the profile: the server does not know this key"
        }
        "SignatureDoesNotMatch" => {
            "check AWS_SECRET_ACCESS_KEY or the profile: the secret is not the one of this key"
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            "renew the credentials: their session token is no longer valid"
        }
        "RequestTimeTooSkewed" => {
            "set the clock of this machine or of the server (NTP): they differ by more than 15 minutes"
        }
        "NoSuchBucket" => "make the bucket, or correct `stores.blobs_url`",
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            "set `stores.blobs.s3.region` to the region of the bucket"
        }
        "AccessDenied" => ACCESS,
        "SlowDown" | "ServiceUnavailable" => "the server has too much to do",
        "NotImplemented" => {
            "use a server that knows conditional writes (`If-None-Match`) and uploads in parts"
        }
        _ => return by_status(status?),
    };
    Some(by_code)
}

const ACCESS: &str = "allow these credentials s3:GetObject, s3:PutObject, s3:AbortMultipartUpload, s3:ListBucket and s3:ListBucketMultipartUploads here";

fn by_status(status: u16) -> Option<&'static str> {
    match status {
        301 | 307 => Some("set `stores.blobs.s3.region` to the region of the bucket"),
        401 | 403 => Some(ACCESS),
        404 => Some("check `stores.blobs_url` and `stores.blobs.s3.endpoint`"),
        _ => None,
    }
}

/// An error and its causes, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !said.contains(&words) {
            said = format!("{said}: {words}");
        }
        source = cause.source();
    }
    one_line(&said)
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
