//! What a stage is: a function from a batch of messages to one outcome per message.

use async_trait::async_trait;
use atelier_schemas::{DecodeError, Envelope, Event, Priority, events::Payload, from_json};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::Failure;

/// A step of the pipeline.
#[async_trait]
pub trait Stage: Send + Sync + 'static {
    /// What it reads.
    type Input: StageInput;

    /// Its name: the consumer group, the prefix of its retry and dead-letter topics, the `stage` label of its metrics.
    fn name(&self) -> &'static str;

    /// How messages are gathered; one by one unless the stage says otherwise.
    fn batching(&self) -> Batching {
        Batching::single()
    }

    /// How much one message weighs against [`Batching::max_pixels`].
    fn pixels(&self, _input: &Self::Input) -> u64 {
        0
    }

    /// Whether messages that nobody wants any more (their task is cancelled, their deadline has passed) are dropped before they
    /// cost work. Only who keeps the tasks' books still wants them: what ended first is decided there.
    fn drops_unwanted(&self) -> bool {
        true
    }

    /// Does the work: one outcome per message, in order.
    ///
    /// # Errors
    /// A failure of the whole batch (the model ran out of memory, say). The runtime bisects the batch until the
    /// message at fault stands alone; then that failure is its outcome. A panic is treated the same way.
    async fn handle(&self, batch: Batch<Self::Input>) -> Result<Vec<Outcome>, Failure>;
}

/// What a stage reads: one payload type, or a closed set of them.
pub trait StageInput: Clone + Send + Sync + 'static {
    /// Reads the value of an event; `None` is an event on the same topic that this stage has no use for.
    ///
    /// # Errors
    /// [`DecodeError`]: the event goes to the dead letters.
    fn decode(envelope: &Envelope, value: &[u8]) -> Result<Option<Self>, DecodeError>;

    /// The task that the payload itself names, where it does: it counts more than the envelope's `ce_correlationid`.
    fn task_id(&self) -> Option<Uuid> {
        None
    }

    /// The deadline that the payload itself names, where it does: the earlier one of this and the envelope's counts.
    fn deadline(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// What the payload itself says of its priority: it is bulk where this, the envelope or the topic says so.
    fn priority(&self) -> Priority {
        Priority::Interactive
    }
}

impl<P: Payload + Clone + Send + Sync + 'static> StageInput for P {
    fn decode(envelope: &Envelope, value: &[u8]) -> Result<Option<Self>, DecodeError> {
        if envelope.event_type == P::EVENT_TYPE {
            return from_json(value).map(Some);
        }
        Err(DecodeError::UnknownType {
            found: envelope.event_type.chars().take(80).collect(),
            expected: P::EVENT_TYPE.to_owned(),
        })
    }
}

/// One event that a stage is to work on.
#[derive(Clone, Debug)]
pub struct Message<T> {
    /// Its attributes.
    pub envelope: Envelope,
    /// Its payload.
    pub data: T,
}

/// Messages that are worked on together, never empty.
pub type Batch<T> = Vec<Message<T>>;

/// When a batch closes: at the first limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most messages.
    pub max_batch: usize,
    /// Most pixels, summed over the messages; a single message may exceed it.
    pub max_pixels: u64,
    /// Longest wait of the oldest message, in milliseconds.
    pub max_delay_ms: u64,
}

impl Batching {
    /// One message at a time.
    pub const fn single() -> Self {
        Self {
            max_batch: 1,
            max_pixels: u64::MAX,
            max_delay_ms: 0,
        }
    }
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq)]
// Outcomes are moved once; boxing `Failure` would only add noise.
#[allow(clippy::large_enum_variant)]
pub enum Outcome {
    /// Worked: these go out, in order.
    Emit(Vec<Emission>),
    /// Nothing to do, for this reason.
    Skip(&'static str),
    /// May succeed later.
    Retry(Failure),
    /// Never will.
    Reject(Failure),
}

impl Outcome {
    /// Worked, with one event.
    pub fn emit(event: impl Into<Event>) -> Self {
        Self::Emit(vec![Emission::Event(event.into())])
    }

    /// Retry or Reject, as the error's type says.
    pub fn failed(error: impl Into<Failure>) -> Self {
        let failure = error.into();
        match failure.class {
            crate::FailureClass::Permanent => Self::Reject(failure),
            crate::FailureClass::Transient | crate::FailureClass::Unavailable => {
                Self::Retry(failure)
            }
        }
    }
}

/// One thing that goes out. A stage that fans out can give up one part of a message without the others.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum Emission {
    /// An event, to its own topic.
    Event(Event),
    /// A part of the input to try again: goes to the stage's retry topic, and after the attempt limit to its dead letters.
    Retry(Event, Failure),
    /// A part of the input that never will succeed: goes to the stage's dead letters.
    Reject(Event, Failure),
}
