//! Memory while a large upload passes through. A process of its own, so that nothing else grows meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Shared with the other tests, which use what is not used here.
#[allow(dead_code)]
#[path = "gateway/common.rs"]
mod common;

use common::Place;

#[tokio::test]
async fn an_80_mb_upload_is_refused_without_being_held() {
    let place = Place::new().await;
    let server = place.start().await;
    let before = resident_bytes();
    let head =
        b"--B\r\nContent-Disposition: form-data; name=\"images\"; filename=\"a.png\"\r\n\r\n"
            .to_vec();
    let piece = bytes::Bytes::from(vec![42_u8; 64 * 1024]);
    let pieces =
        std::iter::once(bytes::Bytes::from(head)).chain(std::iter::repeat_n(piece, 80 * 16));
    let body =
        reqwest::Body::wrap_stream(futures::stream::iter(pieces.map(Ok::<_, std::io::Error>)));
    let request = server
        .client
        .post(server.url("/api/v1/tasks"))
        .header("content-type", "multipart/form-data; boundary=B");
    let response = request.body(body).send().await.unwrap();
    assert_eq!(response.status(), 413);
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "imageTooLarge");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 30 * 1024 * 1024, "memory grew by {grown} bytes");
    let left: Vec<_> = walk(&place.folder.path().join("blobs"));
    assert!(
        left.iter().all(|bytes| *bytes < 1024 * 1024),
        "something of it was kept: {left:?}"
    );
    server.stop().await;
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or("0 kB");
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap_or(0)
        * 1024
}

fn walk(folder: &std::path::Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().collect::<Vec<_>>())
        .unwrap_or_default();
    let sizes = entries.iter().flat_map(|entry| {
        if entry.path().is_dir() {
            walk(&entry.path())
        } else {
            vec![entry.metadata().map_or(0, |metadata| metadata.len())]
        }
    });
    sizes.collect()
}
