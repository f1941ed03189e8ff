//! versitygw, an S3 server on a folder.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::{Folder, Frozen, free_ports, is_installed};

/// A server of its own. Dropping it ends it.
#[derive(Debug)]
pub struct S3 {
    folder: Folder,
    data: PathBuf,
    port: u16,
}

impl S3 {
    /// The bucket that it has.
    pub const BUCKET: &str = "atelier";

    /// Whether it is installed.
    pub fn is_installed() -> bool {
        is_installed("s3")
    }

    /// Starts one whose owner has these keys. It keeps its objects in `data`, or in a folder of its own.
    ///
    /// # Panics
    /// Where it does not start; ask [`S3::is_installed`] first.
    pub fn start(access_key: &str, secret_key: &str, data: Option<&Path>) -> Self {
        let port = free_ports(1);
        let mut folder = Folder::new();
        let own = folder.path.join("s3");
        let data = data.map_or_else(|| own.join("data"), Path::to_owned);
        fs::create_dir(&own).unwrap();
        let mut keys = fs::File::options();
        keys.create(true).write(true).mode(0o600);
        std::io::Write::write_all(
            &mut keys.open(own.join("keys")).unwrap(),
            format!("{access_key} {secret_key}\n").as_bytes(),
        )
        .unwrap();
        folder.environment = vec![
            ("S3_PORT".to_owned(), port.to_string()),
            ("S3_DATA".to_owned(), data.display().to_string()),
        ];
        let s3 = Self { folder, data, port };
        s3.run();
        s3
    }

    /// Starts it, on what is there.
    pub fn run(&self) {
        self.folder.script(&["start", "s3"]);
    }

    /// SIGKILL, as a crash.
    pub fn kill(&self) {
        self.folder.script(&["kill", "s3"]);
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder in which it keeps the bucket's objects by their names.
    pub fn bucket(&self) -> PathBuf {
        self.data.join(Self::BUCKET)
    }

    /// Uploads in parts that were begun and not ended.
    pub fn unfinished_uploads(&self) -> usize {
        // One folder for each key, and in it one for each upload.
        let keys = fs::read_dir(self.bucket().join(".sgwtmp/multipart"));
        let uploads = keys
            .into_iter()
            .flatten()
            .filter_map(|key| fs::read_dir(key.unwrap().path()).ok());
        uploads.map(Iterator::count).sum()
    }

    /// Stops it where it stands, until [`Frozen`] is dropped.
    pub fn freeze(&self) -> Frozen {
        self.folder.freeze(&["s3"])
    }
}
