//! A record on its way through a stage.

use atelier_schemas::{Envelope, Priority};
use uuid::Uuid;

use crate::{
    accounting::Verdict,
    erased::AnyInput,
    record::{InRecord, OutRecord, TopicPartition},
    telemetry::Step,
};

/// A record whose result is known.
#[derive(Debug)]
pub struct Settled {
    /// Where the record came from.
    pub source: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// What the caller gave with the record.
    pub ticket: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// What goes out with it, in order.
    pub outputs: Vec<OutRecord>,
}

/// A decoded record that waits for its turn.
#[derive(Debug)]
pub struct Work {
    pub(super) record: InRecord,
    pub(super) envelope: Envelope,
    pub(super) input: AnyInput,
    pub(super) ticket: u64,
    /// Its place in the trace; ends with it.
    pub(super) step: Step,
    /// How long it waited before it was handled first.
    pub(super) queue_ms: Option<f64>,
    /// How often it was tried here and failed.
    pub(super) tries: u32,
    /// How often it was found that something is away that it needs.
    pub(super) looks: u32,
}

impl Work {
    /// The task that it belongs to, where that can be known.
    pub(super) fn task(&self) -> Option<Uuid> {
        self.input.task_id.or(self.envelope.correlation_id)
    }

    /// Whether somebody waits for it.
    pub fn priority(&self) -> Priority {
        self.envelope.priority
    }

    /// What it weighs.
    pub fn pixels(&self) -> u64 {
        self.input.pixels
    }

    /// Where it came from.
    pub fn source(&self) -> &TopicPartition {
        &self.record.source
    }

    /// Its place in the partition.
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// What the caller gave with the record.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }
}

/// A record after decoding.
#[derive(Debug)]
// Both live for a moment on the way into a queue.
#[allow(clippy::large_enum_variant)]
pub enum Admitted {
    /// To be handled.
    Work(Work),
    /// Poison, or nothing for this stage: settled without its help.
    Settled(Settled),
}
