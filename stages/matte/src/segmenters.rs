//! The loaded matting models: those of `preload` for good, a few others while they are used.

use std::{collections::HashMap, sync::Arc};

use atelier_models::{LoadError, ModelStore, Purpose, Refiner, Runtime, Segmenter, SessionOptions};
use atelier_runtime::telemetry;
use atelier_schemas::Quality;
use parking_lot::Mutex;

use crate::{MatteError, MatteOptions};

/// All models that a quality may take.
pub fn models_for(quality: Quality) -> &'static [&'static str] {
    match quality {
        Quality::High => &["isnet-general-use", "u2netp"],
        Quality::Medium => &["u2net"],
        Quality::Low => &["u2netp"],
    }
}

/// The catalogue's model for a quality.
pub fn model_for(quality: Quality) -> &'static str {
    match quality {
        Quality::High => "isnet-general-use",
        Quality::Medium => "u2net",
        Quality::Low => "u2netp",
    }
}

fn open(
    runtime: &Runtime,
    store: &ModelStore,
    name: &str,
    options: &SessionOptions,
) -> Result<Segmenter, LoadError> {
    let segmenter = Segmenter::open(runtime, store, name, options)?;
    telemetry::model_provider("matte", segmenter.session().provider().as_str());
    Ok(segmenter)
}

/// Loads and keeps matting models.
pub struct Segmenters {
    runtime: Runtime,
    store: ModelStore,
    session_options: SessionOptions,
    preloaded: HashMap<String, Arc<Segmenter>>,
    /// Loaded at start where the models of the best quality are, and with its first picture otherwise. Locked while it loads.
    refiner: Mutex<Option<Arc<Refiner>>>,
    max_extra_models: usize,
    /// Least recently used first. Locked while a model loads, so that two pictures never load the same one.
    extra: Mutex<Vec<(String, Arc<Segmenter>)>>,
}

impl Segmenters {
    /// Loads the models of `preload`. Blocking: takes a second or two.
    ///
    /// # Errors
    /// A model is missing or wrong.
    pub fn load(
        options: &MatteOptions,
        store: ModelStore,
        runtime: Runtime,
    ) -> Result<Self, MatteError> {
        let session_options = SessionOptions {
            intra_threads: (options.intra_threads > 0).then_some(options.intra_threads),
            concurrent_runs: options.max_concurrent_runs,
        };
        let mut preloaded = HashMap::new();
        for name in &options.preload {
            let segmenter = open(&runtime, &store, name, &session_options)?;
            preloaded.insert(name.clone(), Arc::new(segmenter));
        }
        let high = models_for(Quality::High);
        let needs_refiner = high.iter().all(|name| preloaded.contains_key(*name));
        let segmenters = Self {
            runtime,
            store,
            session_options,
            preloaded,
            refiner: Mutex::new(None),
            max_extra_models: options.max_extra_models.max(1),
            extra: Mutex::new(Vec::new()),
        };
        if needs_refiner {
            segmenters.refiner()?;
        }
        Ok(segmenters)
    }

    /// The network that makes the matte of quality high of coarse ones, loaded now if need be. Blocking.
    ///
    /// # Errors
    /// Its file is missing or wrong.
    pub fn refiner(&self) -> Result<Arc<Refiner>, LoadError> {
        let mut loaded = self.refiner.lock();
        if let Some(refiner) = loaded.as_ref() {
            return Ok(Arc::clone(refiner));
        }
        let refiner = Refiner::open(&self.runtime, &self.store, &self.session_options)?;
        telemetry::model_provider("matte", refiner.session().provider().as_str());
        let refiner = Arc::new(refiner);
        *loaded = Some(Arc::clone(&refiner));
        Ok(refiner)
    }

    /// The model of that name, loaded now if need be. Blocking.
    ///
    /// # Errors
    /// No such matting model, or its file is missing or wrong.
    pub fn get(&self, name: &str) -> Result<Arc<Segmenter>, LoadError> {
        if let Some(segmenter) = self.preloaded.get(name) {
            return Ok(Arc::clone(segmenter));
        }
        let mut extra = self.extra.lock();
        if let Some(index) = extra.iter().position(|(loaded, _)| loaded == name) {
            let entry = extra.remove(index);
            let segmenter = Arc::clone(&entry.1);
            extra.push(entry);
            return Ok(segmenter);
        }
        // The name comes from whoever sent the picture: what is no matting model must not push out one that is.
        if self
            .store
            .catalogue()
            .find(name)
            .is_none_or(|model| model.purpose != Purpose::Matte)
        {
            return Err(self.unknown(name));
        }
        let is_full = extra.len() >= self.max_extra_models;
        let segmenter = Arc::new(open(
            &self.runtime,
            &self.store,
            name,
            &self.session_options,
        )?);
        if is_full {
            let (dropped, _) = extra.remove(0);
            tracing::info!(dropped, loaded = name, "a model makes room for another");
        }
        extra.push((name.to_owned(), Arc::clone(&segmenter)));
        Ok(segmenter)
    }

    fn unknown(&self, name: &str) -> LoadError {
        let catalogue = self.store.catalogue();
        match catalogue.find(name) {
            Some(model) => LoadError::WrongPurpose {
                name: model.name.clone(),
                wanted: "matting model",
                summary: model.summary.clone(),
            },
            None => LoadError::UnknownModel {
                name: name.chars().take(80).collect(),
                known: catalogue.names_for(Purpose::Matte).join(", "),
            },
        }
    }
}
