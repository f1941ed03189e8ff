//! The project's own small network, which makes one matte of a picture and the coarse mattes of one or two larger networks.
//!
//! It decides where those are undecided, and draws hair, nets, leaves and glass as transparent as they are: it was trained on
//! generated pictures whose mattes are known exactly (`train/`). It works at no more than [`LONGEST_SIDE_PX`]; the edge of a
//! larger picture's matte is then fitted to the picture's by the guided filter.
//!
//! A second network is worth its time only where the first is in doubt: elsewhere the two agree.

use std::time::Duration;

use ndarray::{Array4, ArrayD, Axis};

use super::{
    Mask, Picture, Prepared, SegmentError, Segmenter, checked, coarse::Coarse, interior,
    postprocess, preprocess, reference, refine,
};
use crate::{LoadError, ModelStore, Provider, Runtime, Session, SessionOptions};

/// Its name in the catalogue.
const NAME: &str = "refiner";

/// Longest side of the size at which it works, in pixels.
pub const LONGEST_SIDE_PX: u32 = 832;

/// Both sides of its input are multiples of this; what is missing repeats the border.
const MULTIPLE_PX: u32 = 32;

/// The network, ready to run.
#[derive(Debug)]
pub struct Refiner {
    session: Session,
}

/// One run of a network.
#[derive(Clone, Debug)]
pub struct NetworkRun {
    /// Its name in the catalogue.
    pub model: String,
    /// What ran it.
    pub provider: Provider,
    /// Its own time.
    pub elapsed: Duration,
}

impl NetworkRun {
    /// A run of `session` that took so long.
    pub fn of(session: &Session, elapsed: Duration) -> Self {
        Self {
            model: session.name().to_owned(),
            provider: session.provider(),
            elapsed,
        }
    }
}

/// What the network gave, at its own size.
pub struct RawRefined {
    output: ArrayD<f32>,
    width: u32,
    height: u32,
    /// What no pixel of the matte goes below.
    least_alpha: Vec<u8>,
    /// The networks that ran, in order.
    pub runs: Vec<NetworkRun>,
    /// How sure the surest of the coarse networks is that there is a subject anywhere, 0 to 1.
    pub peak: f32,
}

