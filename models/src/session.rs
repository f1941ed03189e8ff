//! A network ready to run: opened only if its inputs and outputs are those of its catalogue row.

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use ndarray::{ArcArray, ArrayD, ArrayViewD, Axis, IxDyn, Slice, concatenate};
use ort::{
    session::{OutputSelector, RunOptions, Session as OrtSession, SessionInputValue},
    value::TensorRef,
};

use crate::{
    LoadError, Model, ModelStore, Provider, Runtime, State,
    onnx::{self, Ports},
    provider::Precision,
    quantize::Calibration,
};

mod compile;
mod line;
mod signature;

use compile::{Network, copies};
use line::Line;
use signature::{Mismatch, Signature, check, ports};

/// How to run a network.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Threads that work on one run; `None` is one per core, shared out among `concurrent_runs`.
    pub intra_threads: Option<usize>,
    /// Runs at the same time, each with a copy of the weights in memory; 0 counts as 1.
    pub concurrent_runs: usize,
    /// Most pictures of one run, of those that wait for it at the same time; 0 counts as 1. A file with a fixed batch takes one.
    pub max_batch: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            intra_threads: None,
            concurrent_runs: 1,
            max_batch: 1,
        }
    }
}

impl SessionOptions {
    /// Threads of each run: runs at the same time have the machine's cores between them. `None` leaves a single run to its library, which
    /// takes all of them.
    fn threads_of_a_run(&self) -> Option<usize> {
        let cores = available_parallelism().map_or(1, usize::from);
        let share = (self.concurrent_runs > 1).then(|| (cores / self.concurrent_runs).max(1));
        self.intra_threads.or(share)
    }
}

/// What goes into a network of one input.
pub type Tensor = ArcArray<f32, IxDyn>;

/// A network ready to run. Runs beyond [`SessionOptions::concurrent_runs`] wait for one to end.
pub struct Session {
    name: String,
    file_identity: String,
    provider: Provider,
    input_names: Vec<String>,
    output_names: Vec<String>,
    /// ONNX Runtime is safe to enter once for each copy.
    line: Line<OrtSession, Tensor, Inference>,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Inference {
    /// The catalogue row's outputs, in its order.
    pub outputs: Vec<ArrayD<f32>>,
    /// The network's own time, or a picture's share of it where several ran together.
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
        if store.state(model) == State::Missing {
            return Err(LoadError::Missing {
                name: model.name.clone(),
                fix: store.fix(model),
            });
        }
        Self::open_file(runtime, store, (model, &store.path(model)), options)
    }

    /// Whether a model's file has the inputs and outputs of its row, by what the file says of them: milliseconds, for the network is not
    /// compiled and its weights are not read. A file that is not there is no wrong one.
    ///
    /// # Errors
    /// It is another network, or none.
    pub fn check_file(store: &ModelStore, model: &Model) -> Result<(), LoadError> {
        let path = store.path(model);
        let found = match File::open(&path).and_then(Ports::read) {
            Ok(ports) => check(model, &ports).map(|_| ()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Mismatch {
                expected: "an ONNX network".to_owned(),
                found: format!("something else ({error})"),
            }),
        };
        found.map_err(|mismatch| wrong_file(store, (model, &path), mismatch))
    }

