//! Where somebody's hair may be, by the points of their face.
//!
//! A coarse matte takes hair for solid. Around a head the refiner may therefore open it much further inside than at other outlines, where
//! what it opens is more often the stripe of a dress than something to be seen through. It opens no more than it can see through.

use atelier_models::pose::Point;

/// How far hair lies around the eyes at most, in distances between eyes and mouth. A head is some three and a half of these high, with the
/// eyes in its middle; the rest is what stands off, or hangs beside the face.
const REACH: f32 = 4.5;

/// How far from the outside hair may be seen through, in the same measure.
const BAND: f32 = 1.5;

/// Half of a face's width, in the same measure: what lies between, below the hairline, is face and neck.
const HALF_FACE: f32 = 1.25;

/// How far the hairline lies above the eyes, in the same measure.
const HAIRLINE: f32 = 0.9;

/// Least confidence of a point, 0 to 1.
const LEAST_CONFIDENCE: f32 = 0.5;

/// A head, in pixels of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Head {
    /// Between the eyes.
    eyes: (f32, f32),
    /// From the mouth to the eyes, one pixel long.
    up: (f32, f32),
    /// From the mouth to the eyes.
    size_px: f32,
}

impl Head {
    /// `None` where eyes or mouth are not to be seen.
    pub fn of(points: &[Point]) -> Option<Self> {
        let middle = |one: &str, other: &str| {
            let find = |name: &str| {
                let mut points = points.iter();
                points.find(|point| point.name == name && point.confidence >= LEAST_CONFIDENCE)
            };
            let (one, other) = (find(one)?, find(other)?);
            Some(((one.x + other.x) / 2.0, (one.y + other.y) / 2.0))
        };
        let eyes = middle("leftEye", "rightEye")?;
        let mouth = middle("mouthLeft", "mouthRight")?;
        let (x, y) = (eyes.0 - mouth.0, eyes.1 - mouth.1);
        let size_px = x.hypot(y);
        (size_px >= 1.0).then(|| Self {
            eyes,
            up: (x / size_px, y / size_px),
            size_px,
        })
    }

    /// How far from the outside the hair at a place may be seen through, in pixels of the picture; 0 where there is none.
    pub fn band_px(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x - self.eyes.0, y - self.eyes.1);
        let above = (x * self.up.0 + y * self.up.1) / self.size_px;
        let aside = (x * self.up.1 - y * self.up.0).abs() / self.size_px;
        let is_face_or_neck = aside < HALF_FACE && above < HAIRLINE;
        if is_face_or_neck || above.hypot(aside) > REACH {
            return 0.0;
        }
        BAND * self.size_px
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A face whose eyes are 40 pixels above its mouth, upright or turned to the right by a right angle.
    fn head(is_turned: bool) -> Head {
        let places = [
            ("leftEye", 20.0, -40.0),
            ("rightEye", -20.0, -40.0),
            ("mouthLeft", 12.0, 0.0),
            ("mouthRight", -12.0, 0.0),
        ];
        let point = |(name, x, y): (&'static str, f32, f32)| {
            let (x, y) = if is_turned { (-y, x) } else { (x, y) };
            Point {
                name,
                x: 300.0 + x,
                y: 300.0 + y,
                confidence: 0.9,
            }
        };
        Head::of(&places.map(point)).unwrap()
    }

    #[test]
    fn hair_is_above_and_beside_a_face_and_nowhere_else() {
        let upright = head(false);
        assert_eq!(upright.band_px(300.0, 200.0), 60.0, "above the hairline");
        assert_eq!(upright.band_px(370.0, 330.0), 60.0, "beside the cheek");
        assert_eq!(upright.band_px(300.0, 280.0), 0.0, "the nose");
        assert_eq!(upright.band_px(310.0, 370.0), 0.0, "the neck");
        assert_eq!(upright.band_px(300.0, 60.0), 0.0, "far above");
    }

    #[test]
    fn a_turned_head_has_its_hair_where_its_top_is() {
        let turned = head(true);
        assert_eq!(turned.band_px(400.0, 300.0), 60.0);
        assert_eq!(turned.band_px(300.0, 300.0), 0.0);
        assert_eq!(turned.band_px(300.0, 200.0), 60.0);
    }

    #[test]
    fn a_face_that_is_not_to_be_seen_has_no_hair() {
        let mut points = ["leftEye", "rightEye", "mouthLeft", "mouthRight"].map(|name| Point {
            name,
            x: 0.0,
            y: 0.0,
            confidence: 0.9,
        });
        assert_eq!(Head::of(&points), None, "all points in one place");
        points[2].y = 30.0;
        points[3].y = 30.0;
        assert!(Head::of(&points).is_some());
        points[0].confidence = 0.2;
        assert_eq!(Head::of(&points), None);
    }
}