impl Refiner {
    /// Opens the network. Blocking. Where the provider was chosen by `auto` and gives another matte than `cpu`, the network runs
    /// on `cpu`, and the log says so as an error.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open(
        runtime: &Runtime,
        store: &ModelStore,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        let open_on = |runtime: &Runtime| {
            Session::open(runtime, store, NAME, options).map(|session| Self { session })
        };
        checked::open(runtime, NAME, open_on, |network, on_cpu| {
            network.check_against(&on_cpu().map_err(|error| error.to_string())?)
        })
    }

    /// Compares what both make of the reference's picture and matte.
    fn check_against(&self, on_cpu: &Self) -> Result<(), String> {
        let picture = reference::picture();
        let coarse = reference::coarse_matte().map_err(|error| error.to_string())?;
        let matte_of = |refiner: &Self| {
            let tensor = tensor(&picture, picture.width, picture.height, [&coarse, &coarse])?;
            let raw = refiner.run(tensor, picture.width, picture.height)?;
            refiner.finish(&raw, &picture)
        };
        let found = matte_of(self).map_err(|error| error.to_string())?;
        let expected = matte_of(on_cpu).map_err(|error| error.to_string())?;
        reference::Difference::between(&found.alpha, &expected.alpha)
            .check_for(self.session.provider())
    }

    /// The network.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Runs `first` on the picture that was `prepared` for it, `second` where the first is in doubt, and the network itself on
    /// what they gave. Blocking.
    ///
    /// # Errors
    /// An output is not what its row says, or a network failed.
    pub fn infer(
        &self,
        picture: &Picture<'_>,
        prepared: &Prepared,
        first: &Segmenter,
        second: &Segmenter,
    ) -> Result<RawRefined, SegmentError> {
        let coarse = Coarse::of(picture, prepared, first, second)?;
        self.refine(picture, coarse)
    }

    /// Runs the network on coarse mattes of the picture. Blocking.
    ///
    /// # Errors
    /// The picture is not the one they were made of, or the network failed.
    pub fn refine(
        &self,
        picture: &Picture<'_>,
        coarse: Coarse,
    ) -> Result<RawRefined, SegmentError> {
        let Coarse {
            first,
            second,
            mut runs,
            peak,
            bands_px,
        } = coarse;
        let (width, height) = (first.width, first.height);
        let mattes = [&first, second.as_ref().unwrap_or(&first)];
        let mut refined = self.run(tensor(picture, width, height, mattes)?, width, height)?;
        runs.append(&mut refined.runs);
        Ok(RawRefined {
            least_alpha: interior::least_alpha(&first, second.as_ref(), &bands_px),
            runs,
            peak,
            ..refined
        })
    }

    fn run(
        &self,
        tensor: Array4<f32>,
        width: u32,
        height: u32,
    ) -> Result<RawRefined, SegmentError> {
        let tensor = tensor.into_dyn().into_shared();
        let mut inference = self.session.run_with_others(tensor)?;
        Ok(RawRefined {
            output: inference.outputs.swap_remove(0),
            width,
            height,
            least_alpha: vec![0; width as usize * height as usize],
            runs: vec![NetworkRun::of(&self.session, inference.elapsed)],
            peak: 1.0,
        })
    }

    /// The matte at the size at which the network worked.
    ///
    /// # Errors
    /// The output is not what the row says.
    pub fn small(&self, raw: &RawRefined) -> Result<Mask, SegmentError> {
        to_bytes(raw).ok_or_else(|| SegmentError::BadOutput {
            model: self.session.name().to_owned(),
            shape: raw.output.shape().to_vec(),
        })
    }

    /// Makes what the network gave a matte of the picture's size.
    ///
    /// # Errors
    /// The output is not what the row says, or the picture is not the one it was made of.
    pub fn finish(&self, raw: &RawRefined, picture: &Picture<'_>) -> Result<Mask, SegmentError> {
        let small = self.small(raw)?;
        if (small.width, small.height) == (picture.width, picture.height) {
            let mut mask = small;
            refine::settle(&mut mask);
            return Ok(mask);
        }
        let mut mask = postprocess::resize(small, picture.width, picture.height)?;
        refine::refine_at(picture, &mut mask, LONGEST_SIDE_PX)?;
        Ok(mask)
    }
}

/// The width and height at which a picture is worked on: no side is longer than [`LONGEST_SIDE_PX`].
pub fn working_size(width: u32, height: u32) -> (u32, u32) {
    size_within(width, height, LONGEST_SIDE_PX)
}

/// The size of a picture, made smaller where its longest side is longer than `limit_px`.
pub(super) fn size_within(width: u32, height: u32, limit_px: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= limit_px {
        return (width, height);
    }
    let shrunk = |side: u32| {
        let scaled = u64::from(side) * u64::from(limit_px);
        // No longer than `side` was.
        ((scaled + u64::from(longest) / 2) / u64::from(longest)).max(1) as u32
    };
    (shrunk(width), shrunk(height))
}

/// Red, green, blue and both mattes, 0 to 1, as [1, 5, height, width] with both sides filled up to a multiple.
fn tensor(
    picture: &Picture<'_>,
    width: u32,
    height: u32,
    mattes: [&Mask; 2],
) -> Result<Array4<f32>, SegmentError> {
    let resized = preprocess::resize(picture, width, height)?;
    let (colors, channels) = (resized.buffer(), picture.channels);
    let (columns, rows) = (width as usize, height as usize);
    let filled = |side: u32| side.next_multiple_of(MULTIPLE_PX) as usize;
    let mut tensor = Array4::zeros((1, 5, filled(height), filled(width)));
    for (plane, mut values) in tensor
        .index_axis_mut(Axis(0), 0)
        .outer_iter_mut()
        .enumerate()
    {
        let (source, stride, offset): (&[u8], _, _) = match plane {
            0..3 => (colors, channels, if channels == 1 { 0 } else { plane }),
            _ => (&mattes[plane - 3].alpha, 1, 0),
        };
        for (y, mut row) in values.outer_iter_mut().enumerate() {
            let start = y.min(rows - 1) * columns;
            for (x, value) in row.iter_mut().enumerate() {
                *value = f32::from(source[(start + x.min(columns - 1)) * stride + offset]) / 255.0;
            }
        }
    }
    Ok(tensor)
}

