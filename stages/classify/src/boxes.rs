//! Boxes of found things, and non-maximum suppression.
//!
//! Invariant: the order of candidates that score alike is that of the network, so the same picture gives the same boxes.

/// A box in pixels of whatever it was found in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rect {
    pub(crate) left: f32,
    pub(crate) top: f32,
    pub(crate) right: f32,
    pub(crate) bottom: f32,
}

/// A candidate of a detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) rect: Rect,
    /// 0 to 1.
    pub(crate) score: f32,
    /// The class, where the detector knows several.
    pub(crate) class: usize,
}

impl Rect {
    /// The box of that size around a point.
    pub(crate) fn around(center_x: f32, center_y: f32, width: f32, height: f32) -> Self {
        Self {
            left: center_x - width / 2.0,
            top: center_y - height / 2.0,
            right: center_x + width / 2.0,
            bottom: center_y + height / 2.0,
        }
    }

    pub(crate) fn width(&self) -> f32 {
        (self.right - self.left).max(0.0)
    }

    pub(crate) fn height(&self) -> f32 {
        (self.bottom - self.top).max(0.0)
    }

    pub(crate) fn area(&self) -> f32 {
        self.width() * self.height()
    }

    pub(crate) fn contains_center_of(&self, other: &Self) -> bool {
        let (x, y) = (
            (other.left + other.right) / 2.0,
            (other.top + other.bottom) / 2.0,
        );
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }

    /// The part within a picture of that size.
    pub(crate) fn clipped(&self, width: f32, height: f32) -> Self {
        Self {
            left: self.left.clamp(0.0, width),
            top: self.top.clamp(0.0, height),
            right: self.right.clamp(0.0, width),
            bottom: self.bottom.clamp(0.0, height),
        }
    }

    /// Area of both over area of either, 0 to 1.
    pub(crate) fn intersection_over_union(&self, other: &Self) -> f32 {
        let common = Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
        .area();
        let either = self.area() + other.area() - common;
        if either > 0.0 { common / either } else { 0.0 }
    }
}

/// The best candidates, best first: of those of one class that overlap by more than `max_overlap` (intersection over
/// union) only the best stays. At most `limit` are kept.
pub(crate) fn suppress(
    mut candidates: Vec<Candidate>,
    max_overlap: f32,
    limit: usize,
) -> Vec<Candidate> {
    candidates.sort_by(|left, right| right.score.total_cmp(&left.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let is_covered = |better: &Candidate| {
            better.class == candidate.class
                && better.rect.intersection_over_union(&candidate.rect) > max_overlap
        };
        if !kept.iter().any(is_covered) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(left: f32, score: f32, class: usize) -> Candidate {
        Candidate {
            rect: Rect {
                left,
                top: 0.0,
                right: left + 10.0,
                bottom: 10.0,
            },
            score,
            class,
        }
    }

    #[test]
    fn overlap_is_that_of_the_areas() {
        let rect = candidate(0.0, 1.0, 0).rect;
        assert_eq!(rect.intersection_over_union(&rect), 1.0);
        assert_eq!(
            rect.intersection_over_union(&candidate(5.0, 1.0, 0).rect),
            50.0 / 150.0
        );
        assert_eq!(
            rect.intersection_over_union(&candidate(20.0, 1.0, 0).rect),
            0.0
        );
        let empty = Rect::around(3.0, 3.0, 0.0, 0.0);
        assert_eq!(empty.intersection_over_union(&empty), 0.0);
    }

    #[test]
    fn a_face_is_within_its_person_by_its_middle() {
        let person = Rect {
            left: 0.0,
            top: 0.0,
            right: 40.0,
            bottom: 100.0,
        };
        assert!(person.contains_center_of(&Rect::around(20.0, 5.0, 30.0, 30.0)));
        assert!(!person.contains_center_of(&Rect::around(50.0, 50.0, 30.0, 30.0)));
    }

    #[test]
    fn the_best_of_each_heap_stays() {
        let found = suppress(
            vec![
                candidate(1.0, 0.5, 0),
                candidate(0.0, 0.9, 0),
                candidate(30.0, 0.4, 0),
                candidate(0.5, 0.6, 1),
            ],
            0.5,
            10,
        );
        let summary: Vec<_> = found
            .iter()
            .map(|found| (found.rect.left, found.class))
            .collect();
        assert_eq!(summary, [(0.0, 0), (0.5, 1), (30.0, 0)]);
    }

    #[test]
    fn no_more_than_the_limit_stay_and_ties_keep_their_order() {
        let found = suppress(
            (0..9)
                .map(|index| candidate(index as f32 * 20.0, 0.5, 0))
                .collect(),
            0.5,
            3,
        );
        assert_eq!(
            found
                .iter()
                .map(|found| found.rect.left)
                .collect::<Vec<_>>(),
            [0.0, 20.0, 40.0]
        );
    }

    #[test]
    fn clipping_stays_within_the_picture() {
        let rect = Rect {
            left: -5.0,
            top: 3.0,
            right: 50.0,
            bottom: 4.0,
        }
        .clipped(20.0, 10.0);
        assert_eq!(
            rect,
            Rect {
                left: 0.0,
                top: 3.0,
                right: 20.0,
                bottom: 4.0
            }
        );
    }
}
