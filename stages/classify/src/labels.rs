//! What a picture shows, in ImageNet's 1000 words, by EfficientNet-Lite0.

use std::{ops::RangeInclusive, time::Duration};

use atelier_models::{
    LoadError, ModelStore, Runtime, Session, SessionOptions, bundled::imagenet_labels,
};
use ndarray::Array4;

use crate::{ClassifyError, classifier::note_run, working_copy::WorkingCopy};

const MODEL: &str = "efficientnet_lite0";
const SIDE_PX: u32 = 224;
/// What is subtracted from a level and what it is then divided by.
const MEAN: f32 = 127.0;
const DEVIATION: f32 = 128.0;

/// Classes whose outline is hair, fur, feathers or threads: cocks to owls, grouse to swans, storks to albatrosses, dogs to
/// meerkats, rabbits to horses, cattle to badgers, sloths to lemurs, pandas; chain-link fence, feather boa, fur coat,
/// mosquito net, potted plant, spider web, teddy, wig, wool, flowers.
const FINE_OUTLINES: [RangeInclusive<usize>; 18] = [
    7..=24,
    80..=100,
    127..=146,
    151..=299,
    330..=339,
    345..=362,
    364..=384,
    387..=388,
    489..=489,
    552..=552,
    568..=568,
    669..=669,
    738..=738,
    815..=815,
    850..=850,
    903..=903,
    911..=911,
    984..=986,
];

/// The probabilities of all labels.
pub(crate) struct Probabilities(Vec<f32>);

/// Names what a picture shows.
pub(crate) struct Labels {
    session: Session,
    names: Vec<&'static str>,
}

impl Labels {
    pub(crate) fn open(
        runtime: &Runtime,
        store: &ModelStore,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            session: Session::open(runtime, store, MODEL, options)?,
            names: imagenet_labels(),
        })
    }

    /// The probability of every label; and the network's own time.
    pub(crate) fn read(
        &self,
        copy: &WorkingCopy,
    ) -> Result<(Probabilities, Duration), ClassifyError> {
        let unexpected = |reason: String| ClassifyError::UnexpectedOutput {
            model: MODEL,
            reason,
        };
        let side = SIDE_PX as usize;
        let levels = copy
            .stretched(SIDE_PX)?
            .into_iter()
            .map(|level| (f32::from(level) - MEAN) / DEVIATION)
            .collect();
        let input = Array4::from_shape_vec((1, side, side, 3), levels)
            .map_err(|error| unexpected(error.to_string()))?;
        let inference = self.session.run(input.into_dyn().view())?;
        note_run(&self.session, inference.elapsed);
        let probabilities = inference.outputs.into_iter().next().unwrap_or_default();
        if probabilities.len() != self.names.len() {
            return Err(unexpected(format!(
                "{} probabilities for {} labels",
                probabilities.len(),
                self.names.len()
            )));
        }
        Ok((
            Probabilities(probabilities.iter().copied().collect()),
            inference.elapsed,
        ))
    }

    /// The likeliest labels, best first.
    pub(crate) fn best(
        &self,
        probabilities: &Probabilities,
        limit: usize,
    ) -> Vec<(&'static str, f32)> {
        let mut ranked: Vec<_> = self
            .names
            .iter()
            .copied()
            .zip(probabilities.0.iter().copied())
            .collect();
        ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
        ranked.truncate(limit);
        ranked
    }
}

impl Probabilities {
    /// How likely what is shown has an outline of hair, fur, feathers or threads, 0 to 1.
    pub(crate) fn fine_outline(&self) -> f32 {
        let sum: f32 = FINE_OUTLINES
            .iter()
            .filter_map(|classes| self.0.get(classes.clone()))
            .flatten()
            .sum();
        sum.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_with_fine_outlines_are_the_ones_that_are_meant() {
        let names = imagenet_labels();
        let ends: Vec<_> = FINE_OUTLINES
            .iter()
            .map(|classes| (names[*classes.start()], names[*classes.end()]))
            .collect();
        let expected = [
            ("cock", "great grey owl"),
            ("black grouse", "black swan"),
            ("white stork", "albatross"),
            ("Chihuahua", "meerkat"),
            ("wood rabbit", "sorrel"),
            ("ox", "badger"),
            ("three-toed sloth", "indri"),
            ("lesser panda", "giant panda"),
            ("chainlink fence", "chainlink fence"),
            ("feather boa", "feather boa"),
            ("fur coat", "fur coat"),
            ("mosquito net", "mosquito net"),
            ("pot", "pot"),
            ("spider web", "spider web"),
            ("teddy", "teddy"),
            ("wig", "wig"),
            ("wool", "wool"),
            ("rapeseed", "yellow lady's slipper"),
        ];
        assert_eq!(ends, expected);
    }

    #[test]
    fn only_fine_outlines_are_summed() {
        let mut probabilities = Probabilities(vec![0.0; 1000]);
        probabilities.0[281] = 0.5;
        probabilities.0[850] = 0.25;
        probabilities.0[916] = 0.25;
        assert_eq!(probabilities.fine_outline(), 0.75);
    }
}
