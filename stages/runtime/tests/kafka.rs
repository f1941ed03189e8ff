//! The Kafka loop: exactly once, in order, through rebalances, outages and garbage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use atelier_runtime::{
    Cancelled, FailureClass, GroupProtocol, InRecord, KafkaOptions, Message, OutRecord, Outcome,
    RunningStage, StageRuntimeOptions, TopicAdmin,
    encode::error_header,
    local::{root_envelope, root_record},
};
use atelier_schemas::{
    Event, TaskRequest, TopicTable,
    envelope::header,
    topics::{TASK_EVENTS, dead_letter_topic},
};
use atelier_servers::{Broker, Kafka, on_each_broker};
use bytes::Bytes;
use chrono::Utc;
use support::{
    each, failure, ingest_one,
    kafka::{Log, eventually, options},
    name_of, no_op_pipeline, preprocess_one, task,
};
use tokio_util::sync::CancellationToken;

on_each_broker! {
    the_whole_pipeline_works_every_task_once,
    failures_go_by_the_retry_topic_to_the_dead_letters_and_hold_up_nobody,
    garbage_on_every_topic_goes_to_dead_letters_while_neighbours_pass,
    three_instances_come_and_go_under_load_and_nothing_is_lost_doubled_or_out_of_order,
    two_with_one_name_fence_each_other_and_the_stage_lives,
    a_broker_that_restarts_costs_nothing,
    a_stage_waits_for_kafka_and_for_topics_and_says_so,
    a_full_stage_pauses_and_goes_on,
    a_shutdown_commits_what_was_begun_and_gives_back_the_rest,
    work_that_does_not_end_is_abandoned_and_done_again,
    what_is_away_is_waited_for_and_named,
    the_table_is_applied_once_and_differences_are_told,
}

type Tasks = Message<TaskRequest>;

fn ids(records: &[InRecord]) -> Vec<String> {
    records
        .iter()
        .map(|record| record.header_text(header::ID).unwrap().to_owned())
        .collect()
}

fn assert_each_once(records: &[InRecord], count: usize) {
    let ids = ids(records);
    assert_eq!(
        ids.iter().collect::<HashSet<_>>().len(),
        ids.len(),
        "an event was doubled"
    );
    assert_eq!(ids.len(), count, "an event was lost");
}

async fn submit_many(log: &Log, count: usize) {
    let records = (0..count).map(|_| {
        let event: Event = task(&["a"]).into();
        root_record(&event, &root_envelope("/upstream", &event, Utc::now())).unwrap()
    });
    log.publish(records.collect()).await;
}

async fn the_whole_pipeline_works_every_task_once(broker: Broker) {
    let log = Log::start(broker).await;
    let stages: Vec<_> = no_op_pipeline()
        .into_iter()
        .map(|stage| log.run(stage, &options("0")))
        .collect();
    submit_many(&log, 50).await;
    let persisted = log.wait_for("images-persisted", 50).await;
    assert_each_once(&persisted, 50);
    // Each of six stages reports each image.
    let progress = log.wait_for(TASK_EVENTS, 300).await;
    assert_each_once(&progress, 300);
    for stage in stages {
        let name = stage.running.readiness().stage();
        assert!(
            stage.running.readiness().is_ready(),
            "{:?}",
            stage.running.readiness().reasons()
        );
        let drained = stage.stop().await;
        assert!(
            drained.counts.balance() && drained.abandoned == 0,
            "{name}: {drained:?}"
        );
    }
}

