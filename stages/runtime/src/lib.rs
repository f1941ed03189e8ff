//! The consumer loop that every stage runs in: offsets, transactions, batching, retry, dead letters, drain, telemetry.
//!
//! A stage implements [`Stage`] and knows nothing of offsets, partitions, retries, headers or shutdown. The same stage
//! runs on Kafka and, without a broker, in the in-process runner.
//!
//! Invariants: outputs and input offsets are one Kafka transaction; nothing is dropped (in = out + dead letters);
//! a repeat after a crash makes the same events with the same ids.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod failure;
pub mod stage;

pub use failure::{Failure, FailureClass, StageFailure};
pub use stage::{Batch, Batching, Emission, Message, Outcome, Stage, StageInput};
