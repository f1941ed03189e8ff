//! Trace context in headers: every message's span is a child of the span that made the message.
//!
//! Invariant: a malformed header is never an error; the message starts a fresh trace.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Jaeger's own header, which its older clients send.
pub const UBER_TRACE_ID: &str = "uber-trace-id";

/// One span's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl TraceContext {
    /// The first span of a new trace, which nobody collects.
    pub fn unsampled() -> Self {
        Self {
            trace_id: fastrand::u128(1..),
            span_id: random_span_id(),
            sampled: false,
        }
    }

    /// What a caller's headers say: W3C's `traceparent` where it is valid, else Jaeger's `uber-trace-id`.
    pub fn of_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        header("traceparent")
            .and_then(Self::parse)
            .or_else(|| header(UBER_TRACE_ID).and_then(Self::parse_jaeger))
    }

    /// Parses `trace:span:parent:flags` of Jaeger's clients.
    pub fn parse_jaeger(header: &str) -> Option<Self> {
        Self::of(&jaeger::parse(header))
    }

    /// The same as OpenTelemetry writes it; `None` for its "no span".
    pub(crate) fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
        })
    }

    /// Parses `00-<32 hex>-<16 hex>-<2 hex>`; later versions may carry more fields, which are left alone.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = lower_hex(version, 2)?;
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let trace_id = lower_hex(trace, 32)?;
        let span_id = u64::try_from(lower_hex(span, 16)?).ok()?;
        let flags = lower_hex(flags, 2)?;
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span_id: random_span_id(),
            ..self
        }
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The span's id, 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span_id)
    }
}

impl From<TraceContext> for SpanContext {
    fn from(context: TraceContext) -> Self {
        Self::new(
            TraceId::from(context.trace_id),
            SpanId::from(context.span_id),
            if context.sampled {
                TraceFlags::SAMPLED
            } else {
                TraceFlags::default()
            },
            true,
            TraceState::NONE,
        )
    }
}

/// Jaeger's own format. Its propagator is marked as deprecated because nobody should begin to send that header; those who send it
/// still are served.
#[allow(deprecated)]
mod jaeger {
    use opentelemetry::{
        Context,
        propagation::{Extractor, TextMapPropagator as _},
        trace::{SpanContext, TraceContextExt as _},
    };
    use opentelemetry_jaeger_propagator::Propagator;

    use super::UBER_TRACE_ID;

    pub(super) fn parse(header: &str) -> SpanContext {
        let context = Propagator::new().extract_with_context(&Context::new(), &Header(header));
        context.span().span_context().clone()
    }

    /// The one header that the propagator asks for.
    struct Header<'a>(&'a str);

    impl Extractor for Header<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == UBER_TRACE_ID).then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec![UBER_TRACE_ID]
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        )
    }
}

fn random_span_id() -> u64 {
    // Nobody has to guess it in vain, and there are two for every message: no system call each.
    fastrand::u64(1..)
}

fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let valid = text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn round_trips() {
        assert_eq!(TraceContext::parse(PARENT).unwrap().to_string(), PARENT);
    }

    #[test]
    fn a_child_keeps_the_trace_and_has_its_own_span() {
        let child = TraceContext::parse(PARENT).unwrap().child();
        assert_eq!(child.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(child.span_id(), "b7ad6b7169203331");
    }

    #[test]
    fn malformed_headers_are_none() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let upper = "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01";
        for header in [
            "",
            "00",
            "garbage",
            zero_trace,
            zero_span,
            upper,
            &format!("{PARENT}-more"),
            &PARENT.replace("00-", "ff-"),
        ] {
            assert_eq!(TraceContext::parse(header), None, "{header}");
        }
    }

    #[test]
    fn jaegers_header_serves_where_w3cs_is_missing_or_broken() {
        let jaeger = "af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1";
        let both = |traceparent: Option<&'static str>| {
            TraceContext::of_headers(|name| match name {
                "traceparent" => traceparent,
                UBER_TRACE_ID => Some(jaeger),
                _ => None,
            })
        };
        for traceparent in [None, Some("garbage")] {
            assert_eq!(both(traceparent).unwrap().to_string(), PARENT);
        }
        let w3c = "00-11111111111111111111111111111111-2222222222222222-00";
        assert_eq!(both(Some(w3c)).unwrap().to_string(), w3c);
        let short = TraceContext::parse_jaeger("7b:1:0:0").unwrap();
        assert_eq!(
            short.to_string(),
            "00-0000000000000000000000000000007b-0000000000000001-00"
        );
        for wrong in ["", "1:2:3", "x:1:0:1", "0:0:0:1", "1:1:0:zz"] {
            assert_eq!(TraceContext::parse_jaeger(wrong), None, "{wrong}");
        }
    }
}
