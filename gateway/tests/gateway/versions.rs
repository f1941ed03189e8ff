//! Repeating pictures with other options: nothing is uploaded, everything that was made stays.

use crate::common::{End, Form, Place, Server, eventually, png, task_id};
use atelier_schemas::{ErrorBody, ErrorCode};
use atelier_stores::ledger::Effect;
use serde_json::{Value, json};
use uuid::Uuid;

/// What is repeated, which options, what the answer is.
async fn repeat(server: &Server, id: impl std::fmt::Display, body: Value) -> (u16, Value) {
    let path = format!("/api/v1/tasks/{id}/repeat");
    let response = server.post_json(&path, body.to_string()).await;
    (
        response.status().as_u16(),
        response.json().await.unwrap_or_default(),
    )
}

async fn upload(server: &Server, names: &[&str]) -> Value {
    let form = names.iter().fold(Form::new(), |form, name| {
        form.file("images", name, name.as_bytes())
    });
    let response = server.post_form("/api/v1/tasks", form).await;
    assert_eq!(response.status(), 202);
    response.json().await.unwrap()
}

/// Each version with its number and its task.
async fn versions(server: &Server, id: Uuid, index: u32) -> Vec<(u64, Uuid)> {
    let path = format!("/api/v1/tasks/{id}/images/{index}/versions");
    let answer = server.json(&path).await;
    let versions = answer["versions"].as_array().unwrap().iter();
    versions
        .map(|version| (version["version"].as_u64().unwrap(), task_id(version)))
        .collect()
}

async fn end_with(place: &Place, id: Uuid, pictures: &[[u8; 4]]) {
    let mut ends = Vec::new();
    for pixel in pictures {
        let picture = png(2, 2, *pixel);
        ends.push(place.result(&picture, "image/png", (2, 2)).await);
    }
    place.finish(id, &ends).await;
}

