//! Tasks, results and failures that the clauses speak of.

use atelier_schemas::{
    BlobKey, BlobRef, ErrorBody, ErrorCode, Event, ImageSource, Kind, Priority, StageTiming,
    TaskOptions, TaskRequest, Trimap,
    answer::{Dimensions, ImageMetadata},
    envelope::image_id,
    events::{
        Classification, Evidence, ImageContext, ImageResult, ModelUse, Strategy, TaskAccepted,
    },
    request::RepeatOf,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::ledger::{Effect, NewTask};

/// A task of `image_count` images; the odd ones were uploaded, each with a trimap.
#[derive(Clone, Debug)]
pub(in crate::contract) struct Sample {
    pub task_id: Uuid,
    pub image_count: u32,
}

impl Sample {
    pub(in crate::contract) fn new(image_count: u32) -> Self {
        Self {
            task_id: Uuid::new_v4(),
            image_count,
        }
    }

    pub(in crate::contract) fn submitted_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(1_790_000_000_123_456).unwrap()
    }

    pub(in crate::contract) fn sources(&self) -> Vec<ImageSource> {
        (0..self.image_count)
            .map(|index| ImageSource {
                url: (index % 2 == 0).then(|| format!("https://shop.example/{index}.jpg")),
                name: Some(format!("shirt \"{index}\" 衬衫.jpg")),
                size: None,
                blob: (index % 2 == 1).then(|| blob("original", index)),
                repeat_of: None,
                trimap: (index % 2 == 1).then(|| Trimap {
                    url: None,
                    blob: Some(blob("trimap", index)),
                }),
            })
            .collect()
    }

    pub(in crate::contract) fn options(&self) -> TaskOptions {
        TaskOptions {
            model: Some("u2netp".to_owned()),
            ..TaskOptions::default()
        }
    }

    pub(in crate::contract) fn new_task(&self, fingerprint: &str) -> NewTask {
        NewTask {
            task_id: self.task_id,
            request: TaskRequest {
                task_id: Some(self.task_id),
                images: self.sources(),
                kind: None,
                quality: None,
                watermark: None,
                options: Some(self.options()),
                callback: None,
                deadline: None,
                priority: Priority::default(),
            },
            submitted_at: self.submitted_at(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            fingerprint: fingerprint.to_owned(),
        }
    }

    pub(in crate::contract) fn accepted(&self) -> Effect {
        Effect::Accepted(TaskAccepted {
            task_id: self.task_id,
            options: self.options(),
            images: self.sources(),
            submitted_at: self.submitted_at(),
        })
    }

    pub(in crate::contract) fn image(&self, index: u32) -> Uuid {
        image_id(self.task_id, index)
    }

    pub(in crate::contract) fn context(&self, index: u32) -> ImageContext {
        ImageContext {
            task_id: self.task_id,
            image_id: self.image(index),
            index,
            image_count: self.image_count,
            source: self.sources().swap_remove(index as usize),
            options: self.options(),
            submitted_at: self.submitted_at(),
        }
    }

    pub(in crate::contract) fn completed(&self, index: u32) -> Effect {
        Effect::ImageCompleted {
            image: self.context(index),
            result: result(index),
        }
    }

    pub(in crate::contract) fn image_failed(&self, index: u32) -> Effect {
        Effect::Failed {
            task_id: self.task_id,
            image_id: Some(self.image(index)),
            error: error("broken picture"),
        }
    }

    pub(in crate::contract) fn cancelled(&self) -> Effect {
        Effect::Cancelled {
            task_id: self.task_id,
            error: error("nobody wants it any more"),
        }
    }

    pub(in crate::contract) fn task_failed(&self) -> Effect {
        Effect::Failed {
            task_id: self.task_id,
            image_id: None,
            error: error("the request does not hold"),
        }
    }
}

/// A task that repeats images of others, each given with the index that its original has in the samples.
pub(in crate::contract) struct Repeat {
    pub task: Sample,
    pub sources: Vec<ImageSource>,
}

impl Repeat {
    pub(in crate::contract) fn of(images: &[(&Sample, u32, u32)]) -> Self {
        let source = |(task, index, original): &(&Sample, u32, u32)| ImageSource {
            blob: Some(blob("original", *original)),
            repeat_of: Some(RepeatOf {
                task_id: task.task_id,
                image_id: task.image(*index),
            }),
            ..ImageSource::default()
        };
        Self {
            task: Sample::new(u32::try_from(images.len()).unwrap()),
            sources: images.iter().map(source).collect(),
        }
    }

    /// A repeat of all that this one repeats.
    pub(in crate::contract) fn again(&self) -> Self {
        let mut again = Self {
            task: Sample::new(self.task.image_count),
            sources: self.sources.clone(),
        };
        for (index, source) in (0..).zip(&mut again.sources) {
            source.repeat_of = Some(self.repeat_of(index));
        }
        again
    }

    /// What an image that repeats one of its images says.
    pub(in crate::contract) fn repeat_of(&self, index: u32) -> RepeatOf {
        RepeatOf {
            task_id: self.task.task_id,
            image_id: self.task.image(index),
        }
    }

    pub(in crate::contract) fn new_task(&self) -> NewTask {
        let mut task = self.task.new_task("repeat");
        task.request.images.clone_from(&self.sources);
        task
    }

    pub(in crate::contract) fn accepted(&self) -> Effect {
        Effect::Accepted(TaskAccepted {
            task_id: self.task.task_id,
            options: self.task.options(),
            images: self.sources.clone(),
            submitted_at: self.task.submitted_at(),
        })
    }

    pub(in crate::contract) fn completed(&self, index: u32) -> Effect {
        let image = ImageContext {
            source: self.sources[index as usize].clone(),
            ..self.task.context(index)
        };
        Effect::ImageCompleted {
            image,
            result: result(index),
        }
    }
}

pub(in crate::contract) fn error(message: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::UndecodableImage, "preprocess", "Sample", message)
}

