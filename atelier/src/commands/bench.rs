//! `atelier bench models`: what each network costs on this machine with each provider, and what to set.
//!
//! Every pair of network and provider is measured in a process of its own: a process has one provider, and its peak of memory
//! is then the network's.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};
use atelier_models::{
    ModelStore, Provider, ProviderChoice, Runtime, Segmenter, SessionOptions, State,
    provider::Precision,
    quantize::Calibration,
    segment::reference::{self, Difference},
};
use serde::{Deserialize, Serialize};

use crate::{cli::BenchModelsArgs, config::Loaded, print};

/// What one process found.
#[derive(Serialize, Deserialize)]
struct Measured {
    provider: String,
    open_ms: f64,
    /// Times of single runs, shortest first.
    runs_ms: Vec<f64>,
    peak_memory_mb: f64,
    /// Its matte of the reference picture.
    matte: Vec<u8>,
    /// Where the network takes several pictures a run: how many they were, and the times of those runs, shortest first.
    batch: Option<(usize, Vec<f64>)>,
}

impl Measured {
    fn images_per_second(&self) -> f64 {
        per_second(1, &self.runs_ms)
    }

    /// Pictures of one run and images per second, for people.
    fn in_batches(&self) -> String {
        match &self.batch {
            Some((pictures, runs_ms)) => {
                format!("{:.2} in {pictures}s", per_second(*pictures, runs_ms))
            }
            None => "-".to_owned(),
        }
    }

    fn quantile_ms(&self, share: f64) -> f64 {
        let place = (share * self.runs_ms.len() as f64).ceil() as usize;
        let place = place.clamp(1, self.runs_ms.len());
        self.runs_ms[place - 1]
    }
}

/// Measures and prints a table.
///
/// # Errors
/// A network or a library is missing; the message names the command that fetches it.
pub async fn models(loaded: &Loaded, arguments: BenchModelsArgs) -> anyhow::Result<ExitCode> {
    let loaded = loaded.clone();
    // The networks block, and so does waiting for the processes.
    tokio::task::spawn_blocking(move || match arguments.provider {
        Some(provider) => one(&loaded, &arguments, provider.into()),
        None => all(&loaded, &arguments),
    })
    .await?
}

