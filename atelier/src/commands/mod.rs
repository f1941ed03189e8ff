//! What each word of the command line does.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub mod bench;
pub mod cutout;
pub mod doctor;
pub mod gateway;
pub mod models;
pub mod replay;
pub mod stage;
pub mod sweep;
pub mod topics;
pub mod up;
pub mod watermark;

/// Cancelled by the first SIGTERM or Ctrl-C, to drain; the second ends the process at once.
///
/// # Errors
/// The system refuses the signal handlers.
pub fn shutdown_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be handled")?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                eprintln!(
                    "stopped at once, without draining; what was in flight is done again at the next start"
                );
                std::process::exit(130);
            }
            eprintln!("draining; once more to stop at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}
