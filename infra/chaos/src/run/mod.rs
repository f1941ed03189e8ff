//! One run: the system is started, the plan carried out, the end waited for, the checker asked.

mod clients;
mod pictures;
mod processes;
mod proxy;
mod servers;
mod system;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use tempfile::TempDir;
use tokio::{process::Command, task::spawn_blocking, time::sleep};

use self::{clients::Clients, processes::beside, system::System};
use crate::{
    check::{Promises, Verdict, progress},
    plan::{Action, Ground, Plan},
    planted::Planting,
};

/// Longest wait for every client's answer, and then for every task's end. What is not there by then is lost.
const PATIENCE: Duration = Duration::from_secs(180);
/// A system on whose log nothing has moved for so long is quiet: longer than session and transaction time-outs, and than a network
/// takes for a picture where many runs share a machine. Only a run that fails waits for it.
const SILENCE: Duration = Duration::from_secs(60);
/// Where a bug is planted, something is usually lost, and every process that ended is back with its partitions at once.
const SILENCE_AFTER_ABORTS: Duration = Duration::from_secs(8);
/// How often processes that ended by themselves are looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// The checker's answer.
    pub verdict: Verdict,
    /// What happened that was not in the plan.
    pub remarks: Vec<String>,
    /// Where everything was left, where it was not removed.
    pub folder: Option<PathBuf>,
    /// How long it took.
    pub took: Duration,
}

/// Carries a plan out. Must be awaited on the main thread: the processes end with the thread that started them.
///
/// # Errors
/// The system cannot be started or does not come back, or the checker cannot read what is left; the folder stays then.
pub async fn run(
    plan: &Plan,
    ground: Ground,
    planting: &Planting,
    keep: bool,
) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let mut folder = tempfile::Builder::new()
        .prefix(&format!("atelier-chaos-{}-", plan.seed))
        .tempdir()?;
    let worked = work(plan, ground, planting, folder.path()).await;
    let is_content = worked
        .as_ref()
        .is_ok_and(|(verdict, _)| verdict.is_content());
    let left = (keep || !is_content).then(|| leave(&mut folder));
    let (verdict, remarks) = worked.with_context(|| match &left {
        Some(path) => format!("seed {} broke off, see {}", plan.seed, path.display()),
        None => format!("seed {} broke off", plan.seed),
    })?;
    Ok(Outcome {
        verdict,
        remarks,
        folder: left,
        took: began.elapsed(),
    })
}

fn leave(folder: &mut TempDir) -> PathBuf {
    folder.disable_cleanup(true);
    folder.path().to_owned()
}

async fn work(
    plan: &Plan,
    ground: Ground,
    planting: &Planting,
    folder: &Path,
) -> anyhow::Result<(Verdict, Vec<String>)> {
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    fs::write(folder.join("plan.txt"), steps.join("\n") + "\n")?;
    let mut system = System::start(plan, ground, planting, folder).await?;
    let mut clients = Clients::start(&system).await?;
    if planting.is_none() {
        clients.warm_up().await?;
    }
    carry_out(plan, &mut system, &mut clients).await?;
    let accepted = while_watching(&mut system, clients.finish(PATIENCE)).await?;
    let promises = system.promises(accepted)?;
    write_json(&folder.join("check.json"), &promises)?;
    let silence = if planting.is_none() {
        SILENCE
    } else {
        SILENCE_AFTER_ABORTS
    };
    wait_until_quiet(&mut system, &promises, folder, silence).await?;
    let remarks = system.drain().await?;
    let verdict = ask_checker(&system, folder).await?;
    Ok((verdict, remarks))
}

async fn carry_out(plan: &Plan, system: &mut System, clients: &mut Clients) -> anyhow::Result<()> {
    let begin = Instant::now();
    for step in &plan.steps {
        let due = begin + Duration::from_millis(step.at_ms);
        let wait = due.saturating_duration_since(Instant::now());
        while_watching(system, async {
            sleep(wait).await;
            Ok(())
        })
        .await?;
        match &step.action {
            Action::Submit(submission) => clients.submit(submission.clone()),
            Action::Cancel(key) => clients.cancel(*key),
            fault => system.apply(fault).await?,
        }
    }
    system.settle().await
}

/// Waits for something; processes that end by themselves meanwhile are started again.
async fn while_watching<T>(
    system: &mut System,
    what: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut what = std::pin::pin!(what);
    loop {
        tokio::select! {
            done = &mut what => return done,
            () = sleep(WATCH_INTERVAL) => system.start_what_ended()?,
        }
    }
}

/// Until the checker is content, or nothing has moved for so long that nothing will.
async fn wait_until_quiet(
    system: &mut System,
    promises: &Promises,
    folder: &Path,
    silence: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut moved_at) = (None, Instant::now());
    while Instant::now() < deadline {
        let bootstrap_servers = promises.bootstrap_servers.clone();
        let now = while_watching(system, async {
            spawn_blocking(move || progress(&bootstrap_servers)).await?
        })
        .await?;
        if last != Some(now) {
            (last, moved_at) = (Some(now), Instant::now());
        } else if moved_at.elapsed() > silence || ask_checker(system, folder).await?.is_content() {
            return Ok(());
        }
        sleep(2 * WATCH_INTERVAL).await;
    }
    Ok(())
}

/// Runs the checker, a program of its own, and reads its answer.
async fn ask_checker(system: &System, folder: &Path) -> anyhow::Result<Verdict> {
    let answer = folder.join("verdict.json");
    let output = Command::new(beside("atelier-check")?)
        .arg(folder.join("check.json"))
        .arg("--json")
        .arg(&answer)
        .envs(system.environment.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    // 0: content; 1: something is wrong; anything else: it could not look.
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "the checker failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&fs::read(&answer)?)?)
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    Ok(fs::write(path, serde_json::to_vec_pretty(value)?)?)
}
