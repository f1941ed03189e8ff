//! Which stages there are, and how each is made. A new stage is one line in [`Assembly::stage`].

use std::{collections::BTreeMap, sync::Arc, thread::available_parallelism};

use anyhow::bail;
use atelier_classify::ClassifyStage;
use atelier_compose::Compose;
use atelier_ingest::Ingest;
use atelier_matte::{Matte, models_for};
use atelier_models::{ModelStore, Runtime};
use atelier_persist::Persist;
use atelier_preprocess::Preprocess;
use atelier_runtime::AnyStage;
use atelier_schemas::{TaskOptions, TopicTable, shadow::ShadowKind};
use atelier_stores::{Blobs, Ledger, Rasters, open_cache};
use futures::future::try_join_all;

use crate::config::Loaded;

/// What stages are made of.
pub struct Assembly<'a> {
    loaded: &'a Loaded,
    blobs: Arc<dyn Blobs>,
    rasters: Rasters,
    ledger: Option<Arc<dyn Ledger>>,
    models: ModelStore,
}

impl<'a> Assembly<'a> {
    /// Stages over `blobs`; `persist` needs a ledger besides.
    ///
    /// # Errors
    /// The model catalogue does not hold together.
    pub fn new(
        loaded: &'a Loaded,
        blobs: Arc<dyn Blobs>,
        ledger: Option<Arc<dyn Ledger>>,
    ) -> anyhow::Result<Self> {
        let rasters = Rasters::new(Arc::clone(&blobs), loaded.config.rasters.cache_bytes);
        let models = ModelStore::open(loaded.config.models.dir.clone())?;
        Ok(Self {
            loaded,
            blobs,
            rasters,
            ledger,
            models,
        })
    }

    /// Makes the stage of that name.
    ///
    /// # Errors
    /// There is no such stage, or what it needs (models, a ledger) is missing: the message names the fix.
    pub async fn stage(&self, name: &str) -> anyhow::Result<Arc<dyn AnyStage>> {
        let options = self.loaded.config.stages.clone();
        let rasters = self.rasters.clone();
        Ok(match name {
            "ingest" => Arc::new(Ingest::new(options.ingest, Arc::clone(&self.blobs))?),
            "preprocess" => Arc::new(Preprocess::new(options.preprocess, rasters)),
            "classify" => {
                let (models, runtime) = (self.models.clone(), self.model_runtime().await?);
                let open =
                    move || ClassifyStage::open(options.classify, rasters, &models, &runtime);
                Arc::new(tokio::task::spawn_blocking(open).await??)
            }
            "matte" => {
                let (models, runtime) = (self.models.clone(), self.model_runtime().await?);
                let stores = &self.loaded.config.stores;
                let cache = open_cache(stores.cache_url.as_deref(), &stores.cache)?;
                Arc::new(Matte::start(options.matte, models, runtime, rasters, cache).await?)
            }
            "compose" => Arc::new(Compose::new(options.compose, rasters)),
            "persist" => match &self.ledger {
                Some(ledger) => Arc::new(Persist::new(options.persist, Arc::clone(ledger))),
                None => bail!("`persist` needs a ledger"),
            },
            other => bail!(
                "there is no stage `{other}`; there are: {}",
                TopicTable::embedded().stages().join(", ")
            ),
        })
    }

    /// ONNX Runtime with the configured provider.
    async fn model_runtime(&self) -> anyhow::Result<Runtime> {
        let (models, choice) = (self.models.clone(), self.loaded.config.models.provider);
        Ok(tokio::task::spawn_blocking(move || Runtime::load(&models, choice)).await??)
    }

    /// Every stage of the table.
    ///
    /// # Errors
    /// As [`Assembly::stage`].
    pub async fn all(&self) -> anyhow::Result<Vec<Arc<dyn AnyStage>>> {
        let mut stages = Vec::new();
        for name in TopicTable::embedded().stages() {
            stages.push(self.stage(name).await?);
        }
        Ok(stages)
    }

    /// Every stage but `persist`, made side by side, because opening networks is what starting takes.
    ///
    /// # Errors
    /// As [`Assembly::stage`].
    pub async fn without_ledger(&self) -> anyhow::Result<Vec<Arc<dyn AnyStage>>> {
        let names = TopicTable::embedded().stages().iter();
        let names = names.filter(|name| *name != "persist");
        try_join_all(names.map(|name| self.stage(name))).await
    }
}

/// So many pictures for each core pay for opening a network once for each core.
const MANY_PICTURES_PER_CORE: usize = 12;

/// What `atelier cutout` is to do.
pub struct CutoutPlan<'a> {
    /// The options of every picture.
    pub options: &'a TaskOptions,
    /// How many pictures there are.
    pub pictures: usize,
    /// Whether they come with trimaps.
    pub has_trimaps: bool,
    /// Whether somebody reads what was found out about them.
    pub reports: bool,
}

/// Whether it matters for the result what a picture shows.
fn needs_classification(plan: &CutoutPlan<'_>) -> bool {
    let options = plan.options;
    let is_cut_alike = options.model.is_some() && options.subject.is_all();
    plan.reports || !is_cut_alike || options.output.shadow.kind == ShadowKind::Auto
}

/// The stages of `atelier cutout`: all but `persist`, with only the models that the plan asks for.
///
/// # Errors
/// As [`Assembly::stage`].
pub async fn stages_for_cutout(
    loaded: &Loaded,
    blobs: &Arc<dyn Blobs>,
    plan: &CutoutPlan<'_>,
) -> anyhow::Result<Vec<Arc<dyn AnyStage>>> {
    let mut loaded = loaded.clone();
    // The blobs are in memory themselves: a cache would only keep pictures that are done.
    loaded.config.rasters.cache_bytes = 0;
    // Nobody sees the thumbnails.
    loaded.config.stages.compose.thumbnail_side_px = 1;
    loaded.config.stages.classify.networks &= needs_classification(plan);
    let models = ModelStore::open(loaded.config.models.dir.clone())?;
    let matte = &mut loaded.config.stages.matte;
    matte.preload = match &plan.options.model {
        Some(model) => vec![model.clone()],
        // No network runs within a given trimap.
        None if plan.has_trimaps => Vec::new(),
        None => models_for(plan.options.quality)
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
    };
    let cores = available_parallelism().map_or(1, usize::from);
    let is_set = matte.intra_threads != 0
        || matte.max_concurrent_runs != 1
        || loaded.config.models.provider.is_a_card(&models);
    if !is_set && cores > 1 && plan.pictures >= MANY_PICTURES_PER_CORE * cores {
        // Nobody waits for a single picture, and a network that has a core to itself waits for no other.
        matte.intra_threads = 1;
        matte.max_concurrent_runs = cores;
        matte.max_concurrent = matte.max_concurrent.max(cores + 2);
    }
    Assembly::new(&loaded, Arc::clone(blobs), None)?
        .without_ledger()
        .await
}

/// How many calls of each stage run at once.
///
/// # Errors
/// A runtime key that does not fit.
pub fn in_flight(loaded: &Loaded) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    TopicTable::embedded()
        .stages()
        .iter()
        .map(|stage| Ok((stage.as_str(), loaded.runtime(stage)?.max_in_flight)))
        .collect()
}
