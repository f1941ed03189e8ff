//! All stages at once: the next picture is decoded while the model runs on the last.
//!
//! Bounds: at most `queue_capacity` messages wait before a stage, and at most `max_in_flight + 1` batches of it are being
//! worked or handed on. The queues of task-events, of retry topics and of what is held back are not bounded: they are loops,
//! and a bounded loop could wait for itself. What is held back enters while fewer than `bulk_under_way` messages are under way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use atelier_schemas::{
    Envelope, Event,
    topics::{TASK_EVENTS, retry_topic},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{LocalOptions, root_envelope, root_record};
use crate::{
    AnyStage, Counts, Readiness,
    batch::BatchFormer,
    clock::Clock,
    execute::{Admitted, Executor, Settled, Work},
    options::RetryOptions,
    record::{InRecord, OutRecord, TopicPartition},
    retry_schedule::due_at,
};

/// What waits before a stage; the permit is its place in the bounded queue.
struct Queued {
    record: InRecord,
    place: Option<OwnedSemaphorePermit>,
}

#[derive(Clone)]
struct Entrance {
    sender: mpsc::UnboundedSender<Queued>,
    places: Option<Arc<Semaphore>>,
    held_back: bool,
}

/// A message that waits until little is under way, and where it then goes.
type HeldBack = (mpsc::UnboundedSender<Queued>, Queued);

struct Router {
    entrances: HashMap<String, Vec<Entrance>>,
    offsets: Mutex<HashMap<String, Arc<AtomicI64>>>,
    observer: mpsc::UnboundedSender<OutRecord>,
    clock: Arc<dyn Clock>,
    retry: RetryOptions,
    pending: AtomicUsize,
    quiet: Notify,
    held_back: mpsc::UnboundedSender<HeldBack>,
    /// Messages in a queue or in work.
    under_way: AtomicUsize,
    has_left: Notify,
    stopped: CancellationToken,
}

/// A chain of stages that runs in this process. Dropping it stops it; [`LocalPipeline::finish`] waits for its end.
pub struct LocalPipeline {
    router: Arc<Router>,
    executors: Vec<Arc<Executor>>,
    // Held so that dropping the pipeline aborts its tasks.
    tasks: JoinSet<()>,
}

impl LocalPipeline {
    /// Starts `stages` on the current Tokio runtime. The receiver sees every record that is published, in order: read it, or
    /// drop it where nobody looks.
    pub fn start(
        stages: Vec<Arc<dyn AnyStage>>,
        options: &LocalOptions,
    ) -> (Self, mpsc::UnboundedReceiver<OutRecord>) {
        let (observer, observed) = mpsc::unbounded_channel();
        let mut entrances: HashMap<String, Vec<Entrance>> = HashMap::new();
        let mut starts = Vec::new();
        for stage in stages {
            let name = stage.stage_name();
            let (sender, receiver) = mpsc::unbounded_channel();
            let places = Arc::new(Semaphore::new(options.queue_capacity.max(1)));
            for topic in options.table.inputs_of(name) {
                let is_bounded = topic.name != TASK_EVENTS && !topic.held_back;
                let places = is_bounded.then(|| Arc::clone(&places));
                entrances
                    .entry(topic.name.clone())
                    .or_default()
                    .push(Entrance {
                        sender: sender.clone(),
                        places,
                        held_back: topic.held_back,
                    });
            }
            entrances
                .entry(retry_topic(name))
                .or_default()
                .push(Entrance {
                    sender,
                    places: None,
                    held_back: false,
                });
            let executor = Executor::new(
                stage,
                &options.table,
                options.retry.clone(),
                options.clock.clone(),
                Readiness::new(name),
                &options.cancelled,
            );
            starts.push((Arc::new(executor), receiver));
        }
        let (held_back, to_be_admitted) = mpsc::unbounded_channel();
        let router = Arc::new(Router {
            entrances,
            offsets: Mutex::default(),
            observer,
            clock: options.clock.clone(),
            retry: options.retry.clone(),
            pending: AtomicUsize::new(0),
            quiet: Notify::new(),
            held_back,
            under_way: AtomicUsize::new(0),
            has_left: Notify::new(),
            stopped: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(admit_bulk(
            to_be_admitted,
            Arc::clone(&router),
            options.bulk_under_way.max(1),
        ));
        let mut executors = Vec::new();
        for (executor, receiver) in starts {
            executors.push(Arc::clone(&executor));
            let max_in_flight = options
                .max_in_flight
                .get(executor.stage_name())
                .copied()
                .unwrap_or(1)
                .max(1);
            tasks.spawn(run_stage(
                executor,
                receiver,
                Arc::clone(&router),
                max_in_flight,
            ));
        }
        (
            Self {
                router,
                executors,
                tasks,
            },
            observed,
        )
    }

    /// Publishes an event, as an upstream system would. Waits while the first queue is full.
    ///
    /// # Errors
    /// Where the event does not serialise (a float is not finite).
    pub async fn submit(&self, event: impl Into<Event>) -> Result<Envelope, serde_json::Error> {
        let event = event.into();
        let envelope = root_envelope("/atelier/local", &event, self.router.clock.now());
        self.router.publish(root_record(&event, &envelope)?).await;
        Ok(envelope)
    }

    /// Waits until every message has ended, retries included.
    pub async fn finish(mut self) -> BTreeMap<&'static str, Counts> {
        loop {
            let quiet = self.router.quiet.notified();
            tokio::pin!(quiet);
            // Registered before the count is read, so that a notification in between is not missed.
            quiet.as_mut().enable();
            if self.router.pending.load(Ordering::SeqCst) == 0 {
                break;
            }
            quiet.await;
        }
        self.tasks.shutdown().await;
        self.executors
            .iter()
            .map(|executor| (executor.stage_name(), executor.accounting().counts()))
            .collect()
    }
}

impl Drop for LocalPipeline {
    fn drop(&mut self) {
        self.router.stopped.cancel();
    }
}

impl Router {
    /// Hands a record to everybody who reads its topic, waiting for a place in their queues.
    async fn publish(self: &Arc<Self>, record: OutRecord) {
        // Nobody has to look.
        let _ = self.observer.send(record.clone());
        let Some(entrances) = self.entrances.get(&record.topic) else {
            return;
        };
        let record = self.stored(record);
        for entrance in entrances {
            self.pending.fetch_add(1, Ordering::SeqCst);
            let place = match &entrance.places {
                Some(places) => Arc::clone(places).acquire_owned().await.ok(),
                None => None,
            };
            let queued = Queued {
                record: record.clone(),
                place,
            };
            match due_at(&record, &self.retry).filter(|due| *due > self.clock.now()) {
                None if entrance.held_back => {
                    // The other end lives as long as the pipeline.
                    let _ = self.held_back.send((entrance.sender.clone(), queued));
                }
                Some(due) => {
                    let (router, sender) = (Arc::clone(self), entrance.sender.clone());
                    tokio::spawn(async move {
                        let wait = (due - router.clock.now()).to_std().unwrap_or_default();
                        router
                            .stopped
                            .run_until_cancelled(router.clock.sleep(wait))
                            .await;
                        router.enter(&sender, queued);
                    });
                }
                None => self.enter(&entrance.sender, queued),
            }
        }
    }

