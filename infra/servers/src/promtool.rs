//! Prometheus' own checker of rules and of what `/metrics` says.

use std::{env, path::PathBuf, process::Command};

use crate::is_installed;

/// The program, as `servers.sh install prometheus` leaves it. `None` where it is not installed.
pub fn promtool() -> Option<Command> {
    if !is_installed("prometheus") {
        return None;
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map_or_else(
            || PathBuf::from(env::var_os("HOME").unwrap()).join(".cache"),
            PathBuf::from,
        );
    Some(Command::new(
        cache.join("atelier/servers/prometheus/usr/bin/promtool"),
    ))
}
