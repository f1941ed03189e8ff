//! PostgreSQL goes away and comes back: the ledger says "unavailable" or "full", loses nothing, and needs no restart.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use atelier_stores::{Ledger, LedgerError, LedgerOptions, PostgresLedger, open_ledger};
use sqlx::Connection as _;
use support::{
    SmallDisk,
    postgres::{PASSWORD, Server, USER, account},
    postgres_ledger::{assert_unavailable, check_whole, impatient, live, live_again, open},
    tasks::new_task,
};
use uuid::Uuid;

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount(12 * 1_024) else {
        return;
    };
    let (user, group) = account().expect("root mounted it");
    std::os::unix::fs::chown(disk.path(), Some(user), Some(group)).unwrap();
    // Of its own, so that its files are closed before the disk goes.
    let server = Server::start(&["fsync=off"]);
    let space = format!(
        "CREATE TABLESPACE small LOCATION '{}'",
        disk.path().display()
    );
    server.run_sql("postgres", &space).await;
    server
        .run_sql("postgres", "CREATE DATABASE small TABLESPACE small")
        .await;
    let ledger = open(&server.url("small")).await;
    let mut kept = Vec::new();
    let refused = loop {
        match live(&ledger).await {
            Ok(task_id) => kept.push(task_id),
            Err(error) => break error,
        }
        assert!(kept.len() < 10_000, "12 MiB do not hold so many tasks");
    };
    assert!(matches!(refused, LedgerError::Full { .. }), "{refused}");
    assert!(kept.len() > 10, "{}", kept.len());
    disk.grow(64 * 1_024);
    kept.push(live(&ledger).await.unwrap());
    check_whole(&ledger, &kept).await;
    ledger.close().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_nothing_that_was_acknowledged() {
    let server = Server::shared();
    let database = server.database().await;
    let ledger = open(&server.url(&database)).await;
    let mut admin = server.raw("postgres").await;
    let until = Instant::now() + Duration::from_secs(3);
    let cutting = async {
        let mut cut = 0_i64;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(23)).await;
            let ended: i64 = sqlx::query_scalar(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1",
            )
            .bind(&database)
            .fetch_one(&mut admin)
            .await
            .unwrap();
            cut += ended;
        }
        cut
    };
    let working = async {
        let (mut done, mut refused) = (Vec::new(), 0);
        while Instant::now() < until {
            match live(&ledger).await {
                Ok(task_id) => done.push(task_id),
                failed => {
                    assert_unavailable(failed);
                    refused += 1;
                }
            }
        }
        (done, refused)
    };
    let (cut, (mut done, refused)) = tokio::join!(cutting, working);
    assert!(
        cut > 5 && !done.is_empty() && refused > 0,
        "cut {cut}, done {}, refused {refused}",
        done.len()
    );
    done.push(live_again(&ledger).await);
    check_whole(&ledger, &done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_and_comes_back_has_everything() {
    let server = Server::start(&[]);
    let ledger = PostgresLedger::open(&server.url("postgres"), &impatient())
        .await
        .unwrap();
    let mut done = Vec::new();
    for _ in 0..2 {
        let working = async {
            loop {
                match live(&ledger).await {
                    Ok(task_id) => done.push(task_id),
                    refused => break assert_unavailable(refused),
                }
            }
        };
        let crashing = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            tokio::task::block_in_place(|| server.crash());
        };
        tokio::join!(working, crashing);
        assert_unavailable(ledger.check().await);
        assert_unavailable(ledger.tasks(None, 1).await);
        tokio::task::block_in_place(|| server.run());
        done.push(live_again(&ledger).await);
        ledger.check().await.unwrap();
    }
    assert!(done.len() > 2);
    check_whole(&ledger, &done).await;
}

