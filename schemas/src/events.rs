//! The payloads of every event, and [`Event`], the closed set of them.
//!
//! Each image event carries all that the stages before it found, so that a stage needs nothing but its input.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    BlobRef, DecodeError, Envelope, ErrorBody, ImageSource, Matting, Priority, TaskOptions,
    TaskRequest, TaskStatus,
    answer::{Dimensions, ImageMetadata, TaskSummary},
    from_json,
    shadow::ShadowOutcome,
    topics::IMAGE_TASKS_BULK,
};

pub use crate::classification::{Classification, Detection, Evidence, Label, Strategy};

/// The version of a picture that repeats no other.
pub const FIRST_VERSION: u32 = 1;

pub(crate) fn first_version() -> u32 {
    FIRST_VERSION
}

// serde's skip_serializing_if hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_first_version(version: &u32) -> bool {
    *version == FIRST_VERSION
}

/// Which image of which task an event speaks of, and what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageContext {
    /// The task.
    pub task_id: Uuid,
    /// The image; UUIDv5 of the task and the index.
    pub image_id: Uuid,
    /// Its place in the request, from 0.
    pub index: u32,
    /// Images in the task.
    pub image_count: u32,
    /// Where it came from.
    pub source: ImageSource,
    /// What was asked for.
    pub options: TaskOptions,
    /// When the task was submitted.
    pub submitted_at: DateTime<Utc>,
}

/// One image to ingest: what a task's fan-out leaves in `ingest-retry` and `ingest-dead-letters` when fetching fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageRequested {
    /// The image.
    pub image: ImageContext,
}

/// The bytes are fetched, checked by magic and header, hashed and stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageIngested {
    /// The image.
    pub image: ImageContext,
    /// Its bytes as they came.
    pub original: BlobRef,
    /// The picture to lay behind, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BlobRef>,
    /// The picture to mark it with, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<BlobRef>,
    /// The trimap's bytes as they came, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimap: Option<BlobRef>,
}

/// What was measured while decoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measurements {
    /// Variance of the Laplacian of the luma (0–255) at no more than 512 pixels a side: low is soft.
    pub sharpness: f32,
    /// Estimated standard deviation of the noise in the luma (0–255), after Immerkær (1996).
    pub noise: f32,
    /// Whether the original has transparent pixels of its own.
    pub has_alpha: bool,
    /// EXIF orientation that was applied, 1 to 8.
    pub orientation: u8,
    /// Colour model of the original file, for example `rgb8`, `cmyk8`, `gray16`.
    pub color_model: String,
    /// Whether an embedded colour profile was converted to sRGB.
    pub profile_converted: bool,
    /// Frames in the original; only the first is used.
    pub frames: u32,
}

/// Decoded once: upright, sRGB, eight bits a channel, no metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePreprocessed {
    /// The image.
    pub image: ImageContext,
    /// Its bytes as they came.
    pub original: BlobRef,
    /// The picture to lay behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BlobRef>,
    /// The picture to mark it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<BlobRef>,
    /// The pixels, as PAM (`image/x-portable-arbitrarymap`): RGB or straight RGBA.
    pub pixels: BlobRef,
    /// What was measured.
    pub measurements: Measurements,
    /// The trimap at the pixels' size, as PAM (grey): 0 is background, 255 the subject, 128 unknown; where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimap: Option<BlobRef>,
}

/// The kind is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageClassified {
    /// The image.
    pub image: ImageContext,
    /// Its bytes as they came.
    pub original: BlobRef,
    /// The picture to lay behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BlobRef>,
    /// The picture to mark it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<BlobRef>,
    /// The pixels.
    pub pixels: BlobRef,
    /// What was measured.
    pub measurements: Measurements,
    /// What it is.
    pub classification: Classification,
    /// The trimap at the pixels' size, as PAM (grey): 0 is background, 255 the subject, 128 unknown; where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimap: Option<BlobRef>,
}

/// Which model did the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelUse {
    /// Its name in the catalogue.
    pub name: String,
    /// The execution provider that ran it.
    pub provider: String,
    /// The model's own time on this image, in milliseconds.
    pub inference_ms: f64,
    /// The processor that used it.
    pub processor: String,
    /// Whether this matte was made for the same picture before, and the model did not run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
}

