//! A network ready to run: opened only if its inputs and outputs are those of its catalogue row.

use std::{
    fmt,
    panic::resume_unwind,
    path::Path,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use ndarray::{ArrayD, ArrayViewD};
use ort::{
    ep::{ArbitrarilyConfigurableExecutionProvider as _, OpenVINO},
    session::{
        OutputSelector, RunOptions, Session as OrtSession, SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::TensorRef,
};
use parking_lot::{Condvar, Mutex};

use crate::{
    LoadError, Model, ModelStore, Provider, Runtime, State, absorb, onnx,
    provider::Precision,
    quantize::{Calibration, quantize},
};

mod signature;

use signature::check;

/// How to run a network.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Threads that work on one run; `None` is one per core.
    pub intra_threads: Option<usize>,
    /// Runs at the same time, each with a copy of the weights in memory; 0 counts as 1.
    pub concurrent_runs: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            intra_threads: None,
            concurrent_runs: 1,
        }
    }
}

/// A network ready to run. Runs beyond [`SessionOptions::concurrent_runs`] wait for one to end.
pub struct Session {
    name: String,
    file_identity: String,
    provider: Provider,
    input_names: Vec<String>,
    output_names: Vec<String>,
    idle: Pool,
}

/// Copies of one network that wait for work: ONNX Runtime is safe to enter once for each.
struct Pool {
    idle: Mutex<Vec<OrtSession>>,
    returned: Condvar,
}

/// A copy at work; it goes back into the pool when it is dropped, also by a panic.
struct Lent<'a> {
    pool: &'a Pool,
    session: Option<OrtSession>,
}

