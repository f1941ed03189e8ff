//! One picture through the whole pipeline, as a user would send it.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use atelier_schemas::{TaskAnswer, TaskStatus};
use tokio_util::sync::CancellationToken;

const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(120);

/// Sends it by HTTP, waits for its end and prints where the cut-out is and how long each stage took.
pub async fn send(
    address: SocketAddr,
    picture: &Path,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let bytes = tokio::fs::read(picture)
        .await
        .with_context(|| format!("the sample {} cannot be read", picture.display()))?;
    let name = picture
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()?;
    let tasks = format!("http://{address}/api/v1/tasks");
    let part = reqwest::multipart::Part::bytes(bytes).file_name(name.clone());
    let form = reqwest::multipart::Form::new().part("images", part);
    let answer = client.post(&tasks).multipart(form).send().await?;
    if !answer.status().is_success() {
        bail!(
            "the gateway refused the sample: {} {}",
            answer.status(),
            answer.text().await.unwrap_or_default()
        );
    }
    let mut task: TaskAnswer = answer.json().await?;
    eprintln!("           the sample {name} is task {}", task.task_id);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !task.status.is_terminal() {
        if tokio::time::Instant::now() > deadline {
            bail!(
                "the sample did not end within {} s; see the log above and /health/ready",
                PATIENCE.as_secs()
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(POLL) => {}
        }
        task = client
            .get(format!("{tasks}/{}", task.task_id))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
    }
    report(address, &task)
}

fn report(address: SocketAddr, task: &TaskAnswer) -> anyhow::Result<()> {
    let image = task
        .results
        .first()
        .context("the sample's task has no image")?;
    if image.status != TaskStatus::Completed {
        let reason = image
            .error
            .as_ref()
            .or(task.error.as_ref())
            .map_or("no reason", |error| error.message.as_str());
        bail!("the sample failed: {reason}");
    }
    let metadata = image
        .metadata
        .as_ref()
        .context("the sample's result has no metadata")?;
    for timing in &metadata.stages {
        eprintln!(
            "           {:<11} {:8.1} ms, after {:6.1} ms in the queue",
            timing.stage, timing.processing_time_ms, timing.queue_ms
        );
    }
    let result = image
        .result_url
        .as_deref()
        .context("the sample's result has no address")?;
    eprintln!("           its cut-out is at http://{address}{result}");
    Ok(())
}
