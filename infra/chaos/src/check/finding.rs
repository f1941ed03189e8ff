//! What the checker found to be wrong.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Something that must be there is not.
    Lost,
    /// Something is there twice.
    Doubled,
    /// Two places say different things.
    Disagreeing,
}

/// The rules, one for each promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Each accepted task has exactly one end.
    OneEndPerTask,
    /// Each picture has exactly one result or one reason.
    OneEndPerImage,
    /// A good picture of a task that nobody cancelled has a result, a broken one a reason.
    OutcomeAsPromised,
    /// No event id stands twice among the committed records of a topic.
    NoIdTwice,
    /// At every stage: in = out + skipped + retried + dead letters + cancelled.
    NothingDropped,
    /// What the inbox says followed from an event is on the topics.
    AnswersPublished,
    /// The ledger says of every task and picture what the topics say.
    LedgerAgrees,
    /// Each blob that is named is there, and is what its name says.
    BlobsAgree,
    /// Everything in the outbox is sent.
    OutboxEmpty,
    /// No open transaction holds a reader back.
    NoOpenTransaction,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is broken.
    pub rule: Rule,
    /// How.
    pub fault: Fault,
    /// The task that it is about, where it is about one.
    pub task: Option<Uuid>,
    /// What was seen.
    pub text: String,
}

/// The checker's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Tasks that clients were told are accepted.
    pub accepted: usize,
    /// Committed records that were read.
    pub records: usize,
    /// Blobs whose bytes were compared with their names.
    pub blobs: usize,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Tasks with that fault; a finding that is about no task counts as one.
    pub fn count(&self, fault: Fault) -> usize {
        let of_fault = || self.findings.iter().filter(|found| found.fault == fault);
        let tasks: BTreeSet<Uuid> = of_fault().filter_map(|found| found.task).collect();
        tasks.len() + of_fault().filter(|found| found.task.is_none()).count()
    }

    /// Whether nothing is wrong.
    pub fn is_content(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether a rule was found broken.
    pub fn breaks(&self, rule: Rule) -> bool {
        self.findings.iter().any(|found| found.rule == rule)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} tasks accepted, {} records and {} blobs read: {} lost, {} doubled, {} disagreeing",
            self.accepted,
            self.records,
            self.blobs,
            self.count(Fault::Lost),
            self.count(Fault::Doubled),
            self.count(Fault::Disagreeing)
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}, {:?}: ", self.fault, self.rule)?;
        if let Some(task) = self.task {
            write!(out, "task {task}: ")?;
        }
        out.write_str(&self.text)
    }
}