#[tokio::test]
async fn a_frozen_server_is_away_until_it_moves_again() {
    let server = Server::start(&["fsync=off"]);
    let ledger = PostgresLedger::open(&server.url("postgres"), &impatient())
        .await
        .unwrap();
    let mut done = vec![live(&ledger).await.unwrap()];
    let frozen = server.freeze();
    let since = Instant::now();
    assert_unavailable(live(&ledger).await);
    assert_unavailable(ledger.task(done[0]).await);
    assert_unavailable(ledger.check().await);
    let opened = PostgresLedger::open(&server.url("postgres"), &impatient()).await;
    assert_unavailable(opened.map(|_| ()));
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
    drop(frozen);
    done.push(live_again(&ledger).await);
    check_whole(&ledger, &done).await;

    // In the middle of the work too.
    let until = Instant::now() + Duration::from_secs(3);
    let freezing = async {
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(130)).await;
            let frozen = server.freeze();
            tokio::time::sleep(Duration::from_millis(700)).await;
            drop(frozen);
        }
    };
    let working = async {
        while Instant::now() < until {
            if let Ok(task_id) = live(&ledger).await {
                done.push(task_id);
            }
        }
    };
    tokio::join!(freezing, working);
    done.push(live_again(&ledger).await);
    check_whole(&ledger, &done).await;
}

#[tokio::test]
async fn a_server_that_refuses_is_one_line_that_names_the_setting() {
    let server = Server::shared();
    let database = server.database().await;
    for (url, expected) in [
        (
            server.url_as(USER, "s3cret guess", &database),
            "password authentication failed",
        ),
        (server.url_as("nobody", PASSWORD, &database), "nobody"),
        (server.url("missing"), "\"missing\" does not exist"),
        (
            format!("postgres://{USER}:s3cret@%2Fno%2Fsuch%2Ffolder/a"),
            "No such file",
        ),
    ] {
        let refused = open_ledger(&url, &impatient())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.starts_with("`stores.ledger_url` is `postgres://")
                && refused.contains(expected),
            "{refused}"
        );
        assert!(
            !refused.contains("s3cret") && !refused.contains('\n'),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_away_for_writers_only() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database);
    let ledger = open(&url).await;
    let task_id = live(&ledger).await.unwrap();
    let set = |value: &str| {
        format!(
            "ALTER DATABASE {database} SET default_transaction_read_only = {value};
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        )
    };
    server.run_sql("postgres", &set("on")).await;
    assert_unavailable(ledger.create_task(new_task(Uuid::new_v4())).await);
    assert!(assert_unavailable(ledger.check().await).contains("takes no writes"));
    assert!(ledger.task(task_id).await.unwrap().is_some());
    let opened = PostgresLedger::open(&url, &LedgerOptions::default()).await;
    assert!(assert_unavailable(opened.map(|_| ())).contains("takes no writes"));
    server.run_sql("postgres", &set("off")).await;
    let again = live_again(&ledger).await;
    check_whole(&ledger, &[task_id, again]).await;
}

#[tokio::test]
async fn no_connection_left_makes_it_unavailable() {
    let server = Server::shared();
    let database = server.database().await;
    let user = format!("u{database}");
    server
        .run_sql(
            "postgres",
            &format!(
                "CREATE ROLE {user} LOGIN PASSWORD 'other' CONNECTION LIMIT 2;
                 ALTER DATABASE {database} OWNER TO {user}"
            ),
        )
        .await;
    let url = server.url_as(&user, "other", &database);
    let ledger = PostgresLedger::open(&url, &impatient()).await.unwrap();
    live(&ledger).await.unwrap();
    ledger.close().await;
    let ledger = PostgresLedger::open(&url, &impatient()).await.unwrap();
    let mut others = Vec::new();
    while let Ok(other) = sqlx::PgConnection::connect(&url).await {
        others.push(other);
        assert!(others.len() <= 2);
    }
    assert_unavailable(live(&ledger).await);
    let opened = PostgresLedger::open(&url, &impatient()).await;
    assert!(assert_unavailable(opened.map(|_| ())).contains("too many connections"));
    for other in others {
        other.close().await.unwrap();
    }
    live_again(&ledger).await;
}
