//! What the tests of the ledger on PostgreSQL share.

use std::time::{Duration, Instant};

use atelier_schemas::TaskStatus;
use atelier_stores::{Ledger, LedgerError, LedgerOptions, PostgresLedger, PostgresOptions};
use uuid::Uuid;

use super::{
    postgres::PASSWORD,
    tasks::{life_of, new_task, task_ends},
};

pub async fn open(url: &str) -> PostgresLedger {
    PostgresLedger::open(url, &LedgerOptions::default())
        .await
        .unwrap()
}

/// Waits for nothing long, so that tests of waiting are short.
pub fn impatient() -> LedgerOptions {
    LedgerOptions {
        postgres: PostgresOptions {
            acquire_timeout_ms: 500,
            connect_timeout_ms: 1_000,
            statement_timeout_ms: 500,
            ..PostgresOptions::default()
        },
        ..LedgerOptions::default()
    }
}

pub fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, LedgerError>) -> String {
    match answer {
        Err(error @ LedgerError::Unavailable { .. }) => {
            let message = error.to_string();
            assert!(
                !message.contains(PASSWORD) && !message.contains("s3cret"),
                "{message}"
            );
            message
        }
        other => panic!("{other:?}"),
    }
}

/// Creates and ends one task; answers its id.
pub async fn live(ledger: &dyn Ledger) -> Result<Uuid, LedgerError> {
    let task_id = Uuid::new_v4();
    ledger.create_task(new_task(task_id)).await?;
    for (event_id, effect) in life_of(task_id) {
        ledger.apply(event_id, effect).await?;
    }
    Ok(task_id)
}

/// Every one of them ended, once; doing it again tells the same.
pub async fn check_whole(ledger: &dyn Ledger, tasks: &[Uuid]) {
    for task_id in tasks {
        let task = ledger.task(*task_id).await.unwrap();
        assert_eq!(task.unwrap().status, TaskStatus::Failed);
        let mut ends = 0;
        for (event_id, effect) in life_of(*task_id) {
            ends += task_ends(&ledger.apply(event_id, effect).await.unwrap());
        }
        assert_eq!(ends, 1, "{task_id}");
    }
}

/// Tries until it succeeds; the server needs a moment to come back.
pub async fn live_again(ledger: &dyn Ledger) -> Uuid {
    let since = Instant::now();
    loop {
        match live(ledger).await {
            Ok(task_id) => return task_id,
            refused if since.elapsed() < Duration::from_secs(30) => {
                assert_unavailable(refused);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("does not come back: {error}"),
        }
    }
}