impl Pool {
    /// A copy that nobody uses, waiting for one if need be.
    fn lend(&self) -> Lent<'_> {
        let mut idle = self.idle.lock();
        self.returned.wait_while(&mut idle, |idle| idle.is_empty());
        Lent {
            pool: self,
            session: idle.pop(),
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pool.idle.lock().extend(self.session.take());
        self.pool.returned.notify_one();
    }
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Inference {
    /// The catalogue row's outputs, in its order.
    pub outputs: Vec<ArrayD<f32>>,
    /// The network's own time.
    pub elapsed: Duration,
}

/// A run failed.
#[derive(Debug, thiserror::Error)]
#[error("model `{model}` failed: {reason}")]
pub struct RunError {
    /// Which model.
    pub model: String,
    /// What ONNX Runtime said.
    pub reason: String,
}

impl Session {
    /// Opens a model by its catalogue name. Blocking: large networks take seconds.
    ///
    /// # Errors
    /// No such model, its file is missing or is not the network that the row describes.
    pub fn open(
        runtime: &Runtime,
        store: &ModelStore,
        name: &str,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        let model = store
            .catalogue()
            .find(name)
            .ok_or_else(|| LoadError::UnknownModel {
                name: name.to_owned(),
                known: store
                    .catalogue()
                    .models()
                    .iter()
                    .map(|model| model.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        let path = store.path(model);
        let fix = store.fix(model);
        if store.state(model) == State::Missing {
            return Err(LoadError::Missing {
                name: model.name.clone(),
                fix,
            });
        }
        let file_identity = store.file_identity(model);
        let unloadable_because = |reason: String| LoadError::Unloadable {
            name: model.name.clone(),
            path: path.clone(),
            reason,
            fix: fix.clone(),
        };
        let unloadable = |error: ort::Error| unloadable_because(first_line(&error.to_string()));
        let calibration =
            Calibration::of(name).map_err(|error| unloadable_because(error.to_string()))?;
        let provider = match runtime.provider() {
            // Nobody knows how large its data get.
            Provider::OpenVino(Precision::Int8) if calibration.is_none() => {
                Provider::openvino_here()
            }
            provider => provider,
        };
        let network = Network::of(model, &path, provider, calibration.as_ref());
        let as_it_is = Network::File(&path);
        let network_or_file = network.as_ref().unwrap_or(&as_it_is);
        let copies = copies(runtime, provider, network_or_file, options).map_err(unloadable)?;
        let (input_names, output_names) =
            check(model, &copies[0]).map_err(|mismatch| LoadError::WrongFile {
                name: model.name.clone(),
                path: path.clone(),
                expected: mismatch.expected,
                found: mismatch.found,
                fix: fix.clone(),
            })?;
        // Only now: inputs and outputs say more about a wrong file than what could not be rewritten in it.
        network.map_err(unloadable_because)?;
        let idle = Pool {
            idle: Mutex::new(copies),
            returned: Condvar::new(),
        };
        Ok(Self {
            name: model.name.clone(),
            file_identity,
            provider,
            input_names,
            output_names,
            idle,
        })
    }

    /// The catalogue name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells its file from any other of the same name.
    pub fn file_identity(&self) -> &str {
        &self.file_identity
    }

    /// What runs it.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Runs the network on floating-point numbers. Blocking, also while every copy is at work.
    ///
    /// # Errors
    /// The tensor does not fit, or ONNX Runtime failed.
    pub fn run(&self, input: ArrayViewD<'_, f32>) -> Result<Inference, RunError> {
        self.run_all(vec![input])
    }

    /// Runs a network of several inputs on floating-point numbers, one tensor for each input of the row, in its order. Blocking.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_all(&self, inputs: Vec<ArrayViewD<'_, f32>>) -> Result<Inference, RunError> {
        let tensors = inputs.into_iter().map(|input| {
            let tensor = TensorRef::from_array_view(input).map_err(|error| self.failed(&error))?;
            Ok(tensor.into())
        });
        self.run_values(tensors.collect::<Result<_, RunError>>()?)
    }

    /// Runs the network on bytes. Blocking.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_bytes(&self, input: ArrayViewD<'_, u8>) -> Result<Inference, RunError> {
        let tensor = TensorRef::from_array_view(input).map_err(|error| self.failed(&error))?;
        self.run_values(vec![tensor.into()])
    }

    fn run_values(&self, values: Vec<SessionInputValue<'_>>) -> Result<Inference, RunError> {
        if values.len() != self.input_names.len() {
            return Err(RunError {
                model: self.name.clone(),
                reason: format!(
                    "it takes {} inputs and was given {}",
                    self.input_names.len(),
                    values.len()
                ),
            });
        }
        let inputs: Vec<_> = self
            .input_names
            .iter()
            .map(String::as_str)
            .zip(values)
            .collect();
        // Only what the row names is fetched: IS-Net has eleven more outputs, most of them larger than the matte.
        let selector = self
            .output_names
            .iter()
            .fold(OutputSelector::no_default(), |selector, name| {
                selector.with(name)
            });
        let options = RunOptions::new()
            .map_err(|error| self.failed(&error))?
            .with_outputs(selector);
        let mut lent = self.idle.lend();
        let empty = || RunError {
            model: self.name.clone(),
            reason: "it was opened without a copy to run".to_owned(),
        };
        let session = lent.session.as_mut().ok_or_else(empty)?;
        let started = Instant::now();
        let outputs = session
            .run_with_options(inputs, &options)
            .map_err(|error| self.failed(&error))?;
        let elapsed = started.elapsed();
        let take = |name: &String| {
            let view = outputs[name.as_str()]
                .try_extract_array::<f32>()
                .map_err(|error| self.failed(&error))?;
            Ok(view.to_owned())
        };
        let outputs = self
            .output_names
            .iter()
            .map(take)
            .collect::<Result<_, RunError>>()?;
        Ok(Inference { outputs, elapsed })
    }

    fn failed(&self, error: &ort::Error) -> RunError {
        RunError {
            model: self.name.clone(),
            reason: first_line(&error.to_string()),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("name", &self.name)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// What a session is made of.
enum Network<'a> {
    /// The file as it is.
    File(&'a Path),
    /// The file's content, rewritten for the provider.
    Rewritten(Vec<u8>),
}

impl<'a> Network<'a> {
    fn of(
        model: &Model,
        path: &'a Path,
        provider: Provider,
        calibration: Option<&Calibration>,
    ) -> Result<Self, String> {
        let rounds = matches!(
            provider,
            Provider::OpenVino(Precision::Bf16 | Precision::Int8)
        );
        let absorbs = rounds && !model.absorptions.is_empty();
        let calibration = calibration.filter(|_| provider == Provider::OpenVino(Precision::Int8));
        if !absorbs && !model.has_spare_outputs && calibration.is_none() {
            return Ok(Self::File(path));
        }
        let file = std::fs::read(path).map_err(|error| error.to_string())?;
        let mut network = onnx::Network::read(file).map_err(|error| error.to_string())?;
        if absorbs {
            absorb::absorb(&mut network, &model.absorptions).map_err(|error| error.to_string())?;
        }
        rewrite(&mut network, model, calibration).map_err(|error| error.to_string())?;
        Ok(Self::Rewritten(network.write()))
    }
}

/// Leaves out what only training needed, and lets the rest calculate in eight bits where there is a calibration.
fn rewrite(
    network: &mut onnx::Network,
    model: &Model,
    calibration: Option<&Calibration>,
) -> Result<(), onnx::RewriteError> {
    if model.has_spare_outputs {
        let outputs = model.outputs.iter().map(|output| output.name.as_deref());
        network.keep_outputs(&outputs.collect::<Vec<_>>())?;
    }
    calibration.map_or(Ok(()), |calibration| quantize(network, calibration))
}

/// As many copies as are to run at the same time; compiled side by side, for one that is to run on one core is also compiled on one.
fn copies(
    runtime: &Runtime,
    provider: Provider,
    network: &Network<'_>,
    options: &SessionOptions,
) -> ort::Result<Vec<OrtSession>> {
    let compile = || commit(runtime, provider, network, options);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..options.concurrent_runs)
            .map(|_| scope.spawn(compile))
            .collect();
        let first = compile();
        let others = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(first).chain(others).collect()
    })
}

fn commit(
    runtime: &Runtime,
    provider: Provider,
    network: &Network<'_>,
    options: &SessionOptions,
) -> ort::Result<OrtSession> {
    let mut builder: SessionBuilder = OrtSession::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_log_level(ort::logging::LogLevel::Error)?
        .with_deterministic_compute(true)?;
    if let Some(threads) = options.intra_threads {
        builder = builder.with_intra_threads(threads)?;
    }
    if let Provider::OpenVino(precision) = provider {
        let threads = options
            .intra_threads
            .or_else(|| available_parallelism().ok().map(usize::from))
            .unwrap_or(1);
        // Unpinned, because the other stages work on the same cores.
        let config = serde_json::json!({ "CPU": {
            "INFERENCE_PRECISION_HINT": precision.hint(),
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": false,
        }});
        let openvino = OpenVINO::default()
            .with_device_type("CPU")
            .with_arbitrary_config("load_config", config.to_string())
            .build()
            // Without it an option that OpenVINO does not take lets the network run on the plain kernels, and nobody knows.
            .error_on_failure();
        builder = builder.with_execution_providers([openvino])?;
    }
    match network {
        Network::File(path) => builder.commit_from_file(path),
        Network::Rewritten(bytes) => builder.commit_from_memory(bytes),
    }
}

/// ONNX Runtime's messages run over several lines; the first says what is wrong.
fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(400)
        .collect()
}
