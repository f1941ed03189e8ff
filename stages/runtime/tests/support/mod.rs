//! What the runtime's tests and benches share: stages made of closures, and events of every hop of the pipeline.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod kafka;

use std::{marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use atelier_runtime::{
    AnyStage, Batch, Batching, Failure, FailureClass, Message, Outcome, Stage, StageInput,
};
use atelier_schemas::{
    BlobRef, ErrorBody, ErrorCode, Event, ImageSource, Kind, Priority, TaskOptions, TaskRequest,
    events::{
        Classification, Evidence, FIRST_VERSION, ImageClassified, ImageComposed, ImageContext,
        ImageIngested, ImageMatted, ImagePersisted, ImagePreprocessed, Measurements, ModelUse,
        Strategy,
    },
};
use chrono::DateTime;
use uuid::Uuid;

type Handler<I> = Box<dyn Fn(Batch<I>) -> Result<Vec<Outcome>, Failure> + Send + Sync>;

/// A stage made of a closure.
pub struct FnStage<I> {
    name: &'static str,
    batching: Batching,
    handler: Handler<I>,
    input: PhantomData<fn() -> I>,
}

/// A stage whose closure answers each message by itself.
pub fn each<I: StageInput>(
    name: &'static str,
    handler: impl Fn(&Message<I>) -> Outcome + Send + Sync + 'static,
) -> Arc<dyn AnyStage> {
    batches(name, Batching::single(), move |batch| {
        Ok(batch.iter().map(&handler).collect())
    })
}

/// A stage whose closure answers a whole batch.
pub fn batches<I: StageInput>(
    name: &'static str,
    batching: Batching,
    handler: impl Fn(Batch<I>) -> Result<Vec<Outcome>, Failure> + Send + Sync + 'static,
) -> Arc<dyn AnyStage> {
    Arc::new(FnStage {
        name,
        batching,
        handler: Box::new(handler),
        input: PhantomData,
    })
}

#[async_trait]
impl<I: StageInput> Stage for FnStage<I> {
    type Input = I;

    fn name(&self) -> &'static str {
        self.name
    }

    fn batching(&self) -> Batching {
        self.batching
    }

    async fn handle(&self, batch: Batch<I>) -> Result<Vec<Outcome>, Failure> {
        (self.handler)(batch)
    }
}

pub fn failure(class: FailureClass, message: &str) -> Failure {
    Failure {
        class,
        body: ErrorBody::new(ErrorCode::FetchFailed, "", "TestError", message),
    }
}

/// A task of one image per name.
pub fn task(names: &[&str]) -> TaskRequest {
    TaskRequest {
        task_id: Some(Uuid::new_v4()),
        images: names
            .iter()
            .map(|name| ImageSource {
                url: Some("https://pictures.example/1.jpg".into()),
                name: Some((*name).into()),
                ..ImageSource::default()
            })
            .collect(),
        kind: None,
        quality: None,
        watermark: None,
        options: None,
        callback: None,
        deadline: None,
        priority: Priority::default(),
    }
}

pub fn name_of(request: &TaskRequest) -> &str {
    request.images[0].name.as_deref().unwrap()
}

pub fn context(task_id: Uuid, index: u32) -> ImageContext {
    ImageContext {
        task_id,
        image_id: atelier_schemas::envelope::image_id(task_id, index),
        index,
        image_count: 1,
        source: ImageSource {
            url: Some("https://pictures.example/1.jpg".into()),
            ..ImageSource::default()
        },
        options: TaskOptions::default(),
        submitted_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
    }
}

fn blob() -> BlobRef {
    BlobRef {
        key: "0".repeat(64).parse().unwrap(),
        media_type: "image/png".into(),
        bytes: 1,
        width: 1,
        height: 1,
    }
}

pub fn ingested(task_id: Uuid, index: u32) -> ImageIngested {
    ImageIngested {
        image: context(task_id, index),
        original: blob(),
        background: None,
        watermark: None,
        trimap: None,
    }
}

fn classification() -> Classification {
    Classification {
        kind: Kind::Product,
        confidence: 1.0,
        forced: false,
        complexity: 0.0,
        strategy: Strategy::Segmentation,
        evidence: Evidence::default(),
    }
}

fn model() -> ModelUse {
    ModelUse {
        name: "none".into(),
        provider: "cpu".into(),
        inference_ms: 0.0,
        processor: "none".into(),
        reused: false,
    }
}

