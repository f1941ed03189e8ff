//! `atelier doctor` on what is as it should be, and on each fault.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use atelier_servers::{Listener, SecuredKafka};
use rdkafka::{
    ClientConfig, admin,
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::Value;
use sqlx::Connection as _;
use support::{Installation, PATIENCE, free_port};

/// Status and findings.
struct Visit {
    succeeded: bool,
    report: Value,
}

impl Visit {
    fn of(installation: &Installation) -> Self {
        let output = installation
            .command(&["doctor", "--format", "json"])
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Self {
            succeeded: output.status.success(),
            report: report.unwrap_or_else(|error| panic!("{error}: {said}")),
        }
    }

    fn finding(&self, name: &str) -> (bool, &str) {
        let checks = self.report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no check of {name}: {}", self.report));
        (
            found["ok"].as_bool().unwrap(),
            found["message"].as_str().unwrap(),
        )
    }

    /// Nothing but `name` is wrong, and it says so.
    fn finds_only(&self, name: &str, said: &str) {
        let (ok, message) = self.finding(name);
        assert!(
            !ok && message.contains(said),
            "{message}\nshould say: {said}"
        );
        let checks = self.report["checks"].as_array().unwrap();
        let wrong = checks.iter().filter(|check| check["ok"] != true);
        assert_eq!(wrong.count(), 1, "{}", self.report);
        assert!(!self.succeeded && self.report["ok"] == false);
    }
}

#[test]
fn all_that_runs_is_found_well_and_faults_are_told_with_what_to_do() {
    let mut installation = Installation::new("");
    let visit = Visit::of(&installation);
    visit.finds_only("kafka", "the embedded broker runs while `atelier up` does");
    let (_, ledger) = visit.finding("ledger");
    assert!(ledger.ends_with("is made at the first start"), "{ledger}");
    let data = installation.folder.path().join("data");
    assert!(
        !data.join("ledger.sqlite").exists(),
        "looking makes nothing"
    );

    installation.start_up();
    let visit = Visit::of(&installation);
    assert!(
        visit.succeeded && visit.report["ok"] == true,
        "{}",
        visit.report
    );
    let (_, gateway) = visit.finding("gateway");
    assert!(gateway.ends_with("is ready"), "{gateway}");
    let lines = installation.command(&["doctor"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&lines.stdout)
            .lines()
            .all(|line| line.starts_with("ok ")),
    );

    let producer = leave_a_transaction_open(&installation);
    Visit::of(&installation).finds_only(
        "transactions",
        "offset 0, where a transaction is open for 20 minutes",
    );
    producer.abort_transaction(PATIENCE).unwrap();
    drop(producer);
    assert!(Visit::of(&installation).succeeded);

    widen_a_topic(&installation);
    Visit::of(&installation).finds_only("topics", "image-tasks has 6 partitions, the table says 4");
    raise_the_tables(&data.join("ledger.sqlite"));
    let visit = Visit::of(&installation);
    let (ok, message) = visit.finding("migrations");
    assert!(
        !ok && message.contains("newer version (migration 9999)"),
        "{message}"
    );
}

/// Writes as one that began 20 minutes ago; `ingest-dead-letters` is written by nobody else here.
fn leave_a_transaction_open(installation: &Installation) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", installation.bootstrap())
        .set("transactional.id", "forgotten")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let began = std::time::SystemTime::now() - Duration::from_secs(20 * 60);
    let began = began.duration_since(std::time::UNIX_EPOCH).unwrap();
    let record: BaseRecord<'_, (), str> = BaseRecord::to("ingest-dead-letters")
        .payload("nobody's")
        .timestamp(i64::try_from(began.as_millis()).unwrap());
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    producer
}

fn widen_a_topic(installation: &Installation) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", installation.bootstrap());
    let client: admin::AdminClient<DefaultClientContext> = config.create().unwrap();
    let wider = [admin::NewPartitions::new("image-tasks", 6)];
    block_on(client.create_partitions(&wider, &admin::AdminOptions::new())).unwrap();
}

fn raise_the_tables(file: &std::path::Path) {
    block_on(async {
        let url = format!("sqlite://{}", file.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', 1, x'00', 0)",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
    });
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn what_is_wrong_on_this_machine_is_told_with_what_to_do() {
    let full = Installation::new("[stores.blobs]\nmin_free_bytes = 9000000000000000\n");
    let visit = Visit::of(&full);
    let (ok, message) = visit.finding("disk");
    assert!(
        !ok && message.contains("stores.blobs.min_free_bytes keeps"),
        "{message}"
    );

    let models = damaged_models();
    let damaged = Installation::new(&format!(
        "[models]\ndir = \"{}\"\n",
        models.path().display()
    ));
    let (ok, message) = damaged_finding(&damaged);
    assert!(!ok && message.contains("u2netp"), "{message}");

    let taken = Installation::new("");
    let _listener = std::net::TcpListener::bind(("127.0.0.1", taken.gateway_port)).unwrap();
    let visit = Visit::of(&taken);
    let (ok, message) = visit.finding("gateway");
    assert!(!ok && message.contains("set gateway.listen"), "{message}");
}

fn damaged_finding(installation: &Installation) -> (bool, String) {
    let visit = Visit::of(installation);
    let (ok, message) = visit.finding("models");
    (ok, message.to_owned())
}

/// The installed models, of which one has a wrong byte at its end.
fn damaged_models() -> tempfile::TempDir {
    let installed = atelier_models::ModelStore::open(None)
        .unwrap()
        .folder()
        .to_owned();
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&installed).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let copy = folder.path().join(path.file_name().unwrap());
        if path.file_name().unwrap() == "u2netp.onnx" {
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(copy, bytes).unwrap();
        } else {
            symlink(&path, copy).unwrap();
        }
    }
    folder
}

#[test]
fn faults_of_servers_are_told_with_what_to_do() {
    let port = free_port();
    let away = Installation::new(&format!(
        "embedded = false\n[kafka]\nbootstrap_servers = \"127.0.0.1:{port}\"\n[stores]\nledger_url = \"postgres://atelier@127.0.0.1:{port}/atelier\"\ncache_url = \"redis://127.0.0.1:{port}\"\nblobs_url = \"s3://atelier\"\n[stores.blobs.s3]\nendpoint = \"http://127.0.0.1:{port}\"\nmax_attempts = 1\n"
    ));
    let visit = Visit::of(&away);
    for name in ["kafka", "ledger", "blobs", "cache"] {
        let (ok, message) = visit.finding(name);
        assert!(
            !ok && message.contains(&port.to_string()),
            "{name}: {message}"
        );
    }

    let Some(kafka) = SecuredKafka::start(&["doctor"]) else {
        return;
    };
    let secured = |password_of: &str| {
        Installation::new(&format!(
            "embedded = false\n[kafka]\nbootstrap_servers = \"{}\"\n[kafka.security]\nprotocol = \"sasl_ssl\"\nca_file = \"{}\"\nusername = \"doctor\"\npassword_file = \"{}\"\n",
            kafka.address(Listener::Scram),
            kafka.ca_file().display(),
            kafka.password_file(password_of).display()
        ))
    };
    Visit::of(&secured(SecuredKafka::ADMINISTRATOR)).finds_only(
        "kafka",
        "the brokers do not know User:doctor by this password",
    );
    Visit::of(&secured("doctor")).finds_only(
        "topics",
        "forbidden by ACL: User:doctor may not use topic `image-tasks`",
    );
}
