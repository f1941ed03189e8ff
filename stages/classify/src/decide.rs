//! From evidence to a decision: kind, complexity, strategy.
//!
//! Two probabilities are estimated by logistic functions, that the picture was drawn and that it shows a person, and
//! multiplied out: a drawn person is a graphic, and what is neither drawn nor a person is a product. The weights were
//! fitted (ridge-regularised logistic regression, classes weighted alike, five-fold cross-validated) on some 700 pictures:
//! photographs of people, pets, food, things, landscapes and clothes, the same on a white ground and with a cut-out's
//! alpha, as JPEG and not; against screens and icons, see-through, on white, and on random colours as JPEG.

use atelier_schemas::{Kind, events::Strategy};

use crate::{Measured, measure::Texture, options::ClassifyOptions};

/// From this probability on a picture counts as drawn without a look at what it shows. Of the photographs in the fit about
/// one in fifty lies above it, and the networks would not have saved it: drawn things look like things to them too.
pub(crate) const SURELY_GRAPHIC: f32 = 0.95;

/// Drawn or not: surfaces that were drawn have no grain, so their levels bend less than a camera's; and what smoothed a
/// photograph until it has none either (a lens, JPEG) leaves straight ramps. 95 % right in cross-validation; the share of
/// equal neighbours alone, 74 %. The bias is half a unit below the fitted one: most pictures that come are photographs.
const GRAPHIC_BIAS: f32 = 30.5;
const GRAPHIC_PER_EQUAL_SHARE: f32 = 1.88;
const GRAPHIC_PER_LOG_CURVATURE: f32 = -18.0;
const GRAPHIC_PER_STRAIGHT_SHARE: f32 = -45.2;
/// Added to the curvature before its logarithm is taken, in levels: below a fifth of a level all is alike.
const CURVATURE_FLOOR: f32 = 0.2;

/// A person or not: 98.7 % right in cross-validation. Dogs have faces to YuNet and clothes on a floor are persons to
/// EfficientDet, but a face within a person is neither: that agreement weighs most.
const PORTRAIT_BIAS: f32 = -4.95;
const PORTRAIT_PER_FACE: f32 = 1.7;
const PORTRAIT_PER_PERSON: f32 = 6.04;
const PORTRAIT_PER_AGREEMENT: f32 = 6.84;
const PORTRAIT_PER_FUR: f32 = -1.47;
/// A face of less than this share of the picture's shorter side counts for less: a passer-by.
const FULL_FACE_SHARE: f32 = 0.08;
/// A person of less than this share of the picture's area counts for less.
const FULL_PERSON_SHARE: f32 = 0.1;

/// No probability is more extreme than 1 % or 99 %: a few hundred pictures do not support more.
const MAX_LOGIT: f32 = 4.6;

/// Weights of complexity. Half of it is what the outline is made of: hair alone must be able to ask for matting.
const COMPLEXITY_PER_FINE_OUTLINE: f32 = 0.5;
const COMPLEXITY_PER_BUSY_GROUND: f32 = 0.3;
const COMPLEXITY_PER_COLORS: f32 = 0.2;

/// Share of flat pixels from which a cut by colour works whatever the ground.
const FLAT_ENOUGH_FOR_COLOR: f32 = 0.9;
/// A drawn thing on a ground no busier than this is cut by the ground's colour.
const PLAIN_GROUND: f32 = 0.01;

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
    /// Best product of the scores of a face and of a person around it, 0 to 1.
    pub(crate) agreement: f32,
}

/// The probability that the picture was drawn, 0 to 1.
pub(crate) fn graphic_probability(texture: &Texture) -> f32 {
    logistic(
        GRAPHIC_BIAS
            + GRAPHIC_PER_EQUAL_SHARE * texture.equal_share
            + GRAPHIC_PER_LOG_CURVATURE * (texture.curvature + CURVATURE_FLOOR).ln()
            + GRAPHIC_PER_STRAIGHT_SHARE * texture.straight_share,
    )
}

/// The probability that the picture shows a person, 0 to 1; `fur` is how likely it shows an animal.
pub(crate) fn portrait_probability(people: &People, fur: f32) -> f32 {
    let face = people.face_score * (people.face_share / FULL_FACE_SHARE).min(1.0);
    let person = people.person_score * (people.person_share / FULL_PERSON_SHARE).min(1.0);
    logistic(
        PORTRAIT_BIAS
            + PORTRAIT_PER_FACE * face
            + PORTRAIT_PER_PERSON * person
            + PORTRAIT_PER_AGREEMENT * people.agreement
            + PORTRAIT_PER_FUR * fur,
    )
}

/// The likeliest kind and its probability.
pub(crate) fn kind(graphic: f32, portrait: f32) -> (Kind, f32) {
    let photograph = 1.0 - graphic;
    let ranked = [
        (Kind::Product, photograph * (1.0 - portrait)),
        (Kind::Portrait, photograph * portrait),
        (Kind::Graphic, graphic),
    ];
    ranked.into_iter().fold(
        ranked[0],
        |best, next| if next.1 > best.1 { next } else { best },
    )
}

