//! What one or two matting networks say of a picture, before the refiner decides; and how other evidence is added to it.
//!
//! A matting network does not know what a person is: it takes the shadow at their feet or a banner behind them for more of them,
//! half-heartedly. Evidence of another kind, such as the mask of a network that knows bodies, is added as what it is: odds.

use super::{
    Mask, NO_SUBJECT_PEAK, NetworkRun, Picture, Prepared, SegmentError, Segmenter,
    refiner::working_size,
};

/// Side of the small matte by which doubt is measured, in pixels.
const DOUBT_SIDE_PX: u32 = 256;

/// Share of a subject that is neither there nor not there from which a matte is in doubt. Of 61 photographs and composites
/// with known mattes, those above it are the ones in which parts of the subject are missing or too much.
const DOUBT_SHARE: f32 = 0.25;

/// No network is so sure of a pixel that it could not be wrong: shares are kept this far from none and all (0 to 1).
const LEAST_DOUBT: f32 = 1e-3;

/// What a network's log-odds count for where other evidence is at hand, divided by the number of networks. This, the weight of
/// the evidence (1) and [`LEANING`] are a logistic regression over street photographs with drawn masks, rounded; each third of
/// the photographs gave nearly the same as the other two.
const NETWORKS_WEIGHT: f32 = 1.0;

/// The log-odds where networks and evidence are undecided: they are more often too generous than too strict.
const LEANING: f32 = -0.5;

/// Coarse mattes of a picture, at the size at which the refiner works.
#[derive(Debug)]
pub struct Coarse {
    pub(super) first: Mask,
    pub(super) second: Option<Mask>,
    pub(super) runs: Vec<NetworkRun>,
    pub(super) peak: f32,
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
        };
        let small = first.finish(&raw, DOUBT_SIDE_PX, DOUBT_SIDE_PX)?;
        if undecided_share(&small) > DOUBT_SHARE || coarse.peak < NO_SUBJECT_PEAK {
            coarse.consult(picture, second)?;
        }
        Ok(coarse)
    }

    /// Runs `second` on the picture, unless it was asked already. Blocking.
    ///
    /// # Errors
    /// Its output is not what its row says, or it failed.
    pub fn consult(
        &mut self,
        picture: &Picture<'_>,
        second: &Segmenter,
    ) -> Result<(), SegmentError> {
        if self.second.is_some() {
            return Ok(());
        }
        let raw = second.infer(&second.prepare(picture)?)?;
        self.peak = self.peak.max(second.peak(&raw));
        self.runs
            .push(NetworkRun::of(second.session(), raw.elapsed));
        self.second = Some(second.finish(&raw, self.first.width, self.first.height)?);
        Ok(())
    }

    /// What the first network says.
    pub fn first(&self) -> &Mask {
        &self.first
    }

    /// How sure the surest of the networks is that there is a subject anywhere, 0 to 1.
    pub fn peak(&self) -> f32 {
        self.peak
    }

    /// Adds other evidence: for each pixel of [`first`](Self::first), how surely it is of the subject (1) or not (−1); 0 says
    /// nothing. Where the networks are sure they stay so; where they are in doubt, or differ, it decides. One matte is left.
    ///
    /// # Panics
    /// Never; what `evidence` says beyond the matte's pixels is left out of account, and what it lacks counts as 0.
    pub fn weigh(&mut self, evidence: &[f32]) {
        let second = self.second.take();
        let evidence = evidence.iter().copied().chain(std::iter::repeat(0.0));
        for (place, (alpha, evidence)) in self.first.alpha.iter_mut().zip(evidence).enumerate() {
            let mut odds = log_odds(*alpha);
            if let Some(second) = &second {
                odds = (odds + log_odds(second.alpha[place])) / 2.0;
            }
            let odds = NETWORKS_WEIGHT * odds + evidence + LEANING;
            *alpha = (255.0 / (1.0 + (-odds).exp())) as u8;
        }
    }
}

fn log_odds(alpha: u8) -> f32 {
    let share = (f32::from(alpha) / 255.0).clamp(LEAST_DOUBT, 1.0 - LEAST_DOUBT);
    (share / (1.0 - share)).ln()
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
        let mut one = coarse(vec![0, 255, 255, 0, 110, 110, 150], None);
        one.weigh(&[1.0, -1.0, 0.0, 0.0, 1.0, -1.0, -1.0]);
        let found = one.first().alpha.clone();
        assert!(
            found[0] < 3 && found[1] > 250 && found[2] > 252 && found[3] < 3,
            "{found:?}"
        );
        assert!(
            found[4] > 128 && found[5] < 70 && found[6] < 128,
            "{found:?}"
        );
    }

    #[test]
    fn where_two_networks_differ_evidence_decides() {
        let mut two = coarse(vec![255, 255], Some(vec![0, 0]));
        two.weigh(&[1.0, -1.0]);
        assert!(two.second.is_none());
        assert!(
            two.first.alpha[0] > 128 && two.first.alpha[1] < 80,
            "{two:?}"
        );
    }
}
