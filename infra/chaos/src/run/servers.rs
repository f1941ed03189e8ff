//! The real servers of a run.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use atelier_servers::{Frozen, Kafka, Postgres, S3};
use tokio::task::{JoinHandle, spawn_blocking};

use super::processes::Environment;
use crate::plan::{Action, Ground};

const ACCESS_KEY: &str = "chaos";
/// Of a server on loopback that lives as long as the run.
const SECRET_KEY: &str = "only-for-this-run";
/// So long after a broker is back the controller may still take it for gone: it says that it is there every 400 ms
/// (`broker.heartbeat.interval.ms` of `infra/servers/kafka`), and a machine under load takes longer.
const SETTLING: Duration = Duration::from_secs(2);

/// Kafka, PostgreSQL and S3. Dropping it ends them.
pub(super) struct Servers {
    // Before the servers, which are to end running.
    frozen: BTreeMap<String, Frozen>,
    /// Starts under way, and the moment at which each was through.
    starting: BTreeMap<String, JoinHandle<Instant>>,
    /// When the last fault of a broker was over.
    broker_back_at: Instant,
    ground: Ground,
    /// Where what the brokers said is kept.
    folder: PathBuf,
    kafka: Arc<Kafka>,
    postgres: Arc<Postgres>,
    s3: Arc<S3>,
}

impl Servers {
    /// Starts them. Clients of Kafka are told to connect to `advertised`, one place for each broker.
    pub async fn start(
        ground: Ground,
        advertised: Vec<SocketAddr>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let missing = "is not installed: run `make servers` once";
        ensure!(S3::is_installed(), "s3 {missing}");
        let (kafka, postgres, s3) = tokio::try_join!(
            aside(move || Kafka::behind(&advertised)),
            aside(Postgres::start),
            aside(|| S3::start(ACCESS_KEY, SECRET_KEY, None)),
        )?;
        Ok(Self {
            frozen: BTreeMap::new(),
            starting: BTreeMap::new(),
            broker_back_at: Instant::now(),
            ground,
            folder: folder.to_owned(),
            kafka: Arc::new(kafka.with_context(|| format!("kafka {missing}"))?),
            postgres: Arc::new(postgres.with_context(|| format!("postgres {missing}"))?),
            s3: Arc::new(s3),
        })
    }

    /// Where each broker listens.
    pub fn brokers(&self) -> Vec<SocketAddr> {
        self.kafka.addresses()
    }

