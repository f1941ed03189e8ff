//! The whole pipeline against a plain loop, against rembg, on real servers and when things go wrong, side by side in one run.
//! Prints figures, asserts nothing.
//!
//! `make bench` and `make bench-servers` run it; `cargo bench -p atelier --bench pipeline -- memory` only one of `throughput`,
//! `latency`, `telemetry`, `memory`, `rembg`, `servers`, `cancel`, `takeover` and `listeners`. `ATELIER_BENCH_PICTURES` (200),
//! `ATELIER_BENCH_ROUNDS` (3), and `REMBG`, the path of a rembg 2 command with `U2NET_HOME` set, choose what is measured.
//! Pictures come from `../shared/data` where it is there, else from `samples/`, repeated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod cancel;
mod listeners;
mod servers;
#[path = "../../tests/support/mod.rs"]
mod support;
mod takeover;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use atelier::{config::Loaded, pipeline::Assembly};
use atelier_models::Provider;
use atelier_runtime::{AnyStage, Emission, Outcome};
use atelier_schemas::{
    BlobKey, BlobRef, Envelope, Event, ImageSource, Priority, Quality, TaskOptions, TaskRequest,
    TaskStatus,
};
use atelier_servers::Collector;
use atelier_stores::{Blobs, blobs::MemoryBlobs};
use serde_json::json;
use support::{Installation, WORK_ON_EVERY_PICTURE};
use uuid::Uuid;

const IMAGES_PER_TASK: usize = 25;

fn main() {
    // The clients of `listeners` are a process of their own.
    if std::env::args().nth(1).as_deref() == Some(listeners::CLIENT) {
        return listeners::client();
    }
    let number = |name: &str, default: usize| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (count, rounds) = (
        number("ATELIER_BENCH_PICTURES", 200),
        number("ATELIER_BENCH_ROUNDS", 3),
    );
    let pictures = pictures(count);
    println!(
        "processor: {}, {} threads",
        processor(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    println!(
        "pictures: {} ({:.2} megapixels on average), model u2netp, provider {}\n",
        pictures.len(),
        megapixels(&pictures),
        Provider::best_here()
    );
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    if is_asked("throughput") {
        throughput(&pictures, rounds);
    }
    if is_asked("latency") {
        latency(&pictures);
    }
    if is_asked("telemetry") {
        telemetry(&pictures, rounds);
    }
    if is_asked("memory") {
        memory(&pictures);
    }
    if is_asked("rembg") {
        beside_rembg(&pictures, rounds);
    }
    if is_asked("servers") {
        servers::beside_embedded(&pictures, rounds);
    }
    if is_asked("cancel") {
        cancel::of_many();
    }
    if is_asked("takeover") {
        takeover::after_kill(rounds);
    }
    if is_asked("listeners") {
        listeners::of_one_gateway();
    }
}

fn pictures(count: usize) -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let mut found = Vec::new();
    for folder in ["photos8", "products"] {
        collect(&data.join(folder), &mut found);
    }
    if found.is_empty() {
        collect(&support::samples(), &mut found);
    }
    found.sort();
    found.iter().cycle().take(count).cloned().collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.to_string_lossy().to_lowercase();
        if path.is_dir() {
            collect(&path, found);
        } else if [".jpg", ".jpeg", ".png", ".webp"]
            .iter()
            .any(|extension| name.ends_with(extension))
        {
            found.push(path);
        }
    }
}

fn megapixels(pictures: &[PathBuf]) -> f64 {
    let pixels: f64 = pictures
        .iter()
        .filter_map(|path| image::image_dimensions(path).ok())
        .map(|(width, height)| f64::from(width) * f64::from(height))
        .sum();
    pixels / 1e6 / pictures.len() as f64
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default();
    line.split(':')
        .nth(1)
        .unwrap_or("unknown")
        .trim()
        .to_owned()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Pipeline and plain loop in turn; the ratio is that of each pair.
fn throughput(pictures: &[PathBuf], rounds: usize) {
    let plain = PlainLoop::new();
    plain.run(&pictures[..pictures.len().min(10)]);
    let mut installation = Installation::new(WORK_ON_EVERY_PICTURE);
    installation.start_up();
    run_pipeline(&installation, &pictures[..pictures.len().min(10)]);
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let loop_rate = pictures.len() as f64 / plain.run(pictures).as_secs_f64();
        let pipeline_rate =
            pictures.len() as f64 / run_pipeline(&installation, pictures).as_secs_f64();
        println!(
            "round {round}: pipeline {pipeline_rate:.2} images/s, plain loop {loop_rate:.2} images/s"
        );
        ratios.push(pipeline_rate / loop_rate);
    }
    println!(
        "=> whole pipeline / plain loop, images/s: {:.2}\n",
        median(ratios)
    );
}

