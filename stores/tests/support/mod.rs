//! A small disk, and a process that is killed: what the adapters' own tests share.
#![allow(dead_code)]

pub mod log;
pub mod postgres;
pub mod postgres_ledger;
pub mod s3;
pub mod s3_blobs;
pub mod tasks;

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Names the folder or the database in which a child of this test works; unset in every other process.
pub const CHILD_PLACE: &str = "ATELIER_STORES_TEST_CHILD_PLACE";

/// A file system of its own, so small that it can be filled. Needs root.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts `size_kib` KiB; `None` where this process may not.
    pub fn mount(size_kib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_kib}k"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            Some(Self { folder })
        } else {
            eprintln!("skipped: this process may not mount a tmpfs");
            None
        }
    }

    /// Makes it larger.
    pub fn grow(&self, size_kib: u32) {
        let options = format!("remount,size={size_kib}k");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(self.folder.path())
            .status()
            .unwrap();
        assert!(grown.success());
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount also works while a connection is still being closed.
        let unmounted = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "the tmpfs stays mounted"
        );
    }
}

/// Runs the ignored test `name` of this binary in a process of its own on `place`, kills it with SIGKILL once it has
/// acknowledged `lines` pieces of work and a random while more, and answers with what it acknowledged.
pub fn kill_after(name: &str, place: &OsStr, lines: usize, more: Duration) -> Vec<String> {
    let mut child = spawn_child(name, place);
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut killer = Some((child, None::<Instant>));
    for line in output.lines() {
        let Ok(line) = line else { break };
        if let Some((_, done)) = line.split_once("done ") {
            acknowledged.push(done.to_owned());
        }
        if acknowledged.len() >= lines
            && let Some((child, since)) = &mut killer
            && since.get_or_insert_with(Instant::now).elapsed() >= more
        {
            kill(child);
            killer = None;
        }
    }
    assert!(
        killer.is_none(),
        "the child ended by itself after {} pieces of work",
        acknowledged.len()
    );
    acknowledged
}

/// The same, but kills it as soon as `is_time`.
pub fn kill_when(name: &str, place: &OsStr, is_time: impl Fn() -> bool) -> Vec<String> {
    let mut child = spawn_child(name, place);
    let since = Instant::now();
    while !is_time() {
        assert!(
            since.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(),
            "the time to kill does not come"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    kill(&mut child);
    // What it wrote is in the pipe.
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .filter_map(|line| Some(line.ok()?.split_once("done ")?.1.to_owned()))
        .collect()
}

fn spawn_child(name: &str, place: &OsStr) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            name,
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_PLACE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(child: &mut Child) {
    // `Child::kill` is SIGKILL: no handler, no destructor, no flush.
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The place of this child process; `None` in any other.
pub fn child_place() -> Option<OsString> {
    std::env::var_os(CHILD_PLACE)
}
