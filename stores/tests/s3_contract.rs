//! S3 keeps the contract of `Blobs`: on a server inside this process, and on versitygw where that is installed.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use atelier_servers::S3;
use atelier_stores::{
    Blobs, SweepableBlobs,
    contract::{BlobsPlace, SweepablePlace},
};
use support::s3_blobs::{open, options};

mod in_process {
    use super::{
        Arc, Blobs, BlobsPlace, SweepableBlobs, SweepablePlace, open, options, support::s3::Server,
    };

    struct InProcess(Server);

    impl BlobsPlace for InProcess {
        async fn fresh() -> Self {
            Self(Server::start())
        }

        async fn open(&self) -> Arc<dyn Blobs> {
            self.open_to_sweep().await
        }
    }

    impl SweepablePlace for InProcess {
        async fn open_to_sweep(&self) -> Arc<dyn SweepableBlobs> {
            Arc::new(open(options(&self.0.endpoint())).await)
        }
    }

    atelier_stores::blobs_contract!(InProcess);
    atelier_stores::sweep_contract!(InProcess);
}

mod real {
    use super::{
        Arc, Blobs, BlobsPlace, S3, SweepableBlobs, SweepablePlace, open, options,
        support::s3::{ACCESS_KEY, SECRET_KEY},
    };

    struct Real(S3);

    impl BlobsPlace for Real {
        async fn fresh() -> Self {
            Self(S3::start(ACCESS_KEY, SECRET_KEY, None))
        }

        async fn open(&self) -> Arc<dyn Blobs> {
            self.open_to_sweep().await
        }
    }

    impl SweepablePlace for Real {
        async fn open_to_sweep(&self) -> Arc<dyn SweepableBlobs> {
            Arc::new(open(options(&self.0.endpoint())).await)
        }
    }

    atelier_stores::blobs_contract!(Real, if S3::is_installed());
    atelier_stores::sweep_contract!(Real, if S3::is_installed());
}
