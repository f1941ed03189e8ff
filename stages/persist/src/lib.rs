//! `persist`: the only stage that changes a task in the ledger.
//!
//! In: [`ImageComposed`](atelier_schemas::events::ImageComposed) on `images-composed`; from `task-events`,
//! [`TaskAccepted`](atelier_schemas::events::TaskAccepted) and [`StageFailed`](atelier_schemas::events::StageFailed); from
//! `task-control`, [`TaskCancelRequested`](atelier_schemas::events::TaskCancelRequested).
//! Out: `ImagePersisted`, `ImageEnded`, `TaskEnded`, and `ImageRepaired` after a replay.
//!
//! Invariants:
//! - Each image ends once, with a result or a reason; the last one ends the task, or a cancel ends all that are open.
//! - An effect and the id of the event that caused it are one SQL transaction; a repeat answers with the events of the
//!   first time, because the crash may have come after the SQL commit and before the Kafka one.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod error;
mod options;
mod stage;

pub use error::PersistError;
pub use options::PersistOptions;
pub use stage::{Persist, PersistInput};
