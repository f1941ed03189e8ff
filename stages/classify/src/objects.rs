//! Things and people, by EfficientDet-Lite0 (M. Tan and others, "EfficientDet", 2020; COCO's 90 ids).
//!
//! The network looks at 320 × 320 pixels and answers, for each of 19,206 anchor boxes, how likely each id is (already
//! through the sigmoid) and how the anchor is to be moved and stretched.

use std::{sync::LazyLock, time::Duration};

use atelier_models::{
    LoadError, ModelStore, Runtime, Session, SessionOptions, bundled::coco_labels,
};
use ndarray::{Array4, ArrayD};

use crate::{
    ClassifyError,
    boxes::{Candidate, Rect, suppress},
    classifier::note_run,
    working_copy::WorkingCopy,
};

const MODEL: &str = "efficientdet_lite0";
const SIDE_PX: u32 = 320;
const CLASSES: usize = 90;
/// Pyramid levels: a cell of level n is about 2ⁿ pixels wide.
const LEVELS: std::ops::RangeInclusive<u32> = 3..=7;
const OCTAVES: u32 = 3;
const ASPECT_RATIOS: [f32; 3] = [1.0, 2.0, 0.5];
/// Side of the first anchor in cells.
const ANCHOR_SCALE: f32 = 3.0;
/// Overlap from which two boxes of one class are one thing: EfficientDet's own value.
const MAX_OVERLAP: f32 = 0.5;
/// The mean colour that the network was trained with: bars of it say nothing.
const BAR_LEVEL: u8 = 127;
/// A box that is stretched by more than e to this power is nonsense; the bound keeps its size finite.
const MAX_LOG_STRETCH: f32 = 4.0;

/// COCO id of a person.
pub(crate) const PERSON: usize = 0;

/// Whether a thing of that class has an outline of hair, fur, feathers or leaves: COCO's bird, cat, dog, horse, sheep,
/// cow, bear, potted plant, teddy bear.
pub(crate) fn has_fine_outline(class: usize) -> bool {
    matches!(class, 15..=20 | 22 | 63 | 87)
}

/// The name of a class.
pub(crate) fn label(class: usize) -> &'static str {
    static LABELS: LazyLock<Vec<&'static str>> = LazyLock::new(coco_labels);
    LABELS.get(class).copied().unwrap_or("???")
}

/// Finds things and people.
pub(crate) struct Objects {
    session: Session,
    anchors: Vec<Anchor>,
}

/// A box that the network's answer is relative to, in pixels of the square.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Anchor {
    center_x: f32,
    center_y: f32,
    width: f32,
    height: f32,
}

impl Objects {
    pub(crate) fn open(
        runtime: &Runtime,
        store: &ModelStore,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        let session = Session::open(runtime, store, MODEL, options)?;
        Ok(Self {
            session,
            anchors: anchors(),
        })
    }

    /// The things of at least `min_score`, best first, in pixels of the picture; and the network's own time.
    pub(crate) fn find(
        &self,
        copy: &WorkingCopy,
        min_score: f32,
        limit: usize,
    ) -> Result<(Vec<Candidate>, Duration), ClassifyError> {
        let mut letterbox = copy.letterbox(SIDE_PX, SIDE_PX, BAR_LEVEL)?;
        let side = SIDE_PX as usize;
        let unexpected = |reason: String| ClassifyError::UnexpectedOutput {
            model: MODEL,
            reason,
        };
        let rgb = std::mem::take(&mut letterbox.rgb);
        let input = Array4::from_shape_vec((1, side, side, 3), rgb)
            .map_err(|error| unexpected(error.to_string()))?;
        let inference = self.session.run_bytes(input.into_dyn().view())?;
        let [scores, boxes] = inference.outputs.as_slice() else {
            return Err(unexpected(format!(
                "{} outputs instead of 2",
                inference.outputs.len()
            )));
        };
        let candidates = decode(&self.anchors, scores, boxes, min_score)?;
        let mut things = suppress(candidates, MAX_OVERLAP, limit);
        for thing in &mut things {
            thing.rect = letterbox.to_picture(&thing.rect);
        }
        note_run(&self.session, inference.elapsed);
        Ok((things, inference.elapsed))
    }
}

/// The anchors in the network's order: level, row, column, octave, aspect ratio.
fn anchors() -> Vec<Anchor> {
    let mut anchors = Vec::with_capacity(19_206);
    for level in LEVELS {
        let cells = SIDE_PX.div_ceil(1 << level);
        // Not 2^level: the last grid has three cells for two and a half times 128 pixels.
        let stride_px = SIDE_PX as f32 / cells as f32;
        for (row, column) in (0..cells).flat_map(|row| (0..cells).map(move |column| (row, column)))
        {
            for octave in 0..OCTAVES {
                let side_px = ANCHOR_SCALE * stride_px * (octave as f32 / OCTAVES as f32).exp2();
                for aspect_ratio in ASPECT_RATIOS {
                    anchors.push(Anchor {
                        center_x: (column as f32 + 0.5) * stride_px,
                        center_y: (row as f32 + 0.5) * stride_px,
                        width: side_px * aspect_ratio.sqrt(),
                        height: side_px / aspect_ratio.sqrt(),
                    });
                }
            }
        }
    }
    anchors
}

