//! What only SQLite promises: it survives kills, full disks, other writers and foreign files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{path::Path, time::Duration};

use atelier_schemas::TaskStatus;
use atelier_stores::{Ledger, LedgerError, LedgerOptions, SqliteLedger, ledger::Created};
use sqlx::{Connection as _, SqliteConnection};
use support::{
    SmallDisk, child_place, kill_after,
    tasks::{
        OLD_TASK, UNDO_RETENTION, USES, accepted, check_old_task_can_be_cancelled, completed,
        failed, life_of, new_task, task_ends, uses_of_completed, written_before_cancelling,
    },
};
use tempfile::TempDir;
use uuid::Uuid;

fn options() -> LedgerOptions {
    LedgerOptions {
        min_free_bytes: 0,
        ..LedgerOptions::default()
    }
}

async fn open(folder: &Path) -> SqliteLedger {
    SqliteLedger::open(&folder.join("ledger.sqlite"), options())
        .await
        .unwrap()
}

async fn raw(folder: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}/ledger.sqlite", folder.display()))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_that_start_at_once_on_a_new_file_all_find_its_tables() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.sqlite");
        // Connections of one process lock each other out as those of several do.
        let opening = (0..4).map(|_| {
            let file = file.clone();
            tokio::spawn(async move { SqliteLedger::open(&file, options()).await })
        });
        for opened in futures::future::join_all(opening).await {
            let ledger = opened.unwrap().unwrap();
            ledger.check().await.unwrap();
            ledger.close().await;
        }
    }
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await.close().await;
    let mut connection = raw(folder.path()).await;
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'from the future', CURRENT_TIMESTAMP, 1, x'00', 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let refused = SqliteLedger::open(&folder.path().join("ledger.sqlite"), options())
        .await
        .err()
        .unwrap();
    assert!(
        matches!(&refused, LedgerError::Unavailable { reason, .. } if reason.contains("9999")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_ledger_of_before_there_was_cancelling_keeps_what_it_has_and_can_cancel() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let created = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&created).await.unwrap();
    let first = sqlx::migrate!("../migrations/sqlite")
        .iter()
        .take(1)
        .cloned()
        .collect();
    sqlx::migrate::Migrator::with_migrations(first)
        .run(&mut connection)
        .await
        .unwrap();
    for statement in written_before_cancelling(OLD_TASK) {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection.close().await.unwrap();

    let ledger = open(folder.path()).await;
    check_old_task_can_be_cancelled(&ledger, OLD_TASK).await;
    let mut connection = raw(folder.path()).await;
    let indexes: Vec<(String,)> = sqlx::query_as(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'images' AND sql IS NOT NULL",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let expected = ["images_pending", "images_versions"].map(|name| (name.to_owned(),));
    assert_eq!(indexes, expected);
    sqlx::query("PRAGMA foreign_keys = ON")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("DELETE FROM tasks")
        .execute(&mut connection)
        .await
        .unwrap();
    let left: (i64,) = sqlx::query_as("SELECT count(*) FROM images")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(left.0, 0, "images go with their task");
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let content = "these are somebody's notes, not a database ".repeat(100);
    std::fs::write(&file, &content).unwrap();
    let refused = SqliteLedger::open(&file, options()).await.err().unwrap();
    assert!(
        matches!(refused, LedgerError::Unavailable { .. }),
        "{refused}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
}

#[tokio::test]
async fn a_row_that_does_not_parse_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path()).await;
    let (good, bad) = (Uuid::new_v4(), Uuid::new_v4());
    for task_id in [good, bad] {
        ledger.create_task(new_task(task_id)).await.unwrap();
    }
    let mut connection = raw(folder.path()).await;
    sqlx::query("UPDATE tasks SET options = '{\"quality\":7}' WHERE task_id = ?1")
        .bind(bad.to_string())
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = ledger.task(bad).await.unwrap_err();
    let named = |reason: &str| reason.contains(&bad.to_string()) && reason.contains("options");
    assert!(
        matches!(&refused, LedgerError::Corrupt { reason, .. } if named(reason)),
        "{refused}"
    );
    assert!(ledger.task(good).await.unwrap().is_some());
}

#[tokio::test]
async fn another_writer_that_does_not_let_go_makes_it_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let impatient = LedgerOptions {
        busy_timeout_ms: 100,
        ..options()
    };
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite"), impatient)
        .await
        .unwrap();
    let mut other = raw(folder.path()).await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    for refused in [
        ledger
            .create_task(new_task(Uuid::new_v4()))
            .await
            .unwrap_err(),
        ledger
            .apply(Uuid::new_v4(), accepted(Uuid::new_v4()))
            .await
            .unwrap_err(),
        ledger.check().await.unwrap_err(),
    ] {
        assert!(
            matches!(refused, LedgerError::Unavailable { .. }),
            "{refused}"
        );
    }
    // Readers do not wait for writers.
    assert_eq!(ledger.tasks(None, 10).await.unwrap().0, []);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    ledger.check().await.unwrap();
    assert_eq!(
        ledger.create_task(new_task(Uuid::new_v4())).await.unwrap(),
        Created::New
    );
}

