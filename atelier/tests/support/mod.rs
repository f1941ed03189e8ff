//! Starts the real binaries in a temporary folder on free ports, speaks to them as users do, and leaves nothing behind.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use atelier_schemas::{TaskAnswer, TaskStatus};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, Headers as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// Longest wait for anything. Generous: these tests say what happens, not how fast.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples")
}

pub fn free_port() -> u16 {
    atelier_servers::free_ports(1)
}

/// Settings: what is known of a picture from before is not used, so that each picks up all of its work.
pub const WORK_ON_EVERY_PICTURE: &str = "[stages.matte]\nreuse_hours = 0\n";

/// One installation: a data folder, a configuration, two ports.
pub struct Installation {
    pub folder: TempDir,
    pub gateway_port: u16,
    pub broker_port: u16,
    bootstrap: String,
    /// Variables of the processes' environment beside the usual ones.
    pub environment: Vec<(&'static str, String)>,
    processes: Vec<(String, Child)>,
}

impl Installation {
    /// `extra` is TOML that is appended to the configuration.
    pub fn new(extra: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let (gateway_port, broker_port) = (free_port(), free_port());
        let config = format!(
            "[gateway]\nlisten = \"127.0.0.1:{gateway_port}\"\n[broker]\nlisten = \"127.0.0.1:{broker_port}\"\n{extra}"
        );
        fs::write(folder.path().join("atelier.toml"), config).unwrap();
        Self {
            folder,
            gateway_port,
            broker_port,
            bootstrap: format!("127.0.0.1:{broker_port}"),
            environment: Vec::new(),
            processes: Vec::new(),
        }
    }

    /// One whose log is on the broker at `bootstrap`.
    pub fn on_kafka(bootstrap: String) -> Self {
        let mut installation = Self::new("embedded = false\n");
        let config = installation.folder.path().join("atelier.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = format!("{text}[kafka]\nbootstrap_servers = \"{bootstrap}\"\n");
        fs::write(&config, text).unwrap();
        installation.bootstrap = bootstrap;
        installation
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
        command
            .args(arguments)
            .env("ATELIER_CONFIG", self.folder.path().join("atelier.toml"))
            .env("ATELIER_DATA_DIR", self.folder.path().join("data"))
            .env(
                "ATELIER_LOG",
                std::env::var("ATELIER_LOG").unwrap_or_else(|_| "info".into()),
            )
            .envs(self.environment.iter().cloned());
        command
    }

    /// Starts a process under `name`; its output goes to NAME.log in the folder.
    pub fn start(&mut self, name: &str, arguments: &[&str]) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path(name))
            .unwrap();
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes.push((name.to_owned(), child));
    }

    pub fn start_up(&mut self) {
        self.start("up", &["up"]);
        self.wait_until_ready();
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    pub fn process_id(&self, name: &str) -> u32 {
        self.processes
            .iter()
            .find(|(found, _)| found == name)
            .unwrap()
            .1
            .id()
    }

    /// SIGKILL, and reaps it.
    pub fn kill(&mut self, name: &str) {
        let place = self
            .processes
            .iter()
            .position(|(found, _)| found == name)
            .unwrap();
        let (_, mut child) = self.processes.swap_remove(place);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Names of the processes that have ended by themselves, each of them once.
    pub fn take_ended(&mut self) -> Vec<String> {
        let ended = self
            .processes
            .extract_if(.., |(_, child)| child.try_wait().unwrap().is_some());
        ended.map(|(name, _)| name).collect()
    }

    /// SIGTERM; answers with whether it left by itself with status 0.
    pub fn terminate(&mut self, name: &str) -> bool {
        let place = self
            .processes
            .iter()
            .position(|(found, _)| found == name)
            .unwrap();
        let (_, child) = self.processes.swap_remove(place);
        terminate(child)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.gateway_port)
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn client(&self) -> reqwest::blocking::Client {
        reqwest::blocking::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap()
    }

    pub fn wait_until_ready(&self) {
        self.wait_for("/health/ready", || {
            self.client()
                .get(self.url("/health/ready"))
                .send()
                .ok()
                .filter(|answer| answer.status() == 200)
                .map(|_| ())
        });
    }

    /// Asks until there is an answer, or fails with the logs.
    pub fn wait_for<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            if start.elapsed() > PATIENCE {
                self.print_logs();
                panic!("{what}: nothing within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The ends of all that was logged, also by processes that have ended.
    pub fn print_logs(&self) {
        let files = fs::read_dir(self.folder.path()).unwrap();
        for path in files.map(|file| file.unwrap().path()) {
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let log = fs::read_to_string(&path).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            println!(
                "--- {}\n{}",
                path.display(),
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }

    /// Status and body of an upload that may be refused.
    pub fn try_upload(&self, picture: Vec<u8>) -> (u16, String) {
        let part = reqwest::blocking::multipart::Part::bytes(picture).file_name("dress.jpg");
        let form = reqwest::blocking::multipart::Form::new().part("images", part);
        let answer = self
            .client()
            .post(self.url("/api/v1/tasks"))
            .multipart(form)
            .send()
            .unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    }

    /// Uploads pictures as one task.
    pub fn upload(&self, pictures: &[(&str, Vec<u8>)], options: &Value) -> TaskAnswer {
        let mut form =
            reqwest::blocking::multipart::Form::new().text("options", options.to_string());
        for (name, bytes) in pictures {
            let part = reqwest::blocking::multipart::Part::bytes(bytes.clone())
                .file_name((*name).to_owned());
            form = form.part("images", part);
        }
        let answer = self
            .client()
            .post(self.url("/api/v1/tasks"))
            .multipart(form)
            .send()
            .unwrap();
        assert_eq!(answer.status(), 202, "{}", answer.text().unwrap());
        serde_json::from_str(&answer.text().unwrap()).unwrap()
    }

    pub fn task(&self, task_id: Uuid) -> Option<TaskAnswer> {
        let answer = self
            .client()
            .get(self.url(&format!("/api/v1/tasks/{task_id}")))
            .send()
            .ok()?;
        (answer.status() == 200).then(|| serde_json::from_str(&answer.text().unwrap()).unwrap())
    }

    pub fn wait_for_end(&self, task_id: Uuid) -> TaskAnswer {
        self.wait_for(&format!("the end of task {task_id}"), || {
            self.task(task_id).filter(|task| task.status.is_terminal())
        })
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let answer = self.client().get(self.url(path)).send().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().unwrap().to_vec()
    }

    /// Everything committed on a topic, from the beginning to the end as it is now.
    pub fn read_topic(&self, topic: &str) -> Vec<Record> {
        read_topic(self.bootstrap(), topic)
    }

    pub fn produce(&self, topic: &str, key: &[u8], headers: &[(&str, &str)], value: &[u8]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .create()
            .unwrap();
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value.as_bytes()),
                })
            });
        producer
            .send(
                BaseRecord::to(topic)
                    .key(key)
                    .payload(value)
                    .headers(headers),
            )
            .map_err(|(error, _)| error)
            .unwrap();
        producer.flush(PATIENCE).unwrap();
    }

    /// As an upstream system does it: CloudEvents headers and a JSON body.
    pub fn submit_by_topic(&self, body: &Value) {
        let task = body["taskId"].as_str().unwrap().to_owned();
        let id = Uuid::new_v4().to_string();
        let headers = [
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", id.as_str()),
            ("ce_source", "/test"),
            ("ce_type", "atelier.task.submitted.v1"),
            ("ce_correlationid", task.as_str()),
        ];
        self.produce(
            "image-tasks",
            task.as_bytes(),
            &headers,
            body.to_string().as_bytes(),
        );
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // In the order they were started backwards: stages before the broker that they drain onto.
        for (_, child) in self.processes.drain(..).rev() {
            terminate(child);
        }
    }
}