pub(in crate::contract) fn blob(what: &str, index: u32) -> BlobRef {
    use sha2::{Digest as _, Sha256};
    BlobRef {
        key: BlobKey::from_digest(Sha256::digest(format!("{what} {index}")).into()),
        media_type: "image/png".to_owned(),
        bytes: 1_000 + u64::from(index),
        width: 640,
        height: 480,
    }
}

pub(in crate::contract) fn result(index: u32) -> ImageResult {
    // Sums of thirds depend on their order, and not every decimal reads back: both must not show.
    let third = f64::from(index + 1) / 3.0;
    ImageResult {
        original: blob("original", index),
        result: blob("result", index),
        thumbnail: blob("thumbnail", index),
        alpha: blob("alpha", index),
        metadata: ImageMetadata {
            kind: Kind::Product,
            confidence: 0.1 + index as f32 / 7.0,
            processing_time: third * 1e3,
            dimensions: Dimensions {
                width: 640,
                height: 480,
            },
            bytes: 1_000,
            media_type: "image/png".to_owned(),
            model: ModelUse {
                name: "u2netp".to_owned(),
                provider: "cpu".to_owned(),
                inference_ms: third,
                processor: "general".to_owned(),
                reused: false,
            },
            matting: None,
            stages: vec![StageTiming {
                stage: "matte".to_owned(),
                queue_ms: third,
                processing_time_ms: 0.1 + 0.2,
            }],
            subject: None,
            shadow: None,
        },
        classification: Classification {
            kind: Kind::Product,
            confidence: 0.3,
            forced: false,
            complexity: 0.7,
            strategy: Strategy::Segmentation,
            evidence: Evidence::default(),
        },
    }
}

/// What was told: for each event its kind, with the image's index where there is one.
pub(in crate::contract) fn names(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            Event::ImagePersisted(event) => format!("persisted {}", event.image.index),
            Event::ImageEnded(event) => format!("ended {} {}", event.index, event.status.as_str()),
            Event::ImageRepaired(event) => format!("repaired {}", event.index),
            Event::TaskEnded(event) => format!("task {}", event.status.as_str()),
            other => other.event_type().to_owned(),
        })
        .collect()
}
