//! The loaded matting models: those of `preload` for good, a few others while they are used.

use std::{collections::HashMap, sync::Arc};

use atelier_models::{
    LoadError, ModelStore, Pose, Purpose, Refiner, Runtime, Segmenter, SessionOptions,
};
use atelier_runtime::telemetry;
use atelier_schemas::Quality;
use parking_lot::Mutex;

use crate::{MatteError, MatteOptions};

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

/// What `place` holds, opened now if it holds nothing.
fn once<T>(
    place: &Mutex<Option<Arc<T>>>,
    open: impl FnOnce() -> Result<T, LoadError>,
) -> Result<Arc<T>, LoadError> {
    let mut loaded = place.lock();
    if let Some(loaded) = loaded.as_ref() {
        return Ok(Arc::clone(loaded));
    }
    let opened = Arc::new(open()?);
    *loaded = Some(Arc::clone(&opened));
    Ok(opened)
}

/// Loads and keeps matting models.
pub struct Segmenters {
    runtime: Runtime,
    store: ModelStore,
    session_options: SessionOptions,
    preloaded: HashMap<String, Arc<Segmenter>>,
    /// Loaded at start where the model of the best quality is, and with its first picture otherwise. Locked while it loads.
    refiner: Mutex<Option<Arc<Refiner>>>,
    /// The same.
    pose: Mutex<Option<Arc<Pose>>>,
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
        let is_for_best_quality = preloaded.contains_key(model_for(Quality::High));
        let segmenters = Self {
            runtime,
            store,
            session_options,
            preloaded,
            refiner: Mutex::new(None),
            pose: Mutex::new(None),
            max_extra_models: options.max_extra_models.max(1),
            extra: Mutex::new(Vec::new()),
        };
        if is_for_best_quality {
            segmenters.refiner()?;
            segmenters.pose()?;
        }
        Ok(segmenters)
    }

    /// The network that makes the matte of quality high of coarse ones, loaded now if need be. Blocking.
    ///
    /// # Errors
    /// Its file is missing or wrong.
    pub fn refiner(&self) -> Result<Arc<Refiner>, LoadError> {
        once(&self.refiner, || {
            let refiner = Refiner::open(&self.runtime, &self.store, &self.session_options)?;
            telemetry::model_provider("matte", refiner.session().provider().as_str());
            Ok(refiner)
        })
    }

    /// The network that knows people's bodies, loaded now if need be. Blocking.
    ///
    /// # Errors
    /// Its file is missing or wrong.
    pub fn pose(&self) -> Result<Arc<Pose>, LoadError> {
        once(&self.pose, || {
            let pose = Pose::open(&self.runtime, &self.store, &self.session_options)?;
            telemetry::model_provider("matte", pose.session().provider().as_str());
            Ok(pose)
        })
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
