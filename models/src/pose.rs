//! The key points and the mask of one person, by the pose network of MediaPipe (V. Bazarevsky and others, "BlazePose: On-device
//! Real-time Body Pose tracking", 2020).
//!
//! The network looks at 256 × 256 pixels with one person in the middle, and answers with points, how sure it is that there is a
//! person, and how much of every pixel is theirs. The mask knows a body from what it carries and from what lies behind it, which
//! no matte does; its edge is coarse.

use std::time::Duration;

use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer, images::Image};
use ndarray::{Array4, ArrayD};

use crate::{
    LoadError, ModelStore, Picture, Runtime, SegmentError, Session, SessionOptions,
    segment::NetworkRun,
};

/// Its name in the catalogue.
const NAME: &str = "pose_landmarks33";

/// Both sides of its input and of its mask, in pixels.
const SIDE_PX: usize = 256;

/// Numbers that it gives for each point: x, y, depth, and how likely the point is to be seen and to be within the square.
const NUMBERS_PER_POINT: usize = 5;

/// How much longer the square is than the person in it: what the network was trained with.
const ROOM: f32 = 1.25;

/// A body is some seven and a half heads high, and a detected face is less than a head.
const BODY_IN_FACES: f32 = 8.0;

/// MediaPipe's points, in its order; the six after them only turn the square and have no names.
pub const POINT_NAMES: [&str; 33] = [
    "nose",
    "leftEyeInner",
    "leftEye",
    "leftEyeOuter",
    "rightEyeInner",
    "rightEye",
    "rightEyeOuter",
    "leftEar",
    "rightEar",
    "mouthLeft",
    "mouthRight",
    "leftShoulder",
    "rightShoulder",
    "leftElbow",
    "rightElbow",
    "leftWrist",
    "rightWrist",
    "leftPinky",
    "rightPinky",
    "leftIndex",
    "rightIndex",
    "leftThumb",
    "rightThumb",
    "leftHip",
    "rightHip",
    "leftKnee",
    "rightKnee",
    "leftAnkle",
    "rightAnkle",
    "leftHeel",
    "rightHeel",
    "leftFootIndex",
    "rightFootIndex",
];

/// The square of a picture that the network looks at; it may reach beyond the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BodySquare {
    /// Left edge, in pixels of the picture.
    pub left: f32,
    /// Upper edge, in pixels of the picture.
    pub top: f32,
    /// Length of a side, in pixels of the picture.
    pub side: f32,
}

impl BodySquare {
    /// Around a person's box.
    pub fn around_person(left: f32, top: f32, width: f32, height: f32) -> Self {
        let side = width.max(height).max(1.0) * ROOM;
        Self {
            left: left + (width - side) / 2.0,
            top: top + (height - side) / 2.0,
            side,
        }
    }

    /// Around the body below a face, also where the picture ends above it: the network knows bodies as large as they are, and
    /// sees none in a head that fills its square.
    pub fn below_face(left: f32, top: f32, width: f32, height: f32) -> Self {
        let side = BODY_IN_FACES * height.max(1.0);
        Self {
            left: left + (width - side) / 2.0,
            // Hair is above the face that a detector finds.
            top: top - height / 2.0,
            side,
        }
    }
}

/// A point of a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// One of [`POINT_NAMES`].
    pub name: &'static str,
    /// From the left edge, in pixels of the picture.
    pub x: f32,
    /// From the top edge, in pixels of the picture.
    pub y: f32,
    /// How likely it is to be seen in the picture, 0 to 1.
    pub confidence: f32,
}

/// How much of the pixels of a square is one person's.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonMask {
    square: BodySquare,
    /// 256 × 256 shares of 255.
    shares: Vec<u8>,
}

impl PersonMask {
    /// A mask of 256 × 256 shares of 255 over a square; `None` where there are more or fewer.
    pub fn new(square: BodySquare, shares: Vec<u8>) -> Option<Self> {
        (shares.len() == SIDE_PX * SIDE_PX).then_some(Self { square, shares })
    }

    /// Where it is.
    pub fn square(&self) -> BodySquare {
        self.square
    }

    /// How much of a place of the picture, in pixels, is the person's, 0 to 1; none beyond the square.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let scale = SIDE_PX as f32 / self.square.side;
        let column = (x - self.square.left) * scale - 0.5;
        let row = (y - self.square.top) * scale - 0.5;
        let last = (SIDE_PX - 1) as f32;
        if !(-0.5..=last + 0.5).contains(&column) || !(-0.5..=last + 0.5).contains(&row) {
            return 0.0;
        }
        let (column, row) = (column.clamp(0.0, last), row.clamp(0.0, last));
        let (left, top) = (column as usize, row as usize);
        let share = |x: usize, y: usize| {
            f32::from(self.shares[y.min(SIDE_PX - 1) * SIDE_PX + x.min(SIDE_PX - 1)]) / 255.0
        };
        let (right_share, lower_share) = (column - left as f32, row - top as f32);
        let mix = |one: f32, other: f32, share: f32| one + (other - one) * share;
        mix(
            mix(share(left, top), share(left + 1, top), right_share),
            mix(share(left, top + 1), share(left + 1, top + 1), right_share),
            lower_share,
        )
    }
}

