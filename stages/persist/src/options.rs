//! What may be set about `persist`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of the stage `persist`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct PersistOptions {
    /// Most events whose effects share one SQL transaction, at least 1.
    pub max_batch: usize,
}

impl Default for PersistOptions {
    fn default() -> Self {
        Self { max_batch: 64 }
    }
}
