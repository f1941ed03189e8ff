//! What nobody waits for goes after what somebody waits for, and is not forgotten: in process, and on a real log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use atelier_runtime::{
    AnyStage, Batch, Counts, Emission, Failure, FailureClass, InRecord, LocalOptions,
    LocalPipeline, LocalRunner, Message, OutRecord, Outcome, Stage, StageInput,
    StageRuntimeOptions,
    local::{root_envelope, root_record},
};
use atelier_schemas::{
    DecodeError, Envelope, Event, ImageSource, Priority, TaskRequest,
    envelope::header,
    events::ImageRequested,
    topics::{IMAGE_TASKS, IMAGE_TASKS_BULK, TASK_EVENTS},
};
use atelier_servers::{Broker, on_each_broker};
use chrono::Utc;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use support::{
    TaskOrImage, each, failure, ingested,
    kafka::{Log, eventually, options},
    no_op_pipeline, task,
};
use uuid::Uuid;

/// Long enough for what must not happen to happen.
const A_WHILE: Duration = Duration::from_secs(2);

/// What `ingest` reads, with the priority that a task names.
#[derive(Clone)]
struct Input(TaskOrImage);

impl StageInput for Input {
    fn decode(envelope: &Envelope, value: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(TaskOrImage::decode(envelope, value)?.map(Self))
    }

    fn priority(&self) -> Priority {
        match &self.0 {
            TaskOrImage::Task(request) => request.priority,
            TaskOrImage::Image(_) => Priority::Interactive,
        }
    }
}

/// As `ingest` does it: the first picture of a bulk task at once, each other one by itself.
fn fan_out(message: &Message<Input>) -> Outcome {
    let request = match &message.data.0 {
        TaskOrImage::Task(request) => request,
        TaskOrImage::Image(requested) => {
            let image = &requested.image;
            return Outcome::emit(ingested(image.task_id, image.index));
        }
    };
    let task_id = request.task_id.unwrap();
    let is_bulk = message.envelope.priority == Priority::Bulk;
    let emission = |index: u32| {
        let ingested = ingested(task_id, index);
        Emission::Event(if is_bulk && index > 0 {
            let image = ingested.image;
            ImageRequested { image }.into()
        } else {
            ingested.into()
        })
    };
    let count = u32::try_from(request.images.len()).unwrap();
    Outcome::Emit((0..count).map(emission).collect())
}

fn ingest() -> Arc<dyn AnyStage> {
    each("ingest", fan_out)
}

fn pipeline() -> Vec<Arc<dyn AnyStage>> {
    let mut stages = no_op_pipeline();
    stages[0] = ingest();
    stages
}

fn bulk_task(images: usize) -> TaskRequest {
    let one = task(&["a"]);
    let image: ImageSource = one.images[0].clone();
    TaskRequest {
        images: vec![image; images],
        priority: Priority::Bulk,
        ..one
    }
}

async fn submit_bulk(log: &Log, tasks: usize, images: usize) {
    let records = (0..tasks).map(|_| {
        let event: Event = bulk_task(images).into();
        root_record(&event, &root_envelope("/upstream", &event, Utc::now())).unwrap()
    });
    log.publish(records.collect()).await;
}

fn tasks_of(records: &[InRecord]) -> Vec<Uuid> {
    let task = |record: &InRecord| {
        let text = record.header_text(header::CORRELATION_ID).unwrap();
        text.parse().unwrap()
    };
    records.iter().map(task).collect()
}

fn narrow(instance_id: &str, bulk_under_way: usize) -> StageRuntimeOptions {
    StageRuntimeOptions {
        bulk_under_way,
        ..options(instance_id)
    }
}

fn assert_ids_differ(records: &[InRecord]) {
    let ids: BTreeSet<&str> = records
        .iter()
        .map(|record| record.header_text(header::ID).unwrap())
        .collect();
    assert_eq!(ids.len(), records.len());
}

#[tokio::test]
async fn in_process_every_other_message_goes_first() {
    let options = LocalOptions {
        bulk_under_way: 2,
        ..LocalOptions::default()
    };
    let mut runner = LocalRunner::with_options(pipeline(), options);
    let bulk = bulk_task(7);
    let waited_for = task(&["a"]);
    runner.submit(bulk.clone()).unwrap();
    runner.submit(waited_for.clone()).unwrap();
    runner.run().await;
    let done = tasks_of(runner.records("images-persisted"));
    assert_eq!(done[0], waited_for.task_id.unwrap());
    assert_eq!(done.len(), 8);
    assert!(runner.records(IMAGE_TASKS).len() == 1, "bulk has its topic");
    assert_eq!(runner.records(IMAGE_TASKS_BULK).len(), 1 + 6);
    assert_ids_differ(runner.records(IMAGE_TASKS_BULK));
    for record in runner.records("images-persisted") {
        let is_bulk = record.header_text(header::PRIORITY) == Some("bulk");
        assert_eq!(is_bulk, tasks_of(std::slice::from_ref(record)) != [done[0]]);
    }
    assert!(runner.counts("ingest").unwrap().balance());
}

