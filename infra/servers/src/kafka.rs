//! Apache Kafka.

use std::{fs, io, net::SocketAddr, path::Path, sync::OnceLock};

use kafka_protocol::{
    messages::{FindCoordinatorRequest, MetadataRequest},
    protocol::StrBytes,
};

use crate::{Folder, Frozen, free_ports, is_installed, requests::ask};

/// On a machine with more to do than it can, brokers and controllers that only wait for their turn are not to be taken for dead:
/// that would be a second one that is lost. No longer than that: a broker that was killed is let in again only once its session is
/// over, and its start takes about as long.
const PATIENT: &str = "broker.session.timeout.ms=4000\ncontroller.quorum.fetch.timeout.ms=4000\n";

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

    /// One broker, or a cluster, each of which is reached at its place in `advertised`.
    ///
    /// Not by clients alone: brokers go the same way to each other, as they do in most installations, so that who cuts a place off
    /// keeps followers and the markers of transactions away too. Controllers are reached without it: a broker that they lose is one
    /// that stands still.
    ///
    /// # Panics
    /// Where they do not start.
    pub fn behind(advertised: &[SocketAddr]) -> Option<Self> {
        let brokers = u16::try_from(advertised.len()).unwrap();
        Self::launch_with(brokers, 0, |_, folder| {
            for (node, place) in (1..).zip(advertised) {
                let own = folder.join(format!("properties.{node}"));
                fs::write(own, format!("advertised.listeners=PLAINTEXT://{place}\n")).unwrap();
            }
            match brokers {
                1 => String::new(),
                _ => PATIENT.to_owned(),
            }
        })
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
        let addresses: Vec<String> = self.addresses().iter().map(SocketAddr::to_string).collect();
        addresses.join(",")
    }

    /// Where each of its nodes listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        (self.port..)
            .step_by(2)
            .take(self.instances.len())
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect()
    }

    /// Whether each node says that all of them are there, and that every copy of every partition is in sync.
    pub fn is_in_sync(&self) -> bool {
        let request = MetadataRequest::default().with_topics(None);
        self.addresses().iter().all(|address| {
            ask(&address.to_string(), &request, 8).is_some_and(|answer| {
                let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
                answer.brokers.len() == self.instances.len()
                    && partitions.all(|partition| {
                        partition.error_code == 0
                            && partition.isr_nodes.len() == partition.replica_nodes.len()
                    })
            })
        })
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

    /// Starts one node of a cluster, counted from 1, on what is there.
    pub fn run_node(&self, node: usize) {
        self.folder.script(&["start", &self.instances[node - 1]]);
    }

    /// Stops one node of a cluster, counted from 1, where it stands, until [`Frozen`] is dropped.
    pub fn freeze_node(&self, node: usize) -> Frozen {
        self.folder.freeze(&[&self.instances[node - 1]])
    }

    /// Puts what a node, counted from 1, said since its last start at the end of a file: it is gone with the next start but one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append_log(&self, node: usize, to: &Path) -> io::Result<()> {
        let log = self.folder.path.join(&self.instances[node - 1]).join("log");
        let mut file = fs::File::options().create(true).append(true).open(to)?;
        io::copy(&mut fs::File::open(log)?, &mut file).map(drop)
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