/// What the network saw in one square.
#[derive(Clone, Debug)]
pub struct PersonLook {
    /// How sure it is that there is a person, 0 to 1.
    pub score: f32,
    /// The 33 points, in the order of [`POINT_NAMES`].
    pub points: Vec<Point>,
    /// What of the square is the person's.
    pub mask: PersonMask,
    /// The network's run.
    pub run: NetworkRun,
}

/// The network, ready to run.
#[derive(Debug)]
pub struct Pose {
    session: Session,
}

impl Pose {
    /// Opens the network. Blocking. It runs on `cpu` whatever runs the others: it takes some 20 ms there, and to compile it for
    /// another provider takes longer than a hundred pictures would save.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open(
        runtime: &Runtime,
        store: &ModelStore,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        let session = Session::open(&runtime.on_cpu(), store, NAME, options)?;
        Ok(Self { session })
    }

    /// The network.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Looks at one square of a picture. Blocking.
    ///
    /// # Errors
    /// The pixels are not what the picture says, the network failed, or its output is not what its row says.
    pub fn look(
        &self,
        picture: &Picture<'_>,
        square: BodySquare,
    ) -> Result<PersonLook, SegmentError> {
        let tensor = tensor(picture, square)?;
        let inference = self.session.run(tensor.view().into_dyn())?;
        let bad_output = || SegmentError::BadOutput {
            model: NAME.to_owned(),
            shape: inference
                .outputs
                .iter()
                .map(|output| output.len())
                .collect(),
        };
        let (score, points, mask) = decode(&inference.outputs, square).ok_or_else(bad_output)?;
        Ok(PersonLook {
            score,
            points,
            mask,
            run: NetworkRun::of(&self.session, inference.elapsed),
        })
    }
}

/// The square as the network takes it, 0 to 1; black beyond the picture.
fn tensor(picture: &Picture<'_>, square: BodySquare) -> Result<Array4<f32>, SegmentError> {
    let &Picture {
        width,
        height,
        channels,
        ..
    } = picture;
    let source = picture.image_ref()?;
    let mut tensor = Array4::zeros((1, SIDE_PX, SIDE_PX, 3));
    let columns = inside(square.left, square.side, width);
    let rows = inside(square.top, square.side, height);
    if columns.is_empty() || rows.is_empty() {
        return Ok(tensor);
    }
    let step = f64::from(square.side) / SIDE_PX as f64;
    let begin = |at: f32, first: usize| (f64::from(at) + first as f64 * step).max(0.0);
    let (left, top) = (
        begin(square.left, columns.start),
        begin(square.top, rows.start),
    );
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false)
        .crop(
            left,
            top,
            (columns.len() as f64 * step).min(f64::from(width) - left),
            (rows.len() as f64 * step).min(f64::from(height) - top),
        );
    let mut target = Image::new(columns.len() as u32, rows.len() as u32, source.pixel_type());
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| SegmentError::Resize {
            width: columns.len() as u32,
            height: rows.len() as u32,
            reason: error.to_string(),
        })?;
    let row_bytes = columns.len() * channels;
    for (y, row) in target.buffer().chunks_exact(row_bytes).enumerate() {
        for (x, pixel) in row.chunks_exact(channels).enumerate() {
            for color in 0..3 {
                let level = pixel[if channels == 1 { 0 } else { color }];
                tensor[[0, rows.start + y, columns.start + x, color]] = f32::from(level) / 255.0;
            }
        }
    }
    Ok(tensor)
}

/// Which of the 256 pixels along one side of the square lie within a picture of that length.
fn inside(start: f32, side: f32, length: u32) -> std::ops::Range<usize> {
    let scale = SIDE_PX as f32 / side;
    let at = |place: f32| ((place - start) * scale).clamp(0.0, SIDE_PX as f32);
    at(0.0).ceil() as usize..at(length as f32).floor() as usize
}

