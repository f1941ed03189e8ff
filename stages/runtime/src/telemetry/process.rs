//! What every process tells of itself: memory, files, threads, disk.

use std::{fs, path::PathBuf};

use metrics::gauge;
use metrics_process::Collector;

use super::table::{DISK_FREE_BYTES, DISK_SIZE_BYTES, MEMORY_LIMIT_BYTES};

/// Reads what the process uses and what it has.
#[derive(Debug)]
pub struct Process {
    collector: Collector,
    data_dir: PathBuf,
}

impl Process {
    /// A process that keeps its data in `data_dir`.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            collector: Collector::default(),
            data_dir,
        }
    }

    /// Reads it now.
    pub fn measure(&self) {
        self.collector.collect();
        if let Some(bytes) = memory_limit_bytes() {
            set_bytes(MEMORY_LIMIT_BYTES.name, bytes);
        }
        // The folder may not be there yet; then its first ancestor that is lies on the same disk.
        let place = self.data_dir.ancestors().find(|place| place.exists());
        if let Some(Ok(disk)) = place.map(rustix::fs::statvfs) {
            set_bytes(
                DISK_FREE_BYTES.name,
                disk.f_bavail.saturating_mul(disk.f_frsize),
            );
            set_bytes(
                DISK_SIZE_BYTES.name,
                disk.f_blocks.saturating_mul(disk.f_frsize),
            );
        }
    }
}

fn set_bytes(name: &'static str, bytes: u64) {
    #[allow(clippy::cast_precision_loss)]
    gauge!(name).set(bytes as f64);
}

/// The smaller of what the control group allows and what the machine has; `None` where the system says neither.
fn memory_limit_bytes() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| group_limit_bytes(&text));
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| machine_bytes(&text));
    group.into_iter().chain(machine).min()
}

/// Of control groups of version 2, whose line begins with `0::`. A container sees its own group as the root.
fn group_limit_bytes(groups: &str) -> Option<u64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemFree:  1 kB\nMemTotal:       16384 kB\nMemAvailable: 5 kB\n";
        assert_eq!(machine_bytes(text), Some(16_384 * 1024));
        assert_eq!(machine_bytes("nothing"), None);
        assert!(memory_limit_bytes().unwrap() > 0);
    }
}
