//! Spans: what one image, or one request, went through, told to a collector by OTLP.
//!
//! Invariants: a span has an identity whether or not anybody collects it, so that logs and events join; a collector that is slow
//! or away blocks nobody and costs a bounded amount of memory; spans that it did not take are counted and told once.

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::counter;
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{
        Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult,
        SdkTracer, SdkTracerProvider, ShouldSample, Span as SdkSpan, SpanData, SpanExporter,
        SpanProcessor,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TelemetryError, table::SPANS_TOTAL};
use crate::trace_context::TraceContext;

/// Spans that wait for the collector at most, about a kilobyte each.
const MAX_WAITING_SPANS: usize = 4_096;
const MAX_BATCH_SPANS: usize = 512;
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where traces go, and how many of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct TelemetryOptions {
    /// Collector of traces that takes OTLP by gRPC, such as Jaeger: `http://host:4317`. Absent: no traces.
    pub otlp_endpoint: Option<String>,
    /// Share of the traces that begin here which are collected, 0 to 1. A caller that sends a trace context has decided already.
    pub sampling_ratio: f64,
    /// How long the end of the process waits for the collector to take the last spans, in milliseconds.
    pub flush_timeout_ms: u64,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            sampling_ratio: 1.0,
            flush_timeout_ms: 3_000,
        }
    }
}

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The process's connection to its collector of traces.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    flush_timeout: Duration,
}

impl Traces {
    /// Begins to collect, where `options` name a collector, under the name of `service`. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`TelemetryError::Traces`] where an option does not hold, or the process collects already. A collector that is away is
    /// no error.
    pub fn start(
        options: &TelemetryOptions,
        service: &str,
    ) -> Result<Option<Self>, TelemetryError> {
        let wrong = |reason: String| TelemetryError::Traces(reason);
        if !(0.0..=1.0).contains(&options.sampling_ratio) {
            return Err(wrong(format!(
                "telemetry.sampling_ratio is {}, it must be between 0 and 1",
                options.sampling_ratio
            )));
        }
        let Some(endpoint) = &options.otlp_endpoint else {
            return Ok(None);
        };
        if !endpoint.starts_with("http://") {
            return Err(wrong(format!(
                "telemetry.otlp_endpoint is `{endpoint}`, it must be `http://host:port`; let a collector beside this process speak TLS"
            )));
        }
        let otlp = OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| wrong(format!("telemetry.otlp_endpoint is `{endpoint}`: {error}")))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = ToldOnce {
            otlp,
            endpoint: endpoint.clone(),
            is_away: AtomicBool::new(false),
            waiting: Arc::clone(&waiting),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING_SPANS)
            .with_max_export_batch_size(MAX_BATCH_SPANS)
            .with_scheduled_delay(EXPORT_INTERVAL)
            .build();
        let processor = Bounded {
            batches: BatchSpanProcessor::builder(exporter)
                .with_batch_config(batches)
                .build(),
            waiting,
        };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampling::of(options.sampling_ratio))
            .with_resource(
                Resource::builder()
                    .with_service_name(service.to_owned())
                    .build(),
            )
            .build();
        TRACER
            .set(provider.tracer("atelier"))
            .map_err(|_| wrong("the process collects traces already".to_owned()))?;
        Ok(Some(Self {
            provider,
            flush_timeout: Duration::from_millis(options.flush_timeout_ms),
        }))
    }

    /// Gives the collector what is left, and waits for it no longer than `telemetry.flush_timeout_ms`. Blocking, and needs
    /// the Tokio runtime to go on meanwhile.
    pub fn finish(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(self.flush_timeout) {
            tracing::warn!(%error, "the last spans were not taken by the collector of traces");
        }
    }
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A request that is answered.
    Server,
    /// A message that is worked.
    Consumer,
    /// Something inside.
    Internal,
}

/// One step of a trace. It ends when it is dropped.
#[derive(Debug)]
pub struct Step {
    context: TraceContext,
    recording: Option<SdkSpan>,
}

