//! The heart that the Kafka loop and the in-process runner share: a batch of records in, one settled result each out.
//!
//! Invariants: every record that is admitted is settled exactly once or handed back by the caller's cancelling; one bad
//! message of a batch fails alone; a panic of the stage never leaves this module; what belongs to a cancelled task leaves
//! nothing behind. (A batch is given up in the middle only where all of it is cancelled.)

mod call;
mod work;

use std::{sync::Arc, time::Duration};

use atelier_schemas::{Envelope, ErrorCode, StageTiming, TopicTable};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::{
    Batching, Cancelled, Emission, Failure, FailureClass, Outcome,
    accounting::{Accounting, Verdict},
    clock::Clock,
    encode::{Encoder, Parent},
    erased::AnyStage,
    options::RetryOptions,
    readiness::{Dependency, Readiness},
    record::{InRecord, OutRecord},
    telemetry,
    trace_context::TraceContext,
};

use call::Handled;
pub use work::{Admitted, Settled, Work};

/// How long the first messages may wait for what is known of cancelled tasks.
const LONGEST_WAIT_FOR_CANCELLED: Duration = Duration::from_secs(5);

/// Runs one stage.
pub struct Executor {
    stage: Arc<dyn AnyStage>,
    encoder: Encoder,
    retry: RetryOptions,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    cancelled: Cancelled,
    accounting: Arc<Accounting>,
}

enum Next {
    Settled(Settled),
    AgainSoon(Work),
    WhenAvailable(Work, Failure),
}

impl Executor {
    /// Runs `stage`, whose topics stand in `table`; drops messages of `cancelled` tasks where the stage heeds that.
    pub fn new(
        stage: Arc<dyn AnyStage>,
        table: &TopicTable,
        retry: RetryOptions,
        clock: Arc<dyn Clock>,
        readiness: Readiness,
        cancelled: &Cancelled,
    ) -> Self {
        let encoder = Encoder::new(stage.stage_name(), table, retry.clone());
        let cancelled = if stage.stage_heeds_cancelling() {
            cancelled.clone()
        } else {
            Cancelled::none()
        };
        Self {
            stage,
            encoder,
            retry,
            clock,
            readiness,
            cancelled,
            accounting: Arc::default(),
        }
    }