#[tokio::test]
async fn a_bulk_task_on_the_other_topic_is_put_on_its_own_once() {
    for by_header in [true, false] {
        let mut runner = LocalRunner::new(pipeline());
        let mut request = bulk_task(3);
        if by_header {
            request.priority = Priority::Interactive;
        }
        let event: Event = request.clone().into();
        let mut envelope = root_envelope("/upstream", &event, Utc::now());
        envelope.priority = Priority::Interactive;
        let mut record = OutRecord {
            topic: IMAGE_TASKS.to_owned(),
            ..root_record(&event, &envelope).unwrap()
        };
        if by_header {
            let bulk = atelier_runtime::Header::text(header::PRIORITY, "bulk");
            record.headers.push(bulk);
        }
        runner.append(record.clone());
        runner.append(record);
        runner.run().await;
        let moved = &runner.events(IMAGE_TASKS_BULK).unwrap()[..2];
        for (child, event) in moved {
            assert_eq!(child.causation_id, Some(envelope.id));
            assert_eq!(child.correlation_id, envelope.correlation_id);
            assert_eq!(child.priority, Priority::Bulk);
            assert_eq!(*event, Event::TaskSubmitted(request.clone()));
        }
        assert_eq!(
            moved[0].0.id, moved[1].0.id,
            "a repeat makes the same event"
        );
        assert_ne!(moved[0].0.id, envelope.id);
        assert!(runner.counts("ingest").unwrap().balance());
    }
}

#[tokio::test]
async fn what_stands_on_the_bulk_topic_is_bulk_and_stays_it_through_a_retry() {
    let fails = AtomicBool::new(true);
    let stage = each("ingest", move |message: &Message<Input>| {
        assert_eq!(message.envelope.priority, Priority::Bulk);
        if fails.swap(false, Ordering::SeqCst) {
            return Outcome::failed(failure(FailureClass::Transient, "not now"));
        }
        fan_out(message)
    });
    let options = LocalOptions {
        retry: options("0").retry,
        ..LocalOptions::default()
    };
    let mut runner = LocalRunner::with_options(vec![stage], options);
    let event: Event = TaskRequest {
        priority: Priority::Interactive,
        ..bulk_task(3)
    }
    .into();
    let envelope = root_envelope("/upstream", &event, Utc::now());
    runner.append(OutRecord {
        topic: IMAGE_TASKS_BULK.to_owned(),
        ..root_record(&event, &envelope).unwrap()
    });
    runner.run().await;
    assert_eq!(runner.records("ingest-retry").len(), 1);
    assert_eq!(runner.records(IMAGE_TASKS_BULK).len(), 1 + 2);
    assert_eq!(runner.records("images-ingested").len(), 3);
}

#[tokio::test]
async fn an_unknown_priority_is_refused_with_its_value() {
    let mut runner = LocalRunner::new(vec![ingest()]);
    let event: Event = task(&["a"]).into();
    let mut record = root_record(&event, &root_envelope("/x", &event, Utc::now())).unwrap();
    let urgent = atelier_runtime::Header::text(header::PRIORITY, "urgent");
    record.headers.push(urgent);
    runner.append(record);
    runner.run().await;
    let letters = runner.dead_letters("ingest");
    let message = letters[0]
        .header_text(atelier_runtime::encode::error_header::EXCEPTION_MESSAGE)
        .unwrap();
    assert!(
        message.contains("`urgent`") && message.contains("bulk"),
        "{message}"
    );
}

#[tokio::test]
async fn in_process_stages_at_once_let_in_what_there_is_room_for() {
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (entered, peak, left) = (Arc::clone(&under_way), Arc::clone(&most), under_way);
    let mut stages = pipeline();
    stages[1] = each("preprocess", move |message| {
        peak.fetch_max(entered.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        support::preprocess_one(message)
    });
    stages[5] = each("persist", move |message| {
        left.fetch_sub(1, Ordering::SeqCst);
        support::persist_one(message)
    });
    let options = LocalOptions {
        bulk_under_way: 3,
        ..LocalOptions::in_real_time()
    };
    let (pipeline, _observed) = LocalPipeline::start(stages, &options);
    pipeline.submit(bulk_task(100)).await.unwrap();
    let finished = tokio::time::timeout(Duration::from_secs(60), pipeline.finish());
    let counts = finished.await.expect("bulk goes on");
    assert_eq!(counts["persist"].emitted, 100);
    assert!(counts.values().all(Counts::balance), "{counts:?}");
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?}");
}

