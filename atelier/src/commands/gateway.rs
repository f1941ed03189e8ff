//! `atelier gateway`: the HTTP edge alone; and what `atelier up` needs of it.

use std::{process::ExitCode, sync::Arc};

use atelier_gateway::{Dependencies, Gateway, HealthCheck, QualityModel, kafka::KafkaLog};
use atelier_matte::model_for;
use atelier_runtime::KafkaOptions;
use atelier_schemas::Quality;
use atelier_stores::{Blobs, Ledger, open_blobs, open_ledger};

use crate::{
    commands::{shutdown_signal, sweep},
    config::Loaded,
    telemetry::Telemetry,
};

/// Runs the gateway until SIGTERM or Ctrl-C.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded, telemetry: &Telemetry) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_signal()?;
    let kafka = loaded.kafka()?;
    let blobs = open_blobs(&loaded.blobs_url(), &loaded.config.stores.blobs).await?;
    let ledger = open_ledger(&loaded.ledger_url(), &loaded.config.stores.ledger).await?;
    let sweeping = tokio::spawn(sweep::regularly(
        Arc::clone(&blobs),
        Arc::clone(&ledger),
        loaded.config.stores.retention.clone(),
        shutdown.clone(),
    ));
    let _watch = telemetry.watch(Some(Arc::clone(&ledger)));
    let gateway = bind(loaded, &kafka, blobs, ledger, Vec::new(), telemetry).await?;
    eprintln!("the gateway listens on http://{}", gateway.address());
    gateway.run(shutdown).await?;
    sweeping.await?;
    Ok(ExitCode::SUCCESS)
}

/// A gateway that holds its port.
///
/// # Errors
/// The port is taken, or a setting does not hold.
pub async fn bind(
    loaded: &Loaded,
    kafka: &KafkaOptions,
    blobs: Arc<dyn Blobs>,
    ledger: Arc<dyn Ledger>,
    checks: Vec<HealthCheck>,
    telemetry: &Telemetry,
) -> anyhow::Result<Gateway> {
    let log = Arc::new(KafkaLog::connect(kafka)?);
    let qualities = [
        ("high", Quality::High),
        ("medium", Quality::Medium),
        ("low", Quality::Low),
    ];
    let deps = Dependencies {
        blobs,
        ledger,
        line: Arc::clone(&log) as _,
        log,
        checks,
        metrics: telemetry.page(),
        qualities: qualities
            .map(|(name, quality)| QualityModel {
                name: name.to_owned(),
                model: model_for(quality).to_owned(),
            })
            .to_vec(),
        bootstrap_servers: kafka.bootstrap_servers.clone(),
    };
    Ok(Gateway::bind(loaded.config.gateway.clone(), deps).await?)
}
