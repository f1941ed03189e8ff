//! What one or two matting networks say of a picture before the refiner decides, and how other evidence is added to it.
//!
//! A matting network does not know what a person is: it takes the shadow at their feet or a banner behind them for more of them,
//! half-heartedly. Evidence of another kind, such as the mask of a network that knows bodies, is added as what it is: odds.
//!
//! Nor does it know which of several things is meant. Where the first network is in doubt, but sure of all that the second shows, both
//! mean the same subject, and what the first half sees beside it is none: their odds become one matte, and who is less in doubt has
//! more to say. Where it is not even sure of that, the second has seen another thing, and the refiner is given both.

use super::{
    Mask, NO_SUBJECT_PEAK, NetworkRun, Picture, Prepared, SegmentError, Segmenter, holes,
    refiner::working_size,
};

/// Side of the small matte by which doubt is measured, in pixels.
const DOUBT_SIDE_PX: u32 = 256;

/// Share of a subject that is neither there nor not there from which a matte is in doubt. Of 61 photographs and composites
/// with known mattes, those above it are the ones in which parts of the subject are missing or too much.
const DOUBT_SHARE: f32 = 0.25;

/// How sure the first network is on average of what the second shows (0 to 1), from which on both mean the same subject.
const SAME_SUBJECT: f32 = 0.85;

/// Where two networks are weighed, none counts as surer of a pixel than the refiner takes it for: 2 and 98 percent.
const FIRM: f32 = 0.02;

/// No matte counts as less in doubt than this where it is weighed against another.
const LEAST_UNDECIDED_SHARE: f32 = 0.01;

/// No network is so sure of a pixel that it could not be wrong: shares are kept this far from none and all (0 to 1).
const LEAST_DOUBT: f32 = 1e-3;

/// The log-odds of sure evidence: it turns what a network gives a share between .27 and .73, and nothing else. More gains little on
/// street photographs with drawn masks, and takes from people what they hold: of a helmet under an arm the network is no surer
/// than .84.
const EVIDENCE_LOG_ODDS: f32 = 1.0;

/// Coarse mattes of a picture, at the size at which the refiner works.
#[derive(Debug)]
pub struct Coarse {
    pub(super) first: Mask,
    pub(super) second: Option<Mask>,
    pub(super) runs: Vec<NetworkRun>,
    pub(super) peak: f32,
    /// See [`Self::loosen`]; empty where nothing is loose.
    pub(super) bands_px: Vec<f32>,
}

impl Coarse {
    /// Runs `first` on the picture that was `prepared` for it, and `second` where the first is in doubt. Blocking.
    ///
    /// # Errors
    /// An output is not what its row says, or a network failed.
    pub fn of(
        picture: &Picture<'_>,
        prepared: &Prepared,
        first: &Segmenter,
        second: &Segmenter,
    ) -> Result<Self, SegmentError> {
        let (width, height) = working_size(picture.width, picture.height);
        let raw = first.infer(prepared)?;
        let mut coarse = Self {
            first: first.finish(&raw, width, height)?,
            second: None,
            runs: vec![NetworkRun::of(first.session(), raw.elapsed)],
            peak: first.peak(&raw),
            bands_px: Vec::new(),
        };
        let small = first.finish(&raw, DOUBT_SIDE_PX, DOUBT_SIDE_PX)?;
        if undecided_share(&small) > DOUBT_SHARE || coarse.peak < NO_SUBJECT_PEAK {
            let raw = second.infer(&second.prepare(picture)?)?;
            coarse.peak = coarse.peak.max(second.peak(&raw));
            coarse
                .runs
                .push(NetworkRun::of(second.session(), raw.elapsed));
            let matte = second.finish(&raw, width, height)?;
            let small_matte = second.finish(&raw, DOUBT_SIDE_PX, DOUBT_SIDE_PX)?;
            if sureness_within(&small, &small_matte) >= SAME_SUBJECT {
                let shares = [undecided_share(&small), undecided_share(&small_matte)];
                coarse.first = agreed([&coarse.first, &matte], shares);
            } else {
                coarse.second = Some(matte);
            }
        }
        coarse.open_holes(picture)?;
        Ok(coarse)
    }

    /// Opens the holes that a network leaves half closed.
    fn open_holes(&mut self, picture: &Picture<'_>) -> Result<(), SegmentError> {
        let places = holes::find(picture, &self.first, self.second.as_ref())?;
        let mattes = [Some(&mut self.first), self.second.as_mut()];
        for matte in mattes.into_iter().flatten() {
            for place in &places {
                matte.alpha[*place] = 0;
            }
        }
        Ok(())
    }

    /// What the first network says, or both where they mean the same subject.
    pub fn first(&self) -> &Mask {
        &self.first
    }

    /// How sure the surest of the networks is that there is a subject anywhere, 0 to 1.
    pub fn peak(&self) -> f32 {
        self.peak
    }

    /// Lets the refiner open the subject further inside than elsewhere: for each pixel of [`first`](Self::first), how far from the
    /// outside at least, in pixels.
    pub fn loosen(&mut self, bands_px: Vec<f32>) {
        self.bands_px = bands_px;
    }

