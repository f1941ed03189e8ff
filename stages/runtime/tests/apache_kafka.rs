//! What only a real Kafka can show: it is away, crashes, stands still, loses a node, has other topics than the table says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{sync::Arc, time::Duration};

use atelier_runtime::{
    AnyStage, KafkaOptions, OutRecord, StageRuntimeOptions, TopicAdmin, TopicChange,
    encode::error_header,
    local::{root_envelope, root_record},
    record::set_header,
    tail,
};
use atelier_schemas::{Event, TopicTable, envelope::header};
use atelier_servers::{Broker, Coordinator, Kafka};
use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
};
use support::{
    each, ingest_one, ingested,
    kafka::{Log, Running, eventually, options},
    preprocess_one,
};

/// Every test has the one Kafka for itself, and is left out with a line where Kafka is not installed.
async fn log() -> Option<(&'static Kafka, Log)> {
    let kafka = Kafka::shared()?;
    Some((kafka, Log::start(Broker::Kafka(kafka)).await))
}

/// So slow that there is a middle of the work.
fn slow_ingest() -> Arc<dyn AnyStage> {
    each("ingest", |message| {
        std::thread::sleep(Duration::from_millis(3));
        ingest_one(message)
    })
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

fn admin(kafka: &KafkaOptions) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .create()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_starts_before_kafka_names_it_and_works_once_it_is_there() {
    let Some((kafka, log)) = log().await else {
        return;
    };
    kafka.stop();
    let stage = log.run(each("ingest", ingest_one), &options("0"));
    let place = format!("kafka at {} cannot be reached", log.kafka.bootstrap_servers);
    says(&stage, &place).await;
    kafka.run();
    is_ready(&stage).await;
    log.submit_many(5).await;
    log.assert_each_once("images-ingested", 5).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_killed_in_the_middle_of_work_costs_nothing() {
    let Some((_, mut log)) = log().await else {
        return;
    };
    let stage = log.run(slow_ingest(), &options("0"));
    for round in 0..2 {
        log.submit_many(300).await;
        log.wait_for("images-ingested", round * 300 + 50).await;
        log.restart(Duration::from_millis(500)).await;
    }
    log.assert_each_once("images-ingested", 600).await;
    is_ready(&stage).await;
    assert!(stage.stop().await.counts.balance());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_stands_still_for_ten_seconds_costs_nothing() {
    // Its controller stands still with it, and counts it as gone for a moment afterwards: librdkafka 2.12 forgets every broker,
    // also those it was configured with, when a broker's answer names none, and never asks again.
    let Some(kafka) = Kafka::start("") else {
        return;
    };
    let log = Log::of(KafkaOptions::at(kafka.bootstrap_servers())).await;
    let stage = log.run(slow_ingest(), &options("0"));
    log.submit_many(300).await;
    log.wait_for("images-ingested", 50).await;
    let frozen = kafka.freeze();
    tokio::time::sleep(Duration::from_secs(10)).await;
    says(&stage, "kafka").await;
    drop(frozen);
    // Who asks too early is forgotten as well.
    eventually("an answer", || async {
        tail::ends(&log.kafka, "image-tasks").await.is_ok()
    })
    .await;
    log.submit_many(100).await;
    log.assert_each_once("images-ingested", 400).await;
    is_ready(&stage).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_topic_does_not_take_is_named_and_waits() {
    let Some((_, log)) = log().await else {
        return;
    };
    let limit = AlterConfig::new(ResourceSpecifier::Topic("images-ingested"))
        .set("max.message.bytes", "200");
    admin(&log.kafka)
        .alter_configs([&limit], &AdminOptions::new())
        .await
        .unwrap();
    let stage = log.run(each("ingest", ingest_one), &options("0"));
    log.submit_many(5).await;
    says(&stage, "for `images-ingested`").await;
    says(&stage, "too large").await;
    log.apply().await;
    log.assert_each_once("images-ingested", 5).await;
    is_ready(&stage).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_under_a_stage_is_named_and_waited_for() {
    let Some((_, log)) = log().await else {
        return;
    };
    let stage = log.run(each("ingest", ingest_one), &options("0"));
    log.submit_many(5).await;
    log.assert_each_once("images-ingested", 5).await;
    admin(&log.kafka)
        .delete_topics(&["images-ingested"], &AdminOptions::new())
        .await
        .unwrap();
    log.submit_many(5).await;
    says(&stage, "images-ingested; run `atelier topics apply`").await;
    log.apply().await;
    // It is a new topic: what the old one held is gone with it.
    log.assert_each_once("images-ingested", 5).await;
    is_ready(&stage).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_too_few_partitions_is_told_and_its_new_ones_are_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let log = Log::bare(Broker::Kafka(kafka)).await;
    let narrow = NewTopic::new("image-tasks", 1, TopicReplication::Fixed(1));
    admin(&log.kafka)
        .create_topics([&narrow], &AdminOptions::new())
        .await
        .unwrap();
    let table = TopicAdmin::new(&log.kafka).unwrap();
    let wider = TopicChange::AddPartitions {
        topic: "image-tasks".into(),
        from: 1,
        to: 4,
    };
    eventually("the difference is told", || async {
        table.plan(&log.table).await.unwrap().contains(&wider)
    })
    .await;
    log.apply().await;
    let stage = log.run(each("ingest", ingest_one), &options("0"));
    log.submit_many(40).await;
    log.assert_each_once("images-ingested", 40).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_is_started_again_finds_its_partitions_waiting() {
    let Some((_, log)) = log().await else {
        return;
    };
    let member = |name: &str| {
        let options = StageRuntimeOptions {
            static_membership: true,
            ..options(name)
        };
        log.run(each("ingest", ingest_one), &options)
    };
    let (first, second) = (member("first"), member("second"));
    is_ready(&first).await;
    is_ready(&second).await;
    // A member is ready before it has its share of the partitions.
    let mut submitted = 0;
    eventually("both work", || {
        submitted += 20;
        let (log, first, second) = (&log, &first, &second);
        async move {
            log.submit_many(20).await;
            log.wait_for("images-ingested", submitted).await;
            first.running.counts().emitted > 0 && second.running.counts().emitted > 0
        }
    })
    .await;
    first.stop().await;
    submitted += 100;
    log.submit_many(100).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let meanwhile = log.records("images-ingested").await.len();
    assert!(
        meanwhile < submitted,
        "nobody may take the partitions of one that is about to come back"
    );
    let again = member("first");
    log.assert_each_once("images-ingested", submitted).await;
    again.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_brokers_that_is_killed_costs_nothing() {
    let Some(cluster) = Kafka::cluster() else {
        return;
    };
    let log = Log::of(KafkaOptions {
        replication_factor: Some(3),
        min_insync_replicas: Some(2),
        ..KafkaOptions::at(cluster.bootstrap_servers())
    })
    .await;
    let admin = TopicAdmin::new(&log.kafka).unwrap();
    assert_eq!(admin.plan(TopicTable::embedded()).await.unwrap(), []);
    let stage = log.run(slow_ingest(), &options("0"));
    log.submit_many(400).await;
    log.wait_for("images-ingested", 50).await;
    cluster.kill_node(2);
    log.submit_many(200).await;
    log.assert_each_once("images-ingested", 600).await;
    assert!(stage.stop().await.counts.balance());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_moves_costs_nothing() {
    let Some(cluster) = Kafka::cluster() else {
        return;
    };
    let log = Log::of(KafkaOptions {
        replication_factor: Some(3),
        min_insync_replicas: Some(2),
        ..KafkaOptions::at(cluster.bootstrap_servers())
    })
    .await;
    let stage = log.run(slow_ingest(), &options("0"));
    let mut submitted = 100;
    log.submit_many(submitted).await;
    log.wait_for("images-ingested", 50).await;
    for of in [
        Coordinator::Group("ingest"),
        Coordinator::Transaction("atelier-ingest-0"),
    ] {
        let node = cluster.coordinator(of);
        cluster.kill_node(node);
        submitted += 100;
        log.submit_many(100).await;
        log.assert_each_once("images-ingested", submitted).await;
        assert_ne!(cluster.coordinator(of), node, "{of:?} has moved");
        cluster.run();
    }
    is_ready(&stage).await;
    assert!(stage.stop().await.counts.balance());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_rebalances_in_a_row_cost_nothing() {
    let Some((_, log)) = log().await else {
        return;
    };
    let steady = log.run(slow_ingest(), &options("steady"));
    let mut submitted = 0;
    // Each coming and each going is one.
    for _ in 0..25 {
        let other = log.run(slow_ingest(), &options("comes-and-goes"));
        eventually("it has its share", || {
            submitted += 20;
            let (log, other) = (&log, &other);
            async move {
                log.submit_many(20).await;
                other.running.counts().emitted > 0
            }
        })
        .await;
        assert!(other.stop().await.counts.balance());
    }
    log.assert_each_once("images-ingested", submitted).await;
    is_ready(&steady).await;
    assert!(steady.stop().await.counts.balance());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_static_member_of_one_name_takes_over_and_the_first_one_says_why_and_comes_back() {
    let Some((_, log)) = log().await else {
        return;
    };
    let member = || {
        let options = StageRuntimeOptions {
            static_membership: true,
            ..options("same")
        };
        log.run(each("ingest", ingest_one), &options)
    };
    let first = member();
    log.submit_many(20).await;
    log.wait_for("images-ingested", 20).await;
    let second = member();
    says(
        &first,
        "where another process has this instance_id, give each its own",
    )
    .await;
    log.submit_many(20).await;
    log.assert_each_once("images-ingested", 40).await;
    is_ready(&second).await;
    second.stop().await;
    log.submit_many(20).await;
    log.assert_each_once("images-ingested", 60).await;
    is_ready(&first).await;
    assert!(first.stop().await.counts.balance());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_stage_reads_past_new_fields_and_sets_new_versions_aside() {
    let Some((_, log)) = log().await else {
        return;
    };
    let event: Event = ingested(uuid::Uuid::new_v4(), 0).into();
    let envelope = root_envelope("/atelier/ingest", &event, chrono::Utc::now());
    let known = root_record(&event, &envelope).unwrap();
    let mut value: serde_json::Value =
        serde_json::from_slice(known.value.as_deref().unwrap()).unwrap();
    value["addedLater"] = "x".into();
    value["image"]["addedLater"] = 7.into();
    let with_new_fields = OutRecord {
        value: Some(value.to_string().into()),
        ..known.clone()
    };
    let mut of_new_version = with_new_fields.clone();
    let new_type = "atelier.image.ingested.v2";
    set_header(&mut of_new_version.headers, header::TYPE, new_type);
    let stage = log.run(each("preprocess", preprocess_one), &options("0"));
    log.publish(vec![with_new_fields, of_new_version.clone()])
        .await;
    log.assert_each_once("images-preprocessed", 1).await;
    let set_aside = log.wait_for("preprocess-dead-letters", 1).await;
    assert_eq!(set_aside.len(), 1);
    let said = |name: &str| set_aside[0].header_text(name).unwrap_or_default();
    assert_eq!(
        said(error_header::EXCEPTION_CLASS),
        "DecodeError::UnknownType"
    );
    assert!(said(error_header::EXCEPTION_MESSAGE).contains(new_type));
    assert_eq!(
        set_aside[0].value, of_new_version.value,
        "a newer stage can take it back in with all that it says"
    );
    assert!(stage.stop().await.counts.balance());
}
