//! The independent checker: reads topics and stores and says what is lost, doubled or disagreeing. Ends with 0 where nothing
//! is, with 1 where something is, with 2 where it could not look.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use atelier_chaos::check::{Promises, check};
use clap::Parser;

/// Compares topics, ledger and blobs with each other and with what clients were promised.
#[derive(Debug, Parser)]
#[command(name = "atelier-check", version)]
struct Arguments {
    /// Where everything is and what was promised: the check.json of a run's folder.
    promises: PathBuf,
    /// Write the verdict to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match look(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn look(arguments: &Arguments) -> anyhow::Result<bool> {
    let path = &arguments.promises;
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let promises: Promises = serde_json::from_slice(&text)
        .with_context(|| format!("{} does not fit", path.display()))?;
    let verdict = check(&promises).await?;
    for finding in &verdict.findings {
        println!("{finding}");
    }
    println!("{verdict}");
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_vec_pretty(&verdict)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(verdict.is_content())
}
