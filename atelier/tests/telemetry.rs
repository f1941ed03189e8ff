//! What an operator sees of one task: its tree of spans, its log lines, and the figures that it moved. The real binaries, the
//! real models; the collector is one inside the test, and Jaeger where it is installed.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::Stdio,
    thread,
};

use atelier::reference::metrics::series_of;
use atelier_runtime::telemetry::{METRICS, Metric, table};
use atelier_schemas::{TaskAnswer, TaskStatus};
use atelier_servers::{Collector, Jaeger, Span, promtool};
use serde_json::{Value, json};
use support::{Installation, samples};
use uuid::Uuid;

const CALLER: &str = "b7ad6b7169203331";

/// Two pictures: one that is there at the second try only, one that is none.
fn serve_pictures() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the process.
    thread::spawn(move || {
        let mut asked_before = false;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            let (status, body) = if request.contains("/broken") {
                ("200 OK", b"no picture at all".to_vec())
            } else if !std::mem::replace(&mut asked_before, true) {
                ("503 Service Unavailable", Vec::new())
            } else {
                ("200 OK", fs::read(samples().join("dress.jpg")).unwrap())
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    port
}

fn installation(endpoint: &str, pictures: u16) -> Installation {
    let mut installation = Installation::new(&format!(
        "[telemetry]\notlp_endpoint = \"{endpoint}\"\n\
         [runtime.retry]\nin_place_tries = 1\ndelay_ms = 300\n\
         [stages.ingest.fetch]\nallow_addresses = [\"127.0.0.0/8\"]\nallow_ports = [{pictures}]\n"
    ));
    installation.environment = vec![("ATELIER_LOG_JSON", "true".to_owned())];
    installation
}

/// Sends the two pictures from within a trace, with `header`, and waits for the end.
fn submit(installation: &Installation, pictures: u16, header: (&str, String)) -> TaskAnswer {
    let picture = |name: &str| format!("http://127.0.0.1:{pictures}/{name}.jpg");
    let body = json!({ "images": [picture("late"), picture("broken")], "quality": "low" });
    let answer = installation
        .client()
        .post(installation.url("/api/v1/tasks"))
        .header("content-type", "application/json")
        .header(header.0, header.1)
        .body(body.to_string())
        .send()
        .unwrap();
    assert_eq!(answer.status(), 202, "{}", answer.text().unwrap());
    let task: TaskAnswer = serde_json::from_str(&answer.text().unwrap()).unwrap();
    let ended = installation.wait_for_end(task.task_id);
    let statuses: Vec<TaskStatus> = ended.results.iter().map(|image| image.status).collect();
    assert_eq!(statuses, [TaskStatus::Completed, TaskStatus::Failed]);
    ended
}

#[test]
fn one_task_is_one_tree_its_log_lines_join_and_every_figure_moves() {
    let pictures = serve_pictures();
    let collector = Collector::start();
    let mut installation = installation(&collector.endpoint(), pictures);
    installation.start_up();
    let trace_id = Uuid::new_v4().simple().to_string();
    let jaegers = ("uber-trace-id", format!("{trace_id}:{CALLER}:0:1"));
    let task = submit(&installation, pictures, jaegers);
    figures_move(&installation);
    // The last spans are given on at the end.
    assert!(installation.terminate("up"), "{}", installation.log("up"));
    let mut spans = collector.spans();
    spans.retain(|span| span.trace_id == trace_id);
    is_one_tree(&spans, task.task_id);
    lines_join(&installation.log("up"), &trace_id, task.task_id);
}

#[test]
fn jaeger_shows_one_tree() {
    let Some(jaeger) = Jaeger::start() else {
        return;
    };
    let pictures = serve_pictures();
    let mut installation = installation(&jaeger.endpoint(), pictures);
    installation.start_up();
    let trace_id = Uuid::new_v4().simple().to_string();
    let w3cs = ("traceparent", format!("00-{trace_id}-{CALLER}-01"));
    let task = submit(&installation, pictures, w3cs);
    assert!(installation.terminate("up"), "{}", installation.log("up"));
    let spans = installation.wait_for("the trace in Jaeger", || {
        let url = format!("{}/api/traces/{trace_id}", jaeger.query_url());
        let answer = installation.client().get(url).send().ok()?;
        let spans = spans_of_jaeger(&serde_json::from_str(&answer.text().ok()?).ok()?)?;
        let has_end = spans.iter().any(|span| span.name == LAST);
        has_end.then_some(spans)
    });
    is_one_tree(&spans, task.task_id);
}

#[test]
fn a_stage_of_its_own_tells_its_health_and_its_figures() {
    let mut installation = Installation::new("");
    installation.start("up", &["up", "--without-stages"]);
    installation.wait_until_ready();
    let address = format!("127.0.0.1:{}", support::free_port());
    installation.start("persist", &["stage", "persist", "--listen", &address]);
    let ask = |path: &str| {
        let answer = installation
            .client()
            .get(format!("http://{address}{path}"))
            .send()
            .ok()?;
        Some((answer.status().as_u16(), answer.text().ok()?))
    };
    installation.wait_for("a stage that is ready", || {
        ask("/health/ready").filter(|(status, body)| *status == 200 && body.contains("persist"))
    });
    assert_eq!(ask("/health/live").unwrap().0, 200);
    let series = [
        "atelier_stage_ready{stage=\"persist\"} 1",
        "atelier_stage_partitions{stage=\"persist\"} 1",
        "process_resident_memory_bytes ",
    ];
    // It is ready a moment before it has its partitions, which are more than nine.
    installation.wait_for("its figures", || {
        let (status, text) = ask("/metrics")?;
        (status == 200 && series.iter().all(|series| text.contains(series))).then_some(())
    });
    assert!(
        installation.terminate("persist"),
        "{}",
        installation.log("persist")
    );
}

const LAST: &str = "persist images-composed";

/// As its query API writes them.
fn spans_of_jaeger(answer: &Value) -> Option<Vec<Span>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let trace = answer["data"].get(0)?;
    let spans = trace["spans"].as_array()?.iter().map(|span| {
        let tags = span["tags"].as_array().unwrap().iter();
        let attributes: BTreeMap<String, String> = tags
            .map(|tag| {
                let value = &tag["value"];
                let shown = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                (text(&tag["key"]), shown)
            })
            .collect();
        let process = &trace["processes"][span["processID"].as_str().unwrap()];
        let parent = span["references"].as_array().unwrap().iter();
        let mut parent = parent.filter(|reference| reference["refType"] == "CHILD_OF");
        Span {
            service: text(&process["serviceName"]),
            name: text(&span["operationName"]),
            trace_id: text(&span["traceID"]),
            span_id: text(&span["spanID"]),
            parent_span_id: parent
                .next()
                .map_or_else(String::new, |one| text(&one["spanID"])),
            error: attributes.get("otel.status_description").cloned(),
            attributes,
            ..Span::default()
        }
    });
    Some(spans.collect())
}

fn is_one_tree(spans: &[Span], task: Uuid) {
    let child = |parent: &Span, name: &str| -> Span {
        let is_it = |span: &&Span| span.parent_span_id == parent.span_id && span.name == name;
        let found = spans.iter().find(is_it);
        found
            .unwrap_or_else(|| panic!("no `{name}` below {parent:?}: {spans:#?}"))
            .clone()
    };
    let roots: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_span_id == CALLER)
        .collect();
    let [request] = roots.as_slice() else {
        panic!("one request and nothing else hangs on the caller: {roots:#?}");
    };
    assert_eq!(
        (request.service.as_str(), request.name.as_str()),
        ("atelier", "POST /api/v1/tasks")
    );
    assert_eq!(request.attributes["http.response.status_code"], "202");

    let ingest = child(request, "ingest image-tasks");
    assert_eq!(ingest.attributes["atelier.task_id"], task.to_string());
    // One of its two pictures is none, the other comes at the second try.
    assert!(ingest.error.is_some() && ingest.attributes.contains_key("atelier.error.code"));
    child(&ingest, "persist task-events");
    let mut above = child(&ingest, "ingest ingest-retry");
    let image = child(&above, "preprocess images-ingested").attributes["atelier.image_id"].clone();
    for name in [
        "preprocess images-ingested",
        "classify images-preprocessed",
        "matte images-classified",
        "compose images-matted",
        LAST,
    ] {
        above = child(&above, name);
        assert_eq!(above.attributes["atelier.image_id"], image);
        // `persist` takes events of other steps in one go with it, which makes its work a trace of its own.
        if name != LAST {
            let stage = name.split(' ').next().unwrap();
            child(&above, &format!("{stage} handle"));
        }
    }
    let known: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    for span in spans {
        let parent = span.parent_span_id.as_str();
        assert!(parent == CALLER || known.contains(parent), "{span:?}");
    }
}

