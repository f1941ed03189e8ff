//! A URL chooses the adapter.
//!
//! Invariant: a store that cannot be reached is an error that names the setting, never a fallback.

use std::{path::PathBuf, sync::Arc};

use url::Url;

use crate::{
    BlobError, Cache, Ledger, LedgerError, MemoryCache, RedisCache,
    blobs::{DirectoryBlobs, S3Blobs, SweepableBlobs, s3},
    ledger::{LedgerState, PostgresLedger, SqliteLedger, inspect, postgres},
    options::{BlobsOptions, CacheOptions, LedgerOptions},
};

/// The setting that says where blobs are kept.
pub const BLOBS_SETTING: &str = "stores.blobs_url";
/// The setting that says where the ledger is kept.
pub const LEDGER_SETTING: &str = "stores.ledger_url";
/// The setting that says where the cache is.
pub const CACHE_SETTING: &str = "stores.cache_url";
const CACHE_URLS: &str =
    "`redis://user:password@host:6379/0`, or `rediss://` for TLS, or leave it out";
const BLOBS_URLS: &str = "`file:///absolute/folder` or `s3://bucket/prefix`";
const LEDGER_URLS: &str =
    "`sqlite:///absolute/file.sqlite` or `postgres://user:password@host:5432/database`";

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL, or not one that an adapter reads.
    #[error("`{setting}` is `{url}`: {reason}; write {possible}")]
    Unusable {
        /// The setting.
        setting: &'static str,
        /// Its value.
        url: String,
        /// What is wrong with it.
        reason: String,
        /// What would be right.
        possible: &'static str,
    },
    /// The place is not there, or cannot be written.
    #[error("`{setting}` is `{url}`, which cannot be opened: {reason}")]
    Unreachable {
        /// The setting.
        setting: &'static str,
        /// Its value.
        url: String,
        /// What the system said.
        reason: String,
    },
}

/// Opens the blob store at `url`: `file:///absolute/folder`, which is made where it is missing, or `s3://bucket/prefix`,
/// whose bucket must be there.
///
/// # Errors
/// [`OpenError`] names the setting, its value and what to write instead.
pub async fn open_blobs(
    url: &str,
    options: &BlobsOptions,
) -> Result<Arc<dyn SweepableBlobs>, OpenError> {
    let failed = |error: BlobError| unreachable(BLOBS_SETTING, url, &error);
    if s3::address::is_s3(url) {
        // Tells a URL that must be written otherwise from a server that may be there later.
        s3::address::parse(url).map_err(|reason| OpenError::Unusable {
            setting: BLOBS_SETTING,
            url: without_password(url),
            reason,
            possible: BLOBS_URLS,
        })?;
        let blobs = S3Blobs::open(url, options.clone(), None);
        return Ok(Arc::new(Box::pin(blobs).await.map_err(failed)?));
    }
    let folder = local_path(BLOBS_SETTING, url, "file", BLOBS_URLS)?;
    let blobs = DirectoryBlobs::open(&folder, options.clone()).await;
    Ok(Arc::new(blobs.map_err(failed)?))
}

/// Opens the ledger at `url` and brings its tables up to date: `sqlite:///absolute/file`, which is made where it is
/// missing, or `postgres://user:password@host:5432/database`, which must be there.
///
/// # Errors
/// [`OpenError`] names the setting, its value (without its password) and what to write instead.
pub async fn open_ledger(url: &str, options: &LedgerOptions) -> Result<Arc<dyn Ledger>, OpenError> {
    let failed = |error: LedgerError| unreachable(LEDGER_SETTING, url, &reason_of(error));
    if is_postgres(url) {
        // Tells a URL that must be written otherwise from a server that may be there later.
        postgres::address::parse(url).map_err(|reason| OpenError::Unusable {
            setting: LEDGER_SETTING,
            url: without_password(url),
            reason,
            possible: LEDGER_URLS,
        })?;
        let ledger = PostgresLedger::open(url, options).await.map_err(failed)?;
        return Ok(Arc::new(ledger));
    }
    let file = local_path(LEDGER_SETTING, url, "sqlite", LEDGER_URLS)?;
    let ledger = SqliteLedger::open(&file, options.clone())
        .await
        .map_err(failed)?;
    Ok(Arc::new(ledger))
}

