//! The independent checker: reads topics and stores by clients of its own and says what is lost, doubled or disagreeing.

mod blobs;
mod evidence;
mod finding;
mod ledger;
mod log;
mod rules;

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use evidence::{
    Evidence, Ledger, LedgerImage, LedgerTask, Picture, Promise, Record, StoredBlob, Watermarks,
};
pub use finding::{Fault, Finding, Rule, Verdict};
pub use log::progress;
pub use rules::judge;

use crate::pipeline::Pipeline;

/// Where everything is, and what clients were promised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Promises {
    /// Brokers, `host:port`.
    pub bootstrap_servers: String,
    /// `sqlite://` with a file, or `postgres://`.
    pub ledger_url: String,
    /// `file://` with a folder, or `s3://` with a bucket; credentials come by the environment.
    pub blobs_url: String,
    /// Address of the S3 server.
    pub s3_endpoint: Option<String>,
    /// Tasks that a client was told are accepted.
    pub accepted: Vec<Promise>,
}

/// Reads everything and judges it.
///
/// # Errors
/// A topic or store that cannot be read.
pub async fn check(promises: &Promises) -> anyhow::Result<Verdict> {
    let pipeline = Pipeline::get();
    let bootstrap_servers = promises.bootstrap_servers.clone();
    let read_log = move || log::read(&bootstrap_servers, Pipeline::get());
    let log = tokio::task::spawn_blocking(read_log)
        .await?
        .context("the topics cannot be read")?;
    let ledger = ledger::read(&promises.ledger_url)
        .await
        .context("the ledger cannot be read")?;
    let on_topics = log.records.iter().map(|record| &record.value["result"]);
    let in_ledger = ledger.images.iter().map(|image| &image.result);
    let named: BTreeSet<&str> = on_topics
        .chain(in_ledger)
        .flat_map(evidence::blobs_of)
        .map(|(key, _)| key)
        .collect();
    let blobs = blobs::read(promises, &named)
        .await
        .context("the blobs cannot be read")?;
    let evidence = Evidence {
        promises: promises.accepted.clone(),
        records: log.records,
        watermarks: log.watermarks,
        read_up_to: log.read_up_to,
        ledger,
        blobs,
    };
    Ok(judge(&evidence, pipeline))
}
