//! The stage: decode → fetch and check → fan out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use atelier_runtime::{
    Batch, Emission, Failure, FailureClass, Message, Outcome, Stage, StageFailure as _, StageInput,
};
use atelier_schemas::{
    Background, BlobRef, DecodeError, Envelope, ImageSource, Priority, TaskOptions, TaskRequest,
    Trimap,
    envelope::image_id,
    events::{ImageContext, ImageIngested, ImageRequested, Payload as _, TaskAccepted},
    from_json,
    request::ValidRequest,
};
use atelier_stores::Blobs;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    Fetcher, IngestError, IngestOptions, Resolver, SystemResolver, fetch::ClientError, header,
};

/// How many backgrounds and marks are remembered, and how long: the pictures of one task that go on one by one share theirs.
const REMEMBERED_COMPANIONS: u64 = 1_000;
const COMPANION_MEMORY: Duration = Duration::from_secs(600);

/// What the stage reads.
#[derive(Clone, Debug)]
pub enum IngestInput {
    /// A task.
    Task(Box<TaskRequest>),
    /// One picture of a task that was accepted before.
    Image(Box<ImageRequested>),
}

impl StageInput for IngestInput {
    fn decode(envelope: &Envelope, value: &[u8]) -> Result<Option<Self>, DecodeError> {
        match envelope.event_type.as_str() {
            TaskRequest::EVENT_TYPE => {
                from_json(value).map(|task| Some(Self::Task(Box::new(task))))
            }
            ImageRequested::EVENT_TYPE => {
                from_json(value).map(|image| Some(Self::Image(Box::new(image))))
            }
            other => Err(DecodeError::UnknownType {
                found: other.chars().take(80).collect(),
                expected: format!(
                    "{}, {}",
                    TaskRequest::EVENT_TYPE,
                    ImageRequested::EVENT_TYPE
                ),
            }),
        }
    }

    fn task_id(&self) -> Option<Uuid> {
        match self {
            Self::Task(request) => request.task_id,
            Self::Image(requested) => Some(requested.image.task_id),
        }
    }

    fn deadline(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Task(request) => request.deadline,
            // Its envelope has the task's.
            Self::Image(_) => None,
        }
    }

    fn priority(&self) -> Priority {
        match self {
            Self::Task(request) => request.priority,
            Self::Image(_) => Priority::Interactive,
        }
    }
}

/// The stage `ingest`.
pub struct Ingest {
    blobs: Arc<dyn Blobs>,
    fetcher: Fetcher,
    options: IngestOptions,
    fetches: Semaphore,
    companions: Cache<(Uuid, String), BlobRef>,
}

/// What goes with every picture of a task.
#[derive(Clone)]
struct Companions {
    background: Option<BlobRef>,
    watermark: Option<BlobRef>,
}

