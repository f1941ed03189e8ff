//! What nobody wants any more costs no work: messages of cancelled tasks, and messages past their deadline.

use atelier_schemas::ErrorCode;
use chrono::SecondsFormat;

use super::{Executor, OUTCOME, Settled, Work};
use crate::{Failure, accounting::Verdict};

impl Executor {
    /// The messages that are still wanted, and the ends of the others.
    pub(super) fn split_unwanted(&self, batch: Vec<Work>) -> (Vec<Work>, Vec<Settled>) {
        if !self.drops_unwanted {
            return (batch, Vec::new());
        }
        let now = self.clock.now();
        let (mut wanted, mut ends) = (Vec::with_capacity(batch.len()), Vec::new());
        for mut work in batch {
            let deadline = work.envelope.deadline.filter(|deadline| *deadline <= now);
            if self.is_cancelled(&work) {
                ends.push(self.drop_cancelled(work));
            } else if let Some(deadline) = deadline {
                let deadline = deadline.to_rfc3339_opts(SecondsFormat::Millis, true);
                let message = format!("the deadline {deadline} passed before the work began");
                let failure =
                    Failure::permanent(ErrorCode::DeadlineExceeded, "DeadlineExceeded", message);
                ends.push(self.give_work_on(&mut work, failure));
            } else {
                wanted.push(work);
            }
        }
        (wanted, ends)
    }

    pub(super) fn is_cancelled(&self, work: &Work) -> bool {
        work.task()
            .is_some_and(|task| self.cancelled.contains(task))
    }

    pub(super) fn drop_cancelled(&self, mut work: Work) -> Settled {
        tracing::debug!(stage = self.stage_name(), id = %work.envelope.id, "its task is cancelled");
        work.step.set(OUTCOME, Verdict::Cancelled.as_str());
        self.settle(&work.record, work.ticket, Verdict::Cancelled, Vec::new())
    }
}