fn lines_join(log: &str, trace_id: &str, task: Uuid) {
    let lines: Vec<Value> = log
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = |message: &str| {
        lines.iter().any(|line| {
            line["message"] == message
                && line["trace_id"] == trace_id
                && line["task_id"] == task.to_string()
        })
    };
    assert!(told("accepted") && told("part failed"), "{log}");
    for line in lines
        .iter()
        .filter(|line| line["task_id"] == task.to_string())
    {
        assert_eq!(line["trace_id"], trace_id, "{line}");
    }
}

fn figures_move(installation: &Installation) {
    let picture = fs::read(samples().join("dress.jpg")).unwrap();
    let task = installation.upload(&[("dress.jpg", picture)], &json!({ "quality": "low" }));
    let stream = installation
        .client()
        .get(installation.url("/api/v1/events"))
        .send()
        .unwrap();
    assert_eq!(stream.status(), 200);
    installation.wait_for_end(task.task_id);
    // They happen only where two processes have one name, and on PostgreSQL: tests of their own see those.
    let elsewhere = [
        table::FENCES_TOTAL,
        table::LEDGER_CONNECTIONS,
        table::LEDGER_CONNECTIONS_LIMIT,
    ]
    .map(|metric: Metric| metric.name);
    let wanted: BTreeSet<String> = METRICS
        .iter()
        .filter(|metric| !elsewhere.contains(&metric.name))
        .flat_map(series_of)
        .collect();
    let text = installation.wait_for("every metric", || {
        let text = String::from_utf8(installation.bytes("/metrics")).unwrap();
        let told: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        let missing: Vec<&String> = wanted
            .iter()
            .filter(|name| !told.contains(name.as_str()))
            .collect();
        if !missing.is_empty() {
            println!("not told yet: {missing:?}");
        }
        missing.is_empty().then_some(text)
    });
    for (name, least) in [
        (table::RETRIES_TOTAL.name, 1.0),
        (table::DEAD_LETTERS_TOTAL.name, 1.0),
        (table::SPANS_TOTAL.name, 1.0),
        (table::MODEL_RUN_SECONDS.name, 1.0),
        (table::DISK_FREE_BYTES.name, 1.0),
        (table::MEMORY_LIMIT_BYTES.name, 1e6),
        (table::PROCESS_RESIDENT_MEMORY_BYTES.name, 1e6),
        (table::HTTP_EVENT_STREAMS.name, 1.0),
        (table::PARTITIONS.name, 4.0),
    ] {
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let of_metric = series.split('{').next()?.trim_end_matches("_count") == name;
            of_metric.then(|| value.parse::<f64>().unwrap())
        });
        assert!(values.sum::<f64>() >= least, "{name}:\n{text}");
    }
    is_what_prometheus_reads(&text);
}

fn is_what_prometheus_reads(text: &str) {
    let Some(mut promtool) = promtool() else {
        return;
    };
    let mut child = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
