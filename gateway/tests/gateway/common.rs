//! A gateway on a free port over real stores in a temporary folder, with a log in memory and a pipeline that the test plays.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use atelier_gateway::{
    Dependencies, Gateway, GatewayOptions, HealthCheck, QualityModel,
    log::{DeadLetter, EventLog, Line, LogError, LogRecord, Position, StageQueues},
};
use atelier_schemas::{
    BlobRef, Envelope, ErrorBody, ErrorCode, Event, ImageSource, Kind, StageTiming, TaskAnswer,
    answer::{Dimensions, ImageMetadata},
    envelope::image_id,
    event_id,
    events::{
        Classification, Evidence, ImageContext, ImageResult, ModelUse, StageCompleted, Strategy,
        TaskAccepted,
    },
};
use atelier_stores::{
    Blobs, BlobsOptions, Durability, Ledger, LedgerOptions,
    ledger::{Effect, OutboxRow},
    open_blobs, open_ledger,
};
use bytes::Bytes;
use chrono::Utc;
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PARTITIONS: i32 = 4;

/// A log in memory: `task-events`, and what was published.
#[derive(Clone)]
pub struct MemoryLog {
    records: Arc<watch::Sender<BTreeMap<i32, Vec<LogRecord>>>>,
    pub published: Arc<Mutex<Vec<OutboxRow>>>,
    pub down: Arc<AtomicBool>,
    pub queues: Arc<Mutex<Vec<StageQueues>>>,
    pub letters: Arc<Mutex<Vec<DeadLetter>>>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        let empty = (0..PARTITIONS)
            .map(|partition| (partition, Vec::new()))
            .collect();
        Self {
            records: Arc::new(watch::channel(empty).0),
            published: Arc::default(),
            down: Arc::default(),
            queues: Arc::default(),
            letters: Arc::default(),
        }
    }
}

impl MemoryLog {
    pub fn append(&self, event: &Event, parent: Uuid) -> (i32, i64) {
        let task_id = event.task_id().unwrap();
        let envelope = Envelope::root(
            "/atelier/test",
            event.event_type(),
            event_id(parent, "test", event.event_type()),
            task_id,
        );
        self.append_raw(
            partition_of(task_id),
            envelope.to_headers(),
            event.to_json().unwrap(),
        )
    }

    pub fn append_raw(
        &self,
        partition: i32,
        headers: Vec<(String, Vec<u8>)>,
        value: Vec<u8>,
    ) -> (i32, i64) {
        let mut place = (partition, 0);
        self.records.send_modify(|records| {
            let records = records.get_mut(&partition).unwrap();
            place.1 = records.len() as i64;
            records.push(LogRecord {
                partition,
                offset: place.1,
                headers,
                value,
                received: Utc::now(),
            });
        });
        place
    }

    fn check(&self) -> Result<(), LogError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(LogError::Unavailable {
                place: "memory".into(),
                reason: "switched off by the test".into(),
            });
        }
        Ok(())
    }
}