    /// The stage's name.
    pub fn stage_name(&self) -> &'static str {
        self.stage.stage_name()
    }

    /// How its messages are gathered.
    pub fn batching(&self) -> Batching {
        self.stage.stage_batching()
    }

    /// Waits until it is known which tasks were cancelled before the start, but no longer than a few seconds: a stage that
    /// starts again does not begin their work anew.
    pub async fn know_cancelled(&self) {
        if !self
            .cancelled
            .wait_until_complete(LONGEST_WAIT_FOR_CANCELLED)
            .await
        {
            tracing::warn!(
                stage = self.stage_name(),
                "the work begins before it is known which tasks are cancelled"
            );
        }
    }

    /// The books.
    pub fn accounting(&self) -> &Arc<Accounting> {
        &self.accounting
    }

    /// Decodes a record. `ticket` comes back with its result.
    pub fn admit(&self, record: InRecord, ticket: u64) -> Admitted {
        self.accounting.take();
        let headers = record.headers.iter().map(|header| {
            (
                header.name.as_str(),
                header.value.as_ref().map_or(&[][..], Bytes::as_ref),
            )
        });
        let envelope = match Envelope::from_headers(headers, record.timestamp) {
            Ok(envelope) => envelope,
            Err(error) => {
                return Admitted::Settled(self.give_on(
                    &record,
                    ticket,
                    None,
                    Failure::from(error),
                ));
            }
        };
        match self
            .stage
            .decode(&envelope, record.value.as_deref().unwrap_or_default())
        {
            Ok(Some(input)) => {
                let trace = TraceContext::child_of(envelope.traceparent.as_deref());
                Admitted::Work(Work {
                    record,
                    envelope,
                    input,
                    ticket,
                    trace,
                    queue_ms: None,
                    tries: 0,
                    looks: 0,
                })
            }
            Ok(None) => {
                Admitted::Settled(self.settle(&record, ticket, Verdict::Skipped, Vec::new()))
            }
            Err(error) => {
                let failure = Failure::from(error);
                Admitted::Settled(self.give_on(&record, ticket, Some(&envelope), failure))
            }
        }
    }

    /// Gives back messages that were not handled, at a rebalance or shutdown.
    pub fn abandon(&self, count: usize) {
        for _ in 0..count {
            self.accounting.abandon();
        }
    }

    /// Handles a batch. Results are given to `settle` as soon as each is known: messages that wait for another try keep
    /// nobody else waiting, and `permit` is given back while they do (not while a dependency is away). Ends early, leaving messages unsettled, only when
    /// `gate` is closed; their number is returned.
    pub async fn execute(
        &self,
        batch: Vec<Work>,
        permit: OwnedSemaphorePermit,
        gate: &Arc<Semaphore>,
        settle: &(dyn Fn(Settled) + Send + Sync),
    ) -> usize {
        let admitted = batch.len();
        let mut settled = 0;
        let mut permit = Some(permit);
        let mut pending = batch;
        while !pending.is_empty() {
            let held = match permit.take() {
                Some(held) => held,
                None => match Arc::clone(gate).acquire_owned().await {
                    Ok(held) => held,
                    Err(_) => return pending.len(),
                },
            };
            // As late as possible: the wait for the gate may have been long.
            let (live, cancelled) = self.split_cancelled(pending);
            let (live, expired) = self.split_expired(live);
            settled += cancelled.len() + expired.len();
            cancelled.into_iter().chain(expired).for_each(settle);
            if live.is_empty() {
                break;
            }
            let handled = self.handle_bisecting(live).await;
            let mut soon = Vec::new();
            let mut unavailable = Vec::new();
            for one in handled {
                match self.decide(one) {
                    Next::Settled(result) => {
                        settled += 1;
                        settle(result);
                    }
                    Next::AgainSoon(work) => soon.push(work),
                    Next::WhenAvailable(work, failure) => unavailable.push((work, failure)),
                }
            }
            // What every message needs is away: the stage stands still. One message's own trouble holds up nobody else.
            permit = (!unavailable.is_empty()).then_some(held);
            pending = self.wait(soon, unavailable).await;
            if gate.is_closed() {
                return pending.len();
            }
        }
        debug_assert_eq!(settled, admitted, "every admitted message is settled once");
        0
    }

    /// A message of a cancelled task costs no work.
    fn split_cancelled(&self, batch: Vec<Work>) -> (Vec<Work>, Vec<Settled>) {
        let (cancelled, live): (Vec<Work>, Vec<Work>) =
            batch.into_iter().partition(|work| self.is_cancelled(work));
        let cancelled = cancelled.iter().map(|work| self.drop_cancelled(work));
        (live, cancelled.collect())
    }

    fn is_cancelled(&self, work: &Work) -> bool {
        work.task()
            .is_some_and(|task| self.cancelled.contains(task))
    }

    fn drop_cancelled(&self, work: &Work) -> Settled {
        tracing::debug!(stage = self.stage_name(), id = %work.envelope.id, "its task is cancelled");
        self.settle(&work.record, work.ticket, Verdict::Cancelled, Vec::new())
    }

    /// A message past its deadline costs no work.
    fn split_expired(&self, batch: Vec<Work>) -> (Vec<Work>, Vec<Settled>) {
        let now = self.clock.now();
        let (expired, live): (Vec<Work>, Vec<Work>) = batch.into_iter().partition(|work| {
            work.envelope
                .deadline
                .is_some_and(|deadline| deadline < now)
        });
        let expired = expired.into_iter().map(|work| {
            let message = format!(
                "deadline {} passed before the work began",
                work.envelope.deadline.unwrap_or(now).to_rfc3339()
            );
            let failure =
                Failure::permanent(ErrorCode::DeadlineExceeded, "DeadlineExceeded", message);
            self.give_on(&work.record, work.ticket, Some(&work.envelope), failure)
        });
        (live, expired.collect())
    }

    fn decide(&self, handled: Handled) -> Next {
        let Handled {
            mut work,
            outcome,
            duration,
        } = handled;
        // Whatever became of it: its end is told already.
        if self.is_cancelled(&work) {
            return Next::Settled(self.drop_cancelled(&work));
        }
        if let Some(failure) = unavailable(&outcome) {
            return Next::WhenAvailable(work, failure);
        }
        self.readiness.found(Dependency::Stage);
        match outcome {
            Outcome::Emit(emissions) => Next::Settled(self.emit(&work, emissions, duration)),
            Outcome::Skip(reason) => {
                tracing::debug!(stage = self.stage_name(), id = %work.envelope.id, reason, "skipped");
                Next::Settled(self.settle(&work.record, work.ticket, Verdict::Skipped, Vec::new()))
            }
            Outcome::Retry(failure) => {
                work.tries += 1;
                if work.tries < self.retry.in_place_tries {
                    return Next::AgainSoon(work);
                }
                // `Outcome::Retry` is the stage's word that it may succeed later, whatever class the error has.
                let failure = Failure {
                    class: FailureClass::Transient,
                    ..failure
                };
                Next::Settled(self.give_on(
                    &work.record,
                    work.ticket,
                    Some(&work.envelope),
                    failure,
                ))
            }
            Outcome::Reject(failure) => {
                let failure = Failure {
                    class: FailureClass::Permanent,
                    ..failure
                };
                Next::Settled(self.give_on(
                    &work.record,
                    work.ticket,
                    Some(&work.envelope),
                    failure,
                ))
            }
        }
    }

    /// Waits as long as the most impatient of the messages wants to.
    async fn wait(&self, soon: Vec<Work>, mut unavailable: Vec<(Work, Failure)>) -> Vec<Work> {
        let mut backoffs: Vec<Duration> = soon
            .iter()
            .map(|work| self.retry.in_place_backoff(work.tries))
            .collect();
        for (work, failure) in &mut unavailable {
            work.looks = work.looks.saturating_add(1);
            backoffs.push(self.retry.unavailable_backoff(work.looks));
            self.readiness
                .lost(Dependency::Stage, failure.body.message.clone());
        }
        telemetry::retry(self.stage_name(), "in_place", soon.len());
        telemetry::retry(self.stage_name(), "unavailable", unavailable.len());
        let waiting: Vec<Work> = soon
            .into_iter()
            .chain(unavailable.into_iter().map(|(work, _)| work))
            .collect();
        if let Some(backoff) = backoffs.into_iter().min() {
            let tasks: Vec<Option<Uuid>> = waiting.iter().map(Work::task).collect();
            tokio::select! {
                () = self.clock.sleep(backoff) => {}
                () = self.cancelled.all_of(&tasks) => {}
            }
        }
        waiting
    }

    fn emit(&self, work: &Work, emissions: Vec<Emission>, duration: Duration) -> Settled {
        let parent = Parent {
            record: &work.record,
            envelope: &work.envelope,
            trace: work.trace,
        };
        let timing = StageTiming {
            stage: self.stage_name().to_owned(),
            queue_ms: work.queue_ms.unwrap_or_default(),
            processing_time_ms: round_milliseconds(duration.as_secs_f64() * 1_000.0),
        };
        match self
            .encoder
            .emitted(parent, emissions, &timing, self.clock.now())
        {
            Ok((outputs, dead_codes)) => {
                for code in dead_codes {
                    telemetry::dead_letter(self.stage_name(), code);
                }
                self.settle(&work.record, work.ticket, Verdict::Emitted, outputs)
            }
            Err(failure) => self.give_on(&work.record, work.ticket, Some(&work.envelope), failure),
        }
    }

    /// To the retry topic or the dead letters.
    fn give_on(
        &self,
        record: &InRecord,
        ticket: u64,
        envelope: Option<&Envelope>,
        failure: Failure,
    ) -> Settled {
        let (code, message) = (failure.body.code, failure.body.message.clone());
        let given_on = self
            .encoder
            .failed(record, envelope, failure, self.clock.now());
        let verdict = if given_on.dead.is_some() {
            Verdict::DeadLettered
        } else {
            Verdict::Retried
        };
        tracing::warn!(
            stage = self.stage_name(),
            topic = &*record.source.topic,
            partition = record.source.partition,
            offset = record.offset,
            task_id = envelope
                .and_then(|envelope| envelope.correlation_id)
                .map(tracing::field::display),
            image_id = envelope
                .and_then(|envelope| envelope.subject)
                .map(tracing::field::display),
            code = code.as_str(),
            outcome = verdict.as_str(),
            message,
            "message failed"
        );
        #[cfg(feature = "planted-bugs")]
        if given_on.dead.is_some() && crate::planted::Bug::RejectedOffsetSkipped.is_planted() {
            return self.settle(record, ticket, verdict, Vec::new());
        }
        match given_on.dead {
            Some(code) => telemetry::dead_letter(self.stage_name(), code),
            None => telemetry::retry(self.stage_name(), "topic", 1),
        }
        self.settle(record, ticket, verdict, given_on.records)
    }

    fn settle(
        &self,
        record: &InRecord,
        ticket: u64,
        verdict: Verdict,
        outputs: Vec<OutRecord>,
    ) -> Settled {
        self.accounting.settle(verdict);
        telemetry::message(self.stage_name(), verdict.as_str());
        Settled {
            source: record.source.clone(),
            offset: record.offset,
            ticket,
            verdict,
            outputs,
        }
    }
}

/// Whether something is away that every message needs. A part that fails because of it says so of the whole message.
fn unavailable(outcome: &Outcome) -> Option<Failure> {
    let is_away = |failure: &&Failure| failure.class == FailureClass::Unavailable;
    match outcome {
        Outcome::Retry(failure) => Some(failure).filter(is_away).cloned(),
        Outcome::Emit(emissions) => emissions.iter().find_map(|emission| match emission {
            Emission::Retry(_, failure) => Some(failure).filter(is_away).cloned(),
            Emission::Event(_) | Emission::Reject(..) => None,
        }),
        Outcome::Skip(_) | Outcome::Reject(_) => None,
    }
}

fn round_milliseconds(milliseconds: f64) -> f64 {
    (milliseconds * 1_000.0).round() / 1_000.0
}
