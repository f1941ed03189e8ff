//! The loaded matting models: those of `preload` for good, a few others while they are used.

use std::{collections::HashMap, sync::Arc};

use atelier_models::{
    Guided, LoadError, ModelStore, Pose, Provider, Purpose, Refiner, Runtime, Segmenter, Session,
    SessionOptions,
};
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

/// What the networks serve that a picture may come to.
const PURPOSES: [Purpose; 4] = [
    Purpose::Matte,
    Purpose::MatteWithTrimap,
    Purpose::Refine,
    Purpose::Pose,
];

/// A loaded model.
#[derive(Clone)]
enum Loaded {
    /// One that makes a matte of a picture.
    Plain(Arc<Segmenter>),
    /// One that makes a matte of a picture and its trimap.
    Guided(Arc<Guided>),
}

impl Loaded {
    fn open(
        runtime: &Runtime,
        store: &ModelStore,
        name: &str,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        let purpose = store.catalogue().find(name).map(|model| model.purpose);
        let loaded = if purpose == Some(Purpose::MatteWithTrimap) {
            Self::Guided(Arc::new(Guided::open(runtime, store, name, options)?))
        } else {
            Self::Plain(Arc::new(Segmenter::open(runtime, store, name, options)?))
        };
        let session = match &loaded {
            Self::Plain(segmenter) => segmenter.session(),
            Self::Guided(guided) => guided.session(),
        };
        telemetry::model_provider("matte", session.provider().as_str());
        Ok(loaded)
    }
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
    preloaded: HashMap<String, Loaded>,
    /// Loaded at start where the models of the best quality are, and with its first picture otherwise. Locked while it loads.
    refiner: Mutex<Option<Arc<Refiner>>>,
    /// The same.
    pose: Mutex<Option<Arc<Pose>>>,
    max_extra_models: usize,
    /// Least recently used first. Locked while a model loads, so that two pictures never load the same one.
    extra: Mutex<Vec<(String, Loaded)>>,
}

impl Segmenters {
    /// Loads the models of `preload`. Blocking: takes a second or two.
    ///
    /// # Errors
    /// One of them is missing or wrong, or a file that is there for another model is not that one's: a picture may ask for any.
    pub fn load(
        options: &MatteOptions,
        store: ModelStore,
        runtime: Runtime,
    ) -> Result<Self, MatteError> {
        let session_options = SessionOptions {
            intra_threads: (options.intra_threads > 0).then_some(options.intra_threads),
            concurrent_runs: options.max_concurrent_runs,
            max_batch: options.pictures_a_run(runtime.provider()),
        };
        let models = store.catalogue().models().iter();
        for model in models.filter(|model| PURPOSES.contains(&model.purpose)) {
            Session::check_file(&store, model)?;
        }
        let mut preloaded = HashMap::new();
        for name in &options.preload {
            let loaded = Loaded::open(&runtime, &store, name, &session_options)?;
            preloaded.insert(name.clone(), loaded);
        }
        let high = models_for(Quality::High);
        let is_for_best_quality = high.iter().all(|name| preloaded.contains_key(*name));
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

    /// What calculates the networks, unless one of them does not bear it.
    pub fn provider(&self) -> Provider {
        self.runtime.provider()
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
        match self.loaded(name)? {
            Loaded::Plain(segmenter) => Ok(segmenter),
            Loaded::Guided(_) => Err(self.unknown(name)),
        }
    }

    /// The model of that name that takes a trimap, loaded now if need be. Blocking.
    ///
    /// # Errors
    /// No such model, or its file is missing or wrong.
    pub fn guided(&self, name: &str) -> Result<Arc<Guided>, LoadError> {
        match self.loaded(name)? {
            Loaded::Guided(guided) => Ok(guided),
            Loaded::Plain(_) => Err(self.unknown(name)),
        }
    }

    /// Whether a model of that name takes a trimap.
    pub fn takes_trimap(&self, name: &str) -> bool {
        let model = self.store.catalogue().find(name);
        model.is_some_and(|model| model.purpose == Purpose::MatteWithTrimap)
    }

    /// The names of all models that take a trimap.
    pub fn trimap_takers(&self) -> String {
        let catalogue = self.store.catalogue();
        catalogue.names_for(Purpose::MatteWithTrimap).join(", ")
    }

    /// Whether there is a matting model of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn check_name(&self, name: &str) -> Result<(), LoadError> {
        match self.store.catalogue().find(name).map(|model| model.purpose) {
            Some(Purpose::Matte | Purpose::MatteWithTrimap) => Ok(()),
            _ => Err(self.unknown(name)),
        }
    }

    fn loaded(&self, name: &str) -> Result<Loaded, LoadError> {
        if let Some(loaded) = self.preloaded.get(name) {
            return Ok(loaded.clone());
        }
        let mut extra = self.extra.lock();
        if let Some(index) = extra.iter().position(|(loaded, _)| loaded == name) {
            let entry = extra.remove(index);
            let loaded = entry.1.clone();
            extra.push(entry);
            return Ok(loaded);
        }
        // The name comes from whoever sent the picture: what is no matting model must not push out one that is.
        self.check_name(name)?;
        let is_full = extra.len() >= self.max_extra_models;
        let opened = Loaded::open(&self.runtime, &self.store, name, &self.session_options)?;
        if is_full {
            let (dropped, _) = extra.remove(0);
            tracing::info!(dropped, loaded = name, "a model makes room for another");
        }
        extra.push((name.to_owned(), opened.clone()));
        Ok(opened)
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
                known: [Purpose::Matte, Purpose::MatteWithTrimap]
                    .map(|purpose| catalogue.names_for(purpose).join(", "))
                    .join(", "),
            },
        }
    }
}