/// Nobody takes what comes: bulk is let in up to the limit and no further, while what somebody waits for passes.
async fn bulk_is_held_back_while_the_queues_behind_are_long(broker: Broker) {
    let log = Log::start(broker).await;
    let stage = log.run(ingest(), &narrow("0", 4));
    submit_bulk(&log, 10, 3).await;
    log.wait_for("images-ingested", 4).await;
    let waited_for = log.submit(task(&["a"])).await.correlation_id.unwrap();
    log.wait_for("images-ingested", 5).await;
    tokio::time::sleep(A_WHILE).await;
    let records = log.records("images-ingested").await;
    assert_eq!(records.len(), 5, "no more was let in");
    assert!(tasks_of(&records).contains(&waited_for));

    let behind: Vec<_> = pipeline()
        .into_iter()
        .skip(1)
        .map(|stage| log.run(stage, &options("0")))
        .collect();
    log.assert_each_once("images-persisted", 31).await;
    let drained = stage.stop().await;
    assert!(drained.counts.balance(), "{drained:?}");
    assert_eq!(drained.counts.emitted, 1 + 10 + 20);
    for stage in behind {
        stage.stop().await;
    }
}

/// Aborted records and markers take offsets, but are nothing that anybody waits behind.
async fn what_was_aborted_is_no_queue(broker: Broker) {
    let log = Log::start(broker).await;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &log.kafka.bootstrap_servers)
        .set("transactional.id", "somebody");
    let aborting = tokio::task::spawn_blocking(move || {
        let limit = Duration::from_secs(30);
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(limit).unwrap();
        producer.begin_transaction().unwrap();
        for number in 0..200 {
            let key = number.to_string();
            let record = BaseRecord::to("images-ingested")
                .key(&key)
                .payload("aborted");
            producer.send(record).unwrap();
        }
        producer.flush(limit).unwrap();
        producer.abort_transaction(limit).unwrap();
    });
    aborting.await.unwrap();
    let running: Vec<_> = pipeline()
        .into_iter()
        .map(|stage| log.run(stage, &narrow("0", 2)))
        .collect();
    submit_bulk(&log, 5, 2).await;
    log.assert_each_once("images-persisted", 10).await;
    for stage in running {
        stage.stop().await;
    }
}

/// Two instances share what is let in; one that leaves gives its partitions to the other; nothing is lost or doubled.
async fn instances_share_what_is_let_in(broker: Broker) {
    let log = Log::start(broker).await;
    let first = log.run(ingest(), &narrow("0", 8));
    let second = log.run(ingest(), &narrow("1", 8));
    submit_bulk(&log, 40, 1).await;
    log.wait_for("images-ingested", 8).await;
    tokio::time::sleep(A_WHILE).await;
    let let_in = log.records("images-ingested").await.len();
    assert!((8..=16).contains(&let_in), "{let_in}");
    first.stop().await;
    let behind: Vec<_> = pipeline()
        .into_iter()
        .skip(1)
        .map(|stage| log.run(stage, &options("0")))
        .collect();
    log.assert_each_once("images-persisted", 40).await;
    second.stop().await;
    for stage in behind {
        stage.stop().await;
    }
}

/// While the broker is away nothing can be seen, so nothing is let in; afterwards it goes on.
async fn the_log_may_go_away_in_between(broker: Broker) {
    let mut log = Log::start(broker).await;
    let stage = log.run(ingest(), &narrow("0", 2));
    submit_bulk(&log, 6, 1).await;
    log.wait_for("images-ingested", 2).await;
    log.restart(Duration::from_secs(2)).await;
    let behind: Vec<_> = pipeline()
        .into_iter()
        .skip(1)
        .map(|stage| log.run(stage, &options("0")))
        .collect();
    log.assert_each_once("images-persisted", 6).await;
    let drained = stage.stop().await;
    assert!(drained.counts.balance(), "{drained:?}");
    for stage in behind {
        stage.stop().await;
    }
}

/// A stage that never comes back with what is bulk.
struct StuckWithBulk;

#[async_trait]
impl Stage for StuckWithBulk {
    type Input = Input;

    fn name(&self) -> &'static str {
        "ingest"
    }

    async fn handle(&self, batch: Batch<Input>) -> Result<Vec<Outcome>, Failure> {
        if batch[0].envelope.priority == Priority::Bulk {
            return std::future::pending().await;
        }
        Ok(batch.iter().map(fan_out).collect())
    }
}

/// Bulk work that hangs in the stage itself keeps nothing else there.
async fn slow_bulk_work_has_a_lane_of_its_own(broker: Broker) {
    let log = Log::start(broker).await;
    let options = StageRuntimeOptions {
        drain_timeout_ms: 100,
        ..options("0")
    };
    let stage = log.run(Arc::new(StuckWithBulk), &options);
    submit_bulk(&log, 20, 1).await;
    eventually("bulk is taken", || async {
        stage.running.counts().taken > 0
    })
    .await;
    log.submit_many(5).await;
    log.assert_each_once("images-ingested", 5).await;
    assert!(
        log.records(TASK_EVENTS).await.len() == 5,
        "bulk has not ended"
    );
    stage.stop().await;
}

on_each_broker! {
    bulk_is_held_back_while_the_queues_behind_are_long,
    what_was_aborted_is_no_queue,
    instances_share_what_is_let_in,
    the_log_may_go_away_in_between,
    slow_bulk_work_has_a_lane_of_its_own,
}
