//! What only PostgreSQL promises: several processes share it, and wait for each other only where they must.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{ffi::OsStr, time::Duration};

use atelier_stores::{
    Ledger, LedgerError, LedgerOptions, PostgresLedger,
    ledger::{Created, Effect},
};
use sqlx::Connection as _;
use support::{
    child_place, kill_after,
    postgres::Server,
    postgres_ledger::{assert_unavailable, check_whole, impatient, live, open},
    tasks::{
        OLD_TASK, UNDO_RETENTION, USES, accepted, check_old_task_can_be_cancelled, completed,
        failed, life_of, new_task, task_ends, uses_of_completed, written_before_cancelling,
    },
};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledgers_that_start_at_once_share_one_set_of_tables() {
    let server = Server::shared();
    let url = server.url(&server.database().await);
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = url.clone();
        starting.spawn(async move { live(&open(&url).await).await.unwrap() });
    }
    let tasks = starting.join_all().await;
    check_whole(&open(&url).await, &tasks).await;
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_left_alone() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database);
    open(&url).await.close().await;
    server
        .run_sql(
            &database,
            "INSERT INTO _sqlx_migrations VALUES (9999, 'from the future', now(), true, '\\x00', 0)",
        )
        .await;
    for _ in 0..2 {
        let refused = PostgresLedger::open(&url, &LedgerOptions::default()).await;
        assert!(assert_unavailable(refused.map(|_| ())).contains("9999"));
    }
}

#[tokio::test]
async fn a_ledger_of_before_there_was_cancelling_keeps_what_it_has_and_can_cancel() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database);
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let first = sqlx::migrate!("../migrations/postgres")
        .iter()
        .take(1)
        .cloned()
        .collect();
    sqlx::migrate::Migrator::with_migrations(first)
        .run(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    for statement in written_before_cancelling(OLD_TASK) {
        server.run_sql(&database, &statement).await;
    }
    check_old_task_can_be_cancelled(&open(&url).await, OLD_TASK).await;
}

#[tokio::test]
async fn a_row_that_does_not_parse_is_named() {
    let server = Server::shared();
    let database = server.database().await;
    let ledger = open(&server.url(&database)).await;
    let (good, bad) = (Uuid::new_v4(), Uuid::new_v4());
    for task_id in [good, bad] {
        ledger.create_task(new_task(task_id)).await.unwrap();
    }
    let damage = format!("UPDATE tasks SET options = '{{\"quality\":7}}' WHERE task_id = '{bad}'");
    server.run_sql(&database, &damage).await;
    let refused = ledger.task(bad).await.unwrap_err();
    let named = |reason: &str| reason.contains(&bad.to_string()) && reason.contains("options");
    assert!(
        matches!(&refused, LedgerError::Corrupt { reason, .. } if named(reason)),
        "{refused}"
    );
    assert!(ledger.task(good).await.unwrap().is_some());
}

#[tokio::test]
async fn it_says_how_many_of_its_connections_are_in_use() {
    let server = Server::shared();
    let url = server.url(&server.database().await);
    let ledger = open(&url).await;
    live(&ledger).await.unwrap();
    // A connection goes back a moment after its answer.
    let mut at_rest = ledger.connections().unwrap();
    for _ in 0..500 {
        if at_rest.in_use == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        at_rest = ledger.connections().unwrap();
    }
    assert_eq!(at_rest.in_use, 0, "{at_rest:?}");
    assert!((1..=at_rest.limit).contains(&at_rest.idle), "{at_rest:?}");
    let checks = (0..at_rest.limit * 4).map(|_| ledger.check());
    let mut most = 0;
    let watch = async {
        for _ in 0..1_000 {
            most = most.max(ledger.connections().unwrap().in_use);
            tokio::task::yield_now().await;
        }
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(checks), watch);
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert!((1..=at_rest.limit).contains(&most), "{most} of {at_rest:?}");
}

#[tokio::test]
async fn names_may_hold_every_sign() {
    let server = Server::shared();
    let ledger = open(&server.url(&server.database().await)).await;
    let mut task = new_task(Uuid::new_v4());
    let name = "null\u{0} \u{1f457} \"'\\ \u{202e}".to_owned();
    task.request.images[0].name = Some(name.clone());
    let task_id = task.task_id;
    ledger.create_task(task).await.unwrap();
    ledger
        .apply(Uuid::new_v4(), accepted(task_id))
        .await
        .unwrap();
    let answer = ledger.task(task_id).await.unwrap().unwrap();
    assert_eq!(answer.results[0].name, Some(name));
}

