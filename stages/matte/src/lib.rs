//! `matte`: [`ImageClassified`](atelier_schemas::events::ImageClassified) in,
//! [`ImageMatted`](atelier_schemas::events::ImageMatted) out.
//!
//! Routes a picture by its kind to a [`Processor`](processors::Processor), which yields an alpha matte of the picture's
//! own size, and a report of how it was made. Quality high is IS-Net, U²-Netp where that is in doubt, and the refiner over both; medium
//! and low are U²-Net and U²-Netp; `options.model` names any matting model of the catalogue, which then works alone. A flat graphic
//! is cut out by its colours, without a network; a portrait with what the pose network knows of bodies; a picture that comes with a
//! trimap is solved within it ([`solve`]).
//!
//! Invariants:
//! - The models that a quality stands for are loaded before the first picture, or the stage does not start.
//! - A picture is matted by the model that was named or rejected with the reason, never by another.
//! - What is the subject is cut where one person or thing ends and another begins, never along a rectangle.
//! - What a trimap that came with the picture knows stays as it says.
//! - Without a subject the picture keeps its own alpha, and the report says so.
//! - Networks run off the async threads, one run at a time unless the options say otherwise; pictures before and after
//!   the network are worked on meanwhile. A run takes one picture, or several where the options say so: with the same mattes, and
//!   one that fails does so alone.
//! - The same picture and model give the same matte, so one that was made before is used again for a while.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod error;
mod memory;
mod options;
pub mod processors;
mod segmenters;
pub mod solve;
mod stage;

pub use error::MatteError;
pub use options::MatteOptions;
pub use segmenters::{Segmenters, model_for, models_for};
pub use stage::Matte;