fn terminate(mut child: Child) -> bool {
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    if !killed.success() {
        return child.wait().unwrap().success();
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// A record as any client reads it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub headers: Vec<(String, String)>,
    pub value: Vec<u8>,
}

impl Record {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap()
    }

    pub fn event_type(&self) -> &str {
        self.header("ce_type").unwrap_or_default()
    }
}

pub fn read_topic(bootstrap: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", format!("reader-{}", Uuid::new_v4()))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let partitions: Vec<i32> = metadata.topics()[0]
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect();
    assert!(!partitions.is_empty(), "there is no topic {topic}");
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut records, mut ended) = (Vec::new(), std::collections::BTreeSet::new());
    let start = Instant::now();
    while ended.len() < partitions.len() {
        assert!(start.elapsed() < PATIENCE, "{topic} does not end");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => records.push(Record {
                partition: message.partition(),
                offset: message.offset(),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .map(|header| {
                            let value = String::from_utf8_lossy(header.value.unwrap_or_default())
                                .into_owned();
                            (header.key.to_owned(), value)
                        })
                        .collect()
                }),
                value: message.payload().unwrap_or_default().to_vec(),
            }),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) => println!("reading {topic}: {error}"),
            None => {}
        }
    }
    records
}

/// Each of `tasks` has one end, each of its images one, no event id stands twice; what the ledger says agrees.
pub fn assert_ended_once(installation: &Installation, tasks: &[Uuid], images_per_task: usize) {
    let is_end = |event: &Record, task: &Uuid| {
        event.event_type() == "atelier.task.ended.v1"
            && event.json()["taskId"] == json!(task.to_string())
    };
    // The ledger knows an end a moment before the log does.
    let events = installation.wait_for("the ends on the log", || {
        let events = installation.read_topic("task-events");
        let has_end = |task| events.iter().any(|event| is_end(event, task));
        tasks.iter().all(has_end).then_some(events)
    });
    let mut ids = std::collections::HashSet::new();
    for event in &events {
        if let Some(id) = event.header("ce_id") {
            assert!(
                ids.insert(id.to_owned()),
                "event {id} ({}) stands twice",
                event.event_type()
            );
        }
    }
    for task in tasks {
        let of_task = |event_type: &str| -> Vec<&Record> {
            events
                .iter()
                .filter(|event| {
                    event.event_type() == event_type
                        && event.json()["taskId"] == json!(task.to_string())
                })
                .collect()
        };
        let ends = of_task("atelier.task.ended.v1");
        assert_eq!(ends.len(), 1, "task {task} has {} ends", ends.len());
        let images = of_task("atelier.image.ended.v1");
        assert_eq!(images.len(), images_per_task, "task {task}: ends of images");
        let answer = installation.task(*task).unwrap();
        assert!(answer.status.is_terminal());
        assert_eq!(ends[0].json()["status"], json!(answer.status.as_str()));
        let completed = answer
            .results
            .iter()
            .filter(|image| image.status == TaskStatus::Completed)
            .count();
        let by_events = images
            .iter()
            .filter(|event| event.json()["status"] == "completed")
            .count();
        assert_eq!(completed, by_events, "task {task}: ledger and log disagree");
    }
}
