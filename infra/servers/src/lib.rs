//! Real servers for tests: each in a temporary folder, on free ports, started by `servers.sh` as `make servers` does.
//!
//! Invariant: a server ends with the process that started it, however that ends, and leaves nothing: a guardian waits for the
//! end of a pipe that only this process holds open, then kills the server and removes its folder.
// What does not hold is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broker;
mod collector;
mod jaeger;
mod kafka;
mod postgres;
mod promtool;
mod redis;
mod requests;
mod s3;
mod secured;

use std::{
    collections::{BTreeSet, VecDeque},
    io::Write as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Mutex,
};

pub use broker::Broker;
pub use collector::{Collector, Span};
pub use jaeger::Jaeger;
pub use kafka::{Coordinator, Kafka};
pub use postgres::Postgres;
pub use promtool::promtool;
pub use redis::Redis;
pub use s3::S3;
pub use secured::{AclRule, Listener, SecuredKafka};

/// Servers that share a folder, and what ends them.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Settings of `servers.sh`.
    environment: Vec<(String, String)>,
    guardian: Child,
    pipe: Option<ChildStdin>,
}

impl Folder {
    /// A new folder, which nothing runs in yet.
    pub fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("atelier-servers-")
            .tempdir()
            .unwrap()
            .keep();
        let mut guardian = script(&["guard"]);
        guardian
            .env("ATELIER_SERVERS_DIR", &path)
            .stdin(Stdio::piped())
            // A test's runner waits for whoever holds its output.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is not meant for it: it cleans up after that.
            .process_group(0);
        let mut guardian = guardian.spawn().unwrap();
        let pipe = guardian.stdin.take();
        Self {
            path,
            environment: Vec::new(),
            guardian,
            pipe,
        }
    }

    /// What `servers.sh` answers.
    ///
    /// # Panics
    /// Where it fails.
    pub fn script(&self, arguments: &[&str]) -> String {
        let output = script(arguments)
            .env("ATELIER_SERVERS_DIR", &self.path)
            .envs(self.environment.iter().cloned())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "servers.sh {arguments:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// Stops the processes of these instances where they stand.
    pub fn freeze(&self, instances: &[&str]) -> Frozen {
        let process_id = |instance: &&str| {
            let text = std::fs::read_to_string(self.path.join(instance).join("pid")).unwrap();
            text.split(' ').next().unwrap().to_owned()
        };
        let processes = instances.iter().map(process_id).collect();
        signal("-STOP", &processes);
        Frozen(processes)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.guardian.wait().unwrap();
    }
}

/// Servers that stand still until this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<String>);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(name: &str, processes: &Vec<String>) {
    let status = Command::new("kill").arg(name).args(processes).status();
    assert!(status.unwrap().success(), "kill {name} {processes:?}");
}

/// Whether a server can be started here. Where it cannot, a line says so, in each test's own output too (`scripts/test-rust.py` counts
/// those), and the test fails if ATELIER_REQUIRE_SERVERS names it.
///
/// # Panics
/// Where it is required and missing.
pub(crate) fn is_installed(name: &str) -> bool {
    let output = script(&["installed", name]).output().unwrap();
    if output.status.success() {
        return true;
    }
    let text = format!(
        "{name} is not installed, its tests are left out: run `infra/servers/servers.sh install {name}` {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let required = std::env::var("ATELIER_REQUIRE_SERVERS").unwrap_or_default();
    assert!(
        !required.split_whitespace().any(|needed| needed == name),
        "{text}"
    );
    eprintln!("skipped: {name} is not installed");
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap().insert(name.to_owned()) {
        // Past the capture of the tests' output, so that it is seen.
        std::io::stderr()
            .write_all(format!("{text}\n").as_bytes())
            .unwrap();
    }
    false
}

fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("servers.sh"));
    // What a person set for `make servers` is not meant for tests.
    for name in [
        "ATELIER_SERVERS",
        "ATELIER_SERVERS_DIR",
        "KAFKA_BROKERS",
        "S3_DATA",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Where ports are looked for: below those that systems give to outgoing connections, one of which would take a port between its
/// finding and its use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const REMEMBERED_PORTS: usize = 2_000;

/// The first of `count` ports in a row that nobody listens on, and that are not among the last 2,000 that this
/// process was given: a server that was killed wants its own back.
///
/// # Panics
/// Where there is no more.
pub fn free_ports(count: u16) -> u16 {
    static GIVEN: Mutex<VecDeque<u16>> = Mutex::new(VecDeque::new());
    let mut given = GIVEN.lock().unwrap();
    // Any place in the range, so that processes that look at the same time do not find the same.
    let first = std::iter::repeat_with(|| fastrand::u16(PORTS.start..PORTS.end - count))
        .take(10_000)
        .find(|first| {
            (*first..first + count).all(|port| {
                !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok()
            })
        })
        .expect("no free ports on loopback");
    given.extend(first..first + count);
    let forgotten = given.len().saturating_sub(REMEMBERED_PORTS);
    given.drain(..forgotten);
    first
}
