//! What one run does and when, all of it from one seed.
//!
//! Invariant: the same seed, size and place give the same plan. No two faults meet on one process or one link, so that each
//! fault has an end and the system is whole when the plan is through. Of a cluster no two brokers are hit at the same time: any
//! one of them may be lost, and that is all that is promised.

use std::{collections::BTreeMap, fmt};

use fastrand::Rng;
use uuid::Uuid;

use crate::pipeline::Pipeline;

/// The process at the edge.
pub const GATEWAY: &str = "gateway";

/// Stages that run twice, so that one takes over what the other had while that stands still, and the other comes back.
const TWICE: [&str; 2] = ["preprocess", "persist"];

/// After how long a broker of a cluster has usually started and has caught up with the others, in milliseconds. Who carries the
/// plan out looks whether it has.
const UNTIL_IN_SYNC_MS: u64 = 4_000;

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
    /// The same with three brokers of Kafka.
    Cluster,
}

impl Ground {
    /// The processes that keep the log.
    pub fn brokers(self) -> &'static [&'static str] {
        match self {
            Self::Embedded => &["broker"],
            Self::Servers => &["kafka"],
            Self::Cluster => &["kafka-1", "kafka-2", "kafka-3"],
        }
    }

    /// The servers besides: they are reached by a link too.
    pub fn stores(self) -> &'static [&'static str] {
        match self {
            Self::Embedded => &[],
            Self::Servers | Self::Cluster => &["postgres", "s3"],
        }
    }

    /// What a fault of this process, or of the link to it, keeps other faults away from, and for how many milliseconds after its
    /// end.
    fn spared(self, server: &str, target: String) -> (String, u64) {
        if self == Self::Cluster && self.brokers().contains(&server) {
            return ("a broker".to_owned(), UNTIL_IN_SYNC_MS);
        }
        (target, 500)
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
            let Fault {
                target,
                first,
                last,
                length_ms,
                room_ms,
            } = fault(&mut random, ground);
            let earliest = free_from.get(&target).copied().unwrap_or_default();
            // One after the other on each target: what does not fit at its moment follows the one before.
            let at_ms = at_ms.max(earliest);
            free_from.insert(target, at_ms + length_ms + room_ms);
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

struct Fault {
    /// What no other fault may hit meanwhile.
    target: String,
    /// What begins it.
    first: Action,
    /// What ends it.
    last: Action,
    /// How long it lasts.
    length_ms: u64,
    /// How long its target is left alone after that.
    room_ms: u64,
}

fn fault(random: &mut Rng, ground: Ground) -> Fault {
    let mut processes: Vec<String> = instances(true).into_iter().map(|(name, ..)| name).collect();
    processes.push(GATEWAY.to_owned());
    let servers = ground.brokers().iter().chain(ground.stores());
    let servers: Vec<String> = servers.map(|&server| server.to_owned()).collect();
    processes.extend(servers.iter().cloned());
    let process = || processes[0].clone();
    let (server, target, first, last, length_ms) = match random.u32(0..10) {
        0..5 => {
            let victim = random.choice(&processes).cloned().unwrap_or_else(process);
            let (kill, start) = (Action::Kill(victim.clone()), Action::Start(victim.clone()));
            (victim.clone(), victim, kill, start, random.u64(0..1_500))
        }
        5..7 => {
            let victim = random.choice(&processes).cloned().unwrap_or_else(process);
            let (stop, resume) = (Action::Stop(victim.clone()), Action::Resume(victim.clone()));
            // Up to past the session time-out of six seconds: others take its partitions over.
            let length_ms = random.u64(300..8_000);
            (victim.clone(), victim, stop, resume, length_ms)
        }
        kind => {
            let server = random.choice(&servers).cloned().unwrap_or_else(process);
            let hit = match kind {
                7 => Action::Cut(server.clone()),
                8 => Action::Slow(server.clone(), random.u64(5..150)),
                _ => Action::Hold(server.clone()),
            };
            let link = format!("link to {server}");
            let restore = Action::Restore(server.clone());
            (server, link, hit, restore, random.u64(300..4_000))
        }
    };
    let (target, room_ms) = ground.spared(&server, target);
    Fault {
        target,
        first,
        last,
        length_ms,
        room_ms,
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
    use std::collections::BTreeSet;

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

    /// What a step hits, whether by its process or by its link, and whether the fault begins with it.
    fn fault_of(step: &Step) -> Option<(&'static str, &str, bool)> {
        match &step.action {
            Action::Submit(_) | Action::Cancel(_) => None,
            Action::Kill(process) | Action::Stop(process) => Some(("process", process, true)),
            Action::Start(process) | Action::Resume(process) => Some(("process", process, false)),
            Action::Cut(server) | Action::Slow(server, _) | Action::Hold(server) => {
                Some(("link", server, true))
            }
            Action::Restore(server) => Some(("link", server, false)),
        }
    }

    #[test]
    fn every_fault_ends_before_the_next_one_on_the_same_target() {
        for (seed, ground) in (0..500).zip([Ground::Servers, Ground::Cluster].into_iter().cycle()) {
            let mut down = BTreeSet::new();
            let plan = Plan::of(seed, ground, SIZE);
            for (kind, name, begins) in plan.steps.iter().filter_map(fault_of) {
                if begins {
                    assert!(down.insert((kind, name)), "seed {seed}");
                } else {
                    assert!(down.remove(&(kind, name)), "seed {seed}");
                }
            }
            assert!(down.is_empty(), "seed {seed}: {down:?}");
            assert_eq!(plan.faults().count(), SIZE.faults);
        }
    }

    #[test]
    fn no_two_brokers_of_a_cluster_are_hit_at_once_and_each_has_time_to_come_back() {
        let brokers = Ground::Cluster.brokers();
        let (mut hit, mut together) = (BTreeSet::new(), 0);
        for seed in 0..500 {
            let plan = Plan::of(seed, Ground::Cluster, SIZE);
            let (mut down, mut others, mut whole_from) = (None, BTreeSet::new(), 0);
            for step in &plan.steps {
                let Some((kind, name, begins)) = fault_of(step) else {
                    continue;
                };
                if !brokers.contains(&name) {
                    if begins {
                        others.insert((kind, name));
                    } else {
                        others.remove(&(kind, name));
                    }
                } else if begins {
                    assert_eq!(down.replace((kind, name)), None, "seed {seed}");
                    assert!(step.at_ms >= whole_from, "seed {seed}: {step}");
                    hit.insert((kind, name.to_owned()));
                } else {
                    assert_eq!(down.take(), Some((kind, name)), "seed {seed}");
                    whole_from = step.at_ms + UNTIL_IN_SYNC_MS;
                }
                together += usize::from(down.is_some() && !others.is_empty());
            }
        }
        assert_eq!(hit.len(), 2 * brokers.len(), "each by process and by link");
        assert!(together > 100, "others are hit meanwhile: {together} times");
    }

    #[test]
    fn every_broker_that_there_is_is_hit_and_no_other() {
        for ground in [Ground::Embedded, Ground::Servers, Ground::Cluster] {
            let plans: Vec<Plan> = (0..200).map(|seed| Plan::of(seed, ground, SIZE)).collect();
            let steps = plans.iter().flat_map(|plan| &plan.steps);
            let hit: BTreeSet<&str> = steps
                .filter_map(fault_of)
                .map(|(_, name, _)| name)
                .filter(|name| name.contains("kafka") || name.contains("broker"))
                .collect();
            assert!(hit.iter().eq(ground.brokers()), "{ground:?}: {hit:?}");
        }
    }
}
