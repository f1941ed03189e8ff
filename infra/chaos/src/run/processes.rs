//! Our own processes: started, killed, stopped, resumed, and started again where they end by themselves.
//!
//! Invariant: none of them outlives this process, however it ends: each is killed by the kernel with the thread that started
//! it, which must therefore be the main one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// Variables of processes' environments.
pub type Environment = Vec<(String, String)>;

/// How long a process may take to end in good order.
const DRAIN: Duration = Duration::from_secs(60);

/// How a process is started.
pub(super) struct Recipe {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Environment,
    /// For the first start alone.
    pub first_environment: Environment,
}

struct Process {
    recipe: Recipe,
    child: Option<Child>,
}

/// All of them, by name.
pub(super) struct Processes {
    folder: PathBuf,
    processes: BTreeMap<String, Process>,
    remarks: Vec<String>,
}

impl Processes {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            processes: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }

    /// Starts one for the first time; its output goes to NAME.log.
    pub fn add(&mut self, name: &str, recipe: Recipe) -> anyhow::Result<()> {
        let process = Process {
            recipe,
            child: None,
        };
        self.processes.insert(name.to_owned(), process);
        self.start(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.processes.contains_key(name)
    }

    pub fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("{name}.log")))?;
        let process = self.process(name)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(&process.recipe.program)
            .args(&process.recipe.arguments)
            .envs(process.recipe.environment.iter().cloned())
            .envs(std::mem::take(&mut process.recipe.first_environment))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        process.child = Some(
            command
                .spawn()
                .with_context(|| format!("{name} cannot be started"))?,
        );
        Ok(())
    }

    /// SIGKILL, and reaps it.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        // It may have ended by itself a moment ago.
        if let Some(mut child) = self.process(name)?.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        self.signal(name, Signal::STOP)
    }

    pub fn resume(&mut self, name: &str) -> anyhow::Result<()> {
        self.signal(name, Signal::CONT)
    }

    /// Starts every process that ended by itself. Those that were killed wait for their start.
    pub fn start_what_ended(&mut self) -> anyhow::Result<()> {
        let names: Vec<String> = self.processes.keys().cloned().collect();
        for name in names {
            let process = self.process(&name)?;
            let Some(child) = process.child.as_mut() else {
                continue;
            };
            if let Some(status) = child.try_wait()? {
                self.remarks
                    .push(format!("{name} ended by itself: {status}"));
                self.start(&name)?;
            }
        }
        Ok(())
    }

    /// SIGTERM for all but `stays`, and waits; what does not drain in time is killed. What happened that nobody planned.
    pub async fn drain(&mut self, stays: &[&str]) -> anyhow::Result<Vec<String>> {
        let names: Vec<String> = self
            .processes
            .keys()
            .filter(|name| !stays.contains(&name.as_str()))
            .cloned()
            .collect();
        for name in &names {
            self.signal(name, Signal::TERM)?;
        }
        let deadline = Instant::now() + DRAIN;
        for name in &names {
            let Some(mut child) = self.process(name)?.child.take() else {
                continue;
            };
            loop {
                match child.try_wait()? {
                    Some(status) if status.success() => break,
                    Some(status) => {
                        self.remarks
                            .push(format!("{name} did not drain well: {status}"));
                        break;
                    }
                    None if Instant::now() > deadline => {
                        self.remarks
                            .push(format!("{name} did not drain within {} s", DRAIN.as_secs()));
                        child.kill()?;
                        child.wait()?;
                        break;
                    }
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
        Ok(std::mem::take(&mut self.remarks))
    }

    fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.processes
            .get_mut(name)
            .with_context(|| format!("there is no process {name}"))
    }

    fn signal(&mut self, name: &str, signal: Signal) -> anyhow::Result<()> {
        if let Some(child) = &self.process(name)?.child {
            // Not reaped yet, so the number is still its own.
            let _ = kill_process(Pid::from_child(child), signal);
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            if let Some(mut child) = process.child.take() {
                // It may have ended already.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A program of this workspace: it stands beside this one.
pub(super) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests are in a folder below.
    let folders = own.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "{name} is not beside {}: build the workspace's tests (`make test-build`)",
            own.display()
        )
    })
}
