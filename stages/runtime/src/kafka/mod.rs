//! A stage on Kafka: consumer thread → worker (batches, handles) → committer thread, with the books between them.
//!
//! Bounds: at most `queue_capacity` messages are taken and not committed; then the partitions are paused; of a topic that is
//! held back, only what the queues behind the stage have room for. Outputs and input offsets are one transaction.

mod admission;
pub(crate) mod client;
pub(crate) mod committer;
pub(crate) mod consumer;
mod health;
mod lag;
pub(crate) mod membership;
pub(crate) mod producer;
pub(crate) mod security;
mod shared;
pub(crate) mod tracker;
pub(crate) mod trouble;
mod worker;

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use atelier_schemas::{TopicTable, topics::retry_topic};
use rdkafka::error::KafkaError;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use admission::GROUP as ADMISSION_GROUP;
pub use client::group_id;
pub use security::SecurityError;

use crate::{
    Accounting, AnyStage, Cancelled, Counts, Readiness,
    clock::SystemClock,
    execute::Executor,
    options::{KafkaOptions, StageRuntimeOptions},
};
use admission::{Admission, Lookout, QueuesBehind};
use client::{ConsumerEvents, consumer_config, producer_config, subscriptions};
use committer::Committer;
use consumer::Consuming;
use membership::Membership;
use shared::Shared;
use trouble::Trouble;

