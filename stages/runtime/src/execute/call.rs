//! Calls a stage: with its span, guarded against its panics, and with halves of a batch that fails as a whole.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use atelier_schemas::ErrorCode;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::{Executor, Work, round_milliseconds};
use crate::{
    Failure, FailureClass, Outcome,
    telemetry::{self, Step, StepKind},
};

/// A message that the stage was called with.
pub(super) struct Handled {
    pub(super) work: Work,
    pub(super) outcome: Outcome,
    /// Its share of the time that the batch took.
    pub(super) duration: Duration,
}

impl Executor {
    /// Calls the stage; where a batch as a whole fails, with each half, until the message at fault stands alone.
    pub(super) async fn handle_bisecting(&self, batch: Vec<Work>) -> Vec<Handled> {
        let mut done = Vec::with_capacity(batch.len());
        let mut stack = vec![batch];
        while let Some(mut batch) = stack.pop() {
            let now = self.clock.now();
            for work in &mut batch {
                let queue_ms = work
                    .queue_ms
                    .get_or_insert_with(|| milliseconds_between(work.envelope.time, now));
                if work.tries == 0 && work.looks == 0 {
                    telemetry::queued(self.stage_name(), *queue_ms);
                }
            }
            let mut step = self.begin_handling(&mut batch);
            let started = Instant::now();
            let tasks: Vec<Option<Uuid>> = batch.iter().map(Work::task).collect();
            let answer = tokio::select! {
                biased;
                // Dropping the work is safe: blobs are named by their content and written whole.
                () = self.cancelled.all_of(&tasks) => {
                    let dropped = batch.into_iter().map(|work| Handled {
                        work,
                        outcome: Outcome::Skip("its task is cancelled"),
                        duration: started.elapsed(),
                    });
                    done.extend(dropped);
                    continue;
                }
                answer = self.call(&batch, &step) => answer,
            };
            let took = started.elapsed();
            if let Err(failure) = &answer {
                step.fail(&failure.body.message);
            }
            drop(step);
            telemetry::batch_handled(self.stage_name(), batch.len(), took);
            let duration = took / u32::try_from(batch.len()).unwrap_or(u32::MAX).max(1);
            match answer {
                Ok(outcomes) => {
                    done.extend(
                        batch
                            .into_iter()
                            .zip(outcomes)
                            .map(|(work, outcome)| Handled {
                                work,
                                outcome,
                                duration,
                            }),
                    );
                }
                Err(failure) if batch.len() == 1 || failure.class == FailureClass::Unavailable => {
                    done.extend(batch.into_iter().map(|work| {
                        let outcome = Outcome::failed(failure.clone());
                        Handled {
                            work,
                            outcome,
                            duration,
                        }
                    }));
                }
                Err(failure) => {
                    tracing::warn!(
                        stage = self.stage_name(),
                        messages = batch.len(),
                        error = failure.body.message,
                        "batch failed, halving it"
                    );
                    let second_half = batch.split_off(batch.len() / 2);
                    stack.push(second_half);
                    stack.push(batch);
                }
            }
        }
        done
    }

    async fn call(&self, batch: &[Work], step: &Step) -> Result<Vec<Outcome>, Failure> {
        let inputs = batch
            .iter()
            .map(|work| (work.envelope.clone(), work.input.clone()))
            .collect();
        let span = self.span(batch, step);
        let answer = AssertUnwindSafe(self.stage.handle_any(inputs))
            .catch_unwind()
            .instrument(span)
            .await;
        let outcomes = answer.unwrap_or_else(|panic| {
            let message = format!("the stage panicked: {}", panic_text(&*panic));
            Err(Failure::permanent(ErrorCode::Internal, "Panic", message))
        })?;
        if outcomes.len() == batch.len() {
            return Ok(outcomes);
        }
        let message = format!(
            "the stage gave {} outcomes for {} messages",
            outcomes.len(),
            batch.len()
        );
        Err(Failure::permanent(
            ErrorCode::Internal,
            "WrongOutcomeCount",
            message,
        ))
    }

    /// One call of the stage: a part of its message, or with several messages, which may be of several traces, a trace of its
    /// own that is linked with each of theirs.
    fn begin_handling(&self, batch: &mut [Work]) -> Step {
        let name = format!("{} handle", self.stage_name());
        let mut step = match batch {
            [work] => Step::begin(StepKind::Internal, name, Some(work.step.context())),
            _ => {
                let joining =
                    Step::begin_joining(name, batch.iter().map(|work| work.step.context()));
                if joining.is_collected() {
                    for work in batch.iter_mut() {
                        work.step.link(joining.context());
                    }
                }
                joining
            }
        };
        step.set(super::STAGE, self.stage_name());
        step.set("messaging.batch.message_count", batch.len() as i64);
        step
    }

    fn span(&self, batch: &[Work], step: &Step) -> tracing::Span {
        let (trace_id, span_id) = (step.context().trace_id(), step.context().span_id());
        let stage = self.stage_name();
        match batch {
            [work] => {
                let task_id = work.envelope.correlation_id.map(tracing::field::display);
                let image_id = work.envelope.subject.map(tracing::field::display);
                tracing::info_span!(
                    "handle",
                    stage,
                    messages = 1,
                    trace_id,
                    span_id,
                    task_id,
                    image_id
                )
            }
            _ if step.is_collected() => {
                tracing::info_span!("handle", stage, messages = batch.len(), trace_id, span_id)
            }
            // A trace that nobody can find explains nothing.
            _ => tracing::info_span!("handle", stage, messages = batch.len()),
        }
    }
}

fn milliseconds_between(earlier: DateTime<Utc>, later: DateTime<Utc>) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let microseconds = (later - earlier).num_microseconds().unwrap_or(i64::MAX) as f64;
    // Clocks of two machines differ; a queue cannot be shorter than nothing.
    round_milliseconds((microseconds / 1_000.0).max(0.0))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
