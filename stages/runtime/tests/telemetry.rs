//! What a run emits stands in the closed list, with the labels that the list gives it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use atelier_runtime::{
    FailureClass, LocalRunner, Message, Outcome,
    telemetry::{Exposition, METRICS},
};
use atelier_schemas::TaskRequest;
use support::{each, failure, name_of, no_op_pipeline, task};

#[tokio::test]
async fn every_metric_of_a_run_is_in_the_closed_list() {
    let exposition = Exposition::install().unwrap();
    let mut stages = no_op_pipeline();
    stages[0] = each("ingest", |message: &Message<TaskRequest>| {
        match name_of(&message.data) {
            "never" => Outcome::failed(failure(FailureClass::Permanent, "a user's words")),
            "later" if message.envelope.attempt < 2 => {
                Outcome::failed(failure(FailureClass::Transient, "a user's words"))
            }
            _ => support::ingest_one(message),
        }
    });
    let mut runner = LocalRunner::new(stages);
    for name in ["never", "later", "fine"] {
        runner.submit(task(&[name])).unwrap();
    }
    runner.run().await;
    let text = exposition.render();
    let mut seen = 0;
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let described = |name: &str| METRICS.iter().find(|metric| metric.name == name);
        let metric = described(name)
            .or_else(|| base.and_then(described))
            .unwrap_or_else(|| panic!("{name} is not in the list"));
        for label in labels
            .trim_end_matches('}')
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(label, _)| label)
        {
            assert!(
                metric.labels.contains(&label) || label == "le",
                "{name} has the label {label}"
            );
        }
        assert!(!line.contains("user"), "{line}");
        seen += 1;
    }
    assert!(seen > 20, "{text}");
    for expected in [
        "atelier_stage_messages_total",
        "atelier_stage_queue_seconds",
        "atelier_stage_dead_letters_total",
    ] {
        assert!(text.contains(&format!("# TYPE {expected}")), "{expected}");
    }
}
