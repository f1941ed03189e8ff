//! A task is stopped: the real binaries, the real broker, the real models. It ends once, as cancelled, and no model works
//! for it any more.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, thread, time::Duration};

use atelier_schemas::{TaskAnswer, TaskStatus};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use support::{Installation, Record, WORK_ON_EVERY_PICTURE, assert_ended_once, samples};
use uuid::Uuid;

/// Pictures that differ by a byte behind their end, so that nothing is known from one to the next.
fn pictures(count: u8) -> Vec<(&'static str, Vec<u8>)> {
    let picture = fs::read(samples().join("dress.jpg")).unwrap();
    (0..count)
        .map(|number| {
            let mut bytes = picture.clone();
            bytes.push(number);
            ("dress.jpg", bytes)
        })
        .collect()
}

fn upload(installation: &Installation, count: u8, quality: &str) -> Uuid {
    let options = json!({ "quality": quality });
    installation.upload(&pictures(count), &options).task_id
}

fn delete(installation: &Installation, task: Uuid) -> u16 {
    let url = installation.url(&format!("/api/v1/tasks/{task}"));
    let answer = installation.client().delete(url).send().unwrap();
    answer.status().as_u16()
}

fn completed_stages(installation: &Installation, task: Uuid) -> Vec<Record> {
    let events = installation.read_topic("task-events");
    let is_of_task = |record: &Record| {
        record.event_type() == "atelier.stage.completed.v1"
            && record.header("ce_correlationid") == Some(&task.to_string())
    };
    events.into_iter().filter(is_of_task).collect()
}

fn cancelled_count(task: &TaskAnswer) -> usize {
    task.summary.cancelled_count as usize
}

/// A task of its own goes through: whatever lay before every stage has been passed over.
fn a_neighbour_goes_through(installation: &Installation) {
    let neighbour = upload(installation, 1, "low");
    assert_eq!(
        installation.wait_for_end(neighbour).status,
        TaskStatus::Completed
    );
}

#[test]
fn a_stopped_task_ends_once_and_costs_nothing_more() {
    let mut installation = Installation::new(WORK_ON_EVERY_PICTURE);
    let unread = a_task_is_stopped_before_anything_is_read(&mut installation);
    let in_flight = a_task_is_stopped_in_the_middle(&installation);
    a_finished_task_is_not_stopped(&installation);
    let by_topic = a_cancel_overtakes_its_task(&installation);
    cancels_race_with_the_end(&installation);

    let tasks = [unread, in_flight, by_topic];
    let before = tasks.map(|task| installation.task(task).unwrap());
    assert!(installation.terminate("up"), "{}", installation.log("up"));
    installation.start_up();
    a_neighbour_goes_through(&installation);
    for (task, before) in tasks.into_iter().zip(before) {
        assert_eq!(installation.task(task).unwrap(), before);
        assert_ended_once(&installation, &[task], before.results.len());
        assert_eq!(delete(&installation, task), 200);
    }
    let log = installation.log("up");
    assert!(!log.contains("panicked"), "{log}");
}

fn a_task_is_stopped_before_anything_is_read(installation: &mut Installation) -> Uuid {
    installation.start("up", &["up", "--without-stages"]);
    installation.wait_until_ready();
    let task = upload(installation, 3, "low");
    assert_eq!(delete(installation, task), 202);
    assert_eq!(delete(installation, task), 202);
    assert_eq!(
        installation.task(task).unwrap().status,
        TaskStatus::Pending,
        "nobody has read it"
    );
    installation.wait_for("the cancel on the log", || {
        let of_task =
            |record: &Record| record.header("ce_correlationid") == Some(&task.to_string());
        let requests = installation.read_topic("task-control");
        requests.iter().any(of_task).then_some(())
    });
    assert!(installation.terminate("up"), "{}", installation.log("up"));

    installation.start_up();
    let ended = installation.wait_for_end(task);
    assert_eq!(
        (ended.status, cancelled_count(&ended)),
        (TaskStatus::Cancelled, 3)
    );
    a_neighbour_goes_through(installation);
    let completed = completed_stages(installation, task);
    assert!(completed.is_empty(), "{completed:?}");
    assert_ended_once(installation, &[task], 3);
    task
}

