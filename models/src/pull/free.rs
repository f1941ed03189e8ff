//! Networks whose file takes one picture a run, rewritten to take any number.
//!
//! Invariants: what is put in the file's place hashes to what the catalogue says; where ONNX Runtime is here, it has given the same
//! mattes of two pictures together as the file that came gave of each alone.

use std::{fs::File, io::Write as _, path::Path};

use super::{PullError, Workplace, archive};
use crate::{
    Digest, FreeBatch, Inference, Model, ModelStore, Runtime, Session, SessionOptions, onnx,
    segment::reference,
};

/// How far two outputs may be apart, of 1: a level of a matte is .004. They come of the same kernels, so it is 0 where nothing is wrong.
const MOST_APART: f32 = 1e-4;

/// Writes `original` to `freed` so that it takes any number of pictures a run.
///
/// # Errors
/// It does not take one, or what came out is not what the catalogue says.
pub(super) fn rewrite(
    workplace: &Workplace<'_>,
    model: &Model,
    free: &FreeBatch,
    original: &Path,
    freed: &Path,
) -> Result<(), PullError> {
    let refused = |reason: String| refused(model, reason);
    let file = std::fs::read(original).map_err(|error| workplace.error(error))?;
    let mut network = onnx::Network::read(file).map_err(|error| refused(error.to_string()))?;
    network
        .free_batch()
        .map_err(|error| refused(error.to_string()))?;
    archive::write_synced(freed, |file| file.write_all(&network.write()))
        .map_err(|error| workplace.error(error))?;
    let found = File::open(freed)
        .and_then(|mut file| Digest::sha256_of(&mut file))
        .map_err(|error| workplace.error(error))?;
    if found == free.digest {
        return Ok(());
    }
    Err(refused(format!(
        "what was made of it hashes to {found}, and the catalogue says {}: a defect of this build",
        free.digest
    )))
}

/// Compares what both files give of two pictures: `original` of each alone, `freed` of both together. `false` where ONNX Runtime is not
/// here to do so.
///
/// # Errors
/// They differ, or one of them does not run.
pub(super) fn compare(
    store: &ModelStore,
    model: &Model,
    original: &Path,
    freed: &Path,
) -> Result<bool, PullError> {
    let refused = |reason: String| refused(model, reason);
    let runtime = Runtime::to_compare_with(store).map_err(|error| refused(error.to_string()))?;
    let Some(runtime) = runtime else {
        return Ok(false);
    };
    let pictures = reference::two_inputs(model).map_err(|error| refused(error.to_string()))?;
    let open = |file: &Path, max_batch: usize| {
        let options = SessionOptions {
            max_batch,
            ..SessionOptions::default()
        };
        Session::open_file(&runtime, store, (model, file), &options)
            .map_err(|error| refused(error.to_string()))
    };
    // One after the other, so that they are not in memory at the same time.
    let one_by_one = open(original, 1)?;
    let alone = pictures
        .each_ref()
        .map(|picture| one_by_one.run_together(std::slice::from_ref(picture)));
    drop(one_by_one);
    let together = open(freed, pictures.len())?
        .run_together(&pictures)
        .map_err(|error| refused(error.to_string()))?;
    for (alone, together) in alone.into_iter().zip(&together) {
        let alone = alone.map_err(|error| refused(error.to_string()))?;
        let apart = alone.iter().map(|alone| farthest_apart(alone, together));
        let apart = apart.fold(0.0, f32::max);
        if apart > MOST_APART {
            return Err(refused(format!(
                "of two pictures together it gives another matte than of each alone, by up to {apart} of 1"
            )));
        }
    }
    Ok(true)
}

/// The largest difference of the first outputs; infinite where one holds what is no number, or they are not of one size.
fn farthest_apart(one: &Inference, other: &Inference) -> f32 {
    let (Some(one), Some(other)) = (one.outputs.first(), other.outputs.first()) else {
        return f32::INFINITY;
    };
    if one.shape() != other.shape() {
        return f32::INFINITY;
    }
    one.iter().zip(other).fold(0.0, |most, (one, other)| {
        let apart = (one - other).abs();
        if apart.is_nan() {
            f32::INFINITY
        } else {
            most.max(apart)
        }
    })
}

fn refused(model: &Model, reason: String) -> PullError {
    PullError::FreeBatch {
        name: model.name.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ndarray::ArrayD;

    use super::*;

    fn inference(shape: &[usize], values: &[f32]) -> Inference {
        Inference {
            outputs: vec![ArrayD::from_shape_vec(shape, values.to_vec()).unwrap()],
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn what_cannot_be_compared_is_far_apart() {
        let one = inference(&[1, 2], &[0.25, 0.5]);
        assert_eq!(farthest_apart(&one, &one), 0.0);
        assert_eq!(farthest_apart(&one, &inference(&[1, 2], &[0.5, 0.5])), 0.25);
        let not_a_number = inference(&[1, 2], &[f32::NAN, 0.5]);
        assert_eq!(farthest_apart(&one, &not_a_number), f32::INFINITY);
        assert_eq!(
            farthest_apart(&one, &inference(&[2], &[0.25, 0.5])),
            f32::INFINITY
        );
    }
}
