//! Fetches pictures from addresses that strangers chose.
//!
//! Invariants: only http and https, only to addresses that `address` lets through, each hop of a redirect checked as the
//! first; bounded in time, in bytes and in redirects; no proxy, no cookies, no decompression; nothing that the server sent
//! but the picture gets any further, not even into an error.

mod address;
mod pace;
mod resolve;

use std::{io, sync::Arc, time::Duration};

use atelier_stores::{BlobError, Blobs};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{Client, Response, StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::Instant,
};
use tokio_util::io::StreamReader;
use url::{Host, Url};

pub use address::{AddressRange, InvalidAddressRange};
pub use resolve::{Resolver, SystemResolver};

use self::{
    address::why_forbidden,
    pace::{OutOfTime, Paced, TooSlow},
    resolve::{CheckedResolver, ForbiddenAddress},
};
use crate::{FetchError, IngestError, header::Format, options::FetchOptions};

/// So much of a file tells its kind.
const FIRST_BYTES: u64 = 512;

/// What was fetched and is in the blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The blob's key.
    pub key: atelier_schemas::BlobKey,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Fetches pictures into a blob store.
pub struct Fetcher {
    client: Client,
    options: FetchOptions,
    max_bytes: u64,
}

/// The HTTP client could not be made: the TLS library does not start.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be made: {0}")]
pub struct ClientError(#[from] reqwest::Error);

impl Fetcher {
    /// A fetcher of pictures of at most `max_bytes`, with names resolved by `resolver`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(
        options: FetchOptions,
        max_bytes: u64,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, ClientError> {
        let checked = CheckedResolver {
            resolver,
            allowed: options.allow_addresses.clone(),
        };
        let client = Client::builder()
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(options.connect_timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(Arc::new(checked))
            .build()?;
        Ok(Self {
            client,
            options,
            max_bytes,
        })
    }

    /// Fetches `address` into `blobs`.
    ///
    /// # Errors
    /// [`IngestError`]: what was wrong with the address, the server, the first bytes, the length, or the store.
    pub async fn fetch(&self, address: &str, blobs: &dyn Blobs) -> Result<Fetched, IngestError> {
        let url = self.parse(address)?;
        let host = host_of(&url);
        let limit = self.limit();
        let deadline = Instant::now() + limit;
        let (url, response) = tokio::time::timeout_at(deadline, self.follow(url))
            .await
            .map_err(|_| FetchError::TimedOut { host, limit })??;
        self.store(&url, response, deadline, blobs).await
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.options.total_timeout_ms)
    }

    async fn follow(&self, mut url: Url) -> Result<(Url, Response), FetchError> {
        for _ in 0..=self.options.max_redirects {
            let response = self.request(&url).await?;
            if !response.status().is_redirection() {
                return Ok((url, response));
            }
            url = self.redirected(&url, &response)?;
        }
        Err(FetchError::TooManyRedirects {
            host: host_of(&url),
            limit: self.options.max_redirects,
        })
    }

    async fn request(&self, url: &Url) -> Result<Response, FetchError> {
        self.check(url)?;
        let response = self
            .client
            .get(url.clone())
            .header(header::ACCEPT, "image/*")
            .header(header::ACCEPT_ENCODING, "identity")
            .send()
            .await
            .map_err(|error| broken(url, &error))?;
        // The resolver has checked it already; this holds even if the client should find an address by another way.
        let reached = response
            .remote_addr()
            .and_then(|peer| why_forbidden(peer.ip(), &self.options.allow_addresses));
        match reached {
            Some(reason) => Err(FetchError::Forbidden {
                target: host_of(url),
                reason,
            }),
            None => Ok(response),
        }
    }

    /// Parses an address as every browser does: odd ways to write an IPv4 address become plain ones.
    fn parse(&self, address: &str) -> Result<Url, FetchError> {
        let url = Url::parse(address).map_err(|error| FetchError::InvalidUrl {
            // Without what stands before an `@`: errors are logged, passwords are not.
            url: address
                .rsplit('@')
                .next()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect(),
            reason: error.to_string(),
        })?;
        self.check(&url)?;
        Ok(url)
    }

    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let forbidden = |target: String, reason| Err(FetchError::Forbidden { target, reason });
        if !matches!(url.scheme(), "http" | "https") {
            return forbidden(
                format!("{}:", url.scheme()),
                "only http and https addresses are fetched",
            );
        }
        if !url.username().is_empty() || url.password().is_some() {
            return forbidden(
                host_of(url),
                "the address carries a user name or a password",
            );
        }
        let ports = &self.options.allow_ports;
        if !ports.is_empty()
            && !url
                .port_or_known_default()
                .is_some_and(|port| ports.contains(&port))
        {
            return forbidden(host_of(url), "its port is not one that is allowed");
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            // Names are checked by the resolver.
            Some(Host::Domain(_)) | None => None,
        };
        match literal.and_then(|address| why_forbidden(address, &self.options.allow_addresses)) {
            Some(reason) => forbidden(host_of(url), reason),
            None => Ok(()),
        }
    }

    fn redirected(&self, url: &Url, response: &Response) -> Result<Url, FetchError> {
        let status = response.status().as_u16();
        let invalid = || FetchError::InvalidRedirect {
            host: host_of(url),
            status,
        };
        let location = response
            .headers()
            .get(header::LOCATION)
            .ok_or_else(invalid)?;
        let next = location
            .to_str()
            .ok()
            .and_then(|location| url.join(location).ok())
            .ok_or_else(invalid)?;
        self.check(&next)?;
        Ok(next)
    }

    async fn store(
        &self,
        url: &Url,
        response: Response,
        deadline: Instant,
        blobs: &dyn Blobs,
    ) -> Result<Fetched, IngestError> {
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status {
                host: host_of(url),
                status: response.status().as_u16(),
            }
            .into());
        }
        if response
            .content_length()
            .is_some_and(|claimed| claimed > self.max_bytes)
        {
            return Err(IngestError::TooLarge {
                limit_bytes: self.max_bytes,
            });
        }
        let body = response
            .bytes_stream()
            .map_err(|error| io::Error::other(error.without_url()))
            .boxed();
        let grace = Duration::from_millis(self.options.min_rate_grace_ms);
        let mut body = Paced::new(
            StreamReader::new(body),
            deadline,
            grace,
            self.options.min_rate_bytes_per_second,
        );
        let first = read_first(&mut body)
            .await
            .map_err(|error| self.transfer_failed(url, &error))?;
        // What is no picture is not stored at all.
        Format::of(&first)?;
        let mut whole = io::Cursor::new(first).chain(body);
        match blobs.put_reader(&mut whole, self.max_bytes).await {
            Ok((key, bytes)) => Ok(Fetched { key, bytes }),
            Err(BlobError::TooLarge { limit_bytes }) => Err(IngestError::TooLarge { limit_bytes }),
            Err(BlobError::Source(error)) => Err(self.transfer_failed(url, &error).into()),
            Err(error) => Err(IngestError::Blob(error)),
        }
    }

    fn transfer_failed(&self, url: &Url, error: &io::Error) -> FetchError {
        let host = host_of(url);
        if error.get_ref().is_some_and(|inner| inner.is::<OutOfTime>()) {
            let limit = self.limit();
            return FetchError::TimedOut { host, limit };
        }
        if error.get_ref().is_some_and(|inner| inner.is::<TooSlow>()) {
            return FetchError::TooSlow {
                host,
                min_bytes_per_second: self.options.min_rate_bytes_per_second,
            };
        }
        FetchError::Broken {
            host,
            reason: chain_of(error),
        }
    }
}

async fn read_first(body: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut first = Vec::with_capacity(FIRST_BYTES as usize);
    body.take(FIRST_BYTES).read_to_end(&mut first).await?;
    Ok(first.into())
}

fn broken(url: &Url, error: &reqwest::Error) -> FetchError {
    let host = host_of(url);
    if error.is_builder() {
        // Some hosts that browsers take cannot stand in an HTTP request.
        return FetchError::InvalidUrl {
            url: host,
            reason: "the host cannot be asked over HTTP".to_owned(),
        };
    }
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(forbidden) = error.downcast_ref::<ForbiddenAddress>() {
            return FetchError::Forbidden {
                target: host,
                reason: forbidden.reason,
            };
        }
        cause = error.source();
    }
    let deepest = std::error::Error::source(error).map_or_else(|| "no answer".to_owned(), chain_of);
    FetchError::Broken {
        host,
        reason: deepest,
    }
}

/// An error with its causes, each said once.
fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn host_of(url: &Url) -> String {
    url.host_str()
        .unwrap_or_default()
        .chars()
        .take(255)
        .collect()
}
