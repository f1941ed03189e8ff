//! From options to a client of the SDK: server, region, credentials, time-outs, retries.
//!
//! Invariant: credentials come only by the SDK's usual ways (environment, profile files, the machine's role), never from
//! our configuration, and are in no message.

use std::{error::Error, time::Duration};

use aws_config::{
    BehaviorVersion, environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain, profile::ProfileFileRegionProvider, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::{
    Client,
    config::{
        ProvideCredentials as _, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedCredentialsProvider,
    },
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use url::Url;

use super::{failure::chain, spool::blocking};
use crate::options::S3Options;

/// The region that servers other than Amazon's go by.
const DEFAULT_REGION: &str = "us-east-1";
/// The least that S3 takes as a part that is not the last.
pub(super) const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;
/// First pause before a request is sent again; it doubles each time, up to [`MAX_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A client for the server of `options`, with `credentials` or those of the SDK's usual ways.
///
/// # Errors
/// What is wrong with the options, or why there are no credentials.
pub(super) async fn connect(
    options: &S3Options,
    credentials: Option<SharedCredentialsProvider>,
) -> Result<Client, String> {
    check(options)?;
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(trust(options).await?)
        .build_https();
    let region = match &options.region {
        Some(region) => RegionProviderChain::first_try(Region::new(region.clone())),
        None => RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(DEFAULT_REGION),
    };
    let request_timeout = Duration::from_millis(options.request_timeout_ms);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(region)
        .timeout_config(timeouts(options))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(options.max_attempts)
                .with_initial_backoff(FIRST_PAUSE)
                .with_max_backoff(MAX_PAUSE),
        )
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(request_timeout)
                .build(),
        )
        // Every body is sent with its SHA-256 and read by its key; older servers know no other checksum.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials);
    }
    let shared = loader.load().await;
    if let Some(provider) = shared.credentials_provider() {
        provider.provide_credentials().await.map_err(|error| {
            format!(
                "no credentials ({}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile in ~/.aws/credentials",
                chain(&error as &dyn Error)
            )
        })?;
    }
    let path_style = options.path_style.unwrap_or(options.endpoint.is_some());
    let config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(path_style)
        .build();
    Ok(Client::from_conf(config))
}

/// The machine's certificates. Only a server without TLS can do without any.
async fn trust(options: &S3Options) -> Result<TlsContext, String> {
    let has_any = blocking(|| Ok(!rustls_native_certs::load_native_certs().certs.is_empty()))
        .await
        .map_err(|error| error.to_string())?;
    let is_plain = options
        .endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    if !has_any && !is_plain {
        return Err("this machine has no certificates to know the server by: install `ca-certificates`, or set SSL_CERT_FILE".to_owned());
    }
    TlsContext::builder()
        .with_trust_store(TrustStore::empty().with_native_roots(has_any))
        .build()
        .map_err(|error| chain(&error))
}

fn timeouts(options: &S3Options) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(options.connect_timeout_ms))
        .operation_attempt_timeout(Duration::from_millis(options.request_timeout_ms))
        .operation_timeout(Duration::from_millis(options.operation_timeout_ms))
        .build()
}

fn check(options: &S3Options) -> Result<(), String> {
    for (name, value) in [
        ("connect_timeout_ms", options.connect_timeout_ms),
        ("request_timeout_ms", options.request_timeout_ms),
        ("operation_timeout_ms", options.operation_timeout_ms),
        ("max_attempts", options.max_attempts.into()),
    ] {
        if value == 0 {
            return Err(format!(
                "`stores.blobs.s3.{name}` is 0; it must be at least 1"
            ));
        }
    }
    if options.part_bytes < MIN_PART_BYTES {
        return Err(format!(
            "`stores.blobs.s3.part_bytes` is {}; S3 takes no parts below {MIN_PART_BYTES}",
            options.part_bytes
        ));
    }
    let Some(endpoint) = &options.endpoint else {
        return Ok(());
    };
    let is_address = Url::parse(endpoint).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if is_address {
        Ok(())
    } else {
        // Not repeated: someone may have written credentials into it.
        Err("`stores.blobs.s3.endpoint` must be `http://host:port` or `https://host:port`, nothing else".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_named() {
        let wrong = |change: fn(&mut S3Options)| {
            let mut options = S3Options::default();
            change(&mut options);
            check(&options).unwrap_err()
        };
        assert!(wrong(|options| options.max_attempts = 0).contains("max_attempts"));
        assert!(wrong(|options| options.request_timeout_ms = 0).contains("request_timeout_ms"));
        assert!(wrong(|options| options.part_bytes = 1_000).contains("part_bytes"));
        for endpoint in ["localhost:9000", "ftp://host", "http://key:s3cret@host"] {
            let options = S3Options {
                endpoint: Some(endpoint.to_owned()),
                ..S3Options::default()
            };
            let refused = check(&options).unwrap_err();
            assert!(
                refused.contains("stores.blobs.s3.endpoint") && !refused.contains("s3cret"),
                "{refused}"
            );
        }
        check(&S3Options::default()).unwrap();
    }
}