pub fn partition_of(task_id: Uuid) -> i32 {
    (task_id.as_u128() % PARTITIONS as u128) as i32
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn relay(
        &self,
        ledger: Arc<dyn Ledger>,
        poll: Duration,
        wake: Arc<Notify>,
        shutdown: CancellationToken,
    ) {
        while !shutdown.is_cancelled() {
            let rows = if self.check().is_ok() {
                ledger.outbox_pending(100).await.unwrap()
            } else {
                Vec::new()
            };
            let ids: Vec<Uuid> = rows.iter().map(|row| row.event_id).collect();
            self.published.lock().unwrap().extend(rows);
            if !ids.is_empty() {
                ledger.outbox_sent(&ids).await.unwrap();
            }
            tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep(poll) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn end(&self) -> Result<Position, LogError> {
        self.check()?;
        Ok(Position(
            self.records
                .borrow()
                .iter()
                .map(|(partition, records)| (*partition, records.len() as i64))
                .collect(),
        ))
    }

    fn tail(&self, from: Position) -> BoxStream<'static, Result<LogRecord, LogError>> {
        let receiver = self.records.subscribe();
        futures::stream::unfold(
            (receiver, from),
            |(mut receiver, mut position)| async move {
                loop {
                    let next = {
                        let records = receiver.borrow_and_update();
                        records.iter().find_map(|(partition, records)| {
                            records.get(position.next(*partition) as usize).cloned()
                        })
                    };
                    match next {
                        Some(record) => {
                            position.pass(record.partition, record.offset);
                            return Some((Ok(record), (receiver, position)));
                        }
                        None => receiver.changed().await.ok()?,
                    }
                }
            },
        )
        .boxed()
    }

    fn read(
        &self,
        from: Position,
        to: Position,
    ) -> BoxStream<'static, Result<LogRecord, LogError>> {
        let records = self.records.borrow();
        let found: Vec<_> =
            to.0.iter()
                .flat_map(|(partition, end)| {
                    records[partition].iter().filter(|record| {
                        record.offset >= from.next(*partition) && record.offset < *end
                    })
                })
                .cloned()
                .map(Ok)
                .collect();
        futures::stream::iter(found).boxed()
    }
}

#[async_trait]
impl Line for MemoryLog {
    async fn queues(&self) -> Result<Vec<StageQueues>, LogError> {
        self.check()?;
        Ok(self.queues.lock().unwrap().clone())
    }

    async fn dead_letters(
        &self,
        stage: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, LogError> {
        let letters = self.letters.lock().unwrap();
        Ok(letters
            .iter()
            .filter(|letter| stage.is_none_or(|stage| stage == letter.stage))
            .take(limit)
            .cloned()
            .collect())
    }

    async fn replay(&self, stage: &str, partition: i32, offset: i64) -> Result<Uuid, LogError> {
        let letters = self.letters.lock().unwrap();
        let found = letters.iter().find(|letter| {
            letter.stage == stage && letter.partition == partition && letter.offset == offset
        });
        found
            .and_then(|letter| letter.event_id)
            .ok_or(LogError::NoSuchRecord {
                topic: format!("{stage}-dead-letters"),
                partition,
                offset,
            })
    }
}

/// Stores that outlive the gateways over them.
pub struct Place {
    // Not every test binary looks into it; all need it to live as long as the stores in it.
    #[allow(dead_code)]
    pub folder: tempfile::TempDir,
    pub blobs: Arc<dyn Blobs>,
    pub ledger: Arc<dyn Ledger>,
    pub log: MemoryLog,
}

impl Place {
    pub async fn new() -> Self {
        Self::with_free(0).await
    }

    /// A place whose stores call the disk full below `min_free_bytes`.
    pub async fn with_free(min_free_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs_options = BlobsOptions {
            min_free_bytes,
            durability: Durability::Os,
            ..BlobsOptions::default()
        };
        let ledger_options = LedgerOptions {
            min_free_bytes,
            durability: Durability::Os,
            ..LedgerOptions::default()
        };
        let blobs = open_blobs(
            &format!("file://{}/blobs", folder.path().display()),
            &blobs_options,
        )
        .await
        .unwrap();
        let ledger = open_ledger(
            &format!("sqlite://{}/ledger.sqlite", folder.path().display()),
            &ledger_options,
        )
        .await
        .unwrap();
        Self {
            folder,
            blobs,
            ledger,
            log: MemoryLog::default(),
        }
    }

    pub fn dependencies(&self) -> Dependencies {
        Dependencies {
            blobs: Arc::clone(&self.blobs),
            ledger: Arc::clone(&self.ledger),
            log: Arc::new(self.log.clone()),
            line: Arc::new(self.log.clone()),
            checks: vec![HealthCheck::new("matte", || async { Ok(()) })],
            metrics: Arc::new(|| "# metrics\n".to_owned()),
            qualities: vec![QualityModel {
                name: "high".into(),
                model: "isnet-general-use".into(),
            }],
            bootstrap_servers: "127.0.0.1:9092".into(),
        }
    }

