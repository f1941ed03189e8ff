//! The consumer loop that every stage runs in: offsets, transactions, batching, retry, dead letters, drain, telemetry.
//!
//! A stage implements [`Stage`] and knows nothing of offsets, partitions, retries, headers or shutdown. The same stage
//! runs on Kafka and, without a broker, in the in-process runner.
//!
//! Invariants: outputs and input offsets are one Kafka transaction; nothing is dropped (in = out + dead letters + cancelled);
//! a repeat after a crash makes the same events with the same ids.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod access;
pub mod accounting;
pub mod admin;
pub mod batch;
pub mod cancelled;
pub mod clock;
pub mod encode;
pub mod erased;
pub mod execute;
pub mod failure;
pub mod kafka;
pub mod letters;
pub mod local;
pub mod log_access;
pub mod options;
pub mod outbox;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod publisher;
pub mod readiness;
pub mod record;
pub mod replay;
mod retry_schedule;
pub mod stage;
pub mod tail;
pub mod telemetry;
pub mod trace_context;

pub use accounting::{Accounting, Counts, Verdict};
pub use admin::{OpenTransaction, TopicAdmin, TopicChange, TopicState};
pub use cancelled::Cancelled;
pub use clock::{Clock, SystemClock, VirtualClock};
pub use erased::AnyStage;
pub use failure::{Failure, FailureClass, StageFailure};
pub use kafka::{Drained, RunningStage, RuntimeError};
pub use local::{LocalOptions, LocalPipeline, LocalRunner};
pub use log_access::{LogAccessError, Offsets};
pub use options::{
    GroupProtocol, KafkaOptions, RetryOptions, SaslMechanism, SecurityOptions, SecurityProtocol,
    StageRuntimeOptions, TransactionOptions,
};
pub use publisher::Publisher;
pub use readiness::Readiness;
pub use record::{Header, InRecord, OutRecord};
pub use stage::{Batch, Batching, Emission, Message, Outcome, Stage, StageInput};