async fn failures_go_by_the_retry_topic_to_the_dead_letters_and_hold_up_nobody(broker: Broker) {
    let log = Log::start(broker).await;
    let stage = each("ingest", |message: &Tasks| match name_of(&message.data) {
        "never" => Outcome::failed(failure(FailureClass::Permanent, "no picture")),
        "later" if message.envelope.attempt < 2 => {
            Outcome::failed(failure(FailureClass::Transient, "not now"))
        }
        "hopeless" => Outcome::failed(failure(FailureClass::Transient, "not now")),
        _ => ingest_one(message),
    });
    // Long enough that everything else is through before the first retry is due.
    let mut slow_retry = options("0");
    (slow_retry.retry.delay_ms, slow_retry.retry.max_delay_ms) = (8_000, 8_000);
    let running = log.run(stage, &slow_retry);
    let mut submitted = HashMap::new();
    for name in ["never", "later", "hopeless", "fine"] {
        submitted.insert(name, log.submit(task(&[name])).await);
    }
    submit_many(&log, 20).await;
    // Nobody waits for those that are not due.
    let early = log.wait_for("images-ingested", 21).await;
    assert!(
        early
            .iter()
            .all(|record| record.header_text(header::CAUSATION_ID)
                != Some(submitted["later"].id.to_string().as_str()))
    );
    let ingested = log.wait_for("images-ingested", 22).await;
    assert_each_once(&ingested, 22);
    let dead = log.wait_for(&dead_letter_topic("ingest"), 2).await;
    assert_eq!(dead.len(), 2);
    let by_attempts: BTreeMap<&str, &InRecord> = dead
        .iter()
        .map(|record| (record.header_text(error_header::ATTEMPTS).unwrap(), record))
        .collect();
    for (attempts, name, topic) in [
        ("1", "never", "image-tasks"),
        ("3", "hopeless", "ingest-retry"),
    ] {
        let record = by_attempts[attempts];
        assert_eq!(
            record.header_text(header::ID),
            Some(submitted[name].id.to_string().as_str())
        );
        assert_eq!(record.header_text(error_header::TOPIC), Some(topic));
        assert_eq!(
            record.header_text(error_header::EXCEPTION_CLASS),
            Some("TestError")
        );
        let value: TaskRequest = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        assert_eq!(name_of(&value), name);
    }
    let drained = running.stop().await;
    assert!(drained.counts.balance(), "{drained:?}");
}

async fn garbage_on_every_topic_goes_to_dead_letters_while_neighbours_pass(broker: Broker) {
    let log = Log::start(broker).await;
    let stages: Vec<_> = no_op_pipeline()
        .into_iter()
        .map(|stage| log.run(stage, &options("0")))
        .collect();
    let garbage = |topic: &str, number: usize| OutRecord {
        topic: topic.to_owned(),
        key: Some(Bytes::from(format!("key {number}"))),
        headers: vec![],
        value: Some(Bytes::from(vec![0xff, 0x00, u8::try_from(number).unwrap()])),
    };
    let read_by_stages: Vec<String> = log
        .table
        .stages()
        .iter()
        .flat_map(|stage| {
            let inputs = log
                .table
                .inputs_of(stage)
                .into_iter()
                .map(|topic| topic.name.clone());
            inputs
                .chain([atelier_schemas::topics::retry_topic(stage)])
                .collect::<Vec<_>>()
        })
        .collect();
    for topic in &read_by_stages {
        log.publish((0..4).map(|number| garbage(topic, number)).collect())
            .await;
    }
    submit_many(&log, 10).await;
    assert_each_once(&log.wait_for("images-persisted", 10).await, 10);
    for stage in log.table.stages() {
        let inputs = log.table.inputs_of(stage).len() + 1;
        let dead = log.wait_for(&dead_letter_topic(stage), inputs * 4).await;
        assert_eq!(dead.len(), inputs * 4, "{stage}");
    }
    for stage in stages {
        assert!(stage.stop().await.counts.balance());
    }
}

