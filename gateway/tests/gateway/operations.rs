//! Health, metrics, the line, dead letters, measurements, documents, the page.

use std::sync::atomic::Ordering;

use crate::common::{Place, Server, eventually, options, png};
use atelier_gateway::{
    HealthCheck,
    log::{DeadLetter, StageQueues},
};
use serde_json::Value;
use uuid::Uuid;

#[tokio::test]
async fn health_names_what_is_down() {
    let place = Place::new().await;
    let mut deps = place.dependencies();
    deps.checks.push(HealthCheck::new("compose", || async {
        Err("its model is missing".to_owned())
    }));
    let server = Server::start(options(), deps).await;
    assert_eq!(server.json("/health/live").await["live"], true);
    place.log.down.store(true, Ordering::SeqCst);
    let response = server.get("/health/ready").await;
    assert_eq!(response.status(), 503);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["ready"], false);
    let rows = body["dependencies"].as_array().unwrap();
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(
        (
            of("ledger")["ok"].clone(),
            of("blobs")["ok"].clone(),
            of("matte")["ok"].clone()
        ),
        (true.into(), true.into(), true.into())
    );
    assert_eq!(of("compose")["message"], "its model is missing");
    assert!(
        of("kafka")["message"]
            .as_str()
            .unwrap()
            .contains("switched off")
    );
    server.stop().await;
    let server = place.start().await;
    place.log.down.store(false, Ordering::SeqCst);
    assert_eq!(server.get("/health/ready").await.status(), 200);
    assert!(
        server
            .get("/metrics")
            .await
            .text()
            .await
            .unwrap()
            .starts_with("# metrics")
    );
    server.stop().await;
}

#[tokio::test]
async fn the_line_is_measured() {
    let place = Place::new().await;
    let queue = |name: &str, queued| StageQueues {
        name: name.into(),
        input_topics: vec!["x".into()],
        queued,
        in_retry: 1,
        dead_letters: 2,
    };
    *place.log.queues.lock().unwrap() = vec![queue("ingest", 3), queue("matte", 0)];
    let server = place.start().await;
    let id = server.submit().await;
    let open = server.submit().await;
    assert_eq!(server.json("/api/v1/pipeline").await["tasksOpen"], 2);
    let mut live = server.get("/api/v1/pipeline/events").await;
    let first = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.starts_with("event: pipeline\n"), "{first}");
    place
        .finish(
            id,
            &[place.result(&png(2, 2, [1; 4]), "image/png", (2, 2)).await],
        )
        .await;
    eventually("the stage is measured", async || {
        server.json("/api/v1/pipeline").await["stages"][1]["processedTotal"] == 1
    })
    .await;
    let line = server.json("/api/v1/pipeline").await;
    assert_eq!(
        (
            line["stages"][0]["queued"].clone(),
            line["stages"][0]["inRetry"].clone(),
            line["stages"][0]["deadLetters"].clone()
        ),
        (3.into(), 1.into(), 2.into())
    );
    assert_eq!(line["stages"][1]["p50Ms"], 40.0);
    assert!(line["stages"][1]["perSecond"].as_f64().unwrap() > 0.0);
    assert_eq!(line["tasksOpen"], 1);
    let measured = server.json("/api/v1/measurements").await;
    assert_eq!(measured["models"][0]["name"], "u2netp");
    assert_eq!(measured["models"][0]["medianMs"], 30.0);
    assert_eq!(measured["stages"][0]["name"], "matte");
    server.stop().await;

    // Open tasks are found again after a restart.
    let server = place.start().await;
    eventually("the open task is counted", async || {
        server.json("/api/v1/pipeline").await["tasksOpen"] == 1
    })
    .await;
    assert!(server.json(&format!("/api/v1/tasks/{open}")).await["status"] == "pending");
    place.log.down.store(true, Ordering::SeqCst);
    eventually("an unreachable log is 503", async || {
        server.get("/api/v1/pipeline").await.status() == 503
    })
    .await;
    place.log.down.store(false, Ordering::SeqCst);
    server.stop().await;
}

fn letter(stage: &str, offset: i64) -> DeadLetter {
    DeadLetter {
        stage: stage.into(),
        topic: format!("{stage}-dead-letters"),
        partition: 1,
        offset,
        time: chrono::Utc::now(),
        code: Some("undecodableImage".into()),
        reason: "DecodeError".into(),
        message: "it is broken".into(),
        event_id: Some(Uuid::from_u128(7)),
        event_type: Some("atelier.image.ingested.v1".into()),
        task_id: Some(Uuid::from_u128(8)),
        image_id: Some(Uuid::from_u128(9)),
        attempt: 1,
        replay: 0,
    }
}

