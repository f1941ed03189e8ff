//! Deliberate bugs and sudden ends, for the crash harness that must find them. In test builds alone (`planted-bugs`), and even
//! there nothing happens unless ATELIER_PLANTED_BUG or ATELIER_ABORT_AT is set.

use std::{process::abort, sync::Once, time::Duration};

use rdkafka::{
    ClientConfig,
    consumer::{CommitMode, Consumer as _},
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::kafka::{
    committer::offsets_of,
    membership::SharedConsumer,
    producer::{TransactionError, kafka_headers},
    tracker::PartitionCommit,
};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Input offsets are committed before the outputs are produced.
    CommitBeforeProduce,
    /// Outputs are produced outside of the transaction that commits the offsets.
    ProduceOutsideTransaction,
    /// `persist` does not look whether it applied an event before.
    PersistWithoutInbox,
    /// The outbox's rows are marked before the log has them.
    OutboxMarkedBeforeSent,
    /// The offset of a rejected event is skipped with the next one's success; no dead letter is written.
    RejectedOffsetSkipped,
}

impl Bug {
    /// Whether this is the bug that is asked for.
    pub fn is_planted(self) -> bool {
        let name = match self {
            Self::CommitBeforeProduce => "commit-before-produce",
            Self::ProduceOutsideTransaction => "produce-outside-transaction",
            Self::PersistWithoutInbox => "persist-without-inbox",
            Self::OutboxMarkedBeforeSent => "outbox-marked-before-sent",
            Self::RejectedOffsetSkipped => "rejected-offset-skipped",
        };
        std::env::var("ATELIER_PLANTED_BUG").is_ok_and(|planted| planted == name)
    }
}

/// Ends this process, as `kill -9` does, when it first comes to the failpoint that ATELIER_ABORT_AT names.
pub(crate) fn arm() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Ok(point) = std::env::var("ATELIER_ABORT_AT")
            && let Err(error) = fail::cfg_callback(point, || abort())
        {
            tracing::error!(error, "ATELIER_ABORT_AT names no failpoint");
        }
    });
}

/// What the two bugs of the committer do before a transaction; answers with what is left for the transaction.
pub(crate) fn before_transaction(
    consumer: &SharedConsumer,
    config: &ClientConfig,
    commits: &[PartitionCommit],
) -> Result<Vec<PartitionCommit>, TransactionError> {
    let fatal = |error: KafkaError| TransactionError::Fatal(error.to_string());
    let mut left = commits.to_vec();
    if Bug::CommitBeforeProduce.is_planted() {
        let offsets = offsets_of(commits).map_err(fatal)?;
        consumer.commit(&offsets, CommitMode::Sync).map_err(fatal)?;
    }
    if Bug::ProduceOutsideTransaction.is_planted() {
        let mut config = config.clone();
        config.remove("transactional.id");
        config.remove("transaction.timeout.ms");
        let producer: BaseProducer = config.create().map_err(fatal)?;
        for commit in &mut left {
            for record in commit
                .outputs
                .drain(..)
                .flat_map(|outputs| outputs.to_vec())
            {
                let mut message: BaseRecord<'_, [u8], [u8]> =
                    BaseRecord::to(&record.topic).headers(kafka_headers(&record));
                message.key = record.key.as_deref();
                message.payload = record.value.as_deref();
                producer.send(message).map_err(|(error, _)| fatal(error))?;
            }
        }
        producer.flush(Duration::from_secs(10)).map_err(fatal)?;
    }
    Ok(left)
}
