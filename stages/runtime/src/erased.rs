//! Stages behind one object type, so that a list of different stages drives Kafka and the in-process runner alike.

use std::{any::Any, sync::Arc};

use async_trait::async_trait;
use atelier_schemas::{DecodeError, Envelope, ErrorCode, Priority};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Batching, Failure, Message, Outcome, Stage, StageInput};

/// A decoded input whose type only its stage knows.
#[derive(Clone)]
pub struct AnyInput {
    data: Arc<dyn Any + Send + Sync>,
    /// What it weighs against [`Batching::max_pixels`].
    pub pixels: u64,
    /// [`StageInput::task_id`].
    pub task_id: Option<Uuid>,
    /// [`StageInput::deadline`].
    pub deadline: Option<DateTime<Utc>>,
    /// [`StageInput::priority`].
    pub priority: Priority,
}

impl std::fmt::Debug for AnyInput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AnyInput")
            .field("pixels", &self.pixels)
            .field("task_id", &self.task_id)
            .finish_non_exhaustive()
    }
}

/// Any stage. Implemented for every [`Stage`]; the names differ from `Stage`'s so that both traits can be in scope.
#[async_trait]
pub trait AnyStage: Send + Sync + 'static {
    /// [`Stage::name`].
    fn stage_name(&self) -> &'static str;

    /// [`Stage::batching`].
    fn stage_batching(&self) -> Batching;

    /// [`Stage::drops_unwanted`].
    fn stage_drops_unwanted(&self) -> bool;

    /// Reads the value; `None` is an event that the stage has no use for.
    ///
    /// # Errors
    /// [`DecodeError`]: to the dead letters.
    fn decode(&self, envelope: &Envelope, value: &[u8]) -> Result<Option<AnyInput>, DecodeError>;

    /// [`Stage::handle`].
    ///
    /// # Errors
    /// A failure of the whole batch.
    async fn handle_any(&self, batch: Vec<(Envelope, AnyInput)>) -> Result<Vec<Outcome>, Failure>;
}

#[async_trait]
impl<S: Stage> AnyStage for S {
    fn stage_name(&self) -> &'static str {
        self.name()
    }

    fn stage_batching(&self) -> Batching {
        self.batching()
    }

    fn stage_drops_unwanted(&self) -> bool {
        self.drops_unwanted()
    }

    fn decode(&self, envelope: &Envelope, value: &[u8]) -> Result<Option<AnyInput>, DecodeError> {
        let Some(input) = S::Input::decode(envelope, value)? else {
            return Ok(None);
        };
        Ok(Some(AnyInput {
            pixels: self.pixels(&input),
            task_id: input.task_id(),
            deadline: input.deadline(),
            priority: input.priority(),
            data: Arc::new(input),
        }))
    }

    async fn handle_any(&self, batch: Vec<(Envelope, AnyInput)>) -> Result<Vec<Outcome>, Failure> {
        let typed = batch
            .into_iter()
            .map(|(envelope, input)| {
                let data = input
                    .data
                    .downcast::<S::Input>()
                    .map_err(|_| wrong_type(self.name()))?;
                Ok(Message {
                    envelope,
                    data: Arc::unwrap_or_clone(data),
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        self.handle(typed).await
    }
}

/// Only a runner that hands one stage's input to another could cause this.
fn wrong_type(stage: &str) -> Failure {
    let message = format!("stage `{stage}` was handed an input of another stage");
    Failure::permanent(ErrorCode::Internal, "WrongInput", message)
}