#[tokio::test]
async fn dead_letters_are_listed_and_put_back() {
    let place = Place::new().await;
    *place.log.letters.lock().unwrap() = vec![letter("preprocess", 4), letter("matte", 2)];
    let server = place.start().await;
    let all = server.json("/api/v1/dead-letters").await;
    assert_eq!(all["deadLetters"].as_array().unwrap().len(), 2);
    let one = server
        .json("/api/v1/dead-letters?stage=matte&limit=5")
        .await;
    assert_eq!(
        (
            one["deadLetters"][0]["offset"].clone(),
            one["deadLetters"][0]["eventId"].clone()
        ),
        (2.into(), Uuid::from_u128(7).to_string().into())
    );
    for query in ["stage=nothing", "limit=0", "limit=501"] {
        assert_eq!(
            server
                .get(&format!("/api/v1/dead-letters?{query}"))
                .await
                .status(),
            422,
            "{query}"
        );
    }
    let replay =
        async |body: &'static str| server.post_json("/api/v1/dead-letters/replay", body).await;
    let response = replay(r#"{"stage":"matte","partition":1,"offset":2}"#).await;
    assert_eq!(response.status(), 202);
    assert_eq!(
        response.json::<Value>().await.unwrap()["eventId"],
        Uuid::from_u128(7).to_string()
    );
    assert_eq!(
        replay(r#"{"stage":"matte","partition":1,"offset":3}"#)
            .await
            .status(),
        404
    );
    for (body, pointer) in [
        (r#"{"stage":"x","partition":1,"offset":2}"#, "/stage"),
        (
            r#"{"stage":"matte","partition":-1,"offset":2}"#,
            "/partition",
        ),
        (r#"{"stage":"matte","partition":1,"offset":"2"}"#, "/offset"),
    ] {
        let response = replay(body).await;
        assert_eq!(response.status(), 422, "{body}");
        assert_eq!(
            response.json::<Value>().await.unwrap()["error"]["details"]["pointer"],
            pointer
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn capabilities_and_documents_are_served() {
    let place = Place::new().await;
    let server = place.start().await;
    let can = server.json("/api/v1/capabilities").await;
    assert_eq!(can["maxUploadBytes"], 50 * 1024 * 1024);
    assert_eq!(can["qualities"][0]["model"], "isnet-general-use");
    assert_eq!(can["kafka"]["bootstrapServers"], "127.0.0.1:9092");
    assert_eq!(
        can["formats"],
        serde_json::json!(["png", "webp", "jpeg", "avif", "zip"])
    );
    assert_eq!(
        server.json("/api/openapi.json").await,
        atelier_gateway::openapi::document()
    );
    let docs = server.get("/api/docs").await;
    assert!(
        docs.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("default-src 'none'")
    );
    assert!(docs.text().await.unwrap().contains("createTask"));
    server.stop().await;
}

/// The reverse of "every route is in the table" holds by construction; this is that every row of the document is answered.
#[tokio::test]
async fn every_documented_route_is_answered() {
    let place = Place::new().await;
    let server = place.start().await;
    let document = atelier_gateway::openapi::document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{id}", "x")
            .replace("{index}", "0")
            .replace("{variant}", "result");
        for method in methods.as_object().unwrap().keys() {
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let response = server
                .client
                .request(method.clone(), server.url(&concrete))
                .send()
                .await
                .unwrap();
            assert_ne!(response.status(), 405, "{method} {path}");
            if response.status() == 404 {
                let body = response.text().await.unwrap();
                assert!(
                    !body.contains("there is nothing here"),
                    "{method} {path} is in the document and not in the router"
                );
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_page_is_served_for_every_address_that_is_no_file() {
    let place = Place::new().await;
    let server = place.start().await;
    for path in ["/", "/tasks/1/images/0", "/line?x=1", "/index.html"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("http"),
            "{policy}"
        );
        let etag = response.headers()["etag"].clone();
        assert!(response.text().await.unwrap().contains("<html"));
        let known = server
            .client
            .get(server.url(path))
            .header("if-none-match", etag)
            .send()
            .await
            .unwrap();
        assert_eq!(known.status(), 304);
    }
    assert_eq!(server.get("/assets/gone.js").await.status(), 404);
    assert_eq!(
        server
            .client
            .post(server.url("/"))
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    server.stop().await;
}
