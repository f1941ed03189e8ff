//! Everything that a person starts by hand: one binary, a word for each thing it does.
//!
//! A library besides, so that tests and benchmarks assemble the same pipeline.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod broker;
pub mod cli;
pub mod commands;
pub mod config;
pub mod pipeline;
pub mod reference;
pub mod telemetry;

use std::process::ExitCode;

use atelier_runtime::telemetry::LogFormat;
use cli::{BenchCommand, Cli, Command, WatermarkCommand};
use config::Loaded;
use telemetry::Telemetry;

/// In the library, so that the tests and benchmarks measure what people run.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Does what the command line says.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let loaded = Loaded::load(cli.config.as_deref(), cli.data_dir.as_deref())?;
    // A person who cuts out pictures wants the failures, not the pipeline's own log; but that the networks run slower than
    // they could is for everybody.
    let quiet = matches!(
        cli.command,
        Command::Cutout(_)
            | Command::Bench { .. }
            | Command::Models { .. }
            | Command::Watermark { .. }
            | Command::ConfigReference
            | Command::Topics { .. }
            | Command::Replay(_)
            | Command::Sweep { .. }
            | Command::Doctor(_)
    );
    let format = if cli.log_json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    let filter = cli.log.as_deref().unwrap_or(if quiet {
        "off,atelier_models=warn"
    } else {
        "info"
    });
    atelier_runtime::telemetry::init_logging(format, filter)?;
    match cli.command {
        Command::Up(arguments) => {
            let telemetry = Telemetry::start(&loaded, "atelier")?;
            let outcome = commands::up::run(&loaded, &arguments, &telemetry).await;
            telemetry.finish().await;
            outcome
        }
        Command::Stage(arguments) => {
            let service = format!("atelier-{}", arguments.name);
            let telemetry = Telemetry::start(&loaded, &service)?;
            let outcome = commands::stage::run(&loaded, &arguments, &telemetry).await;
            telemetry.finish().await;
            outcome
        }
        Command::Gateway => {
            let telemetry = Telemetry::start(&loaded, "atelier-gateway")?;
            let outcome = commands::gateway::run(&loaded, &telemetry).await;
            telemetry.finish().await;
            outcome
        }
        Command::Cutout(arguments) => commands::cutout::run(&loaded, *arguments).await,
        Command::Watermark {
            command: WatermarkCommand::Read { pictures },
        } => tokio::task::spawn_blocking(move || commands::watermark::read(&pictures)).await?,
        Command::Topics { command } => commands::topics::run(&loaded, &command).await,
        Command::Models { command } => commands::models::run(&loaded, command).await,
        Command::Bench {
            command: BenchCommand::Models(arguments),
        } => commands::bench::models(&loaded, arguments).await,
        Command::Replay(arguments) => commands::replay::run(&loaded, arguments).await,
        Command::Sweep { dry_run } => commands::sweep::run(&loaded, dry_run).await,
        Command::Doctor(arguments) => commands::doctor::run(&loaded, &arguments).await,
        Command::ConfigReference => {
            print(&reference::page()?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Writes to standard output; a reader that has gone (`| head`) is no error.
///
/// # Errors
/// Where standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