/// What lies inside the picture, as bytes; `None` where it is no matte of that size.
fn to_bytes(raw: &RawRefined) -> Option<Mask> {
    let output = raw
        .output
        .view()
        .into_dimensionality::<ndarray::Ix4>()
        .ok()?;
    let plane = output.index_axis(Axis(0), 0);
    let plane = plane.index_axis(Axis(0), 0);
    let (width, height) = (raw.width as usize, raw.height as usize);
    if plane.nrows() < height || plane.ncols() < width {
        return None;
    }
    let level = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let rows = plane.outer_iter().take(height);
    let seen = rows.flat_map(|row| row.into_iter().take(width));
    let alpha = seen
        .zip(&raw.least_alpha)
        .map(|(value, least)| level(*value).max(*least))
        .collect();
    Some(Mask {
        width: raw.width,
        height: raw.height,
        alpha,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: u32, height: u32, alpha: Vec<u8>) -> Mask {
        Mask {
            width,
            height,
            alpha,
        }
    }

    #[test]
    fn the_longest_side_is_bounded_and_none_vanishes() {
        assert_eq!(size_within(800, 533, 832), (800, 533));
        assert_eq!(size_within(1664, 1000, 832), (832, 500));
        assert_eq!(size_within(1, 10_000, 832), (1, 832));
        assert_eq!(size_within(10_000, 1, 832), (832, 1));
    }

    #[test]
    fn planes_are_colors_and_mattes_and_the_border_is_repeated() {
        let picture = Picture {
            width: 2,
            height: 1,
            channels: 3,
            pixels: &[255, 0, 51, 0, 102, 255],
        };
        let (first, second) = (mask(2, 1, vec![0, 255]), mask(2, 1, vec![51, 204]));
        let tensor = tensor(&picture, 2, 1, [&first, &second]).unwrap();
        assert_eq!(tensor.shape(), [1, 5, 32, 32]);
        let column =
            |x: usize| -> Vec<f32> { (0..5).map(|plane| tensor[[0, plane, 7, x]]).collect() };
        assert_eq!(column(0), [1.0, 0.0, 0.2, 0.0, 0.2]);
        assert_eq!(column(1), [0.0, 0.4, 1.0, 1.0, 0.8]);
        assert_eq!(column(31), column(1));
    }

    #[test]
    fn a_gray_picture_is_gray_in_all_colors() {
        let picture = Picture {
            width: 1,
            height: 1,
            channels: 1,
            pixels: &[51],
        };
        let matte = mask(1, 1, vec![255]);
        let tensor = tensor(&picture, 1, 1, [&matte, &matte]).unwrap();
        assert!((0..3).all(|plane| tensor[[0, plane, 0, 0]] == 0.2));
    }

    #[test]
    fn an_output_of_another_shape_is_no_matte() {
        let raw = |shape: &[usize]| RawRefined {
            output: ArrayD::zeros(shape),
            width: 20,
            height: 10,
            least_alpha: vec![7; 200],
            runs: Vec::new(),
            peak: 1.0,
        };
        let mask = to_bytes(&raw(&[1, 1, 32, 32])).unwrap();
        assert_eq!(mask.alpha, [7; 200]);
        assert!(to_bytes(&raw(&[1, 1, 8, 32])).is_none());
        assert!(to_bytes(&raw(&[1, 32, 32])).is_none());
    }
}
