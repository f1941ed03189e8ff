//! A single-node, durable broker that speaks the Kafka protocol, in one process with nothing to install.
//!
//! Any Kafka client works against it unmodified: idempotent and transactional producers, consumer groups, compaction,
//! administration. What it does not do (replication, authentication, quotas, KIP-848 groups) it does not advertise.
//!
//! # What an acknowledgement promises
//!
//! * [`Durability::Fsync`] (the default): it is on the disk. Many requests share one `fdatasync`. A power cut costs nothing
//!   that was acknowledged. Consumers that read committed see a record only once it is on the disk; those that read
//!   uncommitted may see one earlier, which a power cut can then take back.
//! * [`Durability::Os`]: it is in the page cache. Killing the broker costs nothing; a power cut costs what the kernel has not
//!   written back yet (some 30 seconds), and may leave committed offsets ahead of the records they belong to.
//!
//! # Who owns what
//!
//! | part | owns | lock |
//! |---|---|---|
//! | `log` | one partition: its segment files, producers, offsets | one per partition, held for one write |
//! | `state` | the journal: topics, producer ids, transactions, committed offsets | one, held for one write |
//! | `groups` | who is in which group | one per group |
//! | `transactions` | what an open transaction touches, and its end | two per transactional id |
//! | `durability` | the `fdatasync`s | a queue |
//! | `wire` | connections, frames, the table of requests served | none |
//!
//! Locks are taken in this order: transactional id, partition, journal. None but the transactional id's turn is held across
//! a wait.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod broker;
mod clock;
mod data_dir;
mod durability;
mod error;
mod groups;
mod log;
mod maintenance;
mod options;
mod requests;
mod state;
mod topics;
mod transactions;
mod wire;

pub use broker::{Broker, RunningBroker};
pub use durability::Durability;
pub use error::BrokerError;
pub use options::BrokerOptions;
