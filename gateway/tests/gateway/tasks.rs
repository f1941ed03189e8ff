//! Submitting and looking at tasks: every way in, every refusal, and that nothing accepted is lost.

use std::sync::atomic::Ordering;

use crate::common::{Form, Place, eventually, options, png, task_id};
use atelier_gateway::{Gateway, GatewayError, GatewayOptions};
use serde_json::Value;

async fn refused(response: reqwest::Response, status: u16, code: &str) -> Value {
    let found = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        (found.as_u16(), body["error"]["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    assert_eq!(body["status"], "failed");
    assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    body
}

#[tokio::test]
async fn json_is_accepted_in_both_forms_and_published() {
    let place = Place::new().await;
    let server = place.start().await;
    for body in [
        r#"{"images":["https://a.example/1.jpg"],"type":"product","quality":"low"}"#,
        r##"{"images":[{"url":"https://a.example/1.jpg","name":"a.jpg"}],"options":{"type":"product","output":{"format":"webp","background":"#fff"}}}"##,
    ] {
        let response = server.post_json("/api/v1/tasks", body).await;
        assert_eq!(response.status(), 202);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["status"], "pending");
        assert_eq!(answer["options"]["type"], "product");
        assert_eq!(server.json(&location).await["taskId"], answer["taskId"]);
        let id = task_id(&answer);
        eventually("it is on the log", async || {
            place
                .log
                .published
                .lock()
                .unwrap()
                .iter()
                .any(|row| row.task_id == id)
        })
        .await;
    }
    eventually("the outbox is empty", async || {
        place.ledger.outbox_pending(10).await.unwrap().is_empty()
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn the_trace_of_the_request_goes_with_the_task() {
    let place = Place::new().await;
    let server = place.start().await;
    let request = server
        .client
        .post(server.url("/api/v1/tasks"))
        .header("content-type", "application/json");
    let response = request
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .body(r#"{"images":["https://a.example/1.jpg"]}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    eventually("it is published", async || {
        !place.log.published.lock().unwrap().is_empty()
    })
    .await;
    let traceparent = place.log.published.lock().unwrap()[0]
        .traceparent
        .clone()
        .unwrap();
    assert!(
        traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{traceparent}"
    );
    assert!(
        !traceparent.contains("b7ad6b7169203331"),
        "the gateway's own span is the parent"
    );
    server.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_makes_repeats_the_same_task() {
    let place = Place::new().await;
    let server = place.start().await;
    let post = async |key: &'static str, body: &'static str| {
        let request = server
            .client
            .post(server.url("/api/v1/tasks"))
            .header("content-type", "application/json");
        request
            .header("idempotency-key", key)
            .body(body)
            .send()
            .await
            .unwrap()
    };
    let first = post("order-17", r#"{"images":["https://a.example/1.jpg"]}"#).await;
    assert_eq!(first.status(), 202);
    let first = task_id(&first.json().await.unwrap());
    let again = post(
        "order-17",
        r#"{ "images": [ {"url":"https://a.example/1.jpg"} ] }"#,
    )
    .await;
    assert_eq!(again.status(), 200, "the same request in another spelling");
    assert_eq!(task_id(&again.json().await.unwrap()), first);
    let conflict = refused(
        post("order-17", r#"{"images":["https://a.example/2.jpg"]}"#).await,
        409,
        "idempotencyConflict",
    )
    .await;
    assert_eq!(conflict["taskId"], first.to_string());
    assert_eq!(
        post("order-18", r#"{"images":["https://a.example/1.jpg"]}"#)
            .await
            .status(),
        202
    );
    refused(
        post("", r#"{"images":["https://a.example/1.jpg"]}"#).await,
        422,
        "invalidRequest",
    )
    .await;
    let other_id =
        r#"{"taskId":"6f1c1f5e-0000-4000-8000-000000000000","images":["https://a.example/1.jpg"]}"#;
    let two_ids = refused(post("order-17", other_id).await, 422, "invalidRequest").await;
    assert_eq!(two_ids["error"]["details"]["pointer"], "/taskId");
    eventually("each is published once", async || {
        place.log.published.lock().unwrap().len() == 2
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_upload_under_a_key_is_the_same_task() {
    let place = Place::new().await;
    let server = place.start().await;
    let post = async |bytes: &[u8]| {
        let form = Form::new().file("images", "a.png", bytes);
        let request = server
            .client
            .post(server.url("/api/v1/tasks"))
            .header("content-type", form.content_type());
        request
            .header("idempotency-key", "upload")
            .body(form.end())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let (one, other) = (png(3, 3, [1, 2, 3, 255]), png(3, 3, [9, 9, 9, 255]));
    assert_eq!(
        [post(&one).await, post(&one).await, post(&other).await],
        [202, 200, 409]
    );
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_match_is_refused_with_its_pointer() {
    let place = Place::new().await;
    let server = place.start().await;
    for (body, code, pointer) in [
        (
            r#"{"images":["https://a.example/1.jpg"],"colour":1}"#,
            "invalidRequest",
            "/colour",
        ),
        (
            r#"{"images":[{"url":7}]}"#,
            "invalidRequest",
            "/images/0/url",
        ),
        (r#"{"images":"x"}"#, "invalidRequest", "/images"),
        (r#"{"images":[]}"#, "invalidRequest", "/images"),
        (
            r#"{"images":[{"name":"x"}]}"#,
            "invalidRequest",
            "/images/0",
        ),
        (
            r#"{"images":["https://a.example/1.jpg"],"callback":"https://b.example"}"#,
            "optionNotSupported",
            "/callback",
        ),
        (
            r#"{"images":["https://a.example/1.jpg"],"options":{"output":{"encodingQuality":0}}}"#,
            "invalidRequest",
            "/options/output/encodingQuality",
        ),
        (
            r#"{"images":[{"blob":{"key":"0000000000000000000000000000000000000000000000000000000000000000","mediaType":"image/png","bytes":1,"width":0,"height":0}}]}"#,
            "invalidRequest",
            "/images/0/blob",
        ),
    ] {
        let answer = refused(server.post_json("/api/v1/tasks", body).await, 422, code).await;
        assert_eq!(answer["error"]["details"]["pointer"], pointer, "{body}");
        assert_eq!(answer["error"]["details"]["stage"], "gateway");
    }
    refused(
        server.post_json("/api/v1/tasks", "{not json").await,
        400,
        "invalidRequest",
    )
    .await;
    let many = format!(
        r#"{{"images":[{}]}}"#,
        vec![r#""https://a.example/1.jpg""#; 10_000].join(",")
    );
    let answer = refused(
        server.post_json("/api/v1/tasks", many).await,
        422,
        "tooManyImages",
    )
    .await;
    assert_eq!(answer["error"]["details"]["pointer"], "/images");
    let long = format!("https://a.example/{}", "x".repeat(4_000));
    let large = format!(
        r#"{{"images":[{}]}}"#,
        vec![format!("{long:?}"); 900].join(",")
    );
    refused(
        server.post_json("/api/v1/tasks", large).await,
        422,
        "invalidRequest",
    )
    .await;
    assert!(
        place.ledger.outbox_pending(10).await.unwrap().is_empty(),
        "nothing refused may be in the outbox"
    );
    server.stop().await;
}

#[tokio::test]
async fn content_types_and_sizes_are_checked() {
    let place = Place::new().await;
    let server = place
        .start_with(GatewayOptions {
            max_json_bytes: 1_000,
            ..options()
        })
        .await;
    let post = async |content_type: &'static str, body: String| {
        server
            .client
            .post(server.url("/api/v1/tasks"))
            .header("content-type", content_type)
            .body(body)
            .send()
            .await
            .unwrap()
    };
    refused(
        post("text/plain", "{}".into()).await,
        415,
        "unsupportedMediaType",
    )
    .await;
    refused(
        post("image/png", "x".into()).await,
        415,
        "unsupportedMediaType",
    )
    .await;
    refused(
        post("multipart/form-data", "x".into()).await,
        400,
        "invalidRequest",
    )
    .await;
    refused(
        post("application/json", " ".repeat(2_000)).await,
        413,
        "invalidRequest",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn uploads_are_stored_and_named() {
    let place = Place::new().await;
    let server = place.start().await;
    let picture = png(5, 4, [200, 10, 10, 255]);
    let form = Form::new()
        .file("images", "../../红 shirt.png", &picture)
        .text(
            "urls",
            "https://a.example/1.jpg\n\n https://a.example/2.jpg \n",
        )
        .text("options", r#"{"quality":"low"}"#);
    let response = server.post_form("/api/v1/tasks", form).await;
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["results"].as_array().unwrap().len(), 3);
    assert_eq!(answer["results"][0]["name"], "红 shirt.png");
    assert_eq!(
        answer["results"][2]["originalUrl"],
        "https://a.example/2.jpg"
    );
    assert_eq!(answer["options"]["quality"], "low");
    let original = server
        .get(answer["results"][0]["originalUrl"].as_str().unwrap())
        .await;
    assert_eq!(original.headers()["content-type"], "image/png");
    assert_eq!(original.bytes().await.unwrap(), picture);
    server.stop().await;
}

#[tokio::test]
async fn a_trimap_belongs_to_the_picture_before_it() {
    let place = Place::new().await;
    let server = place.start().await;
    let picture = png(5, 4, [200, 10, 10, 255]);
    let trimap = png(5, 4, [255, 255, 255, 255]);
    let form = Form::new()
        .file("images", "a.png", &picture)
        .file("images", "b.png", &picture)
        .file("trimap", "b-trimap.png", &trimap)
        .text("urls", "https://a.example/1.jpg");
    let response = server.post_form("/api/v1/tasks", form).await;
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["results"].as_array().unwrap().len(), 3);

    let twice = Form::new()
        .file("images", "a.png", &picture)
        .file("trimap", "t.png", &trimap)
        .file("trimap", "t.png", &trimap);
    let without = Form::new().file("trimap", "t.png", &trimap);
    for form in [twice, without] {
        let response = server.post_form("/api/v1/tasks", form).await;
        let body = refused(response, 422, "invalidRequest").await;
        assert_eq!(body["error"]["details"]["pointer"], "/trimap", "{body}");
    }
    let missing = serde_json::json!({
        "key": "a".repeat(64), "mediaType": "image/png", "bytes": 9, "width": 5, "height": 4
    });
    let body = serde_json::json!({
        "images": [{ "url": "https://a.example/1.jpg", "trimap": { "blob": missing } }]
    });
    let response = server.post_json("/api/v1/tasks", body.to_string()).await;
    let body = refused(response, 422, "invalidRequest").await;
    let pointer = &body["error"]["details"]["pointer"];
    assert_eq!(pointer, "/images/0/trimap/blob", "{body}");
    server.stop().await;
}

#[tokio::test]
async fn broken_forms_are_refused() {
    let place = Place::new().await;
    let server = place
        .start_with(GatewayOptions {
            max_upload_bytes: 1_000,
            max_request_bytes: 5_000_000,
            ..options()
        })
        .await;
    let picture = png(2, 2, [1, 1, 1, 255]);
    let post = async |form: Form| server.post_form("/api/v1/tasks", form).await;
    let empty = refused(
        post(Form::new().file("images", "a.png", b"")).await,
        422,
        "unsupportedFormat",
    )
    .await;
    assert_eq!(empty["error"]["details"]["pointer"], "/images/0");
    let large = Form::new()
        .file("images", "a.png", &picture)
        .file("images", "b.png", &[7; 2_000]);
    let large = refused(post(large).await, 413, "imageTooLarge").await;
    assert_eq!(large["error"]["details"]["pointer"], "/images/1");
    refused(
        post(Form::new().file("pictures", "a.png", &picture)).await,
        422,
        "invalidRequest",
    )
    .await;
    refused(post(Form::new()).await, 422, "invalidRequest").await;
    let wrong = Form::new()
        .file("images", "a.png", &picture)
        .text("options", r#"{"output":{"format":"gif"}}"#);
    let wrong = refused(post(wrong).await, 422, "invalidRequest").await;
    assert_eq!(
        wrong["error"]["details"]["pointer"],
        "/options/output/format"
    );
    let addresses = "https://a.example/1.jpg\n".repeat(10_000);
    refused(
        post(Form::new().text("urls", &addresses)).await,
        422,
        "tooManyImages",
    )
    .await;

    let broken = async |body: Vec<u8>| {
        let request = server
            .client
            .post(server.url("/api/v1/tasks"))
            .header("content-type", "multipart/form-data; boundary=B");
        request.body(body).send().await.unwrap()
    };
    refused(
        broken(b"no boundary at all".to_vec()).await,
        400,
        "invalidRequest",
    )
    .await;
    refused(broken(b"--B\r\nContent-Disposition: form-data; name=\"images\"; filename=\"a\"\r\n\r\nnever ends".to_vec()).await, 400, "invalidRequest").await;
    let mut endless_head = b"--B\r\nContent-Disposition: form-data; name=\"".to_vec();
    endless_head.resize(4_000_000, b'x');
    refused(broken(endless_head).await, 400, "invalidRequest").await;
    let mut too_long = b"--B\r\nContent-Disposition: form-data; name=\"options\"\r\n\r\n".to_vec();
    too_long.resize(2_000_000, b'x');
    refused(broken(too_long).await, 413, "invalidRequest").await;
    assert!(place.ledger.outbox_pending(10).await.unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_silent_sender_is_let_go() {
    let place = Place::new().await;
    let server = place
        .start_with(GatewayOptions {
            body_idle_timeout_ms: 200,
            ..options()
        })
        .await;
    let never = futures::stream::once(async {
        Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{\"ima"))
    });
    let never = futures::StreamExt::chain(never, futures::stream::pending());
    let request = server
        .client
        .post(server.url("/api/v1/tasks"))
        .header("content-type", "application/json");
    refused(
        request
            .body(reqwest::Body::wrap_stream(never))
            .send()
            .await
            .unwrap(),
        408,
        "invalidRequest",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_stops_acceptance_with_507() {
    let place = Place::with_free(u64::MAX).await;
    let server = place.start().await;
    refused(
        server
            .post_json("/api/v1/tasks", r#"{"images":["https://a.example/1.jpg"]}"#)
            .await,
        507,
        "storageFull",
    )
    .await;
    let form = Form::new().file("images", "a.png", &png(2, 2, [0; 4]));
    refused(
        server.post_form("/api/v1/tasks", form).await,
        507,
        "storageFull",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn pages_of_tasks_follow_the_cursor() {
    let place = Place::new().await;
    let server = place.start().await;
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(server.submit().await.to_string());
    }
    submitted.reverse();
    let mut found = Vec::new();
    let mut path = "/api/v1/tasks?limit=2".to_owned();
    loop {
        let page = server.json(&path).await;
        found.extend(
            page["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["taskId"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["nextCursor"].as_str() else {
            break;
        };
        path = format!("/api/v1/tasks?limit=2&cursor={next}");
    }
    assert_eq!(found, submitted);
    for query in ["limit=0", "limit=101", "limit=x", "cursor=nonsense!"] {
        refused(
            server.get(&format!("/api/v1/tasks?{query}")).await,
            422,
            "invalidRequest",
        )
        .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn unknown_things_are_404_and_405() {
    let place = Place::new().await;
    let server = place.start().await;
    for path in [
        "/api/v1/tasks/6f1c1f5e-0000-4000-8000-000000000000",
        "/api/v1/tasks/x",
        "/api/v1/nothing",
        "/api",
        "/v1.0/other",
    ] {
        refused(server.get(path).await, 404, "notFound").await;
    }
    let response = server
        .client
        .delete(server.url("/api/v1/tasks"))
        .send()
        .await
        .unwrap();
    refused(response, 405, "invalidRequest").await;
    server.stop().await;
}

#[tokio::test]
async fn strange_hosts_and_origins_are_refused() {
    let place = Place::new().await;
    let server = place
        .start_with(GatewayOptions {
            public_names: vec!["cutouts.example".into()],
            ..options()
        })
        .await;
    let get = async |host: &'static str| {
        server
            .client
            .get(server.url("/api/v1/tasks"))
            .header("host", host)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(get("localhost:1").await.status(), 200);
    assert_eq!(get("cutouts.example").await.status(), 200);
    refused(get("evil.example").await, 403, "invalidRequest").await;
    refused(get("127.0.0.1.evil.example").await, 403, "invalidRequest").await;
    let post = async |origin: String| {
        let request = server
            .client
            .post(server.url("/api/v1/tasks"))
            .header("content-type", "application/json");
        request
            .header("origin", origin)
            .body(r#"{"images":["https://a.example/1.jpg"]}"#)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(
        post(format!("http://{}", server.address)).await.status(),
        202
    );
    refused(
        post("http://evil.example".into()).await,
        403,
        "invalidRequest",
    )
    .await;
    refused(post("null".into()).await, 403, "invalidRequest").await;
    server.stop().await;
}

#[tokio::test]
async fn an_accepted_task_goes_out_after_a_crash_before_its_publication() {
    let place = Place::new().await;
    place.log.down.store(true, Ordering::SeqCst);
    let server = place.start().await;
    let id = server.submit().await;
    let waiting = place.ledger.outbox_pending(10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    server.kill().await;
    place.log.down.store(false, Ordering::SeqCst);
    let server = place.start().await;
    eventually("it is on the log", async || {
        !place.log.published.lock().unwrap().is_empty()
    })
    .await;
    let published = place.log.published.lock().unwrap().clone();
    assert_eq!(
        published
            .iter()
            .map(|row| (row.task_id, row.event_id))
            .collect::<Vec<_>>(),
        [(id, waiting[0].event_id)]
    );
    eventually("it is marked as sent", async || {
        place.ledger.outbox_pending(10).await.unwrap().is_empty()
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn it_does_not_start_beyond_loopback_or_on_a_taken_port() {
    let place = Place::new().await;
    let open = GatewayOptions {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..options()
    };
    let error = Gateway::bind(open, place.dependencies())
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, GatewayError::Options(_)) && error.to_string().contains("gateway.listen"),
        "{error}"
    );
    let server = place.start().await;
    let taken = GatewayOptions {
        listen: server.address,
        ..options()
    };
    let error = Gateway::bind(taken, place.dependencies())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, GatewayError::PortTaken { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&server.address.port().to_string())
            && !error.to_string().contains('\n'),
        "{error}"
    );
    server.stop().await;
}
