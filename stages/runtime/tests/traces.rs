//! What a collector of traces sees of the runtime's work.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use atelier_runtime::{
    Batching, FailureClass, InRecord, LocalRunner, Message, Outcome,
    local::{root_envelope, root_record},
    telemetry::{TelemetryOptions, Traces},
};
use atelier_schemas::{Event, TaskRequest, envelope::header, topics::TASK_EVENTS};
use atelier_servers::{Broker, Collector, Span, on_each_broker};
use bytes::Bytes;
use chrono::Utc;
use support::{
    batches, each, failure, ingest_one,
    kafka::{Log, eventually, options},
    name_of, no_op_pipeline, task,
};

on_each_broker! {
    one_task_is_one_tree_through_every_topic_retry_and_dead_letter,
}

type Tasks = Message<TaskRequest>;

const CALLER: &str = "b7ad6b7169203331";

// A process has one collector; it outlives the runtimes of single tests, so it has a runtime of its own.
static COLLECTED: LazyLock<(Collector, Traces)> = LazyLock::new(|| {
    let runtime = Box::leak(Box::new(
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap(),
    ));
    let collector = Collector::start();
    let options = TelemetryOptions {
        otlp_endpoint: Some(collector.endpoint()),
        ..TelemetryOptions::default()
    };
    let _inside = runtime.enter();
    let traces = Traces::start(&options, "test").unwrap().unwrap();
    (collector, traces)
});

fn fresh_trace_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A task as somebody publishes it who has a trace.
fn traced(name: &str, header: &str, value: &str) -> atelier_runtime::OutRecord {
    let event: Event = task(&[name]).into();
    let mut record = root_record(&event, &root_envelope("/upstream", &event, Utc::now())).unwrap();
    record.headers.push(atelier_runtime::Header {
        name: header.to_owned(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    });
    record
}

fn of_trace(trace_id: &str) -> Vec<Span> {
    let mut spans = COLLECTED.0.spans();
    spans.retain(|span| span.trace_id == trace_id);
    spans
}

fn child<'a>(spans: &'a [Span], parent: &str, name: &str) -> &'a Span {
    let found = spans
        .iter()
        .find(|span| span.parent_span_id == parent && span.name == name);
    found.unwrap_or_else(|| panic!("no `{name}` below {parent}: {spans:#?}"))
}