#[tokio::test]
async fn the_reserve_stops_acceptance_while_what_was_accepted_ends() {
    let folder = tempfile::tempdir().unwrap();
    let task_id = Uuid::new_v4();
    open(folder.path())
        .await
        .create_task(new_task(task_id))
        .await
        .unwrap();
    let reserve = LedgerOptions {
        min_free_bytes: u64::MAX,
        ..options()
    };
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite"), reserve)
        .await
        .unwrap();
    let refused = ledger
        .create_task(new_task(Uuid::new_v4()))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, LedgerError::Full { reason, .. } if reason.contains("min_free_bytes")),
        "{refused}"
    );
    assert!(matches!(
        ledger.check().await,
        Err(LedgerError::Full { .. })
    ));
    for (event_id, effect) in life_of(task_id) {
        ledger.apply(event_id, effect).await.unwrap();
    }
    assert_eq!(
        ledger.task(task_id).await.unwrap().unwrap().status,
        TaskStatus::Failed
    );
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount(1_024) else {
        return;
    };
    let ledger = open(disk.path()).await;
    let mut kept = Vec::new();
    let refused = loop {
        let task_id = Uuid::new_v4();
        match ledger.create_task(new_task(task_id)).await {
            Ok(_) => kept.push(task_id),
            Err(error) => break error,
        }
        assert!(kept.len() < 10_000, "1 MiB does not hold so many tasks");
    };
    assert!(matches!(refused, LedgerError::Full { .. }), "{refused}");
    assert!(kept.len() > 10, "{}", kept.len());
    // Events find no room either, and that is no fault of theirs.
    let [(event_id, effect), _] = life_of(Uuid::new_v4());
    let mut answer = Ok(Vec::new());
    for filler in 0..200_u32 {
        answer = ledger
            .apply(Uuid::from_u128(filler.into()), failed(Uuid::new_v4()))
            .await;
        if answer.is_err() {
            break;
        }
    }
    assert!(
        matches!(answer, Err(LedgerError::Full { .. })),
        "{answer:?}"
    );
    for task_id in &kept {
        assert!(
            ledger.task(*task_id).await.unwrap().is_some(),
            "{task_id} was accepted"
        );
    }
    disk.grow(16_384);
    ledger.apply(event_id, effect).await.unwrap();
    for task_id in &kept {
        for (event_id, effect) in life_of(*task_id) {
            ledger.apply(event_id, effect).await.unwrap();
        }
        assert_eq!(
            ledger.task(*task_id).await.unwrap().unwrap().status,
            TaskStatus::Failed
        );
    }
    assert_eq!(
        ledger.outbox_pending(10_000).await.unwrap().len(),
        kept.len()
    );
    ledger.close().await;
}

