//! The directory keeps the contract of `Blobs`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use atelier_stores::{
    Blobs, BlobsOptions, SweepableBlobs,
    contract::{BlobsPlace, SweepablePlace},
    open_blobs,
};
use tempfile::TempDir;

struct Folder(TempDir);

impl BlobsPlace for Folder {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Blobs> {
        self.open_to_sweep().await
    }
}

impl SweepablePlace for Folder {
    async fn open_to_sweep(&self) -> Arc<dyn SweepableBlobs> {
        let options = BlobsOptions {
            min_free_bytes: 0,
            verify_on_read: true,
            ..BlobsOptions::default()
        };
        open_blobs(&format!("file://{}", self.0.path().display()), &options)
            .await
            .unwrap()
    }
}

atelier_stores::blobs_contract!(Folder);
atelier_stores::sweep_contract!(Folder);
