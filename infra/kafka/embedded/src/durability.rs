//! Group commit: many requests that wait for the disk share one `fdatasync`.
//!
//! A request asks for a target (a partition or the journal) to be synced. While a sync of that target runs, later requests
//! queue together and share the next one. Invariant: a request is answered only after a sync that began after it asked.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Something that can be made durable.
pub trait SyncTarget: Send + Sync {
    /// Makes everything written so far durable. Called on a sync thread.
    fn sync(&self) -> io::Result<()>;
    /// For log lines.
    fn name(&self) -> String;
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Acknowledged means on the disk: it outlives a power cut.
    Fsync,
    /// Acknowledged means handed to the operating system: it outlives `kill -9` of the broker, not a power cut.
    Os,
}

/// A sync failed, or the broker is stopping.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SyncError(String);

type Waiter = oneshot::Sender<Result<(), SyncError>>;

#[derive(Default)]
struct Queue {
    order: VecDeque<usize>,
    waiting: HashMap<usize, (Arc<dyn SyncTarget>, Vec<Waiter>)>,
    running: Vec<usize>,
    stopping: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

/// The sync threads and their queue.
pub struct Syncer {
    mode: Durability,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Syncer {
    /// Different files are synced side by side by this many threads, so that the file system can join their commits.
    const THREADS: usize = 4;

    /// Starts the threads, if the mode needs any.
    pub fn start(mode: Durability) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        if mode == Durability::Fsync {
            for number in 0..Self::THREADS {
                let shared = Arc::clone(&shared);
                let name = format!("sync-{number}");
                threads.push(
                    std::thread::Builder::new()
                        .name(name)
                        .spawn(move || run(&shared))?,
                );
            }
        }
        Ok(Self {
            mode,
            shared,
            threads: Mutex::new(threads),
        })
    }

    /// What an acknowledgement promises.
    pub fn mode(&self) -> Durability {
        self.mode
    }

    /// Waits until everything that `target` holds now is as durable as the mode promises.
    pub async fn sync(&self, target: Arc<dyn SyncTarget>) -> Result<(), SyncError> {
        match self.enqueue(target) {
            None => Ok(()),
            Some(done) => done
                .await
                .unwrap_or_else(|_| Err(SyncError("the broker is stopping".to_owned()))),
        }
    }

    /// Waits for several targets, which are synced side by side.
    pub async fn sync_all(
        &self,
        targets: impl IntoIterator<Item = Arc<dyn SyncTarget>>,
    ) -> Result<(), SyncError> {
        let pending: Vec<_> = targets
            .into_iter()
            .filter_map(|target| self.enqueue(target))
            .collect();
        for done in pending {
            done.await
                .unwrap_or_else(|_| Err(SyncError("the broker is stopping".to_owned())))?;
        }
        Ok(())
    }

    /// Ends the threads; what still waits is told so.
    pub fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a sync thread panicked");
            }
        }
    }

    fn enqueue(
        &self,
        target: Arc<dyn SyncTarget>,
    ) -> Option<oneshot::Receiver<Result<(), SyncError>>> {
        if self.mode == Durability::Os {
            return None;
        }
        let key = Arc::as_ptr(&target).cast::<()>().addr();
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.shared.queue.lock();
        let is_new = !queue.waiting.contains_key(&key);
        queue
            .waiting
            .entry(key)
            .or_insert_with(|| (target, Vec::new()))
            .1
            .push(sender);
        if is_new && !queue.running.contains(&key) {
            queue.order.push_back(key);
            self.shared.work.notify_one();
        }
        Some(receiver)
    }
}

fn run(shared: &Shared) {
    let mut queue = shared.queue.lock();
    loop {
        let Some(key) = queue.order.pop_front() else {
            if queue.stopping {
                return;
            }
            shared.work.wait(&mut queue);
            continue;
        };
        let Some((target, waiters)) = queue.waiting.remove(&key) else {
            continue;
        };
        queue.running.push(key);
        drop(queue);
        let outcome = target.sync().map_err(|error| {
            tracing::error!(target_name = target.name(), %error, "sync failed");
            SyncError(error.to_string())
        });
        for waiter in waiters {
            // A waiter whose connection is gone no longer listens.
            let _ = waiter.send(outcome.clone());
        }
        queue = shared.queue.lock();
        queue.running.retain(|running| *running != key);
        if queue.waiting.contains_key(&key) {
            queue.order.push_back(key);
            shared.work.notify_one();
        }
    }
}
