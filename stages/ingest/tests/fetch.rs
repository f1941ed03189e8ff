//! Hostile addresses, names and servers.
#![allow(clippy::unwrap_used)]

mod server;

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use atelier_ingest::{
    FetchError, FetchOptions, Fetcher, HeaderError, IngestError, Resolver, SystemResolver,
};
use atelier_runtime::{Failure, FailureClass};
use atelier_schemas::{BlobKey, ErrorCode};
use atelier_stores::{BlobError, Blobs, blobs::MemoryBlobs};
use bytes::Bytes;
use server::{SECRET, Server, png};
use tokio::io::AsyncRead;

const MAX_BYTES: u64 = 200_000;

fn options() -> FetchOptions {
    FetchOptions {
        total_timeout_ms: 1_500,
        min_rate_bytes_per_second: 2_000,
        min_rate_grace_ms: 300,
        allow_addresses: vec!["127.0.0.0/8".parse().unwrap()],
        ..FetchOptions::default()
    }
}

fn fetcher(options: FetchOptions) -> Fetcher {
    Fetcher::new(options, MAX_BYTES, Arc::new(SystemResolver)).unwrap()
}

/// Fetches, and holds every failure to: bounded in time, nothing stored, nothing of the body in the message.
async fn refused(fetcher: &Fetcher, url: &str) -> IngestError {
    let blobs = MemoryBlobs::new();
    let begun_at = Instant::now();
    let error = fetcher.fetch(url, &blobs).await.unwrap_err();
    assert!(
        begun_at.elapsed() < Duration::from_secs(20),
        "{url} took {:?}",
        begun_at.elapsed()
    );
    assert_eq!(blobs.held_bytes(), 0, "{url} left something behind");
    assert!(!error.to_string().contains(SECRET), "{url}: {error}");
    error
}

fn failure(error: IngestError) -> (FailureClass, ErrorCode) {
    let failure = Failure::from(error);
    assert!(
        !failure.body.message.contains(SECRET),
        "{}",
        failure.body.message
    );
    (failure.class, failure.body.code)
}

#[tokio::test]
async fn a_picture_is_fetched_whatever_its_content_type_says() {
    let server = Server::start().await;
    for path in ["/good.png", "/moved", "/headers-are-ours"] {
        let blobs = MemoryBlobs::new();
        let fetched = fetcher(options())
            .fetch(&server.url(path), &blobs)
            .await
            .unwrap();
        assert_eq!(
            blobs.get(&fetched.key).await.unwrap(),
            png(40, 30),
            "{path}"
        );
        assert_eq!(fetched.bytes, png(40, 30).len() as u64);
    }
}

/// A store that needs longer for each blob than a source may take.
struct Slow(MemoryBlobs);

#[async_trait]
impl Blobs for Slow {
    async fn put(&self, bytes: Bytes) -> Result<BlobKey, BlobError> {
        self.0.put(bytes).await
    }

    async fn put_reader(
        &self,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        limit_bytes: u64,
    ) -> Result<(BlobKey, u64), BlobError> {
        let stored = self.0.put_reader(reader, limit_bytes).await;
        tokio::time::sleep(Duration::from_millis(2 * options().total_timeout_ms)).await;
        stored
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, BlobError> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.0.get_range(key, range).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        self.0.size(key).await
    }

    async fn check(&self) -> Result<(), BlobError> {
        self.0.check().await
    }
}

#[tokio::test]
async fn a_slow_store_is_not_the_source_s_fault() {
    let server = Server::start().await;
    let blobs = Slow(MemoryBlobs::new());
    let fetched = fetcher(options())
        .fetch(&server.url("/good.png"), &blobs)
        .await
        .unwrap();
    assert_eq!(blobs.get(&fetched.key).await.unwrap(), png(40, 30));
}

#[tokio::test]
async fn each_misbehaviour_has_its_verdict() {
    use ErrorCode::{FetchFailed, FetchTimedOut, ImageTooLarge, UnsupportedFormat};
    use FailureClass::{Permanent, Transient};
    let server = Server::start().await;
    let fetcher = fetcher(options());
    for (path, expected) in [
        ("/shorter-than-it-says", (Transient, FetchFailed)),
        ("/claims-a-terabyte", (Permanent, ImageTooLarge)),
        ("/endless", (Permanent, ImageTooLarge)),
        ("/text", (Permanent, UnsupportedFormat)),
        ("/empty", (Permanent, UnsupportedFormat)),
        ("/gzip", (Permanent, UnsupportedFormat)),
        ("/404", (Permanent, FetchFailed)),
        ("/204", (Permanent, FetchFailed)),
        ("/503", (Transient, FetchFailed)),
        ("/429", (Transient, FetchFailed)),
        ("/loop", (Permanent, FetchFailed)),
        ("/nowhere", (Permanent, FetchFailed)),
        ("/hangs-up", (Transient, FetchFailed)),
        ("/no-http", (Transient, FetchFailed)),
        ("/endless-header", (Transient, FetchFailed)),
        ("/silent", (Transient, FetchTimedOut)),
        ("/mute", (Transient, FetchTimedOut)),
        ("/one-byte-at-a-time", (Transient, FetchTimedOut)),
    ] {
        assert_eq!(
            failure(refused(&fetcher, &server.url(path)).await),
            expected,
            "{path}"
        );
    }
}