#[tokio::test]
async fn what_is_past_its_retention_is_forgotten_and_still_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let task_id = Uuid::new_v4();
    let ledger = open(folder.path()).await;
    ledger.create_task(new_task(task_id)).await.unwrap();
    let sent: Vec<_> = ledger
        .outbox_pending(10)
        .await
        .unwrap()
        .iter()
        .map(|row| row.event_id)
        .collect();
    ledger.outbox_sent(&sent).await.unwrap();
    for (event_id, effect) in life_of(task_id) {
        ledger.apply(event_id, effect).await.unwrap();
    }
    ledger.close().await;
    let forgetful = LedgerOptions {
        inbox_retention_hours: 0,
        ..options()
    };
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite"), forgetful)
        .await
        .unwrap();
    let state = ledger.task(task_id).await.unwrap();
    // The first application after a start prunes.
    ledger
        .apply(Uuid::new_v4(), accepted(Uuid::new_v4()))
        .await
        .unwrap();
    let mut connection = raw(folder.path()).await;
    let outbox: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(outbox, 0);
    for (event_id, effect) in life_of(task_id) {
        assert_eq!(ledger.apply(event_id, effect).await.unwrap(), []);
    }
    assert_eq!(ledger.task(task_id).await.unwrap(), state);
}

#[tokio::test]
async fn uses_of_blobs_from_before_they_were_kept_are_known() {
    let folder = TempDir::new().unwrap();
    let ledger = open(folder.path()).await;
    let task_id = Uuid::new_v4();
    ledger
        .apply(Uuid::new_v4(), completed(task_id))
        .await
        .unwrap();
    ledger.close().await;
    let mut connection = raw(folder.path()).await;
    let mut known: Vec<(String, String)> = sqlx::query_as(USES)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(known, uses_of_completed());
    for undo in UNDO_RETENTION {
        sqlx::query(undo).execute(&mut connection).await.unwrap();
    }
    let ledger = open(folder.path()).await;
    known = sqlx::query_as(USES)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(known, uses_of_completed());
    assert!(ledger.task(task_id).await.unwrap().is_some());
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged: Vec<Uuid> = Vec::new();
    for round in 0..5 {
        let more = Duration::from_millis(round * 11);
        let done = kill_after(
            "child_that_applies_until_it_is_killed",
            folder.path().as_os_str(),
            20,
            more,
        );
        acknowledged.extend(done.iter().map(|task_id| task_id.parse::<Uuid>().unwrap()));
        let ledger = open(folder.path()).await;
        for task_id in &acknowledged {
            assert_eq!(
                ledger.task(*task_id).await.unwrap().unwrap().status,
                TaskStatus::Failed
            );
        }
        // Also those that were cut off in the middle: done again, each tells its end once, and is whole.
        let (tasks, _) = ledger.tasks(None, 100_000).await.unwrap();
        assert!(tasks.len() >= acknowledged.len());
        for task in tasks {
            let mut ends = 0;
            for (event_id, effect) in life_of(task.task_id) {
                ends += task_ends(&ledger.apply(event_id, effect).await.unwrap());
            }
            assert_eq!(ends, 1, "{}", task.task_id);
        }
        let outbox = ledger.outbox_pending(100_000).await.unwrap();
        let is_whole = |task_id: &Uuid| outbox.iter().any(|row| row.task_id == *task_id);
        assert!(
            acknowledged.iter().all(is_whole),
            "a task and its outbox row are one transaction"
        );
        ledger.close().await;
    }
}

#[tokio::test]
#[ignore = "the process that `kill_9_loses_nothing_that_was_acknowledged` kills"]
#[allow(clippy::print_stdout)]
async fn child_that_applies_until_it_is_killed() {
    let folder = child_place().expect("started by the other test");
    let ledger = open(Path::new(&folder)).await;
    loop {
        let task_id = Uuid::new_v4();
        ledger.create_task(new_task(task_id)).await.unwrap();
        for (event_id, effect) in life_of(task_id) {
            ledger.apply(event_id, effect).await.unwrap();
        }
        println!("done {task_id}");
    }
}
