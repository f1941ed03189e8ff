//! Jaeger, with traces in memory.

use crate::{Folder, free_ports, is_installed};

/// A server of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Jaeger {
    // Ends the server.
    _folder: Folder,
    port: u16,
}

impl Jaeger {
    /// Starts one. `None` where it is not installed.
    pub fn start() -> Option<Self> {
        if !is_installed("jaeger") {
            return None;
        }
        let port = free_ports(5);
        let mut folder = Folder::new();
        folder.environment = vec![("JAEGER_PORT".to_owned(), port.to_string())];
        folder.script(&["start", "jaeger"]);
        Some(Self {
            _folder: folder,
            port,
        })
    }

    /// Where it takes traces, as the setting wants it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 1)
    }

    /// Where it answers questions.
    pub fn query_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