/// Every trace collected and `/metrics` read every second, against neither, in turn.
fn telemetry(pictures: &[PathBuf], rounds: usize) {
    let collector = Collector::start();
    let settings = format!(
        "{WORK_ON_EVERY_PICTURE}[telemetry]\notlp_endpoint = \"{}\"\n",
        collector.endpoint()
    );
    let (mut with, mut without) = (
        Installation::new(&settings),
        Installation::new(WORK_ON_EVERY_PICTURE),
    );
    with.start_up();
    without.start_up();
    let warm_up = &pictures[..pictures.len().min(10)];
    run_pipeline(&with, warm_up);
    run_pipeline(&without, warm_up);
    let (url, stop) = (with.url("/metrics"), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let scraping = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            reqwest::blocking::get(&url).unwrap().text().unwrap();
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let rate = |installation: &Installation| {
            pictures.len() as f64 / run_pipeline(installation, pictures).as_secs_f64()
        };
        // The other one first every time, so that neither has the warmer machine.
        let (on, off) = if round % 2 == 0 {
            let on = rate(&with);
            (on, rate(&without))
        } else {
            let off = rate(&without);
            (rate(&with), off)
        };
        println!("round {round}: tracing and metrics on {on:.2} images/s, off {off:.2} images/s");
        ratios.push(on / off);
    }
    stop.store(true, Ordering::Relaxed);
    scraping.join().unwrap();
    println!(
        "=> tracing and metrics on / off, images/s: {:.3} ({} spans)\n",
        median(ratios),
        collector.spans().len()
    );
}

fn run_pipeline(installation: &Installation, pictures: &[PathBuf]) -> Duration {
    let tasks: Vec<Vec<(String, Vec<u8>)>> = pictures
        .chunks(IMAGES_PER_TASK)
        .map(|chunk| {
            chunk
                .iter()
                .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
                .collect()
        })
        .collect();
    let start = Instant::now();
    let accepted: Vec<Uuid> = tasks
        .iter()
        .map(|files| {
            let files: Vec<(&str, Vec<u8>)> = files
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.clone()))
                .collect();
            installation
                .upload(&files, &json!({ "quality": "low" }))
                .task_id
        })
        .collect();
    let mut failures = 0;
    for task in accepted {
        let patience = Instant::now();
        let ended = loop {
            if let Some(task) = installation
                .task(task)
                .filter(|task| task.status.is_terminal())
            {
                break task;
            }
            assert!(
                patience.elapsed() < Duration::from_secs(900),
                "task {task} does not end"
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        failures += ended.summary.failure_count;
    }
    if failures > 0 {
        println!("({failures} pictures failed)");
    }
    start.elapsed()
}

/// The same decoding, models, composing and encoding, one picture after the other, with no log and no database.
struct PlainLoop {
    runtime: tokio::runtime::Runtime,
    blobs: Arc<MemoryBlobs>,
    stages: Vec<Arc<dyn AnyStage>>,
    options: TaskOptions,
}

impl PlainLoop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut loaded = Loaded::load(None, Some(folder.path())).unwrap();
        loaded.config.rasters.cache_bytes = 0;
        let blobs = Arc::new(MemoryBlobs::new());
        let options = TaskOptions {
            quality: Quality::Low,
            ..TaskOptions::default()
        };
        let as_port: Arc<dyn Blobs> = blobs.clone();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let assembly = Assembly::new(&loaded, as_port, None).unwrap();
        let stages = runtime.block_on(assembly.without_ledger()).unwrap();
        Self {
            runtime,
            blobs,
            stages,
            options,
        }
    }

    fn run(&self, pictures: &[PathBuf]) -> Duration {
        let start = Instant::now();
        for picture in pictures {
            self.runtime.block_on(self.one(picture));
        }
        start.elapsed()
    }

    async fn one(&self, picture: &Path) {
        let bytes = fs::read(picture).unwrap();
        let length = bytes.len() as u64;
        let key = self.blobs.put(bytes.into()).await.unwrap();
        let mut held = vec![key.clone()];
        let blob = BlobRef {
            key,
            media_type: "application/octet-stream".into(),
            bytes: length,
            width: 0,
            height: 0,
        };
        let mut event = Event::from(TaskRequest {
            task_id: Some(Uuid::new_v4()),
            images: vec![ImageSource {
                blob: Some(blob),
                ..ImageSource::default()
            }],
            kind: None,
            quality: None,
            watermark: None,
            options: Some(self.options.clone()),
            callback: None,
            deadline: None,
            priority: Priority::default(),
        });
        for stage in &self.stages {
            let envelope =
                Envelope::root("/bench", event.event_type(), Uuid::new_v4(), Uuid::new_v4());
            let input = stage
                .decode(&envelope, &event.to_json().unwrap())
                .unwrap()
                .unwrap();
            let outcomes = stage.handle_any(vec![(envelope, input)]).await.unwrap();
            let Some(Outcome::Emit(emissions)) = outcomes.into_iter().next() else {
                return;
            };
            let next = emissions.into_iter().find_map(|emission| match emission {
                Emission::Event(event) if event.topic() != "task-events" => Some(event),
                _ => None,
            });
            let Some(next) = next else { return };
            held.extend(blobs_of(&next));
            event = next;
        }
        for key in &held {
            self.blobs.release(key);
        }
    }
}

