//! Pictures and archives.

use std::io::Read as _;

use crate::common::{End, Form, Place, Server, png, task_id};
use atelier_schemas::{BlobKey, ErrorCode};
use serde_json::Value;
use uuid::Uuid;

async fn upload(server: &Server, files: &[(&str, &[u8])]) -> Uuid {
    let form = files.iter().fold(Form::new(), |form, (name, bytes)| {
        form.file("images", name, bytes)
    });
    let response = server.post_form("/api/v1/tasks", form).await;
    assert_eq!(response.status(), 202);
    task_id(&response.json().await.unwrap())
}

#[tokio::test]
async fn a_result_has_an_etag_ranges_and_a_name() {
    let place = Place::new().await;
    let server = place.start().await;
    let picture = png(50, 40, [10, 20, 30, 255]);
    let id = upload(&server, &[("红 shirt.jpeg", &picture)]).await;
    let path = format!("/api/v1/tasks/{id}/images/0/result");
    assert_eq!(server.get(&path).await.status(), 404, "not there yet");
    place
        .finish(id, &[place.result(&picture, "image/png", (50, 40)).await])
        .await;

    let whole = server.get(&path).await;
    assert_eq!(whole.status(), 200);
    let headers = whole.headers().clone();
    let etag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag.len(), 66, "the SHA-256 in quotes: {etag}");
    assert_eq!(headers["content-type"], "image/png");
    assert_eq!(
        headers["content-length"],
        picture.len().to_string().as_str()
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(
        headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert!(!headers.contains_key("content-disposition"));
    assert_eq!(whole.bytes().await.unwrap(), picture);

    let with = async |name: &'static str, value: &str| {
        server
            .client
            .get(server.url(&path))
            .header(name, value)
            .send()
            .await
            .unwrap()
    };
    let known = with("if-none-match", &etag).await;
    assert_eq!(
        (
            known.status().as_u16(),
            known.headers()["etag"].to_str().unwrap()
        ),
        (304, etag.as_str())
    );
    assert_eq!(known.bytes().await.unwrap().len(), 0);
    let part = with("range", "bytes=10-19").await;
    assert_eq!(part.status(), 206);
    assert_eq!(
        part.headers()["content-range"],
        format!("bytes 10-19/{}", picture.len()).as_str()
    );
    assert_eq!(part.bytes().await.unwrap(), picture[10..20]);
    let suffix = with("range", "bytes=-4").await;
    assert_eq!(suffix.bytes().await.unwrap(), picture[picture.len() - 4..]);
    let outside = with("range", "bytes=999999-").await;
    assert_eq!(
        (
            outside.status().as_u16(),
            outside.headers()["content-range"].to_str().unwrap()
        ),
        (416, format!("bytes */{}", picture.len()).as_str())
    );
    let changed = server
        .client
        .get(server.url(&path))
        .header("range", "bytes=0-3")
        .header("if-range", "\"other\"")
        .send()
        .await
        .unwrap();
    assert_eq!(
        changed.status(),
        200,
        "a range of another version is the whole of this one"
    );
    let head = server.client.head(server.url(&path)).send().await.unwrap();
    assert_eq!(
        (
            head.status().as_u16(),
            head.headers()["content-length"].to_str().unwrap()
        ),
        (200, picture.len().to_string().as_str())
    );

    let saved = server.get(&format!("{path}?download=1")).await;
    let disposition = saved.headers()["content-disposition"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        disposition,
        "attachment; filename=\"_ shirt.png\"; filename*=UTF-8''%E7%BA%A2%20shirt.png"
    );
    for (variant, media_type) in [
        ("original", "image/png"),
        ("thumbnail", "image/webp"),
        ("alpha", "image/png"),
    ] {
        let response = server
            .get(&format!("/api/v1/tasks/{id}/images/0/{variant}"))
            .await;
        assert_eq!(response.headers()["content-type"], media_type, "{variant}");
    }
    for wrong in [
        format!("/api/v1/tasks/{id}/images/1/result"),
        format!("/api/v1/tasks/{id}/images/0/other"),
        format!("/api/v1/tasks/{id}/images/x/result"),
    ] {
        assert_eq!(server.get(&wrong).await.status(), 404, "{wrong}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_longer_kept_is_gone() {
    let place = Place::new().await;
    let server = place.start().await;
    let picture = png(50, 40, [10, 20, 30, 255]);
    let id = upload(&server, &[("shirt.png", &picture)]).await;
    place
        .finish(id, &[place.result(&picture, "image/png", (50, 40)).await])
        .await;
    std::fs::remove_dir_all(place.folder.path().join("blobs")).unwrap();
    for variant in ["original", "result", "thumbnail", "alpha"] {
        let path = format!("/api/v1/tasks/{id}/images/0/{variant}");
        let response = server.get(&path).await;
        assert_eq!(response.status(), 410, "{variant}");
        let answer: Value = response.json().await.unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("this {variant} is no longer kept"))
                && message.contains("submit the picture again"),
            "{answer}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn what_could_run_is_never_served_as_what_it_is() {
    let place = Place::new().await;
    let server = place.start().await;
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
    let html = b"<!DOCTYPE html><script>alert(1)</script>";
    let id = upload(&server, &[("a.svg", svg), ("b.html", html)]).await;
    for index in 0..2 {
        let response = server
            .get(&format!("/api/v1/tasks/{id}/images/{index}/original"))
            .await;
        assert_eq!(
            response.headers()["content-type"],
            "application/octet-stream"
        );
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert!(
            response.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("sandbox")
        );
    }
    place
        .finish(
            id,
            &[
                place.result(svg, "image/svg+xml", (1, 1)).await,
                End::failure(ErrorCode::UnsupportedFormat),
            ],
        )
        .await;
    let response = server
        .get(&format!("/api/v1/tasks/{id}/images/0/result"))
        .await;
    assert_eq!(
        response.headers()["content-type"],
        "application/octet-stream",
        "a result that claims to be SVG"
    );
    server.stop().await;
}

#[tokio::test]
async fn an_archive_holds_every_result_under_its_own_name() {
    let place = Place::new().await;
    let server = place.start().await;
    let small = png(2, 2, [1, 2, 3, 255]);
    let large = vec![9_u8; 3 * 1024 * 1024];
    let one = upload(
        &server,
        &[
            ("shirt.jpg", b"x"),
            ("shirt.jpg", b"y"),
            ("broken.jpg", b"z"),
        ],
    )
    .await;
    let two = upload(&server, &[("../红.png", b"w")]).await;
    let none = upload(&server, &[("later.png", b"v")]).await;
    let small_end = async || place.result(&small, "image/png", (2, 2)).await;
    let failure = End::failure(ErrorCode::UndecodableImage);
    place
        .finish(
            one,
            &[
                small_end().await,
                place.result(&large, "image/webp", (2, 2)).await,
                failure,
            ],
        )
        .await;
    place.finish(two, &[small_end().await]).await;

    let response = server
        .get(&format!("/api/v1/archive?tasks={one},{two},{one},{none}"))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/zip");
    let bytes = response.bytes().await.unwrap().to_vec();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut found: Vec<(String, Vec<u8>)> = (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().to_owned(), content)
        })
        .collect();
    found.sort();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["shirt.png", "shirt.webp", "红.png"]);
    assert_eq!(found[0].1, small);
    assert_eq!(found[1].1, large);

    assert_eq!(
        server
            .get(&format!("/api/v1/archive?tasks={none}"))
            .await
            .status(),
        404
    );
    for query in ["", "?tasks=", "?tasks=,", "?tasks=x"] {
        assert!(
            server
                .get(&format!("/api/v1/archive{query}"))
                .await
                .status()
                .is_client_error(),
            "{query}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn the_archive_names_the_pictures_that_are_no_longer_kept() {
    let place = Place::new().await;
    let server = place.start().await;
    let id = upload(&server, &[("kept.jpg", b"x"), ("gone.jpg", b"y")]).await;
    let kept = place.result(&png(2, 2, [1; 4]), "image/png", (2, 2)).await;
    let End::Result(mut gone) = place.result(&png(3, 3, [2; 4]), "image/png", (3, 3)).await else {
        unreachable!()
    };
    gone.result.key = BlobKey::from_digest([7; 32]);
    place.finish(id, &[kept, End::Result(gone)]).await;

    let response = server.get(&format!("/api/v1/archive?tasks={id}")).await;
    let bytes = response.bytes().await.unwrap().to_vec();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut names: Vec<_> = archive.file_names().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["kept.png", "missing.txt"]);
    let mut missing = String::new();
    let mut file = archive.by_name("missing.txt").unwrap();
    file.read_to_string(&mut missing).unwrap();
    assert_eq!(
        missing,
        format!("gone.png: image 1 of the task {id} is no longer kept\n")
    );
    server.stop().await;
}