impl Ingest {
    /// The stage over `blobs`, with the system's resolver.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(options: IngestOptions, blobs: Arc<dyn Blobs>) -> Result<Self, ClientError> {
        Self::with_resolver(options, blobs, Arc::new(SystemResolver))
    }

    /// The stage over `blobs`, with another resolver.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn with_resolver(
        options: IngestOptions,
        blobs: Arc<dyn Blobs>,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, ClientError> {
        let fetcher = Fetcher::new(options.fetch.clone(), options.max_bytes, resolver)?;
        let fetches = Semaphore::new(options.max_concurrent.max(1));
        let companions = Cache::builder()
            .max_capacity(REMEMBERED_COMPANIONS)
            .time_to_live(COMPANION_MEMORY)
            .build();
        Ok(Self {
            blobs,
            fetcher,
            options,
            fetches,
            companions,
        })
    }

    async fn handle_task(&self, envelope: &Envelope, request: TaskRequest) -> Outcome {
        let begun_at = Instant::now();
        let ValidRequest {
            task_id,
            images,
            options,
            ..
        } = match request.validate(self.name()) {
            Ok(valid) => valid,
            Err(body) => {
                return Outcome::Reject(Failure {
                    class: FailureClass::Permanent,
                    body: *body,
                });
            }
        };
        let accepted = TaskAccepted {
            task_id: task_id
                .or(envelope.correlation_id)
                .unwrap_or_else(|| task_id_of(envelope.id)),
            options,
            images,
            submitted_at: envelope.time,
        };
        let companions = match self.companions(accepted.task_id, &accepted.options).await {
            Ok(companions) => Ok(companions),
            // Nothing has gone out yet, so the task as a whole may wait.
            Err(error) if error.class() != FailureClass::Permanent => {
                return Outcome::failed(error);
            }
            Err(error) => Err(Failure::from(error)),
        };
        let contexts = contexts(&accepted);
        let mut emissions = vec![Emission::Event(accepted.into())];
        let companions = match companions {
            Ok(companions) => companions,
            Err(failure) => {
                let reject =
                    |image| Emission::Reject(ImageRequested { image }.into(), failure.clone());
                emissions.extend(contexts.into_iter().map(reject));
                return Outcome::Emit(emissions);
            }
        };
        let ends_at = begun_at + Duration::from_millis(self.options.task_budget_ms);
        let mut parts = stream::iter(contexts)
            .map(|image| self.image_in_time(image, companions.clone(), ends_at, envelope.priority))
            .buffered(self.options.max_concurrent_per_task.max(1));
        while let Some(part) = parts.next().await {
            match part {
                Ok(emission) => emissions.push(emission),
                // Every picture needs what is away: wait, and begin the task again.
                Err(unavailable) => return Outcome::Retry(unavailable),
            }
        }
        Outcome::Emit(emissions)
    }

    /// One picture of a task. Past `ends_at`, and where the task is bulk, it is left for later, by itself: each bulk picture is
    /// let in by itself, however many a task has.
    ///
    /// # Errors
    /// Only what every picture needs.
    async fn image_in_time(
        &self,
        image: ImageContext,
        companions: Companions,
        ends_at: Instant,
        priority: Priority,
    ) -> Result<Emission, Failure> {
        let trimap = image.source.trimap.as_ref();
        let is_fetched =
            image.source.url.is_some() || trimap.is_some_and(|trimap| trimap.url.is_some());
        let is_late = is_fetched && Instant::now() >= ends_at;
        // The first picture goes on whatever the budget, so that a task makes progress.
        if image.index > 0 && (is_late || priority == Priority::Bulk) {
            return Ok(Emission::Event(ImageRequested { image }.into()));
        }
        match self.picture(&image.source).await {
            Ok((original, trimap)) => Ok(Emission::Event(
                ImageIngested {
                    image,
                    original,
                    background: companions.background,
                    watermark: companions.watermark,
                    trimap,
                }
                .into(),
            )),
            Err(error) => {
                let failure = Failure::from(error);
                match failure.class {
                    FailureClass::Unavailable => Err(failure),
                    FailureClass::Transient => {
                        Ok(Emission::Retry(ImageRequested { image }.into(), failure))
                    }
                    FailureClass::Permanent => {
                        Ok(Emission::Reject(ImageRequested { image }.into(), failure))
                    }
                }
            }
        }
    }

    async fn handle_image(&self, requested: ImageRequested) -> Outcome {
        let image = requested.image;
        let companions = match self.companions(image.task_id, &image.options).await {
            Ok(companions) => companions,
            Err(error) => return Outcome::failed(error),
        };
        match self.picture(&image.source).await {
            Ok((original, trimap)) => Outcome::emit(ImageIngested {
                image,
                original,
                background: companions.background,
                watermark: companions.watermark,
                trimap,
            }),
            Err(error) => Outcome::failed(error),
        }
    }

    /// The picture and its trimap, where it has one.
    async fn picture(
        &self,
        source: &ImageSource,
    ) -> Result<(BlobRef, Option<BlobRef>), IngestError> {
        let original = self.image(source).await?;
        let trimap = match &source.trimap {
            Some(trimap) => {
                let taken = self.trimap(trimap, &original).await;
                Some(taken.map_err(|error| IngestError::Trimap(Box::new(error)))?)
            }
            None => None,
        };
        Ok((original, trimap))
    }

    /// A trimap whose header claims the size of `original`, upright or as it is stored: which of the two it has to be is known once
    /// both are decoded.
    async fn trimap(&self, trimap: &Trimap, original: &BlobRef) -> Result<BlobRef, IngestError> {
        let found = match (&trimap.blob, &trimap.url) {
            (Some(blob), _) => self.uploaded(blob).await?,
            (None, Some(url)) => self.fetched(url).await?,
            (None, None) => return Err(IngestError::NoSource),
        };
        let size = (found.width, found.height);
        if size != (original.width, original.height) && size != (original.height, original.width) {
            return Err(IngestError::OtherSize {
                width: found.width,
                height: found.height,
                expected_width: original.width,
                expected_height: original.height,
            });
        }
        Ok(found)
    }

    async fn image(&self, source: &ImageSource) -> Result<BlobRef, IngestError> {
        match (&source.blob, &source.url) {
            (Some(blob), _) => self.uploaded(blob).await,
            (None, Some(url)) => self.fetched(url).await,
            (None, None) => Err(IngestError::NoSource),
        }
    }

    async fn uploaded(&self, blob: &BlobRef) -> Result<BlobRef, IngestError> {
        let size = self
            .blobs
            .size(&blob.key)
            .await
            .map_err(IngestError::Blob)?;
        let bytes = size.ok_or_else(|| IngestError::UploadMissing(blob.key.clone()))?;
        header::inspect(&*self.blobs, &blob.key, bytes, &self.options).await
    }

    async fn fetched(&self, url: &str) -> Result<BlobRef, IngestError> {
        let fetched = {
            let _turn = self
                .fetches
                .acquire()
                .await
                .map_err(|_| IngestError::ShuttingDown)?;
            self.fetcher.fetch(url, &*self.blobs).await?
        };
        header::inspect(&*self.blobs, &fetched.key, fetched.bytes, &self.options).await
    }

    /// The picture to lay behind and the one to mark with.
    async fn companions(
        &self,
        task_id: Uuid,
        options: &TaskOptions,
    ) -> Result<Companions, IngestError> {
        let background = match &options.output.background {
            Background::Transparent
            | Background::Color(_)
            | Background::Gradient(_)
            | Background::Blur(_) => Ok(None),
            Background::Blob(blob) => self.uploaded(blob).await.map(Some),
            Background::Url(url) => self.fetched_once(task_id, url).await.map(Some),
        };
        let background = background.map_err(|error| IngestError::Background(Box::new(error)))?;
        let mark = options.watermark.as_ref();
        let watermark = match mark.map(|mark| (&mark.blob, &mark.url)) {
            Some((Some(blob), _)) => self.uploaded(blob).await.map(Some),
            Some((None, Some(url))) => self.fetched_once(task_id, url).await.map(Some),
            Some((None, None)) | None => Ok(None),
        };
        let watermark = watermark.map_err(|error| IngestError::Watermark(Box::new(error)))?;
        Ok(Companions {
            background,
            watermark,
        })
    }

    /// What many pictures of a task need, fetched once per task.
    async fn fetched_once(&self, task_id: Uuid, url: &str) -> Result<BlobRef, IngestError> {
        let remembered = (task_id, url.to_owned());
        match self.companions.get(&remembered) {
            Some(blob) => Ok(blob),
            None => self
                .fetched(url)
                .await
                .inspect(|blob| self.companions.insert(remembered, blob.clone())),
        }
    }
}

#[async_trait]
impl Stage for Ingest {
    type Input = IngestInput;

    fn name(&self) -> &'static str {
        "ingest"
    }

    async fn handle(&self, batch: Batch<IngestInput>) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for Message { envelope, data } in batch {
            outcomes.push(match data {
                IngestInput::Task(request) => self.handle_task(&envelope, *request).await,
                IngestInput::Image(requested) => self.handle_image(*requested).await,
            });
        }
        Ok(outcomes)
    }
}

/// The id of a task whose sender gave none: the same on every repeat of its event.
fn task_id_of(event_id: Uuid) -> Uuid {
    Uuid::new_v5(&event_id, b"task")
}

fn contexts(accepted: &TaskAccepted) -> Vec<ImageContext> {
    let image_count = u32::try_from(accepted.images.len()).unwrap_or(u32::MAX);
    let of_source = |(index, source): (u32, &ImageSource)| ImageContext {
        task_id: accepted.task_id,
        image_id: image_id(accepted.task_id, index),
        index,
        image_count,
        source: source.clone(),
        options: accepted.options.clone(),
        submitted_at: accepted.submitted_at,
    };
    (0..).zip(&accepted.images).map(of_source).collect()
}
