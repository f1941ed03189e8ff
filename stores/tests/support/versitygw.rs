//! versitygw, a real S3 server on a folder, where it is installed.
//!
//! Invariant: it ends with the process that started it, however that ends, and leaves nothing: a guardian process waits
//! for the end of a pipe that only this process holds open, then ends the server and removes its folder.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// Starts the server, tells its process, waits for the end of the input, ends the server (also a frozen one) and removes
/// its folder.
const GUARDIAN: &str = r#"
    "$2" --port "127.0.0.1:$3" --health /hz --quiet posix "$4" >"$1/log" 2>&1 &
    server=$!
    echo "$server"
    cat >/dev/null
    kill -KILL "$server"; wait "$server" 2>/dev/null
    rm -rf "$1"
"#;

/// The server's program: `ATELIER_VERSITYGW`, the one on PATH, or the one that the set-up of the servers installs.
pub fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("ATELIER_VERSITYGW") {
        let named = PathBuf::from(named);
        assert!(
            named.is_file(),
            "ATELIER_VERSITYGW names {}, which is no file",
            named.display()
        );
        return Some(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("versitygw"))
        .find(|program| program.is_file())
        .or_else(installed)
}

/// What `infra/servers/servers.sh install s3` made: a program that has its version in its name.
fn installed() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    let programs = fs::read_dir(cache.join("atelier/servers")).ok()?;
    programs
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("versitygw-") && path.is_file()
        })
}

/// Whether the server is installed. Where it is not, says that nothing was tested on it, or fails if the servers are
/// required.
pub fn is_there() -> bool {
    static SAID: OnceLock<()> = OnceLock::new();
    if program().is_some() {
        return true;
    }
    let required = env::var("ATELIER_REQUIRE_SERVERS").unwrap_or_default();
    assert!(
        !required.split_whitespace().any(|needed| needed == "s3"),
        "versitygw is not installed, and ATELIER_REQUIRE_SERVERS requires s3"
    );
    SAID.get_or_init(|| {
        // Past the capture of the tests' output, so that it is seen.
        let line = "versitygw is not installed: blobs were NOT tested on a real S3 server (run `infra/servers/servers.sh install s3`)\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    });
    false
}

/// A running server; dropping it stops it and removes its files.
pub struct Versitygw {
    folder: PathBuf,
    data: PathBuf,
    port: u16,
    server: Pid,
    guardian: Child,
    pipe: Option<ChildStdin>,
}

impl Versitygw {
    /// A new server on a folder of its own.
    pub fn start() -> Self {
        Self::start_on(None)
    }

    /// A new server that keeps its objects in `data`.
    pub fn start_on(data: Option<&Path>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("atelier-s3-")
            .tempdir()
            .unwrap()
            .keep();
        let data = data.map_or_else(|| folder.join("data"), Path::to_owned);
        fs::create_dir_all(data.join(BUCKET)).unwrap();
        let port = free_port();
        let mut guardian = Command::new("sh");
        guardian
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&folder)
            .arg(program().unwrap())
            .arg(port.to_string())
            .arg(&data)
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut guardian = guardian.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(guardian.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let server = Self {
            folder,
            data,
            port,
            server: Pid::from_raw(line.trim().parse().unwrap()).unwrap(),
            pipe: guardian.stdin.take(),
            guardian,
        };
        server.wait_until_it_listens();
        server
    }

    fn wait_until_it_listens(&self) {
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "versitygw does not start: {log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder in which the server keeps the bucket's objects by their names.
    pub fn bucket(&self) -> PathBuf {
        self.data.join(BUCKET)
    }

    /// Uploads in parts that were begun and not ended.
    pub fn unfinished_uploads(&self) -> usize {
        // One folder for each key, and in it one for each upload.
        let keys = fs::read_dir(self.bucket().join(".sgwtmp/multipart"));
        let uploads = keys
            .into_iter()
            .flatten()
            .filter_map(|key| fs::read_dir(key.unwrap().path()).ok());
        uploads.map(Iterator::count).sum()
    }

    /// Stops it where it stands.
    pub fn freeze(&self) {
        kill_process(self.server, Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        kill_process(self.server, Signal::CONT).unwrap();
    }
}

impl Drop for Versitygw {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.guardian.wait().unwrap();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