/// The blobs that the stage which made this event has stored.
fn blobs_of(event: &Event) -> Vec<BlobKey> {
    match event {
        Event::ImagePreprocessed(event) => vec![event.pixels.key.clone()],
        Event::ImageMatted(event) => vec![event.alpha.key.clone()],
        Event::ImageComposed(event) => [&event.result, &event.alpha, &event.thumbnail]
            .map(|blob| blob.key.clone())
            .to_vec(),
        _ => Vec::new(),
    }
}

/// One picture on an idle pipeline: submitted → result ready, without the model's own time.
fn latency(pictures: &[PathBuf]) {
    let mut installation = Installation::new(WORK_ON_EVERY_PICTURE);
    installation.start_up();
    let mut overheads = Vec::new();
    for (turn, path) in pictures.iter().take(33).enumerate() {
        let bytes = fs::read(path).unwrap();
        let client = installation.client();
        let start = Instant::now();
        let task = installation.upload(&[("picture", bytes)], &json!({ "quality": "low" }));
        let ended = loop {
            let answer = client
                .get(installation.url(&format!("/api/v1/tasks/{}", task.task_id)))
                .send()
                .unwrap();
            let answer: atelier_schemas::TaskAnswer =
                serde_json::from_str(&answer.text().unwrap()).unwrap();
            if answer.status.is_terminal() {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let total_ms = start.elapsed().as_secs_f64() * 1e3;
        // The first ones warm up connections and caches.
        if turn >= 3 && ended.status == TaskStatus::Completed {
            overheads.push(
                total_ms
                    - ended.results[0]
                        .metadata
                        .as_ref()
                        .unwrap()
                        .model
                        .inference_ms,
            );
        }
    }
    println!(
        "=> one picture, submitted to ready, minus the model's time: median {:.0} ms of {}\n",
        median(overheads.clone()),
        overheads.len()
    );
}

fn memory(pictures: &[PathBuf]) {
    const BATCH: usize = 200;
    const BATCHES: usize = 10;
    let mut installation = Installation::new(WORK_ON_EVERY_PICTURE);
    installation.start_up();
    println!(
        "idle: pipeline {} MB",
        resident_mb(installation.process_id("up"))
    );
    let batch: Vec<PathBuf> = pictures.iter().cycle().take(BATCH).cloned().collect();
    let after_batch = || {
        run_pipeline(&installation, &batch);
        std::thread::sleep(Duration::from_secs(3));
        resident_mb(installation.process_id("up"))
    };
    let warm = after_batch();
    println!("after {BATCH} pictures, warm: {warm} MB");
    let readings: Vec<u64> = (0..BATCHES).map(|_| after_batch()).collect();
    println!(
        "after every {BATCH} of {} more: {readings:?} MB",
        BATCH * BATCHES
    );
    let share = |reading: Option<&u64>| *reading.unwrap_or(&warm) as f64 / warm as f64;
    println!(
        "=> memory, least / most / last of these ÷ warm: {:.3} / {:.3} / {:.3}\n",
        share(readings.iter().min()),
        share(readings.iter().max()),
        share(readings.last())
    );
}

fn resident_mb(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or_default()
        .to_owned();
    line.split_whitespace()
        .nth(1)
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

/// `atelier cutout FOLDER` and `rembg p`, each as a user starts it, model loading included.
fn beside_rembg(pictures: &[PathBuf], rounds: usize) {
    let Some(rembg) = std::env::var_os("REMBG") else {
        println!("skipped: set REMBG to the path of a rembg command, and U2NET_HOME");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::create_dir(&input).unwrap();
    for (index, path) in pictures.iter().take(100).enumerate() {
        let extension = path.extension().unwrap().to_string_lossy().to_lowercase();
        fs::copy(path, input.join(format!("{index:03}.{extension}"))).unwrap();
    }
    for model in ["u2netp", "u2net", "isnet-general-use"] {
        let mut ratios = Vec::new();
        for round in 1..=rounds {
            let output = folder.path().join(format!("ours-{model}-{round}"));
            let mut ours = Command::new(env!("CARGO_BIN_EXE_atelier"));
            ours.arg("cutout")
                .arg(&input)
                .arg("-o")
                .arg(&output)
                .args(["--model", model]);
            let ours = time(ours);
            let output = folder.path().join(format!("theirs-{model}-{round}"));
            fs::create_dir(&output).unwrap();
            let mut theirs = Command::new(&rembg);
            theirs
                .args(["p", "-m", model])
                .arg(&input)
                .arg(&output)
                .env("MODEL_CHECKSUM_DISABLED", "1");
            let theirs = time(theirs);
            println!("{model}, round {round}: atelier cutout {ours:.1} s, rembg p {theirs:.1} s");
            ratios.push(theirs / ours);
        }
        println!(
            "=> atelier cutout / rembg p, images/s, {model}, 100 pictures: {:.2}\n",
            median(ratios)
        );
    }
}

fn time(mut command: Command) -> f64 {
    let start = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
    start.elapsed().as_secs_f64()
}
