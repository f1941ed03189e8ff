//! A server that does what it should not, on a free port of this machine.
// Not every test binary uses all of it.
#![allow(dead_code)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Bytes that stand in bodies and must never come out of an error.
pub const SECRET: &str = "internal-secret-7f3a";

/// A picture of the given size.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7) as u8, (y * 11) as u8, 90])
    });
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// The running server.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&seen)));
            }
        });
        Self {
            address,
            requests,
            accepting,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same place by a name.
    pub fn url_of_host(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(mut stream: TcpStream, requests: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let number = requests.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    // A client that hangs up early makes writing fail; that is its right.
    let _ = misbehave(&mut stream, &head, &path, number).await;
}

fn ok(length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn status(line: &str, extra: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {line}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n{SECRET}",
        SECRET.len()
    )
    .into_bytes()
}

async fn misbehave(
    stream: &mut TcpStream,
    head: &str,
    path: &str,
    number: usize,
) -> std::io::Result<()> {
    let picture = png(40, 30);
    let redirect = |to: &str| status("302 Found", &format!("Location: {to}\r\n"));
    let response = match path {
        "/good.png" => ok(picture.len(), &picture),
        "/other.png" => ok(png(31, 17).len(), &png(31, 17)),
        "/headers-are-ours" => {
            let lower = head.to_lowercase();
            let polite = lower.contains("user-agent: atelier/")
                && lower.contains("accept-encoding: identity")
                && !["cookie", "authorization", "referer"]
                    .iter()
                    .any(|name| lower.contains(&format!("\r\n{name}:")));
            if polite {
                ok(picture.len(), &picture)
            } else {
                status("400 Bad Request", "")
            }
        }
        "/shorter-than-it-says" => ok(picture.len() + 1_000, &picture),
        "/longer-than-it-says" => ok(picture.len() - 20, &picture),
        "/claims-a-terabyte" => ok(1 << 40, &picture),
        "/text" => ok(SECRET.len(), SECRET.as_bytes()),
        "/empty" => ok(0, b""),
        "/gzip" => {
            let zipped =
                b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48\xcd\xc9\xc9\x07\0\x86\xa6\x10\x36\x05\0\0\0";
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                zipped.len()
            );
            [head.as_bytes(), zipped].concat()
        }
        "/404" => status("404 internal-secret-7f3a", ""),
        "/503" => status("503 Service Unavailable", ""),
        "/429" => status("429 Too Many Requests", ""),
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/503-at-first" if number < 2 => status("503 Service Unavailable", ""),
        "/503-at-first" => ok(picture.len(), &picture),
        "/moved" => redirect("/good.png"),
        "/loop" => redirect("/loop"),
        "/nowhere" => status("302 Found", ""),
        "/hangs-up" => return Ok(()),
        "/no-http" => format!("220 {SECRET} ESMTP\r\n").into_bytes(),
        "/silent" => {
            stream.write_all(&ok(picture.len(), &picture[..20])).await?;
            return std::future::pending().await;
        }
        "/mute" => return std::future::pending().await,
        "/one-byte-at-a-time" => {
            stream.write_all(&ok(picture.len(), b"")).await?;
            for byte in picture {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return Ok(());
        }
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            stream.write_all(&picture).await?;
            loop {
                stream.write_all(&[0; 16_384]).await?;
            }
        }
        "/endless-header" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream
                    .write_all(b"X-More: and more and more and more\r\n")
                    .await?;
            }
        }
        to if to.starts_with("/to/") => redirect(&to[4..]),
        _ => status("404 Not Found", ""),
    };
    stream.write_all(&response).await?;
    stream.shutdown().await
}
