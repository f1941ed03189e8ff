//! Errors of the broker: those that end it, and those that one request is answered with.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use kafka_protocol::ResponseError;

use crate::state::JournalError;

/// Why the broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another broker has the data directory.
    #[error("{dir} is in use by the broker with process id {pid}; stop it first, or give another --data-dir", dir = .dir.display())]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Who has it, as its lock file says.
        pid: String,
    },
    /// Anyone who can reach the address could read and write everything.
    #[error(
        "{address} is not a loopback address and this broker has no authentication; use 127.0.0.1, or say --allow-remote if the network keeps others out"
    )]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use {dir}: {source}", dir = .dir.display())]
    DataDir {
        /// The data directory.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// What lies in the data directory could not be recovered.
    #[error("cannot recover {dir}: {reason}", dir = .dir.display())]
    Recovery {
        /// The data directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The broker's own threads could not be started.
    #[error("cannot start the broker's threads: {0}")]
    Threads(#[source] io::Error),
}

/// Why a request, or one item of it, is refused: Kafka's code, and a message where the answer has room for one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Kafka's code.
    pub code: ResponseError,
    /// What was wrong, with which value, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ResponseError> for Refusal {
    fn from(code: ResponseError) -> Self {
        Self {
            code,
            message: code.to_string(),
        }
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        Self::new(ResponseError::KafkaStorageError, error.to_string())
    }
}

/// The code of an outcome on the wire; 0 when all is well.
pub fn wire_code<T>(outcome: &Result<T, Refusal>) -> i16 {
    match outcome {
        Ok(_) => 0,
        Err(refusal) => refusal.code.code(),
    }
}