    fn enter(&self, sender: &mpsc::UnboundedSender<Queued>, queued: Queued) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        if sender.send(queued).is_err() {
            self.leave();
        }
    }

    /// A message and all that came of it has been handed on.
    fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.has_left.notify_one();
        if self.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.quiet.notify_waiters();
        }
    }

    fn stored(&self, record: OutRecord) -> InRecord {
        let counter = {
            let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(offsets.entry(record.topic.clone()).or_default())
        };
        InRecord {
            source: TopicPartition {
                topic: record.topic.into(),
                partition: 0,
            },
            offset: counter.fetch_add(1, Ordering::SeqCst),
            key: record.key,
            headers: record.headers,
            value: record.value,
            timestamp: self.clock.now(),
        }
    }
}

/// Lets what is held back in, one by one; ends only by being aborted.
async fn admit_bulk(
    mut held_back: mpsc::UnboundedReceiver<HeldBack>,
    router: Arc<Router>,
    most_under_way: usize,
) {
    while let Some((sender, queued)) = held_back.recv().await {
        while router.under_way.load(Ordering::SeqCst) >= most_under_way {
            router.has_left.notified().await;
        }
        router.enter(&sender, queued);
    }
}

/// Forms batches and has them worked; ends only by being aborted.
async fn run_stage(
    executor: Arc<Executor>,
    mut receiver: mpsc::UnboundedReceiver<Queued>,
    router: Arc<Router>,
    max_in_flight: usize,
) {
    let gate = Arc::new(Semaphore::new(max_in_flight));
    // One more than may be handled: while one batch's results wait for a place in the next queue, another is handled.
    let slots = Arc::new(Semaphore::new(max_in_flight + 1));
    let mut former: BatchFormer<(Work, Option<OwnedSemaphorePermit>)> =
        BatchFormer::new(executor.batching());
    let mut batches = JoinSet::new();
    loop {
        let closes_at = former.closes_at();
        let free = async {
            let Some(closes_at) = closes_at else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(closes_at.into()).await;
            let slot = Arc::clone(&slots).acquire_owned().await;
            let permit = Arc::clone(&gate).acquire_owned().await;
            slot.ok().zip(permit.ok())
        };
        tokio::select! {
            queued = receiver.recv() => {
                let Some(Queued { record, place }) = queued else { return };
                match executor.admit(record, 0) {
                    Admitted::Work(work) => {
                        let pixels = work.pixels();
                        former.push((work, place), pixels, Instant::now());
                    }
                    Admitted::Settled(settled) => hand_on(&router, settled).await,
                }
            }
            Some((slot, permit)) = free => {
                let Some(batch) = former.take(Instant::now()) else { continue };
                // The places in the queue are free again as soon as the work begins.
                let batch: Vec<Work> = batch.into_iter().map(|(work, _place)| work).collect();
                let (executor, router, gate) = (Arc::clone(&executor), Arc::clone(&router), Arc::clone(&gate));
                batches.spawn(async move {
                    work_batch(&executor, batch, permit, &gate, &router).await;
                    drop(slot);
                });
            }
            Some(_) = batches.join_next() => {}
        }
    }
}

/// Results are handed on as each is known, not when the whole batch is done.
async fn work_batch(
    executor: &Executor,
    batch: Vec<Work>,
    permit: OwnedSemaphorePermit,
    gate: &Arc<Semaphore>,
    router: &Arc<Router>,
) {
    let (sender, mut results) = mpsc::unbounded_channel::<Settled>();
    let settle = move |settled| {
        // The receiver below lives until this closure is dropped.
        let _ = sender.send(settled);
    };
    let work = async {
        executor.execute(batch, permit, gate, &settle).await;
        drop(settle);
    };
    let handing_on = async {
        while let Some(settled) = results.recv().await {
            hand_on(router, settled).await;
        }
    };
    tokio::join!(work, handing_on);
}

async fn hand_on(router: &Arc<Router>, settled: Settled) {
    for output in settled.outputs {
        router.publish(output).await;
    }
    router.leave();
}
