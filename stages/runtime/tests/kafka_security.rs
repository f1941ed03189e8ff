//! Brokers that ask who is there: TLS, passwords and access rules; and what is said of each where it is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use atelier_runtime::{
    AnyStage, Cancelled, KafkaOptions, Publisher, RunningStage, SaslMechanism, SecurityOptions,
    SecurityProtocol, TopicAdmin,
    access::{self, AccessRule, Operation, ResourceType},
    letters::LetterReader,
    outbox::{self, OutboxSource, PendingRecord, RelayOptions},
    replay::{Repair, Replayer},
    tail,
};
use atelier_schemas::TopicTable;
use atelier_servers::{AclRule, Listener, SecuredKafka};
use futures::future::join_all;
use support::{
    each, ingest_one,
    kafka::{Log, Running, eventually, options},
    no_op_pipeline,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PREFIX: &str = "atelier-";

/// The one broker of this binary, with a user for each of the rules' principals; nothing where Kafka is not installed.
fn shared() -> Option<&'static SecuredKafka> {
    static SHARED: OnceLock<Option<SecuredKafka>> = OnceLock::new();
    let start = || {
        let users = principals();
        SecuredKafka::start(&users.iter().map(String::as_str).collect::<Vec<_>>())
    };
    SHARED.get_or_init(start).as_ref()
}

fn principals() -> Vec<String> {
    let names = ["gateway", "operator"].map(str::to_owned);
    let stages = TopicTable::embedded().stages().iter().cloned();
    stages
        .chain(names)
        .map(|name| format!("{PREFIX}{name}"))
        .collect()
}

fn at(kafka: &SecuredKafka, listener: Listener, security: SecurityOptions) -> KafkaOptions {
    KafkaOptions {
        security,
        ..KafkaOptions::at(kafka.address(listener))
    }
}

fn tls(ca_file: PathBuf) -> SecurityOptions {
    SecurityOptions {
        protocol: SecurityProtocol::Ssl,
        ca_file: Some(ca_file),
        ..SecurityOptions::default()
    }
}

fn password(kafka: &SecuredKafka, user: &str) -> SecurityOptions {
    SecurityOptions {
        protocol: SecurityProtocol::SaslSsl,
        ca_file: Some(kafka.ca_file()),
        username: Some(user.to_owned()),
        password_file: Some(kafka.password_file(user)),
        ..SecurityOptions::default()
    }
}

/// As the process of that name, with its own rules.
fn as_user(kafka: &SecuredKafka, name: &str) -> KafkaOptions {
    let user = format!("{PREFIX}{name}");
    at(kafka, Listener::Scram, password(kafka, &user))
}

fn all_rules() -> Vec<AccessRule> {
    access::rules(TopicTable::embedded(), PREFIX)
}

fn acl(rule: &AccessRule) -> AclRule {
    AclRule {
        principal: rule.principal.clone(),
        resource_type: rule.resource_type.as_str().to_owned(),
        resource_name: rule.resource.clone(),
        pattern: rule.pattern.as_str().to_owned(),
        operation: rule.operation.as_str().to_owned(),
    }
}

fn allow_all(kafka: &SecuredKafka) {
    let rules: Vec<AclRule> = all_rules().iter().map(acl).collect();
    kafka.allow(&rules);
}

fn run(log: &Log, kafka: &KafkaOptions, stage: Arc<dyn AnyStage>) -> Running {
    let shutdown = CancellationToken::new();
    let running = RunningStage::start(
        stage,
        kafka,
        &log.table,
        &options("0"),
        &Cancelled::follow(kafka, &log.table),
        shutdown.clone(),
    );
    Running {
        running: running.unwrap(),
        shutdown,
    }
}

async fn says(stage: &Running, what: &str) {
    eventually(what, || async {
        let reasons = stage.running.readiness().reasons();
        reasons.iter().any(|reason| reason.contains(what))
    })
    .await;
}

