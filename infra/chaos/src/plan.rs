//! What one run does and when, all of it from one seed.
//!
//! Invariant: the same seed, size and place give the same plan. No two faults meet on one process or one link, so that each
//! fault has an end and the system is whole when the plan is through.

use std::{collections::BTreeMap, fmt};

use fastrand::Rng;
use uuid::Uuid;

use crate::pipeline::Pipeline;

/// The process at the edge.
pub const GATEWAY: &str = "gateway";

/// Stages that run twice, so that one takes over what the other had while that stands still, and the other comes back.
const TWICE: [&str; 2] = ["preprocess", "persist"];

/// The stages' processes: name, stage, instance.
pub fn instances(with_second: bool) -> Vec<(String, &'static str, &'static str)> {
    let stages = Pipeline::get()
        .stages
        .iter()
        .map(|stage| stage.name.as_str());
    let first = stages.map(|stage| (stage.to_owned(), stage, "1"));
    let second = TWICE.map(|stage| (format!("{stage}-2"), stage, "2"));
    first
        .chain(second.into_iter().filter(|_| with_second))
        .collect()
}

/// What the run is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The embedded broker, SQLite, a folder.
    Embedded,
    /// Kafka, PostgreSQL, S3.
    Servers,
}

impl Ground {
    /// The process that keeps the log.
    pub fn log(self) -> &'static str {
        match self {
            Self::Embedded => "broker",
            Self::Servers => "kafka",
        }
    }

    /// The servers besides: they are reached by a link too.
    pub fn stores(self) -> &'static [&'static str] {
        match self {
            Self::Embedded => &[],
            Self::Servers => &["postgres", "s3"],
        }
    }
}

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Tasks that are submitted.
    pub tasks: usize,
    /// Faults that are made.
    pub faults: usize,
    /// Over how long both are spread, in milliseconds.
    pub span_ms: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where it comes from.
    pub seed: u64,
    /// Whether stages keep their partitions over a quick restart.
    pub static_membership: bool,
    /// Whether the stages of [`instances`] that can run twice do.
    pub second_instances: bool,
    /// Steps in the order of their times.
    pub steps: Vec<Step>,
}

/// Something that happens at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Milliseconds after the run began.
    pub at_ms: u64,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A client sends a task, and again until it is accepted.
    Submit(Submission),
    /// A client asks for a task's cancel.
    Cancel(Uuid),
    /// SIGKILL.
    Kill(String),
    /// A killed process starts again.
    Start(String),
    /// SIGSTOP.
    Stop(String),
    /// SIGCONT.
    Resume(String),
    /// The connections to a server break, and new ones are refused.
    Cut(String),
    /// What is sent to and by a server waits so long, in milliseconds.
    Slow(String, u64),
    /// Connections to a server stay open, and nothing comes through.
    Hold(String),
    /// The connections to a server are as they should be again.
    Restore(String),
}

/// A task as a client sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Its id, or the key that makes its id.
    pub key: Uuid,
    /// How it is sent.
    pub way: Way,
    /// What it holds.
    pub pictures: Vec<Kind>,
}

/// How a task is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As an upload to the gateway.
    Http,
    /// As an event, with addresses.
    Topic,
    /// As an event that nobody can read.
    UnreadableEvent,
}

/// What a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A small drawing that brings its own alpha, told apart by a number: no network runs.
    Drawing(u32),
    /// A photograph, cut out by the smallest network.
    Photograph,
    /// A drawing whose file ends early: passes `ingest`, fails in `preprocess`.
    Truncated(u32),
    /// No picture: fails in `ingest`.
    Nonsense,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, ground: Ground, size: Size) -> Self {
        let mut random = Rng::with_seed(seed);
        let static_membership = random.bool();
        let mut steps = Vec::new();
        for _ in 0..size.tasks {
            submit_one(&mut random, size, &mut steps);
        }
        let mut free_from: BTreeMap<String, u64> = BTreeMap::new();
        let mut faults = 0;
        while faults < size.faults {
            let at_ms = random.u64(0..size.span_ms);
            let (target, first, last, length_ms) = fault(&mut random, ground);
            let earliest = free_from.get(&target).copied().unwrap_or_default();
            // One after the other on each target: what does not fit at its moment follows the one before.
            let at_ms = at_ms.max(earliest);
            free_from.insert(target, at_ms + length_ms + 500);
            steps.push(Step {
                at_ms,
                action: first,
            });
            steps.push(Step {
                at_ms: at_ms + length_ms,
                action: last,
            });
            faults += 1;
        }
        steps.sort_by_key(|step| step.at_ms);
        Self {
            seed,
            static_membership,
            second_instances: true,
            steps,
        }
    }

    /// What was done to processes and links, in words.
    pub fn faults(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| {
            !matches!(
                step.action,
                Action::Submit(_)
                    | Action::Cancel(_)
                    | Action::Start(_)
                    | Action::Resume(_)
                    | Action::Restore(_)
            )
        })
    }
}