/// The table's row, as JSON, for the process that asked.
fn one(
    loaded: &Loaded,
    arguments: &BenchModelsArgs,
    choice: ProviderChoice,
) -> anyhow::Result<ExitCode> {
    let [name] = arguments.names.as_slice() else {
        bail!("--provider takes one model");
    };
    let store = ModelStore::open(loaded.config.models.dir.clone())?;
    let runtime = Runtime::load(&store, choice)?;
    let started = Instant::now();
    let segmenter = Segmenter::open(&runtime, &store, name, &SessionOptions::default())?;
    let open_ms = elapsed_ms(started);
    // The first run makes the buffers.
    let matte = reference::matte_of(&segmenter)?.alpha;
    let runs_ms = timed(arguments.runs, || {
        reference::matte_of(&segmenter).map(|_| ())
    })?;
    let provider = segmenter.session().provider().to_string();
    // Before several pictures a run take more of it.
    let peak_memory_mb = peak_memory_mb();
    drop(segmenter);
    let measured = Measured {
        provider,
        open_ms,
        runs_ms,
        peak_memory_mb,
        matte,
        batch: in_batches(&runtime, &store, name, arguments)?,
    };
    print(&serde_json::to_string(&measured)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Times of runs that take `--batch` pictures each; `None` where the network takes one.
fn in_batches(
    runtime: &Runtime,
    store: &ModelStore,
    name: &str,
    arguments: &BenchModelsArgs,
) -> anyhow::Result<Option<(usize, Vec<f64>)>> {
    let options = SessionOptions {
        max_batch: arguments.batch,
        ..SessionOptions::default()
    };
    if arguments.batch <= 1 {
        return Ok(None);
    }
    let segmenter = Segmenter::open(runtime, store, name, &options)?;
    let pictures = segmenter.session().max_batch();
    if pictures <= 1 {
        return Ok(None);
    }
    let run = || {
        let prepared = (0..pictures).map(|_| segmenter.prepare(&reference::picture()));
        let raw = segmenter.infer_together(&prepared.collect::<Result<Vec<_>, _>>()?)?;
        let side = reference::MATTE_SIDE_PX;
        raw.iter()
            .try_for_each(|raw| segmenter.finish(raw, side, side).map(|_| ()))
    };
    run()?;
    Ok(Some((pictures, timed(arguments.runs, run)?)))
}

/// How long each of so many runs takes in milliseconds, shortest first.
fn timed<E>(runs: usize, mut run: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
    let mut runs_ms = Vec::with_capacity(runs);
    for _ in 0..runs.max(1) {
        let started = Instant::now();
        run()?;
        runs_ms.push(elapsed_ms(started));
    }
    runs_ms.sort_by(f64::total_cmp);
    Ok(runs_ms)
}

/// Images per second, where each run takes so many.
fn per_second(pictures: usize, runs_ms: &[f64]) -> f64 {
    let total_ms: f64 = runs_ms.iter().sum();
    1e3 * (pictures * runs_ms.len()) as f64 / total_ms
}

fn all(loaded: &Loaded, arguments: &BenchModelsArgs) -> anyhow::Result<ExitCode> {
    let store = ModelStore::open(loaded.config.models.dir.clone())?;
    let names = if arguments.names.is_empty() {
        &loaded.config.stages.matte.preload
    } else {
        &arguments.names
    };
    let is_here = |provider: Provider| {
        let library = store.catalogue().find(provider.library());
        library.is_some_and(|library| matches!(store.state(library), State::Present { .. }))
    };
    let openvino_is_here = is_here(Provider::OpenVino(Precision::F32));
    let card_is_here = ProviderChoice::Auto.is_a_card(&store);
    print(&format!(
        "{:<20} {:<14} {:>8} {:>8} {:>8} {:>8} {:>8} {:>14}  apart from cpu\n",
        "model", "provider", "open ms", "images/s", "p50 ms", "p95 ms", "MB", "in batches"
    ))?;
    let mut fastest = Vec::new();
    for name in names {
        let cpu = in_a_process(arguments, store.folder(), name, "cpu")?;
        print(&row(name, &cpu, &cpu)?)?;
        let mut best = "cpu".to_owned();
        let mut most = cpu.images_per_second();
        let eight_bits_are_here = Calibration::of(name)?.is_some();
        let in_eight_bits = Provider::OpenVino(Precision::Int8);
        for (choice, provider, is_measured) in [
            (
                "openvino",
                Provider::OpenVino(Precision::F32),
                openvino_is_here,
            ),
            (
                "openvino-int8",
                in_eight_bits,
                openvino_is_here && eight_bits_are_here,
            ),
            ("cuda", Provider::Cuda, card_is_here),
        ] {
            if !is_measured {
                continue;
            }
            let other = in_a_process(arguments, store.folder(), name, choice)?;
            print(&row(name, &other, &cpu)?)?;
            let difference = Difference::between(&other.matte, &cpu.matte);
            if other.images_per_second() > most && difference.is_small_for(provider) {
                choice.clone_into(&mut best);
                most = other.images_per_second();
            }
        }
        fastest.push(best);
    }
    let advice = match fastest.as_slice() {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => {
            format!(
                "models.provider = \"{first}\" is the fastest here whose mattes agree with cpu's"
            )
        }
        _ => "no provider is the fastest for all of them: leave models.provider = \"auto\""
            .to_owned(),
    };
    print(&format!("\n{advice}\n"))?;
    if !openvino_is_here {
        print(
            "OpenVINO was not measured: `atelier models pull onnxruntime-openvino` fetches it\n",
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(name: &str, measured: &Measured, cpu: &Measured) -> anyhow::Result<String> {
    let difference = Difference::between(&measured.matte, &cpu.matte);
    let mut row = String::new();
    writeln!(
        row,
        "{name:<20} {:<14} {:>8.0} {:>8.2} {:>8.1} {:>8.1} {:>8.0} {:>14}  {:.2} % of pixels flip, mean {:.2} of 255",
        measured.provider,
        measured.open_ms,
        measured.images_per_second(),
        measured.quantile_ms(0.5),
        measured.quantile_ms(0.95),
        measured.peak_memory_mb,
        measured.in_batches(),
        100.0 * difference.flipped_share,
        difference.mean
    )?;
    Ok(row)
}

/// The same program once more, for one network and one provider.
fn in_a_process(
    arguments: &BenchModelsArgs,
    folder: &Path,
    name: &str,
    provider: &str,
) -> anyhow::Result<Measured> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let output = Command::new(program)
        .args(["bench", "models", name, "--provider", provider, "--runs"])
        .arg(arguments.runs.to_string())
        .args(["--batch", &arguments.batch.to_string()])
        .env("ATELIER_MODELS_DIR", folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("measuring {name} on {provider}"))?;
    if !output.status.success() {
        bail!("measuring {name} on {provider} failed: see the line above");
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("measuring {name} on {provider}"))
}

fn elapsed_ms(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

/// The largest resident size of this process so far; 0 where the system does not say.
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let measured = Measured {
            provider: "cpu".into(),
            open_ms: 0.0,
            runs_ms: (1..=20).map(f64::from).collect(),
            peak_memory_mb: 0.0,
            matte: Vec::new(),
            batch: Some((4, vec![20.0, 60.0])),
        };
        assert_eq!(measured.in_batches(), "100.00 in 4s");
        assert_eq!(
            [0.5, 0.95, 1.0].map(|share| measured.quantile_ms(share)),
            [10.0, 19.0, 20.0]
        );
        assert!((measured.images_per_second() - 20_000.0 / 210.0).abs() < 1e-9);
    }
}
