//! One client connection: frames in, answers out, in the order of the requests.
//!
//! A reader takes one frame after the other and starts its request; a writer sends the answers in the same order. Requests
//! that wait (fetch, join, a sync of the disk) wait in the writer, so the next frames are read meanwhile, up to a bound.
//! Invariant: memory grows with the bytes that have arrived, never with what a length field claims.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::routing;
use super::shape::ShapeError;
use crate::broker::Broker;

/// Requests of one connection that may wait for their answer.
const MAX_IN_FLIGHT: usize = 16;
/// Largest frame of anything but `Produce`.
const MAX_SMALL_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// A frame that has begun must have arrived after this long.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection without a request for this long is closed, as Kafka's are (`connections.max.idle.ms`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
const READ_STEP_BYTES: usize = 16 * 1024;

/// Why a connection was closed by the broker.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The length in front of a frame is out of bounds.
    #[error("a frame of {bytes} bytes was announced; the limit is {limit_bytes}")]
    FrameSize {
        /// What was announced.
        bytes: i64,
        /// What would have been taken.
        limit_bytes: usize,
    },
    /// Too few bytes for a request header.
    #[error("the request header is cut short or not text")]
    Header,
    /// Not served at all, or not in this version.
    #[error("request {key} version {version} is not served")]
    NotServed {
        /// Number of the request type.
        key: i16,
        /// Its version.
        version: i16,
    },
    /// The bytes do not have the shape of the request.
    #[error("request {key} version {version} is malformed: {reason}")]
    Shape {
        /// Number of the request type.
        key: i16,
        /// Its version.
        version: i16,
        /// What is wrong.
        reason: ShapeError,
    },
    /// The decoder refused the bytes.
    #[error("request {key} version {version} does not decode: {reason}")]
    Decode {
        /// Number of the request type.
        key: i16,
        /// Its version.
        version: i16,
        /// What is wrong.
        reason: String,
    },
    /// The answer holds what its version cannot say; a fault of the broker's own.
    #[error("the answer to request {key} version {version} does not encode: {reason}")]
    Encode {
        /// Number of the request type.
        key: i16,
        /// Its version.
        version: i16,
        /// What is wrong.
        reason: String,
    },
    /// A frame began and did not end.
    #[error("a frame did not arrive within {} seconds", FRAME_TIMEOUT.as_secs())]
    Slow,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// An answer to be: the whole frame, or nothing where the request wants none.
pub type Answer = BoxFuture<'static, Result<Option<BytesMut>, WireError>>;

/// Serves a connection until its client, a fault or the broker ends it.
pub async fn serve(stream: TcpStream, peer: SocketAddr, broker: Arc<Broker>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let (reader, mut writer) = stream.into_split();
    let (answers, mut queue) = mpsc::channel::<Answer>(MAX_IN_FLIGHT);
    let sending = async move {
        while let Some(answer) = queue.recv().await {
            if let Some(frame) = answer.await? {
                writer.write_all(&frame).await?;
            }
        }
        Ok(())
    };
    let reading = read_requests(reader, peer, &broker, &answers);
    let ended: Result<(), WireError> = tokio::select! {
        ended = reading => ended,
        ended = sending => ended,
    };
    match ended {
        Ok(()) => {}
        Err(WireError::Io(error)) => tracing::debug!(%peer, %error, "connection broke"),
        Err(error) => tracing::warn!(%peer, %error, "closing a connection"),
    }
}

async fn read_requests(
    mut reader: OwnedReadHalf,
    peer: SocketAddr,
    broker: &Arc<Broker>,
    answers: &mpsc::Sender<Answer>,
) -> Result<(), WireError> {
    let mut buffer = BytesMut::with_capacity(READ_STEP_BYTES);
    let limit_bytes = broker.options.max_request_bytes;
    loop {
        let Ok(frame) = timeout(
            IDLE_TIMEOUT,
            next_frame(&mut reader, &mut buffer, limit_bytes),
        )
        .await
        else {
            if answers.capacity() == MAX_IN_FLIGHT {
                tracing::debug!(%peer, "closing an idle connection");
                return Ok(());
            }
            continue;
        };
        let Some(frame) = frame? else {
            return Ok(());
        };
        let answer = routing::start(broker, peer, frame)?;
        if answers.send(answer).await.is_err() {
            return Ok(());
        }
    }
}

/// The next whole frame without its length; `None` at the end of the stream. Cancelled, it loses nothing: what has
/// arrived is in `buffer`.
async fn next_frame(
    reader: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    limit_bytes: usize,
) -> Result<Option<Bytes>, WireError> {
    while buffer.is_empty() {
        if read_more(reader, buffer).await? == 0 {
            return Ok(None);
        }
    }
    let rest = async {
        while buffer.len() < 6 {
            if read_more(reader, buffer).await? == 0 {
                return Ok(None);
            }
        }
        let announced = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        let is_produce = buffer[4..6] == [0, 0];
        let limit_bytes = if is_produce {
            limit_bytes
        } else {
            limit_bytes.min(MAX_SMALL_FRAME_BYTES)
        };
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| (2..=limit_bytes).contains(length));
        let length = length.ok_or(WireError::FrameSize {
            bytes: i64::from(announced),
            limit_bytes,
        })?;
        while buffer.len() < 4 + length {
            if read_more(reader, buffer).await? == 0 {
                return Ok(None);
            }
        }
        buffer.advance(4);
        Ok(Some(buffer.split_to(length).freeze()))
    };
    timeout(FRAME_TIMEOUT, rest)
        .await
        .unwrap_or(Err(WireError::Slow))
}

async fn read_more(
    reader: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
) -> Result<usize, std::io::Error> {
    buffer.reserve(READ_STEP_BYTES);
    reader.read_buf(buffer).await
}
