//! Many pages on one gateway: what their event streams cost, and how late events arrive.
//!
//! Every event carries the time at which it was made, and the clients, in processes of their own on the same clock, compare.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use atelier_schemas::{Envelope, StageTiming, events::StageCompleted};
use chrono::{DateTime, Utc};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};
use uuid::Uuid;

use crate::{resident_mb, support::Installation};

/// The first argument of a process of clients.
pub const CLIENT: &str = "listen";
const LISTENERS: u64 = 20_000;
/// A process has other files open besides.
const OTHER_FILES: u64 = 300;
const CLIENT_PROCESSES: u64 = 2;
const TASKS: usize = 400;
const MEASURED: Duration = Duration::from_secs(30);

/// Two gateways, one after the other: all clients on the feed of all tasks, as the page is; and each on one task's own.
pub fn of_one_gateway() {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        },
    )
    .unwrap();
    let listeners = LISTENERS.min(limit - OTHER_FILES);
    if listeners < LISTENERS {
        println!("({LISTENERS} do not fit: this machine lets a process open {limit} files)");
    }
    let pace = |name: &str, default: f64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    measure(
        listeners,
        Feed::Everything,
        pace("ATELIER_BENCH_FEED_EVENTS", 1.0),
    );
    measure(
        listeners,
        Feed::OwnTask,
        pace("ATELIER_BENCH_TASK_EVENTS", 200.0),
    );
}

#[derive(Clone, Copy)]
enum Feed {
    Everything,
    OwnTask,
}