/// Reads the outputs: points, score, mask. `None` where they are not of the network.
fn decode(outputs: &[ArrayD<f32>], square: BodySquare) -> Option<(f32, Vec<Point>, PersonMask)> {
    let [points, score, mask] = outputs else {
        return None;
    };
    let (points, score) = (points.as_slice()?, *score.as_slice()?.first()?);
    if points.len() < POINT_NAMES.len() * NUMBERS_PER_POINT {
        return None;
    }
    let scale = square.side / SIDE_PX as f32;
    let points = POINT_NAMES
        .iter()
        .zip(points.as_chunks::<NUMBERS_PER_POINT>().0)
        .map(|(name, [x, y, _, visible, present])| Point {
            name,
            x: square.left + x * scale,
            y: square.top + y * scale,
            confidence: sigmoid(*visible).min(sigmoid(*present)),
        })
        .collect();
    let shares = mask.as_slice()?.iter().map(|value| share(*value)).collect();
    Some((score, points, PersonMask::new(square, shares)?))
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

fn share(value: f32) -> u8 {
    (sigmoid(value) * 255.0).round() as u8
}

/// All the runs of a network as one, for a report; `None` where there was none.
pub fn together(runs: &[NetworkRun]) -> Option<NetworkRun> {
    let first = runs.first()?;
    let elapsed: Duration = runs.iter().map(|run| run.elapsed).sum();
    Some(NetworkRun {
        elapsed,
        ..first.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    const SQUARE: BodySquare = BodySquare {
        left: -64.0,
        top: 0.0,
        side: 512.0,
    };

    #[test]
    fn a_square_has_room_around_the_person() {
        let square = BodySquare::around_person(100.0, 50.0, 40.0, 80.0);
        assert_eq!(
            square,
            BodySquare {
                left: 70.0,
                top: 40.0,
                side: 100.0
            }
        );
    }

    #[test]
    fn below_a_face_is_a_body() {
        let square = BodySquare::below_face(100.0, 50.0, 40.0, 50.0);
        assert_eq!((square.side, square.top), (400.0, 25.0));
        assert_eq!(square.left + square.side / 2.0, 120.0);
    }

    #[test]
    fn what_lies_beyond_the_picture_is_black() {
        let picture = Picture {
            width: 128,
            height: 512,
            channels: 3,
            pixels: &[255, 51, 0].repeat(128 * 512),
        };
        let tensor = tensor(&picture, SQUARE).unwrap();
        let at = |x: usize| [0, 1, 2].map(|color| tensor[[0, 100, x, color]]);
        assert_eq!(at(31), [0.0; 3]);
        assert_eq!(at(32), [1.0, 0.2, 0.0]);
        assert_eq!(at(95), [1.0, 0.2, 0.0]);
        assert_eq!(at(96), [0.0; 3]);
        let beside = BodySquare {
            left: 600.0,
            ..SQUARE
        };
        assert!(
            super::tensor(&picture, beside)
                .unwrap()
                .iter()
                .all(|value| *value == 0.0)
        );
    }

    #[test]
    fn gray_and_rgba_are_taken() {
        for (channels, pixel) in [(1, vec![51]), (4, vec![51, 51, 51, 0])] {
            let pixels = pixel.repeat(64 * 64);
            let picture = Picture {
                width: 64,
                height: 64,
                channels,
                pixels: &pixels,
            };
            let square = BodySquare {
                left: 0.0,
                top: 0.0,
                side: 64.0,
            };
            let tensor = tensor(&picture, square).unwrap();
            assert!(tensor.iter().all(|value| *value == 0.2));
        }
    }

    #[test]
    fn answers_are_brought_back_to_the_picture() {
        let mut points = ArrayD::zeros(IxDyn(&[1, 195]));
        points[[0, 0]] = 128.0;
        points[[0, 1]] = 64.0;
        points[[0, 3]] = 9.0;
        points[[0, 4]] = 0.0;
        let mut mask = ArrayD::from_elem(IxDyn(&[1, 256, 256, 1]), -400.0);
        mask[[0, 10, 20, 0]] = 200.0;
        let score = ArrayD::from_elem(IxDyn(&[1, 1]), 0.9);
        let outputs = [points, score, mask];
        let (score, points, mask) = decode(&outputs, SQUARE).unwrap();
        assert_eq!((score, points.len()), (0.9, 33));
        assert_eq!(
            (points[0].name, points[0].x, points[0].y),
            ("nose", 192.0, 128.0)
        );
        assert!((points[0].confidence - 0.5).abs() < 1e-6);
        assert_eq!(mask.at(-64.0 + 41.0, 21.0), 1.0);
        assert_eq!(
            (mask.at(-64.0 + 45.0, 21.0), mask.at(900.0, 21.0)),
            (0.0, 0.0)
        );
        assert!(decode(&outputs[..2], SQUARE).is_none());
        assert!(PersonMask::new(SQUARE, vec![0; 7]).is_none());
    }
}
