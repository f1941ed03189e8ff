//! S3 keeps the contract of `Blobs`: on a server inside this process, and on versitygw where that is installed.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use atelier_servers::S3;
use atelier_stores::{Blobs, contract::BlobsPlace};
use support::s3_blobs::{open, options};

mod in_process {
    use super::{Arc, Blobs, BlobsPlace, open, options, support::s3::Server};

    struct InProcess(Server);

    impl BlobsPlace for InProcess {
        async fn fresh() -> Self {
            Self(Server::start())
        }

        async fn open(&self) -> Arc<dyn Blobs> {
            Arc::new(open(options(&self.0.endpoint())).await)
        }
    }

    atelier_stores::blobs_contract!(InProcess);
}

mod real {
    use super::{
        Arc, Blobs, BlobsPlace, S3, open, options,
        support::s3::{ACCESS_KEY, SECRET_KEY},
    };

    struct Real(S3);

    impl BlobsPlace for Real {
        async fn fresh() -> Self {
            Self(S3::start(ACCESS_KEY, SECRET_KEY, None))
        }

        async fn open(&self) -> Arc<dyn Blobs> {
            Arc::new(open(options(&self.0.endpoint())).await)
        }
    }

    atelier_stores::blobs_contract!(Real, if S3::is_installed());
}
