//! The processor for pictures that come with a trimap: no network runs, whatever their kind.
//!
//! Invariant: what the trimap says of a pixel is kept; the picture's own alpha makes it no more opaque than it was.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use atelier_schemas::{
    Matting,
    events::ModelUse,
    matting::{TrimapOrigin, TrimapUse},
};
use atelier_stores::{Raster, raster::Channels};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{GivenTrimap, Job, Matted, Processor, multiply, networks::certainty};
use crate::{
    MatteError, MatteOptions,
    solve::{Solved, solve},
};

/// What stands in events as the model.
const CLOSED_FORM: &str = "closed-form";

/// To be raised with every change after which the same picture and trimap give another matte.
const VERSION: u32 = 1;

/// Solves for what a trimap leaves unknown.
pub struct Given {
    /// One permit for each picture that is solved: they take a core and some 400 MB each.
    runs: Semaphore,
}

impl Given {
    /// The processor.
    pub fn new(options: &MatteOptions) -> Self {
        Self {
            runs: Semaphore::new(options.max_concurrent_runs.max(1)),
        }
    }
}

#[async_trait]
impl Processor for Given {
    fn name(&self) -> &'static str {
        "trimap"
    }

    async fn recipe(&self, job: &Job) -> Result<Option<String>, MatteError> {
        let recipe = |trimap: &GivenTrimap| format!("trimap {VERSION} {}", trimap.key);
        Ok(job.trimap.as_ref().map(recipe))
    }

    async fn matte(&self, job: Job, pixels: Arc<Raster>) -> Result<Matted, MatteError> {
        let trimap = job.trimap.ok_or(MatteError::NoTrimap)?.levels;
        let _run = self
            .runs
            .acquire()
            .await
            .map_err(|_| MatteError::ShuttingDown)?;
        let started = Instant::now();
        let kind = job.classification.kind;
        let (alpha, unknown_share, steps) = spawn_blocking(move || {
            let Solved {
                mut alpha,
                unknown_share,
                steps,
            } = solve(&pixels, &trimap)?;
            if pixels.channels() == Channels::Rgba {
                for (alpha, pixel) in alpha.iter_mut().zip(pixels.data().as_chunks::<4>().0) {
                    *alpha = multiply(*alpha, pixel[3]);
                }
            }
            let alpha = Raster::new(pixels.width(), pixels.height(), Channels::Gray, alpha)?;
            Ok::<_, MatteError>((alpha, unknown_share, steps))
        })
        .await??;
        tracing::debug!(
            unknown_share,
            ms = started.elapsed().as_millis(),
            "solved within a trimap"
        );
        Ok(Matted {
            matting: Matting {
                steps,
                trimap: Some(TrimapUse {
                    origin: TrimapOrigin::Given,
                    unknown_share,
                }),
                ..Matting::by(kind, certainty(alpha.data()))
            },
            alpha,
            foreground: None,
            model: ModelUse {
                name: CLOSED_FORM.to_owned(),
                provider: "none".to_owned(),
                inference_ms: 0.0,
                processor: self.name().to_owned(),
                reused: false,
            },
        })
    }
}
