//! The system under test: processes, the servers they use, the links between them.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{net::TcpListener, time::sleep};

use super::{
    processes::{Environment, Processes, Recipe, beside},
    proxy::{Mode, Proxy},
    servers::Servers,
};
use crate::{
    check::{Promise, Promises},
    plan::{Action, GATEWAY, Ground, Plan, instances},
    planted::Planting,
};

/// A machine under load may take its time to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running system. Dropping it kills all of it.
pub(super) struct System {
    ground: Ground,
    processes: Processes,
    servers: Option<Servers>,
    links: BTreeMap<String, Proxy>,
    /// Variables of every process.
    pub environment: Environment,
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    ledger_url: String,
    blobs_url: String,
    s3_endpoint: Option<String>,
}

impl System {
    /// Starts everything and waits until the gateway is ready.
    pub async fn start(
        plan: &Plan,
        ground: Ground,
        planting: &Planting,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let data = folder.join("data");
        fs::create_dir(&data)?;
        let mut system = Self {
            ground,
            processes: Processes::new(folder),
            servers: None,
            links: BTreeMap::new(),
            environment: planting.environment(),
            gateway: free_address(),
            ledger_url: format!("sqlite://{}", data.join("ledger.sqlite").display()),
            blobs_url: format!("file://{}", data.join("blobs").display()),
            s3_endpoint: None,
        };
        match ground {
            Ground::Embedded => system.start_broker(&data).await?,
            Ground::Servers | Ground::Cluster => system.start_servers(folder).await?,
        }
        let config = folder.join("atelier.toml");
        fs::write(&config, system.configuration(plan)?)?;
        for (name, value) in [("ATELIER_CONFIG", &config), ("ATELIER_DATA_DIR", &data)] {
            let value = value.display().to_string();
            system.environment.push((name.to_owned(), value));
        }
        system
            .environment
            .push(("NO_COLOR".to_owned(), "1".to_owned()));
        system.make_topics().await?;
        system.add(GATEWAY, &[GATEWAY], planting)?;
        for (name, stage, instance) in instances(plan.second_instances) {
            system.add(&name, &["stage", stage, "--instance", instance], planting)?;
        }
        system.wait_until_ready().await?;
        Ok(system)
    }

    async fn start_broker(&mut self, data: &Path) -> anyhow::Result<()> {
        let broker = self.ground.brokers()[0];
        let address = free_address();
        let advertised = self.link(broker, listener().await?, address)?;
        let arguments = [
            "--data-dir".to_owned(),
            data.join("log").display().to_string(),
            "--listen".to_owned(),
            address.to_string(),
            "--advertise".to_owned(),
            advertised.to_string(),
            // Processes die, the machine does not.
            "--durability".to_owned(),
            "os".to_owned(),
        ];
        let recipe = Recipe {
            program: beside("atelier-broker")?,
            arguments: arguments.into(),
            environment: Vec::new(),
            first_environment: Vec::new(),
        };
        self.processes.add(broker, recipe)
    }

    async fn start_servers(&mut self, folder: &Path) -> anyhow::Result<()> {
        // A broker of Kafka tells its clients where it is, so the place before it must be known first.
        let mut before = Vec::new();
        for _ in self.ground.brokers() {
            before.push(listener().await?);
        }
        let places = before.iter().map(TcpListener::local_addr);
        let places = places.collect::<Result<Vec<SocketAddr>, _>>()?;
        let servers = Servers::start(self.ground, places, folder).await?;
        for ((name, listener), address) in self
            .ground
            .brokers()
            .iter()
            .zip(before)
            .zip(servers.brokers())
        {
            self.link(name, listener, address)?;
        }
        let postgres = self.link("postgres", listener().await?, servers.postgres())?;
        let s3 = self.link("s3", listener().await?, servers.s3()?)?;
        self.ledger_url = format!("postgres://atelier@{postgres}/atelier");
        self.blobs_url = servers.blobs_url();
        self.s3_endpoint = Some(format!("http://{s3}"));
        self.environment.extend(servers.secrets());
        self.servers = Some(servers);
        Ok(())
    }

    /// Puts a proxy before a server; answers where clients connect.
    fn link(
        &mut self,
        server: &str,
        listener: TcpListener,
        address: SocketAddr,
    ) -> anyhow::Result<SocketAddr> {
        let proxy = Proxy::start(listener, address)?;
        let link = proxy.address;
        self.links.insert(server.to_owned(), proxy);
        Ok(link)
    }

