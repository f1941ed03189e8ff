//! `atelier cutout`: the same stages, in this process, without log or ledger.
//!
//! Invariants: at most a handful of pictures are in memory at once; a result is written under a temporary name and
//! renamed, so that a file that is there is whole; each picture that fails is one line on standard error.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, Read as _, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, bail};
use atelier_runtime::{LocalOptions, LocalPipeline, OutRecord, SystemClock, local::read_event};
use atelier_schemas::{
    Background, BlobKey, BlobRef, Event, ImageSource, OutputOptions, Priority, TaskOptions,
    TaskRequest, Trimap, Watermark,
    envelope::image_id,
    events::ImageResult,
    output::{Channels, Crop},
    shadow::Shadow,
    watermark::{Blend, InvisibleMark, Tile},
};
use atelier_stores::{Blobs, blobs::MemoryBlobs};
use chrono::Utc;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    cli::{CutoutArgs, MarkArgs},
    config::Loaded,
    pipeline::{self, CutoutPlan},
};

mod files;

use files::{Destination, Job};

/// Messages that wait before each stage: enough to keep the model busy, few enough to keep memory small.
const QUEUE_CAPACITY: usize = 4;

/// Cuts out what the arguments name; fails unless every picture worked.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded, arguments: CutoutArgs) -> anyhow::Result<ExitCode> {
    let options = options_of(&arguments)?;
    let (jobs, mut failures) = files::jobs(&arguments)?;
    for failure in &failures {
        eprintln!("{failure}");
    }
    let to_standard_output = |job: &Job| job.destination.path().is_none();
    if arguments.report && jobs.iter().any(to_standard_output) {
        bail!("--report and a picture would mix on standard output: give --output");
    }
    if jobs.is_empty() {
        if failures.is_empty() {
            bail!(
                "there is no picture in what was given; pictures end in {}",
                files::EXTENSIONS.join(", ")
            );
        }
        return Ok(ExitCode::FAILURE);
    }
    let started = Instant::now();
    let mut session = Session::start(loaded, options, &arguments, jobs.len()).await?;
    let progress = progress_bar(jobs.len());
    let total = jobs.len();
    failures.extend(session.work(jobs, &progress).await?);
    progress.finish_and_clear();
    let failed = failures.len();
    if total > 1 {
        let seconds = started.elapsed().as_secs_f64();
        eprintln!(
            "{} cut out, {failed} failed, {seconds:.1} s",
            total - failed.min(total)
        );
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn options_of(arguments: &CutoutArgs) -> anyhow::Result<TaskOptions> {
    let background = if Path::new(&arguments.background).is_file() {
        // Read and stored once the store exists.
        Background::Transparent
    } else {
        match Background::from_text(&arguments.background) {
            Ok(Background::Url(url)) => {
                bail!("--background {url}: fetch the picture and give its path")
            }
            Ok(background) => background,
            Err(reason) => bail!("--background: {reason}; a picture's path must exist"),
        }
    };
    if !(0.0..=20.0).contains(&arguments.edge_smoothing) {
        bail!(
            "--edge-smoothing {}: give 0 to 20 pixels",
            arguments.edge_smoothing
        );
    }
    Ok(TaskOptions {
        kind: arguments.kind.into(),
        quality: arguments.quality.into(),
        model: arguments.model.clone(),
        subject: arguments.subject,
        watermark: watermark_of(&arguments.mark)?,
        roi: arguments.roi,
        output: OutputOptions {
            format: arguments.format.into(),
            background,
            encoding_quality: arguments.encoding_quality,
            edge_smoothing_px: arguments.edge_smoothing,
            crop: if arguments.crop.is_some() {
                Crop::Subject
            } else {
                Crop::None
            },
            crop_margin: arguments.crop,
            max_bytes: arguments.max_bytes,
            size: arguments.size,
            scale: arguments.scale,
            position: arguments.position,
            shadow: Shadow {
                kind: arguments.shadow.into(),
                ..Shadow::default()
            },
            channels: if arguments.only_mask {
                Channels::Alpha
            } else {
                Channels::Rgba
            },
            ..OutputOptions::default()
        },
    })
}

/// The mark that the arguments ask for, but for its picture, which is stored once the store exists.
fn watermark_of(arguments: &MarkArgs) -> anyhow::Result<Option<Watermark>> {
    let is_visible = arguments.picture.is_some() || arguments.text.is_some();
    if !is_visible && arguments.invisible_mark.is_none() {
        let looks = arguments.position.is_some()
            || arguments.opacity.is_some()
            || arguments.scale.is_some()
            || arguments.tile.is_some()
            || arguments.blend != Blend::Normal;
        if looks {
            bail!("there is nothing to mark with: give --watermark or --watermark-text");
        }
        return Ok(None);
    }
    let tile = arguments.tile.map(|angle_degrees| Tile {
        angle_degrees,
        ..Tile::default()
    });
    let payload = arguments.invisible_mark.clone();
    let watermark = Watermark {
        text: arguments.text.clone(),
        text_color: arguments.color.clone(),
        position: arguments.position,
        opacity: arguments.opacity,
        scale: arguments.scale,
        tile,
        blend: arguments.blend,
        invisible: payload.map(|payload| InvisibleMark { payload }),
        ..Watermark::default()
    };
    // Without its picture, a mark may look like none at all.
    let fault = watermark.check().err();
    let fault = fault.filter(|fault| arguments.picture.is_none() || !fault.pointer.is_empty());
    if let Some(fault) = fault {
        bail!(
            "the watermark{}: {}",
            fault.pointer.replace('/', " "),
            fault.message
        );
    }
    Ok(Some(watermark))
}

fn progress_bar(total: usize) -> ProgressBar {
    if total < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} pictures, {eta} left {wide_msg}");
    ProgressBar::new(total as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The stages at work.
struct Session {
    blobs: Arc<MemoryBlobs>,
    pipeline: LocalPipeline,
    records: mpsc::UnboundedReceiver<OutRecord>,
    options: TaskOptions,
    /// Whether each picture is to have a line about it on standard output.
    reports: bool,
}

/// What is under way: the job, and the blobs that it holds.
struct UnderWay {
    job: Job,
    held: Vec<BlobKey>,
}

impl Session {
    async fn start(
        loaded: &Loaded,
        mut options: TaskOptions,
        arguments: &CutoutArgs,
        pictures: usize,
    ) -> anyhow::Result<Self> {
        let blobs = Arc::new(MemoryBlobs::new());
        let background = &arguments.background;
        if Path::new(background).is_file() {
            let bytes = std::fs::read(background)
                .with_context(|| format!("{background} cannot be read"))?;
            options.output.background = Background::Blob(store(&blobs, bytes).await?);
        }
        if let (Some(path), Some(watermark)) = (&arguments.mark.picture, &mut options.watermark) {
            let bytes = std::fs::read(path)
                .with_context(|| format!("--watermark {} cannot be read", path.display()))?;
            watermark.blob = Some(store(&blobs, bytes).await?);
        }
        let as_port: Arc<dyn Blobs> = blobs.clone();
        let plan = CutoutPlan {
            options: &options,
            pictures,
            has_trimaps: arguments.trimap.is_some(),
            reports: arguments.report,
        };
        let stages = pipeline::stages_for_cutout(loaded, &as_port, &plan).await?;
        let local = LocalOptions {
            clock: Arc::new(SystemClock),
            queue_capacity: QUEUE_CAPACITY,
            max_in_flight: pipeline::in_flight(loaded)?,
            ..LocalOptions::default()
        };
        let (pipeline, records) = LocalPipeline::start(stages, &local);
        Ok(Self {
            blobs,
            pipeline,
            records,
            options,
            reports: arguments.report,
        })
    }

    /// Works every job; answers with a line per failure, each of which has been printed.
    async fn work(
        &mut self,
        jobs: Vec<Job>,
        progress: &ProgressBar,
    ) -> anyhow::Result<Vec<String>> {
        let mut under_way: HashMap<Uuid, UnderWay> = HashMap::new();
        let mut failures = Vec::new();
        let mut say = |failure: String| {
            progress.suspend(|| eprintln!("{failure}"));
            failures.push(failure);
        };
        let mut waiting = jobs.into_iter();
        // As many as fill the first queues; every end lets another one in.
        loop {
            while under_way.len() < 2 * QUEUE_CAPACITY {
                let Some(job) = waiting.next() else { break };
                match self.submit(&job).await {
                    Ok((task, held)) => {
                        under_way.insert(task, UnderWay { job, held });
                    }
                    Err(error) => {
                        say(format!("{}: {error:#}", job.label()));
                        progress.inc(1);
                    }
                }
            }
            if under_way.is_empty() {
                return Ok(failures);
            }
            let record = self
                .records
                .recv()
                .await
                .context("the stages stopped by themselves: this is a defect")?;
            let Some((task, end)) = self.observe(&record, &mut under_way) else {
                continue;
            };
            let Some(done) = under_way.remove(&task) else {
                continue;
            };
            let outcome = match end {
                End::Done(result) => self.finish(&done.job, &result).await,
                End::Failed(reason) => Err(anyhow::anyhow!(reason)),
            };
            for key in &done.held {
                self.blobs.release(key);
            }
            if let Err(error) = outcome {
                say(format!("{}: {error:#}", done.job.label()));
            }
            progress.inc(1);
        }
    }

    /// Answers with the task, and the blobs that it holds.
    async fn submit(&self, job: &Job) -> anyhow::Result<(Uuid, Vec<BlobKey>)> {
        let bytes = match &job.source {
            Some(path) => tokio::fs::read(path).await.context("cannot be read")?,
            None => tokio::task::spawn_blocking(|| {
                let mut bytes = Vec::new();
                std::io::stdin()
                    .lock()
                    .read_to_end(&mut bytes)
                    .map(|_| bytes)
            })
            .await?
            .context("standard input cannot be read")?,
        };
        let trimap = match &job.trimap {
            Some(path) => {
                let unreadable = || format!("its trimap {} cannot be read", path.display());
                let bytes = tokio::fs::read(path).await.with_context(unreadable)?;
                Some(store(&self.blobs, bytes).await?)
            }
            None => None,
        };
        let blob = store(&self.blobs, bytes).await?;
        let held = [Some(&blob), trimap.as_ref()].into_iter().flatten();
        let held = held.map(|blob| blob.key.clone()).collect();
        let task = Uuid::new_v4();
        let request = TaskRequest {
            task_id: Some(task),
            images: vec![ImageSource {
                name: Some(job.label()),
                blob: Some(blob),
                trimap: trimap.map(|blob| Trimap {
                    url: None,
                    blob: Some(blob),
                }),
                ..ImageSource::default()
            }],
            kind: None,
            quality: None,
            watermark: None,
            options: Some(self.options.clone()),
            callback: None,
            deadline: None,
            priority: Priority::default(),
        };
        self.pipeline.submit(request).await?;
        Ok((task, held))
    }

    /// Notes which blobs a picture holds, and whether it has ended.
    fn observe(
        &self,
        record: &OutRecord,
        under_way: &mut HashMap<Uuid, UnderWay>,
    ) -> Option<(Uuid, End)> {
        let (envelope, event) = read_event(record, Utc::now()).ok()?;
        let task = event.task_id()?;
        let current = under_way.get_mut(&task)?;
        match event {
            Event::ImagePreprocessed(preprocessed) => {
                // Nobody reads the file again.
                current
                    .held
                    .drain(..)
                    .for_each(|key| self.blobs.release(&key));
                let trimap = preprocessed.trimap.map(|blob| blob.key);
                current.held.extend(trimap);
                current.held.push(preprocessed.pixels.key);
            }
            Event::ImageMatted(matted) => {
                let foreground = matted.foreground.map(|blob| blob.key);
                current.held.extend(foreground);
                current.held.push(matted.alpha.key);
            }
            Event::ImageComposed(composed) => {
                current.held.extend(
                    [&composed.alpha, &composed.thumbnail, &composed.result]
                        .map(|blob| blob.key.clone()),
                );
                let result = composed.to_result(&envelope.timings);
                return Some((task, End::Done(Box::new(result))));
            }
            Event::StageFailed(failed)
                if failed
                    .image_id
                    .is_none_or(|image| image == image_id(task, 0)) =>
            {
                let suggestion = failed
                    .error
                    .details
                    .suggestions
                    .first()
                    .map(|text| format!(" ({text})"));
                return Some((
                    task,
                    End::Failed(format!(
                        "{}{}",
                        failed.error.message,
                        suggestion.unwrap_or_default()
                    )),
                ));
            }
            _ => {}
        }
        None
    }

    /// Writes the picture, and says what was found where that was asked for.
    async fn finish(&self, job: &Job, result: &ImageResult) -> anyhow::Result<()> {
        self.write(job, &result.result).await?;
        if self.reports {
            let line = serde_json::json!({
                "picture": job.label(),
                "result": job.destination.path(),
                "metadata": result.metadata,
            });
            writeln!(std::io::stdout().lock(), "{line}")
                .context("standard output cannot be written")?;
        }
        Ok(())
    }

    async fn write(&self, job: &Job, result: &BlobRef) -> anyhow::Result<()> {
        let bytes = self.blobs.get(&result.key).await?;
        match &job.destination {
            Destination::StandardOutput => {
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes)
                    .and_then(|()| out.flush())
                    .context("standard output cannot be written")
            }
            Destination::File(path) => {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
                let unwritable = || format!("{} cannot be written", path.display());
                let mut file = tempfile::NamedTempFile::new_in(folder).with_context(unwritable)?;
                file.write_all(&bytes).with_context(unwritable)?;
                files::make_readable(&file).with_context(unwritable)?;
                file.persist(path).with_context(unwritable)?;
                Ok(())
            }
        }
    }
}

enum End {
    Done(Box<ImageResult>),
    Failed(String),
}

async fn store(blobs: &MemoryBlobs, bytes: Vec<u8>) -> anyhow::Result<BlobRef> {
    let length = bytes.len() as u64;
    let key = blobs.put(bytes.into()).await?;
    let media_type = "application/octet-stream".to_owned();
    Ok(BlobRef {
        key,
        media_type,
        bytes: length,
        width: 0,
        height: 0,
    })
}