#[tokio::test]
async fn a_repeat_is_the_next_version_and_what_was_made_stays() {
    let place = Place::new().await;
    let server = place.start().await;
    let task = upload(&server, &["a.jpg", "衬衫 b.jpg"]).await;
    let first = task_id(&task);
    assert_eq!(task["results"][1]["version"], 1);
    end_with(&place, first, &[[1, 1, 1, 255], [2, 2, 2, 255]]).await;
    let before = server.json(&format!("/api/v1/tasks/{first}")).await;

    let image = &task["results"][1]["imageId"];
    let options = json!({ "output": { "background": "#ff0000" } });
    let body = json!({ "images": [image], "options": options, "priority": "bulk" });
    let (status, answer) = repeat(&server, first, body).await;
    assert_eq!(status, 202, "{answer}");
    let second = task_id(&answer);
    let repeated = &answer["results"][0];
    assert_eq!(
        (&repeated["version"], &repeated["name"]),
        (&json!(2), &json!("衬衫 b.jpg"))
    );
    assert_eq!(
        repeated["repeatOf"],
        json!({ "taskId": first, "imageId": image })
    );
    assert_eq!(answer["options"]["output"]["background"], "#ff0000");
    let submitted = || {
        let published = place.log.published.lock().unwrap();
        let row = published.iter().find(|row| row.task_id == second).cloned();
        row.map(|row| {
            (
                row.topic,
                serde_json::from_slice::<Value>(&row.value).unwrap(),
            )
        })
    };
    eventually("it is on the log", async || submitted().is_some()).await;
    let (topic, event) = submitted().unwrap();
    assert_eq!(topic, "image-tasks-bulk");
    assert_eq!(event["images"][0]["url"], Value::Null);
    assert_eq!(event["images"][0]["repeatOf"]["imageId"], *image);

    end_with(&place, second, &[[3, 3, 3, 255]]).await;
    let (status, answer) = repeat(&server, second, json!({ "type": "product" })).await;
    assert_eq!((status, &answer["results"][0]["version"]), (202, &json!(3)));
    let all = [(1, first), (2, second), (3, task_id(&answer))];
    assert_eq!(versions(&server, first, 1).await, all);
    assert_eq!(versions(&server, second, 0).await, all);
    assert_eq!(versions(&server, first, 0).await, [(1, first)]);
    assert_eq!(server.json(&format!("/api/v1/tasks/{first}")).await, before);
    for (id, index, pixel) in [(first, 1, [2, 2, 2, 255]), (second, 0, [3, 3, 3, 255])] {
        let path = format!("/api/v1/tasks/{id}/images/{index}/result");
        let bytes = server.get(&path).await.bytes().await.unwrap();
        assert_eq!(bytes, png(2, 2, pixel));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_with_a_key_is_made_once() {
    let place = Place::new().await;
    let server = place.start().await;
    let first = task_id(&upload(&server, &["a.jpg"]).await);
    let post = async |body: Value| {
        let url = server.url(&format!("/api/v1/tasks/{first}/repeat"));
        let request = server.client.post(url).header("idempotency-key", "again");
        let response = request.json(&body).send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    // Nothing has ended yet: an upload may be repeated at once.
    let (status, made) = post(json!({ "quality": "low" })).await;
    assert_eq!(status, 202, "{made}");
    end_with(&place, first, &[[1, 1, 1, 255]]).await;
    let (status, again) = post(json!({ "quality": "low" })).await;
    assert_eq!((status, task_id(&again)), (200, task_id(&made)));
    assert_eq!(post(json!({ "quality": "high" })).await.0, 409);
    assert_eq!(versions(&server, first, 0).await.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_repeated_says_why() {
    let place = Place::new().await;
    let server = place.start().await;
    let task = upload(&server, &["a.jpg"]).await;
    let (first, image) = (task_id(&task), &task["results"][0]["imageId"]);
    let stranger = Uuid::new_v4();
    for (id, body, status, code, pointer) in [
        (stranger.to_string(), json!({}), 404, "notFound", None),
        ("no-uuid".into(), json!({}), 404, "notFound", None),
        (
            first.to_string(),
            json!({ "images": [stranger] }),
            404,
            "notFound",
            Some("/images/0"),
        ),
        (
            first.to_string(),
            json!({ "images": [image, image] }),
            422,
            "invalidRequest",
            Some("/images/1"),
        ),
        (
            first.to_string(),
            json!({ "images": [] }),
            422,
            "invalidRequest",
            Some("/images"),
        ),
        (
            first.to_string(),
            json!({ "images": ["x"] }),
            422,
            "invalidRequest",
            Some("/images/0"),
        ),
        (
            first.to_string(),
            json!({ "option": {} }),
            422,
            "invalidRequest",
            Some("/option"),
        ),
        (
            first.to_string(),
            json!({ "type": "product", "options": {} }),
            422,
            "invalidRequest",
            Some("/type"),
        ),
        (
            first.to_string(),
            json!({ "options": { "output": { "encodingQuality": 0 } } }),
            422,
            "invalidRequest",
            Some("/options/output/encodingQuality"),
        ),
        (
            first.to_string(),
            json!({ "deadline": "2020-01-01T00:00:00Z" }),
            422,
            "deadlineExceeded",
            Some("/deadline"),
        ),
    ] {
        let (found, answer) = repeat(&server, &id, body).await;
        assert_eq!(
            (found, answer["error"]["code"].as_str()),
            (status, Some(code)),
            "{answer}"
        );
        assert_eq!(
            answer["error"]["details"]["pointer"].as_str(),
            pointer,
            "{answer}"
        );
    }
    assert_eq!(versions(&server, first, 0).await.len(), 1);
    for missing in [
        format!("{first}/images/1"),
        format!("{stranger}/images/0"),
        format!("{first}/images/x"),
    ] {
        let path = format!("/api/v1/tasks/{missing}/versions");
        assert_eq!(server.get(&path).await.status(), 404, "{path}");
    }
    let claim = json!({ "taskId": first, "imageId": image });
    let blob =
        json!({ "key": "0".repeat(64), "mediaType": "", "bytes": 1, "width": 0, "height": 0 });
    let smuggled = json!({ "images": [{ "blob": blob, "repeatOf": claim }] }).to_string();
    let response = server.post_json("/api/v1/tasks", smuggled).await;
    assert_eq!(response.status(), 422);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["details"]["pointer"], "/images/0/repeatOf");
    server.stop().await;
}

#[tokio::test]
async fn without_an_original_there_is_no_repeat() {
    let place = Place::new().await;
    let server = place.start().await;
    let no_original = async |id: Uuid, word: &str| {
        let (status, answer) = repeat(&server, id, json!({})).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (409, Some("noOriginal"))
        );
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{message}");
    };
    // An address, not fetched yet; then it has its result; another cannot be fetched.
    let fetched = server.submit().await;
    no_original(fetched, "not fetched yet").await;
    end_with(&place, fetched, &[[1, 1, 1, 255]]).await;
    let (status, answer) = repeat(&server, fetched, json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let failed = server.submit().await;
    place
        .finish(failed, &[End::failure(ErrorCode::FetchFailed)])
        .await;
    no_original(failed, "submit its address again").await;
    // A task by topic that was refused as a whole: nobody knows of what.
    let refused = Uuid::new_v4();
    let effect = Effect::Failed {
        task_id: refused,
        image_id: None,
        error: ErrorBody::new(ErrorCode::InvalidRequest, "ingest", "Test", "refused"),
    };
    place.ledger.apply(Uuid::new_v4(), effect).await.unwrap();
    no_original(refused, "no images").await;

    // What a sweep has erased.
    let task = upload(&server, &["a.jpg"]).await;
    std::fs::remove_dir_all(place.folder.path().join("blobs")).unwrap();
    let (status, answer) = repeat(&server, task_id(&task), json!({})).await;
    assert_eq!(status, 410, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("submit the picture again"), "{message}");
    server.stop().await;
}
