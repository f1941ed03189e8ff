//! Redis, the server of the cache.

use crate::{Folder, Frozen, free_ports, is_installed};

/// A server of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    folder: Folder,
    port: u16,
}

impl Redis {
    /// Starts one. `None` where Redis is not installed.
    pub fn start() -> Option<Self> {
        if !is_installed("redis") {
            return None;
        }
        let port = free_ports(1);
        let mut folder = Folder::new();
        folder.environment = vec![("REDIS_PORT".to_owned(), port.to_string())];
        let redis = Self { folder, port };
        redis.run();
        Some(redis)
    }

    /// Where it is, without user and password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, on what is there.
    pub fn run(&self) {
        self.folder.script(&["start", "redis"]);
    }

    /// SIGKILL, as a crash.
    pub fn kill(&self) {
        self.folder.script(&["kill", "redis"]);
    }

    /// Stops it where it stands, until [`Frozen`] is dropped.
    pub fn freeze(&self) -> Frozen {
        self.folder.freeze(&["redis"])
    }
}
