//! The HTTP edge of Atelier: the only crate that knows HTTP.
//!
//! It writes a task and its outbox row in one transaction and relays the outbox to the log; everything else it only
//! reads: the ledger for what is, `task-events` for what happens. What it accepted with 202 therefore ends, whatever dies
//! in between. It keeps no pictures in memory, trusts no host name but its own, and listens on loopback only while it has
//! no accounts.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod accept;
mod body;
mod error;
mod guard;
pub mod kafka;
mod line;
pub mod log;
mod media;
mod multipart;
pub mod openapi;
pub mod options;
pub mod probe;
mod routes;
mod server;
mod state;
mod tail;
mod telemetry;

pub use options::{GatewayOptions, InvalidOptions};
pub use server::{Gateway, GatewayError};
pub use state::{Dependencies, HealthCheck, QualityModel};
