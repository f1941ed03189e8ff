//! What may be set for `matte`.

use atelier_models::Provider;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of the stage `matte`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MatteOptions {
    /// Models that are loaded at start and stay loaded; a missing one is an error at start.
    pub preload: Vec<String>,
    /// Most models that are kept loaded beside those of `preload`, for pictures that ask for a model by name; the least
    /// recently used one makes room. At least 1.
    pub max_extra_models: usize,
    /// Threads that work on one run of a network; 0 is one per core, shared out among `max_concurrent_runs`.
    pub intra_threads: usize,
    /// Runs of networks at the same time, each with a copy of the weights in memory. With `intra_threads` at 1 and this at
    /// the number of cores, many pictures take less time together and each one takes longer; where neither is set,
    /// `atelier cutout` does so by itself for many pictures.
    pub max_concurrent_runs: usize,
    /// Most pictures of one run of a network, of those that wait for it at the same time; none waits for others to come. 0: one, and
    /// `max_batch` with CUDA. On a processor more gain nothing, and TensorRT takes one. A network whose file takes one picture a run
    /// does so whatever is set here.
    pub network_batch: usize,
    /// Pictures that are worked on at the same time: `max_concurrent_runs` times `network_batch` in the network, and there are
    /// never fewer than those; the others before or after it.
    pub max_concurrent: usize,
    /// How long in hours the matte of a picture is used again, where the same pixels come and the same network is to work on
    /// them. It is remembered in the cache (`stores.cache_url`). 0: every picture is worked on.
    pub reuse_hours: u32,
    /// Most pictures of one batch. The pictures of a batch are passed on together.
    pub max_batch: usize,
    /// Most pixels of one batch, summed over its pictures.
    pub max_pixels: u64,
    /// How long a picture waits for others to share its batch, in milliseconds. Only where networks take several pictures a run
    /// (`network_batch`) can waiting gain anything.
    pub max_delay_ms: u64,
}

impl MatteOptions {
    /// Most pictures of one run of a network with `provider`.
    pub fn pictures_a_run(&self, provider: Provider) -> usize {
        match self.network_batch {
            0 => provider.best_batch(self.max_batch).max(1),
            set => set,
        }
    }

    /// Most pictures in the networks at the same time.
    pub(crate) fn pictures_in_networks(&self, provider: Provider) -> usize {
        self.max_concurrent_runs.max(1) * self.pictures_a_run(provider)
    }
}

impl Default for MatteOptions {
    fn default() -> Self {
        Self {
            preload: vec!["isnet-general-use".into(), "u2net".into(), "u2netp".into()],
            max_extra_models: 1,
            intra_threads: 0,
            max_concurrent_runs: 1,
            network_batch: 0,
            max_concurrent: 3,
            reuse_hours: 24,
            max_batch: 4,
            max_pixels: 100_000_000,
            max_delay_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_take_one_picture_a_run_on_processors_and_a_batch_on_a_card() {
        let mut options = MatteOptions::default();
        assert_eq!(options.pictures_a_run(Provider::Cpu), 1);
        assert_eq!(options.pictures_a_run(Provider::best_here()), 1);
        assert_eq!(options.pictures_a_run(Provider::Cuda), options.max_batch);
        options.network_batch = 2;
        options.max_concurrent_runs = 3;
        assert_eq!(options.pictures_a_run(Provider::Cpu), 2);
        assert_eq!(options.pictures_in_networks(Provider::Cuda), 6);
    }
}
