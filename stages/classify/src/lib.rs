//! `classify`: [`ImagePreprocessed`](atelier_schemas::events::ImagePreprocessed) in,
//! [`ImageClassified`](atelier_schemas::events::ImageClassified) out.
//!
//! What a picture is (portrait, product, graphic), how sure that is, how hard its edge is to cut and how to cut it. It is
//! looked at by three small networks (faces, objects, labels) and measured; its name says nothing here.
//!
//! Invariants:
//! - The same pixels and options give the same classification.
//! - A sender's choice of kind is kept; complexity and strategy are measured all the same.
//! - A network is run only where its answer can still change the decision, or is evidence that a reader is promised.
//! - Nothing here blocks an async thread, and every network sees a copy of at most 640 pixels a side, whatever came.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod boxes;
mod classifier;
mod decide;
mod error;
mod faces;
mod labels;
mod measure;
mod objects;
mod options;
mod stage;
mod working_copy;

pub use classifier::{Classified, Classifier, Cost};
pub use error::{ClassifyError, OpenError};
pub use measure::{Measured, Texture, measure};
pub use options::ClassifyOptions;
pub use stage::ClassifyStage;