/// How hard the edge is to cut, 0 to 1: half of it is hair, fur or threads, the rest the ground and the colours.
pub(crate) fn complexity(fine_outline: f32, ground_busyness: f32, measured: &Measured) -> f32 {
    let complexity = COMPLEXITY_PER_FINE_OUTLINE * fine_outline
        + COMPLEXITY_PER_BUSY_GROUND * ground_busyness
        + COMPLEXITY_PER_COLORS * (1.0 - measured.flat_share);
    complexity.clamp(0.0, 1.0)
}

/// The advised way to matte.
pub(crate) fn strategy(
    kind: Kind,
    complexity: f32,
    ground_busyness: f32,
    measured: &Measured,
    options: &ClassifyOptions,
) -> Strategy {
    let has_own_alpha = measured.transparent_share >= options.min_transparent_share as f32
        && measured.transparent_share < 1.0;
    let has_keyable_colors =
        measured.flat_share >= FLAT_ENOUGH_FOR_COLOR || ground_busyness <= PLAIN_GROUND;
    if has_own_alpha {
        Strategy::KeepAlpha
    } else if kind == Kind::Graphic && has_keyable_colors {
        Strategy::FlatColor
    } else if complexity >= options.matting_complexity as f32 {
        Strategy::SegmentationWithMatting
    } else {
        Strategy::Segmentation
    }
}

fn logistic(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit.clamp(-MAX_LOGIT, MAX_LOGIT)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(flat_share: f32, transparent_share: f32) -> Measured {
        Measured {
            flat_share,
            transparent_share,
            ..Measured::default()
        }
    }

    #[test]
    fn drawn_things_repeat_levels_and_smoothed_photographs_have_ramps() {
        let drawn = Texture {
            equal_share: 0.76,
            straight_share: 0.32,
            curvature: 0.25,
        };
        let jpeg = Texture {
            equal_share: 0.32,
            straight_share: 0.5,
            curvature: 2.0,
        };
        let grain = Texture {
            equal_share: 0.02,
            straight_share: 0.12,
            curvature: 4.2,
        };
        assert!(graphic_probability(&drawn) > SURELY_GRAPHIC);
        assert!(graphic_probability(&jpeg) < 0.3 && graphic_probability(&grain) < 0.3);
    }

    #[test]
    fn a_face_within_a_person_is_worth_more_than_either() {
        let face = People {
            face_score: 0.9,
            face_share: 0.2,
            ..People::default()
        };
        let person = People {
            person_score: 0.7,
            person_share: 0.5,
            ..People::default()
        };
        let both = People {
            agreement: 0.63,
            person_score: 0.7,
            person_share: 0.5,
            ..face
        };
        assert!(portrait_probability(&face, 0.0) < 0.5 && portrait_probability(&person, 0.0) < 0.5);
        assert!(portrait_probability(&both, 0.0) > 0.95);
        assert!(portrait_probability(&face, 1.0) < portrait_probability(&face, 0.0));
    }

    #[test]
    fn the_likeliest_kind_wins_and_nothing_is_certain() {
        assert_eq!(kind(0.5, 0.5).0, Kind::Graphic);
        assert_eq!(kind(0.2, 0.9).0, Kind::Portrait);
        assert_eq!(kind(0.2, 0.1), (Kind::Product, 0.8 * 0.9));
        assert!(logistic(1e9) < 0.995 && logistic(-1e9) > 0.005);
    }

    #[test]
    fn each_strategy_has_its_case() {
        let options = ClassifyOptions::default();
        let advise = |kind, complexity, ground, measured: Measured| {
            strategy(kind, complexity, ground, &measured, &options)
        };
        assert_eq!(
            advise(Kind::Portrait, 0.9, 0.5, flat(0.1, 0.4)),
            Strategy::KeepAlpha
        );
        assert_eq!(
            advise(Kind::Graphic, 0.1, 0.5, flat(0.95, 0.0)),
            Strategy::FlatColor
        );
        assert_eq!(
            advise(Kind::Graphic, 0.1, 0.0, flat(0.5, 0.0)),
            Strategy::FlatColor
        );
        assert_eq!(
            advise(Kind::Graphic, 0.1, 0.5, flat(0.5, 0.0)),
            Strategy::Segmentation
        );
        assert_eq!(
            advise(Kind::Product, 0.1, 0.0, flat(0.95, 0.0)),
            Strategy::Segmentation
        );
        assert_eq!(
            advise(Kind::Product, 0.6, 0.9, flat(0.1, 0.001)),
            Strategy::SegmentationWithMatting
        );
        // See-through altogether: there is nothing to keep.
        assert_eq!(
            advise(Kind::Product, 0.0, 0.0, flat(0.0, 1.0)),
            Strategy::Segmentation
        );
    }

    #[test]
    fn hair_alone_asks_for_matting_and_a_plain_thing_does_not() {
        let threshold = ClassifyOptions::default().matting_complexity as f32;
        assert!(complexity(1.0, 0.0, &flat(1.0, 0.0)) >= threshold);
        assert!(complexity(0.1, 0.3, &flat(0.3, 0.0)) < threshold);
        assert_eq!(complexity(1.0, 1.0, &flat(0.0, 0.0)), 1.0);
    }
}
