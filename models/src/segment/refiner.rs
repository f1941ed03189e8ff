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
    Mask, NO_SUBJECT_PEAK, Picture, Prepared, SegmentError, Segmenter, interior, postprocess,
    preprocess, reference, refine,
};
use crate::{LoadError, ModelStore, Provider, Runtime, Session, SessionOptions};

/// Its name in the catalogue.
const NAME: &str = "refiner";

/// Longest side of the size at which it works, in pixels.
pub const LONGEST_SIDE_PX: u32 = 832;

/// Both sides of its input are multiples of this; what is missing repeats the border.
const MULTIPLE_PX: u32 = 32;

/// Side of the small matte by which doubt is measured, in pixels.
const DOUBT_SIDE_PX: u32 = 256;

/// Share of a subject that is neither there nor not there from which a matte is in doubt. Of 61 photographs and composites
/// with known mattes, those above it are the ones in which parts of the subject are missing or too much.
const DOUBT_SHARE: f32 = 0.25;

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
        if !runtime.is_to_be_checked() {
            return open_on(runtime);
        }
        let on_cpu = open_on(&runtime.on_cpu())?;
        let checked = open_on(runtime)
            .map_err(|error| error.to_string())
            .and_then(|refiner| refiner.check_against(&on_cpu).map(|()| refiner));
        Ok(checked.unwrap_or_else(|reason| {
            tracing::error!(
                model = NAME,
                provider = runtime.provider().as_str(),
                reason,
                "the provider does not serve this model, which runs on `cpu`, more slowly"
            );
            on_cpu
        }))
    }

    /// Compares what both make of the reference's picture and matte.
    fn check_against(&self, on_cpu: &Self) -> Result<(), String> {
        let picture = reference::picture();
        let coarse = reference::coarse_matte().map_err(|error| error.to_string())?;
        let matte_of = |refiner: &Self| {
            let tensor = tensor(&picture, picture.width, picture.height, [&coarse, &coarse])?;
            let raw = refiner.run(&tensor, picture.width, picture.height)?;
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
        let (width, height) = working_size(picture.width, picture.height);
        let raw = first.infer(prepared)?;
        let coarse = first.finish(&raw, width, height)?;
        let small = first.finish(&raw, DOUBT_SIDE_PX, DOUBT_SIDE_PX)?;
        let mut runs = vec![NetworkRun::of(first.session(), raw.elapsed)];
        let mut peak = first.peak(&raw);
        let other = if undecided_share(&small) > DOUBT_SHARE || peak < NO_SUBJECT_PEAK {
            let raw = second.infer(&second.prepare(picture)?)?;
            peak = peak.max(second.peak(&raw));
            runs.push(NetworkRun::of(second.session(), raw.elapsed));
            Some(second.finish(&raw, width, height)?)
        } else {
            None
        };
        let mattes = [&coarse, other.as_ref().unwrap_or(&coarse)];
        let mut refined = self.run(&tensor(picture, width, height, mattes)?, width, height)?;
        runs.append(&mut refined.runs);
        Ok(RawRefined {
            least_alpha: interior::least_alpha(&coarse, other.as_ref()),
            runs,
            peak,
            ..refined
        })
    }

    fn run(
        &self,
        tensor: &Array4<f32>,
        width: u32,
        height: u32,
    ) -> Result<RawRefined, SegmentError> {
        let mut inference = self.session.run(tensor.view().into_dyn())?;
        Ok(RawRefined {
            output: inference.outputs.swap_remove(0),
            width,
            height,
            least_alpha: vec![0; width as usize * height as usize],
            runs: vec![NetworkRun::of(&self.session, inference.elapsed)],
            peak: 1.0,
        })
    }

    /// Makes what the network gave a matte of the picture's size.
    ///
    /// # Errors
    /// The output is not what the row says, or the picture is not the one it was made of.
    pub fn finish(&self, raw: &RawRefined, picture: &Picture<'_>) -> Result<Mask, SegmentError> {
        let small = to_bytes(raw).ok_or_else(|| SegmentError::BadOutput {
            model: self.session.name().to_owned(),
            shape: raw.output.shape().to_vec(),
        })?;
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

/// The size at which a picture is worked on.
fn working_size(width: u32, height: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= LONGEST_SIDE_PX {
        return (width, height);
    }
    let shrunk = |side: u32| {
        let scaled = u64::from(side) * u64::from(LONGEST_SIDE_PX);
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

/// Of what may be the subject (more than a tenth there), the share that is less than nine tenths there.
fn undecided_share(mask: &Mask) -> f32 {
    let (mut undecided, mut subject) = (0_u32, 0_u32);
    for alpha in &mask.alpha {
        subject += u32::from(*alpha > 25);
        undecided += u32::from((26..230).contains(alpha));
    }
    undecided as f32 / subject.max(1) as f32
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
        assert_eq!(working_size(800, 533), (800, 533));
        assert_eq!(working_size(1664, 1000), (832, 500));
        assert_eq!(working_size(1, 10_000), (1, 832));
        assert_eq!(working_size(10_000, 1), (832, 1));
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
    fn a_decided_matte_is_not_in_doubt_and_a_gray_one_is() {
        let decided = [vec![0; 50], vec![255; 45], vec![128; 5]].concat();
        assert!(undecided_share(&mask(10, 10, decided)) < DOUBT_SHARE);
        let gray = [vec![0; 50], vec![255; 25], vec![128; 25]].concat();
        assert!(undecided_share(&mask(10, 10, gray)) > DOUBT_SHARE);
        assert_eq!(undecided_share(&mask(1, 1, vec![0])), 0.0);
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