    /// Opens a model's file that may lie elsewhere than in the store. Blocking.
    ///
    /// # Errors
    /// It is not the network that the row describes.
    pub(crate) fn open_file(
        runtime: &Runtime,
        store: &ModelStore,
        (model, path): (&Model, &Path),
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        let fix = store.fix(model);
        let unloadable_because = |reason: String| LoadError::Unloadable {
            name: model.name.clone(),
            path: path.to_owned(),
            reason,
            fix: fix.clone(),
        };
        let unloadable = |error: ort::Error| unloadable_because(first_line(&error.to_string()));
        let calibration =
            Calibration::of(&model.name).map_err(|error| unloadable_because(error.to_string()))?;
        let provider = match runtime.provider() {
            // Nobody knows how large its data get.
            Provider::OpenVino(Precision::Int8) if calibration.is_none() => {
                Provider::openvino_here()
            }
            // It would compile the network anew for every size of picture.
            Provider::TensorRt if model.takes_any_size() => Provider::Cuda,
            provider => provider,
        };
        let options = &SessionOptions {
            // The same for every size of batch.
            max_batch: if provider == Provider::TensorRt {
                1
            } else {
                options.max_batch
            },
            ..*options
        };
        let network = Network::of(model, path, provider, calibration.as_ref());
        let as_it_is = Network::File(path);
        let network_or_file = network.as_ref().unwrap_or(&as_it_is);
        let copies = copies(runtime, provider, network_or_file, options).map_err(unloadable)?;
        let Signature {
            input_names,
            output_names,
            batch_is_free,
        } = check(model, &ports(&copies[0]))
            .map_err(|mismatch| wrong_file(store, (model, path), mismatch))?;
        // Only now: inputs and outputs say more about a wrong file than what could not be rewritten in it.
        network.map_err(unloadable_because)?;
        if options.max_batch > 1 && !batch_is_free {
            tracing::info!(
                model = model.name,
                "the network takes one picture a run: its file has a fixed batch"
            );
        }
        let max_batch = if batch_is_free { options.max_batch } else { 1 };
        Ok(Self {
            name: model.name.clone(),
            file_identity: store.file_identity(model),
            provider,
            input_names,
            output_names,
            line: Line::new(copies, max_batch),
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

    /// Most pictures that it takes in one run.
    pub fn max_batch(&self) -> usize {
        self.line.most()
    }

    /// Runs the network on one picture, together with others that wait for it at the same time, as many as
    /// [`SessionOptions::max_batch`] says. It waits for no others to come. Where they fail together, they are run again in halves, so
    /// that what fails one fails that one alone. Blocking, also while every copy is at work.
    ///
    /// # Errors
    /// The tensor does not fit, or ONNX Runtime failed.
    pub fn run_with_others(&self, input: Tensor) -> Result<Inference, RunError> {
        let fits = |one: &Tensor, other: &Tensor| one.shape() == other.shape();
        self.line.run(input, fits, |copy, inputs| {
            let together = self.run_on(copy, inputs);
            if let Err(error) = &together
                && inputs.len() > 1
            {
                tracing::warn!(
                    %error,
                    pictures = inputs.len(),
                    "a batch failed; its pictures are run in smaller ones"
                );
            }
            together
        })
    }

    /// Runs the network once on pictures of one size, and answers in their order. Blocking, also while every copy is at work.
    ///
    /// # Errors
    /// As [`Self::run_with_others`], for all of them.
    pub fn run_together(&self, inputs: &[Tensor]) -> Result<Vec<Inference>, RunError> {
        let mut lent = self.line.lend();
        let copy = lent.copy.as_mut().ok_or_else(|| self.without_copy())?;
        self.run_on(copy, inputs)
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
        let mut lent = self.line.lend();
        let copy = lent.copy.as_mut().ok_or_else(|| self.without_copy())?;
        let mut inferences = self.calculate(copy, values, 1)?;
        Ok(inferences.swap_remove(0))
    }

    fn run_on(&self, copy: &mut OrtSession, inputs: &[Tensor]) -> Result<Vec<Inference>, RunError> {
        let joined;
        let view = match inputs {
            [one] => one.view(),
            several => {
                let views: Vec<_> = several.iter().map(|one| one.view()).collect();
                joined = concatenate(Axis(0), &views).map_err(|error| RunError {
                    model: self.name.clone(),
                    reason: format!("its inputs do not go together: {error}"),
                })?;
                joined.view()
            }
        };
        let tensor = TensorRef::from_array_view(view).map_err(|error| self.failed(&error))?;
        self.calculate(copy, vec![tensor.into()], inputs.len())
    }

    /// Runs the network once, and takes what it gave apart into so many pictures.
    fn calculate(
        &self,
        copy: &mut OrtSession,
        values: Vec<SessionInputValue<'_>>,
        pictures: usize,
    ) -> Result<Vec<Inference>, RunError> {
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
        let started = Instant::now();
        let outputs = copy
            .run_with_options(inputs, &options)
            .map_err(|error| self.failed(&error))?;
        let elapsed = started.elapsed() / pictures.max(1) as u32;
        let views = self.output_names.iter().map(|name| {
            let view = outputs[name.as_str()]
                .try_extract_array::<f32>()
                .map_err(|error| self.failed(&error))?;
            if pictures > 1 && view.shape().first() != Some(&pictures) {
                return Err(RunError {
                    model: self.name.clone(),
                    reason: format!(
                        "its output `{name}` is {:?} for {pictures} pictures",
                        view.shape()
                    ),
                });
            }
            Ok(view)
        });
        let views: Vec<_> = views.collect::<Result<_, _>>()?;
        let of_picture = |place: usize| Inference {
            outputs: views
                .iter()
                .map(|view| match pictures {
                    1 => view.to_owned(),
                    _ => view
                        .slice_axis(Axis(0), Slice::from(place..=place))
                        .to_owned(),
                })
                .collect(),
            elapsed,
        };
        Ok((0..pictures).map(of_picture).collect())
    }

    fn without_copy(&self) -> RunError {
        RunError {
            model: self.name.clone(),
            reason: "it was opened without a copy to run".to_owned(),
        }
    }

    fn failed(&self, error: &ort::Error) -> RunError {
        RunError {
            model: self.name.clone(),
            reason: first_line(&error.to_string()),
        }
    }
}

fn wrong_file(store: &ModelStore, (model, path): (&Model, &Path), mismatch: Mismatch) -> LoadError {
    LoadError::WrongFile {
        name: model.name.clone(),
        path: path.to_owned(),
        expected: mismatch.expected,
        found: mismatch.found,
        fix: store.fix(model),
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

/// Runs the least of networks by the runtime's provider; says what is wrong where that does not work.
pub(crate) fn try_out(runtime: &Runtime) -> Result<(), String> {
    let network = Network::Rewritten(onnx::Network::least().write());
    let text = |error: ort::Error| first_line(&error.to_string());
    let options = SessionOptions::default();
    let mut copies = copies(runtime, runtime.provider(), &network, &options).map_err(text)?;
    let given = ArrayD::from_elem(IxDyn(&[1]), 2.0_f32);
    let input = TensorRef::from_array_view(given.view()).map_err(text)?;
    let outputs = copies[0].run(ort::inputs![input]).map_err(text)?;
    let (_, found) = outputs[0].try_extract_tensor::<f32>().map_err(text)?;
    match found {
        [2.0] => Ok(()),
        _ => Err(format!("of 2 it made {found:?}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_at_the_same_time_share_the_cores_out() {
        let cores = available_parallelism().unwrap().get();
        let threads = |intra_threads, concurrent_runs| {
            let options = SessionOptions {
                intra_threads,
                concurrent_runs,
                ..SessionOptions::default()
            };
            options.threads_of_a_run()
        };
        assert_eq!(threads(None, 1), None);
        for runs in [2, 3, cores, 4 * cores] {
            if runs > 1 {
                let each = threads(None, runs).unwrap();
                assert!(
                    each >= 1 && each * runs <= cores.max(runs),
                    "{runs}: {each}"
                );
            }
        }
        assert_eq!(threads(Some(3), 2), Some(3));
    }
}
