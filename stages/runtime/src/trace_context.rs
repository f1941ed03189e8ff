//! W3C trace context: every message's span is a child of the span that made the message.
//!
//! Invariant: a malformed `traceparent` is never an error; the message starts a fresh trace.

use std::fmt;

use uuid::Uuid;

/// One span's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl TraceContext {
    /// The first span of a new trace.
    pub fn fresh() -> Self {
        Self {
            trace_id: Uuid::new_v4().as_u128(),
            span_id: random_span_id(),
            sampled: true,
        }
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

    /// A new span below the one in `header`, or of a fresh trace where there is none.
    pub fn child_of(header: Option<&str>) -> Self {
        header
            .and_then(Self::parse)
            .map_or_else(Self::fresh, |parent| Self {
                span_id: random_span_id(),
                ..parent
            })
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
    // The version and variant bits of a UUID stand in its middle; its two ends are random throughout.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    ((high & 0xffff_ffff_0000_0000) | (low & 0xffff_ffff)).max(1)
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
        let child = TraceContext::child_of(Some(PARENT));
        assert_eq!(child.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(child.span_id(), "b7ad6b7169203331");
    }

    #[test]
    fn malformed_headers_start_a_fresh_trace() {
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
            assert_eq!(TraceContext::child_of(Some(header)).trace_id().len(), 32);
        }
    }
}
