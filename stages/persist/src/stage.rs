//! The stage: events in, effects on the ledger, the ledger's answers out.

use std::sync::Arc;

use async_trait::async_trait;
use atelier_runtime::{Batch, Batching, Emission, Failure, Message, Outcome, Stage, StageInput};
use atelier_schemas::{
    DecodeError, Envelope, Event,
    events::{ImageComposed, Payload as _, StageFailed, TaskAccepted},
    from_json,
};
use atelier_stores::{Ledger, ledger::Effect};
use uuid::Uuid;

use crate::{PersistError, PersistOptions};

/// The stage that may fail a task as a whole: it alone reads whole tasks.
const TASK_STAGE: &str = "ingest";

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
}

impl StageInput for PersistInput {
    fn decode(envelope: &Envelope, value: &[u8]) -> Result<Option<Self>, DecodeError> {
        match envelope.event_type.as_str() {
            ImageComposed::EVENT_TYPE => from_json(value).map(|event| Some(Self::Composed(event))),
            TaskAccepted::EVENT_TYPE => from_json(value).map(|event| Some(Self::Accepted(event))),
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
    };
    (envelope.id, effect)
}
