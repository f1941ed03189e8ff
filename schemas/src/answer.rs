//! What the API answers about a task.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ErrorBody, Kind, Matting, StageTiming, TaskOptions,
    events::{ModelUse, SubjectBox, first_version},
    request::RepeatOf,
    shadow::ShadowOutcome,
};

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TaskStatus {
    /// In the ledger; no stage has taken it yet.
    Pending,
    /// Some image is on its way.
    Processing,
    /// Every image has ended, at least one with a result.
    Completed,
    /// Every image has ended without a result, or the task as a whole was refused.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl TaskStatus {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A task as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskAnswer {
    /// The task.
    pub task_id: Uuid,
    /// Where it stands.
    pub status: TaskStatus,
    /// When it was accepted.
    pub submitted_at: DateTime<Utc>,
    /// When its last image ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// What was asked for.
    pub options: TaskOptions,
    /// One per image, in the order of the request.
    pub results: Vec<ImageAnswer>,
    /// Counts and times.
    pub summary: TaskSummary,
    /// Why the task as a whole failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// One image of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageAnswer {
    /// The image.
    pub image_id: Uuid,
    /// Its place in the request, from 0.
    pub index: u32,
    /// `pending`, `completed`, `failed` or `cancelled`.
    pub status: TaskStatus,
    /// Its name, where the sender gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which version of the picture it is: 1, or more where it repeats another one's original.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The image that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_of: Option<RepeatOf>,
    /// Where it came from: the sender's address, or this server's address of the upload.
    pub original_url: String,
    /// Where the finished picture is, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    /// Where its thumbnail is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail_url: Option<String>,
    /// Where its alpha matte is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha_url: Option<String>,
    /// What was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ImageMetadata>,
    /// Why it has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// Every version of a picture, the first one first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionsAnswer {
    /// The versions.
    pub versions: Vec<VersionAnswer>,
}

/// One version of a picture: an image of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionAnswer {
    /// The task.
    pub task_id: Uuid,
    /// When the task was accepted.
    pub submitted_at: DateTime<Utc>,
    /// What was asked for.
    pub options: TaskOptions,
    /// The image.
    #[serde(flatten)]
    pub image: ImageAnswer,
}

/// What was found about a finished image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageMetadata {
    /// What it was treated as.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// How sure the classifier was, 0 to 1.
    pub confidence: f32,
    /// Work of all stages on this image, in milliseconds.
    pub processing_time: f64,
    /// Size of the finished picture.
    pub dimensions: Dimensions,
    /// Length of the finished file in bytes.
    pub bytes: u64,
    /// Media type of the finished file.
    pub media_type: String,
    /// The matting model.
    pub model: ModelUse,
    /// How the matte was made, and what was measured on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matting: Option<Matting>,
    /// Each stage's share.
    pub stages: Vec<StageTiming>,
    /// Where in the finished picture the subject is; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectBox>,
    /// What became of the shadow, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowOutcome>,
}

/// Size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dimensions {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Counts and times of a task. Once it has ended, `successCount` + `failureCount` + `cancelledCount` = `totalImages`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskSummary {
    /// Images in the request.
    pub total_images: u32,
    /// Images with a result.
    pub success_count: u32,
    /// Images that failed.
    pub failure_count: u32,
    /// Images that the task's cancelling stopped. Absent from events of before there was cancelling.
    #[serde(default)]
    pub cancelled_count: u32,
    /// Work of all stages on all images, in milliseconds.
    pub total_processing_time: f64,
}

/// A page of tasks, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskAnswer>,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An error as the API answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorAnswer {
    /// The task, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Uuid>,
    /// Always `failed`.
    pub status: TaskStatus,
    /// What went wrong.
    pub error: ErrorBody,
}

impl ErrorAnswer {
    /// An answer about `error`.
    pub fn new(task_id: Option<Uuid>, error: ErrorBody) -> Self {
        Self {
            task_id,
            status: TaskStatus::Failed,
            error,
        }
    }
}
