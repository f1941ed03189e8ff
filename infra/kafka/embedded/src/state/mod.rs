//! What the broker knows besides the records: topics, producer ids, transactions, committed offsets.

mod journal;
mod records;
#[cfg(test)]
mod tests;

pub use journal::{Journal, JournalError};
pub use records::{
    CommittedOffset, Decision, GroupMembership, GroupState, JournalRecord, LastOutcome,
    TopicPartition, TopicState, TransactionalIdState,
};
