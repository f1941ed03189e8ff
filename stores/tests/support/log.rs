//! What a test's own thread logs.

use std::{
    io,
    sync::{Arc, Mutex, Once},
};

use tracing::{Level, subscriber::DefaultGuard};

/// Whether somebody listens to every thread.
static SOMEBODY: Once = Once::new();

/// Catches every line, at every level, until it is dropped.
pub struct Log {
    lines: Lines,
    _catching: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What this thread logs from now on.
    pub fn of_this_thread() -> Self {
        // A line that another thread logs for the first time just now would be taken for one that nobody wants, and stay so
        // (tracing registers a line's place in two steps): somebody who wants every line is there from the first test on.
        SOMEBODY.call_once(|| {
            let everything = tracing_subscriber::fmt()
                .with_max_level(Level::TRACE)
                .with_writer(io::sink)
                .finish();
            tracing::subscriber::set_global_default(everything).unwrap();
        });
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            lines,
            _catching: tracing::subscriber::set_default(subscriber),
        }
    }

    /// What was caught so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
