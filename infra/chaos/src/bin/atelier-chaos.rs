//! The driver: runs Atelier, breaks it as a seed says, and has the checker look at what is left.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, process::ExitCode};

use anyhow::bail;
use atelier_chaos::{
    check::Fault,
    plan::{Ground, Plan, Size},
    planted::{self, BUGS, Planting},
    run::{Outcome, run},
};
use clap::{Parser, ValueEnum};
use futures::{FutureExt as _, StreamExt as _, stream};

/// Findings that are printed of one run; all of them are in its folder.
const MOST_FINDINGS: usize = 10;

/// Runs the whole pipeline, kills, stops and cuts off its processes, and proves that nothing is lost or doubled.
#[derive(Debug, Parser)]
#[command(name = "atelier-chaos", version, max_term_width = 110)]
struct Arguments {
    /// The first run's seed; the next run has the next number. The same seed gives the same tasks and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// How many at the same time. A run waits most of its time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// What to run on.
    #[arg(long, value_enum, default_value_t = On::Embedded)]
    on: On,
    /// Tasks of each run.
    #[arg(long, default_value_t = 12)]
    tasks: usize,
    /// Faults of each run.
    #[arg(long, default_value_t = 6)]
    faults: usize,
    /// Over how long tasks and faults are spread, in milliseconds.
    #[arg(long, default_value_t = 9_000)]
    span_ms: u64,
    /// Leave the folder of every run, not only of those that fail.
    #[arg(long)]
    keep: bool,
    /// Print the plans and do nothing.
    #[arg(long)]
    plan: bool,
    /// Plant each of the five bugs in turn, and none, and see whether the checker finds them (test builds only).
    #[arg(long)]
    planted: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum On {
    /// The embedded broker, SQLite, a folder.
    Embedded,
    /// Kafka, PostgreSQL, S3.
    Servers,
    /// The same with three brokers of Kafka, of which one at a time is hit.
    Cluster,
}

/// Sums over all runs.
#[derive(Default)]
struct Totals {
    runs: u64,
    tasks: usize,
    lost: usize,
    doubled: usize,
    disagreeing: usize,
    broken_off: u64,
}

// Processes are killed with the thread that started them: the main one starts them all, and is here for as long as the program.
#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let work = async {
        if arguments.planted {
            hunt(arguments.keep).await
        } else {
            runs(&arguments).await
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn runs(arguments: &Arguments) -> anyhow::Result<bool> {
    let ground = match arguments.on {
        On::Embedded => Ground::Embedded,
        On::Servers => Ground::Servers,
        On::Cluster => Ground::Cluster,
    };
    let size = Size {
        tasks: arguments.tasks,
        faults: arguments.faults,
        span_ms: arguments.span_ms.max(1),
    };
    let plans = (arguments.seed..)
        .take(usize::try_from(arguments.runs)?)
        .map(|seed| Plan::of(seed, ground, size));
    if arguments.plan {
        plans.for_each(|plan| {
            announce(&plan);
            plan.steps.iter().for_each(|step| println!("  {step}"));
        });
        return Ok(true);
    }
    let mut totals = Totals::default();
    let carried_out = stream::iter(plans)
        .map(|plan| async move {
            let outcome = run(&plan, ground, &Planting::None, arguments.keep);
            // What starts the servers panics where it cannot: that ends one run and not the others.
            let outcome = AssertUnwindSafe(outcome).catch_unwind().await;
            let outcome =
                outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked, see above")));
            (plan, outcome)
        })
        .buffer_unordered(arguments.jobs.max(1));
    let mut carried_out = std::pin::pin!(carried_out);
    while let Some((plan, outcome)) = carried_out.next().await {
        announce(&plan);
        plan.faults().for_each(|step| println!("  {step}"));
        match outcome {
            Ok(outcome) => {
                report(&outcome);
                totals.add(&outcome);
            }
            Err(error) => {
                println!("  broke off: {error:#}");
                totals.broken_off += 1;
            }
        }
        totals.runs += 1;
    }
    totals.print();
    Ok(totals.is_content())
}

fn announce(plan: &Plan) {
    println!(
        "seed {}: static membership {}",
        plan.seed, plan.static_membership
    );
}

/// Each bug is found by the rule that it breaks, and without a bug nothing is found.
async fn hunt(keep: bool) -> anyhow::Result<bool> {
    let plan = planted::plan();
    println!("no bug:");
    let outcome = run(&plan, Ground::Embedded, &Planting::Aborts(None), keep).await?;
    report(&outcome);
    if !outcome.verdict.is_content() {
        bail!("the checker complains although nothing is planted");
    }
    if outcome.remarks.len() < planted::ABORTS.len() {
        bail!("the aborts of the schedule did not happen: is this a test build?");
    }
    let mut caught = 0;
    for bug in BUGS {
        println!("{}:", bug.name);
        let planting = Planting::Aborts(Some(bug));
        let mut outcome = run(&plan, Ground::Embedded, &planting, keep).await?;
        let is_caught = outcome.verdict.breaks(bug.breaks);
        // What was to be found needs nobody's look.
        if let Some(folder) = outcome.folder.take_if(|_| is_caught && !keep) {
            std::fs::remove_dir_all(folder)?;
        }
        report(&outcome);
        caught += usize::from(is_caught);
        let (found, state) = if is_caught {
            ("caught", "is broken")
        } else {
            ("not caught", "holds")
        };
        println!("  {found}: {:?} {state}", bug.breaks);
    }
    println!("{caught} of {} planted bugs caught", BUGS.len());
    Ok(caught == BUGS.len())
}

fn report(outcome: &Outcome) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for remark in &outcome.remarks {
        *times.entry(remark).or_default() += 1;
    }
    for (remark, times) in times {
        println!("  {remark}, {times} ×");
    }
    for finding in outcome.verdict.findings.iter().take(MOST_FINDINGS) {
        println!("  {finding}");
    }
    let seconds = outcome.took.as_secs_f64();
    println!("  {} ({seconds:.1} s)", outcome.verdict);
    if let Some(folder) = &outcome.folder {
        println!("  left in {}", folder.display());
    }
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.tasks += outcome.verdict.accepted;
        self.lost += outcome.verdict.count(Fault::Lost);
        self.doubled += outcome.verdict.count(Fault::Doubled);
        self.disagreeing += outcome.verdict.count(Fault::Disagreeing);
    }

    fn is_content(&self) -> bool {
        self.lost + self.doubled + self.disagreeing == 0 && self.broken_off == 0
    }

    fn print(&self) {
        println!("runs   tasks   lost   doubled   disagreeing   broken off");
        println!(
            "{:<6} {:<7} {:<6} {:<9} {:<13} {}",
            self.runs, self.tasks, self.lost, self.doubled, self.disagreeing, self.broken_off
        );
    }
}