/// The matte is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageMatted {
    /// The image.
    pub image: ImageContext,
    /// Its bytes as they came.
    pub original: BlobRef,
    /// The picture to lay behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BlobRef>,
    /// The picture to mark it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<BlobRef>,
    /// The pixels.
    pub pixels: BlobRef,
    /// What was measured.
    pub measurements: Measurements,
    /// What it is.
    pub classification: Classification,
    /// The alpha matte at the pixels' size, as PAM (grey, 0 = background).
    pub alpha: BlobRef,
    /// Which model made it.
    pub model: ModelUse,
    /// How the matte was made, and what was measured on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matting: Option<Matting>,
    /// The subject in its own colours at the pixels' size, as PAM (straight RGBA whose alpha is the matte), where the processor
    /// knows them: `compose` takes them as they are. Absent where it has to estimate them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground: Option<BlobRef>,
}

/// The finished picture is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageComposed {
    /// The image.
    pub image: ImageContext,
    /// Its bytes as they came.
    pub original: BlobRef,
    /// What was measured.
    pub measurements: Measurements,
    /// What it is.
    pub classification: Classification,
    /// Which model made the matte.
    pub model: ModelUse,
    /// How the matte was made, and what was measured on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matting: Option<Matting>,
    /// The matte as a PNG that anybody can open.
    pub alpha: BlobRef,
    /// The finished picture.
    pub result: BlobRef,
    /// A picture of no more than 256 pixels a side, WebP.
    pub thumbnail: BlobRef,
    /// Where in the finished picture the subject is; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectBox>,
    /// What became of the shadow, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowOutcome>,
}

/// The box around the subject, in pixels of the finished picture; what lies beyond its border is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectBox {
    /// From the left edge.
    pub left: u32,
    /// From the upper edge.
    pub top: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

/// The record of a finished image, as the ledger holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePersisted {
    /// The image.
    pub image: ImageContext,
    /// Which version of the picture it is; absent where it is the first.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// Its result.
    pub result: ImageResult,
}

/// A finished image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageResult {
    /// Its bytes as they came.
    pub original: BlobRef,
    /// The finished picture.
    pub result: BlobRef,
    /// Its thumbnail.
    pub thumbnail: BlobRef,
    /// Its matte as a PNG.
    pub alpha: BlobRef,
    /// What was found.
    pub metadata: ImageMetadata,
    /// The whole classification.
    pub classification: Classification,
}

impl ImageComposed {
    /// The record that the ledger keeps: `timings` are the stages that it passed.
    pub fn to_result(&self, timings: &[crate::StageTiming]) -> ImageResult {
        ImageResult {
            original: self.original.clone(),
            result: self.result.clone(),
            thumbnail: self.thumbnail.clone(),
            alpha: self.alpha.clone(),
            metadata: ImageMetadata {
                kind: self.classification.kind,
                confidence: self.classification.confidence,
                processing_time: timings.iter().map(|timing| timing.processing_time_ms).sum(),
                dimensions: Dimensions {
                    width: self.result.width,
                    height: self.result.height,
                },
                bytes: self.result.bytes,
                media_type: self.result.media_type.clone(),
                model: self.model.clone(),
                matting: self.matting.clone(),
                stages: timings.to_vec(),
                subject: self.subject,
                shadow: self.shadow,
            },
            classification: self.classification.clone(),
        }
    }
}

/// Somebody wants a task to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskCancelRequested {
    /// The task.
    pub task_id: Uuid,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A task was read, checked and fanned out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskAccepted {
    /// The task.
    pub task_id: Uuid,
    /// What was asked for.
    pub options: TaskOptions,
    /// The images in order.
    pub images: Vec<ImageSource>,
    /// When it was submitted.
    pub submitted_at: DateTime<Utc>,
}

/// A stage is done with an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageCompleted {
    /// The task.
    pub task_id: Uuid,
    /// The image; absent where the stage worked on the whole task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<Uuid>,
    /// Queue and work time.
    #[serde(flatten)]
    pub timing: crate::StageTiming,
}

