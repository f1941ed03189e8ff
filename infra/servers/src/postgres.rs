//! PostgreSQL, with a database for Atelier.

use std::fs;

use crate::{Folder, Frozen, free_ports, is_installed};

/// A server of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    folder: Folder,
    port: u16,
}

impl Postgres {
    /// Starts one. `None` where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        if !is_installed("postgres") {
            return None;
        }
        let port = free_ports(1);
        let mut folder = Folder::new();
        folder.environment = vec![("POSTGRES_PORT".to_owned(), port.to_string())];
        // It runs as another user, who must reach its folder.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&folder.path, permissions).unwrap();
        let postgres = Self { folder, port };
        postgres.run();
        Some(postgres)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of user `atelier`, whose database is `atelier`.
    pub fn password(&self) -> String {
        fs::read_to_string(self.folder.path.join("postgres/password")).unwrap()
    }

    /// Starts it, on what is there.
    pub fn run(&self) {
        self.folder.script(&["start", "postgres"]);
    }

    /// SIGKILL, as a crash.
    pub fn kill(&self) {
        self.folder.script(&["kill", "postgres"]);
    }

    /// Stops its first process where it stands, until [`Frozen`] is dropped: those that serve connections go on, new ones
    /// wait.
    pub fn freeze(&self) -> Frozen {
        self.folder.freeze(&["postgres"])
    }
}