fn measure(listeners: u64, feed: Feed, events_per_second: f64) {
    let mut installation = Installation::new("");
    let config = installation.folder.path().join("atelier.toml");
    let text = fs::read_to_string(&config).unwrap();
    let more = "[gateway]\nmax_event_streams = 30000\n";
    fs::write(&config, text.replacen("[gateway]\n", more, 1)).unwrap();
    installation.start("up", &["up", "--without-stages"]);
    installation.wait_until_ready();
    let tasks = tasks(&installation);
    let paths: Vec<String> = match feed {
        Feed::Everything => vec!["/api/v1/events".to_owned()],
        Feed::OwnTask => tasks
            .iter()
            .map(|task| format!("/api/v1/tasks/{task}/events"))
            .collect(),
    };
    let process = installation.process_id("up");
    let before_mb = resident_mb(process);
    let started = Instant::now();
    let mut clients: Vec<Clients> = (0..CLIENT_PROCESSES)
        .map(|_| {
            Clients::start(
                installation.gateway_port,
                listeners / CLIENT_PROCESSES,
                &paths,
            )
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.line(), "connected");
    }
    println!(
        "{listeners} streams are open after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let used_before = processor_seconds(process);
    let events = send_events(&installation, &tasks, events_per_second);
    std::thread::sleep(Duration::from_secs(3));
    let used = processor_seconds(process) - used_before;
    let resident = resident_mb(process);
    let mut delays_ms: Vec<f64> = clients.into_iter().flat_map(Clients::delays_ms).collect();
    delays_ms.sort_by(f64::total_cmp);
    let at = |share: f64| delays_ms[((delays_ms.len() - 1) as f64 * share) as usize];
    let what = match feed {
        Feed::Everything => "each on the feed of all tasks",
        Feed::OwnTask => "each on its own task",
    };
    println!(
        "{events} events, {} deliveries, {:.1} us of processor time each",
        delays_ms.len(),
        used / delays_ms.len() as f64 * 1e6
    );
    println!(
        "=> {listeners} SSE listeners, {what}, {events_per_second} events/s: resident {resident} MB (idle {before_mb} MB), delivery p50 {:.0} ms, p99 {:.0} ms, slowest {:.0} ms\n",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Tasks that nobody works on.
fn tasks(installation: &Installation) -> Vec<Uuid> {
    let client = installation.client();
    let request = json!({ "images": ["https://picture.invalid/1.jpg"] });
    let accept = |_| {
        let answer = client
            .post(installation.url("/api/v1/tasks"))
            .header("content-type", "application/json")
            .body(request.to_string());
        let text = answer.send().unwrap().text().unwrap();
        let answer: atelier_schemas::TaskAnswer = serde_json::from_str(&text).unwrap();
        answer.task_id
    };
    (0..TASKS).map(accept).collect()
}

/// Reports of stages at an even pace, of one task after the other; how many.
fn send_events(installation: &Installation, tasks: &[Uuid], per_second: f64) -> usize {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", installation.bootstrap())
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let count = (MEASURED.as_secs_f64() * per_second) as usize;
    let started = Instant::now();
    for (number, task) in tasks.iter().cycle().take(count).enumerate() {
        let due = Duration::from_secs_f64(number as f64 / per_second);
        while let Some(left) = due.checked_sub(started.elapsed()) {
            producer.poll(left);
        }
        let timing = StageTiming {
            stage: "matte".to_owned(),
            queue_ms: 12.5,
            processing_time_ms: 250.25,
        };
        let event = atelier_schemas::Event::from(StageCompleted {
            task_id: *task,
            image_id: Some(Uuid::new_v4()),
            timing,
        });
        let envelope = Envelope::root("/bench", event.event_type(), Uuid::new_v4(), *task);
        let headers = envelope.to_headers();
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        let (key, value) = (task.to_string(), event.to_json().unwrap());
        let record = BaseRecord::to("task-events").key(&key).payload(&value);
        producer
            .send(record.headers(headers))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    count
}

fn processor_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    ticks as f64 / 100.0
}

/// A process of clients.
struct Clients {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Clients {
    fn start(port: u16, count: u64, paths: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CLIENT, &port.to_string(), &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{}", paths.join(" ")).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Ends it; how late each event arrived.
    fn delays_ms(mut self) -> Vec<f64> {
        drop(self.input);
        let lines = self.output.lines().map(Result::unwrap);
        let delays = lines.map(|line| line.parse().unwrap()).collect();
        assert!(self.child.wait().unwrap().success());
        delays
    }
}

/// The process of clients: opens its streams, listens until its input ends, and writes how late each event arrived.
pub fn client() {
    let number = |place: usize| -> u64 { std::env::args().nth(place).unwrap().parse().unwrap() };
    let (port, count) = (number(2) as u16, number(3));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let paths: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let delays_ms = Arc::new(Mutex::new(Vec::<f64>::new()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let heard = Arc::clone(&delays_ms);
    runtime.block_on(async move {
        let opening = Arc::new(Semaphore::new(100));
        let connected = Arc::new(Semaphore::new(0));
        for number in 0..count {
            let path = paths[number as usize % paths.len()].clone();
            let place = Arc::clone(&opening).acquire_owned().await.unwrap();
            let (connected, heard) = (Arc::clone(&connected), Arc::clone(&heard));
            tokio::spawn(async move {
                let stream = open(port, &path).await;
                connected.add_permits(1);
                drop(place);
                listen(stream, &heard).await;
            });
        }
        let all = connected.acquire_many(count as u32).await.unwrap();
        println!("connected");
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        ended.await.unwrap().unwrap();
        all.forget();
    });
    // What is being heard just now is not needed any more.
    runtime.shutdown_background();
    for delay in delays_ms.lock().unwrap().iter() {
        println!("{delay:.3}");
    }
}

/// A stream whose first event has come.
async fn open(port: u16, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::with_capacity(1_024);
    while !head.windows(6).any(|bytes| bytes == b"event:") {
        let read = stream.read_buf(&mut head).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&head));
    }
    assert!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    stream
}

async fn listen(mut stream: TcpStream, delays_ms: &Mutex<Vec<f64>>) {
    const TIME: &[u8] = br#""time":""#;
    let mut unread = Vec::with_capacity(1_024);
    while stream
        .read_buf(&mut unread)
        .await
        .is_ok_and(|read| read > 0)
    {
        let now = Utc::now();
        // An event is long enough to come in pieces; its time is one word.
        while let Some(place) = unread.windows(TIME.len()).position(|bytes| bytes == TIME) {
            let from = place + TIME.len();
            let Some(length) = unread[from..].iter().position(|byte| *byte == b'"') else {
                break;
            };
            let text = std::str::from_utf8(&unread[from..from + length]).unwrap();
            let made_at: DateTime<Utc> = text.parse().unwrap();
            let delay = (now - made_at).as_seconds_f64() * 1_000.0;
            delays_ms.lock().unwrap().push(delay);
            unread.drain(..from + length);
        }
        let keep = unread.len().min(64);
        if !unread.windows(TIME.len()).any(|bytes| bytes == TIME) {
            unread.drain(..unread.len() - keep);
        }
    }
}
