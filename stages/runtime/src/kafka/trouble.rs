//! Why the brokers do not let a client in, in words that say what to do.
//!
//! librdkafka tells of certificates, passwords and access rules by events beside the calls that fail: those only time out.
//! What was heard is kept here for as long as librdkafka may keep silent about the same fault.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::options::KafkaOptions;

/// librdkafka tells of the same fault again after 30 s.
const REMEMBERED: Duration = Duration::from_secs(40);

/// What a client's connections say. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    kafka: Arc<KafkaOptions>,
    heard: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Trouble {
    pub fn new(kafka: &KafkaOptions) -> Self {
        Self {
            kafka: Arc::new(kafka.clone()),
            heard: Arc::default(),
        }
    }

    /// Keeps what an error event says, where it is one of those.
    pub fn hear(&self, error: &KafkaError, said: &str) {
        let code = error.rdkafka_error_code();
        if let Some(text) = code.and_then(|code| self.explain(code, said)) {
            *self.lock() = Some((Instant::now(), text));
        }
    }

    /// Keeps what a log line says, where it is one of those: a connection that is closed at once is told in no other way.
    pub fn hear_line(&self, facility: &str, line: &str) {
        if facility == "FAIL" {
            let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
            self.hear(&error, line);
        }
    }

    /// What is wrong with the connections, if anything was heard of it lately.
    pub fn text(&self) -> Option<String> {
        let heard = self.lock();
        let (at, text) = heard.as_ref()?;
        (at.elapsed() < REMEMBERED).then(|| text.clone())
    }

    /// The connections work.
    pub fn is_over(&self) {
        *self.lock() = None;
    }

    /// An access rule is missing for `resource`, such as ``topic `image-tasks` ``.
    pub fn forbidden(&self, resource: &str) -> String {
        format!(
            "forbidden by ACL: {} may not use {resource}; `atelier topics acls` lists what is needed",
            self.kafka.security.principal()
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, String)>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, code: RDKafkaErrorCode, said: &str) -> Option<String> {
        let security = &self.kafka.security;
        let what = match code {
            RDKafkaErrorCode::SSL => self.explain_tls(said),
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
                if said.contains("supported mechanisms") {
                    format!(
                        "the brokers do not take {}: set kafka.security.mechanism to one of {}",
                        security.mechanism.name(),
                        after(said, "supported mechanisms: ")
                    )
                } else {
                    format!(
                        "the brokers do not know {} by this password: check kafka.security.username, the password and kafka.security.mechanism",
                        security.principal()
                    )
                }
            }
            // A broker that refuses the client's certificate says so after the handshake.
            RDKafkaErrorCode::BrokerTransportFailure if said.contains("SSL routines") => {
                self.explain_tls(said)
            }
            RDKafkaErrorCode::BrokerTransportFailure => {
                // Again and again at the same step, which a broker that restarts does not do.
                let closes_in = |state: &str| {
                    said.contains("Disconnected")
                        && said.contains(&format!("in state {state}, "))
                        && said.contains("identical error(s)")
                };
                if !security.protocol.has_tls() && closes_in("APIVERSION_QUERY") {
                    format!(
                        "kafka.security.protocol = `{}`, and the listener closes the connection: one with TLS does so; set it to `ssl` or `sasl_ssl`",
                        security.protocol.name()
                    )
                } else if said.contains("connecting to a PLAINTEXT broker listener?") {
                    format!(
                        "kafka.security.protocol = `{}`, and the listener closes the connection: one without TLS does so; set it to `plaintext` or `sasl_plaintext`",
                        security.protocol.name()
                    )
                } else if !security.protocol.has_password() && closes_in("UP") {
                    format!(
                        "kafka.security.protocol = `{}`, and the listener closes the connection: one that asks for a password does so; set it to `sasl_plaintext` or `sasl_ssl`",
                        security.protocol.name()
                    )
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        Some(format!("kafka at {}: {what}", self.kafka.bootstrap_servers))
    }

    fn explain_tls(&self, said: &str) -> String {
        let security = &self.kafka.security;
        if said.contains("certificate verify failed") {
            // librdkafka does not say which of the two it is.
            let from = security.ca_file.as_ref().map_or_else(
                || "the system's authorities".to_owned(),
                |file| file.display().to_string(),
            );
            return format!(
                "the broker's certificate does not come from {from}, is for another name, or has expired: set kafka.security.ca_file to the authority that made it, and use the name that stands in it in kafka.bootstrap_servers and in the brokers' advertised.listeners"
            );
        }
        let wants_certificate = [
            "certificate required",
            "bad certificate",
            "unexpected message",
        ];
        if wants_certificate.iter().any(|reason| said.contains(reason)) {
            return match &security.certificate_file {
                None => "the brokers ask for a certificate: set kafka.security.certificate_file and kafka.security.key_file".to_owned(),
                Some(file) => format!("the brokers do not take the certificate {}: give one from an authority that they know", file.display()),
            };
        }
        if said.contains("unknown ca") {
            return "the brokers do not know the authority of kafka.security.certificate_file: give a certificate from one that they know".to_owned();
        }
        if said.contains("wrong version number") {
            return format!(
                "kafka.security.protocol = `{}`, and what answers there is no TLS: set it to `plaintext` or `sasl_plaintext`, or the address to a listener with TLS",
                security.protocol.name()
            );
        }
        format!("TLS fails: {said}")
    }
}

fn after<'a>(text: &'a str, mark: &str) -> &'a str {
    let rest = text.split_once(mark).map_or(text, |(_, rest)| rest);
    rest.split(" (after").next().unwrap_or(rest)
}