async fn three_instances_come_and_go_under_load_and_nothing_is_lost_doubled_or_out_of_order(
    broker: Broker,
) {
    three_come_and_go(&Log::start(broker).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_instances_come_and_go_with_the_group_protocol_of_kafka_4() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut log = Log::start(Broker::Kafka(kafka)).await;
    log.kafka.group_protocol = GroupProtocol::Consumer;
    three_come_and_go(&log).await;
}

async fn three_come_and_go(log: &Log) {
    const TASKS: usize = 600;
    let slow = || {
        each("ingest", |message: &Tasks| {
            std::thread::sleep(Duration::from_millis(2));
            ingest_one(message)
        })
    };
    // Each task has forty tickets under one key; order is kept per key.
    let mut records = Vec::new();
    let keys: Vec<Event> = (0..TASKS / 40).map(|_| task(&["a"]).into()).collect();
    for _ in 0..40 {
        for event in &keys {
            records
                .push(root_record(event, &root_envelope("/upstream", event, Utc::now())).unwrap());
        }
    }
    let order: HashMap<String, usize> = records
        .iter()
        .enumerate()
        .map(|(index, record)| (record.header_text(header::ID).unwrap().to_owned(), index))
        .collect();
    let first = log.run(slow(), &options("first"));
    log.publish(records).await;
    let second = log.run(slow(), &options("second"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let third = log.run(slow(), &options("third"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.stop().await;
    let ingested = log.wait_for("images-ingested", TASKS).await;
    let worked_by_later = [second.stop().await, third.stop().await];
    assert_each_once(&ingested, TASKS);
    assert!(
        worked_by_later
            .iter()
            .any(|drained| drained.counts.emitted > 0),
        "{worked_by_later:?}"
    );
    let mut last_of_key: HashMap<Bytes, usize> = HashMap::new();
    for record in &ingested {
        let place = order[record.header_text(header::CAUSATION_ID).unwrap()];
        let last = last_of_key.insert(record.key.clone().unwrap(), place);
        assert!(last.is_none_or(|last| last < place), "out of order");
    }
}

async fn two_with_one_name_fence_each_other_and_the_stage_lives(broker: Broker) {
    let log = Log::start(broker).await;
    let first = log.run(each("ingest", ingest_one), &options("same"));
    submit_many(&log, 30).await;
    log.wait_for("images-ingested", 30).await;
    // Its producer takes over the first one's name.
    let second = log.run(each("ingest", ingest_one), &options("same"));
    submit_many(&log, 60).await;
    let ingested = log.wait_for("images-ingested", 90).await;
    assert_each_once(&ingested, 90);
    first.stop().await;
    submit_many(&log, 30).await;
    assert_each_once(&log.wait_for("images-ingested", 120).await, 120);
    second.stop().await;
}

async fn a_broker_that_restarts_costs_nothing(broker: Broker) {
    let mut log = Log::start(broker).await;
    let stages = [
        log.run(each("ingest", ingest_one), &options("0")),
        log.run(each("preprocess", preprocess_one), &options("0")),
    ];
    submit_many(&log, 100).await;
    for pause_ms in [0, 1_500] {
        log.restart(Duration::from_millis(pause_ms)).await;
        submit_many(&log, 100).await;
    }
    assert_each_once(&log.wait_for("images-preprocessed", 300).await, 300);
    for stage in stages {
        eventually("ready again", || async {
            stage.running.readiness().is_ready()
        })
        .await;
        stage.stop().await;
    }
}

async fn a_stage_waits_for_kafka_and_for_topics_and_says_so(broker: Broker) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let shutdown = CancellationToken::new();
    let start = |kafka: &KafkaOptions, table: &TopicTable| {
        RunningStage::start(
            each("ingest", ingest_one),
            kafka,
            table,
            &StageRuntimeOptions::default(),
            &Cancelled::none(),
            shutdown.clone(),
        )
        .unwrap()
    };
    let away = start(
        &KafkaOptions::at(nobody.to_string()),
        TopicTable::embedded(),
    );
    eventually("a reason", || async {
        away.readiness()
            .reasons()
            .iter()
            .any(|reason| reason.contains("cannot be reached"))
    })
    .await;

    let log = Log::bare(broker).await;
    let missing = start(&log.kafka, &log.table);
    eventually("a reason", || async {
        missing
            .readiness()
            .reasons()
            .iter()
            .any(|reason| reason.contains("atelier topics apply"))
    })
    .await;
    log.apply().await;
    eventually("ready", || async { missing.readiness().is_ready() }).await;
    log.submit(task(&["a"])).await;
    assert_eq!(log.wait_for("images-ingested", 1).await.len(), 1);
    shutdown.cancel();
    away.ended().await.unwrap();
    missing.ended().await.unwrap();
}

async fn a_full_stage_pauses_and_goes_on(broker: Broker) {
    let log = Log::start(broker).await;
    submit_many(&log, 100).await;
    let in_handle = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (enter, peak) = (Arc::clone(&in_handle), Arc::clone(&most));
    let stage = each("ingest", move |message: &Tasks| {
        peak.fetch_max(enter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        enter.fetch_sub(1, Ordering::SeqCst);
        ingest_one(message)
    });
    let small = StageRuntimeOptions {
        queue_capacity: 8,
        max_in_flight: 2,
        ..options("0")
    };
    let running = log.run(stage, &small);
    assert_each_once(&log.wait_for("images-ingested", 100).await, 100);
    assert!(most.load(Ordering::SeqCst) <= 2);
    running.stop().await;
}

async fn a_shutdown_commits_what_was_begun_and_gives_back_the_rest(broker: Broker) {
    let log = Log::start(broker).await;
    submit_many(&log, 300).await;
    let slow = each("ingest", |message: &Tasks| {
        std::thread::sleep(Duration::from_millis(5));
        ingest_one(message)
    });
    let running = log.run(slow, &options("0"));
    log.wait_for("images-ingested", 20).await;
    let drained = running.stop().await;
    let committed = log.records("images-ingested").await;
    assert_eq!(drained.abandoned, 0);
    assert!(committed.len() < 300, "the rest is for the next one");
    assert_eq!(
        u64::try_from(committed.len()).unwrap(),
        drained.counts.emitted,
        "all that was worked is committed"
    );
    let next = log.run(each("ingest", ingest_one), &options("0"));
    assert_each_once(&log.wait_for("images-ingested", 300).await, 300);
    next.stop().await;
}

async fn work_that_does_not_end_is_abandoned_and_done_again(broker: Broker) {
    let log = Log::start(broker).await;
    let hangs = Arc::new(AtomicBool::new(true));
    let stage = support::slow_until("ingest", Arc::clone(&hangs));
    let running = log.run(
        stage.clone(),
        &StageRuntimeOptions {
            drain_timeout_ms: 500,
            ..options("0")
        },
    );
    submit_many(&log, 5).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let drained = running.stop().await;
    assert!(drained.abandoned > 0, "{drained:?}");
    assert!(log.records("images-ingested").await.is_empty());
    hangs.store(false, Ordering::SeqCst);
    let next = log.run(stage, &options("0"));
    assert_each_once(&log.wait_for("images-ingested", 5).await, 5);
    next.stop().await;
}

async fn what_is_away_is_waited_for_and_named(broker: Broker) {
    let log = Log::start(broker).await;
    let is_full = Arc::new(AtomicBool::new(true));
    let disk = Arc::clone(&is_full);
    let stage = each("ingest", move |message: &Tasks| {
        if disk.load(Ordering::SeqCst) {
            return Outcome::failed(failure(FailureClass::Unavailable, "disk is full"));
        }
        ingest_one(message)
    });
    let running = log.run(stage, &options("0"));
    submit_many(&log, 10).await;
    eventually("a reason", || async {
        running
            .running
            .readiness()
            .reasons()
            .iter()
            .any(|reason| reason.contains("disk is full"))
    })
    .await;
    is_full.store(false, Ordering::SeqCst);
    assert_each_once(&log.wait_for("images-ingested", 10).await, 10);
    assert!(running.running.readiness().is_ready());
    assert!(log.records("ingest-retry").await.is_empty());
    running.stop().await;
}

async fn the_table_is_applied_once_and_differences_are_told(broker: Broker) {
    let log = Log::start(broker).await;
    let admin = TopicAdmin::new(&log.kafka).unwrap();
    assert_eq!(admin.plan(&log.table).await.unwrap(), []);
    assert_eq!(admin.apply(&log.table).await.unwrap(), []);
    let state = admin.describe(&log.table).await.unwrap();
    assert!(
        state
            .iter()
            .all(|topic| topic.partitions == log.table.get(&topic.name).unwrap().partitions)
    );
    let wider = TopicTable::parse(
        r#"
        [defaults]
        partitions = 6
        replication_factor = 1
        retention_hours = 24
        cleanup_policy = "delete"
        max_message_bytes = 1048576
        [stages]
        names = []
        retry_retention_hours = 1
        dead_letters_retention_hours = 1
        [[topic]]
        name = "image-tasks"
        key = "task"
        from = []
        to = []
        events = []
        description = ""
        "#,
    )
    .unwrap();
    let changes: Vec<String> = admin
        .plan(&wider)
        .await
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        changes,
        [
            "add partitions to image-tasks: 4 to 6",
            "set retention.ms of image-tasks: 604800000 to 86400000"
        ]
    );
    admin.apply(&wider).await.unwrap();
    eventually("the change", || async {
        admin.plan(&wider).await.unwrap().is_empty()
    })
    .await;
    let surplus = admin.plan(&log.table).await.unwrap();
    assert!(
        surplus.iter().any(|change| !change.is_applicable()),
        "{surplus:?}"
    );
}
