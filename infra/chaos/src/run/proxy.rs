//! A TCP proxy before a server, whose connections can be cut, slowed and held.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// How connections are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As they should be.
    Pass,
    /// Broken, and new ones at once.
    Cut,
    /// Everything waits so long.
    Slow(Duration),
    /// Open, and nothing comes through.
    Hold,
}

/// Listens until it is dropped.
pub(super) struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: AbortHandle,
}

impl Proxy {
    /// One before the server that listens, or will, at `server`.
    pub fn start(listener: TcpListener, server: SocketAddr) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let (mode, seen) = watch::channel(Mode::Pass);
        let accepting = tokio::spawn(accept(listener, server, seen)).abort_handle();
        Ok(Self {
            address,
            mode,
            accepting,
        })
    }

    /// Treats all connections like this from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, mode: watch::Receiver<Mode>) {
    // Dropped with this future: the connections end with their listener.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if *mode.borrow() != Mode::Cut {
            connections.spawn(connect(client, server, mode.clone()));
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mode: watch::Receiver<Mode>) {
    // A server that is down is what the client is to see: its connection closes.
    let Ok(upstream) = TcpStream::connect(server).await else {
        return;
    };
    for stream in [&client, &upstream] {
        // Without it the proxy itself would slow small messages.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    let mut cut = mode.clone();
    tokio::select! {
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
        () = async {
            tokio::join!(
                pump(from_client, to_server, mode.clone()),
                pump(from_server, to_client, mode.clone()),
            );
        } => {}
    }
}

/// Passes bytes on until one side ends.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        let now = *mode.borrow();
        if let Mode::Slow(delay) = now {
            sleep(delay).await;
        }
        // An error is the end of the proxy itself.
        if mode.wait_for(|mode| *mode != Mode::Hold).await.is_err()
            || to.write_all(&buffer[..bytes]).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn proxy() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Proxy::start(listener, echo().await).unwrap()
    }

    async fn answers(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok()
            && matches!(timeout(LONG, stream.read(&mut byte)).await, Ok(Ok(1)))
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_over() {
        let proxy = proxy().await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert!(answers(&mut stream).await);
        proxy.set(Mode::Cut);
        assert!(!answers(&mut stream).await);
        let mut refused = TcpStream::connect(proxy.address).await.unwrap();
        assert!(!answers(&mut refused).await);
        proxy.set(Mode::Pass);
        let mut again = TcpStream::connect(proxy.address).await.unwrap();
        assert!(answers(&mut again).await);
    }

    #[tokio::test]
    async fn a_held_connection_stays_open_and_goes_on() {
        let proxy = proxy().await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert!(answers(&mut stream).await);
        proxy.set(Mode::Hold);
        stream.write_all(b"y").await.unwrap();
        let mut byte = [0];
        assert!(timeout(SHORT, stream.read(&mut byte)).await.is_err());
        proxy.set(Mode::Pass);
        assert_eq!(
            timeout(LONG, stream.read(&mut byte))
                .await
                .unwrap()
                .unwrap(),
            1
        );
    }

    #[tokio::test]
    async fn a_slowed_connection_answers_later() {
        let proxy = proxy().await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        proxy.set(Mode::Slow(SHORT));
        let since = std::time::Instant::now();
        assert!(answers(&mut stream).await);
        assert!(since.elapsed() >= 2 * SHORT);
    }
}
