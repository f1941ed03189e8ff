//! From evidence to a decision: kind, complexity, strategy.
//!
//! Two probabilities are estimated by logistic functions, that the picture was drawn (`graphic`) and that it shows a person
//! (`portrait`), and multiplied out: a drawn person is a graphic, what is neither drawn nor a person is a product.

use atelier_schemas::{Kind, events::Strategy};

use crate::{Measured, options::ClassifyOptions};

/// From this probability on a picture counts as drawn without a look at what it shows.
pub(crate) const SURELY_GRAPHIC: f32 = 0.95;
/// From this probability on a face alone makes a portrait without a look at what else there is.
pub(crate) const SURELY_PORTRAIT: f32 = 0.9;
/// Share of flat pixels from which a cut by colour works.
const FLAT_ENOUGH_FOR_COLOR: f32 = 0.9;

/// What was found of people.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct People {
    /// Score of the most prominent face, 0 to 1.
    pub(crate) face_score: f32,
    /// Its height as a share of the picture's shorter side.
    pub(crate) face_share: f32,
    /// Score of the most prominent person, 0 to 1.
    pub(crate) person_score: f32,
    /// That person's share of the picture's area.
    pub(crate) person_share: f32,
}

/// The probability that the picture was drawn, 0 to 1.
pub(crate) fn graphic_probability(measured: &Measured) -> f32 {
    logistic(-4.0 + 8.0 * measured.equal_share)
}

/// The probability that the picture shows a person, 0 to 1.
pub(crate) fn portrait_probability(people: &People) -> f32 {
    let face = people.face_score * (people.face_share / 0.08).min(1.0);
    let person = people.person_score * (people.person_share / 0.15).min(1.0);
    logistic(-3.0 + 5.0 * face + 6.0 * person)
}

/// The likeliest kind and its probability.
pub(crate) fn kind(graphic: f32, portrait: f32) -> (Kind, f32) {
    let photograph = 1.0 - graphic;
    let ranked = [
        (Kind::Product, photograph * (1.0 - portrait)),
        (Kind::Portrait, photograph * portrait),
        (Kind::Graphic, graphic),
    ];
    ranked.into_iter().fold(ranked[0], |best, next| if next.1 > best.1 { next } else { best })
}

/// How hard the edge is to cut, 0 to 1: half of it is hair, fur or threads, the rest the ground and the colours.
pub(crate) fn complexity(fine_outline: f32, ground_busyness: f32, measured: &Measured) -> f32 {
    (0.5 * fine_outline + 0.3 * ground_busyness + 0.2 * (1.0 - measured.flat_share)).clamp(0.0, 1.0)
}

/// The advised way to matte.
pub(crate) fn strategy(kind: Kind, complexity: f32, measured: &Measured, options: &ClassifyOptions) -> Strategy {
    let has_own_alpha = measured.transparent_share >= options.min_transparent_share && measured.transparent_share < 1.0;
    if has_own_alpha {
        Strategy::KeepAlpha
    } else if kind == Kind::Graphic && measured.flat_share >= FLAT_ENOUGH_FOR_COLOR {
        Strategy::FlatColor
    } else if complexity >= options.matting_complexity {
        Strategy::SegmentationWithMatting
    } else {
        Strategy::Segmentation
    }
}

fn logistic(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}
