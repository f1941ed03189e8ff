//! The graphic processor on drawn shapes: alpha and colours are known from how they were drawn.
#![allow(clippy::unwrap_used)]

use atelier_matte::processors::graphic::{Cut, CutError, NotFlat, cut_out};
use atelier_schemas::matting::PATH_BYTES_LIMIT;
use atelier_stores::{Raster, raster::Channels};

/// Samples a pixel's side is taken apart into: 289 of them are finer than the 255 levels of alpha.
const FINE: usize = 17;

/// What was drawn: the picture over a flat ground, and the truth.
struct Drawing {
    picture: Raster,
    /// Straight RGBA.
    truth: Vec<[u8; 4]>,
}

/// Draws by area: `color_at` says which colour lies at a point, `None` is the ground.
fn draw(
    width: usize,
    height: usize,
    ground: [u8; 3],
    color_at: impl Fn(f64, f64) -> Option<[u8; 3]>,
) -> Drawing {
    let (mut pixels, mut truth) = (Vec::new(), Vec::new());
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let (mut sum, mut covered) = ([0.0; 3], 0.0);
        for (row, column) in (0..FINE).flat_map(|row| (0..FINE).map(move |column| (row, column))) {
            let at = |whole: usize, part: usize| whole as f64 + (part as f64 + 0.5) / FINE as f64;
            if let Some(color) = color_at(at(x, column), at(y, row)) {
                covered += 1.0;
                (0..3).for_each(|channel| sum[channel] += f64::from(color[channel]));
            }
        }
        let alpha = covered / (FINE * FINE) as f64;
        let straight = sum.map(|value| if covered > 0.0 { value / covered } else { 0.0 });
        let [red, green, blue] = straight.map(|value| value.round() as u8);
        truth.push([red, green, blue, (alpha * 255.0).round() as u8]);
        for channel in 0..3 {
            let mixed = alpha * straight[channel] + (1.0 - alpha) * f64::from(ground[channel]);
            pixels.push(mixed.round() as u8);
        }
    }
    let picture = Raster::new(width as u32, height as u32, Channels::Rgb, pixels).unwrap();
    Drawing { picture, truth }
}

/// The largest errors of alpha, and of colour as it is seen on another ground, in levels.
fn errors(drawing: &Drawing, cut: &Cut) -> (f64, f64, f64) {
    let subject = cut.subject.as_ref().unwrap();
    let (mut worst, mut sum, mut color_error) = (0.0_f64, 0.0, 0.0_f64);
    for (found, truth) in subject.data().as_chunks::<4>().0.iter().zip(&drawing.truth) {
        let error = f64::from(found[3].abs_diff(truth[3]));
        worst = worst.max(error);
        sum += error;
        if truth[3] > 0 && found[3] > 0 {
            for channel in 0..3 {
                let apart = f64::from(found[channel].abs_diff(truth[channel]));
                color_error = color_error.max(apart * f64::from(truth[3]) / 255.0);
            }
        }
    }
    (worst, sum / drawing.truth.len() as f64, color_error)
}

/// Alpha within `alpha` levels, colours within `color` levels, everywhere.
fn assert_exact(drawing: &Drawing, alpha: f64, color: f64) -> Cut {
    let cut = cut_out(&drawing.picture).unwrap();
    let (worst, mean, color_error) = errors(drawing, &cut);
    assert!(
        worst <= alpha && color_error <= color,
        "alpha is off by {worst} at most and {mean:.4} in the mean, colour by {color_error:.2}"
    );
    cut
}

const WHITE: [u8; 3] = [255, 255, 255];
const GREY: [u8; 3] = [128, 128, 128];
const BLUE: [u8; 3] = [20, 60, 230];
const RED: [u8; 3] = [210, 60, 40];
const YELLOW: [u8; 3] = [250, 210, 20];
const BLACK: [u8; 3] = [0, 0, 0];

fn disc(x: f64, y: f64, radius: f64) -> bool {
    (x - 40.3).hypot(y - 38.9) < radius
}