#[tokio::test]
async fn another_writer_that_does_not_let_go_makes_it_unavailable() {
    let server = Server::shared();
    let database = server.database().await;
    let ledger = PostgresLedger::open(&server.url(&database), &impatient())
        .await
        .unwrap();
    let mut other = server.raw(&database).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE tasks IN EXCLUSIVE MODE")
        .execute(&mut other)
        .await
        .unwrap();
    let task_id = Uuid::new_v4();
    assert_unavailable(ledger.create_task(new_task(task_id)).await);
    assert_unavailable(ledger.apply(Uuid::new_v4(), accepted(task_id)).await);
    // Readers do not wait for writers.
    assert_eq!(ledger.tasks(None, 10).await.unwrap().0, []);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(
        ledger.create_task(new_task(task_id)).await.unwrap(),
        Created::New
    );
}

#[tokio::test]
async fn one_event_for_two_tasks_is_applied_once() {
    let server = Server::shared();
    let url = server.url(&server.database().await);
    let (one, other) = (open(&url).await, open(&url).await);
    for _ in 0..30 {
        let event_id = Uuid::new_v4();
        let (left, right) = (Uuid::new_v4(), Uuid::new_v4());
        let (told_left, told_right) = tokio::join!(
            one.apply(event_id, failed(left)),
            other.apply(event_id, failed(right))
        );
        assert_eq!(told_left.unwrap(), told_right.unwrap());
        let kept = [
            one.task(left).await.unwrap(),
            one.task(right).await.unwrap(),
        ];
        assert_eq!(kept.iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let server = Server::shared();
    let database = server.database().await;
    let ledger = open(&server.url(&database)).await;
    for _ in 0..2 {
        ledger.create_task(new_task(Uuid::new_v4())).await.unwrap();
    }
    let rows = ledger.outbox_pending(10).await.unwrap();
    let mut other = server.raw(&database).await;
    // The ledger's transaction is the one that the server gives up.
    sqlx::raw_sql("SET deadlock_timeout = '60s'; BEGIN")
        .execute(&mut other)
        .await
        .unwrap();
    let touch = "UPDATE outbox SET traceparent = 'x' WHERE event_id = $1";
    sqlx::query(touch)
        .bind(rows[1].event_id.to_string())
        .execute(&mut other)
        .await
        .unwrap();
    let ids = [rows[0].event_id, rows[1].event_id];
    let other = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sqlx::query(touch)
            .bind(rows[0].event_id.to_string())
            .execute(&mut other)
            .await
            .unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    };
    let (marked, ()) = tokio::join!(ledger.outbox_sent(&ids), other);
    marked.unwrap();
    assert_eq!(ledger.outbox_pending(10).await.unwrap(), []);
    let mut raw = server.raw(&database).await;
    let deadlocks: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM outbox WHERE traceparent = 'x' AND sent_at_us > 0",
    )
    .fetch_one(&mut raw)
    .await
    .unwrap();
    assert_eq!(deadlocks, 2, "both did all of it");
}

/// Makes the server refuse new inbox rows with `code`, as long as fewer than `times` were refused.
async fn refuse(server: &Server, database: &str, code: &str, times: u32) {
    let trigger = format!(
        "CREATE SEQUENCE refused;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('refused') <= {times} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION refuse();"
    );
    server.run_sql(database, &trigger).await;
}

#[tokio::test]
async fn a_failed_serialisation_is_tried_again_but_not_for_ever() {
    let server = Server::shared();
    for (code, times, succeeds) in [
        ("40001", 3, true),
        ("40P01", 3, true),
        ("40001", 1_000, false),
        ("22012", 1, false),
    ] {
        let database = server.database().await;
        let ledger = open(&server.url(&database)).await;
        refuse(server, &database, code, times).await;
        let task_id = Uuid::new_v4();
        let answer = ledger.apply(Uuid::new_v4(), failed(task_id)).await;
        let task = ledger.task(task_id).await.unwrap();
        assert_eq!(task.is_some(), succeeds, "{code} {times}");
        if succeeds {
            assert_eq!(task_ends(&answer.unwrap()), 1);
        } else {
            assert_unavailable(answer);
        }
    }
}