async fn is_ready(stage: &Running) {
    eventually("ready", || async { stage.running.readiness().is_ready() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_works() {
    let Some(kafka) = shared() else { return };
    let log = Log::of(KafkaOptions::at(kafka.address(Listener::Plaintext))).await;
    let administrator = || password(kafka, SecuredKafka::ADMINISTRATOR);
    let (certificate_file, key_file) = kafka.client_certificate();
    let ways = [
        (Listener::Tls, tls(kafka.ca_file())),
        (
            Listener::MutualTls,
            SecurityOptions {
                certificate_file: Some(certificate_file),
                key_file: Some(key_file),
                ..tls(kafka.ca_file())
            },
        ),
        (Listener::Scram, administrator()),
        (
            Listener::Scram,
            SecurityOptions {
                mechanism: SaslMechanism::ScramSha256,
                ..administrator()
            },
        ),
        (
            Listener::ScramPlaintext,
            SecurityOptions {
                protocol: SecurityProtocol::SaslPlaintext,
                ca_file: None,
                ..administrator()
            },
        ),
    ];
    for (listener, security) in ways {
        let admin = TopicAdmin::new(&at(kafka, listener, security)).unwrap();
        let plan = admin.plan(&log.table).await;
        assert_eq!(plan.unwrap(), [], "{listener:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_way_in_is_said_in_one_line_with_what_to_do() {
    let Some(kafka) = shared() else { return };
    let administrator = || password(kafka, SecuredKafka::ADMINISTRATOR);
    support::kafka::log_if_asked();
    let none = SecurityOptions::default;
    let cases = [
        (
            Listener::Tls,
            tls(kafka.other_ca_file()),
            "other-ca.pem, is for another name, or has expired: set kafka.security.ca_file to the authority that made it",
        ),
        (
            Listener::OtherName,
            tls(kafka.ca_file()),
            "/ca.pem, is for another name, or has expired",
        ),
        (
            Listener::MutualTls,
            tls(kafka.ca_file()),
            "the brokers ask for a certificate: set kafka.security.certificate_file",
        ),
        (
            Listener::Tls,
            none(),
            "kafka.security.protocol = `plaintext`, and the listener closes the connection: one with TLS does so",
        ),
        (
            Listener::Plaintext,
            tls(kafka.ca_file()),
            "kafka.security.protocol = `ssl`, and the listener closes the connection: one without TLS does so",
        ),
        (
            Listener::ScramPlaintext,
            none(),
            "one that asks for a password does so",
        ),
        (
            Listener::Scram,
            SecurityOptions {
                password_file: Some(kafka.password_file("atelier-matte")),
                ..administrator()
            },
            "the brokers do not know User:administrator by this password",
        ),
        (
            Listener::Scram,
            SecurityOptions {
                username: Some("nobody".into()),
                ..administrator()
            },
            "the brokers do not know User:nobody by this password",
        ),
    ];
    // Each waits for an answer that never comes.
    let outcomes = join_all(cases.map(async |(listener, security, said)| {
        let options = at(kafka, listener, security);
        let admin = TopicAdmin::new(&options).unwrap();
        let error = admin.plan(TopicTable::embedded()).await.unwrap_err();
        (listener, error.to_string(), said, options)
    }))
    .await;
    for (listener, error, said, options) in outcomes {
        assert!(error.contains(said), "{listener:?}: {error}");
        assert!(
            !error.contains('\n') && !error.contains("password-of"),
            "{error}"
        );
        assert!(error.contains(&options.bootstrap_servers), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_whose_user_is_not_known_waits_says_so_and_works_once_it_is() {
    let Some(kafka) = shared() else { return };
    let log = Log::of(KafkaOptions::at(kafka.address(Listener::Plaintext))).await;
    // A user who comes later, and may do what `ingest` may.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "as-it-will-be\n").unwrap();
    let late = SecurityOptions {
        username: Some("late".into()),
        password_file: Some(file.path().to_owned()),
        ..password(kafka, SecuredKafka::ADMINISTRATOR)
    };
    let rules = all_rules();
    let of_late = rules
        .iter()
        .filter(|rule| rule.principal == "User:atelier-ingest")
        .map(|rule| AclRule {
            principal: "User:late".into(),
            ..acl(rule)
        });
    kafka.allow(&of_late.collect::<Vec<_>>());
    let known_before = log.records("images-ingested").await.len();
    let stage = run(
        &log,
        &at(kafka, Listener::Scram, late),
        each("ingest", ingest_one),
    );
    says(&stage, "the brokers do not know User:late by this password").await;
    kafka.add_user("late", "as-it-will-be");
    is_ready(&stage).await;
    log.submit_many(3).await;
    log.wait_for("images-ingested", known_before + 3).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_behind_a_wrong_certificate_lives_and_says_so() {
    let Some(kafka) = shared() else { return };
    let log = Log::of(KafkaOptions::at(kafka.address(Listener::Plaintext))).await;
    let stage = run(
        &log,
        &at(kafka, Listener::Tls, tls(kafka.other_ca_file())),
        each("ingest", ingest_one),
    );
    says(&stage, "kafka consumer: kafka at 127.0.0.1").await;
    says(&stage, "set kafka.security.ca_file").await;
    stage.stop().await;
}

/// Rows of an outbox that is in memory.
struct Rows(std::sync::Mutex<Vec<PendingRecord>>);

#[async_trait::async_trait]
impl OutboxSource for Rows {
    type Error = std::convert::Infallible;

    async fn pending(&self, limit: usize) -> Result<Vec<PendingRecord>, Self::Error> {
        let rows = self.0.lock().unwrap();
        Ok(rows.iter().take(limit).cloned().collect())
    }

    async fn published(&self, ids: &[Uuid]) -> Result<(), Self::Error> {
        self.0.lock().unwrap().retain(|row| !ids.contains(&row.id));
        Ok(())
    }
}

/// As the gateway publishes them.
fn rows(count: usize) -> Rows {
    let rows = (0..count).map(|_| {
        let event: atelier_schemas::Event = support::task(&["a"]).into();
        let envelope = atelier_runtime::local::root_envelope("/shop", &event, chrono::Utc::now());
        PendingRecord {
            id: envelope.id,
            record: atelier_runtime::local::root_record(&event, &envelope).unwrap(),
        }
    });
    Rows(std::sync::Mutex::new(rows.collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_works_with_the_listed_rules_alone() {
    let Some(kafka) = shared() else { return };
    allow_all(kafka);
    let operator = as_user(kafka, "operator");
    let table = TopicTable::embedded();
    TopicAdmin::new(&operator)
        .unwrap()
        .apply(table)
        .await
        .unwrap();
    let log = Log::of(KafkaOptions::at(kafka.address(Listener::Plaintext))).await;
    let admin = TopicAdmin::new(&operator).unwrap();
    assert_eq!(admin.plan(table).await.unwrap(), []);
    assert_eq!(
        admin.describe(table).await.unwrap().len(),
        table.topics().len()
    );

    let before = log.records("images-persisted").await.len();
    let stages: Vec<Running> = no_op_pipeline()
        .into_iter()
        .map(|stage| run(&log, &as_user(kafka, stage.stage_name()), stage))
        .collect();
    let gateway = as_user(kafka, "gateway");
    let (source, stop) = (rows(10), CancellationToken::new());
    let wake = Arc::new(Notify::new());
    let relaying = outbox::relay(&gateway, &source, RelayOptions::default(), &wake, &stop);
    let working = async {
        log.wait_for("images-persisted", before + 10).await;
        stop.cancel();
    };
    tokio::join!(relaying, working);
    assert!(source.0.lock().unwrap().is_empty());

    // Garbage becomes a dead letter, which the gateway shows, counts and puts back.
    let mut garbage = rows(1).0.into_inner().unwrap().remove(0).record;
    garbage.value = Some("{".into());
    for published in Publisher::new(&gateway).unwrap().publish(&[garbage]).await {
        published.unwrap();
    }
    log.wait_for("ingest-dead-letters", 1).await;
    let reading = gateway.clone();
    let (letters, queues) = tokio::task::spawn_blocking(move || {
        let mut reader = LetterReader::new(&reading, TopicTable::embedded()).unwrap();
        (reader.list(None, 10).unwrap(), reader.queues().unwrap())
    })
    .await
    .unwrap();
    assert_eq!((letters.len(), queues.len()), (1, stages.len()));
    let replayer = Replayer::new(&gateway).unwrap();
    replayer
        .replay(&letters[0], Repair::default())
        .await
        .unwrap();
    log.wait_for("ingest-dead-letters", 2).await;
    let ends = tail::ends(&gateway, "task-events").await.unwrap();
    let events = tail::read(&gateway, "task-events", Default::default(), ends).await;
    assert!(!events.unwrap().is_empty());
    for stage in stages {
        is_ready(&stage).await;
        stage.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_missing_is_named_and_the_stage_works_once_it_is_there() {
    let Some(kafka) = shared() else { return };
    allow_all(kafka);
    let log = Log::of(KafkaOptions::at(kafka.address(Listener::Plaintext))).await;
    let cases = [
        (
            ResourceType::Topic,
            "image-tasks",
            Operation::Read,
            "topic `image-tasks`",
        ),
        (
            ResourceType::Topic,
            "images-ingested",
            Operation::Write,
            "topic `images-ingested`",
        ),
        (
            ResourceType::Group,
            "ingest",
            Operation::Read,
            "consumer group `ingest`",
        ),
        (
            ResourceType::TransactionalId,
            "atelier-ingest-",
            Operation::Write,
            "transactional id `atelier-ingest-0`",
        ),
    ];
    let rules = all_rules();
    for (resource_type, resource, operation, named) in cases {
        let rule = rules
            .iter()
            .find(|rule| {
                rule.principal == "User:atelier-ingest"
                    && (rule.resource_type, rule.operation) == (resource_type, operation)
                    && rule.resource == resource
            })
            .unwrap();
        let before = log.records("images-ingested").await.len();
        kafka.forbid(&acl(rule));
        let stage = run(&log, &as_user(kafka, "ingest"), each("ingest", ingest_one));
        log.submit_many(3).await;
        let said = format!(
            "forbidden by ACL: User:atelier-ingest may not use {named}; `atelier topics acls` lists what is needed"
        );
        says(&stage, &said).await;
        kafka.allow(&[acl(rule)]);
        log.wait_for("images-ingested", before + 3).await;
        is_ready(&stage).await;
        stage.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_may_not_read_is_named() {
    let Some(kafka) = shared() else { return };
    allow_all(kafka);
    let _log = Log::of(KafkaOptions::at(kafka.address(Listener::Plaintext))).await;
    let gateway = as_user(kafka, "gateway");
    let rules = all_rules();
    let of_gateway = |resource: &str| {
        let mut found = rules.iter();
        acl(found
            .find(|rule| rule.principal == "User:atelier-gateway" && rule.resource == resource)
            .unwrap())
    };
    let rule = of_gateway("task-events");
    kafka.forbid(&rule);
    let said = "forbidden by ACL: User:atelier-gateway may not use topic `task-events`";
    eventually(said, || async {
        let ends = tail::ends(&gateway, "task-events").await;
        ends.is_err_and(|error| error.to_string().contains(said))
    })
    .await;
    kafka.allow(&[rule]);
    eventually("readable", || async {
        tail::ends(&gateway, "task-events").await.is_ok()
    })
    .await;
}
