//! Names to addresses, every one of them checked.
//!
//! Invariant: the HTTP client connects to the very addresses that were checked here. There is no second resolution that
//! could answer differently, because the client has no other resolver.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{AddressRange, why_forbidden};

/// Something that knows the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// Every address of `host`.
    ///
    /// # Errors
    /// Where the name is not known, or nobody answered.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0))
            .await?
            .map(|address| address.ip())
            .collect())
    }
}

/// A name with an address that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct ForbiddenAddress {
    pub reason: &'static str,
}

/// Refuses names of which any address is not public: a name that has both kinds is an attempt.
pub(super) struct CheckedResolver {
    pub resolver: Arc<dyn Resolver>,
    pub allowed: Vec<AddressRange>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, allowed) = (Arc::clone(&self.resolver), self.allowed.clone());
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str()).await?;
            if addresses.is_empty() {
                return Err(
                    io::Error::new(io::ErrorKind::NotFound, "the name has no address").into(),
                );
            }
            if let Some(reason) = addresses
                .iter()
                .find_map(|address| why_forbidden(*address, &allowed))
            {
                return Err(ForbiddenAddress { reason }.into());
            }
            // Port 0 stands for the port of the URL.
            let addresses: Addrs = Box::new(
                addresses
                    .into_iter()
                    .map(|address| SocketAddr::new(address, 0)),
            );
            Ok(addresses)
        })
    }
}
