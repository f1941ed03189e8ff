//! What was measured on this machine, and what can be asked of it.

use std::collections::BTreeMap;

use atelier_schemas::{TopicTable, request::MAX_IMAGES_PER_TASK};
use atelier_stores::{Ledger, LedgerError};
use axum::{Json, extract::State as Shares, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::Endpoint;
use crate::{
    error::ApiError,
    line::quantile,
    state::{QualityModel, Shared},
};

/// Results that are looked at.
const RESULTS: usize = 200;
/// Most pages of tasks that are searched for them.
const PAGES: usize = 10;

pub const SHOW: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/measurements",
    handler: || get(show),
    document: |operation| {
        operation
            .named(
                "getMeasurements",
                "pipeline",
                "Times measured on this machine",
            )
            .describe("From the last 200 results in the ledger and the events of the last 60 s.")
            .answer::<Measurements>(200, "Times, in milliseconds.")
            .errors(&[503])
    },
};

pub const CAPABILITIES: Endpoint = Endpoint {
    method: "get",
    path: "/api/v1/capabilities",
    handler: || get(capabilities),
    document: |operation| {
        operation
            .named("getCapabilities", "pipeline", "What can be asked for")
            .answer::<Capabilities>(200, "Limits, formats, qualities, kinds.")
            .errors(&[])
    },
};

/// Times measured on this machine.
#[derive(Serialize, JsonSchema)]
struct Measurements {
    /// The models, by their own time on one image.
    models: Vec<ModelTimes>,
    /// The stages, by their work on one image.
    stages: Vec<StageTimes>,
}

/// A model's time on one image.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ModelTimes {
    /// Its name in the catalogue.
    name: String,
    /// Images that were looked at.
    count: usize,
    /// Median, in milliseconds.
    median_ms: f64,
    /// 95th percentile, in milliseconds.
    p95_ms: f64,
}

/// A stage's work on one image.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StageTimes {
    /// Its name.
    name: String,
    /// Median, in milliseconds.
    median_ms: f64,
    /// 95th percentile, in milliseconds.
    p95_ms: f64,
}

/// What can be asked for.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    /// Version of the gateway.
    version: &'static str,
    /// Largest uploaded file, in bytes.
    max_upload_bytes: u64,
    /// Most images in one task.
    max_images_per_task: usize,
    /// Output formats.
    formats: [&'static str; 5],
    /// Qualities with their models.
    qualities: Vec<QualityModel>,
    /// Kinds of picture that may be chosen.
    kinds: [&'static str; 4],
    /// The log.
    kafka: KafkaAddress,
}

/// Where the log is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct KafkaAddress {
    /// For `kcat -b`.
    bootstrap_servers: String,
}

async fn capabilities(Shares(state): Shares<Shared>) -> Json<Capabilities> {
    Json(Capabilities {
        version: env!("CARGO_PKG_VERSION"),
        max_upload_bytes: state.options.max_upload_bytes,
        max_images_per_task: MAX_IMAGES_PER_TASK,
        formats: ["png", "webp", "jpeg", "avif", "zip"],
        qualities: state.deps.qualities.clone(),
        kinds: ["auto", "portrait", "product", "graphic"],
        kafka: KafkaAddress {
            bootstrap_servers: state.deps.bootstrap_servers.clone(),
        },
    })
}

async fn show(Shares(state): Shares<Shared>) -> Result<Json<Measurements>, ApiError> {
    let mut times = Times {
        stages: state.line.recent_work_ms(),
        models: BTreeMap::new(),
    };
    // A stage that worked in the last minute is measured by that; the ledger speaks for the others.
    let recent: Vec<String> = times
        .stages
        .iter()
        .filter(|(_, work)| !work.is_empty())
        .map(|(stage, _)| stage.clone())
        .collect();
    times
        .add_results(state.deps.ledger.as_ref(), &recent)
        .await?;
    Ok(Json(times.answer()))
}

struct Times {
    models: BTreeMap<String, Vec<f64>>,
    stages: BTreeMap<String, Vec<f64>>,
}

impl Times {
    async fn add_results(
        &mut self,
        ledger: &dyn Ledger,
        recent_stages: &[String],
    ) -> Result<(), LedgerError> {
        let mut cursor: Option<String> = None;
        let mut results = 0;
        for _ in 0..PAGES {
            let (tasks, next) = ledger.tasks(cursor.as_deref(), 100).await?;
            for metadata in tasks
                .iter()
                .flat_map(|task| &task.results)
                .filter_map(|image| image.metadata.as_ref())
            {
                if results == RESULTS {
                    return Ok(());
                }
                results += 1;
                self.models
                    .entry(metadata.model.name.clone())
                    .or_default()
                    .push(metadata.model.inference_ms);
                for timing in metadata
                    .stages
                    .iter()
                    .filter(|timing| !recent_stages.contains(&timing.stage))
                {
                    self.stages
                        .entry(timing.stage.clone())
                        .or_default()
                        .push(timing.processing_time_ms);
                }
            }
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    fn answer(mut self) -> Measurements {
        let models = self.models.into_iter().filter_map(|(name, mut times)| {
            Some(ModelTimes {
                name,
                count: times.len(),
                median_ms: quantile(&mut times, 0.5)?,
                p95_ms: quantile(&mut times, 0.95)?,
            })
        });
        let stages = TopicTable::embedded().stages().iter().filter_map(|name| {
            let times = self.stages.get_mut(name)?;
            Some(StageTimes {
                name: name.clone(),
                median_ms: quantile(times, 0.5)?,
                p95_ms: quantile(times, 0.95)?,
            })
        });
        Measurements {
            models: models.collect(),
            stages: stages.collect(),
        }
    }
}
