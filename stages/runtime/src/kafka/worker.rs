//! Forms batches and has them handled: one batch runs while the next forms. Who is done with a batch goes on with the next that
//! is closed, so that a stage that takes a microsecond for a message does not cost a task and a wake-up for each.
//!
//! Invariant: where bulk messages have a topic of their own they have a lane of their own too, so that no other message waits
//! for one of them. (Elsewhere the two share partitions, and with them the order of commits.)

use std::{future::pending, sync::Arc, time::Instant};

use atelier_schemas::Priority;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

use super::shared::Shared;
use crate::{
    batch::BatchFormer,
    execute::{Admitted, Executor, Work},
    record::InRecord,
};

/// A record with the epoch of its partition's assignment.
pub(crate) type Taken = (InRecord, u64);

/// Messages that wait for their batch, and the calls that may run at once.
struct Lane {
    former: Mutex<BatchFormer<Work>>,
    gate: Arc<Semaphore>,
}

impl Lane {
    fn new(executor: &Executor, max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self {
            former: Mutex::new(BatchFormer::new(executor.batching())),
            gate: Arc::new(Semaphore::new(max_in_flight.max(1))),
        })
    }

    fn waiting(&self) -> usize {
        self.former.lock().len()
    }

    /// Waits until a batch is closed and may run: for ever where no message waits.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let closes_at = self.former.lock().closes_at();
        let Some(closes_at) = closes_at else {
            return pending().await;
        };
        if closes_at > Instant::now() {
            tokio::time::sleep_until(closes_at.into()).await;
        }
        Arc::clone(&self.gate).acquire_owned().await.ok()
    }
}

struct Worker {
    executor: Arc<Executor>,
    shared: Arc<Shared>,
    batches: JoinSet<()>,
}

/// Runs until the consumer's thread is gone, then aborts what still runs.
pub(crate) async fn run(
    executor: Arc<Executor>,
    shared: Arc<Shared>,
    mut taken: mpsc::UnboundedReceiver<Taken>,
    max_in_flight: usize,
) {
    let lane = Lane::new(&executor, max_in_flight);
    let bulk_lane = Lane::new(&executor, max_in_flight);
    let has_bulk_lane = executor.has_bulk_lane();
    let mut worker = Worker {
        executor: Arc::clone(&executor),
        shared: Arc::clone(&shared),
        batches: JoinSet::new(),
    };
    let mut knows_cancelled = false;
    loop {
        tokio::select! {
            next = taken.recv() => {
                let Some((record, epoch)) = next else { break };
                if !std::mem::replace(&mut knows_cancelled, true) {
                    executor.know_cancelled().await;
                }
                match executor.admit(record, epoch) {
                    Admitted::Work(work) => {
                        let is_bulk = has_bulk_lane && work.priority() == Priority::Bulk;
                        let lane = if is_bulk { &bulk_lane } else { &lane };
                        let pixels = work.pixels();
                        lane.former.lock().push(work, pixels, Instant::now());
                    }
                    Admitted::Settled(settled) => shared.settle(settled),
                }
            }
            Some(permit) = lane.turn() => worker.begin(&lane, permit),
            Some(permit) = bulk_lane.turn() => worker.begin(&bulk_lane, permit),
            Some(_) = worker.batches.join_next() => {}
        }
    }
    worker.batches.shutdown().await;
    executor.abandon(lane.waiting() + bulk_lane.waiting());
}

impl Worker {
    /// Has the lane's batches handled, one after the other, until none is closed.
    fn begin(&mut self, lane: &Arc<Lane>, permit: OwnedSemaphorePermit) {
        let (executor, shared) = (Arc::clone(&self.executor), Arc::clone(&self.shared));
        let lane = Arc::clone(lane);
        self.batches.spawn(async move {
            let mut permit = Some(permit);
            while let Some(held) = permit.take() {
                let Some(batch) = lane.former.lock().take(Instant::now()) else {
                    return;
                };
                let (batch, lost) = shared.start(batch);
                executor.abandon(lost);
                if batch.is_empty() {
                    permit = Some(held);
                    continue;
                }
                let settle = |settled| shared.settle(settled);
                permit = executor
                    .execute(batch, held, &lane.gate, &settle)
                    .await
                    .permit;
                // A stage that never waits must not keep others from this thread.
                tokio::task::coop::consume_budget().await;
            }
        });
    }
}
