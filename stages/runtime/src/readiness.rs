//! Whether a stage can work right now, and if not, what it waits for.
//!
//! Invariant: every reason is logged once when it appears and once when it goes, never once a second.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::telemetry;

/// What a stage depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// Taking part in the consumer group.
    Consumer,
    /// The transactional producer.
    Producer,
    /// What the access rules say of its group.
    Group,
    /// The topics of the table.
    Topics,
    /// What the stage itself needs: blobs, ledger, disk.
    Stage,
}

impl Dependency {
    fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "kafka consumer",
            Self::Producer => "kafka producer",
            Self::Group => "consumer group",
            Self::Topics => "topics",
            Self::Stage => "stage",
        }
    }
}

/// A handle that is shared between a stage's threads and `/health/ready`.
#[derive(Clone, Debug)]
pub struct Readiness {
    stage: &'static str,
    missing: Arc<Mutex<BTreeMap<Dependency, String>>>,
}

impl Readiness {
    /// Ready until somebody says otherwise.
    pub fn new(stage: &'static str) -> Self {
        telemetry::ready(stage, true);
        Self {
            stage,
            missing: Arc::default(),
        }
    }

    /// Not ready before the consumer group has handed out its partitions.
    pub fn joining(stage: &'static str) -> Self {
        let readiness = Self::new(stage);
        readiness.lock().insert(
            Dependency::Consumer,
            "joining the consumer group".to_owned(),
        );
        telemetry::ready(stage, false);
        readiness
    }

    /// The stage's name.
    pub fn stage(&self) -> &'static str {
        self.stage
    }

    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// What is missing and why, one text each.
    pub fn reasons(&self) -> Vec<String> {
        self.lock()
            .iter()
            .map(|(dependency, reason)| format!("{}: {reason}", dependency.as_str()))
            .collect()
    }

    /// Something is away.
    pub fn lost(&self, dependency: Dependency, reason: impl Into<String>) {
        let reason = reason.into();
        let new = self.lock().insert(dependency, reason.clone()).is_none();
        if new {
            tracing::warn!(
                stage = self.stage,
                dependency = dependency.as_str(),
                reason,
                "waiting: not ready"
            );
            telemetry::ready(self.stage, false);
        }
    }

    /// It is back.
    pub fn found(&self, dependency: Dependency) {
        let (was_missing, all_there) = {
            let mut missing = self.lock();
            (missing.remove(&dependency).is_some(), missing.is_empty())
        };
        if was_missing {
            tracing::info!(
                stage = self.stage,
                dependency = dependency.as_str(),
                "back again"
            );
            telemetry::ready(self.stage, all_there);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Dependency, String>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
