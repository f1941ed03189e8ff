//! A URL chooses the adapter.
//!
//! Invariant: a store that cannot be reached is an error that names the setting, never a fallback.

use std::{path::PathBuf, sync::Arc};

use url::Url;

use crate::{
    Blobs, Ledger,
    blobs::DirectoryBlobs,
    ledger::SqliteLedger,
    options::{BlobsOptions, LedgerOptions},
};

/// The setting that says where blobs are kept.
pub const BLOBS_SETTING: &str = "stores.blobs_url";
/// The setting that says where the ledger is kept.
pub const LEDGER_SETTING: &str = "stores.ledger_url";

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

/// Opens the blob store at `url`: `file:///absolute/folder`, which is made where it is missing.
///
/// # Errors
/// [`OpenError`] names the setting, its value and what to write instead.
pub async fn open_blobs(url: &str, options: &BlobsOptions) -> Result<Arc<dyn Blobs>, OpenError> {
    let folder = local_path(BLOBS_SETTING, url, "file", "`file:///absolute/folder`")?;
    let blobs = DirectoryBlobs::open(&folder, options.clone()).await;
    blobs
        .map(|blobs| Arc::new(blobs) as Arc<dyn Blobs>)
        .map_err(|error| unreachable(BLOBS_SETTING, url, &error))
}

/// Opens the ledger at `url`: `sqlite:///absolute/file`, which is made where it is missing, and migrates it.
///
/// # Errors
/// [`OpenError`] names the setting, its value and what to write instead.
pub async fn open_ledger(url: &str, options: &LedgerOptions) -> Result<Arc<dyn Ledger>, OpenError> {
    let file = local_path(
        LEDGER_SETTING,
        url,
        "sqlite",
        "`sqlite:///absolute/file.sqlite`",
    )?;
    let ledger = SqliteLedger::open(&file, options.clone()).await;
    ledger
        .map(|ledger| Arc::new(ledger) as Arc<dyn Ledger>)
        .map_err(|error| unreachable(LEDGER_SETTING, url, &error))
}

fn unreachable(setting: &'static str, url: &str, error: &dyn std::error::Error) -> OpenError {
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

/// Settings stand in log lines; a password in one must not.
fn without_password(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // Fails only for URLs that cannot have a password.
            let _ = url.set_password(Some("***"));
            url.to_string()
        }
        _ => text.to_owned(),
    }
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
