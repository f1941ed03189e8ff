//! The real servers of a run.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, bail, ensure};
use atelier_servers::{Frozen, Kafka, Postgres, S3};

use super::processes::Environment;
use crate::plan::Action;

const ACCESS_KEY: &str = "chaos";
/// Of a server on loopback that lives as long as the run.
const SECRET_KEY: &str = "only-for-this-run";

/// Kafka, PostgreSQL and S3. Dropping it ends them.
pub(super) struct Servers {
    // Before the servers, which are to end running.
    frozen: BTreeMap<String, Frozen>,
    kafka: Kafka,
    postgres: Postgres,
    s3: S3,
}

impl Servers {
    /// Starts them. Clients of Kafka are told to connect to `advertised`.
    pub fn start(advertised: SocketAddr) -> anyhow::Result<Self> {
        let missing = "is not installed: run `make servers` once";
        ensure!(S3::is_installed(), "s3 {missing}");
        let properties = format!("advertised.listeners=PLAINTEXT://{advertised}\n");
        Ok(Self {
            frozen: BTreeMap::new(),
            kafka: Kafka::start(&properties).with_context(|| format!("kafka {missing}"))?,
            postgres: Postgres::start().with_context(|| format!("postgres {missing}"))?,
            s3: S3::start(ACCESS_KEY, SECRET_KEY, None),
        })
    }

    /// Where Kafka listens.
    pub fn kafka(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.kafka.bootstrap_servers().parse()?)
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

    /// Kills, starts, stops or resumes one of them.
    pub fn apply(&mut self, action: &Action) -> anyhow::Result<()> {
        match action {
            Action::Kill(name) => match name.as_str() {
                "kafka" => self.kafka.kill(),
                "postgres" => self.postgres.kill(),
                _ => self.s3.kill(),
            },
            Action::Start(name) => match name.as_str() {
                "kafka" => self.kafka.run(),
                "postgres" => self.postgres.run(),
                _ => self.s3.run(),
            },
            Action::Stop(name) => {
                let frozen = match name.as_str() {
                    "kafka" => self.kafka.freeze(),
                    "postgres" => self.postgres.freeze(),
                    _ => self.s3.freeze(),
                };
                self.frozen.insert(name.clone(), frozen);
            }
            Action::Resume(name) => drop(self.frozen.remove(name)),
            other => bail!("`{other}` is not for a server"),
        }
        Ok(())
    }
}
