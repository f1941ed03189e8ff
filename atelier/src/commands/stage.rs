//! `atelier stage NAME`: one stage in a process of its own.

use std::process::ExitCode;

use anyhow::Context as _;
use atelier_gateway::probe::Probe;
use atelier_runtime::{Cancelled, RunningStage};
use atelier_schemas::TopicTable;
use atelier_stores::{open_blobs, open_ledger};

use crate::{
    cli::StageArgs,
    commands::{shutdown_signal, up::check_of},
    config::Loaded,
    pipeline::Assembly,
    telemetry::Telemetry,
};

/// Runs one stage until SIGTERM or Ctrl-C.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(
    loaded: &Loaded,
    arguments: &StageArgs,
    telemetry: &Telemetry,
) -> anyhow::Result<ExitCode> {
    let kafka = loaded.kafka()?;
    let probe = match arguments.listen {
        Some(address) => Some(Probe::bind(address).await?),
        None => None,
    };
    let blobs = open_blobs(&loaded.blobs_url(), &loaded.config.stores.blobs).await?;
    let ledger = match arguments.name.as_str() {
        "persist" => Some(open_ledger(&loaded.ledger_url(), &loaded.config.stores.ledger).await?),
        _ => None,
    };
    let _watch = telemetry.watch(ledger.clone());
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
        shutdown.clone(),
    )?;
    let probing = probe.map(|probe| {
        tracing::info!(address = %probe.address(), "health and metrics are told");
        let checks = vec![check_of(running.readiness())];
        tokio::spawn(probe.run(checks, telemetry.page(), shutdown.clone()))
    });
    tracing::info!(
        stage = arguments.name,
        instance = arguments.instance,
        "the stage runs; stop it with SIGTERM or Ctrl-C"
    );
    let drained = running
        .ended()
        .await
        .with_context(|| format!("stage {}", arguments.name))?;
    if let Some(probing) = probing {
        probing.await.context("health and metrics broke off")??;
    }
    tracing::info!(
        stage = arguments.name,
        abandoned = drained.abandoned,
        "the stage has drained"
    );
    Ok(ExitCode::SUCCESS)
}
