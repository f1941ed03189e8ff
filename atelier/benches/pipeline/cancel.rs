//! A task of many images is stopped in the middle: what is still begun for it.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use atelier_servers::Collector;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Installation, WORK_ON_EVERY_PICTURE, samples};

const IMAGES: usize = 1_000;
/// Images that are done when the cancel comes.
const DONE_BEFORE: u32 = 20;
/// How long it is watched after its end.
const WATCHED_AFTER: Duration = Duration::from_secs(10);

/// Counts the calls of `matte` by when they began, as the collector of traces heard of them.
pub fn of_many() {
    let collector = Collector::start();
    let mut installation = Installation::new(&format!(
        "{WORK_ON_EVERY_PICTURE}[telemetry]\notlp_endpoint = \"{}\"\n",
        collector.endpoint()
    ));
    installation.start_up();
    let task = submit(&installation);
    installation.wait_for("work in the middle", || {
        let task = installation.task(task)?;
        (task.summary.success_count >= DONE_BEFORE).then_some(())
    });
    let url = installation.url(&format!("/api/v1/tasks/{task}"));
    let answer = installation.client().delete(url).send().unwrap();
    let accepted_at = SystemTime::now();
    assert_eq!(answer.status(), 202);
    let ended = installation.wait_for_end(task);
    let took = accepted_at.elapsed().unwrap();
    std::thread::sleep(WATCHED_AFTER);
    // What was collected and not sent yet goes out.
    assert!(installation.terminate("up"), "{}", installation.log("up"));

    let late_ns = (accepted_at + Duration::from_secs(1))
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let spans = collector.spans();
    let of = |name: &str| {
        let began = spans.iter().filter(|span| span.name == name);
        began
            .map(|span| u128::from(span.began_at_ns))
            .collect::<Vec<_>>()
    };
    let calls = of("matte handle");
    println!(
        "{} of {IMAGES} images were done; the task's end came after {:.2} s; {} calls of matte in all, {} of them begun after the cancel was accepted",
        ended.summary.success_count,
        took.as_secs_f64(),
        calls.len(),
        calls
            .iter()
            .filter(|began| **began + 1_000_000_000 > late_ns)
            .count()
    );
    println!(
        "=> cancel of {IMAGES} images in flight: calls of matte begun more than 1 s later: {}\n",
        calls.iter().filter(|began| **began > late_ns).count()
    );
}

/// One task whose pictures are all one that is stored already, in the best quality: the models have much to do.
fn submit(installation: &Installation) -> Uuid {
    let picture = fs::read(samples().join("dress.jpg")).unwrap();
    let first = installation.upload(&[("dress.jpg", picture)], &json!({ "quality": "low" }));
    installation.wait_for_end(first.task_id);
    let records = installation.read_topic("images-ingested");
    let original = records[0].json()["original"].clone();
    let task = Uuid::new_v4();
    let images = vec![json!({ "blob": original }); IMAGES];
    installation.submit_by_topic(&json!({ "taskId": task, "images": images, "quality": "medium" }));
    task
}