/// What the ledger's database at `url` says of itself. Changes nothing, and makes nothing that is missing.
///
/// # Errors
/// [`OpenError`] names the setting, its value (without its password) and what to write instead.
pub async fn inspect_ledger(url: &str, options: &LedgerOptions) -> Result<LedgerState, OpenError> {
    let failed = |reason: String| unreachable(LEDGER_SETTING, url, &reason);
    if is_postgres(url) {
        return inspect::of_server(url, options).await.map_err(failed);
    }
    let file = local_path(LEDGER_SETTING, url, "sqlite", LEDGER_URLS)?;
    let state = inspect::of_file(&file).await;
    state.map_err(|error| failed(error.to_string()))
}

/// Opens the cache at `url`, a Redis server, or this process's own where there is none. A server that is not there is no
/// error: it is asked when it is needed.
///
/// # Errors
/// [`OpenError::Unusable`] names the setting, its value (without its password) and what to write instead.
pub fn open_cache(url: Option<&str>, options: &CacheOptions) -> Result<Arc<dyn Cache>, OpenError> {
    Ok(match url {
        None => Arc::new(MemoryCache::new(options.memory_bytes)),
        Some(url) => Arc::new(open_redis(url, options)?),
    })
}

/// Asks the cache's server at `url` whether it answers.
///
/// # Errors
/// [`OpenError`] names the setting, its value (without its password) and what is wrong.
pub async fn check_cache(url: &str, options: &CacheOptions) -> Result<(), OpenError> {
    let answer = open_redis(url, options)?.check().await;
    answer.map_err(|reason| unreachable(CACHE_SETTING, url, &reason))
}

fn open_redis(url: &str, options: &CacheOptions) -> Result<RedisCache, OpenError> {
    RedisCache::open(url, options).map_err(|error| OpenError::Unusable {
        setting: CACHE_SETTING,
        url: without_password(url),
        reason: error.to_string(),
        possible: CACHE_URLS,
    })
}

fn is_postgres(url: &str) -> bool {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        ["postgres", "postgresql"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

/// The message of an [`OpenError`] names the place already.
fn reason_of(error: LedgerError) -> String {
    match error {
        LedgerError::Unavailable { reason, .. } => reason,
        other => other.to_string(),
    }
}

fn unreachable(setting: &'static str, url: &str, error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Unreachable {
        setting,
        url: without_password(url),
        reason: error.to_string(),
    }
}

/// The path in a URL of a local adapter: `scheme:///path`, percent-decoded.
fn local_path(
    setting: &'static str,
    text: &str,
    scheme: &str,
    possible: &'static str,
) -> Result<PathBuf, OpenError> {
    let unusable = |reason: String| OpenError::Unusable {
        setting,
        url: without_password(text),
        reason,
        possible,
    };
    let url = Url::parse(text).map_err(|error| unusable(error.to_string()))?;
    if url.scheme() != scheme {
        return Err(unusable(format!("no adapter for `{}:`", url.scheme())));
    }
    if url.host_str().is_some_and(|host| !host.is_empty())
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(unusable(
            "it needs three slashes and an absolute path, nothing else".to_owned(),
        ));
    }
    // `to_file_path` knows only the `file` scheme; the path's rules are the same.
    let as_file = Url::parse(&format!("file://{}", url.path()))
        .map_err(|error| unusable(error.to_string()))?;
    match as_file.to_file_path() {
        Ok(path) if path.parent().is_some() => Ok(path),
        _ => Err(unusable("it has no absolute path".to_owned())),
    }
}

