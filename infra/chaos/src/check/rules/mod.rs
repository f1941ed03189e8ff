//! What is promised, as questions to the evidence.

mod agreement;
mod ends;
mod flow;

#[cfg(test)]
mod tests;

use uuid::Uuid;

use super::{Evidence, Fault, Finding, Rule, Verdict};
use crate::pipeline::Pipeline;

/// Asks every question.
pub fn judge(evidence: &Evidence, pipeline: &Pipeline) -> Verdict {
    let mut found = Findings::default();
    ends::each_task_has_one_end(evidence, &mut found);
    ends::each_image_has_one_end(evidence, &mut found);
    ends::outcomes_are_as_promised(evidence, &mut found);
    flow::no_id_stands_twice(evidence, &mut found);
    flow::nothing_is_dropped(evidence, pipeline, &mut found);
    flow::each_part_of_a_task_goes_on(evidence, &mut found);
    flow::answers_are_published(evidence, &mut found);
    agreement::the_ledger_agrees(evidence, &mut found);
    agreement::the_blobs_agree(evidence, &mut found);
    agreement::the_outbox_is_empty(evidence, &mut found);
    agreement::no_transaction_is_open(evidence, &mut found);
    Verdict {
        accepted: evidence.promises.len(),
        records: evidence.records.len(),
        blobs: evidence.blobs.len(),
        findings: found.0,
    }
}

/// Where the rules put what they find.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, fault: Fault, task: Option<Uuid>, text: String) {
        self.0.push(Finding {
            rule,
            fault,
            task,
            text,
        });
    }

    /// Nothing where there should be one, or more than one.
    fn not_one(&mut self, rule: Rule, task: Uuid, what: &str, count: usize) {
        match count {
            0 => self.add(rule, Fault::Lost, Some(task), format!("{what} has no end")),
            1 => {}
            _ => self.add(
                rule,
                Fault::Doubled,
                Some(task),
                format!("{what} has {count} ends"),
            ),
        }
    }
}
