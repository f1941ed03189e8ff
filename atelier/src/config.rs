//! One configuration file for everything; what it leaves out has a default that works on one machine.
//!
//! Invariant: a key that is not known is an error that names it, never ignored.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use atelier_classify::ClassifyOptions;
use atelier_compose::ComposeOptions;
use atelier_gateway::GatewayOptions;
use atelier_ingest::IngestOptions;
use atelier_matte::MatteOptions;
use atelier_models::ProviderChoice;
use atelier_persist::PersistOptions;
use atelier_preprocess::PreprocessOptions;
use atelier_runtime::{
    kafka::SecurityError,
    options::{KafkaOptions, SecurityOptions, StageRuntimeOptions},
    telemetry::TelemetryOptions,
};
use atelier_stores::{Durability, StoresOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct Config {
    /// Folder for everything that is kept: the log, the blobs, the ledger. Default `$XDG_DATA_HOME/atelier` or
    /// `~/.local/share/atelier`.
    pub data_dir: Option<PathBuf>,
    /// The embedded broker that `atelier up` starts.
    pub broker: BrokerOptions,
    /// How to reach the log. `bootstrap_servers` is for a broker of your own (`broker.embedded = false`).
    pub kafka: KafkaOptions,
    /// Where things are kept.
    pub stores: StoresOptions,
    /// Decoded pixels between the stages of one process.
    pub rasters: RasterOptions,
    /// Where weights are kept, and how they run.
    pub models: ModelOptions,
    /// The HTTP gateway.
    pub gateway: GatewayOptions,
    /// How every stage runs; `stages.<name>.runtime` overrides single keys for one stage.
    pub runtime: StageRuntimeOptions,
    /// Traces.
    pub telemetry: TelemetryOptions,
    /// What each stage does.
    pub stages: StagesOptions,
}

/// The embedded broker that `atelier up` starts and watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct BrokerOptions {
    /// Whether `atelier up` starts it. With `false` it uses the broker at `kafka.bootstrap_servers`.
    pub embedded: bool,
    /// Address and port it listens on, loopback only.
    pub listen: SocketAddr,
    /// What an acknowledgement outlives: `fsync` a power cut, `os` a killed process.
    pub durability: Durability,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            embedded: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            durability: Durability::default(),
        }
    }
}

/// Decoded pixels between the stages of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct RasterOptions {
    /// Most bytes of decoded pixels held in memory; what falls out is read from the blob store.
    pub cache_bytes: u64,
}

impl Default for RasterOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Where weights are kept, and how they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct ModelOptions {
    /// Folder of the weights. Default `$ATELIER_MODELS_DIR`, or `atelier/models` in the user's cache folder.
    pub dir: Option<PathBuf>,
    /// What calculates the networks. `cpu`: ONNX Runtime's own kernels. `openvino`: OpenVINO, in bfloat16 where the
    /// processor is fast in it. `openvino-int8`: the same, and in eight bits the networks that were calibrated for it.
    /// `cuda`, `tensorrt`: a graphics card of NVIDIA's (`atelier models pull onnxruntime-gpu`). `auto`: CUDA where that was pulled and
    /// there is a driver; else OpenVINO where the processor calculates in eight bits (AVX-512 VNNI) or is fast in bfloat16; both for
    /// networks whose mattes pass the check against the reference at start; `cpu` otherwise; the log says which.
    pub provider: ProviderChoice,
}

/// What each stage does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct StagesOptions {
    /// Fetching and checking sources.
    pub ingest: IngestOptions,
    /// Decoding.
    pub preprocess: PreprocessOptions,
    /// Classifying.
    pub classify: ClassifyOptions,
    /// Matting.
    pub matte: MatteOptions,
    /// Composing and encoding.
    pub compose: ComposeOptions,
    /// Recording.
    pub persist: PersistOptions,
}

