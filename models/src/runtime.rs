//! ONNX Runtime's library, loaded once for the process.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use crate::{
    Model, ModelStore, Provider, ProviderChoice, State,
    provider::{Precision, card},
    session,
};

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
    provider: Provider,
    is_to_be_checked: bool,
    /// Where a provider keeps what it compiled.
    compiled_folder: PathBuf,
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
    #[error("ONNX Runtime's library {path} does not load: {reason}; run `atelier models pull {name}`", path = .path.display())]
    Library {
        /// Its catalogue name.
        name: String,
        /// The library.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The graphics card that was asked for cannot be used.
    #[error("models.provider = \"{provider}\" cannot be had here: {reason}; {fix}")]
    NoCard {
        /// The provider asked for.
        provider: Provider,
        /// What ONNX Runtime said.
        reason: String,
        /// What is missing, and what to do.
        fix: String,
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
    /// Loads the library that has the chosen provider, and tries a graphics card. Later calls share it.
    ///
    /// `auto` takes ONNX Runtime's own kernels, and says so in a warning, where the better library has not been pulled.
    ///
    /// # Errors
    /// It is missing or does not load, and the error names the command that fetches it; the card cannot be used, and the error says what
    /// is missing; or the process has loaded another library.
    pub fn load(store: &ModelStore, choice: ProviderChoice) -> Result<Self, LoadError> {
        let provider = match choice {
            ProviderChoice::Cpu => Provider::Cpu,
            ProviderChoice::Openvino => Provider::openvino_here(),
            ProviderChoice::OpenvinoInt8 => Provider::OpenVino(Precision::Int8),
            ProviderChoice::Cuda => Provider::Cuda,
            ProviderChoice::Tensorrt => Provider::TensorRt,
            ProviderChoice::Auto => best_of(store)?,
        };
        let model = library_row(store, provider)?;
        let path = store.path(model);
        match store.state(model) {
            State::Present { .. } => {}
            State::Missing if provider.is_a_card() => {
                return Err(LoadError::NoCard {
                    provider,
                    reason: format!("its library `{}` is not there", model.name),
                    fix: format!("{}; {}", store.fix(model), card::what_is_missing(provider)),
                });
            }
            State::Missing => {
                return Err(LoadError::Missing {
                    name: model.name.clone(),
                    fix: store.fix(model),
                });
            }
            State::WrongSize { bytes } => {
                let sizes: Vec<_> = model
                    .usable_sources()
                    .filter_map(|source| source.size_bytes)
                    .collect();
                return Err(LoadError::WrongFile {
                    name: model.name.clone(),
                    path,
                    expected: format!("{sizes:?} bytes"),
                    found: format!("{bytes} bytes"),
                    fix: store.fix(model),
                });
            }
        }
        let is_preferred = choice == ProviderChoice::Auto && provider != Provider::Cpu;
        let environment = match load_library(&path, &model.name, provider) {
            Ok(environment) => environment,
            Err(error) if is_preferred => {
                tracing::error!(%error, "the networks run on `cpu`, more slowly");
                return Self::load(store, ProviderChoice::Cpu);
            }
            Err(error) => return Err(error),
        };
        let runtime = Self {
            environment,
            provider,
            is_to_be_checked: is_preferred,
            compiled_folder: compiled_folder(store),
        };
        match runtime.try_card() {
            Err(error) if is_preferred => {
                tracing::error!(%error, "the networks run on `cpu`, more slowly");
                Ok(runtime.on_cpu())
            }
            tried => tried.map(|()| runtime),
        }
    }

    /// ONNX Runtime's own kernels of whichever library this process has loaded, or of the plain one; `None` where that is not there.
    ///
    /// # Errors
    /// It is there and does not load.
    pub(crate) fn to_compare_with(store: &ModelStore) -> Result<Option<Self>, LoadError> {
        let environment = LOADED
            .lock()
            .as_ref()
            .map(|loaded| loaded.environment.clone());
        if let Some(environment) = environment {
            return Ok(Some(Self {
                environment,
                provider: Provider::Cpu,
                is_to_be_checked: false,
                compiled_folder: compiled_folder(store),
            }));
        }
        let library = store.catalogue().find(Provider::Cpu.library());
        match library.map(|library| store.state(library)) {
            Some(State::Present { .. }) => Self::load(store, ProviderChoice::Cpu).map(Some),
            _ => Ok(None),
        }
    }

    /// Runs the least of networks where it is to run on a card: what is missing shows at once, and not with a model that then seems to
    /// be wrong.
    fn try_card(&self) -> Result<(), LoadError> {
        if !self.provider.is_a_card() {
            return Ok(());
        }
        session::try_out(self).map_err(|reason| LoadError::NoCard {
            provider: self.provider,
            reason,
            fix: card::what_is_missing(self.provider),
        })
    }

    /// What calculates the networks.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Whether mattes are compared with the reference before a network is used: the operator did not ask for this provider.
    pub(crate) fn is_to_be_checked(&self) -> bool {
        self.is_to_be_checked
    }

    /// The same library with its own kernels: for networks so small that another provider takes longer to compile them than
    /// it saves.
    #[must_use]
    pub fn on_cpu(&self) -> Self {
        Self {
            provider: Provider::Cpu,
            is_to_be_checked: false,
            ..self.clone()
        }
    }

    /// The same library in floating point, where this one calculates in eight bits.
    pub(crate) fn in_floating_point(&self) -> Option<Self> {
        (self.provider == Provider::OpenVino(Precision::Int8)).then(|| Self {
            provider: Provider::openvino_here(),
            ..self.clone()
        })
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn compiled_folder(&self) -> &Path {
        &self.compiled_folder
    }
}

impl ProviderChoice {
    /// Whether it stands for a graphics card: `auto` does where the card's driver is here and its library was pulled.
    pub fn is_a_card(self, store: &ModelStore) -> bool {
        match self {
            Self::Cuda | Self::Tensorrt => true,
            Self::Cpu | Self::Openvino | Self::OpenvinoInt8 => false,
            Self::Auto => {
                let library = store.catalogue().find(Provider::Cuda.library());
                library.is_some_and(|library| {
                    matches!(store.state(library), State::Present { .. }) && card::driver_is_here()
                })
            }
        }
    }
}

fn compiled_folder(store: &ModelStore) -> PathBuf {
    store.folder().join(".compiled")
}

fn library_row(store: &ModelStore, provider: Provider) -> Result<&Model, LoadError> {
    let name = provider.library();
    store
        .catalogue()
        .find(name)
        .ok_or_else(|| LoadError::UnknownModel {
            name: name.to_owned(),
            known: String::new(),
        })
}

/// The best provider of this machine whose library is there. Nobody has the one for a card who did not pull it by name.
fn best_of(store: &ModelStore) -> Result<Provider, LoadError> {
    if ProviderChoice::Auto.is_a_card(store) {
        return Ok(Provider::Cuda);
    }
    let best = Provider::best_here();
    let model = library_row(store, best)?;
    if best != Provider::Cpu && store.state(model) == State::Missing {
        tracing::warn!(
            provider = best.as_str(),
            fix = store.fix(model),
            "the fastest provider of this processor is not here; the networks run on `cpu`"
        );
        return Ok(Provider::Cpu);
    }
    Ok(best)
}

/// Loads the library into the process, once.
fn load_library(path: &Path, name: &str, provider: Provider) -> Result<Environment, LoadError> {
    let mut loaded = LOADED.lock();
    if let Some(loaded) = loaded.as_ref() {
        if loaded.library != path {
            return Err(LoadError::OtherLibrary {
                loaded: loaded.library.clone(),
                wanted: path.to_owned(),
            });
        }
        return Ok(loaded.environment.clone());
    }
    let broken = |reason: String| LoadError::Library {
        path: path.to_owned(),
        reason,
        name: name.to_owned(),
    };
    let environment = ort::init_from(path)
        .map_err(|error| broken(error.to_string()))?
        .with_name("atelier")
        .with_telemetry(false)
        .build()
        .map_err(|error| broken(error.to_string()))?;
    tracing::info!(%provider, library = %path.display(), "ONNX Runtime is loaded");
    *loaded = Some(Loaded {
        library: path.to_owned(),
        environment: environment.clone(),
    });
    Ok(environment)
}