    pub async fn start(&self) -> Server {
        self.start_with(options()).await
    }

    pub async fn start_with(&self, options: GatewayOptions) -> Server {
        Server::start(options, self.dependencies()).await
    }

    /// Plays ingest and persist: the task is accepted, passes a stage, and every image ends, with a result or a reason.
    pub async fn finish(&self, task_id: Uuid, ends: &[End]) {
        let task = self.ledger.task(task_id).await.unwrap().unwrap();
        self.apply(task_id, Effect::Accepted(accepted_of(&task)))
            .await;
        for (index, end) in ends.iter().enumerate() {
            let image = image_context(&task, index as u32);
            let timing = StageTiming {
                stage: "matte".into(),
                queue_ms: 1.0,
                processing_time_ms: 40.0,
            };
            self.log.append(
                &StageCompleted {
                    task_id,
                    image_id: Some(image.image_id),
                    timing,
                }
                .into(),
                image.image_id,
            );
            let effect = match end {
                End::Result(result) => Effect::ImageCompleted {
                    image,
                    result: result.clone(),
                },
                End::Failure(error) => Effect::Failed {
                    task_id,
                    image_id: Some(image.image_id),
                    error: error.clone(),
                },
            };
            self.apply(image_id(task_id, index as u32), effect).await;
        }
    }

    /// Plays persist, for a task that somebody stopped.
    pub async fn cancel(&self, task_id: Uuid) {
        let error = ErrorBody::new(ErrorCode::Cancelled, "gateway", "Test", "it was stopped");
        self.apply(Uuid::new_v4(), Effect::Cancelled { task_id, error })
            .await;
    }

    async fn apply(&self, cause: Uuid, effect: Effect) {
        for event in self.ledger.apply(cause, effect).await.unwrap() {
            // What goes to other topics is of no concern here.
            if event.topic() == "task-events" {
                self.log.append(&event, cause);
            }
        }
        if let Some(Ok(task)) = self
            .ledger
            .task(cause)
            .await
            .transpose()
            .map(|task| Ok::<_, ()>(task.unwrap()))
        {
            self.log.append(&accepted_of(&task).into(), cause);
        }
    }

    /// A result whose finished picture is `picture`, a PNG of 2 × 2 pixels unless told otherwise.
    pub async fn result(&self, picture: &[u8], media_type: &str, size: (u32, u32)) -> End {
        let store = async |bytes: &[u8], media_type: &str| BlobRef {
            key: self.blobs.put(Bytes::copy_from_slice(bytes)).await.unwrap(),
            media_type: media_type.to_owned(),
            bytes: bytes.len() as u64,
            width: size.0,
            height: size.1,
        };
        End::Result(result_of(
            store(b"\x89PNG\r\n\x1a\n an original", "image/png").await,
            store(picture, media_type).await,
            store(b"RIFF....WEBP a thumbnail", "image/webp").await,
            store(&png(size.0, size.1, [255, 255, 255, 255]), "image/png").await,
        ))
    }
}

/// How an image ends.
#[allow(clippy::large_enum_variant)]
pub enum End {
    Result(ImageResult),
    Failure(ErrorBody),
}

impl End {
    pub fn failure(code: ErrorCode) -> Self {
        Self::Failure(ErrorBody::new(
            code,
            "ingest",
            "Test",
            "it was made to fail",
        ))
    }
}

pub fn png(width: u32, height: u32, pixel: [u8; 4]) -> Vec<u8> {
    let image = image::RgbaImage::from_pixel(width, height, image::Rgba(pixel));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn accepted_of(task: &TaskAnswer) -> TaskAccepted {
    TaskAccepted {
        task_id: task.task_id,
        options: task.options.clone(),
        images: task.results.iter().map(source_of).collect(),
        submitted_at: task.submitted_at,
    }
}

fn source_of(image: &atelier_schemas::answer::ImageAnswer) -> ImageSource {
    ImageSource {
        url: Some("https://a.example/1.jpg".into()),
        name: image.name.clone(),
        ..ImageSource::default()
    }
}

fn image_context(task: &TaskAnswer, index: u32) -> ImageContext {
    ImageContext {
        task_id: task.task_id,
        image_id: image_id(task.task_id, index),
        index,
        image_count: task.results.len() as u32,
        source: source_of(&task.results[index as usize]),
        options: task.options.clone(),
        submitted_at: task.submitted_at,
    }
}

fn result_of(
    original: BlobRef,
    result: BlobRef,
    thumbnail: BlobRef,
    alpha: BlobRef,
) -> ImageResult {
    let metadata = ImageMetadata {
        kind: Kind::Product,
        confidence: 0.9,
        processing_time: 40.0,
        dimensions: Dimensions {
            width: result.width,
            height: result.height,
        },
        bytes: result.bytes,
        media_type: result.media_type.clone(),
        model: ModelUse {
            name: "u2netp".into(),
            provider: "cpu".into(),
            inference_ms: 30.0,
            processor: "general".into(),
            reused: false,
        },
        matting: None,
        stages: vec![StageTiming {
            stage: "matte".into(),
            queue_ms: 1.0,
            processing_time_ms: 40.0,
        }],
        subject: None,
        shadow: None,
    };
    let classification = Classification {
        kind: Kind::Product,
        confidence: 0.9,
        forced: false,
        complexity: 0.2,
        strategy: Strategy::Segmentation,
        evidence: Evidence::default(),
    };
    ImageResult {
        original,
        result,
        thumbnail,
        alpha,
        metadata,
        classification,
    }
}

pub fn options() -> GatewayOptions {
    GatewayOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        drain_timeout_ms: 3_000,
        ..GatewayOptions::default()
    }
}

/// A gateway that runs.
pub struct Server {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), atelier_gateway::GatewayError>>,
}

