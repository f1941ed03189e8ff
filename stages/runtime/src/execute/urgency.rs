//! Deadline and priority of a message: what its envelope, its payload and its topic say of them.
//!
//! Invariants: what comes of a message has its deadline and its priority; a bulk message goes by the topic that is held back,
//! whichever way it came.

use atelier_schemas::{Envelope, Priority, topics::retry_topic};
use chrono::SubsecRound as _;

use super::{Executor, OUTCOME, Settled};
use crate::{
    accounting::Verdict, encode::Parent, erased::AnyInput, record::InRecord, telemetry::Step,
};

impl Executor {
    /// Whether bulk messages are apart from interactive ones here, because they come by a topic of their own.
    pub fn has_bulk_lane(&self) -> bool {
        self.bulk_topic.is_some()
    }

    pub(super) fn with_urgency(
        &self,
        mut envelope: Envelope,
        input: &AnyInput,
        topic: &str,
    ) -> Envelope {
        // Whoever replays a letter wants it today: the deadline of its first sender would bring it straight back.
        if envelope.replay == 0 {
            let deadline = envelope.deadline.into_iter().chain(input.deadline).min();
            // As it stands in headers: one that is a moment later there would not be over when it is.
            envelope.deadline = deadline.map(|deadline| deadline.trunc_subsecs(6));
        }
        if input.priority == Priority::Bulk || self.bulk_topic.as_deref() == Some(topic) {
            envelope.priority = Priority::Bulk;
        }
        envelope
    }

    /// A bulk message that came by another way is put where bulk messages wait for their turn. What comes back from the retry
    /// topic had its turn.
    pub(super) fn hold_back(
        &self,
        record: &InRecord,
        ticket: u64,
        envelope: &Envelope,
        step: &mut Step,
    ) -> Option<Settled> {
        let bulk_topic = self.bulk_topic.as_deref()?;
        let came_by = &*record.source.topic;
        if envelope.priority != Priority::Bulk
            || came_by == bulk_topic
            || came_by == retry_topic(self.stage_name())
        {
            return None;
        }
        let parent = Parent {
            record,
            envelope,
            trace: step.context(),
        };
        let moved = self.encoder.moved(parent, bulk_topic, self.clock.now());
        Some(match moved {
            Ok(moved) => {
                step.set(OUTCOME, Verdict::Emitted.as_str());
                self.settle(record, ticket, Verdict::Emitted, vec![moved])
            }
            Err(failure) => self.give_on(record, ticket, Some(envelope), step, failure),
        })
    }
}
