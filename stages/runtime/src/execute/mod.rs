//! The heart that the Kafka loop and the in-process runner share: a batch of records in, one settled result each out.
//!
//! Invariants: every record that is admitted is settled exactly once or handed back by the caller's cancelling; one bad
//! message of a batch fails alone; a panic of the stage never leaves this module; what belongs to a cancelled task leaves
//! nothing behind, and what is past its deadline is not begun. (A batch is given up in the middle only where all of it is
//! cancelled.)

mod call;
mod unwanted;
mod urgency;
mod work;

use std::{sync::Arc, time::Duration};

use atelier_schemas::{Envelope, StageTiming, TopicTable};
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
    telemetry::{self, Step, StepKind},
    trace_context::TraceContext,
};

use call::Handled;
pub use work::{Admitted, Settled, Work};

/// How long the first messages may wait for what is known of cancelled tasks.
const LONGEST_WAIT_FOR_CANCELLED: Duration = Duration::from_secs(5);

/// What a step says of its message.
const STAGE: &str = "atelier.stage";
const TASK_ID: &str = "atelier.task_id";
const IMAGE_ID: &str = "atelier.image_id";
const OUTCOME: &str = "atelier.outcome";
const ERROR_CODE: &str = "atelier.error.code";

/// Runs one stage.
pub struct Executor {
    stage: Arc<dyn AnyStage>,
    encoder: Encoder,
    retry: RetryOptions,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    cancelled: Cancelled,
    drops_unwanted: bool,
    /// The one of its topics that is held back.
    bulk_topic: Option<String>,
    accounting: Arc<Accounting>,
}

enum Next {
    Settled(Settled),
    AgainSoon(Work),
    WhenAvailable(Work, Failure),
}

/// How the handling of a batch ended.
#[derive(Debug)]
pub struct Executed {
    /// Messages that were left unsettled.
    pub left: usize,
    /// For the next batch, where it is still held.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Executed {
    fn left(left: usize) -> Self {
        Self { left, permit: None }
    }
}

