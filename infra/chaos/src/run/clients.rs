//! Careful clients: each sends its task, and again, until it is told that the task is accepted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use axum::{Router, extract::Path, http::StatusCode, routing::get};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::system::System;
use crate::{
    check::Promise,
    plan::{Kind, Submission, Way},
};

const PAUSE: Duration = Duration::from_millis(200);
/// A gateway that stands still keeps its connections.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first task may take, while models are loaded.
const WARM_UP: Duration = Duration::from_secs(120);

/// All clients of a run.
pub(super) struct Clients {
    shared: Arc<Shared>,
    at_work: JoinSet<anyhow::Result<()>>,
    pictures: AbortHandle,
}

struct Shared {
    http: reqwest::Client,
    gateway: SocketAddr,
    pictures: SocketAddr,
    producer: FutureProducer,
    /// What was accepted, by the key of the submission.
    accepted: Mutex<HashMap<Uuid, Promise>>,
}

impl Clients {
    pub async fn start(system: &System) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let pictures = listener.local_addr()?;
        let served = Router::new().route("/{name}", get(picture));
        let serving = tokio::spawn(async move { axum::serve(listener, served).await });
        let producer = ClientConfig::new()
            .set("bootstrap.servers", system.bootstrap_servers()?)
            // An event that is sent again by this client is one event, however long it takes.
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("reconnect.backoff.max.ms", "1000")
            .create()?;
        let shared = Arc::new(Shared {
            http: reqwest::Client::builder()
                .timeout(REQUEST_TIMEOUT)
                .build()?,
            gateway: system.gateway,
            pictures,
            producer,
            accepted: Mutex::default(),
        });
        Ok(Self {
            shared,
            at_work: JoinSet::new(),
            pictures: serving.abort_handle(),
        })
    }

    /// Sends one task through everything: from then on, faults hit a system that works.
    pub async fn warm_up(&self) -> anyhow::Result<()> {
        let submission = Submission {
            key: Uuid::new_v4(),
            way: Way::Http,
            pictures: vec![Kind::Drawing(0)],
        };
        Arc::clone(&self.shared).submit(&submission).await?;
        let task = self.shared.task_of(submission.key).context("no task")?;
        let url = self.shared.task_url(task);
        let since = Instant::now();
        while since.elapsed() < WARM_UP {
            if let Ok(answer) = self.shared.http.get(&url).send().await
                && let Ok(body) = answer.json::<Value>().await
                && !["pending", "processing"]
                    .contains(&body["status"].as_str().unwrap_or("pending"))
            {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        bail!("the first task has no end within {} s", WARM_UP.as_secs())
    }

    /// Sends a task in the background.
    pub fn submit(&mut self, submission: Submission) {
        let shared = Arc::clone(&self.shared);
        self.at_work
            .spawn(async move { shared.submit(&submission).await });
    }

    /// Asks for a cancel in the background.
    pub fn cancel(&mut self, key: Uuid) {
        let shared = Arc::clone(&self.shared);
        self.at_work.spawn(async move { shared.cancel(key).await });
    }

    /// Waits until every client has its answer; answers with what they were promised. Their pictures can still be fetched.
    pub async fn finish(&mut self, patience: Duration) -> anyhow::Result<Vec<Promise>> {
        let all = async {
            while let Some(done) = self.at_work.join_next().await {
                done??;
            }
            anyhow::Ok(())
        };
        timeout(patience, all)
            .await
            .context("clients have no answer; the system does not come back")??;
        let accepted = self.shared.accepted();
        Ok(accepted.values().cloned().collect())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.pictures.abort();
    }
}

impl Shared {
    async fn submit(&self, submission: &Submission) -> anyhow::Result<()> {
        let task = match submission.way {
            Way::Http => self.upload(submission).await?,
            Way::Topic => {
                let address = |kind: &Kind| json!({ "url": format!("http://{}/{}", self.pictures, kind.name()) });
                let images: Vec<Value> = submission.pictures.iter().map(address).collect();
                let options = json!({ "quality": "low" });
                let body =
                    json!({ "taskId": submission.key, "images": images, "options": options });
                self.publish(submission.key, &body).await?
            }
            Way::UnreadableEvent => {
                let body = json!({ "taskId": submission.key, "images": "none" });
                self.publish(submission.key, &body).await?
            }
        };
        let promise = Promise {
            task,
            pictures: submission
                .pictures
                .iter()
                .map(|kind| kind.promise())
                .collect(),
        };
        self.accepted().insert(submission.key, promise);
        Ok(())
    }

    /// Sends the request under one key until the gateway says that it has the task.
    async fn upload(&self, submission: &Submission) -> anyhow::Result<Uuid> {
        let url = format!("http://{}/api/v1/tasks", self.gateway);
        loop {
            let mut form = Form::new().text("options", json!({ "quality": "low" }).to_string());
            for kind in &submission.pictures {
                form = form.part("images", Part::bytes(kind.bytes()?).file_name(kind.name()));
            }
            let request = self
                .http
                .post(&url)
                .header("Idempotency-Key", submission.key.to_string());
            // No answer, or one that broke off: whether it has the task is not known.
            if let Ok(answer) = request.multipart(form).send().await {
                let status = answer.status();
                if status.is_success() {
                    if let Ok(body) = answer.json::<Value>().await
                        && let Some(task) = body["taskId"].as_str()
                    {
                        return Ok(task.parse()?);
                    }
                } else if !status.is_server_error() {
                    bail!(
                        "the gateway refused a task: {status} {}",
                        answer.text().await?
                    );
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// As an upstream system does it: CloudEvents headers and a JSON body. Returns once the log has it.
    async fn publish(&self, task: Uuid, body: &Value) -> anyhow::Result<Uuid> {
        let (key, value) = (task.to_string(), body.to_string());
        let headers = [
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            // One event for each task.
            ("ce_id", key.as_str()),
            ("ce_source", "/chaos"),
            ("ce_type", "atelier.task.submitted.v1"),
            ("ce_correlationid", key.as_str()),
        ];
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            });
        let record = FutureRecord::to("image-tasks")
            .key(&key)
            .payload(&value)
            .headers(headers);
        self.producer
            .send(record, Timeout::Never)
            .await
            .map_err(|(error, _)| error)
            .context("an event could not be published")?;
        Ok(task)
    }

    /// Asks until there is an answer: stopped, or too late.
    async fn cancel(&self, key: Uuid) -> anyhow::Result<()> {
        loop {
            if let Some(task) = self.task_of(key)
                && let Ok(answer) = self.http.delete(self.task_url(task)).send().await
                && !answer.status().is_server_error()
            {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    fn task_of(&self, key: Uuid) -> Option<Uuid> {
        self.accepted().get(&key).map(|promise| promise.task)
    }

    fn task_url(&self, task: Uuid) -> String {
        format!("http://{}/api/v1/tasks/{task}", self.gateway)
    }

    fn accepted(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Promise>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn picture(Path(name): Path<String>) -> Result<Vec<u8>, StatusCode> {
    let kind = Kind::named(&name).ok_or(StatusCode::NOT_FOUND)?;
    kind.bytes().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
