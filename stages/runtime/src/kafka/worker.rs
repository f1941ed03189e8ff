//! Forms batches and has them handled: one batch runs while the next forms.
//!
//! Invariant: where bulk messages have a topic of their own they have a lane of their own too, so that no other message waits
//! for one of them. (Elsewhere the two share partitions, and with them the order of commits.)

use std::{future::pending, sync::Arc, time::Instant};

use atelier_schemas::Priority;
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
    former: BatchFormer<Work>,
    gate: Arc<Semaphore>,
}

impl Lane {
    fn new(executor: &Executor, max_in_flight: usize) -> Self {
        Self {
            former: BatchFormer::new(executor.batching()),
            gate: Arc::new(Semaphore::new(max_in_flight.max(1))),
        }
    }

    /// Waits until a batch is closed and may run: for ever where no message waits.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let Some(closes_at) = self.former.closes_at() else {
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
    let mut lane = Lane::new(&executor, max_in_flight);
    let mut bulk_lane = Lane::new(&executor, max_in_flight);
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
                        let lane = if is_bulk { &mut bulk_lane } else { &mut lane };
                        let pixels = work.pixels();
                        lane.former.push(work, pixels, Instant::now());
                    }
                    Admitted::Settled(settled) => shared.settle(settled),
                }
            }
            Some(permit) = lane.turn() => worker.begin(&mut lane, permit),
            Some(permit) = bulk_lane.turn() => worker.begin(&mut bulk_lane, permit),
            Some(_) = worker.batches.join_next() => {}
        }
    }
    executor.abandon(lane.former.len() + bulk_lane.former.len());
    worker.batches.shutdown().await;
}

impl Worker {
    /// Has the lane's next batch handled.
    fn begin(&mut self, lane: &mut Lane, permit: OwnedSemaphorePermit) {
        let Some(batch) = lane.former.take(Instant::now()) else {
            return;
        };
        let (batch, lost) = self.shared.start(batch);
        self.executor.abandon(lost);
        if batch.is_empty() {
            return;
        }
        let (executor, shared) = (Arc::clone(&self.executor), Arc::clone(&self.shared));
        let gate = Arc::clone(&lane.gate);
        self.batches.spawn(async move {
            executor
                .execute(batch, permit, &gate, &|settled| shared.settle(settled))
                .await;
        });
    }
}