impl Executor {
    /// Runs `stage`, whose topics stand in `table`; drops messages of `cancelled` tasks where the stage drops what is unwanted.
    pub fn new(
        stage: Arc<dyn AnyStage>,
        table: &TopicTable,
        retry: RetryOptions,
        clock: Arc<dyn Clock>,
        readiness: Readiness,
        cancelled: &Cancelled,
    ) -> Self {
        let encoder = Encoder::new(stage.stage_name(), table, retry.clone());
        let drops_unwanted = stage.stage_drops_unwanted();
        let cancelled = if drops_unwanted {
            cancelled.clone()
        } else {
            Cancelled::none()
        };
        let bulk_topic = table
            .inputs_of(stage.stage_name())
            .into_iter()
            .find(|topic| topic.held_back)
            .map(|topic| topic.name.clone());
        Self {
            stage,
            encoder,
            retry,
            clock,
            readiness,
            cancelled,
            drops_unwanted,
            bulk_topic,
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
                let mut step = self.begin_step(&record, None);
                let failure = Failure::from(error);
                return Admitted::Settled(self.give_on(&record, ticket, None, &mut step, failure));
            }
        };
        match self
            .stage
            .decode(&envelope, record.value.as_deref().unwrap_or_default())
        {
            Ok(Some(input)) => {
                let envelope = self.with_urgency(envelope, &input, &record.source.topic);
                let mut step = self.begin_step(&record, Some(&envelope));
                if let Some(held_back) = self.hold_back(&record, ticket, &envelope, &mut step) {
                    return Admitted::Settled(held_back);
                }
                Admitted::Work(Work {
                    record,
                    envelope,
                    input,
                    ticket,
                    step,
                    queue_ms: None,
                    tries: 0,
                    looks: 0,
                })
            }
            Ok(None) => {
                Admitted::Settled(self.settle(&record, ticket, Verdict::Skipped, Vec::new()))
            }
            Err(error) => {
                let mut step = self.begin_step(&record, Some(&envelope));
                let failure = Failure::from(error);
                let settled = self.give_on(&record, ticket, Some(&envelope), &mut step, failure);
                Admitted::Settled(settled)
            }
        }
    }

    /// The step that a message is in this stage, below the one that made it.
    fn begin_step(&self, record: &InRecord, envelope: Option<&Envelope>) -> Step {
        let parent = TraceContext::of_headers(|name| record.header_text(name));
        let name = format!("{} {}", self.stage_name(), record.source.topic);
        let mut step = Step::begin(StepKind::Consumer, name, parent);
        if !step.is_collected() {
            return step;
        }
        step.set("messaging.system", "kafka");
        step.set(
            "messaging.destination.name",
            record.source.topic.to_string(),
        );
        step.set(
            "messaging.destination.partition.id",
            record.source.partition.to_string(),
        );
        step.set("messaging.kafka.offset", record.offset);
        step.set(STAGE, self.stage_name());
        if let Some(envelope) = envelope {
            step.set("atelier.attempt", i64::from(envelope.attempt));
            if let Some(task_id) = envelope.correlation_id {
                step.set(TASK_ID, task_id.to_string());
            }
            if let Some(image_id) = envelope.subject {
                step.set(IMAGE_ID, image_id.to_string());
            }
        }
        step
    }

    /// Gives back messages that were not handled, at a rebalance or shutdown.
    pub fn abandon(&self, count: usize) {
        for _ in 0..count {
            self.accounting.abandon();
        }
    }

    /// Handles a batch. Results are given to `settle` as soon as each is known: messages that wait for another try keep
    /// nobody else waiting, and `permit` is given back while they do (not while a dependency is away). Ends early, leaving messages unsettled, only when
    /// `gate` is closed.
    pub async fn execute(
        &self,
        batch: Vec<Work>,
        permit: OwnedSemaphorePermit,
        gate: &Arc<Semaphore>,
        settle: &(dyn Fn(Settled) + Send + Sync),
    ) -> Executed {
        let admitted = batch.len();
        let mut settled = 0;
        let mut permit = Some(permit);
        let mut pending = batch;
        while !pending.is_empty() {
            let held = match permit.take() {
                Some(held) => held,
                None => match Arc::clone(gate).acquire_owned().await {
                    Ok(held) => held,
                    Err(_) => return Executed::left(pending.len()),
                },
            };
            // As late as possible: the wait for the gate may have been long.
            let (wanted, ends) = self.split_unwanted(pending);
            settled += ends.len();
            ends.into_iter().for_each(settle);
            if wanted.is_empty() {
                permit = Some(held);
                break;
            }
            let handled = self.handle_bisecting(wanted).await;
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
            permit = (!unavailable.is_empty() || soon.is_empty()).then_some(held);
            pending = self.wait(soon, unavailable).await;
            if gate.is_closed() {
                return Executed::left(pending.len());
            }
        }
        debug_assert_eq!(settled, admitted, "every admitted message is settled once");
        Executed { left: 0, permit }
    }

    fn decide(&self, handled: Handled) -> Next {
        let Handled {
            mut work,
            outcome,
            duration,
        } = handled;
        // Whatever became of it: its end is told already.
        if self.is_cancelled(&work) {
            return Next::Settled(self.drop_cancelled(work));
        }
        if let Some(failure) = unavailable(&outcome) {
            return Next::WhenAvailable(work, failure);
        }
        self.readiness.found(Dependency::Stage);
        match outcome {
            Outcome::Emit(emissions) => Next::Settled(self.emit(&mut work, emissions, duration)),
            Outcome::Skip(reason) => {
                tracing::debug!(stage = self.stage_name(), id = %work.envelope.id, reason, "skipped");
                work.step.set(OUTCOME, Verdict::Skipped.as_str());
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
                Next::Settled(self.give_work_on(&mut work, failure))
            }
            Outcome::Reject(failure) => {
                let failure = Failure {
                    class: FailureClass::Permanent,
                    ..failure
                };
                Next::Settled(self.give_work_on(&mut work, failure))
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

    fn emit(&self, work: &mut Work, emissions: Vec<Emission>, duration: Duration) -> Settled {
        let parent = Parent {
            record: &work.record,
            envelope: &work.envelope,
            trace: work.step.context(),
        };
        let timing = StageTiming {
            stage: self.stage_name().to_owned(),
            queue_ms: work.queue_ms.unwrap_or_default(),
            processing_time_ms: round_milliseconds(duration.as_secs_f64() * 1_000.0),
        };
        let failed_parts = self.tell_of_parts(work, &emissions);
        match self
            .encoder
            .emitted(parent, emissions, &timing, self.clock.now())
        {
            Ok((outputs, dead_codes)) => {
                let retried_parts = failed_parts.saturating_sub(dead_codes.len());
                telemetry::retry(self.stage_name(), "topic", retried_parts);
                for code in dead_codes {
                    telemetry::dead_letter(self.stage_name(), code);
                    work.step.set(ERROR_CODE, code.as_str());
                    work.step.fail("a part of it is in the dead letters");
                }
                work.step.set(OUTCOME, Verdict::Emitted.as_str());
                self.settle(&work.record, work.ticket, Verdict::Emitted, outputs)
            }
            Err(failure) => self.give_work_on(work, failure),
        }
    }

    /// Logs each part that failed; how many they are.
    fn tell_of_parts(&self, work: &Work, emissions: &[Emission]) -> usize {
        let mut failed = 0;
        for emission in emissions {
            let (Emission::Retry(event, failure) | Emission::Reject(event, failure)) = emission
            else {
                continue;
            };
            failed += 1;
            tracing::warn!(
                stage = self.stage_name(),
                trace_id = work.step.context().trace_id(),
                span_id = work.step.context().span_id(),
                task_id = event.task_id().map(tracing::field::display),
                image_id = event.image_id().map(tracing::field::display),
                code = failure.body.code.as_str(),
                error = failure.body.message,
                "part failed"
            );
        }
        failed
    }

    fn give_work_on(&self, work: &mut Work, failure: Failure) -> Settled {
        let envelope = Some(&work.envelope);
        self.give_on(&work.record, work.ticket, envelope, &mut work.step, failure)
    }

    /// To the retry topic or the dead letters.
    fn give_on(
        &self,
        record: &InRecord,
        ticket: u64,
        envelope: Option<&Envelope>,
        step: &mut Step,
        failure: Failure,
    ) -> Settled {
        let (code, message) = (failure.body.code, failure.body.message.clone());
        let given_on =
            self.encoder
                .failed(record, envelope, step.context(), failure, self.clock.now());
        let verdict = if given_on.dead.is_some() {
            Verdict::DeadLettered
        } else {
            Verdict::Retried
        };
        step.set(OUTCOME, verdict.as_str());
        step.set(ERROR_CODE, code.as_str());
        step.fail(&message);
        tracing::warn!(
            stage = self.stage_name(),
            trace_id = step.context().trace_id(),
            span_id = step.context().span_id(),
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
            error = message,
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