    /// Where PostgreSQL listens.
    pub fn postgres(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.postgres.port()).into()
    }

    /// Where S3 listens.
    pub fn s3(&self) -> anyhow::Result<SocketAddr> {
        let endpoint = self.s3.endpoint();
        let address = endpoint.strip_prefix("http://").unwrap_or(&endpoint);
        Ok(address.parse()?)
    }

    /// The bucket.
    pub fn blobs_url(&self) -> String {
        format!("s3://{}", S3::BUCKET)
    }

    /// What clients need to be let in.
    pub fn secrets(&self) -> Environment {
        let secrets = [
            ("PGPASSWORD", self.postgres.password()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        secrets.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Whether a fault may begin now. One of a process waits until that has started; one of a cluster's broker, or of the link to
    /// it, until all brokers have and are in sync: the plan leaves room for that, and a machine under load takes longer.
    pub async fn may_begin(&mut self, fault: &Action) -> anyhow::Result<bool> {
        let (Action::Kill(name)
        | Action::Stop(name)
        | Action::Cut(name)
        | Action::Slow(name, _)
        | Action::Hold(name)) = fault
        else {
            return Ok(true);
        };
        if self.ground == Ground::Cluster && self.node(name).is_some() {
            for broker in self.ground.brokers() {
                if !self.has_started(broker).await? {
                    return Ok(false);
                }
            }
            let kafka = Arc::clone(&self.kafka);
            return Ok(self.broker_back_at.elapsed() >= SETTLING
                && aside(move || kafka.is_in_sync()).await?);
        }
        match fault {
            Action::Kill(_) | Action::Stop(_) => self.has_started(name).await,
            _ => Ok(true),
        }
    }

    /// Whether every start is through.
    pub async fn are_up(&mut self) -> anyhow::Result<bool> {
        let names: Vec<String> = self.starting.keys().cloned().collect();
        for name in names {
            if !self.has_started(&name).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn has_started(&mut self, name: &str) -> anyhow::Result<bool> {
        let Some(start) = self.starting.get_mut(name) else {
            return Ok(true);
        };
        if !start.is_finished() {
            return Ok(false);
        }
        let through_at = start.await.with_context(|| no_word_of(name))?;
        self.starting.remove(name);
        if self.node(name).is_some() {
            self.broker_back_at = self.broker_back_at.max(through_at);
        }
        Ok(true)
    }

    /// Kills, starts, stops or resumes one of them. A start goes on by itself.
    pub async fn apply(&mut self, action: &Action) -> anyhow::Result<()> {
        let (Action::Kill(name) | Action::Start(name) | Action::Stop(name) | Action::Resume(name)) =
            action
        else {
            bail!("`{action}` is not for a server");
        };
        let server = self.server(name)?;
        match action {
            Action::Kill(_) => {
                aside(move || server.kill()).await?;
                self.keep_log(name)?;
            }
            Action::Start(_) => {
                let start = spawn_blocking(move || {
                    server.run();
                    Instant::now()
                });
                self.starting.insert(name.clone(), start);
            }
            Action::Stop(_) => {
                self.frozen.insert(name.clone(), server.freeze());
            }
            _ => {
                drop(self.frozen.remove(name));
                self.is_back(name);
            }
        }
        Ok(())
    }

    /// Says that a fault of a server that runs is over.
    pub fn is_back(&mut self, name: &str) {
        if self.node(name).is_some() {
            self.broker_back_at = Instant::now();
        }
    }

    /// A broker's number, counted from 1.
    fn node(&self, name: &str) -> Option<usize> {
        let place = self
            .ground
            .brokers()
            .iter()
            .position(|broker| *broker == name);
        place.map(|place| place + 1)
    }

    fn server(&self, name: &str) -> anyhow::Result<Server> {
        Ok(match (self.node(name), name) {
            (Some(node), _) => Server::Broker(Arc::clone(&self.kafka), node),
            (None, "postgres") => Server::Postgres(Arc::clone(&self.postgres)),
            (None, "s3") => Server::S3(Arc::clone(&self.s3)),
            (None, other) => bail!("there is no server {other}"),
        })
    }

    fn keep_log(&self, name: &str) -> anyhow::Result<()> {
        if let Some(node) = self.node(name) {
            let file = self.folder.join(format!("{name}.log"));
            self.kafka.append_log(node, &file)?;
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for broker in self.ground.brokers() {
            // Of one that is just being started there is none yet.
            let _ = self.keep_log(broker);
        }
    }
}

/// One of them, for a thread of its own.
enum Server {
    Broker(Arc<Kafka>, usize),
    Postgres(Arc<Postgres>),
    S3(Arc<S3>),
}

impl Server {
    fn kill(&self) {
        match self {
            Self::Broker(kafka, node) => kafka.kill_node(*node),
            Self::Postgres(postgres) => postgres.kill(),
            Self::S3(s3) => s3.kill(),
        }
    }

    fn run(&self) {
        match self {
            Self::Broker(kafka, node) => kafka.run_node(*node),
            Self::Postgres(postgres) => postgres.run(),
            Self::S3(s3) => s3.run(),
        }
    }

    fn freeze(&self) -> Frozen {
        match self {
            Self::Broker(kafka, node) => kafka.freeze_node(*node),
            Self::Postgres(postgres) => postgres.freeze(),
            Self::S3(s3) => s3.freeze(),
        }
    }
}

/// Waits for a script on a thread of its own, so that other runs go on meanwhile. What it panics with is on standard error.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    spawn_blocking(work)
        .await
        .with_context(|| no_word_of("servers.sh"))
}

fn no_word_of(what: &str) -> String {
    format!("{what} panicked, see above")
}
