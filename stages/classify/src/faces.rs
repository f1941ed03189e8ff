//! Faces, by YuNet (S. Feng and others, "YuNet: A Tiny Millisecond-level Face Detector", 2023).
//!
//! The network looks at 640 × 640 pixels, blue first, and answers for each cell of three grids whether a face is centred
//! there (`cls`, `obj`) and where it ends (`bbox`, in cells).

use std::time::Duration;

use atelier_models::{LoadError, ModelStore, Runtime, Session, SessionOptions};
use ndarray::{Array4, ArrayD};

use crate::{
    ClassifyError,
    boxes::{Candidate, Rect, suppress},
    classifier::note_run,
    working_copy::WorkingCopy,
};

const MODEL: &str = "yunet";
const SIDE_PX: u32 = 640;
/// Pixels of a cell of each grid, in the order of the outputs.
const STRIDES_PX: [usize; 3] = [8, 16, 32];
/// Overlap from which two boxes are one face: the value that YuNet's authors use.
const MAX_OVERLAP: f32 = 0.3;
/// YuNet was trained on faces of 10 to 300 pixels: a face that fills the picture is only seen when the picture fills
/// less of the square.
const SMALL_LOOK_PX: u32 = 256;

/// How much of the square the picture fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All: small faces are seen.
    Whole,
    /// Two fifths: a face that fills the picture is seen.
    Small,
}

/// Finds faces.
pub(crate) struct Faces {
    session: Session,
}

impl Faces {
    pub(crate) fn open(
        runtime: &Runtime,
        store: &ModelStore,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            session: Session::open(runtime, store, MODEL, options)?,
        })
    }

    /// The faces of at least `min_score`, best first, in pixels of the picture; and the network's own time.
    pub(crate) fn find(
        &self,
        copy: &WorkingCopy,
        look: Look,
        min_score: f32,
        limit: usize,
    ) -> Result<(Vec<Candidate>, Duration), ClassifyError> {
        let content_px = match look {
            Look::Whole => SIDE_PX,
            Look::Small => SMALL_LOOK_PX,
        };
        let letterbox = copy.letterbox(SIDE_PX, content_px, 0)?;
        let inference = self
            .session
            .run(blue_first(&letterbox.rgb).into_dyn().view())?;
        let candidates = decode(&inference.outputs, min_score)?;
        let mut faces = suppress(candidates, MAX_OVERLAP, limit);
        for face in &mut faces {
            face.rect = letterbox.to_picture(&face.rect);
        }
        note_run(&self.session, inference.elapsed);
        Ok((faces, inference.elapsed))
    }
}

/// One plane per colour, blue first, 0 to 255.
fn blue_first(rgb: &[u8]) -> Array4<f32> {
    let side = SIDE_PX as usize;
    let mut planes = Array4::zeros((1, 3, side, side));
    for (plane, channel) in [2, 1, 0].into_iter().enumerate() {
        let levels = rgb.iter().skip(channel).step_by(3);
        for (value, level) in planes
            .index_axis_mut(ndarray::Axis(1), plane)
            .iter_mut()
            .zip(levels)
        {
            *value = f32::from(*level);
        }
    }
    planes
}

/// Reads the outputs: `cls` of three strides, then `obj`, then `bbox`.
fn decode(outputs: &[ArrayD<f32>], min_score: f32) -> Result<Vec<Candidate>, ClassifyError> {
    let unexpected = |reason: String| ClassifyError::UnexpectedOutput {
        model: MODEL,
        reason,
    };
    let mut candidates = Vec::new();
    for (grid, stride_px) in STRIDES_PX.into_iter().enumerate() {
        let columns = SIDE_PX as usize / stride_px;
        let slice = |kind: usize, values: usize| {
            let output = outputs
                .get(kind * STRIDES_PX.len() + grid)
                .and_then(|output| output.as_slice());
            let expected = columns * columns * values;
            let fits = output.filter(|output| output.len() == expected);
            fits.ok_or_else(|| {
                unexpected(format!(
                    "stride {stride_px} does not hold {expected} numbers"
                ))
            })
        };
        let (classes, objects, boxes) = (slice(0, 1)?, slice(1, 1)?, slice(2, 4)?);
        let stride_px = stride_px as f32;
        for (cell, ((class, object), [x, y, width, height])) in classes
            .iter()
            .zip(objects)
            .zip(boxes.as_chunks::<4>().0)
            .enumerate()
        {
            let score = (class.clamp(0.0, 1.0) * object.clamp(0.0, 1.0)).sqrt();
            if score < min_score {
                continue;
            }
            let center_x = ((cell % columns) as f32 + x) * stride_px;
            let center_y = ((cell / columns) as f32 + y) * stride_px;
            let rect = Rect::around(
                center_x,
                center_y,
                width.exp() * stride_px,
                height.exp() * stride_px,
            );
            candidates.push(Candidate {
                rect,
                score,
                class: 0,
            });
        }
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    /// Outputs without a face.
    fn nothing() -> Vec<ArrayD<f32>> {
        let shape =
            |stride: usize, values: usize| IxDyn(&[1, (640 / stride) * (640 / stride), values]);
        [1, 1, 4]
            .into_iter()
            .flat_map(|values| STRIDES_PX.map(|stride| ArrayD::zeros(shape(stride, values))))
            .collect()
    }

    #[test]
    fn a_cell_becomes_a_box() {
        let mut outputs = nothing();
        // Stride 16: row 2, column 5 of 40.
        let cell = 2 * 40 + 5;
        outputs[1][[0, cell, 0]] = 0.81;
        outputs[4][[0, cell, 0]] = 1.2;
        outputs[7][[0, cell, 0]] = 0.5;
        outputs[7][[0, cell, 1]] = 0.25;
        outputs[7][[0, cell, 2]] = 4.0_f32.ln();
        outputs[7][[0, cell, 3]] = 2.0_f32.ln();
        let found = decode(&outputs, 0.5).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].score - 0.9).abs() < 1e-6);
        let Rect {
            left,
            top,
            right,
            bottom,
        } = found[0].rect;
        for (found, expected) in [
            (left, 88.0 - 32.0),
            (right, 88.0 + 32.0),
            (top, 36.0 - 16.0),
            (bottom, 36.0 + 16.0),
        ] {
            assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
        }
        assert!(decode(&outputs, 0.95).unwrap().is_empty());
    }

    #[test]
    fn another_shape_is_an_error() {
        assert!(decode(&nothing()[..8], 0.5).is_err());
        let mut outputs = nothing();
        outputs.swap(0, 1);
        assert!(decode(&outputs, 0.5).is_err());
    }

    #[test]
    fn planes_are_blue_first() {
        let mut rgb = vec![0; 640 * 640 * 3];
        rgb[3..6].copy_from_slice(&[10, 20, 30]);
        let planes = blue_first(&rgb);
        assert_eq!(
            (
                planes[[0, 0, 0, 1]],
                planes[[0, 1, 0, 1]],
                planes[[0, 2, 0, 1]]
            ),
            (30.0, 20.0, 10.0)
        );
    }
}