fn submit_one(random: &mut Rng, size: Size, steps: &mut Vec<Step>) {
    let at_ms = random.u64(0..size.span_ms);
    let key = uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid();
    let way = match random.u32(0..20) {
        0..13 => Way::Http,
        13..19 => Way::Topic,
        _ => Way::UnreadableEvent,
    };
    let count = if way == Way::UnreadableEvent {
        0
    } else {
        random.usize(1..=3)
    };
    let pictures = (0..count)
        .map(|_| match random.u32(0..20) {
            0..14 => Kind::Drawing(random.u32(..)),
            14..16 => Kind::Photograph,
            16..18 => Kind::Truncated(random.u32(..)),
            _ => Kind::Nonsense,
        })
        .collect();
    let submission = Submission { key, way, pictures };
    // One in six is stopped soon after.
    if way == Way::Http && random.u32(0..6) == 0 {
        steps.push(Step {
            at_ms: at_ms + random.u64(0..1_500),
            action: Action::Cancel(key),
        });
    }
    steps.push(Step {
        at_ms,
        action: Action::Submit(submission),
    });
}

/// What is hit, how, what ends it, and after how many milliseconds.
fn fault(random: &mut Rng, ground: Ground) -> (String, Action, Action, u64) {
    let mut processes: Vec<String> = instances(true).into_iter().map(|(name, ..)| name).collect();
    processes.push(GATEWAY.to_owned());
    let mut servers = vec![ground.log().to_owned()];
    servers.extend(ground.stores().iter().map(|&store| store.to_owned()));
    processes.extend(servers.iter().cloned());
    let process = || processes[0].clone();
    match random.u32(0..10) {
        0..5 => {
            let victim = random.choice(&processes).cloned().unwrap_or_else(process);
            let (kill, start) = (Action::Kill(victim.clone()), Action::Start(victim.clone()));
            (victim, kill, start, random.u64(0..1_500))
        }
        5..7 => {
            let victim = random.choice(&processes).cloned().unwrap_or_else(process);
            let (stop, resume) = (Action::Stop(victim.clone()), Action::Resume(victim.clone()));
            // Up to past the session time-out of six seconds: others take its partitions over.
            (victim, stop, resume, random.u64(300..8_000))
        }
        kind => {
            let server = random.choice(&servers).cloned().unwrap_or_else(process);
            let hit = match kind {
                7 => Action::Cut(server.clone()),
                8 => Action::Slow(server.clone(), random.u64(5..150)),
                _ => Action::Hold(server.clone()),
            };
            let link = format!("link to {server}");
            (link, hit, Action::Restore(server), random.u64(300..4_000))
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:6.3} s {}", self.at_ms as f64 / 1_000.0, self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(submission) => write!(
                out,
                "submit {} by {:?}: {:?}",
                submission.key, submission.way, submission.pictures
            ),
            Self::Cancel(key) => write!(out, "cancel {key}"),
            Self::Kill(process) => write!(out, "kill -9 {process}"),
            Self::Start(process) => write!(out, "start {process}"),
            Self::Stop(process) => write!(out, "SIGSTOP {process}"),
            Self::Resume(process) => write!(out, "SIGCONT {process}"),
            Self::Cut(server) => write!(out, "cut the connections to {server}"),
            Self::Slow(server, delay_ms) => {
                write!(out, "slow the connections to {server} by {delay_ms} ms")
            }
            Self::Hold(server) => write!(out, "hold the connections to {server}"),
            Self::Restore(server) => write!(out, "restore the connections to {server}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        tasks: 12,
        faults: 8,
        span_ms: 10_000,
    };

    #[test]
    fn a_seed_gives_the_same_plan_and_another_seed_another() {
        assert_eq!(
            Plan::of(42, Ground::Servers, SIZE),
            Plan::of(42, Ground::Servers, SIZE)
        );
        assert_ne!(
            Plan::of(42, Ground::Servers, SIZE).steps,
            Plan::of(43, Ground::Servers, SIZE).steps
        );
    }

    #[test]
    fn every_fault_ends_before_the_next_one_on_the_same_target() {
        for seed in 0..500 {
            let mut down: BTreeMap<String, &Action> = BTreeMap::new();
            let plan = Plan::of(seed, Ground::Servers, SIZE);
            for step in &plan.steps {
                let (target, begins) = match &step.action {
                    Action::Submit(_) | Action::Cancel(_) => continue,
                    Action::Kill(process) | Action::Stop(process) => (process.clone(), true),
                    Action::Start(process) | Action::Resume(process) => (process.clone(), false),
                    Action::Cut(server) | Action::Slow(server, _) | Action::Hold(server) => {
                        (format!("link to {server}"), true)
                    }
                    Action::Restore(server) => (format!("link to {server}"), false),
                };
                if begins {
                    assert!(down.insert(target, &step.action).is_none(), "seed {seed}");
                } else {
                    assert!(down.remove(&target).is_some(), "seed {seed}");
                }
            }
            assert!(down.is_empty(), "seed {seed}: {down:?}");
            assert_eq!(plan.faults().count(), SIZE.faults);
        }
    }
}