/// A URL as it may stand in log lines and errors: what may be a password is replaced by `***`.
///
/// It goes by the text and not by what the URL means, because the password of a URL that was written wrongly is read as
/// something else.
pub fn without_password(text: &str) -> String {
    let masked = match text.split_once("://") {
        // Local adapters have neither user nor host.
        Some((scheme, rest)) if !rest.starts_with('/') => match rest.rsplit_once('@') {
            Some((user, server)) => match user.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:***@{server}"),
                None => text.to_owned(),
            },
            None => text.to_owned(),
        },
        _ => text.to_owned(),
    };
    let mut parts = Vec::new();
    for part in masked.split_inclusive(['?', '&', ' ']) {
        match part.split_once('=') {
            Some((name, value)) if name.to_lowercase().contains("pass") => {
                let end = value.chars().last().filter(|sign| "?& ".contains(*sign));
                parts.push(format!(
                    "{name}=***{}",
                    end.map(String::from).unwrap_or_default()
                ));
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_scheme_names_the_setting_and_what_is_possible() {
        for url in [
            "s3://user:secret@bucket/prefix",
            "ledger.sqlite",
            "file://host/path",
            "sqlite:relative",
            "file:///",
        ] {
            let blobs = open_blobs(url, &BlobsOptions::default())
                .await
                .err()
                .unwrap()
                .to_string();
            assert!(
                blobs.contains("stores.blobs_url") && blobs.contains("file:///absolute"),
                "{blobs}"
            );
            assert!(!blobs.contains("secret"), "{blobs}");
            let ledger = open_ledger(url, &LedgerOptions::default())
                .await
                .err()
                .unwrap()
                .to_string();
            assert!(
                ledger.contains("stores.ledger_url") && ledger.contains("sqlite:///absolute"),
                "{ledger}"
            );
        }
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let below_a_file = format!("{}/below", file.path().display());
        let blobs = open_blobs(&format!("file://{below_a_file}"), &BlobsOptions::default())
            .await
            .err()
            .unwrap();
        assert!(
            matches!(
                blobs,
                OpenError::Unreachable {
                    setting: BLOBS_SETTING,
                    ..
                }
            ),
            "{blobs}"
        );
        let ledger = open_ledger(
            &format!("sqlite://{below_a_file}"),
            &LedgerOptions::default(),
        )
        .await
        .err()
        .unwrap();
        assert!(
            matches!(
                ledger,
                OpenError::Unreachable {
                    setting: LEDGER_SETTING,
                    ..
                }
            ),
            "{ledger}"
        );
    }

    #[test]
    fn passwords_are_masked_however_they_are_written() {
        for (written, shown) in [
            (
                "postgres://maker:secret@host:5432/a",
                "postgres://maker:***@host:5432/a",
            ),
            (
                "postgres://maker:se@c/r#et@host/a",
                "postgres://maker:***@host/a",
            ),
            (
                "postgres:///a?host=/run&password=secret&user=maker",
                "postgres:///a?host=/run&password=***&user=maker",
            ),
            (
                "host=db Password=secret user=maker",
                "host=db Password=*** user=maker",
            ),
            ("postgres://maker@host/a", "postgres://maker@host/a"),
            ("sqlite:///srv/a:b@c.sqlite", "sqlite:///srv/a:b@c.sqlite"),
            ("ledger.sqlite", "ledger.sqlite"),
        ] {
            assert_eq!(without_password(written), shown);
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_names_the_setting_and_no_password() {
        for (url, expected) in [
            ("postgres://maker:secret@127.0.0.1:1/a", "refused"),
            ("postgres://maker:secret@127.0.0.1:1", "names no database"),
            (
                "PostgreSQL://maker:secret@127.0.0.1:1/a?pass=secret",
                "`pass`",
            ),
        ] {
            let refused = open_ledger(url, &LedgerOptions::default())
                .await
                .err()
                .unwrap()
                .to_string();
            assert!(
                refused.contains("`stores.ledger_url`") && refused.contains(expected),
                "{refused}"
            );
            assert!(
                !refused.contains("secret") && !refused.contains('\n'),
                "{refused}"
            );
        }
    }

    #[test]
    fn signs_in_a_path_are_decoded() {
        let path = local_path(
            LEDGER_SETTING,
            "sqlite:///tmp/with%20space/l.sqlite",
            "sqlite",
            "",
        )
        .unwrap();
        assert_eq!(path, PathBuf::from("/tmp/with space/l.sqlite"));
    }
}
