//! The broker as a whole: starting, running, stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kafka_protocol::messages::BrokerId;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::data_dir::DataDir;
use crate::durability::Syncer;
use crate::error::BrokerError;
use crate::groups::Groups;
use crate::maintenance;
use crate::options::BrokerOptions;
use crate::state::Journal;
use crate::topics::Topics;
use crate::transactions::Transactions;
use crate::wire;

/// The id of the one broker.
pub const NODE_ID: BrokerId = BrokerId(1);
/// Requests are mostly copies and system calls; two threads keep two cores busy.
const WORKER_THREADS: usize = 2;

/// Everything that requests need. Use [`Broker::start`].
pub struct Broker {
    pub(crate) options: BrokerOptions,
    pub(crate) address: SocketAddr,
    pub(crate) cluster_id: String,
    pub(crate) journal: Arc<Journal>,
    pub(crate) syncer: Arc<Syncer>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
}

/// A broker that serves clients on threads of its own. Dropping it stops it.
pub struct RunningBroker {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Recovers the data directory and serves clients until the result is stopped or dropped. Blocks while it recovers; may
    /// be called from inside or outside an async runtime, as the broker has its own.
    pub fn start(options: BrokerOptions) -> Result<RunningBroker, BrokerError> {
        if !options.allow_remote && !options.listen.ip().is_loopback() {
            return Err(BrokerError::NotLoopback {
                address: options.listen,
            });
        }
        let (started, outcome) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("broker".to_owned())
            .spawn(move || run(options, &started, stopped))
            .map_err(BrokerError::Threads)?;
        let died = || {
            BrokerError::Threads(std::io::Error::other(
                "the broker's thread died while it started",
            ))
        };
        let address = outcome.recv().map_err(|_| died())??;
        Ok(RunningBroker {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Host and port that clients are told to connect to.
    pub(crate) fn advertised(&self) -> (String, i32) {
        match &self.options.advertise {
            Some((host, port)) => (host.clone(), i32::from(*port)),
            None => (
                self.address.ip().to_string(),
                i32::from(self.address.port()),
            ),
        }
    }

    async fn recover(
        options: BrokerOptions,
        address: SocketAddr,
        dir: &DataDir,
    ) -> Result<Arc<Self>, BrokerError> {
        let data_dir = options.data_dir.clone();
        let failed = |reason: String| BrokerError::Recovery {
            dir: data_dir.clone(),
            reason,
        };
        let syncer = Arc::new(Syncer::start(options.durability).map_err(BrokerError::Threads)?);
        let journal = Journal::open(&data_dir, options.durability, options.journal_compact_bytes)
            .map_err(|error| failed(error.to_string()))?;
        let journal = Arc::new(journal);
        let topics = Topics::open(
            data_dir.join("topics"),
            Arc::clone(&journal),
            Arc::clone(&syncer),
        )
        .map_err(|error| failed(error.to_string()))?;
        let topics = Arc::new(topics);
        let transactions = Arc::new(Transactions::new(
            Arc::clone(&journal),
            Arc::clone(&syncer),
            Arc::clone(&topics),
        ));
        transactions
            .recover(dir.machine_died)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let groups = Groups::open(
            Arc::clone(&journal),
            Arc::clone(&syncer),
            options.initial_rebalance_delay,
        );
        Ok(Arc::new(Self {
            options,
            address,
            cluster_id: dir.cluster_id().to_owned(),
            journal,
            syncer,
            topics,
            groups: Arc::new(groups),
            transactions,
        }))
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.options.max_connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = listener.accept().await;
            while connections.try_join_next().is_some() {}
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly too many open files: give some the time to close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%peer, limit = self.options.max_connections, "too many connections; closing a new one");
                continue;
            };
            let broker = Arc::clone(&self);
            connections.spawn(async move {
                wire::serve(stream, peer, broker).await;
                drop(place);
            });
        }
    }
}

impl RunningBroker {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving, writes what makes the next start quick, and waits for that. Open transactions are aborted by the
    /// next start, as after a crash.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the broker's thread panicked");
        }
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        self.end();
    }
}

type Started = std::sync::mpsc::Sender<Result<SocketAddr, BrokerError>>;

fn run(options: BrokerOptions, started: &Started, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("broker-worker")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whoever started the broker may be gone.
            let _ = started.send(Err(BrokerError::Threads(error)));
            return;
        }
    };
    let outcome = runtime.block_on(serve(options, started, stopped));
    let ended = match outcome {
        Ok(ended) => ended,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    // Connections end here, so that nothing is appended while the partitions are closed.
    runtime.shutdown_timeout(Duration::from_secs(5));
    let (broker, dir) = ended;
    broker.syncer.stop();
    broker.topics.close();
    dir.close();
}

async fn serve(
    options: BrokerOptions,
    started: &Started,
    stopped: oneshot::Receiver<()>,
) -> Result<(Arc<Broker>, DataDir), BrokerError> {
    let dir = DataDir::open(&options.data_dir)?;
    let listen = options.listen;
    let failed = |source| BrokerError::Listen {
        address: listen,
        source,
    };
    // Bound before the recovery, so that a taken port is said at once; clients wait in the backlog meanwhile.
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let broker = Broker::recover(options, address, &dir).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&broker).accept(listener));
    tasks.spawn(Arc::clone(&broker.transactions).housekeep());
    tasks.spawn(Arc::clone(&broker.groups).housekeep());
    tasks.spawn(maintenance::run(Arc::clone(&broker)));
    let _ = started.send(Ok(address));
    // Told to stop, or whoever could tell is gone: the same.
    let _ = stopped.await;
    tasks.shutdown().await;
    broker.transactions.settle_markers().await;
    Ok((broker, dir))
}
