//! `kill -9` of any process at any point: every accepted task still ends, once.
//!
//! A short fixed round runs in every test run. `ATELIER_KILLS=30 ATELIER_KILL_TASKS=60 ATELIER_KILL_SEED=7` makes it the
//! long one (`scripts/kills.sh`).
#![allow(clippy::unwrap_used)]

// No test uses all of it.
#[allow(dead_code)]
#[path = "../../stores/tests/support/postgres.rs"]
mod postgres;
mod support;

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use atelier_schemas::TopicTable;
use postgres::Server;
use serde_json::json;
use support::{Installation, PATIENCE, samples};
use uuid::Uuid;

/// The broker with the gateway in one process, and every stage in one of its own.
const UP: &str = "up";
const BROKER: &str = "broker";
const POSTGRES: &str = "postgres";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A small generator with a seed, so that a run can be repeated: splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

fn start(installation: &mut Installation, name: &str) {
    match name {
        UP => installation.start(UP, &["up", "--without-stages"]),
        stage => installation.start(stage, &["stage", stage]),
    }
}

/// Kills the broker itself, the child of `up`, which starts it again; answers whether there was one to kill.
fn kill_broker(installation: &Installation) -> bool {
    let pid_file = installation.folder.path().join("data/log/lock");
    let pid = fs::read_to_string(&pid_file).unwrap_or_default();
    let Some(pid) = pid.split_whitespace().next() else {
        return false;
    };
    kill_process(pid)
}

fn kill_process(pid: &str) -> bool {
    let mut kill = std::process::Command::new("kill");
    kill.args(["-KILL", pid]).stderr(Stdio::null());
    kill.status().unwrap().success()
}

#[test]
fn every_accepted_task_ends_once_whatever_is_killed() {
    kill_while_tasks_run(Installation::new(""), None);
}

#[test]
fn every_accepted_task_ends_once_with_a_ledger_in_postgresql_that_crashes_too() {
    // What is acknowledged must outlive the crash, so this server syncs.
    let server = Server::start(&[]);
    let database = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(server.database());
    let ledger = format!("[stores]\nledger_url = \"{}\"\n", server.url(&database));
    kill_while_tasks_run(Installation::new(&ledger), Some(&server));
}

#[test]
fn a_broker_that_is_killed_while_it_starts_is_started_again() {
    let mut installation = Installation::new("");
    start(&mut installation, UP);
    let up = installation.process_id(UP);
    let since = Instant::now();
    // At once: it starts within some tens of milliseconds.
    let broker = loop {
        assert!(since.elapsed() < PATIENCE, "no broker was started");
        if let Some(child) = child_of(up) {
            break child;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    kill_process(&broker);
    installation.wait_until_ready();
    assert_eq!(installation.take_ended(), Vec::<String>::new());
}

/// The only child of a process; the system lists them by the thread that made them.
fn child_of(parent: u32) -> Option<String> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let mut children = threads.flatten().filter_map(|thread| {
        let children = fs::read_to_string(thread.path().join("children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    });
    children.next()
}

fn kill_while_tasks_run(mut installation: Installation, server: Option<&Server>) {
    let kills_of_each = setting("ATELIER_KILLS", 1);
    let tasks = setting("ATELIER_KILL_TASKS", 14);
    let seed = setting("ATELIER_KILL_SEED", 1);
    let mut random = Random(seed);
    println!("kills of each process: {kills_of_each}, tasks: {tasks}, seed: {seed}");

    let stages: Vec<&str> = TopicTable::embedded()
        .stages()
        .iter()
        .map(String::as_str)
        .collect();
    start(&mut installation, UP);
    installation.wait_until_ready();
    for stage in &stages {
        start(&mut installation, stage);
    }
    let picture = fs::read(samples().join("dress.jpg")).unwrap();
    let broken = b"GIF89a, and then nothing".to_vec();

    let mut victims: Vec<&str> = stages.iter().copied().chain([UP, BROKER]).collect();
    victims.extend(server.map(|_| POSTGRES));
    victims = victims
        .iter()
        .flat_map(|name| std::iter::repeat_n(*name, kills_of_each as usize))
        .collect();
    let mut accepted: Vec<Uuid> = Vec::new();
    let mut waiting: Vec<Uuid> = (0..tasks).map(|_| Uuid::new_v4()).collect();
    // Tasks and kills are mixed evenly, so that work is under way at every kill.
    let begun = Instant::now();
    let patience = PATIENCE + Duration::from_secs(5) * (victims.len() + waiting.len()) as u32;
    while !waiting.is_empty() || !victims.is_empty() {
        if begun.elapsed() > patience {
            installation.print_logs();
            panic!("not accepted: {waiting:?}; not killed: {victims:?}");
        }
        std::thread::sleep(Duration::from_millis(random.next(400)));
        start_what_ended(&mut installation);
        let place = random.next((waiting.len() + victims.len()) as u64) as usize;
        if let Some(victim) = victims.get(place).copied() {
            match (victim, server) {
                (BROKER, _) => {
                    if !kill_broker(&installation) {
                        continue;
                    }
                }
                (POSTGRES, Some(server)) => {
                    server.crash();
                    std::thread::sleep(Duration::from_millis(random.next(300)));
                    server.run();
                }
                _ => {
                    installation.kill(victim);
                    std::thread::sleep(Duration::from_millis(random.next(300)));
                    start(&mut installation, victim);
                }
            }
            victims.swap_remove(place);
        } else if let Some(key) = waiting.pop() {
            match submit(&installation, key, &picture, &broken) {
                Some(task) => accepted.push(task),
                None => waiting.insert(0, key),
            }
        }
    }
    // The last ones to start may still find no server.
    std::thread::sleep(Duration::from_secs(2));
    start_what_ended(&mut installation);
    installation.wait_until_ready();
    assert_eq!(accepted.len() as u64, tasks);
    for task in &accepted {
        installation.wait_for_end(*task);
    }
    support::assert_ended_once(&installation, &accepted, 2);
    for task in &accepted {
        let answer = installation.task(*task).unwrap();
        assert_eq!(
            (answer.summary.success_count, answer.summary.failure_count),
            (1, 1),
            "task {task}"
        );
    }
}

/// A process that finds no ledger at its start, or whose broker is killed while it starts, says so and ends; whoever
/// watches it starts it again.
fn start_what_ended(installation: &mut Installation) {
    for ended in installation.take_ended() {
        println!("{ended} ended by itself");
        start(installation, &ended);
    }
}

/// Sends the request, under one key, until the gateway says that it has the task: what a careful client does. `None` where
/// the gateway is away just now.
fn submit(installation: &Installation, key: Uuid, picture: &[u8], broken: &[u8]) -> Option<Uuid> {
    let part = |name: &'static str, bytes: &[u8]| {
        reqwest::blocking::multipart::Part::bytes(bytes.to_vec()).file_name(name)
    };
    let form = reqwest::blocking::multipart::Form::new()
        .text("options", json!({ "quality": "low" }).to_string())
        .part("images", part("dress.jpg", picture))
        .part("images", part("broken.gif", broken));
    let request = installation
        .client()
        .post(installation.url("/api/v1/tasks"))
        .header("Idempotency-Key", key.to_string());
    let answer = request.multipart(form).send().ok()?;
    assert!(
        [200, 202, 500, 503].contains(&answer.status().as_u16()),
        "{} {:?}",
        answer.status(),
        answer.text()
    );
    let body: atelier_schemas::TaskAnswer = answer.json().ok()?;
    Some(body.task_id)
}