/// A configuration with its places resolved.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says, over the defaults.
    pub config: Config,
    /// Absolute folder for everything that is kept.
    pub data_dir: PathBuf,
    /// Single runtime keys by stage, from `stages.<name>.runtime`.
    runtime_of: toml::Table,
}

impl Loaded {
    /// Reads the file (or takes the defaults) and lets the command line's data folder win.
    ///
    /// # Errors
    /// What is wrong with the file, with line and key; or that there is no home folder to keep things in.
    pub fn load(file: Option<&Path>, data_dir: Option<&Path>) -> anyhow::Result<Self> {
        let mut document = match file {
            None => toml::Table::new(),
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("the configuration {} cannot be read", path.display()))?
                .parse::<toml::Table>()
                .with_context(|| format!("the configuration {} is no TOML", path.display()))?,
        };
        let runtime_of = take_runtime_tables(&mut document)?;
        let place = file.map_or_else(
            || "the defaults".to_owned(),
            |path| path.display().to_string(),
        );
        let config: Config = document.try_into().with_context(|| {
            format!("the configuration {place} does not fit; see docs/config.md")
        })?;
        let data_dir = match data_dir
            .map(Path::to_owned)
            .or_else(|| config.data_dir.clone())
        {
            Some(folder) => folder,
            None => default_data_dir()?,
        };
        let data_dir = std::path::absolute(&data_dir)
            .with_context(|| format!("the data folder {} is no path", data_dir.display()))?;
        let loaded = Self {
            config,
            data_dir,
            runtime_of,
        };
        if loaded.config.broker.embedded
            && loaded.config.kafka.security != SecurityOptions::default()
        {
            bail!(
                "[kafka.security] is set, and the embedded broker has neither TLS nor passwords: set broker.embedded = false and kafka.bootstrap_servers for a Kafka that has, or take the section out"
            );
        }
        for stage in atelier_schemas::TopicTable::embedded().stages() {
            loaded.runtime(stage)?;
        }
        Ok(loaded)
    }

    /// How `stage` runs: the stage's own default, `[runtime]` over it, `[stages.<stage>.runtime]` over that.
    ///
    /// # Errors
    /// A key of `[stages.<stage>.runtime]` that does not fit.
    pub fn runtime(&self, stage: &str) -> anyhow::Result<StageRuntimeOptions> {
        let mut options = toml::Table::try_from(&self.config.runtime)
            .context("runtime options do not serialise")?;
        if self.config.runtime.max_in_flight == StageRuntimeOptions::default().max_in_flight {
            options.insert("max_in_flight".into(), default_in_flight(stage).into());
        }
        if let Some(toml::Value::Table(own)) = self.runtime_of.get(stage) {
            merge(&mut options, own);
        }
        options
            .try_into()
            .with_context(|| format!("[stages.{stage}.runtime] does not fit; see docs/config.md"))
    }

    /// The blob store's URL.
    pub fn blobs_url(&self) -> String {
        self.config
            .stores
            .blobs_url
            .clone()
            .unwrap_or_else(|| file_url("file", &self.data_dir.join("blobs")))
    }

    /// The ledger's URL.
    pub fn ledger_url(&self) -> String {
        self.config
            .stores
            .ledger_url
            .clone()
            .unwrap_or_else(|| file_url("sqlite", &self.data_dir.join("ledger.sqlite")))
    }

    /// How to reach the log: the embedded broker's address unless there is a broker of one's own.
    ///
    /// # Errors
    /// `[kafka.security]` does not hold together, or a file or the password that it needs is missing.
    pub fn kafka(&self) -> Result<KafkaOptions, SecurityError> {
        let mut kafka = self.config.kafka.clone();
        if self.config.broker.embedded {
            kafka.bootstrap_servers = self.config.broker.listen.to_string();
        }
        kafka.security.check()?;
        Ok(kafka)
    }
}