pub fn ingest_one(message: &Message<TaskRequest>) -> Outcome {
    Outcome::emit(ingested(message.envelope.correlation_id.unwrap(), 0))
}

pub fn preprocess_one(message: &Message<ImageIngested>) -> Outcome {
    let (image, original) = (message.data.image.clone(), blob());
    Outcome::emit(ImagePreprocessed {
        image,
        original,
        background: None,
        watermark: None,
        pixels: blob(),
        measurements: Measurements::default(),
        trimap: None,
    })
}

pub fn classify_one(message: &Message<ImagePreprocessed>) -> Outcome {
    let (image, original, measurements) =
        (message.data.image.clone(), blob(), Measurements::default());
    Outcome::emit(ImageClassified {
        image,
        original,
        background: None,
        watermark: None,
        pixels: blob(),
        measurements,
        classification: classification(),
        trimap: None,
    })
}

pub fn matte_one(message: &Message<ImageClassified>) -> Outcome {
    Outcome::emit(ImageMatted {
        image: message.data.image.clone(),
        original: blob(),
        background: None,
        watermark: None,
        pixels: blob(),
        measurements: Measurements::default(),
        classification: classification(),
        alpha: blob(),
        model: model(),
        matting: None,
        foreground: None,
    })
}

pub fn compose_one(message: &Message<ImageMatted>) -> Outcome {
    Outcome::emit(ImageComposed {
        image: message.data.image.clone(),
        original: blob(),
        measurements: Measurements::default(),
        classification: classification(),
        model: model(),
        matting: None,
        alpha: blob(),
        result: blob(),
        thumbnail: blob(),
        subject: None,
        shadow: None,
    })
}

/// What `persist` reads, as far as a no-op needs it: task events are none of its business here.
#[derive(Clone)]
pub struct Composed(pub ImageComposed);

impl StageInput for Composed {
    fn decode(
        envelope: &atelier_schemas::Envelope,
        value: &[u8],
    ) -> Result<Option<Self>, atelier_schemas::DecodeError> {
        match Event::decode(envelope, value)? {
            Event::ImageComposed(composed) => Ok(Some(Self(composed))),
            _ => Ok(None),
        }
    }
}

pub fn persist_one(message: &Message<Composed>) -> Outcome {
    let composed = &message.data.0;
    Outcome::emit(ImagePersisted {
        image: composed.image.clone(),
        version: FIRST_VERSION,
        result: composed.to_result(&message.envelope.timings),
    })
}

/// Every stage of the real pipeline, doing nothing.
pub fn no_op_pipeline() -> Vec<Arc<dyn AnyStage>> {
    vec![
        each("ingest", ingest_one),
        each("preprocess", preprocess_one),
        each("classify", classify_one),
        each("matte", matte_one),
        each("compose", compose_one),
        each("persist", persist_one),
    ]
}

/// What `ingest` reads: tasks, and from its retry topic single images.
#[derive(Clone)]
pub enum TaskOrImage {
    Task(Box<TaskRequest>),
    Image(Box<atelier_schemas::events::ImageRequested>),
}

impl StageInput for TaskOrImage {
    fn decode(
        envelope: &atelier_schemas::Envelope,
        value: &[u8],
    ) -> Result<Option<Self>, atelier_schemas::DecodeError> {
        match Event::decode(envelope, value)? {
            Event::TaskSubmitted(request) => Ok(Some(Self::Task(Box::new(request)))),
            Event::ImageRequested(requested) => Ok(Some(Self::Image(Box::new(requested)))),
            _ => Ok(None),
        }
    }

    fn task_id(&self) -> Option<Uuid> {
        match self {
            Self::Task(request) => request.task_id,
            Self::Image(requested) => Some(requested.image.task_id),
        }
    }
}

struct SlowUntil {
    name: &'static str,
    hangs: Arc<std::sync::atomic::AtomicBool>,
}

#[async_trait]
impl Stage for SlowUntil {
    type Input = TaskRequest;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn handle(&self, batch: Batch<TaskRequest>) -> Result<Vec<Outcome>, Failure> {
        while self.hangs.load(std::sync::atomic::Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(batch.iter().map(ingest_one).collect())
    }
}

/// A stage that does not come back while `hangs`.
pub fn slow_until(
    name: &'static str,
    hangs: Arc<std::sync::atomic::AtomicBool>,
) -> Arc<dyn AnyStage> {
    Arc::new(SlowUntil { name, hangs })
}
