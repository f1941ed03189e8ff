//! Gives up on a sender that is silent, or only keeps the connection busy.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep},
};

/// The source is slower than it may be.
#[derive(Debug, thiserror::Error)]
#[error("too slow")]
pub(super) struct TooSlow;

/// The source has not ended in time.
#[derive(Debug, thiserror::Error)]
#[error("timed out")]
pub(super) struct OutOfTime;

/// A reader that fails when its source, after a grace, has sent less than a rate would have, or keeps its reader waiting
/// past a deadline. What the reader does with the bytes takes no time of the source's.
pub(super) struct Paced<R> {
    source: R,
    started_at: Instant,
    deadline: Pin<Box<Sleep>>,
    grace: Duration,
    min_bytes_per_second: u64,
    received_bytes: u64,
}

impl<R> Paced<R> {
    pub(super) fn new(
        source: R,
        deadline: Instant,
        grace: Duration,
        min_bytes_per_second: u64,
    ) -> Self {
        Self {
            source,
            started_at: Instant::now(),
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
            grace,
            min_bytes_per_second,
            received_bytes: 0,
        }
    }

    fn is_too_slow(&self) -> bool {
        let elapsed = self.started_at.elapsed();
        elapsed > self.grace
            && (self.received_bytes as f64)
                < elapsed.as_secs_f64() * self.min_bytes_per_second as f64
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Paced<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.source).poll_read(context, buffer);
        let received = buffer.filled().len() - before;
        self.received_bytes += received as u64;
        // Only what trickles is measured: silence runs into the deadline, and an end is an end.
        if received > 0 && self.is_too_slow() {
            return Poll::Ready(Err(io::Error::other(TooSlow)));
        }
        if polled.is_pending() && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::other(OutOfTime)));
        }
        polled
    }
}
