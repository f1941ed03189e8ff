//! ONNX models: the catalogue of them (`models.toml`), fetching and verifying their files, and running them.
//!
//! Invariants: a file is only put in its place after its checksum matched; a session only opens a file whose inputs and
//! outputs are those of its catalogue row; nothing is fetched unless [`pull`](ModelStore::pull) is called.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod absorb;
pub mod bundled;
pub mod catalogue;
mod heads;
pub mod onnx;
pub mod pose;
pub mod provider;
pub mod pull;
pub mod quantize;
pub mod runtime;
pub mod segment;
pub mod session;
pub mod store;

pub use absorb::{AbsorbError, Absorption};
pub use catalogue::{
    Catalogue, CatalogueError, Companion, Digest, FreeBatch, Model, Origin, Purpose, Source,
};
pub use pose::{BodySquare, PersonLook, PersonMask, Pose};
pub use provider::{Provider, ProviderChoice};
pub use pull::{Progress, PullError, Pulled};
pub use runtime::{LoadError, Runtime};
pub use segment::{Guided, Mask, Picture, Refiner, SegmentError, Segmenter};
pub use session::{Inference, RunError, Session, SessionOptions};
pub use store::{Clients, ModelStore, State, VerifyError};
