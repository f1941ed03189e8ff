//! ONNX Runtime's library, loaded once for the process.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use crate::{ModelStore, State};

/// What the process has loaded: ONNX Runtime allows one library and one environment.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

struct Loaded {
    library: PathBuf,
    environment: Environment,
}

/// ONNX Runtime, ready to open sessions.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
}

/// Why a model or the library cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No row of that name.
    #[error("there is no model `{name}`; there are: {known}")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names that would do.
        known: String,
    },
    /// It has a row, and serves another purpose.
    #[error("model `{name}` is no {wanted}: {summary}")]
    WrongPurpose {
        /// The name asked for.
        name: String,
        /// What was wanted.
        wanted: &'static str,
        /// What it is.
        summary: String,
    },
    /// Its file is not there.
    #[error("model `{name}` is not there: {fix}")]
    Missing {
        /// Which model.
        name: String,
        /// What to do.
        fix: String,
    },
    /// Its file is another network.
    #[error("model `{name}`: {path} is another file: expected {expected}, found {found}; delete it, then {fix}", path = .path.display())]
    WrongFile {
        /// Which model.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What the catalogue says.
        expected: String,
        /// What the file has.
        found: String,
        /// What to do.
        fix: String,
    },
    /// Its file is no network.
    #[error("model `{name}`: ONNX Runtime does not load {path}: {reason}; delete it, then {fix}", path = .path.display())]
    Unloadable {
        /// Which model.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// The library cannot be loaded.
    #[error("ONNX Runtime's library {path} does not load: {reason}; run `atelier models pull onnxruntime`", path = .path.display())]
    Library {
        /// The library.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another library is loaded.
    #[error("this process runs ONNX Runtime from {loaded} and cannot load {wanted} as well", loaded = .loaded.display(), wanted = .wanted.display())]
    OtherLibrary {
        /// The one that is loaded.
        loaded: PathBuf,
        /// The one asked for.
        wanted: PathBuf,
    },
    /// The catalogue does not hold together.
    #[error(transparent)]
    Catalogue(#[from] crate::CatalogueError),
}

impl Runtime {
    /// Loads the library of the store's catalogue. Later calls share it.
    ///
    /// # Errors
    /// It is missing or does not load; the error names the command that fetches it.
    pub fn load(store: &ModelStore) -> Result<Self, LoadError> {
        let unknown = || LoadError::UnknownModel {
            name: "onnxruntime".to_owned(),
            known: String::new(),
        };
        let model = store.runtime_model().ok_or_else(unknown)?;
        let path = store.path(model);
        match store.state(model) {
            State::Present { .. } => Self::load_library(&path),
            State::Missing => Err(LoadError::Missing {
                name: model.name.clone(),
                fix: store.fix(model),
            }),
            State::WrongSize { bytes } => {
                let sizes: Vec<_> = model
                    .usable_sources()
                    .filter_map(|source| source.size_bytes)
                    .collect();
                Err(LoadError::WrongFile {
                    name: model.name.clone(),
                    path,
                    expected: format!("{sizes:?} bytes"),
                    found: format!("{bytes} bytes"),
                    fix: store.fix(model),
                })
            }
        }
    }

    /// Loads a library of the caller's own, for example one with another execution provider.
    ///
    /// # Errors
    /// It does not load, or another one is loaded already.
    pub fn load_library(path: &Path) -> Result<Self, LoadError> {
        let mut loaded = LOADED.lock();
        if let Some(loaded) = loaded.as_ref() {
            if loaded.library != path {
                return Err(LoadError::OtherLibrary {
                    loaded: loaded.library.clone(),
                    wanted: path.to_owned(),
                });
            }
            return Ok(Self {
                environment: loaded.environment.clone(),
            });
        }
        let broken = |reason: String| LoadError::Library {
            path: path.to_owned(),
            reason,
        };
        let environment = ort::init_from(path)
            .map_err(|error| broken(error.to_string()))?
            .with_name("atelier")
            .with_telemetry(false)
            .build()
            .map_err(|error| broken(error.to_string()))?;
        *loaded = Some(Loaded {
            library: path.to_owned(),
            environment: environment.clone(),
        });
        Ok(Self { environment })
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}
