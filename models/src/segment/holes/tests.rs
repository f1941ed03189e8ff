//! Frames and dresses that are drawn.

use super::*;

const SIDE: usize = 240;
const GROUND: [i32; 3] = [205, 200, 190];
const SUBJECT: [i32; 3] = [120, 70, 40];

/// A frame, from 60 to 180 in both directions, and what is seen through it, from 90 to 150.
fn is_frame(x: usize, y: usize) -> bool {
    (60..180).contains(&x) && (60..180).contains(&y) && !is_window(x, y)
}

fn is_window(x: usize, y: usize) -> bool {
    (90..150).contains(&x) && (90..150).contains(&y)
}

fn mask(alpha: impl Fn(usize, usize) -> u8) -> Mask {
    Mask {
        width: SIDE as u32,
        height: SIDE as u32,
        alpha: (0..SIDE * SIDE)
            .map(|place| alpha(place % SIDE, place / SIDE))
            .collect(),
    }
}

/// All of the frame, and `inside` in its window.
fn matte(inside: u8) -> Mask {
    mask(|x, y| match (is_frame(x, y), is_window(x, y)) {
        (true, _) => 255,
        (_, true) => inside,
        _ => 0,
    })
}

/// The share of the window that is found, and how many pixels are found elsewhere, in a picture of these colours with some grain.
fn found(
    color: impl Fn(usize, usize) -> [i32; 3],
    first: &Mask,
    second: Option<&Mask>,
) -> (f32, usize) {
    let pixels: Vec<u8> = (0..SIDE * SIDE)
        .flat_map(|place| {
            let grain = ((place.wrapping_mul(2_654_435_761) >> 24) % 9) as i32 - 4;
            color(place % SIDE, place / SIDE).map(|level| (level + grain).clamp(0, 255) as u8)
        })
        .collect();
    let picture = Picture {
        width: SIDE as u32,
        height: SIDE as u32,
        channels: 3,
        pixels: &pixels,
    };
    let places = find(&picture, first, second).unwrap();
    let is_inside = |place: &&usize| is_window(**place % SIDE, **place / SIDE);
    let inside = places.iter().filter(is_inside).count();
    (inside as f32 / 3_600.0, places.len() - inside)
}

fn framed(x: usize, y: usize) -> [i32; 3] {
    if is_frame(x, y) { SUBJECT } else { GROUND }
}

#[test]
fn what_shows_the_ground_and_is_in_doubt_is_a_hole() {
    let (share, elsewhere) = found(framed, &matte(150), None);
    assert!(share > 0.95 && elsewhere == 0, "{share} {elsewhere}");
    // One network is sure that it is there, and one that it is not.
    let (share, elsewhere) = found(framed, &matte(0), Some(&matte(255)));
    assert!(share > 0.95 && elsewhere == 0, "{share} {elsewhere}");
}

#[test]
fn what_no_network_doubts_stays() {
    assert_eq!(found(framed, &matte(255), Some(&matte(240))), (0.0, 0));
}

#[test]
fn what_both_see_through_is_open_already() {
    assert_eq!(found(framed, &matte(30), Some(&matte(90))), (0.0, 0));
}

#[test]
fn a_window_onto_something_else_stays() {
    let green = |x, y| {
        if is_window(x, y) {
            [60, 150, 70]
        } else {
            framed(x, y)
        }
    };
    assert_eq!(found(green, &matte(150), None), (0.0, 0));
}

#[test]
fn a_subject_in_the_grounds_colours_stays() {
    // A tenth of the frame.
    let speckled = |x: usize, y: usize| {
        if is_frame(x, y) && (x / 4 + y / 4).is_multiple_of(10) {
            GROUND
        } else {
            framed(x, y)
        }
    };
    assert_eq!(found(speckled, &matte(150), None), (0.0, 0));
}

#[test]
fn what_goes_over_into_the_subject_stays() {
    // Light falls on its middle, and nowhere is it as light as the ground beside.
    let lit = |x: usize, y: usize| {
        if !(60..180).contains(&x) || !(60..180).contains(&y) {
            return GROUND;
        }
        let off = (x as i32 - 120).abs().max((y as i32 - 120).abs());
        let light = (60 - off).clamp(0, 60);
        std::array::from_fn(|color| {
            SUBJECT[color] + (GROUND[color] - SUBJECT[color]) * light.min(34) / 34
        })
    };
    assert_eq!(found(lit, &matte(150), None), (0.0, 0));
}

#[test]
fn what_is_open_to_the_outside_is_none() {
    // A bay: the right side of the frame is missing where the window is.
    let whole = matte(150);
    let bay = mask(|x, y| {
        let alpha = whole.alpha[y * SIDE + x];
        if x >= 150 && (90..150).contains(&y) {
            0
        } else {
            alpha
        }
    });
    let open = |x, y| {
        if x >= 150 && (90..150).contains(&y) {
            GROUND
        } else {
            framed(x, y)
        }
    };
    assert_eq!(found(open, &bay, None), (0.0, 0));
}

#[test]
fn stripes_and_dots_of_the_grounds_colour_stay() {
    let is_dress = |x: usize, y: usize| (60..180).contains(&x) && (40..200).contains(&y);
    // Stripes within the outline, and dots.
    let is_stripe = |x: usize, y: usize| (66..174).contains(&x) && y % 14 < 7;
    let is_dot = |x: usize, y: usize| {
        let (x, y) = ((x % 40) as f32 - 20.0, (y % 40) as f32 - 20.0);
        x.hypot(y) < 11.0
    };
    for is_light in [&is_stripe as &dyn Fn(usize, usize) -> bool, &is_dot] {
        let color = |x, y| {
            if is_dress(x, y) && !is_light(x, y) {
                SUBJECT
            } else {
                GROUND
            }
        };
        let doubtful = mask(|x, y| match (is_dress(x, y), is_light(x, y)) {
            (true, true) => 140,
            (true, false) => 255,
            _ => 0,
        });
        let solid = mask(|x, y| if is_dress(x, y) { 255 } else { 0 });
        let (share, elsewhere) = found(color, &doubtful, Some(&solid));
        assert_eq!((share, elsewhere), (0.0, 0));
    }
}

#[test]
fn a_subject_that_fills_the_picture_and_the_smallest_one_pass() {
    let half = mask(|_, _| 200);
    assert_eq!(found(|_, _| GROUND, &half, None), (0.0, 0));
    let one = Mask {
        width: 1,
        height: 1,
        alpha: vec![200],
    };
    let picture = Picture {
        width: 1,
        height: 1,
        channels: 1,
        pixels: &[7],
    };
    assert!(find(&picture, &one, None).unwrap().is_empty());
}