/// A stage that cannot start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A client that librdkafka refuses to make.
    #[error(
        "kafka client of stage `{stage}` cannot be made: {source}; check the kafka properties of the configuration"
    )]
    Client {
        /// The stage.
        stage: &'static str,
        /// What librdkafka says.
        source: KafkaError,
    },
    /// What `kafka.security` says does not hold together.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// A stage that reads nothing.
    #[error("stage `{0}` reads no topic: add it to `to` of its input in infra/kafka/topics.toml")]
    NoInput(&'static str),
    /// A thread that could not be started.
    #[error("thread of stage `{stage}` cannot be started: {source}")]
    Thread {
        /// The stage.
        stage: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A thread of the runtime panicked: a defect.
    #[error("the runtime of stage `{0}` panicked; see the log above")]
    Panicked(&'static str),
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// What became of its messages.
    pub counts: Counts,
    /// Messages in flight that were not done in time; they are redone by whoever gets their partitions.
    pub abandoned: usize,
}

/// A stage that runs. Dropping it asks it to stop, without waiting.
pub struct RunningStage {
    readiness: Readiness,
    accounting: Arc<Accounting>,
    ended: JoinHandle<Result<Drained, RuntimeError>>,
    // Without it a stage that somebody forgot would keep the process from ending.
    stop_when_dropped: DropGuard,
}

/// Starts the threads that commit and consume; the task ends when they and the `worker` have.
fn run_threads(
    name: &'static str,
    committer: Committer,
    consuming: Consuming,
    worker: JoinHandle<()>,
    books: Arc<Accounting>,
) -> Result<JoinHandle<Result<Drained, RuntimeError>>, RuntimeError> {
    let spawn = |role: &str, run: Box<dyn FnOnce() -> usize + Send>| {
        thread::Builder::new()
            .name(format!("{name}-{role}"))
            .spawn(run)
            .map_err(|source| RuntimeError::Thread {
                stage: name,
                source,
            })
    };
    let committing = spawn(
        "commit",
        Box::new(move || {
            committer.run();
            0
        }),
    )?;
    let consuming = spawn(
        "consume",
        Box::new(move || {
            let abandoned = consuming.run().finish();
            // Only then may the consumer be dropped, here, where its last callbacks are served.
            if committing.join().is_err() {
                tracing::error!(stage = name, "the committer panicked");
            }
            abandoned
        }),
    )?;
    Ok(tokio::spawn(async move {
        let joined = tokio::task::spawn_blocking(move || consuming.join()).await;
        // The worker ends when the consumer's thread has dropped its sender.
        let worked = worker.await;
        match (joined, worked) {
            (Ok(Ok(abandoned)), Ok(())) => Ok(Drained {
                counts: books.counts(),
                abandoned,
            }),
            _ => Err(RuntimeError::Panicked(name)),
        }
    }))
}

impl RunningStage {
    /// Starts `stage` on the current Tokio runtime. It runs until `shutdown`, whatever happens to Kafka: while the log is
    /// away it waits and says so in its readiness. Every stage of a process shares one `cancelled`.
    ///
    /// # Errors
    /// [`RuntimeError`] where the options make no client.
    pub fn start(
        stage: Arc<dyn AnyStage>,
        kafka: &KafkaOptions,
        table: &TopicTable,
        options: &StageRuntimeOptions,
        cancelled: &Cancelled,
        shutdown: CancellationToken,
    ) -> Result<Self, RuntimeError> {
        #[cfg(feature = "planted-bugs")]
        crate::planted::arm();
        let name = stage.stage_name();
        let shutdown = shutdown.child_token();
        let stop_when_dropped = shutdown.clone().drop_guard();
        if table.inputs_of(name).is_empty() {
            return Err(RuntimeError::NoInput(name));
        }
        let readiness = Readiness::joining(name);
        let shared = Shared::new(readiness.clone());
        let events = ConsumerEvents {
            shared: Arc::clone(&shared),
            bootstrap_servers: kafka.bootstrap_servers.clone(),
            drain_timeout: options.drain_timeout(),
            trouble: Trouble::new(kafka),
        };
        let membership = Membership::new(consumer_config(kafka, name, options)?, events);
        let membership = membership.map_err(|source| RuntimeError::Client {
            stage: name,
            source,
        })?;
        let membership = Arc::new(membership);
        let executor = Arc::new(Executor::new(
            stage,
            table,
            options.retry.clone(),
            Arc::new(SystemClock),
            readiness.clone(),
            cancelled,
        ));
        let accounting = Arc::clone(executor.accounting());
        let (taken, receiver) = mpsc::unbounded_channel();
        let committer = Committer {
            shared: Arc::clone(&shared),
            membership: Arc::clone(&membership),
            producer_config: producer_config(kafka, name, options)?,
            transaction: options.transaction.clone(),
            trouble: Trouble::new(kafka),
        };
        let consuming = Consuming {
            consumer: membership.consumer(),
            membership,
            shared: Arc::clone(&shared),
            taken,
            topics: subscriptions(table, name),
            written: table
                .outputs_of(name)
                .into_iter()
                .map(|topic| topic.name.clone())
                .collect(),
            bootstrap_servers: kafka.bootstrap_servers.clone(),
            retry_topic: retry_topic(name),
            admission: look_out(kafka, table, options, &shared, &shutdown),
            retry: options.retry.clone(),
            queue_capacity: options.queue_capacity.max(1),
            drain_timeout: options.drain_timeout(),
            shutdown,
            fenced: AtomicBool::new(false),
        };
        let worker = tokio::spawn(worker::run(
            executor,
            shared,
            receiver,
            options.max_in_flight,
        ));
        let books = Arc::clone(&accounting);
        let ended = run_threads(name, committer, consuming, worker, books)?;
        Ok(Self {
            readiness,
            accounting,
            ended,
            stop_when_dropped,
        })
    }

    /// Whether it can work, and what it waits for.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What became of its messages so far.
    pub fn counts(&self) -> Counts {
        self.accounting.counts()
    }

    /// Waits until it has drained, after the shutdown was asked for.
    ///
    /// # Errors
    /// [`RuntimeError::Panicked`] where the runtime has a defect.
    pub async fn ended(self) -> Result<Drained, RuntimeError> {
        let Self {
            readiness,
            ended,
            stop_when_dropped,
            ..
        } = self;
        let outcome = ended
            .await
            .unwrap_or(Err(RuntimeError::Panicked(readiness.stage())));
        drop(stop_when_dropped);
        outcome
    }
}

/// Looks out for the queues behind the stage, where one of its topics is held back.
fn look_out(
    kafka: &KafkaOptions,
    table: &TopicTable,
    options: &StageRuntimeOptions,
    shared: &Arc<Shared>,
    shutdown: &CancellationToken,
) -> Option<Arc<Admission>> {
    let stage = shared.readiness.stage();
    let inputs = table.inputs_of(stage);
    let held_back = inputs.iter().find(|topic| topic.held_back)?;
    let admission = Arc::new(Admission::new(held_back.name.clone()));
    let lookout = Lookout {
        admission: Arc::clone(&admission),
        shared: Arc::clone(shared),
        queues: QueuesBehind::new(kafka, table, stage),
        partitions: usize::try_from(held_back.partitions).unwrap_or(1),
        limit: options.bulk_under_way.max(1),
    };
    let shutdown = shutdown.clone();
    tokio::spawn(async move { shutdown.run_until_cancelled(lookout.keep()).await });
    Some(admission)
}
