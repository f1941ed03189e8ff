//! What may be set about the gateway, under `[gateway]` in the configuration.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the HTTP gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayOptions {
    /// Address and port to listen on. Only loopback addresses are allowed while the gateway has no accounts.
    pub listen: SocketAddr,
    /// Host names, beside the loopback ones, under which the gateway may be addressed, without a port: what a reverse
    /// proxy on this machine passes on. Requests under any other name are refused (DNS rebinding).
    pub public_names: Vec<String>,
    /// Largest uploaded file, in bytes.
    pub max_upload_bytes: u64,
    /// Largest multipart request with all its files, in bytes.
    pub max_request_bytes: u64,
    /// Largest JSON or form body, in bytes.
    pub max_json_bytes: u64,
    /// Uploads that are read at the same time; more wait for their turn.
    pub max_concurrent_uploads: usize,
    /// Longest silence of a client in the middle of its body, in milliseconds.
    pub body_idle_timeout_ms: u64,
    /// Event streams (SSE) that are open at the same time; more are refused with 503.
    pub max_event_streams: usize,
    /// Events kept in memory for event streams; a client that falls further behind is disconnected and resumes from the log.
    pub event_ring_events: usize,
    /// Pause between two comments that keep an idle event stream open, in milliseconds.
    pub heartbeat_ms: u64,
    /// Longest wait of `POST /v1.0/removebg` for its result, in milliseconds; the task goes on after it.
    pub sync_timeout_ms: u64,
    /// Longest pause between two looks into the outbox, in milliseconds; an accepted task is published at once besides.
    pub outbox_poll_ms: u64,
    /// How long open requests may take to finish when the gateway stops, in milliseconds.
    pub drain_timeout_ms: u64,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 8080),
            public_names: Vec::new(),
            max_upload_bytes: 50 * 1024 * 1024,
            max_request_bytes: 2 * 1024 * 1024 * 1024,
            max_json_bytes: 8 * 1024 * 1024,
            max_concurrent_uploads: 8,
            body_idle_timeout_ms: 30_000,
            max_event_streams: 256,
            event_ring_events: 4_096,
            heartbeat_ms: 15_000,
            sync_timeout_ms: 120_000,
            outbox_poll_ms: 1_000,
            drain_timeout_ms: 10_000,
        }
    }
}

/// A setting that the gateway does not start with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// An address that others can reach.
    #[error(
        "gateway.listen is {0}, which others can reach, and the gateway has no accounts yet: \
         listen on 127.0.0.1 or [::1], and put a proxy that knows who may come in front of it"
    )]
    NotLoopback(SocketAddr),
    /// A limit of nothing.
    #[error("gateway.{0} is 0: give at least 1")]
    Zero(&'static str),
}

impl GatewayOptions {
    /// Checks what types alone cannot say.
    ///
    /// # Errors
    /// [`InvalidOptions`] names the setting.
    pub fn validate(&self) -> Result<(), InvalidOptions> {
        if !self.listen.ip().is_loopback() {
            return Err(InvalidOptions::NotLoopback(self.listen));
        }
        let limits = [
            ("max_upload_bytes", self.max_upload_bytes),
            ("max_request_bytes", self.max_request_bytes),
            ("max_json_bytes", self.max_json_bytes),
            ("max_concurrent_uploads", self.max_concurrent_uploads as u64),
            ("body_idle_timeout_ms", self.body_idle_timeout_ms),
            ("max_event_streams", self.max_event_streams as u64),
            ("event_ring_events", self.event_ring_events as u64),
            ("heartbeat_ms", self.heartbeat_ms),
            ("sync_timeout_ms", self.sync_timeout_ms),
            ("outbox_poll_ms", self.outbox_poll_ms),
        ];
        match limits.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(InvalidOptions::Zero(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_allowed() {
        for (address, allowed) in [
            ("127.0.0.1:80", true),
            ("127.9.9.9:0", true),
            ("[::1]:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:1", false),
            ("192.168.1.2:80", false),
        ] {
            let options = GatewayOptions {
                listen: address.parse().unwrap(),
                ..GatewayOptions::default()
            };
            assert_eq!(options.validate().is_ok(), allowed, "{address}");
        }
        let error = GatewayOptions {
            listen: "0.0.0.0:8080".parse().unwrap(),
            ..GatewayOptions::default()
        }
        .validate();
        assert!(error.unwrap_err().to_string().contains("gateway.listen"));
    }

    #[test]
    fn a_limit_of_nothing_is_named() {
        let options = GatewayOptions {
            heartbeat_ms: 0,
            ..GatewayOptions::default()
        };
        assert_eq!(
            options.validate(),
            Err(InvalidOptions::Zero("heartbeat_ms"))
        );
    }
}
