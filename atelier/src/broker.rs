//! Starts the embedded broker as a process of its own and watches it.
//!
//! It is a process of its own so that it can be killed, upgraded and reached by others without the pipeline. Its standard
//! input is a pipe that this process holds: when this process dies, however it dies, the broker reads the end of it and
//! stops in good order.

use std::{
    error::Error,
    fmt,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use atelier_stores::Durability;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// A broker that recovers a large log may take its time; nothing sensible takes longer.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the broker of an earlier run may take to stop.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const RESTART_DELAY: Duration = Duration::from_millis(500);

/// What the broker is started with.
#[derive(Clone, Debug)]
pub struct EmbeddedBroker {
    /// Where it keeps the log.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What an acknowledgement outlives.
    pub durability: Durability,
}

/// A broker that answers.
pub struct RunningBroker {
    options: EmbeddedBroker,
    child: Child,
    // Apart from `child`, whose `wait` would close it.
    stdin: Option<ChildStdin>,
    /// Where it listens; the port is the real one where 0 was asked for.
    pub address: SocketAddr,
}

impl EmbeddedBroker {
    /// Starts it and waits until it answers. The broker of a run that was killed may still be stopping: it is waited for; and one that
    /// is killed meanwhile is started again.
    ///
    /// # Errors
    /// The binary is not beside this one, or the broker's own last line.
    pub async fn start(self) -> anyhow::Result<RunningBroker> {
        let deadline = Instant::now() + PREDECESSOR_TIMEOUT;
        loop {
            match self.clone().start_once().await {
                Err(error)
                    if (is_still_stopping(&error) || error.is::<Killed>())
                        && Instant::now() < deadline =>
                {
                    sleep(RESTART_DELAY).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn start_once(self) -> anyhow::Result<RunningBroker> {
        let program = binary()?;
        let mut child = Command::new(&program)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.listen.to_string(), "--stop-on-stdin-end"])
            .env("NO_COLOR", "1")
            .args([
                "--durability",
                if self.durability == Durability::Fsync {
                    "fsync"
                } else {
                    "os"
                },
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C goes to the whole foreground group; the broker must outlive the stages that drain onto it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("the broker {} does not start", program.display()))?;
        let stdout = child
            .stdout
            .take()
            .context("the broker has no standard output")?;
        let stdin = child.stdin.take();
        let stderr = child
            .stderr
            .take()
            .context("the broker has no standard error")?;
        let mut last_line = tokio::spawn(forward_log(BufReader::new(stderr)));
        let ready = timeout(READY_TIMEOUT, wait_until_listening(BufReader::new(stdout))).await;
        match ready {
            Ok(Ok(address)) => Ok(RunningBroker {
                options: Self {
                    listen: address,
                    ..self
                },
                child,
                stdin,
                address,
            }),
            Ok(Err(error)) => {
                let said = timeout(Duration::from_secs(2), &mut last_line)
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .flatten();
                let status = timeout(Duration::from_secs(2), child.wait()).await;
                let was_killed = |status: ExitStatus| status.signal().is_some();
                Err(match said {
                    _ if status.is_ok_and(|status| status.is_ok_and(was_killed)) => Killed.into(),
                    Some(line) => anyhow::anyhow!("the embedded broker did not start: {line}"),
                    None => error.context("the embedded broker did not start"),
                })
            }
            Err(_) => bail!(
                "the embedded broker did not answer within {} s",
                READY_TIMEOUT.as_secs()
            ),
        }
    }
}

impl RunningBroker {
    /// Starts the broker again whenever it ends, until `shutdown`; then stops it in good order.
    pub async fn watch(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.stop().await,
                status = self.child.wait() => {
                    tracing::error!(?status, "the embedded broker ended; starting it again");
                }
            }
            loop {
                sleep(RESTART_DELAY).await;
                if shutdown.is_cancelled() {
                    return;
                }
                match self.options.clone().start().await {
                    Ok(again) => {
                        tracing::info!(address = %again.address, "the embedded broker is back");
                        self = again;
                        break;
                    }
                    Err(error) => tracing::error!("{error:#}"),
                }
            }
        }
    }

    async fn stop(mut self) {
        // The end of its standard input tells it to stop.
        drop(self.stdin.take());
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            tracing::warn!(
                "the embedded broker did not stop within {} s and was killed",
                STOP_TIMEOUT.as_secs()
            );
            // It has ended already where this fails.
            let _ = self.child.kill().await;
        }
    }

    /// The broker's process id, where it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Nothing is wrong with what it was started with.
#[derive(Debug)]
struct Killed;

impl fmt::Display for Killed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the embedded broker was killed while it started")
    }
}

impl Error for Killed {}

/// Its data folder is locked by the broker that was there before.
fn is_still_stopping(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("is in use by the broker")
}

/// The broker's binary stands beside this one.
fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this binary has no path")?;
    let beside = own.with_file_name("atelier-broker");
    if !beside.is_file() {
        bail!(
            "{} is missing: build it with `cargo build -p atelier-broker`, or set broker.embedded = false",
            beside.display()
        );
    }
    Ok(beside)
}

async fn wait_until_listening(
    mut stdout: BufReader<tokio::process::ChildStdout>,
) -> anyhow::Result<SocketAddr> {
    let mut line = String::new();
    loop {
        line.clear();
        if stdout.read_line(&mut line).await? == 0 {
            bail!("it ended without a word");
        }
        if let Some(address) = line.trim().strip_prefix("listening on ") {
            let address = address
                .parse()
                .with_context(|| format!("it listens on `{address}`, which is no address"))?;
            // Nobody reads further lines, but the pipe must stay open and empty.
            tokio::spawn(async move {
                let mut rest = String::new();
                while stdout
                    .read_line(&mut rest)
                    .await
                    .is_ok_and(|bytes| bytes > 0)
                {
                    rest.clear();
                }
            });
            return Ok(address);
        }
    }
}

/// The broker's log lines go into ours; answers with the last message, which says why it ended.
async fn forward_log(mut stderr: BufReader<tokio::process::ChildStderr>) -> Option<String> {
    let mut last = None;
    let mut line = String::new();
    while stderr
        .read_line(&mut line)
        .await
        .is_ok_and(|bytes| bytes > 0)
    {
        // Its lines begin with the time and the level, which ours have too.
        let (_time, rest) = line
            .trim()
            .split_once(char::is_whitespace)
            .unwrap_or(("", line.trim()));
        let (level, message) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .unwrap_or(("", rest));
        let message = message.trim_start();
        match level {
            "ERROR" => tracing::error!(target: "atelier_broker", "{message}"),
            "WARN" => tracing::warn!(target: "atelier_broker", "{message}"),
            _ => tracing::info!(target: "atelier_broker", "{message}"),
        }
        last = Some(message.to_owned());
        line.clear();
    }
    last
}
