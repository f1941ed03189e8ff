//! The models folder: which files are there, and whether they are the right ones.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Catalogue, CatalogueError, Digest, Model, Provider, PullError, Purpose, Source,
    pull::{self, Progress, Pulled},
};

/// The models folder and the catalogue that says what belongs in it.
#[derive(Clone, Debug)]
pub struct ModelStore {
    folder: PathBuf,
    catalogue: Arc<Catalogue>,
    clients: Clients,
}

/// The programs that fetch packages, looked up in `PATH` unless they are paths.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Python 3 with pip.
    pub python: PathBuf,
    /// npm.
    pub npm: PathBuf,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            python: "python3".into(),
            npm: "npm".into(),
        }
    }
}

/// Whether a model's file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not.
    Missing,
    /// It is, and its length is right; [`ModelStore::verify`] checks the rest.
    Present {
        /// Its length.
        bytes: u64,
    },
    /// A file is there whose length no source of the row has.
    WrongSize {
        /// Its length.
        bytes: u64,
    },
}

/// A model's file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is none.
    #[error("model `{name}` is not there: {fix}")]
    Missing {
        /// Which model.
        name: String,
        /// What to do.
        fix: String,
    },
    /// Its checksum differs.
    #[error("model `{name}`: {path} hashes to {found}, expected {expected}; delete the file, then {fix}", path = .path.display())]
    Differs {
        /// Which model.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What the catalogue says.
        expected: String,
        /// What the file hashes to.
        found: String,
        /// What to do.
        fix: String,
    },
    /// It cannot be read.
    #[error("model `{name}`: cannot read {path}: {reason}", path = .path.display())]
    Unreadable {
        /// Which model.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

impl ModelStore {
    /// The store in `folder`, or in the default folder. Nothing is created before something is pulled.
    ///
    /// # Errors
    /// The built-in catalogue does not hold together.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, CatalogueError> {
        let folder = folder.unwrap_or_else(default_folder);
        Ok(Self::with_catalogue(folder, Catalogue::builtin()?))
    }

    /// The store in `folder` with a catalogue of the caller's own.
    pub fn with_catalogue(folder: impl Into<PathBuf>, catalogue: Catalogue) -> Self {
        Self {
            folder: folder.into(),
            catalogue: Arc::new(catalogue),
            clients: Clients::default(),
        }
    }

    /// The same store, fetching by other programs.
    #[must_use]
    pub fn with_clients(mut self, clients: Clients) -> Self {
        self.clients = clients;
        self
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What belongs there.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Where a model's file is, or would be.
    pub fn path(&self, model: &Model) -> PathBuf {
        self.folder_of(model).join(&model.file)
    }

    /// The folder of a model's file and its companions.
    pub(crate) fn folder_of(&self, model: &Model) -> PathBuf {
        match &model.folder {
            Some(folder) => self.folder.join(folder),
            None => self.folder.clone(),
        }
    }

    /// Whether a model's file is there, by its length alone.
    pub fn state(&self, model: &Model) -> State {
        let Ok(metadata) = self.path(model).metadata() else {
            return State::Missing;
        };
        let mut bytes = metadata.len();
        let mut is_right = metadata.is_file()
            && model
                .usable_sources()
                .any(|source| source.may_be_as_long_as(bytes));
        for companion in &model.companions {
            let Ok(metadata) = self.folder_of(model).join(&companion.file).metadata() else {
                return State::Missing;
            };
            bytes += metadata.len();
            is_right &= metadata.len() == companion.size_bytes;
        }
        if is_right {
            State::Present { bytes }
        } else {
            State::WrongSize { bytes }
        }
    }

    /// Tells a model's file from another of the same name: by the catalogue's checksums, or, where it has none, by when the file
    /// was written.
    pub(crate) fn file_identity(&self, model: &Model) -> String {
        let digests = model
            .usable_sources()
            .map(|source| source.digest.as_ref().map(ToString::to_string));
        let digests: Option<Vec<_>> = digests.collect();
        let written = |path: PathBuf| {
            let since = path.metadata().ok()?.modified().ok()?;
            let since = since.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(format!("written:{}", since.as_nanos()))
        };
        match digests {
            Some(digests) if !digests.is_empty() => digests.join(","),
            _ => written(self.path(model)).unwrap_or_default(),
        }
    }

    /// What a person does to get a model's file.
    pub fn fix(&self, model: &Model) -> String {
        if model.automatic_source().is_some() {
            return format!("run `atelier models pull {}`", model.name);
        }
        let place = self.path(model);
        let place = place.display();
        match model.usable_sources().map(|source| &source.origin).next() {
            Some(crate::Origin::Address { url }) => format!("fetch {url} and put it at {place}"),
            Some(_) => format!("put the file at {place}"),
            None => format!(
                "there is none for {}; put one of your own at {place}",
                std::env::consts::ARCH
            ),
        }
    }

    /// Compares a model's file and its companions with the catalogue's checksums.
    ///
    /// # Errors
    /// One of them is missing, unreadable or differs.
    pub fn verify(&self, model: &Model) -> Result<(), VerifyError> {
        let digests: Vec<&Digest> = model.usable_sources().flat_map(Source::digests).collect();
        self.verify_file(model, &model.file, &digests)?;
        for companion in &model.companions {
            self.verify_file(model, &companion.file, &[&companion.digest])?;
        }
        Ok(())
    }

    /// Compares one file with digests of which one must fit; none fits everything.
    fn verify_file(
        &self,
        model: &Model,
        file: &str,
        digests: &[&Digest],
    ) -> Result<(), VerifyError> {
        let path = self.folder_of(model).join(file);
        let unreadable = |reason| VerifyError::Unreadable {
            name: model.name.clone(),
            path: path.clone(),
            reason,
        };
        let mut found = Vec::new();
        // The automatic source's SHA-256 nearly always settles it; MD5 is only computed where nothing else is known.
        for algorithm in [Digest::sha256_of, Digest::md5_of] {
            let digest = match File::open(&path).and_then(|mut file| algorithm(&mut file)) {
                Ok(digest) => digest,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(VerifyError::Missing {
                        name: model.name.clone(),
                        fix: self.fix(model),
                    });
                }
                Err(error) => return Err(unreadable(error)),
            };
            if digests.is_empty() || digests.contains(&&digest) {
                return Ok(());
            }
            found.push(digest.to_string());
        }
        let expected = digests
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" or ");
        let found = found.join(", ");
        Err(VerifyError::Differs {
            name: model.name.clone(),
            path,
            expected,
            found,
            fix: self.fix(model),
        })
    }

    /// Fetches a model's file unless the right one is there already. Safe to call from several processes at once;
    /// blocking, so call it off the async threads.
    ///
    /// # Errors
    /// One line that says what was wrong and what to do.
    pub fn pull(
        &self,
        name: &str,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, PullError> {
        let model = self
            .catalogue
            .find(name)
            .ok_or_else(|| PullError::UnknownModel {
                name: name.to_owned(),
                known: self
                    .catalogue
                    .models()
                    .iter()
                    .map(|model| model.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        pull::pull(self, model, on_progress)
    }

    /// Names of all that `pull` can get without help and that this processor has a use for: what a fresh machine needs.
    pub fn automatic(&self) -> Vec<&str> {
        let libraries = [Provider::Cpu.library(), Provider::best_here().library()];
        let is_wanted = |model: &&Model| {
            model.automatic_source().is_some()
                && (model.purpose != Purpose::Runtime || libraries.contains(&model.name.as_str()))
        };
        self.catalogue
            .models()
            .iter()
            .filter(is_wanted)
            .map(|model| model.name.as_str())
            .collect()
    }
}

/// `ATELIER_MODELS_DIR`, else `$XDG_CACHE_HOME/atelier/models`, else `~/.cache/atelier/models`.
pub fn default_folder() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(folder) = set("ATELIER_MODELS_DIR") {
        return folder;
    }
    let cache =
        set("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    cache
        .unwrap_or_else(std::env::temp_dir)
        .join("atelier")
        .join("models")
}

impl Digest {
    /// The SHA-256 of what `reader` gives.
    pub(crate) fn sha256_of(reader: &mut File) -> io::Result<Self> {
        hash::<sha2::Sha256>(reader).map(Self::Sha256)
    }

    fn md5_of(reader: &mut File) -> io::Result<Self> {
        hash::<md5::Md5>(reader).map(Self::Md5)
    }
}

/// The checksum in lower-case hexadecimal digits.
fn hash<H: sha2::Digest>(reader: &mut dyn Read) -> io::Result<String> {
    let mut hasher = H::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_checksums_are_those_of_the_bytes() {
        let sha256 = hash::<sha2::Sha256>(&mut &b"abc"[..]).unwrap();
        assert_eq!(
            sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hash::<md5::Md5>(&mut &b"abc"[..]).unwrap(),
            "900150983cd24fb0d6963f7d28e17f72"
        );
    }

    #[test]
    fn a_missing_and_a_wrong_file_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::open(Some(folder.path().to_owned())).unwrap();
        let model = store.catalogue().find("u2netp").unwrap();
        assert_eq!(store.state(model), State::Missing);
        let message = store.verify(model).unwrap_err().to_string();
        assert!(message.contains("atelier models pull u2netp"), "{message}");

        std::fs::write(store.path(model), b"not a network").unwrap();
        assert_eq!(
            store.state(model),
            State::Present { bytes: 13 },
            "the md5 source states no length"
        );
        let message = store.verify(model).unwrap_err().to_string();
        assert!(
            message.contains("sha256:309c8469") && message.contains("delete the file"),
            "{message}"
        );
    }

    #[test]
    fn an_operators_model_says_where_to_put_it() {
        let store = ModelStore::open(Some("/somewhere".into())).unwrap();
        let fix = store.fix(store.catalogue().find("silueta").unwrap());
        assert!(
            fix.starts_with("fetch https://") && fix.ends_with("/somewhere/silueta.onnx"),
            "{fix}"
        );
    }
}
