//! `atelier up`: everything on this machine, in the order in which each needs the one before; stopped the other way round.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use atelier_gateway::HealthCheck;
use atelier_models::ModelStore;
use atelier_runtime::{Cancelled, KafkaOptions, Readiness, RunningStage};
use atelier_schemas::TopicTable;
use atelier_stores::{open_blobs, open_ledger, without_password};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::EmbeddedBroker,
    cli::UpArgs,
    commands::{gateway, models, shutdown_signal, sweep, topics},
    config::Loaded,
    pipeline::Assembly,
    telemetry::Telemetry,
};

mod sample;

/// Joining the consumer groups and loading the models takes seconds; a machine under load may take longer.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs everything until SIGTERM or Ctrl-C.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(
    loaded: &Loaded,
    arguments: &UpArgs,
    telemetry: &Telemetry,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let say = |text: String| eprintln!("[{:6.2} s] {text}", started.elapsed().as_secs_f64());
    let shutdown = shutdown_signal()?;
    make_writable(&loaded.data_dir)?;
    require_free_port(loaded.config.gateway.listen, "gateway.listen")?;
    if !arguments.without_stages {
        models::require_automatic(&ModelStore::open(loaded.config.models.dir.clone())?)?;
    }

    let mut kafka = loaded.kafka()?;
    let broker_stop = CancellationToken::new();
    let mut broker = None;
    if loaded.config.broker.embedded {
        let running = EmbeddedBroker {
            data_dir: loaded.data_dir.join("log"),
            listen: loaded.config.broker.listen,
            durability: loaded.config.broker.durability,
        }
        .start()
        .await?;
        kafka.bootstrap_servers = running.address.to_string();
        say(format!("the broker listens on {}", running.address));
        broker = Some(tokio::spawn(running.watch(broker_stop.clone())));
    }
    let outcome = work(loaded, arguments, &kafka, &shutdown, telemetry, &say).await;
    broker_stop.cancel();
    if let Some(watching) = broker {
        watching
            .await
            .context("the watch over the broker broke off")?;
    }
    outcome?;
    say("stopped; nothing was in flight".to_owned());
    Ok(ExitCode::SUCCESS)
}

/// Everything that needs the log.
async fn work(
    loaded: &Loaded,
    arguments: &UpArgs,
    kafka: &KafkaOptions,
    shutdown: &CancellationToken,
    telemetry: &Telemetry,
    say: &dyn Fn(String),
) -> anyhow::Result<()> {
    let changes = topics::apply(kafka).await?;
    say(format!("topics: {changes}"));
    let blobs = open_blobs(&loaded.blobs_url(), &loaded.config.stores.blobs).await?;
    let ledger = open_ledger(&loaded.ledger_url(), &loaded.config.stores.ledger).await?;
    let _watch = telemetry.watch(Some(Arc::clone(&ledger)));
    say(format!(
        "blobs in {}, ledger in {}",
        without_password(&loaded.blobs_url()),
        without_password(&loaded.ledger_url())
    ));

    // It is broken off with the rest; what it did stays done.
    tokio::spawn(sweep::regularly(
        Arc::clone(&blobs),
        Arc::clone(&ledger),
        loaded.config.stores.retention.clone(),
        shutdown.clone(),
    ));

    let stages_stop = CancellationToken::new();
    let mut stages = Vec::new();
    if !arguments.without_stages {
        let cancelled = Cancelled::follow(kafka, TopicTable::embedded());
        for stage in Assembly::new(loaded, Arc::clone(&blobs) as _, Some(Arc::clone(&ledger)))?
            .all()
            .await?
        {
            let options = loaded.runtime(stage.stage_name())?;
            stages.push(RunningStage::start(
                stage,
                kafka,
                TopicTable::embedded(),
                &options,
                &cancelled,
                stages_stop.clone(),
            )?);
        }
        say("the stages are loaded".to_owned());
    }
    let checks = stages
        .iter()
        .map(|stage| check_of(stage.readiness()))
        .collect();
    let gateway_stop = shutdown.child_token();
    let serving = gateway::bind(loaded, kafka, blobs, ledger, checks, telemetry).await;
    let outcome = match serving {
        Ok(bound) => {
            let address = bound.address();
            let mut serving = tokio::spawn(bound.run(gateway_stop.clone()));
            let work = async {
                wait_until_ready(&stages, shutdown).await?;
                say(format!(
                    "ready: the page is at http://{address}, the log at {}",
                    kafka.bootstrap_servers
                ));
                if let Some(picture) = &arguments.sample {
                    sample::send(address, picture, shutdown).await?;
                }
                shutdown.cancelled().await;
                anyhow::Ok(())
            };
            let outcome = tokio::select! {
                outcome = work => outcome,
                // Only a broken listener ends it before the shutdown.
                ended = &mut serving => return finish(stages, &stages_stop, flatten(ended)).await,
            };
            gateway_stop.cancel();
            outcome.and(flatten(serving.await))
        }
        Err(error) => Err(error),
    };
    finish(stages, &stages_stop, outcome).await
}

fn flatten<E: std::error::Error + Send + Sync + 'static>(
    joined: Result<Result<(), E>, tokio::task::JoinError>,
) -> anyhow::Result<()> {
    joined
        .context("the gateway broke off")?
        .context("the gateway")
}

/// Lets the stages drain, and then says what went wrong before.
async fn finish(
    stages: Vec<RunningStage>,
    stages_stop: &CancellationToken,
    outcome: anyhow::Result<()>,
) -> anyhow::Result<()> {
    stages_stop.cancel();
    for drained in join_all(stages.into_iter().map(RunningStage::ended)).await {
        let drained = drained?;
        if drained.abandoned > 0 {
            tracing::warn!(
                abandoned = drained.abandoned,
                "work was abandoned while draining; it is done again at the next start"
            );
        }
    }
    outcome
}

pub(super) fn check_of(readiness: &Readiness) -> HealthCheck {
    let readiness = readiness.clone();
    HealthCheck::new(readiness.stage(), move || {
        let reasons = readiness.reasons();
        async move {
            if reasons.is_empty() {
                Ok(())
            } else {
                Err(reasons.join("; "))
            }
        }
    })
}

async fn wait_until_ready(
    stages: &[RunningStage],
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let waiting: Vec<String> = stages
            .iter()
            .filter(|stage| !stage.readiness().is_ready())
            .map(|stage| {
                format!(
                    "{} ({})",
                    stage.readiness().stage(),
                    stage.readiness().reasons().join("; ")
                )
            })
            .collect();
        if waiting.is_empty() || shutdown.is_cancelled() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "not ready after {} s: {}",
                READY_TIMEOUT.as_secs(),
                waiting.join(", ")
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn make_writable(folder: &Path) -> anyhow::Result<()> {
    let wrong = || {
        format!(
            "the data folder {} is not writable: change its owner, or give another by --data-dir",
            folder.display()
        )
    };
    std::fs::create_dir_all(folder).with_context(wrong)?;
    tempfile::NamedTempFile::new_in(folder).with_context(wrong)?;
    Ok(())
}

/// The gateway takes its port last; that it is taken should be said first.
fn require_free_port(address: SocketAddr, setting: &str) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "cannot listen on {address} ({error}): stop what listens there, or set {setting} to another port"
        ),
    }
}