#[test]
fn a_disc_is_exact_on_every_ground() {
    for (ground, color) in [
        (WHITE, RED),
        (BLACK, YELLOW),
        (GREY, RED),
        (BLUE, YELLOW),
        (WHITE, BLACK),
        (RED, [230, 80, 40]),
    ] {
        let drawing = draw(80, 80, ground, |x, y| disc(x, y, 30.0).then_some(color));
        // One level of a channel is 1 / contrast of alpha.
        let contrast = (0..3)
            .map(|channel| ground[channel].abs_diff(color[channel]))
            .max();
        let rounding = 0.5 + 255.0 / f64::from(contrast.unwrap());
        let cut = assert_exact(&drawing, rounding, 0.0);
        assert!(cut.confidence > 0.95, "{}", cut.confidence);
    }
}

#[test]
fn the_inside_of_a_ring_is_background() {
    let drawing = draw(80, 80, WHITE, |x, y| {
        (disc(x, y, 30.0) && !disc(x, y, 18.5)).then_some(BLUE)
    });
    let cut = assert_exact(&drawing, 1.0, 0.0);
    assert_eq!(cut.subject.unwrap().data()[(39 * 80 + 40) * 4 + 3], 0);
}

/// A shape of 1.6 px of a colour's darker tone around the colour.
fn outlined(ground: [u8; 3], inner: [u8; 3], outline: [u8; 3]) -> Drawing {
    draw(80, 80, ground, |x, y| {
        match (disc(x, y, 28.4), disc(x, y, 30.0)) {
            (true, _) => Some(inner),
            (false, true) => Some(outline),
            (false, false) => None,
        }
    })
}

#[test]
fn an_outline_in_a_darker_tone_is_no_soft_edge() {
    // Over black the tone's colours are those of the inner colour's soft edge, and over gray those of a white shape's.
    for (ground, inner, outline) in [
        (BLACK, [40, 174, 102], [30, 131, 77]),
        (GREY, WHITE, [191, 191, 191]),
    ] {
        let drawing = outlined(ground, inner, outline);
        let cut = cut_out(&drawing.picture).unwrap();
        let (worst, mean, _) = errors(&drawing, &cut);
        assert!(mean <= 0.7, "alpha is off by {mean:.3}, at worst {worst}");
    }
}

#[test]
fn a_picture_that_was_made_twice_as_large_keeps_its_soft_edge() {
    const SMALL: usize = 60;
    let small = draw(SMALL, SMALL, BLACK, |x, y| {
        ((x - 30.3).hypot(y - 29.1) < 20.0).then_some(YELLOW)
    });
    let side = 2 * SMALL;
    // Lines are drawn between the middles of the small picture's pixels.
    let between = |at: usize| {
        let middle = (at as f64 / 2.0 - 0.25).clamp(0.0, (SMALL - 1) as f64);
        let first = (middle as usize).min(SMALL - 2);
        (first, middle - first as f64)
    };
    let alpha = |index: usize| {
        let ((x, right), (y, lower)) = (between(index % side), between(index / side));
        let at = |x: usize, y: usize| f64::from(small.truth[y * SMALL + x][3]);
        let row = |y: usize| at(x, y) * (1.0 - right) + at(x + 1, y) * right;
        row(y) * (1.0 - lower) + row(y + 1) * lower
    };
    let alphas: Vec<f64> = (0..side * side).map(alpha).collect();
    let seen = |alpha: &f64| YELLOW.map(|value| (f64::from(value) * alpha / 255.0).round() as u8);
    let pixels = alphas.iter().flat_map(seen).collect();
    let drawing = Drawing {
        picture: Raster::new(side as u32, side as u32, Channels::Rgb, pixels).unwrap(),
        truth: alphas
            .iter()
            .map(|alpha| [YELLOW[0], YELLOW[1], YELLOW[2], alpha.round() as u8])
            .collect(),
    };
    assert_exact(&drawing, 1.0, 1.0);
}