    fn configuration(&self, plan: &Plan) -> anyhow::Result<String> {
        let endpoint = self.s3_endpoint.as_ref().map_or(String::new(), |endpoint| {
            // A server that stands still is asked again soon.
            format!("[stores.blobs.s3]\nendpoint = \"{endpoint}\"\nrequest_timeout_ms = 5000\n")
        });
        let copies = if self.ground == Ground::Cluster {
            "replication_factor = 3\nmin_insync_replicas = 2\n"
        } else {
            ""
        };
        Ok(format!(
            r#"[gateway]
listen = "{gateway}"
[broker]
embedded = false
[kafka]
bootstrap_servers = "{bootstrap_servers}"
{copies}[stores]
ledger_url = "{ledger}"
blobs_url = "{blobs}"
# Processes die, the machine does not.
[stores.ledger]
durability = "os"
[stores.blobs]
durability = "os"
{endpoint}[models]
provider = "cpu"
[stages.matte]
preload = ["u2netp"]
[stages.ingest.fetch]
allow_addresses = ["127.0.0.0/8"]
[runtime]
static_membership = {static_membership}
# A run takes seconds: nothing waits for minutes.
[runtime.retry]
delay_ms = 500
max_delay_ms = 2000
unavailable_max_backoff_ms = 1000
"#,
            gateway = self.gateway,
            bootstrap_servers = self.bootstrap_servers()?,
            ledger = self.ledger_url,
            blobs = self.blobs_url,
            static_membership = plan.static_membership,
        ))
    }

    fn add(&mut self, name: &str, arguments: &[&str], planting: &Planting) -> anyhow::Result<()> {
        let recipe = Recipe {
            program: beside("atelier")?,
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            environment: self.environment.clone(),
            first_environment: planting.first_environment(name),
        };
        self.processes.add(name, recipe)
    }

    async fn make_topics(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            let output = tokio::process::Command::new(beside("atelier")?)
                .args(["topics", "apply"])
                .envs(self.environment.iter().cloned())
                .kill_on_drop(true)
                .output()
                .await?;
            if output.status.success() {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                bail!("no topics: {}", String::from_utf8_lossy(&output.stderr));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://{}/health/ready", self.gateway);
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            self.start_what_ended()?;
            if let Ok(answer) = reqwest::get(&url).await
                && answer.status().is_success()
            {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("the gateway is not ready within {} s", PATIENCE.as_secs())
    }

    /// Where clients find the log.
    pub fn bootstrap_servers(&self) -> anyhow::Result<String> {
        let brokers = self.ground.brokers().iter();
        let addresses: Vec<String> = brokers
            .map(|broker| Ok(self.proxy(broker)?.address.to_string()))
            .collect::<anyhow::Result<_>>()?;
        Ok(addresses.join(","))
    }

    /// Makes or ends a fault. One that begins waits until what it hits has come back from the one before.
    pub async fn apply(&mut self, action: &Action) -> anyhow::Result<()> {
        let since = Instant::now();
        while let Some(servers) = &mut self.servers
            && !servers.may_begin(action).await?
        {
            if since.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                bail!("cannot {action}: the servers are not up and in sync within {seconds} s");
            }
            self.start_what_ended()?;
            sleep(Duration::from_millis(100)).await;
        }
        if let Some(servers) = &mut self.servers {
            match action {
                Action::Kill(name)
                | Action::Start(name)
                | Action::Stop(name)
                | Action::Resume(name)
                    if !self.processes.has(name) =>
                {
                    return servers.apply(action).await;
                }
                Action::Restore(name) => servers.is_back(name),
                _ => {}
            }
        }
        match action {
            Action::Kill(name) => self.processes.kill(name),
            Action::Start(name) => self.processes.start(name),
            Action::Stop(name) => self.processes.stop(name),
            Action::Resume(name) => self.processes.resume(name),
            Action::Cut(server) => self.set(server, Mode::Cut),
            Action::Slow(server, delay_ms) => {
                self.set(server, Mode::Slow(Duration::from_millis(*delay_ms)))
            }
            Action::Hold(server) => self.set(server, Mode::Hold),
            Action::Restore(server) => self.set(server, Mode::Pass),
            Action::Submit(_) | Action::Cancel(_) => Ok(()),
        }
    }

    /// Starts processes that ended by themselves: one that finds no ledger at its start says so and ends, and whoever
    /// watches it starts it again.
    pub fn start_what_ended(&mut self) -> anyhow::Result<()> {
        self.processes.start_what_ended()
    }

    /// Waits until every server that was started again is up.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        while let Some(servers) = &mut self.servers
            && !servers.are_up().await?
        {
            // A start that takes too long fails by itself.
            self.start_what_ended()?;
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// What the checker needs to know.
    pub fn promises(&self, accepted: Vec<Promise>) -> anyhow::Result<Promises> {
        Ok(Promises {
            bootstrap_servers: self.bootstrap_servers()?,
            ledger_url: self.ledger_url.clone(),
            blobs_url: self.blobs_url.clone(),
            s3_endpoint: self.s3_endpoint.clone(),
            accepted,
        })
    }

    /// Ends stages and gateway in good order; the log and the stores stay.
    pub async fn drain(&mut self) -> anyhow::Result<Vec<String>> {
        self.processes.drain(self.ground.brokers()).await
    }

    fn proxy(&self, server: &str) -> anyhow::Result<&Proxy> {
        self.links
            .get(server)
            .with_context(|| format!("there is no link to {server}"))
    }

    fn set(&self, server: &str, mode: Mode) -> anyhow::Result<()> {
        self.proxy(server)?.set(mode);
        Ok(())
    }
}

async fn listener() -> anyhow::Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}

/// An address on loopback that nobody listens on.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], atelier_servers::free_ports(1)))
}