#[tokio::test]
async fn what_is_past_its_retention_is_forgotten_and_still_changes_nothing() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database);
    let ledger = open(&url).await;
    let task_id = live(&ledger).await.unwrap();
    let sent: Vec<_> = ledger
        .outbox_pending(10)
        .await
        .unwrap()
        .iter()
        .map(|row| row.event_id)
        .collect();
    ledger.outbox_sent(&sent).await.unwrap();
    ledger.close().await;
    let forgetful = LedgerOptions {
        inbox_retention_hours: 0,
        ..LedgerOptions::default()
    };
    let ledger = PostgresLedger::open(&url, &forgetful).await.unwrap();
    let state = ledger.task(task_id).await.unwrap();
    // The first application after a start prunes.
    ledger
        .apply(Uuid::new_v4(), accepted(Uuid::new_v4()))
        .await
        .unwrap();
    let left: (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM inbox)")
            .fetch_one(&mut server.raw(&database).await)
            .await
            .unwrap();
    assert_eq!((left.0, left.1 <= 1), (0, true), "{left:?}");
    for (event_id, effect) in life_of(task_id) {
        assert_eq!(ledger.apply(event_id, effect).await.unwrap(), []);
    }
    assert_eq!(ledger.task(task_id).await.unwrap(), state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_of_blobs_from_before_they_were_kept_are_known() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database);
    let ledger = open(&url).await;
    let task_id = Uuid::new_v4();
    ledger
        .apply(Uuid::new_v4(), completed(task_id))
        .await
        .unwrap();
    ledger.close().await;
    let mut connection = server.raw(&database).await;
    let mut known: Vec<(String, String)> = sqlx::query_as(USES)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(known, uses_of_completed());
    for undo in UNDO_RETENTION {
        sqlx::query(undo).execute(&mut connection).await.unwrap();
    }
    let ledger = open(&url).await;
    known = sqlx::query_as(USES)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(known, uses_of_completed());
    assert!(ledger.task(task_id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_one_process_disturbs_no_other_and_loses_nothing() {
    let server = Server::shared();
    let url = server.url(&server.database().await);
    let ledger = open(&url).await;
    let mut acknowledged: Vec<Uuid> = Vec::new();
    for round in 0..4 {
        let more = Duration::from_millis(round * 11);
        let place = url.clone();
        let child = tokio::task::spawn_blocking(move || {
            let name = "child_that_applies_until_it_is_killed";
            kill_after(name, OsStr::new(&place), 20, more)
        });
        // This process writes all the while.
        while !child.is_finished() {
            acknowledged.push(live(&ledger).await.unwrap());
        }
        let done = child.await.unwrap();
        acknowledged.extend(done.iter().map(|task_id| task_id.parse::<Uuid>().unwrap()));
    }
    check_whole(&ledger, &acknowledged).await;
    // Also those that were cut off in the middle: done again, each is whole.
    let (tasks, _) = ledger.tasks(None, 100_000).await.unwrap();
    assert!(tasks.len() >= acknowledged.len());
    for task in &tasks {
        for (event_id, effect) in life_of(task.task_id) {
            ledger.apply(event_id, effect).await.unwrap();
        }
    }
    let all: Vec<_> = tasks.iter().map(|task| task.task_id).collect();
    check_whole(&ledger, &all).await;
    let outbox = ledger.outbox_pending(100_000).await.unwrap();
    assert_eq!(
        outbox.len(),
        all.len(),
        "a task and its outbox row are one transaction"
    );
}

#[tokio::test]
#[ignore = "the process that `kill_9_of_one_process_disturbs_no_other_and_loses_nothing` kills"]
#[allow(clippy::print_stdout)]
async fn child_that_applies_until_it_is_killed() {
    let url = child_place().expect("started by the other test");
    let ledger = open(url.to_str().unwrap()).await;
    loop {
        println!("done {}", live(&ledger).await.unwrap());
    }
}

/// Many writers on few tasks, in batches whose tasks overlap in every order: each end is told once, nobody fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_of_many_writers_agree() {
    let server = Server::shared();
    let url = server.url(&server.database().await);
    let ledgers = [open(&url).await, open(&url).await].map(std::sync::Arc::new);
    let tasks: Vec<_> = (0..12).map(|_| Uuid::new_v4()).collect();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let ledger = ledgers[writer % 2].clone();
        let mut effects: Vec<(Uuid, Effect)> = tasks.iter().copied().flat_map(life_of).collect();
        effects.rotate_left(writer * 3);
        if writer % 3 == 0 {
            effects.reverse();
        }
        writers.spawn(async move {
            let mut told = Vec::new();
            for batch in effects.chunks(5) {
                for events in ledger.apply_all(batch.to_vec()).await.unwrap() {
                    told.push(events.unwrap());
                }
            }
            let ids = effects.into_iter().map(|(event_id, _)| event_id);
            ids.zip(told).collect::<std::collections::BTreeMap<_, _>>()
        });
    }
    let answers = writers.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let ends: usize = answers[0].values().map(|events| task_ends(events)).sum();
    assert_eq!(ends, tasks.len());
    check_whole(&*ledgers[0], &tasks).await;
}