#[test]
fn an_outline_too_thin_to_cover_a_pixel_keeps_its_colour() {
    for ground in [GREY, BLUE, [0, 190, 60]] {
        let drawing = outlined(ground, [254, 136, 62], [190, 102, 46]);
        let cut = cut_out(&drawing.picture).unwrap();
        let (worst, mean, color) = errors(&drawing, &cut);
        assert!(
            mean <= 0.18 && color <= 20.0,
            "alpha is off by {mean:.3}, at worst {worst}, colour by {color:.2}"
        );
    }
}

#[test]
fn letters_keep_their_thin_strokes_and_counters() {
    // An O, an A and an l of strokes of 1.4 to 3 pixels.
    let stroke = |x: f64, y: f64, from: (f64, f64), to: (f64, f64), width: f64| {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let along = (((x - from.0) * dx + (y - from.1) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
        (x - from.0 - along * dx).hypot(y - from.1 - along * dy) < width / 2.0
    };
    let drawing = draw(72, 40, WHITE, |x, y| {
        let ring = ((x - 15.0) / 9.0).hypot((y - 20.0) / 12.0);
        let is_ink = (0.78..1.0).contains(&ring)
            || stroke(x, y, (30.0, 32.0), (38.2, 8.0), 3.0)
            || stroke(x, y, (46.0, 32.0), (38.2, 8.0), 3.0)
            || stroke(x, y, (33.0, 24.0), (43.0, 24.0), 2.0)
            || stroke(x, y, (56.3, 8.0), (58.1, 32.0), 1.4);
        is_ink.then_some([30, 30, 60])
    });
    let cut = cut_out(&drawing.picture).unwrap();
    let (_, mean, _) = errors(&drawing, &cut);
    assert!(mean <= 0.2, "alpha {mean:.3}");
    assert_recomposes(&drawing.picture, WHITE, 1);
    let alpha_at = |x: usize, y: usize| cut.subject.as_ref().unwrap().data()[(y * 72 + x) * 4 + 3];
    assert_eq!(
        (alpha_at(15, 20), alpha_at(38, 18)),
        (0, 0),
        "the counters are open"
    );
}

#[test]
fn two_colours_that_touch_are_opaque_between_them_and_exact_at_the_edge() {
    let drawing = draw(80, 80, GREY, |x, y| {
        disc(x, y, 30.0).then_some(if x + 0.3 * y < 52.0 { RED } else { YELLOW })
    });
    let cut = cut_out(&drawing.picture).unwrap();
    let (worst, mean, color) = errors(&drawing, &cut);
    assert!(
        mean <= 0.02 && worst <= 8.0 && color <= 4.0,
        "alpha {mean:.3}, at worst {worst}, colour {color:.2}"
    );
    let subject = cut.subject.unwrap();
    let opaque = |index: usize| subject.data()[index * 4 + 3] == 255;
    let within = (0..80 * 80).filter(|index| disc((index % 80) as f64, (index / 80) as f64, 26.0));
    assert!(
        within.into_iter().all(opaque),
        "the seam is not transparent"
    );
}

#[test]
fn lines_of_one_pixel_are_kept_as_they_are() {
    let drawing = draw(60, 60, WHITE, |x, y| {
        let lies_on = (10.0..11.0).contains(&y) || (20.0..21.0).contains(&x) || (x - y).abs() < 0.7;
        (lies_on && (5.0..55.0).contains(&x) && (5.0..55.0).contains(&y)).then_some(BLACK)
    });
    let cut = cut_out(&drawing.picture).unwrap();
    let (_, mean, color) = errors(&drawing, &cut);
    assert!(
        mean == 0.0 && color == 0.0,
        "alpha {mean:.3}, colour {color:.2}"
    );
}

#[test]
fn a_flat_see_through_overlay_gives_the_picture_again() {
    // Half-transparent yellow over a disc and the ground: over the ground it cannot be told from a paler colour, so it is kept
    // as one, and nothing changes on the old ground.
    let drawing = draw(80, 80, WHITE, |x, y| {
        let overlay = (20.0..75.0).contains(&x) && (50.0..70.0).contains(&y);
        match (disc(x, y, 25.0), overlay) {
            (true, false) => Some(RED),
            (true, true) => Some([230, 135, 30]),
            (false, true) => Some([252, 232, 137]),
            (false, false) => None,
        }
    });
    let cut = assert_exact(&drawing, 24.0, 18.0);
    let (_, mean, _) = errors(&drawing, &cut);
    assert!(mean <= 0.02, "alpha {mean:.3}");
    assert_recomposes(&drawing.picture, WHITE, 1);
}

/// The subject over the old ground is the picture again.
fn assert_recomposes(picture: &Raster, ground: [u8; 3], levels: u8) {
    let subject = cut_out(picture).unwrap().subject.unwrap();
    let seen = picture.data().as_chunks::<3>().0;
    for (index, (found, seen)) in subject
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .zip(seen)
        .enumerate()
    {
        let alpha = f64::from(found[3]) / 255.0;
        for channel in 0..3 {
            let again =
                alpha * f64::from(found[channel]) + (1.0 - alpha) * f64::from(ground[channel]);
            let apart = (again - f64::from(seen[channel])).abs();
            assert!(
                apart <= f64::from(levels) + 0.5,
                "pixel {index}: {found:?} is {again:.1} in channel {channel} and not {seen:?}"
            );
        }
    }
}

#[test]
fn shading_within_the_subject_stays_opaque_and_recomposes() {
    let drawing = draw(80, 80, BLUE, |x, y| {
        disc(x, y, 30.0).then(|| [(x * 2.5) as u8, (y * 2.0) as u8 + 40, 90])
    });
    let cut = cut_out(&drawing.picture).unwrap();
    let (_, mean, _) = errors(&drawing, &cut);
    assert!(mean <= 0.1, "alpha {mean:.3}");
    assert_recomposes(&drawing.picture, BLUE, 2);
}

#[test]
fn clusters_and_outlines_are_told() {
    let drawing = draw(80, 80, WHITE, |x, y| {
        if (disc(x, y, 30.0) && !disc(x, y, 15.0)) || (x > 70.0 && y > 70.0) {
            Some(RED)
        } else {
            None
        }
    });
    let measured = cut_out(&drawing.picture).unwrap().measured;
    let clusters: Vec<(&str, bool)> = measured
        .clusters
        .iter()
        .take(2)
        .map(|cluster| (cluster.color.as_str(), cluster.background))
        .collect();
    assert_eq!(clusters, [("#ffffff", true), ("#d23c28", false)]);
    let shapes = measured.shapes.unwrap();
    assert_eq!((shapes.count, shapes.paths.len()), (2, 2));
    let ring = &shapes.paths[0];
    assert!(
        (ring.area_px as f64 - 2_120.0).abs() < 40.0,
        "{}",
        ring.area_px
    );
    assert_eq!(ring.path.matches('M').count(), 2, "an outline and a hole");
    assert!(
        ring.path.ends_with('Z') && ring.path.len() < 600,
        "{}",
        ring.path
    );
    let corner = &shapes.paths[1].path;
    for point in ["70 70", "80 70", "80 80", "70 80"] {
        assert!(corner.contains(point), "{corner}");
    }
}

#[test]
fn many_shapes_stay_within_the_reports_size() {
    let drawing = draw(300, 300, WHITE, |x, y| {
        let (column, row) = ((x / 10.0) as u32, (y / 10.0) as u32);
        let inside = (x % 10.0 - 5.0).hypot(y % 10.0 - 5.0) < 3.6;
        inside.then_some(if (column + row) % 2 == 0 { RED } else { BLUE })
    });
    let shapes = cut_out(&drawing.picture).unwrap().measured.shapes.unwrap();
    assert_eq!(shapes.count, 900);
    let told: usize = shapes.paths.iter().map(|shape| shape.path.len()).sum();
    assert!(told <= PATH_BYTES_LIMIT && shapes.path_bytes > told as u64);
}

#[test]
fn a_subject_may_touch_every_border() {
    let drawing = draw(80, 80, WHITE, |x, y| {
        ((x - 40.0).hypot(y - 40.0) < 40.5).then_some(RED)
    });
    let cut = cut_out(&drawing.picture).unwrap();
    let (_, mean, _) = errors(&drawing, &cut);
    // Along the border there is no background beside the edge to tell it by: there it is opaque, in the colour that is seen.
    assert!(mean <= 0.3, "alpha {mean:.3}");
    assert_recomposes(&drawing.picture, WHITE, 1);
    let alpha_at = |x: usize, y: usize| cut.subject.as_ref().unwrap().data()[(y * 80 + x) * 4 + 3];
    assert_eq!(
        (alpha_at(0, 0), alpha_at(40, 0), alpha_at(40, 40)),
        (0, 255, 255)
    );
}

#[test]
fn what_has_one_colour_has_no_subject() {
    for (width, height) in [(1, 1), (1, 10_000), (10_000, 1), (64, 64)] {
        let data = [90, 91, 92].repeat(width * height);
        let picture = Raster::new(width as u32, height as u32, Channels::Rgb, data).unwrap();
        assert!(
            cut_out(&picture).unwrap().subject.is_none(),
            "{width} × {height}"
        );
    }
}

#[test]
fn a_strip_of_one_pixel_is_cut_out() {
    let column: Vec<u8> = (0..10_000)
        .flat_map(|y| {
            if (4_000..6_000).contains(&y) {
                RED
            } else {
                WHITE
            }
        })
        .collect();
    let picture = Raster::new(1, 10_000, Channels::Rgb, column).unwrap();
    let subject = cut_out(&picture).unwrap().subject;
    // Its border is all of it, and most of that is white.
    let alpha: Vec<u8> = subject
        .unwrap()
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|pixel| pixel[3])
        .collect();
    assert_eq!((alpha[0], alpha[5_000], alpha[9_999]), (0, 255, 0));
}

#[test]
fn what_is_not_flat_is_refused_with_the_reason() {
    let width = 120;
    let ramp: Vec<u8> = (0..width * width)
        .flat_map(|index| [(index % width * 2) as u8, (index / width * 2) as u8, 90])
        .collect();
    let mut state = 1_u32;
    let grain: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        200 + (state >> 28) as u8
    })
    .take(width * width * 3)
    .collect();
    let refused = |data: Vec<u8>| {
        let picture = Raster::new(width as u32, width as u32, Channels::Rgb, data).unwrap();
        match cut_out(&picture) {
            Err(CutError::NotFlat(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let reason = refused(ramp);
    assert!(matches!(reason, NotFlat::Border { .. }), "{reason}");
    assert!(
        reason
            .to_string()
            .contains("% of its border have one colour")
    );
    let reason = refused(grain);
    assert!(matches!(reason, NotFlat::Ground { .. }), "{reason}");
}

#[test]
fn fifty_megapixels_are_cut_out() {
    let (width, height) = (8_660_usize, 5_774_usize);
    let mut data = vec![255; width * height * 3];
    for y in 1_000..4_000 {
        for x in 2_000..6_000 {
            data[(y * width + x) * 3..][..3].copy_from_slice(&RED);
        }
    }
    let picture = Raster::new(width as u32, height as u32, Channels::Rgb, data).unwrap();
    let cut = cut_out(&picture).unwrap();
    let subject = cut.subject.unwrap();
    let alpha_at = |x: usize, y: usize| subject.data()[(y * width + x) * 4 + 3];
    assert_eq!((alpha_at(1_999, 2_000), alpha_at(2_000, 2_000)), (0, 255));
    let shapes = cut.measured.shapes.unwrap();
    assert_eq!(shapes.count, 1);
    assert!((shapes.paths[0].area_px as f64 / 12e6 - 1.0).abs() < 0.01);
}