impl Step {
    /// Begins a step below `parent`, or a trace where there is none. `name` tells few kinds of steps apart, not single ones.
    pub fn begin(
        kind: StepKind,
        name: impl Into<Cow<'static, str>>,
        parent: Option<TraceContext>,
    ) -> Self {
        Self::built(kind, name.into(), parent, Vec::new())
    }

    /// A step that nobody collects.
    pub fn uncollected(parent: Option<TraceContext>) -> Self {
        Self {
            context: parent.map_or_else(TraceContext::unsampled, TraceContext::child),
            recording: None,
        }
    }

    /// Begins a trace of its own for work that belongs to several; it is collected where one of them is.
    pub fn begin_joining(
        name: impl Into<Cow<'static, str>>,
        joined: impl IntoIterator<Item = TraceContext>,
    ) -> Self {
        let links = joined
            .into_iter()
            .map(|context| Link::with_context(context.into()))
            .collect();
        Self::built(StepKind::Internal, name.into(), None, links)
    }

    fn built(
        kind: StepKind,
        name: Cow<'static, str>,
        parent: Option<TraceContext>,
        links: Vec<Link>,
    ) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self::uncollected(parent);
        };
        let above = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(parent.into())
        });
        let builder = SpanBuilder::from_name(name)
            .with_kind(match kind {
                StepKind::Server => SpanKind::Server,
                StepKind::Consumer => SpanKind::Consumer,
                StepKind::Internal => SpanKind::Internal,
            })
            .with_links(links);
        let span = tracer.build_with_context(builder, &above);
        match TraceContext::of(span.span_context()) {
            Some(context) => Self {
                context,
                recording: span.is_recording().then_some(span),
            },
            // The process ends: nothing is collected any more.
            None => Self::uncollected(parent),
        }
    }

    /// Where it stands in its trace.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Whether it is collected; what only serves a collector can be left out where it is not.
    pub fn is_collected(&self) -> bool {
        self.recording.is_some()
    }

    /// Says something of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Says that it has to do with a step of another trace.
    pub fn link(&mut self, other: TraceContext) {
        if let Some(span) = &mut self.recording {
            span.add_link(other.into(), Vec::new());
        }
    }

    /// It did not work.
    pub fn fail(&mut self, reason: &str) {
        if let Some(span) = &mut self.recording {
            span.set_status(Status::error(reason.to_owned()));
        }
    }
}

/// The caller decides; where there is none the ratio does; what joins several traces is collected where one of them is.
#[derive(Clone, Debug)]
struct Sampling(Sampler);

impl Sampling {
    fn of(ratio: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            ratio,
        ))))
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self
            .0
            .should_sample(parent, trace_id, name, kind, attributes, links);
        if !links.is_empty() {
            let one_is = links.iter().any(|link| link.span_context.is_sampled());
            result.decision = if one_is {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            };
        }
        result
    }
}

/// Lets no more spans wait than [`MAX_WAITING_SPANS`], and counts those that are left out.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING_SPANS {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            exported(1, "lost");
        } else {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Says once that the collector is away, and once that it is back.
#[derive(Debug)]
struct ToldOnce {
    otlp: OtlpExporter,
    endpoint: String,
    is_away: AtomicBool,
    waiting: Arc<AtomicUsize>,
}

impl SpanExporter for ToldOnce {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let outcome = self.otlp.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        exported(count, if outcome.is_ok() { "exported" } else { "lost" });
        let was_away = self.is_away.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !was_away => tracing::warn!(
                %error,
                "the collector of traces at {} takes none; spans are lost until it does, and nothing else is",
                self.endpoint
            ),
            Ok(()) if was_away => tracing::info!("the collector of traces is back"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

fn exported(spans: usize, result: &'static str) {
    counter!(SPANS_TOTAL.name, "result" => result).increment(spans as u64);
}
