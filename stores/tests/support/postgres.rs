//! A PostgreSQL server of the tests' own, in a temporary folder, reached by a Unix socket.
//!
//! Invariant: it ends with the process that started it, however that ends, and leaves nothing: a guardian process waits
//! for the end of a pipe that only this process holds open, then stops the server and removes its folder.

use std::{
    fmt::Write as _,
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

pub const USER: &str = "maker";
pub const PASSWORD: &str = "s3cret/of@tests";

/// Where Debian puts each version's programs.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// Waits for the end of its input, ends the server (also a frozen one) and removes its folder.
const GUARDIAN: &str = r#"
    cat >/dev/null
    pid_file="$1/data/postmaster.pid"
    if main=$(head -n 1 "$pid_file" 2>/dev/null); then kill -QUIT "$main"; kill -CONT "$main"; fi
    tries=0
    while [ -e "$pid_file" ] && [ "$tries" -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
    rm -rf "$1"
"#;

/// A running server; dropping it stops it and removes its files.
pub struct Server {
    folder: PathBuf,
    programs: PathBuf,
    guardian: Child,
    pipe: Option<ChildStdin>,
}

impl Server {
    /// The server that this test binary's tests share, each with a database of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        // A crash of the system is not what is tested on it.
        SHARED.get_or_init(|| Self::start(&["fsync=off"]))
    }

    /// A new server.
    pub fn start(settings: &[&str]) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new()
            .prefix("atelier-pg-")
            .tempdir()
            .unwrap()
            .keep();
        if let Some((user, group)) = account() {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        // Everything that can fail is below, when the guardian is there.
        let mut guardian = as_server_user("sh");
        guardian
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut guardian = guardian.spawn().unwrap();
        let pipe = guardian.stdin.take();
        let server = Self {
            folder,
            programs,
            guardian,
            pipe,
        };
        server.initialise(settings);
        server.run();
        server
    }

    fn initialise(&self, settings: &[&str]) {
        let password = self.folder.join("password");
        fs::write(&password, PASSWORD).unwrap();
        succeed(
            as_server_user(self.programs.join("initdb"))
                .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8"])
                .args(["--locale=C.UTF-8", "--username", USER])
                .arg("--pwfile")
                .arg(&password)
                .arg("-D")
                .arg(self.data()),
        );
        let mut lines = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = 200\nshared_buffers = 32MB\n",
            self.folder.display()
        );
        for setting in settings {
            writeln!(lines, "{setting}").unwrap();
        }
        let file = self.data().join("postgresql.conf");
        let defaults = fs::read_to_string(&file).unwrap();
        fs::write(&file, defaults + &lines).unwrap();
    }

    /// Starts it on what is there.
    pub fn run(&self) {
        let log = self.folder.join("log");
        succeed(
            as_server_user(self.programs.join("pg_ctl"))
                .args(["-w", "-t", "60", "start", "-l"])
                .arg(log)
                .arg("-D")
                .arg(self.data()),
        );
    }

    /// Ends it without any clean-up, as a crash does.
    pub fn crash(&self) {
        succeed(
            as_server_user(self.programs.join("pg_ctl"))
                .args(["-w", "-t", "60", "-m", "immediate", "stop", "-D"])
                .arg(self.data()),
        );
    }

    /// Stops every process of it where it stands, until [`Frozen`] is dropped.
    pub fn freeze(&self) -> Frozen {
        let main: i32 = fs::read_to_string(self.data().join("postmaster.pid"))
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let mut processes = vec![Pid::from_raw(main).unwrap()];
        // First the one that makes the others.
        kill_process(processes[0], Signal::STOP).unwrap();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse::<i32>().ok()
        });
        for pid in pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name in brackets: the state, then the parent.
            let parent = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1));
            if parent == Some(main.to_string().as_str()) {
                let pid = Pid::from_raw(pid).unwrap();
                // One may have ended by itself.
                let _ = kill_process(pid, Signal::STOP);
                processes.push(pid);
            }
        }
        Frozen(processes)
    }

    /// The URL of `database`.
    pub fn url(&self, database: &str) -> String {
        self.url_as(USER, PASSWORD, database)
    }

    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let encoded = |text: &str| text.replace('/', "%2F").replace('@', "%40");
        format!(
            "postgres://{user}:{}@{}/{database}",
            encoded(password),
            encoded(self.folder.to_str().unwrap())
        )
    }

    /// A connection to `database` besides the ledger's.
    pub async fn raw(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database)).await.unwrap()
    }

    /// A new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("d{}", Uuid::new_v4().simple());
        self.run_sql("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        name
    }

    /// Runs statements of the tests' own.
    pub async fn run_sql(&self, database: &str, sql: &str) {
        let mut connection = self.raw(database).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let since = Instant::now();
        while matches!(self.guardian.try_wait(), Ok(None)) {
            assert!(
                since.elapsed() < Duration::from_secs(180),
                "the server does not stop"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A server that does not move.
pub struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in self.0.drain(..) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

fn programs() -> PathBuf {
    let version_of = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = fs::read_dir(PROGRAMS)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").is_file())
        .max_by_key(|path| version_of(path));
    newest
        .unwrap_or_else(|| {
            panic!("no PostgreSQL server below {PROGRAMS}: install the Debian package `postgresql` (`scripts/setup.sh test`)")
        })
        .join("bin")
}

/// Whom the server runs as: it refuses to be root.
pub fn account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let found = accounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields[0] == "postgres").then(|| (fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    });
    assert!(
        found.is_some(),
        "root needs the user `postgres`: install the Debian package `postgresql` (`scripts/setup.sh test`)"
    );
    found
}

fn as_server_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// Runs it to its end, without its output: a server that was started would hold a pipe open for ever.
fn succeed(command: &mut Command) {
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
