//! A network's file to copies that are ready to run: rewritten for the provider, and compiled by it.

use std::{panic::resume_unwind, path::Path, thread::available_parallelism};

use ort::{
    ep::{
        ArbitrarilyConfigurableExecutionProvider as _, CUDA, ExecutionProviderDispatch, OpenVINO,
        TensorRT,
    },
    session::{
        Session as OrtSession,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};

use super::SessionOptions;
use crate::{
    Model, Provider, Runtime, absorb, heads,
    onnx::{self, BATCH},
    provider::Precision,
    quantize::{Calibration, quantize},
};

/// What a session is made of.
pub(super) enum Network<'a> {
    /// The file as it is.
    File(&'a Path),
    /// The file's content, rewritten for the provider.
    Rewritten(Vec<u8>),
}

impl<'a> Network<'a> {
    pub fn of(
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

/// Leaves out what only training needed, lets the rest calculate in eight bits where there is a calibration, and takes its heads apart.
fn rewrite(
    network: &mut onnx::Network,
    model: &Model,
    calibration: Option<&Calibration>,
) -> Result<(), onnx::RewriteError> {
    if model.has_spare_outputs {
        let outputs = model.outputs.iter().map(|output| output.name.as_deref());
        network.keep_outputs(&outputs.collect::<Vec<_>>())?;
    }
    if let Some(calibration) = calibration {
        quantize(network, calibration)?;
    }
    heads::take_apart(network.graph());
    Ok(())
}

/// As many copies as are to run at the same time; compiled side by side, for one that is to run on one core is also compiled on one.
pub(super) fn copies(
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
    if options.max_batch <= 1 {
        // What is known before the first run is calculated, and planned for, before the first run.
        builder = builder.with_dimension_override(BATCH, 1)?;
    }
    if let Some(threads) = options.threads_of_a_run() {
        builder = builder.with_intra_threads(threads)?;
    }
    let providers = providers(runtime, provider, options);
    if !providers.is_empty() {
        builder = builder.with_execution_providers(providers)?;
    }
    match network {
        Network::File(path) => builder.commit_from_file(path),
        Network::Rewritten(bytes) => builder.commit_from_memory(bytes),
    }
}

/// What ONNX Runtime is to use before its own kernels. Each one that cannot be had is an error: without that the network would run
/// on those kernels, and nobody would know.
fn providers(
    runtime: &Runtime,
    provider: Provider,
    options: &SessionOptions,
) -> Vec<ExecutionProviderDispatch> {
    let cuda = || CUDA::default().build().error_on_failure();
    match provider {
        Provider::Cpu => Vec::new(),
        Provider::OpenVino(precision) => vec![openvino(precision, options)],
        Provider::Cuda => vec![cuda()],
        // What TensorRT does not know stays on the card.
        Provider::TensorRt => vec![tensorrt(runtime), cuda()],
    }
}

fn openvino(precision: Precision, options: &SessionOptions) -> ExecutionProviderDispatch {
    let threads = options
        .threads_of_a_run()
        .or_else(|| available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    // Unpinned, because the other stages work on the same cores.
    let config = serde_json::json!({ "CPU": {
        "INFERENCE_PRECISION_HINT": precision.hint(),
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": false,
    }});
    OpenVINO::default()
        .with_device_type("CPU")
        .with_arbitrary_config("load_config", config.to_string())
        .build()
        .error_on_failure()
}

/// Compiling takes minutes, so what was compiled for this card is kept.
fn tensorrt(runtime: &Runtime) -> ExecutionProviderDispatch {
    TensorRT::default()
        .with_engine_cache(true)
        .with_engine_cache_path(runtime.compiled_folder().display())
        .build()
        .error_on_failure()
}
