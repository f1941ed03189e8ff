//! The outbox on a real log: each row once, also where the broker or the database goes away in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use atelier_runtime::{
    Header, OutRecord,
    outbox::{OutboxSource, PendingRecord, RelayOptions, relay},
};
use atelier_servers::{Broker, on_each_broker};
use support::kafka::{Log, eventually};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

on_each_broker! {
    a_row_that_could_not_be_marked_is_not_published_again,
    the_next_relay_goes_on_where_a_killed_one_left_off,
    two_relays_on_one_database_publish_each_row_once,
    a_broker_that_goes_away_is_waited_for,
}

/// Rows in memory; marking fails as often as it is told to.
#[derive(Clone, Default)]
struct Rows {
    waiting: Arc<Mutex<Vec<Uuid>>>,
    failures_to_come: Arc<AtomicUsize>,
}

impl Rows {
    fn add(&self, count: usize) {
        let new = (0..count).map(|_| Uuid::new_v4());
        self.waiting.lock().unwrap().extend(new);
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap().is_empty()
    }
}

#[async_trait]
impl OutboxSource for Rows {
    type Error = io::Error;

    async fn pending(&self, limit: usize) -> Result<Vec<PendingRecord>, io::Error> {
        let waiting = self.waiting.lock().unwrap();
        let rows = waiting.iter().take(limit).map(|id| PendingRecord {
            id: *id,
            record: OutRecord {
                topic: "image-tasks".into(),
                key: Some(id.to_string().into()),
                headers: vec![Header {
                    name: "ce_id".into(),
                    value: Some(id.to_string().into()),
                }],
                value: Some("{}".into()),
            },
        });
        Ok(rows.collect())
    }

    async fn published(&self, ids: &[Uuid]) -> Result<(), io::Error> {
        let fails = |left: usize| left.checked_sub(1);
        if !ids.is_empty()
            && self
                .failures_to_come
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails)
                .is_ok()
        {
            return Err(io::Error::other("the database is away"));
        }
        self.waiting.lock().unwrap().retain(|id| !ids.contains(id));
        Ok(())
    }
}

/// A relay at work; the token ends it.
fn start(log: &Log, rows: &Rows) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let (kafka, rows, shutdown) = (log.kafka.clone(), rows.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    let options = RelayOptions {
        interval: Duration::from_millis(50),
        ..RelayOptions::default()
    };
    let running = tokio::spawn(async move {
        relay(&kafka, &rows, options, &Arc::new(Notify::new()), &stop).await;
    });
    (shutdown, running)
}

async fn assert_each_once(log: &Log, count: usize) {
    let mut times: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for record in log.wait_for("image-tasks", count).await {
        *times.entry(record.key.unwrap().to_vec()).or_default() += 1;
    }
    assert_eq!(times.len(), count);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

async fn a_row_that_could_not_be_marked_is_not_published_again(broker: Broker) {
    let log = Log::start(broker).await;
    let rows = Rows::default();
    rows.add(150);
    rows.failures_to_come.store(3, Ordering::SeqCst);
    let (shutdown, running) = start(&log, &rows);
    eventually("every row is marked", || async { rows.is_empty() }).await;
    shutdown.cancel();
    running.await.unwrap();
    assert_each_once(&log, 150).await;
}

async fn the_next_relay_goes_on_where_a_killed_one_left_off(broker: Broker) {
    let log = Log::start(broker).await;
    let rows = Rows::default();
    rows.add(60);
    // It publishes and never gets to mark: what a kill between the two looks like.
    rows.failures_to_come.store(usize::MAX, Ordering::SeqCst);
    let (_, killed) = start(&log, &rows);
    log.wait_for("image-tasks", 60).await;
    killed.abort();
    rows.failures_to_come.store(0, Ordering::SeqCst);
    rows.add(5);
    let (shutdown, running) = start(&log, &rows);
    eventually("every row is marked", || async { rows.is_empty() }).await;
    shutdown.cancel();
    running.await.unwrap();
    assert_each_once(&log, 65).await;
}

async fn two_relays_on_one_database_publish_each_row_once(broker: Broker) {
    let log = Log::start(broker).await;
    let rows = Rows::default();
    rows.add(20);
    let relays = [start(&log, &rows), start(&log, &rows)];
    for _ in 0..10 {
        rows.add(20);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eventually("every row is marked", || async { rows.is_empty() }).await;
    for (shutdown, running) in relays {
        shutdown.cancel();
        running.await.unwrap();
    }
    assert_each_once(&log, 220).await;
}

async fn a_broker_that_goes_away_is_waited_for(broker: Broker) {
    let mut log = Log::start(broker).await;
    let rows = Rows::default();
    rows.add(30);
    let (shutdown, running) = start(&log, &rows);
    eventually("every row is marked", || async { rows.is_empty() }).await;
    rows.add(200);
    log.restart(Duration::from_millis(500)).await;
    rows.add(30);
    eventually("every row is marked", || async { rows.is_empty() }).await;
    shutdown.cancel();
    running.await.unwrap();
    assert_each_once(&log, 260).await;
}
