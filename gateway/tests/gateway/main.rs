//! The gateway over HTTP, as its clients see it. One binary: it links once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cancel;
mod common;
mod events;
mod images;
mod kafka;
mod operations;
mod removebg;
mod tasks;
mod urgency;
mod versions;
