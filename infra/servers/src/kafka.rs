//! Apache Kafka.

use std::{fs, path::Path, sync::OnceLock};

use kafka_protocol::{messages::FindCoordinatorRequest, protocol::StrBytes};

use crate::{Folder, Frozen, free_ports, is_installed, requests::ask};

/// What a broker coordinates.
#[derive(Clone, Copy, Debug)]
pub enum Coordinator<'a> {
    /// The members of a consumer group.
    Group(&'a str),
    /// The transactions of a transactional id.
    Transaction(&'a str),
}

/// One broker, or a cluster of three. Dropping it ends it.
#[derive(Debug)]
pub struct Kafka {
    folder: Folder,
    instances: Vec<String>,
    port: u16,
}

impl Kafka {
    /// The broker that the tests of this binary share, one test at a time. `None` where Kafka is not installed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Kafka>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("")).as_ref()
    }

    /// A broker of its own with further properties of Kafka's, a line each.
    pub fn start(properties: &str) -> Option<Self> {
        Self::launch(1, properties)
    }

    /// Three brokers, of which any one may be lost.
    pub fn cluster() -> Option<Self> {
        Self::launch(3, "")
    }

    fn launch(brokers: u16, properties: &str) -> Option<Self> {
        Self::launch_with(brokers, 0, |_, _| properties.to_owned())
    }

    /// `further_ports` lie above its own; `properties` are asked for with the first port and the folder.
    pub(crate) fn launch_with(
        brokers: u16,
        further_ports: u16,
        properties: impl FnOnce(u16, &Path) -> String,
    ) -> Option<Self> {
        if !is_installed("kafka") {
            return None;
        }
        let port = free_ports(2 * brokers + further_ports);
        let mut folder = Folder::new();
        let file = folder.path.join("properties");
        let text = properties(port, &folder.path);
        fs::write(&file, text).unwrap();
        let settings = [
            ("KAFKA_PORT", port.to_string()),
            ("KAFKA_BROKERS", brokers.to_string()),
            ("KAFKA_HEAP", "256m".to_owned()),
            // Compiled for a start of seconds, not for days of work.
            ("KAFKA_JVM_OPTIONS", "-XX:TieredStopAtLevel=1".to_owned()),
            ("KAFKA_PROPERTIES", file.display().to_string()),
            (
                "KAFKA_USERS",
                folder.path.join("users").display().to_string(),
            ),
        ];
        folder.environment = settings
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let kafka = Self {
            folder,
            instances: match brokers {
                1 => vec!["kafka".to_owned()],
                _ => (1..=brokers)
                    .map(|node| format!("kafka-{node}-of-{brokers}"))
                    .collect(),
            },
            port,
        };
        kafka.run();
        Some(kafka)
    }

    /// Where it listens, as clients want it.
    pub fn bootstrap_servers(&self) -> String {
        let addresses: Vec<String> = (0..self.instances.len())
            .map(|node| format!("127.0.0.1:{}", usize::from(self.port) + 2 * node))
            .collect();
        addresses.join(",")
    }

    /// Starts what does not run, on what is there.
    pub fn run(&self) {
        self.folder.script(&["start", "kafka"]);
    }

    /// SIGTERM for all of it, and waits.
    pub fn stop(&self) {
        self.folder.script(&["stop", "kafka"]);
    }

    /// SIGKILL for all of it.
    pub fn kill(&self) {
        self.folder.script(&["kill", "kafka"]);
    }

    /// SIGKILL for one node of a cluster, counted from 1.
    pub fn kill_node(&self, node: usize) {
        self.folder.script(&["kill", &self.instances[node - 1]]);
    }

    /// The folder of all that it has written.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The node, counted from 1, that coordinates a consumer group or a transactional id.
    ///
    /// # Panics
    /// Where none is found within 30 s.
    pub fn coordinator(&self, of: Coordinator<'_>) -> usize {
        let (key, key_type) = match of {
            Coordinator::Group(name) => (name, 0),
            Coordinator::Transaction(id) => (id, 1),
        };
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(key.to_owned()))
            .with_key_type(key_type);
        for _ in 0..300 {
            for address in self.bootstrap_servers().split(',') {
                if let Some(answer) = ask(address, &request, 2)
                    && answer.error_code == 0
                {
                    return usize::try_from(answer.node_id.0).unwrap();
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("{of:?} has no coordinator");
    }

    /// Stops its processes where they stand, until [`Frozen`] is dropped.
    pub fn freeze(&self) -> Frozen {
        let instances: Vec<&str> = self.instances.iter().map(String::as_str).collect();
        self.folder.freeze(&instances)
    }
}
