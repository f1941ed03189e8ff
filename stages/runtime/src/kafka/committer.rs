//! Puts results and input offsets into one transaction, on a thread of its own: the next batch runs meanwhile.
//!
//! Invariants: results of a partition are committed in offset order; after any error nothing is committed that the broker
//! has already or that somebody else owns. Results that could not be committed are kept and committed by the next
//! transaction: an inference is not done again because a broker restarted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fail::fail_point;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{Consumer, ConsumerGroupMetadata},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    client::list_of,
    membership::Membership,
    producer::{TransactionError, TransactionalProducer},
    shared::Shared,
    tracker::{PartitionCommit, Tracker},
    trouble::Trouble,
};
use crate::{
    options::TransactionOptions, readiness::Dependency, record::TopicPartition, telemetry,
};

/// Longest wait after a failed transaction.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Between two looks whether the stage is to end.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// So many failed transactions in a row make the stage not ready.
const SUSPICIOUS_FAILURES: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(20);

pub(crate) struct Committer {
    pub shared: Arc<Shared>,
    pub membership: Arc<Membership>,
    pub producer_config: ClientConfig,
    pub transaction: TransactionOptions,
    pub trouble: Trouble,
}

impl Committer {
    /// Commits until the consumer has drained.
    pub fn run(self) {
        let Some(mut producer) = self.connect() else {
            return;
        };
        let mut backoff = FIRST_BACKOFF;
        let mut failures = 0;
        while !self.shared.is_finished() {
            if !self.wait_for_results() {
                continue;
            }
            // Before the results are taken: metadata that is older than a rebalance is refused by the broker, while newer
            // metadata would let results of a partition through that is somebody else's by now.
            let Some(group) = self.membership.consumer().group_metadata() else {
                std::thread::sleep(FIRST_BACKOFF);
                continue;
            };
            let commits = self.shared.ready(self.transaction.max_messages);
            if commits.is_empty() {
                continue;
            }
            let started = Instant::now();
            match self.transact(&producer, &commits, group) {
                Ok(()) => {
                    self.shared.committed(&commits);
                    self.shared.readiness.found(Dependency::Producer);
                    // It took offsets of the group.
                    self.shared.readiness.found(Dependency::Group);
                    telemetry::transaction(self.stage(), "committed", started.elapsed());
                    (backoff, failures) = (FIRST_BACKOFF, 0);
                    continue;
                }
                Err(TransactionError::GivenUp) => return,
                Err(error) => {
                    failures += 1;
                    self.note_failure(&error, started.elapsed());
                    let Some(usable) = self.recover(producer, &error) else {
                        return;
                    };
                    producer = usable;
                    // One abort belongs to every rebalance; several in a row are worth a person's look.
                    if failures >= SUSPICIOUS_FAILURES {
                        // What became of the single records says more than what became of the transaction.
                        let reason = producer.take_undelivered().unwrap_or(error.to_string());
                        self.shared.readiness.lost(
                            Dependency::Producer,
                            format!("transactions do not go through: {reason}"),
                        );
                    }
                }
            }
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    fn note_failure(&self, error: &TransactionError, open_for: Duration) {
        let result = match error {
            _ if open_for >= Duration::from_millis(self.transaction.timeout_ms) => "timed_out",
            TransactionError::Abort(_) | TransactionError::GivenUp => "aborted",
            TransactionError::Fatal(_) => "fatal",
        };
        telemetry::transaction(self.stage(), result, open_for);
    }

    fn stage(&self) -> &'static str {
        self.shared.readiness.stage()
    }

    /// Whether to try on; where the broker keeps us waiting, says so.
    fn goes_on(&self, error: Option<&KafkaError>) -> bool {
        let timed_out = error.and_then(KafkaError::rdkafka_error_code)
            == Some(RDKafkaErrorCode::OperationTimedOut);
        if let Some(error) = error.filter(|_| timed_out) {
            let heard = self.trouble.text();
            self.shared.readiness.lost(
                Dependency::Producer,
                heard.unwrap_or_else(|| format!("kafka does not answer: {error}")),
            );
        }
        !self.shared.is_finished()
    }

    /// Waits for something to commit, and a little longer for company where it may. Whether there is anything.
    fn wait_for_results(&self) -> bool {
        let is_ready = self.shared.wait_until_ready(LONGEST_WAIT);
        if is_ready && self.transaction.linger_ms > 0 && !self.is_full() {
            std::thread::sleep(Duration::from_millis(self.transaction.linger_ms));
        }
        is_ready
    }

    /// Whether a transaction can take no more than what is there.
    fn is_full(&self) -> bool {
        let max_messages = self.transaction.max_messages;
        let commits = self.shared.ready(max_messages);
        commits.iter().map(|commit| commit.messages).sum::<usize>() >= max_messages
    }

    fn transact(
        &self,
        producer: &TransactionalProducer,
        commits: &[PartitionCommit],
        group: ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        let patience = |error: Option<&KafkaError>| self.goes_on(error);
        producer.begin()?;
        let producing = commits;
        #[cfg(feature = "planted-bugs")]
        let producing = &crate::planted::before_transaction(
            &self.membership.consumer(),
            &self.producer_config,
            producing,
        )?;
        fail_point!("runtime::before-produce", has_outputs(commits), |_| Err(
            injected("runtime::before-produce")
        ));
        for record in producing
            .iter()
            .flat_map(|commit| &commit.outputs)
            .flat_map(|outputs| outputs.iter())
        {
            producer.produce(record)?;
        }
        fail_point!("runtime::after-produce", |_| Err(injected(
            "runtime::after-produce"
        )));
        let offsets =
            offsets_of(commits).map_err(|error| TransactionError::Abort(error.to_string()))?;
        fail_point!("runtime::before-send-offsets", |_| Err(injected(
            "runtime::before-send-offsets"
        )));
        producer.send_offsets(offsets, group, &patience)?;
        producer.flush(&patience)?;
        fail_point!("runtime::before-commit", has_outputs(commits), |_| Err(
            injected("runtime::before-commit")
        ));
        producer.commit(&patience)?;
        fail_point!("runtime::after-commit", |_| Err(injected(
            "runtime::after-commit"
        )));
        Ok(())
    }

    /// Aborts, or replaces the producer and asks the broker what it has.
    fn recover(
        &self,
        producer: TransactionalProducer,
        error: &TransactionError,
    ) -> Option<TransactionalProducer> {
        let patience = |error: Option<&KafkaError>| self.goes_on(error);
        let fatal = match error {
            TransactionError::Abort(reason) => {
                tracing::debug!(
                    stage = self.stage(),
                    reason,
                    "transaction aborted, trying again"
                );
                match producer.abort(&patience) {
                    Ok(()) => return Some(producer),
                    Err(TransactionError::GivenUp) => return None,
                    Err(error) => error.to_string(),
                }
            }
            TransactionError::Fatal(reason) => reason.clone(),
            TransactionError::GivenUp => return None,
        };
        tracing::warn!(
            stage = self.stage(),
            reason = fatal,
            "producer is of no use any more and is replaced; where another instance runs, give each its own instance_id"
        );
        if producer.is_fenced() {
            telemetry::fenced(self.stage(), "producer");
        }
        drop(producer);
        let replacement = self.connect()?;
        // The last transaction may have gone through although the answer did not arrive.
        self.drop_what_is_committed()?;
        Some(replacement)
    }

    /// Tries for as long as the stage lives.
    fn connect(&self) -> Option<TransactionalProducer> {
        let mut backoff = FIRST_BACKOFF;
        while !self.shared.is_finished() {
            let patience = |error: Option<&KafkaError>| self.goes_on(error);
            match TransactionalProducer::connect(&self.producer_config, &self.trouble, &patience) {
                Ok(producer) => {
                    self.shared.readiness.found(Dependency::Producer);
                    return Some(producer);
                }
                Err(TransactionError::GivenUp) => return None,
                Err(error) => self
                    .shared
                    .readiness
                    .lost(Dependency::Producer, error.to_string()),
            }
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
        None
    }

    fn drop_what_is_committed(&self) -> Option<()> {
        let assigned = self.shared.look(Tracker::assigned);
        loop {
            if self.shared.is_finished() {
                return None;
            }
            match self
                .membership
                .consumer()
                .committed_offsets(list_of(&assigned), Duration::from_secs(5))
            {
                Ok(list) => {
                    self.shared.change(|tracker| {
                        for element in list.elements() {
                            if let Offset::Offset(offset) = element.offset() {
                                let source = TopicPartition {
                                    topic: element.topic().into(),
                                    partition: element.partition(),
                                };
                                tracker.drop_below(&source, offset);
                            }
                        }
                    });
                    return Some(());
                }
                Err(error) => self
                    .shared
                    .readiness
                    .lost(Dependency::Producer, format!("committed offsets: {error}")),
            }
            std::thread::sleep(FIRST_BACKOFF * 10);
        }
    }
}

/// What a test asked to go wrong. Fatal, because it may be asked for after the commit, when there is nothing to abort.
#[cfg_attr(not(feature = "failpoints"), allow(dead_code))]
fn injected(name: &str) -> TransactionError {
    TransactionError::Fatal(format!("failpoint {name}"))
}

/// Where nothing goes out, failing loses nothing.
#[cfg_attr(not(feature = "failpoints"), allow(dead_code))]
fn has_outputs(commits: &[PartitionCommit]) -> bool {
    let mut outputs = commits.iter().flat_map(|commit| &commit.outputs);
    outputs.any(|outputs| !outputs.is_empty())
}

pub(crate) fn offsets_of(
    commits: &[PartitionCommit],
) -> Result<TopicPartitionList, rdkafka::error::KafkaError> {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        list.add_partition_offset(
            &commit.source.topic,
            commit.source.partition,
            Offset::Offset(commit.next_offset),
        )?;
    }
    Ok(list)
}
