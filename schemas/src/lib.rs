//! Every event and API type of Atelier, and the documents generated from them.
//!
//! This crate is the contract with upstream systems, analysts and the page: the wire format is camelCase JSON, times are
//! RFC 3339 in UTC, and within one version of an event fields are only ever added. `schemas/generated/` holds the JSON
//! Schemas and the AsyncAPI 3 document; a test fails when they differ from the types. It depends on nothing inside.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod answer;
pub mod asyncapi;
pub mod background;
pub mod blob;
pub mod classification;
pub mod decode;
pub mod envelope;
pub mod error;
pub mod events;
pub mod matting;
pub mod output;
pub mod placement;
pub mod request;
pub mod shadow;
pub mod subject;
pub mod topics;
pub mod trimap;
pub mod urgency;
pub mod watermark;

pub use answer::{TaskAnswer, TaskStatus};
pub use blob::{BlobKey, BlobRef};
pub use decode::{DecodeError, from_json};
pub use envelope::{Envelope, EnvelopeError, StageTiming, event_id};
pub use error::{ErrorBody, ErrorCode, ErrorDetails};
pub use events::Event;
pub use matting::Matting;
pub use output::{Background, ImageFormat, OutputOptions};
pub use request::{ImageSource, Kind, KindChoice, Quality, TaskOptions, TaskRequest};
pub use subject::SubjectChoice;
pub use topics::{Topic, TopicTable};
pub use trimap::Trimap;
pub use urgency::Priority;
pub use watermark::Watermark;