fn a_task_is_stopped_in_the_middle(installation: &Installation) -> Uuid {
    let count = 30;
    let task = upload(installation, count, "high");
    installation.wait_for("the first result", || {
        installation
            .task(task)
            .filter(|task| task.summary.success_count > 0)
    });
    let stopped_at = Utc::now();
    assert_eq!(delete(installation, task), 202);
    let ended = installation.wait_for_end(task);
    let took = ended.ended_at.unwrap() - stopped_at;
    let summary = &ended.summary;
    println!(
        "stopped with {} of {count} done; its end came after {} ms",
        summary.success_count,
        took.num_milliseconds()
    );
    assert_eq!(ended.status, TaskStatus::Cancelled);
    assert!(summary.success_count > 0 && summary.cancelled_count > 0);
    assert_eq!(
        summary.success_count + summary.cancelled_count,
        u32::from(count)
    );
    assert_eq!(
        ended.error.unwrap().code,
        atelier_schemas::ErrorCode::Cancelled
    );
    a_neighbour_goes_through(installation);
    let begun_late = completed_stages(installation, task)
        .iter()
        .filter(|record| record.json()["stage"] == "matte")
        .filter(|record| begun_at(record) > stopped_at + TimeDelta::seconds(1))
        .count();
    assert_eq!(begun_late, 0, "models that were begun 1 s after the cancel");
    let metrics = String::from_utf8(installation.bytes("/metrics")).unwrap();
    let dropped: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("atelier_stage_messages_total"))
        .filter(|line| line.contains("outcome=\"cancelled\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(dropped > 0.0, "no stage dropped anything:\n{metrics}");
    let again = installation.task(task).unwrap();
    assert_eq!(&again.summary, summary, "late results change nothing");
    assert_ended_once(installation, &[task], usize::from(count));
    task
}

/// When the work on a message began: never later than this, because the time of a batch is shared out among its messages.
fn begun_at(completed: &Record) -> DateTime<Utc> {
    let at = DateTime::parse_from_rfc3339(completed.header("ce_time").unwrap()).unwrap();
    let took_ms = completed.json()["processingTimeMs"].as_f64().unwrap();
    at.with_timezone(&Utc) - TimeDelta::microseconds((took_ms * 1_000.0) as i64)
}

fn a_finished_task_is_not_stopped(installation: &Installation) {
    let task = upload(installation, 1, "low");
    let ended = installation.wait_for_end(task);
    let url = installation.url(&format!("/api/v1/tasks/{task}"));
    let answer = installation.client().delete(url).send().unwrap();
    assert_eq!(answer.status(), 409);
    let refused: Value = serde_json::from_str(&answer.text().unwrap()).unwrap();
    assert_eq!(refused["error"]["code"], "alreadyEnded");
    assert_eq!(installation.task(task).unwrap(), ended);
    assert_eq!(delete(installation, Uuid::new_v4()), 404);
}

fn a_cancel_overtakes_its_task(installation: &Installation) -> Uuid {
    let task = Uuid::new_v4();
    let (id, name) = (Uuid::new_v4().to_string(), task.to_string());
    let headers = [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_id", id.as_str()),
        ("ce_source", "/test"),
        ("ce_type", "atelier.task.cancel-requested.v1"),
        ("ce_correlationid", name.as_str()),
    ];
    let request = json!({ "taskId": task, "requestedAt": Utc::now(), "reason": "a mistake" });
    installation.produce(
        "task-control",
        name.as_bytes(),
        &headers,
        request.to_string().as_bytes(),
    );
    let ended = installation.wait_for_end(task);
    assert_eq!(ended.status, TaskStatus::Cancelled);
    assert!(ended.error.unwrap().message.contains("a mistake"));
    installation.submit_by_topic(
        &json!({ "taskId": name, "images": ["https://picture.invalid/1.jpg"], "quality": "low" }),
    );
    a_neighbour_goes_through(installation);
    let completed = completed_stages(installation, task);
    assert!(completed.is_empty(), "{completed:?}");
    task
}

fn cancels_race_with_the_end(installation: &Installation) {
    let mut outcomes = Vec::new();
    for wait_ms in [0, 50, 100, 150, 250, 400, 600] {
        let task = upload(installation, 1, "low");
        thread::sleep(Duration::from_millis(wait_ms));
        let answers = thread::scope(|scope| {
            [(); 2]
                .map(|()| scope.spawn(|| delete(installation, task)))
                .map(|racing| racing.join().unwrap())
        });
        let ended = installation.wait_for_end(task);
        let expected: &[u16] = match ended.status {
            TaskStatus::Cancelled => &[200, 202],
            _ => &[202, 409],
        };
        assert!(
            answers.iter().all(|answer| expected.contains(answer)),
            "{answers:?} and {}",
            ended.status.as_str()
        );
        outcomes.push((task, ended.status));
    }
    a_neighbour_goes_through(installation);
    println!("races: {outcomes:?}");
    for (task, status) in outcomes {
        assert_ended_once(installation, &[task], 1);
        assert_eq!(installation.task(task).unwrap().status, status);
    }
}