impl Server {
    pub async fn start(options: GatewayOptions, deps: Dependencies) -> Self {
        let gateway = Gateway::bind(options, deps).await.unwrap();
        let address = gateway.address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(gateway.run(shutdown.clone()));
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        Self {
            address,
            client,
            shutdown,
            running,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        response.json().await.unwrap()
    }

    pub async fn post_json(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.client
            .post(self.url(path))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap()
    }

    pub async fn post_form(&self, path: &str, form: Form) -> reqwest::Response {
        self.client
            .post(self.url(path))
            .header("content-type", form.content_type())
            .body(form.end())
            .send()
            .await
            .unwrap()
    }

    /// Submits one address and answers with the task.
    pub async fn submit(&self) -> Uuid {
        let response = self
            .post_json("/api/v1/tasks", r#"{"images":["https://a.example/1.jpg"]}"#)
            .await;
        assert_eq!(response.status(), 202);
        task_id(&response.json().await.unwrap())
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.running)
            .await
            .expect("the gateway does not stop")
            .unwrap()
            .unwrap();
    }

    /// As `kill -9` does: nothing is finished.
    pub async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}

pub fn task_id(answer: &Value) -> Uuid {
    answer["taskId"]
        .as_str()
        .unwrap_or_else(|| panic!("no taskId in {answer}"))
        .parse()
        .unwrap()
}

/// A multipart form, written by hand so that it can be wrong.
pub struct Form {
    boundary: &'static str,
    body: Vec<u8>,
}

impl Form {
    pub fn new() -> Self {
        Self {
            boundary: "XatelierX",
            body: Vec::new(),
        }
    }

    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    pub fn text(self, name: &str, text: &str) -> Self {
        self.part(&format!("name=\"{name}\""), text.as_bytes())
    }

    pub fn file(self, name: &str, file_name: &str, bytes: &[u8]) -> Self {
        self.part(&format!("name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: application/octet-stream"), bytes)
    }

    pub fn part(mut self, disposition: &str, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(
            format!(
                "--{}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n",
                self.boundary
            )
            .as_bytes(),
        );
        self.body.extend_from_slice(bytes);
        self.body.extend_from_slice(b"\r\n");
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.body
            .extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        self.body
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it never came true that {what}");
}
