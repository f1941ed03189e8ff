//! The stage: events in, effects on the ledger, the ledger's answers out.

use std::sync::Arc;

use async_trait::async_trait;
use atelier_runtime::{Batch, Batching, Emission, Failure, Message, Outcome, Stage, StageInput};
use atelier_schemas::{
    DecodeError, Envelope, ErrorBody, ErrorCode, Event,
    events::{ImageComposed, Payload as _, StageFailed, TaskAccepted, TaskCancelRequested},
    from_json,
};
use atelier_stores::{Ledger, ledger::Effect};
use chrono::SecondsFormat;
use uuid::Uuid;

use crate::{PersistError, PersistOptions};

/// The stage that may fail a task as a whole: it alone reads whole tasks.
const TASK_STAGE: &str = "ingest";

/// Most of a reason that is kept: it stands on each image of the task, which may have a thousand.
const MOST_REASON_CHARACTERS: usize = 200;

/// What the stage reads.
#[derive(Clone, Debug)]
// An input lives as long as its batch; boxing the large variant would only add noise.
#[allow(clippy::large_enum_variant)]
pub enum PersistInput {
    /// An image is finished.
    Composed(ImageComposed),
    /// A task was read and fanned out.
    Accepted(TaskAccepted),
    /// A stage gave an image, or a whole task, up.
    Failed(StageFailed),
    /// Somebody wants a task to stop.
    CancelRequested(TaskCancelRequested),
}

impl StageInput for PersistInput {
    fn decode(envelope: &Envelope, value: &[u8]) -> Result<Option<Self>, DecodeError> {
        match envelope.event_type.as_str() {
            ImageComposed::EVENT_TYPE => from_json(value).map(|event| Some(Self::Composed(event))),
            TaskAccepted::EVENT_TYPE => from_json(value).map(|event| Some(Self::Accepted(event))),
            TaskCancelRequested::EVENT_TYPE => {
                from_json(value).map(|event| Some(Self::CancelRequested(event)))
            }
            StageFailed::EVENT_TYPE => {
                let failed: StageFailed = from_json(value)?;
                // A broken event of an image stage may name a task and no image; the task's images end by themselves.
                let concerns_ledger = failed.image_id.is_some() || failed.stage == TASK_STAGE;
                Ok(concerns_ledger.then_some(Self::Failed(failed)))
            }
            // The rest of task-events: known types are somebody else's, unknown ones are faults.
            _ => Event::decode(envelope, value).map(|_| None),
        }
    }
}

/// The stage `persist`.
pub struct Persist {
    ledger: Arc<dyn Ledger>,
    options: PersistOptions,
}

impl Persist {
    /// The stage over `ledger`.
    pub fn new(options: PersistOptions, ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger, options }
    }
}

#[async_trait]
impl Stage for Persist {
    type Input = PersistInput;

    fn name(&self) -> &'static str {
        "persist"
    }

    fn batching(&self) -> Batching {
        // No waiting: what has come meanwhile shares one SQL transaction.
        Batching {
            max_batch: self.options.max_batch.max(1),
            max_pixels: u64::MAX,
            max_delay_ms: 0,
        }
    }

    fn drops_unwanted(&self) -> bool {
        // It is the one who ends cancelled tasks, and what is done at last is kept however late it is.
        false
    }

    async fn handle(&self, batch: Batch<PersistInput>) -> Result<Vec<Outcome>, Failure> {
        let effects = batch.into_iter().map(effect_of).collect();
        let answers = self
            .ledger
            .apply_all(effects)
            .await
            .map_err(PersistError::from)?;
        let outcomes = answers.into_iter().map(|answer| match answer {
            Ok(events) => Outcome::Emit(events.into_iter().map(Emission::Event).collect()),
            Err(contradiction) => Outcome::failed(PersistError::from(contradiction)),
        });
        Ok(outcomes.collect())
    }
}

fn effect_of(message: Message<PersistInput>) -> (Uuid, Effect) {
    let Message { envelope, data } = message;
    let effect = match data {
        PersistInput::Composed(composed) => {
            let result = composed.to_result(&envelope.timings);
            Effect::ImageCompleted {
                image: composed.image,
                result,
            }
        }
        PersistInput::Accepted(accepted) => Effect::Accepted(accepted),
        PersistInput::Failed(StageFailed {
            task_id,
            image_id,
            error,
            ..
        }) => Effect::Failed {
            task_id,
            image_id,
            error,
        },
        PersistInput::CancelRequested(request) => Effect::Cancelled {
            task_id: request.task_id,
            error: cancelled(&request),
        },
    };
    #[cfg(feature = "planted-bugs")]
    if atelier_runtime::planted::Bug::PersistWithoutInbox.is_planted() {
        return (Uuid::new_v4(), effect);
    }
    (envelope.id, effect)
}

/// What the images that are stopped, and the task, say of it.
fn cancelled(request: &TaskCancelRequested) -> ErrorBody {
    let at = request
        .requested_at
        .to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut message = format!("the task was cancelled at {at}");
    if let Some(reason) = &request.reason {
        message.push_str(": ");
        message.extend(reason.chars().take(MOST_REASON_CHARACTERS));
    }
    // No stage failed: it came from outside.
    ErrorBody::new(ErrorCode::Cancelled, "gateway", "CancelRequested", message)
}