#[tokio::test]
async fn errors_say_what_and_where() {
    let server = Server::start().await;
    let fetcher = fetcher(options());
    let status = refused(&fetcher, &server.url("/503")).await;
    assert_eq!(status.to_string(), "`127.0.0.1` answered with status 503");
    let slow = refused(&fetcher, &server.url("/one-byte-at-a-time")).await;
    assert!(
        matches!(
            slow,
            IngestError::Fetch(FetchError::TooSlow {
                min_bytes_per_second: 2_000,
                ..
            })
        ),
        "{slow}"
    );
    let looped = refused(&fetcher, &server.url("/loop")).await;
    assert!(
        matches!(
            looped,
            IngestError::Fetch(FetchError::TooManyRedirects { limit: 5, .. })
        ),
        "{looped}"
    );
    let text = refused(&fetcher, &server.url("/text")).await;
    assert!(
        matches!(text, IngestError::Header(HeaderError::UnknownFormat { .. })),
        "{text}"
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = refused(&fetcher, &format!("http://{closed}/x")).await;
    assert!(
        refused.to_string().contains("Connection refused"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_longer_than_it_says_is_cut_where_it_says() {
    let server = Server::start().await;
    let blobs = MemoryBlobs::new();
    let fetched = fetcher(options())
        .fetch(&server.url("/longer-than-it-says"), &blobs)
        .await
        .unwrap();
    let claimed = png(40, 30).len() - 20;
    assert_eq!(
        blobs.get(&fetched.key).await.unwrap(),
        png(40, 30)[..claimed]
    );
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_before_any_connection() {
    let server = Server::start().await;
    let fetcher = fetcher(FetchOptions {
        allow_addresses: Vec::new(),
        ..options()
    });
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "127.0.0.1.",
        "１２７.０.０.１",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "[fec0::1]",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "192.0.2.1",
        "[2001:db8::1]",
    ] {
        let error = refused(&fetcher, &format!("http://{host}:{port}/good.png")).await;
        assert!(
            matches!(error, IngestError::Fetch(FetchError::Forbidden { .. })),
            "{host}: {error}"
        );
        assert_eq!(
            failure(error),
            (FailureClass::Permanent, ErrorCode::AddressForbidden),
            "{host}"
        );
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn only_http_without_credentials_is_fetched() {
    let server = Server::start().await;
    let fetcher = fetcher(options());
    for url in [
        "file:///etc/passwd".to_owned(),
        "ftp://127.0.0.1/x.png".to_owned(),
        "gopher://127.0.0.1:70/x".to_owned(),
        "data:image/png;base64,AAAA".to_owned(),
        "blob:http://127.0.0.1/x".to_owned(),
        "javascript:alert(1)".to_owned(),
        "//127.0.0.1/x.png".to_owned(),
        "x.png".to_owned(),
        String::new(),
        "http://".to_owned(),
        "http://[::1/x".to_owned(),
        "http://127.0.0.1:99999/x".to_owned(),
        format!("http://user@{}/good.png", server.address),
        format!("http://user:password@{}/good.png", server.address),
        format!("http://:password@{}/good.png", server.address),
    ] {
        let error = refused(&fetcher, &url).await;
        assert!(!error.to_string().contains("password@"), "{error}");
        assert_eq!(
            failure(error),
            (FailureClass::Permanent, ErrorCode::AddressForbidden),
            "{url}"
        );
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn redirects_are_checked_as_the_first_address_is() {
    let server = Server::start().await;
    let fetcher = fetcher(options());
    for target in [
        "http://10.0.0.1/x.png",
        "http://0x0a000001/x.png",
        "http://[::ffff:10.0.0.1]/x.png",
        "http://169.254.169.254/latest/meta-data/",
        "//192.168.0.1/x.png",
        "https://[fd00::1]/x.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x.png",
        "http://user:password@127.0.0.1/x.png",
    ] {
        let error = refused(&fetcher, &server.url(&format!("/to/{target}"))).await;
        assert_eq!(
            failure(error),
            (FailureClass::Permanent, ErrorCode::AddressForbidden),
            "{target}"
        );
    }
    assert_eq!(server.requests(), 9);
}

#[tokio::test]
async fn ports_can_be_limited() {
    let server = Server::start().await;
    let limited = fetcher(FetchOptions {
        allow_ports: vec![443],
        ..options()
    });
    let error = refused(&limited, &server.url("/good.png")).await;
    assert_eq!(
        failure(error),
        (FailureClass::Permanent, ErrorCode::AddressForbidden)
    );
    let open = fetcher(FetchOptions {
        allow_ports: vec![443, server.address.port()],
        ..options()
    });
    open.fetch(&server.url("/good.png"), &MemoryBlobs::new())
        .await
        .unwrap();
}

/// Answers each look-up with the next list of addresses, the last one for ever.
struct Changing(Mutex<VecDeque<Vec<IpAddr>>>, Mutex<usize>);

impl Changing {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| {
            answer
                .iter()
                .map(|address| address.parse().unwrap())
                .collect()
        };
        Arc::new(Self(
            Mutex::new(answers.iter().map(parse).collect()),
            Mutex::new(0),
        ))
    }

    fn looked_up(&self) -> usize {
        *self.1.lock().unwrap()
    }
}

#[async_trait]
impl Resolver for Changing {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        *self.1.lock().unwrap() += 1;
        let mut answers = self.0.lock().unwrap();
        Ok(if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            answers.front().cloned().unwrap_or_default()
        })
    }
}

#[tokio::test]
async fn a_name_that_changes_between_check_and_use_gains_nothing() {
    let server = Server::start().await;
    let only_this = FetchOptions {
        allow_addresses: vec!["127.0.0.1".parse().unwrap()],
        ..options()
    };
    let resolver = Changing::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let fetcher = Fetcher::new(only_this, MAX_BYTES, resolver.clone()).unwrap();
    let url = server.url_of_host("pictures.example", "/good.png");
    // The one answer that was checked is the one that is connected to.
    fetcher.fetch(&url, &MemoryBlobs::new()).await.unwrap();
    assert_eq!((resolver.looked_up(), server.requests()), (1, 1));
    // The next connection asks again, and is checked again.
    let error = refused(&fetcher, &url).await;
    assert_eq!(
        failure(error),
        (FailureClass::Permanent, ErrorCode::AddressForbidden)
    );
    assert_eq!((resolver.looked_up(), server.requests()), (2, 1));
}

#[tokio::test]
async fn a_name_with_any_private_address_is_refused() {
    let server = Server::start().await;
    for answers in [
        &["10.0.0.1"][..],
        &["127.0.0.1", "10.0.0.1"],
        &["127.0.0.1", "::ffff:192.168.1.1"],
        &["fe80::1"],
    ] {
        let fetcher = Fetcher::new(options(), MAX_BYTES, Changing::new(&[answers])).unwrap();
        let error = refused(
            &fetcher,
            &server.url_of_host("pictures.example", "/good.png"),
        )
        .await;
        assert_eq!(
            failure(error),
            (FailureClass::Permanent, ErrorCode::AddressForbidden),
            "{answers:?}"
        );
    }
    let redirected = Fetcher::new(options(), MAX_BYTES, Changing::new(&[&["10.0.0.1"]])).unwrap();
    let error = refused(&redirected, &server.url("/to/http://inside.example/x.png")).await;
    assert_eq!(
        failure(error),
        (FailureClass::Permanent, ErrorCode::AddressForbidden)
    );
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_unknown_name_may_be_known_later() {
    let fetcher = Fetcher::new(options(), MAX_BYTES, Changing::new(&[&[]])).unwrap();
    let error = refused(&fetcher, "http://nobody.example/x.png").await;
    assert!(error.to_string().contains("nobody.example"), "{error}");
    assert_eq!(
        failure(error),
        (FailureClass::Transient, ErrorCode::FetchFailed)
    );
}

/// Every odd way to write an address that browsers know: none gets past the checks when names lead to loopback.
#[tokio::test]
async fn no_address_of_the_web_platform_tests_gets_inside() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/conformance/url_wpt/url/tests/urltestdata.json");
    let Ok(text) = std::fs::read_to_string(&data) else {
        eprintln!("skipped: no data");
        return;
    };
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let resolver = Changing::new(&[&["127.0.0.1"]]);
    let fetcher = Fetcher::new(
        FetchOptions {
            allow_addresses: Vec::new(),
            ..options()
        },
        MAX_BYTES,
        resolver,
    )
    .unwrap();
    let (mut checked, mut unexpected) = (0, Vec::new());
    for case in cases.iter().filter(|case| case.is_object()) {
        let inputs = [case["input"].as_str(), case["href"].as_str()];
        for url in inputs.into_iter().flatten() {
            // The only public addresses in the list; asking them would leave this machine.
            let parsed = url::Url::parse(url).ok();
            let host = parsed.as_ref().and_then(|url| url.host_str());
            if matches!(host, Some("59.154.201.255" | "1.2.3.4")) {
                continue;
            }
            let verdict = failure(refused(&fetcher, url).await);
            if verdict != (FailureClass::Permanent, ErrorCode::AddressForbidden) {
                unexpected.push((url.to_owned(), verdict));
            }
            checked += 1;
        }
    }
    assert_eq!(unexpected, []);
    assert!(checked > 1_000, "{checked}");
}