async fn one_task_is_one_tree_through_every_topic_retry_and_dead_letter(broker: Broker) {
    LazyLock::force(&COLLECTED);
    let log = Log::start(broker).await;
    let mut stages = no_op_pipeline();
    stages[0] = each("ingest", |message: &Tasks| match name_of(&message.data) {
        "never" => Outcome::failed(failure(FailureClass::Permanent, "no picture")),
        "later" if message.envelope.attempt < 2 => {
            Outcome::failed(failure(FailureClass::Transient, "not now"))
        }
        _ => ingest_one(message),
    });
    let running: Vec<_> = stages
        .into_iter()
        .map(|stage| log.run(stage, &options("0")))
        .collect();
    let (fine, never, unsampled) = (fresh_trace_id(), fresh_trace_id(), fresh_trace_id());
    let jaeger = format!("{never}:{CALLER}:0:1");
    log.publish(vec![
        traced("later", "traceparent", &format!("00-{fine}-{CALLER}-01")),
        traced("never", "uber-trace-id", &jaeger),
        traced(
            "fine",
            "traceparent",
            &format!("00-{unsampled}-{CALLER}-00"),
        ),
    ])
    .await;
    log.wait_for("images-persisted", 2).await;
    log.wait_for("ingest-dead-letters", 1).await;
    let is_persisted = |span: &Span| span.name == "persist images-composed";
    eventually("the span of the last stage, and of the failure", || async {
        of_trace(&fine).iter().any(is_persisted)
            && of_trace(&never).iter().any(|span| span.error.is_some())
    })
    .await;
    for stage in running {
        stage.stop().await;
    }

    let spans = of_trace(&fine);
    let first = child(&spans, CALLER, "ingest image-tasks");
    assert_eq!(first.attributes["atelier.outcome"], "retried");
    assert_eq!(first.attributes["messaging.system"], "kafka");
    assert!(first.error.as_ref().unwrap().contains("not now"));
    let again = child(&spans, &first.span_id, "ingest ingest-retry");
    assert_eq!(again.attributes["atelier.attempt"], "2");
    let mut above = again;
    for name in [
        "preprocess images-ingested",
        "classify images-preprocessed",
        "matte images-classified",
        "compose images-matted",
        "persist images-composed",
    ] {
        above = child(&spans, &above.span_id, name);
        assert_eq!(above.attributes["atelier.outcome"], "emitted");
        assert!(above.attributes.contains_key("atelier.task_id"));
        assert!(above.attributes.contains_key("atelier.image_id"));
        let stage = name.split(' ').next().unwrap();
        child(&spans, &above.span_id, &format!("{stage} handle"));
    }
    // Whatever else there is hangs on the same tree.
    let known: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    for span in &spans {
        let parent = span.parent_span_id.as_str();
        assert!(parent == CALLER || known.contains(parent), "{span:?}");
    }

    let spans = of_trace(&never);
    let dead = child(&spans, CALLER, "ingest image-tasks");
    assert_eq!(dead.attributes["atelier.outcome"], "dead_lettered");
    assert_eq!(dead.attributes["atelier.error.code"], "fetchFailed");
    let of_failure = format!("00-{never}-{}-01", dead.span_id);
    let reports = log.records(TASK_EVENTS).await;
    let is_of_it =
        |report: &InRecord| report.header_text(header::TRACEPARENT) == Some(of_failure.as_str());
    assert!(
        reports.iter().any(is_of_it),
        "who reads of the failure follows from it"
    );

    assert_eq!(
        of_trace(&unsampled),
        [],
        "its caller did not want it collected"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_several_traces_is_linked_with_each() {
    LazyLock::force(&COLLECTED);
    let batching = Batching {
        max_batch: 3,
        max_pixels: u64::MAX,
        max_delay_ms: 0,
    };
    let stage = batches("ingest", batching, |batch| {
        Ok(batch.iter().map(ingest_one).collect())
    });
    let mut runner = LocalRunner::new(vec![stage]);
    let traces = [fresh_trace_id(), fresh_trace_id(), fresh_trace_id()];
    for trace_id in &traces {
        let header = format!("00-{trace_id}-{CALLER}-01");
        runner.append(traced("fine", "traceparent", &header));
    }
    runner.run().await;
    eventually("the spans of the messages", || async {
        traces.iter().all(|trace_id| !of_trace(trace_id).is_empty())
    })
    .await;
    let messages: Vec<Span> = traces
        .iter()
        .map(|trace_id| child(&of_trace(trace_id), CALLER, "ingest image-tasks").clone())
        .collect();
    let (batch_trace, batch_span) = messages[0].links[0].clone();
    eventually("the span of the batch", || async {
        !of_trace(&batch_trace).is_empty()
    })
    .await;
    let batch = of_trace(&batch_trace).pop().unwrap();
    assert_eq!(
        (&batch.span_id, batch.name.as_str()),
        (&batch_span, "ingest handle")
    );
    assert_eq!(batch.attributes["messaging.batch.message_count"], "3");
    let linked: BTreeSet<_> = batch.links.iter().cloned().collect();
    let wanted: BTreeSet<_> = messages
        .iter()
        .map(|span| (span.trace_id.clone(), span.span_id.clone()))
        .collect();
    assert_eq!(linked, wanted);
    for message in &messages {
        assert_eq!(message.links, [(batch_trace.clone(), batch_span.clone())]);
    }
}

#[test]
fn settings_that_do_not_hold_are_named() {
    let wrong = |endpoint: &str, sampling_ratio: f64| {
        let options = TelemetryOptions {
            otlp_endpoint: Some(endpoint.to_owned()),
            sampling_ratio,
            ..TelemetryOptions::default()
        };
        Traces::start(&options, "test").unwrap_err().to_string()
    };
    assert!(wrong("https://collector:4317", 1.0).contains("telemetry.otlp_endpoint"));
    assert!(wrong("http://collector:4317", 1.5).contains("telemetry.sampling_ratio is 1.5"));
    let none = TelemetryOptions::default();
    assert!(Traces::start(&none, "test").unwrap().is_none());
    assert!(Duration::from_millis(none.flush_timeout_ms) <= Duration::from_secs(5));
}
