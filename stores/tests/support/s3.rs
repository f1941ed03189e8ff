//! An S3 server inside the test's own process, on a free loopback port and a temporary folder, which can be told to
//! misbehave.
#![allow(dead_code)]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_LENGTH, DATE, HeaderValue},
    http::response::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use s3s::{
    Body,
    auth::SimpleAuth,
    dto::StreamingBlob,
    service::{S3Service, S3ServiceBuilder},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{RwLock, oneshot},
};

pub const BUCKET: &str = atelier_servers::S3::BUCKET;
pub const ACCESS_KEY: &str = "maker";
pub const SECRET_KEY: &str = "s3cret-of-tests";

/// What the server does instead of its work.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status, code and message.
    Refuse(u16, &'static str, &'static str),
    /// The same from a server whose clock is this many seconds behind.
    RefuseWithClockBehind(u16, &'static str, u64),
    /// Takes the request and never answers.
    Silence,
    /// Does its work and closes the connection instead of answering.
    LoseAnswer,
    /// Answers with half of the body, then closes the connection.
    CutBody,
    /// Answers a body in pieces of this many bytes, with this pause before each.
    Trickle(usize, Duration),
}

/// A request as a fault is chosen by it.
pub struct Asked<'a> {
    pub method: &'a str,
    /// `/bucket/key`.
    pub path: &'a str,
    /// Without the `?`.
    pub query: &'a str,
}

type Faults = Arc<Mutex<Box<dyn FnMut(&Asked<'_>) -> Option<Fault> + Send>>>;

/// A running server; dropping it stops it and removes its files.
pub struct Server {
    folder: TempDir,
    address: SocketAddr,
    faults: Faults,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let faults: Faults = Arc::new(Mutex::new(Box::new(|_| None)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let chosen = Arc::clone(&faults);
        // A runtime of its own: each test has one, and some have none.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(listener, service, chosen, stopped));
            runtime.shutdown_background();
        });
        Self {
            folder,
            address,
            faults,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The folder in which the server keeps the bucket's objects by their names.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Asks `choose` at each request from now on.
    pub fn faults(&self, choose: impl FnMut(&Asked<'_>) -> Option<Fault> + Send + 'static) {
        *self.faults.lock().unwrap() = Box::new(choose);
    }

    pub fn no_faults(&self) {
        self.faults(|_| None);
    }

    /// Files that belong to unfinished uploads.
    pub fn unfinished_files(&self) -> usize {
        fs::read_dir(self.folder.path())
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with(".upload")
            })
            .count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The objects in the folder of a bucket, none where there is no such folder.
pub fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap())
    {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(objects(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

async fn serve(
    listener: std::net::TcpListener,
    service: S3Service,
    faults: Faults,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let copying = Arc::new(RwLock::new(()));
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            _ = &mut stopped => return,
        };
        // A body goes out in small pieces, which would wait for each other's acknowledgement.
        stream.set_nodelay(true).unwrap();
        let (service, faults) = (service.clone(), Arc::clone(&faults));
        let copying = Arc::clone(&copying);
        let answer = service_fn(move |request| {
            answer(
                request,
                service.clone(),
                Arc::clone(&faults),
                Arc::clone(&copying),
            )
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// `Err` closes the connection.
async fn answer(
    request: Request<Incoming>,
    service: S3Service,
    faults: Faults,
    copying: Arc<RwLock<()>>,
) -> Result<Response<Body>, std::io::Error> {
    let asked = Asked {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
    };
    let fault = (faults.lock().unwrap())(&asked);
    let refuse = |status: u16, code: &str, message: &str| {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    match fault {
        Some(Fault::Refuse(status, code, message)) => {
            drain(request.into_body()).await;
            return Ok(refuse(status, code, message));
        }
        Some(Fault::RefuseWithClockBehind(status, code, seconds)) => {
            drain(request.into_body()).await;
            let mut response = refuse(status, code, "the clocks differ");
            let clock = std::time::SystemTime::now() - Duration::from_secs(seconds);
            let date = chrono::DateTime::<chrono::Utc>::from(clock)
                .format("%a, %d %b %Y %H:%M:%S GMT")
                .to_string();
            response
                .headers_mut()
                .insert(DATE, HeaderValue::from_str(&date).unwrap());
            return Ok(response);
        }
        Some(Fault::Silence) => {
            drain(request.into_body()).await;
            return std::future::pending().await;
        }
        _ => {}
    }
    // An object of S3 is whole or not there, but s3s-fs copies in place: nobody may look meanwhile.
    let is_copy = request.headers().contains_key("x-amz-copy-source");
    let response = if is_copy {
        let _alone = copying.write().await;
        service.call(request.map(Body::from)).await
    } else {
        let _beside = copying.read().await;
        let response = service.call(request.map(Body::from)).await;
        match response {
            Ok(response) => {
                let (parts, whole) = read(response).await;
                Ok(Response::from_parts(parts, Body::from(whole)))
            }
            failed => failed,
        }
    };
    let response = response.map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    match fault {
        Some(Fault::LoseAnswer) => Err(std::io::Error::other("lost")),
        Some(Fault::CutBody) => Ok(in_pieces(response, None, Duration::ZERO).await),
        Some(Fault::Trickle(bytes, pause)) => Ok(in_pieces(response, Some(bytes), pause).await),
        _ => Ok(response),
    }
}

async fn drain(body: Incoming) {
    let mut body = StreamingBlob::from(Body::from(body));
    while let Some(Ok(_)) = body.next().await {}
}

/// The answer with all of its body.
async fn read(response: Response<Body>) -> (Parts, Bytes) {
    let (parts, body) = response.into_parts();
    let mut whole = Vec::new();
    let mut body = StreamingBlob::from(body);
    while let Some(Ok(bytes)) = body.next().await {
        whole.extend_from_slice(&bytes);
    }
    (parts, whole.into())
}

/// The same answer in pieces; without a size of the pieces its first half, and then the end of the connection.
async fn in_pieces(
    response: Response<Body>,
    piece_bytes: Option<usize>,
    pause: Duration,
) -> Response<Body> {
    let (mut parts, whole) = read(response).await;
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = whole.len() / 2;
    let pieces: Vec<Result<Bytes, std::io::Error>> = match piece_bytes {
        Some(bytes) => whole
            .chunks(bytes)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect(),
        None => vec![
            Ok(Bytes::copy_from_slice(&whole[..half])),
            Err(std::io::Error::other("cut")),
        ],
    };
    let stream = futures::stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        piece
    });
    Response::from_parts(parts, Body::from(StreamingBlob::wrap(stream)))
}
