//! `atelier stage NAME`: one stage in a process of its own.

use std::process::ExitCode;

use anyhow::Context as _;
use atelier_runtime::{Cancelled, RunningStage};
use atelier_schemas::TopicTable;
use atelier_stores::{open_blobs, open_ledger};

use crate::{cli::StageArgs, commands::shutdown_signal, config::Loaded, pipeline::Assembly};

/// Runs one stage until SIGTERM or Ctrl-C.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded, arguments: &StageArgs) -> anyhow::Result<ExitCode> {
    let kafka = loaded.kafka()?;
    let blobs = open_blobs(&loaded.blobs_url(), &loaded.config.stores.blobs).await?;
    let ledger = match arguments.name.as_str() {
        "persist" => Some(open_ledger(&loaded.ledger_url(), &loaded.config.stores.ledger).await?),
        _ => None,
    };
    let stage = Assembly::new(loaded, blobs, ledger)?
        .stage(&arguments.name)
        .await?;
    let mut options = loaded.runtime(&arguments.name)?;
    options.instance_id.clone_from(&arguments.instance);
    let shutdown = shutdown_signal()?;
    let running = RunningStage::start(
        stage,
        &kafka,
        TopicTable::embedded(),
        &options,
        &Cancelled::follow(&kafka, TopicTable::embedded()),
        shutdown,
    )?;
    tracing::info!(
        stage = arguments.name,
        instance = arguments.instance,
        "the stage runs; stop it with SIGTERM or Ctrl-C"
    );
    let drained = running
        .ended()
        .await
        .with_context(|| format!("stage {}", arguments.name))?;
    tracing::info!(
        stage = arguments.name,
        abandoned = drained.abandoned,
        "the stage has drained"
    );
    Ok(ExitCode::SUCCESS)
}