fn decode(
    anchors: &[Anchor],
    scores: &ArrayD<f32>,
    boxes: &ArrayD<f32>,
    min_score: f32,
) -> Result<Vec<Candidate>, ClassifyError> {
    let unexpected = || ClassifyError::UnexpectedOutput {
        model: MODEL,
        reason: format!(
            "scores {:?} and boxes {:?} for {} anchors",
            scores.shape(),
            boxes.shape(),
            anchors.len()
        ),
    };
    let (scores, boxes) = (
        scores.as_slice().ok_or_else(unexpected)?,
        boxes.as_slice().ok_or_else(unexpected)?,
    );
    if scores.len() != anchors.len() * CLASSES || boxes.len() != anchors.len() * 4 {
        return Err(unexpected());
    }
    let rows = scores
        .as_chunks::<CLASSES>()
        .0
        .iter()
        .zip(boxes.as_chunks::<4>().0)
        .zip(anchors);
    let mut candidates = Vec::new();
    for ((scores, offsets), anchor) in rows {
        for (class, score) in scores
            .iter()
            .enumerate()
            .filter(|(_, score)| **score >= min_score)
        {
            candidates.push(Candidate {
                rect: anchor.moved(offsets),
                score: *score,
                class,
            });
        }
    }
    Ok(candidates)
}

impl Anchor {
    /// The box that the network means: centre (y, x) in anchor sizes, then the logarithms of height and width.
    fn moved(&self, [y, x, height, width]: &[f32; 4]) -> Rect {
        Rect::around(
            self.center_x + x * self.width,
            self.center_y + y * self.height,
            self.width * width.min(MAX_LOG_STRETCH).exp(),
            self.height * height.min(MAX_LOG_STRETCH).exp(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    #[test]
    fn there_is_an_anchor_for_every_answer() {
        let anchors = anchors();
        assert_eq!(anchors.len(), 19_206);
        assert_eq!(
            anchors[0],
            Anchor {
                center_x: 4.0,
                center_y: 4.0,
                width: 24.0,
                height: 24.0
            }
        );
        // The second is twice as wide as high, of the same area.
        assert!((anchors[1].width / anchors[1].height - 2.0).abs() < 1e-5);
        assert!((anchors[1].width * anchors[1].height - 576.0).abs() < 0.01);
        // The second column of the first row.
        assert_eq!((anchors[9].center_x, anchors[9].center_y), (12.0, 4.0));
        // The last cell of the last grid, its largest anchors.
        let last = anchors[19_205];
        assert!((last.center_x - 320.0 * 2.5 / 3.0).abs() < 1e-3);
        assert!((last.height / last.width - 2.0).abs() < 1e-5);
    }

    #[test]
    fn the_classes_with_fine_outlines_are_the_ones_that_are_meant() {
        let fine = coco_labels()
            .into_iter()
            .enumerate()
            .filter(|(class, _)| has_fine_outline(*class));
        let names: Vec<_> = fine.map(|(_, name)| name).collect();
        let expected = [
            "bird",
            "cat",
            "dog",
            "horse",
            "sheep",
            "cow",
            "bear",
            "potted plant",
            "teddy bear",
        ];
        assert_eq!(names, expected);
        assert_eq!(coco_labels()[PERSON], "person");
    }

    #[test]
    fn an_answer_moves_its_anchor() {
        let anchors = anchors();
        let mut scores = ArrayD::zeros(IxDyn(&[1, anchors.len(), CLASSES]));
        let mut boxes = ArrayD::zeros(IxDyn(&[1, anchors.len(), 4]));
        scores[[0, 9, 17]] = 0.7;
        for (index, value) in [0.5, -0.5, 2.0_f32.ln(), 99.0].into_iter().enumerate() {
            boxes[[0, 9, index]] = value;
        }
        let found = decode(&anchors, &scores, &boxes, 0.5).unwrap();
        assert_eq!((found.len(), found[0].class, found[0].score), (1, 17, 0.7));
        let rect = found[0].rect;
        assert!(
            (rect.top - (16.0 - 24.0)).abs() < 1e-3 && (rect.bottom - (16.0 + 24.0)).abs() < 1e-3
        );
        assert!(rect.width().is_finite() && rect.width() > 1_000.0);
    }

    #[test]
    fn another_shape_is_an_error() {
        let (scores, boxes) = (
            ArrayD::zeros(IxDyn(&[1, 10, CLASSES])),
            ArrayD::zeros(IxDyn(&[1, 10, 4])),
        );
        assert!(decode(&anchors(), &scores, &boxes, 0.5).is_err());
    }
}