#[tokio::test]
async fn the_archive_of_a_lost_picture_breaks_off() {
    let place = Place::new().await;
    let server = place.start().await;
    let id = upload(&server, &[("a.jpg", b"x")]).await;
    let End::Result(mut result) = place.result(&png(2, 2, [1; 4]), "image/png", (2, 2)).await
    else {
        unreachable!()
    };
    result.result.bytes += 100;
    place.finish(id, &[End::Result(result)]).await;
    let response = server.get(&format!("/api/v1/archive?tasks={id}")).await;
    assert!(
        response.bytes().await.is_err(),
        "a part was handed out as the whole"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_task_shows_what_became_of_each_image() {
    let place = Place::new().await;
    let server = place.start().await;
    let id = upload(&server, &[("a.jpg", b"x"), ("b.jpg", b"y")]).await;
    place
        .finish(
            id,
            &[
                place.result(&png(2, 2, [1; 4]), "image/png", (2, 2)).await,
                End::failure(ErrorCode::UndecodableImage),
            ],
        )
        .await;
    let task: Value = server.json(&format!("/api/v1/tasks/{id}")).await;
    assert_eq!(task["status"], "completed");
    assert_eq!(task["summary"]["failureCount"], 1);
    let result = server
        .get(task["results"][0]["resultUrl"].as_str().unwrap())
        .await;
    assert_eq!(
        result.status(),
        200,
        "the address in the answer leads to the picture"
    );
    assert_eq!(task["results"][1]["error"]["code"], "undecodableImage");
    server.stop().await;
}