/// Waiting stages (network) gain by several messages at once, the model's stage does not: it has every core already.
fn default_in_flight(stage: &str) -> i64 {
    match stage {
        "ingest" => 8,
        "preprocess" | "compose" => 2,
        _ => 1,
    }
}

/// Takes `stages.<name>.runtime` out, so that what is left fits the stages' own option types.
fn take_runtime_tables(document: &mut toml::Table) -> anyhow::Result<toml::Table> {
    let mut taken = toml::Table::new();
    let Some(toml::Value::Table(stages)) = document.get_mut("stages") else {
        return Ok(taken);
    };
    for (stage, options) in stages.iter_mut() {
        let Some(runtime) = options
            .as_table_mut()
            .and_then(|table| table.remove("runtime"))
        else {
            continue;
        };
        if !runtime.is_table() {
            bail!("stages.{stage}.runtime must be a table");
        }
        taken.insert(stage.clone(), runtime);
    }
    Ok(taken)
}

fn merge(base: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn default_data_dir() -> anyhow::Result<PathBuf> {
    let non_empty = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    non_empty("XDG_DATA_HOME")
        .or_else(|| non_empty("HOME").map(|home| home.join(".local/share")))
        .map(|folder| folder.join("atelier"))
        .context("there is no home folder to keep things in: set ATELIER_DATA_DIR or `data_dir`")
}

fn file_url(scheme: &str, path: &Path) -> String {
    // `from_file_path` escapes what a URL must not hold; it fails only for relative paths, which `load` ruled out.
    url::Url::from_file_path(path).map_or_else(
        |()| format!("{scheme}://{}", path.display()),
        |url| url.as_str().replacen("file", scheme, 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Loaded> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Loaded::load(Some(file.path()), Some(Path::new("/tmp/x y")))
    }

    #[test]
    fn an_unknown_key_is_named() {
        for (text, key) in [
            ("[gatway]\nlisten = \"127.0.0.1:1\"", "gatway"),
            ("[runtime]\nqueue = 3", "queue"),
            ("[stages.matte.runtime]\nqueue = 3", "queue"),
            ("[stages.mate]\n", "mate"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn security_that_cannot_be_had_is_an_error_before_anything_starts() {
        let secured = "[kafka.security]\nprotocol = \"ssl\"\n";
        let cases = [
            (secured.to_owned(), "broker.embedded = false"),
            (
                format!("{secured}ca_file = \"/nowhere\"\n[broker]\nembedded = false\n"),
                "kafka.security.ca_file = /nowhere cannot be read",
            ),
            (
                format!("{secured}password = \"x\"\n[broker]\nembedded = false\n"),
                "unknown field `password`",
            ),
        ];
        for (text, said) in cases {
            let kafka = load(&text).and_then(|loaded| Ok(loaded.kafka()?));
            let error = format!("{:#}", kafka.unwrap_err());
            assert!(error.contains(said), "{error}");
        }
        let fits = format!("{secured}[broker]\nembedded = false\n");
        assert!(load(&fits).unwrap().kafka().is_ok());
    }

    #[test]
    fn a_stage_overrides_single_runtime_keys() {
        let loaded =
            load("[runtime]\nqueue_capacity = 7\n[stages.matte.runtime.retry]\nmax_attempts = 2\n")
                .unwrap();
        let matte = loaded.runtime("matte").unwrap();
        assert_eq!((matte.queue_capacity, matte.retry.max_attempts), (7, 2));
        assert_ne!(loaded.runtime("compose").unwrap().retry.max_attempts, 2);
        assert_eq!(loaded.runtime("ingest").unwrap().max_in_flight, 8);
    }

    #[test]
    fn places_follow_the_data_folder() {
        let loaded = load("").unwrap();
        assert_eq!(loaded.ledger_url(), "sqlite:///tmp/x%20y/ledger.sqlite");
        assert_eq!(loaded.kafka().unwrap().bootstrap_servers, "127.0.0.1:9092");
    }
}