/// A stage gave an image (or a whole task) up; it is in the stage's dead letters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageFailed {
    /// The task.
    pub task_id: Uuid,
    /// The image; absent where the whole task failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<Uuid>,
    /// The stage.
    pub stage: String,
    /// Why.
    pub error: ErrorBody,
}

/// An image has ended: once, with a result or a reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageEnded {
    /// The task.
    pub task_id: Uuid,
    /// The image.
    pub image_id: Uuid,
    /// Its place in the request, from 0.
    pub index: u32,
    /// Which version of the picture it is; absent where it is the first.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// `completed`, `failed` or `cancelled`.
    pub status: TaskStatus,
    /// Its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ImageResult>,
    /// Why it has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// A task has ended: once, when its last image has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskEnded {
    /// The task.
    pub task_id: Uuid,
    /// `completed`, `failed` or `cancelled`.
    pub status: TaskStatus,
    /// Counts and times.
    pub summary: TaskSummary,
    /// Why the task as a whole failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $event_type:literal on $topic:literal;)*) => {
        /// Every event there is.
        #[derive(Clone, Debug, PartialEq)]
        // An event lives as long as its encoding takes; boxing the large ones would only add noise.
        #[allow(clippy::large_enum_variant)]
        pub enum Event { $($(#[$doc])* $variant($payload),)* }

        impl Event {
            /// Every type, with the topic it is published on and what makes its JSON Schema.
            pub fn catalogue() -> Vec<EventDescription> {
                vec![$(EventDescription {
                    event_type: $event_type,
                    topic: $topic,
                    payload: stringify!($payload),
                    schema: |generator| generator.subschema_for::<$payload>(),
                }),*]
            }

            /// The type with its version, as in `ce_type`.
            pub fn event_type(&self) -> &'static str { match self { $(Self::$variant(_) => $event_type),* } }

            /// The topic it is published on.
            pub fn topic(&self) -> &'static str { match self { $(Self::$variant(_) => $topic),* } }

            /// The JSON value.
            ///
            /// # Errors
            /// Only where a float is not finite; every other payload serialises.
            pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self { $(Self::$variant(payload) => serde_json::to_vec(payload)),* }
            }

            /// Reads a value of the type that the envelope names.
            ///
            /// # Errors
            /// [`DecodeError`], with the JSON pointer where a value does not fit.
            pub fn decode(envelope: &Envelope, value: &[u8]) -> Result<Self, DecodeError> {
                match envelope.event_type.as_str() {
                    $($event_type => from_json(value).map(Self::$variant),)*
                    other => Err(DecodeError::UnknownType {
                        found: other.chars().take(80).collect(),
                        expected: [$($event_type),*].join(", "),
                    }),
                }
            }
        }

        $(impl From<$payload> for Event { fn from(payload: $payload) -> Self { Self::$variant(payload) } })*

        $(impl Payload for $payload { const EVENT_TYPE: &'static str = $event_type; })*
    };
}

/// A payload that knows its event type.
pub trait Payload: serde::de::DeserializeOwned {
    /// The type with its version.
    const EVENT_TYPE: &'static str;
}

/// What the documents say about an event type.
pub struct EventDescription {
    /// Type with version.
    pub event_type: &'static str,
    /// The topic it is published on.
    pub topic: &'static str,
    /// The payload's name.
    pub payload: &'static str,
    /// Makes the payload's JSON Schema.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

events! {
    /// A task is asked for.
    TaskSubmitted(TaskRequest) = "atelier.task.submitted.v1" on "image-tasks";
    /// One image of a task is to be ingested (again).
    ImageRequested(ImageRequested) = "atelier.image.requested.v1" on "ingest-retry";
    /// Fetched and stored.
    ImageIngested(ImageIngested) = "atelier.image.ingested.v1" on "images-ingested";
    /// Decoded.
    ImagePreprocessed(ImagePreprocessed) = "atelier.image.preprocessed.v1" on "images-preprocessed";
    /// Classified.
    ImageClassified(ImageClassified) = "atelier.image.classified.v1" on "images-classified";
    /// Matted.
    ImageMatted(ImageMatted) = "atelier.image.matted.v1" on "images-matted";
    /// Composed.
    ImageComposed(ImageComposed) = "atelier.image.composed.v1" on "images-composed";
    /// In the ledger.
    ImagePersisted(ImagePersisted) = "atelier.image.persisted.v1" on "images-persisted";
    /// A task is to stop.
    TaskCancelRequested(TaskCancelRequested) = "atelier.task.cancel-requested.v1" on "task-control";
    /// Accepted and fanned out.
    TaskAccepted(TaskAccepted) = "atelier.task.accepted.v1" on "task-events";
    /// A stage is done.
    StageCompleted(StageCompleted) = "atelier.stage.completed.v1" on "task-events";
    /// A stage gave up.
    StageFailed(StageFailed) = "atelier.stage.failed.v1" on "task-events";
    /// An image has its end.
    ImageEnded(ImageEnded) = "atelier.image.ended.v1" on "task-events";
    /// A failed image has a result after all, by a replay; its end stays what it was.
    ImageRepaired(ImageRepaired) = "atelier.image.repaired.v1" on "task-events";
    /// A task has its end.
    TaskEnded(TaskEnded) = "atelier.task.ended.v1" on "task-events";
}

/// A failed image has a result after all, by a replay of its dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageRepaired {
    /// The task.
    pub task_id: Uuid,
    /// The image.
    pub image_id: Uuid,
    /// Its place in the request, from 0.
    pub index: u32,
    /// Which version of the picture it is; absent where it is the first.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// Its result.
    pub result: ImageResult,
    /// The task's counts after the repair.
    pub summary: TaskSummary,
}

impl Event {
    /// The task that the event speaks of.
    pub fn task_id(&self) -> Option<Uuid> {
        match self {
            Self::TaskSubmitted(payload) => payload.task_id,
            Self::TaskCancelRequested(payload) => Some(payload.task_id),
            Self::TaskAccepted(payload) => Some(payload.task_id),
            Self::StageCompleted(payload) => Some(payload.task_id),
            Self::StageFailed(payload) => Some(payload.task_id),
            Self::ImageEnded(payload) => Some(payload.task_id),
            Self::ImageRepaired(payload) => Some(payload.task_id),
            Self::TaskEnded(payload) => Some(payload.task_id),
            _ => self.image().map(|image| image.task_id),
        }
    }

    /// The image that the event speaks of.
    pub fn image_id(&self) -> Option<Uuid> {
        match self {
            Self::StageCompleted(payload) => payload.image_id,
            Self::StageFailed(payload) => payload.image_id,
            Self::ImageEnded(payload) => Some(payload.image_id),
            Self::ImageRepaired(payload) => Some(payload.image_id),
            _ => self.image().map(|image| image.image_id),
        }
    }

    /// What it says of its own priority.
    pub fn priority(&self) -> Priority {
        match self {
            Self::TaskSubmitted(request) => request.priority,
            _ => Priority::Interactive,
        }
    }

    /// The topic that it is published on, where `priority` says whether somebody waits for it.
    pub fn topic_for(&self, priority: Priority) -> &'static str {
        match (self, priority) {
            (Self::TaskSubmitted(_) | Self::ImageRequested(_), Priority::Bulk) => IMAGE_TASKS_BULK,
            _ => self.topic(),
        }
    }

    /// The context of an image event.
    pub fn image(&self) -> Option<&ImageContext> {
        match self {
            Self::ImageRequested(payload) => Some(&payload.image),
            Self::ImageIngested(payload) => Some(&payload.image),
            Self::ImagePreprocessed(payload) => Some(&payload.image),
            Self::ImageClassified(payload) => Some(&payload.image),
            Self::ImageMatted(payload) => Some(&payload.image),
            Self::ImageComposed(payload) => Some(&payload.image),
            Self::ImagePersisted(payload) => Some(&payload.image),
            Self::TaskSubmitted(_)
            | Self::TaskCancelRequested(_)
            | Self::TaskAccepted(_)
            | Self::StageCompleted(_)
            | Self::StageFailed(_)
            | Self::ImageEnded(_)
            | Self::ImageRepaired(_)
            | Self::TaskEnded(_) => None,
        }
    }

    /// The Kafka key: the image on image topics, the task on task topics. An upstream task may lack an id.
    pub fn key(&self) -> Option<Uuid> {
        if self.image().is_some() {
            self.image_id()
        } else {
            self.task_id()
        }
    }
}
