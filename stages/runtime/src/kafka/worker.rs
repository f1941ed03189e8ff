//! Forms batches and has them handled: one batch runs while the next forms.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, mpsc},
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

/// Runs until the consumer's thread is gone, then aborts what still runs.
pub(crate) async fn run(
    executor: Arc<Executor>,
    shared: Arc<Shared>,
    mut taken: mpsc::UnboundedReceiver<Taken>,
    max_in_flight: usize,
) {
    let gate = Arc::new(Semaphore::new(max_in_flight.max(1)));
    let mut former: BatchFormer<Work> = BatchFormer::new(executor.batching());
    let mut batches = JoinSet::new();
    let mut knows_cancelled = false;
    loop {
        let closes_at = former.closes_at();
        let free = async {
            let Some(closes_at) = closes_at else {
                return std::future::pending().await;
            };
            if closes_at > Instant::now() {
                tokio::time::sleep_until(closes_at.into()).await;
            }
            Arc::clone(&gate).acquire_owned().await.ok()
        };
        tokio::select! {
            next = taken.recv() => {
                let Some((record, epoch)) = next else { break };
                if !std::mem::replace(&mut knows_cancelled, true) {
                    executor.know_cancelled().await;
                }
                match executor.admit(record, epoch) {
                    Admitted::Work(work) => {
                        let pixels = work.pixels();
                        former.push(work, pixels, Instant::now());
                    }
                    Admitted::Settled(settled) => shared.settle(settled),
                }
            }
            Some(permit) = free => {
                let Some(batch) = former.take(Instant::now()) else { continue };
                let (batch, lost) = shared.start(batch);
                executor.abandon(lost);
                if batch.is_empty() {
                    continue;
                }
                let (executor, shared, gate) = (Arc::clone(&executor), Arc::clone(&shared), Arc::clone(&gate));
                batches.spawn(async move {
                    executor.execute(batch, permit, &gate, &|settled| shared.settle(settled)).await;
                });
            }
            Some(_) = batches.join_next() => {}
        }
    }
    executor.abandon(former.len());
    batches.shutdown().await;
}
