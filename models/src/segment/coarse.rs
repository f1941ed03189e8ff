//! What one or two matting networks say of a picture before the refiner decides, and how other evidence is added to it.
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
            coarse.second = Some(second.finish(&raw, width, height)?);
        }
        Ok(coarse)
    }

    /// What the first network says.
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
                let odds = log_odds(*alpha) + EVIDENCE_LOG_ODDS * evidence;
                *alpha = (255.0 / (1.0 + (-odds).exp())).round() as u8;
            }
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
    fn both_mattes_are_weighed() {
        let mut two = coarse(vec![128, 128], Some(vec![100, 160]));
        two.weigh(&[1.0, -1.0]);
        let second = two.second.unwrap().alpha;
        assert!(two.first.alpha[0] > 150 && two.first.alpha[1] < 100);
        assert!(second[0] > 150 && second[1] < 100, "{second:?}");
    }
}