    /// Adds other evidence: for each pixel of [`first`](Self::first), how surely it is of the subject (1) or not (−1); 0 says
    /// nothing, and so does what is missing. Where a network is sure it stays so; where it is in doubt, the evidence decides.
    pub fn weigh(&mut self, evidence: &[f32]) {
        for matte in [Some(&mut self.first), self.second.as_mut()]
            .into_iter()
            .flatten()
        {
            for (alpha, evidence) in matte.alpha.iter_mut().zip(evidence) {
                *alpha = level(log_odds(*alpha, LEAST_DOUBT) + EVIDENCE_LOG_ODDS * evidence);
            }
        }
    }
}

/// The odds of a share of 255, which is kept `least_doubt` away from none and all.
fn log_odds(alpha: u8, least_doubt: f32) -> f32 {
    let share = (f32::from(alpha) / 255.0).clamp(least_doubt, 1.0 - least_doubt);
    (share / (1.0 - share)).ln()
}

/// The share of 255 that log-odds stand for.
fn level(log_odds: f32) -> u8 {
    (255.0 / (1.0 + (-log_odds).exp())).round() as u8
}

/// How sure `matte` is on average, 0 to 1, of what `shown` has; 0 where that shows nothing.
fn sureness_within(matte: &Mask, shown: &Mask) -> f32 {
    let (mut sum, mut count) = (0_u64, 0_u64);
    for (alpha, shown) in matte.alpha.iter().zip(&shown.alpha) {
        if *shown >= 128 {
            sum += u64::from(*alpha);
            count += 255;
        }
    }
    sum as f32 / count.max(1) as f32
}

/// One matte of two of the same size: their mean log-odds, of which each counts by how little of it is undecided.
fn agreed([one, other]: [&Mask; 2], undecided_shares: [f32; 2]) -> Mask {
    let weights = undecided_shares.map(|share| 1.0 / share.max(LEAST_UNDECIDED_SHARE));
    let first_share = weights[0] / (weights[0] + weights[1]);
    let mean = |(one, other): (&u8, &u8)| {
        let (one, other) = (log_odds(*one, FIRM), log_odds(*other, FIRM));
        level(other + (one - other) * first_share)
    };
    Mask {
        width: one.width,
        height: one.height,
        alpha: one.alpha.iter().zip(&other.alpha).map(mean).collect(),
    }
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

    fn coarse(first: Vec<u8>, second: Option<Vec<u8>>) -> Coarse {
        let row = |alpha: Vec<u8>| mask(alpha.len() as u32, 1, alpha);
        Coarse {
            first: row(first),
            second: second.map(row),
            runs: Vec::new(),
            peak: 1.0,
            bands_px: Vec::new(),
        }
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
    fn what_is_sure_stays_and_evidence_decides_what_is_not() {
        let mut one = coarse(vec![0, 255, 128, 0, 110, 110, 150, 230], None);
        one.weigh(&[1.0, -1.0, 0.0, 0.0, 1.0, -1.0, -1.0, -1.0]);
        let found = one.first().alpha.clone();
        assert!(found[0] < 3 && found[1] > 252 && found[3] == 0, "{found:?}");
        assert_eq!(found[2], 128);
        assert!(
            found[4] > 150 && found[5] < 100 && found[6] < 100,
            "{found:?}"
        );
        // What somebody holds is no body, and stays.
        assert!(found[7] > 150, "{found:?}");
    }

    #[test]
    fn a_matte_is_as_sure_of_another_as_it_is_where_that_is_there() {
        let found = mask(4, 1, vec![255, 153, 80, 255]);
        assert_eq!(
            sureness_within(&found, &mask(4, 1, vec![255, 128, 127, 0])),
            0.8
        );
        assert_eq!(sureness_within(&found, &mask(4, 1, vec![0; 4])), 0.0);
    }

    #[test]
    fn what_one_network_half_sees_beside_the_agreed_subject_is_none() {
        // A hand before a tractor: both see the hand, one of them half of the tractor too.
        let (doubtful, decided) = ([255, 140, 5], [255, 3, 0]);
        let row = |alpha: [u8; 3]| mask(3, 1, alpha.to_vec());
        let found = agreed([&row(doubtful), &row(decided)], [0.4, 0.1]).alpha;
        assert!(found[0] > 245 && found[1] < 20 && found[2] < 6, "{found:?}");
        let decided_first = agreed([&row(decided), &row(doubtful)], [0.1, 0.4]).alpha;
        assert_eq!(found, decided_first);
    }

    #[test]
    fn who_is_less_in_doubt_has_more_to_say() {
        let (one, other) = (mask(1, 1, vec![230]), mask(1, 1, vec![25]));
        let of = |shares| agreed([&one, &other], shares).alpha[0];
        assert!(of([0.3, 0.6]) > 170, "{}", of([0.3, 0.6]));
        assert!(of([0.6, 0.3]) < 85, "{}", of([0.6, 0.3]));
        assert!(of([0.3, 0.3]).abs_diff(128) < 3, "{}", of([0.3, 0.3]));
        // A matte without any doubt is finite.
        assert!(of([0.0, 0.3]) > 200, "{}", of([0.0, 0.3]));
    }

    #[test]
    fn both_mattes_are_weighed() {
        let mut two = coarse(vec![128, 128], Some(vec![100, 160]));
        two.weigh(&[1.0, -1.0]);
        let second = two.second.unwrap().alpha;
        assert!(two.first.alpha[0] > 150 && two.first.alpha[1] < 100);
        assert!(second[0] > 150 && second[1] < 100, "{second:?}");
    }
}
