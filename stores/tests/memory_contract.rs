//! Blobs in memory keep the contract of `Blobs`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use atelier_stores::{Blobs, blobs::MemoryBlobs, contract::BlobsPlace};

/// Memory is a place as long as the process lives.
struct Memory(Arc<MemoryBlobs>);

impl BlobsPlace for Memory {
    async fn fresh() -> Self {
        Self(Arc::new(MemoryBlobs::new()))
    }

    async fn open(&self) -> Arc<dyn Blobs> {
        self.0.clone()
    }
}

atelier_stores::blobs_contract!(Memory);
