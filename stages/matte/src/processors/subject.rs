//! Who and what in a matte is the subject, where not all of it is: people, and things that stand apart.
//!
//! Every pixel of a matte belongs to one person or thing. A pixel that the mask of a person claims is that person's; what nobody
//! claims, a bag or a hat, belongs to the person whom it is connected with or lies beside, by the shortest way within the matte; and
//! what is apart from everybody is a thing of its own.
//!
//! Invariant: the cut runs where one person or thing ends and another begins, never along the edge of a rectangle.

use std::collections::VecDeque;

use atelier_models::{Mask, PersonMask};
use atelier_schemas::SubjectChoice;
use atelier_stores::Raster;

use super::frame::{Frame, Rect};

/// From this on a pixel is there.
const THERE: u8 = 128;

/// Below this a pixel is no way from one part of a matte to another.
const TRACE: u8 = 26;

/// From this share on a pixel is a person's.
const CLAIMED: f32 = 0.5;

/// How far from a person a part is still carried, as a share of the matte's longest side: straps and handles are thin, and mattes
/// lose them.
const REACH_SHARE: f32 = 0.03;

/// A part that is smaller than this share of the largest is a crumb: it belongs to what is nearest.
const CRUMB_SHARE: f32 = 0.02;

/// Share of a person or thing that has to lie within a rectangle for it to be meant.
const WITHIN_SHARE: f32 = 0.5;

/// Belongs to nobody (yet).
const NOBODY: u16 = u16::MAX;

/// How much a size counts for being the main one, by where its middle is: all of it in the middle of the picture, half of it at the edge.
pub(super) fn prominence(area: f32, middle: (f32, f32), pixels: &Raster) -> f32 {
    let off = |at: f32, side: u32| (at / side as f32 - 0.5).clamp(-0.5, 0.5);
    let (x, y) = (
        off(middle.0, pixels.width()),
        off(middle.1, pixels.height()),
    );
    area * (1.0 - x.hypot(y).min(0.5))
}

/// The rectangle of a choice in pixels of the picture; `None` where the choice is none, or nothing of it lies in the picture.
pub(super) fn rectangle(choice: &SubjectChoice, pixels: &Raster) -> Option<Rect> {
    let SubjectChoice::Within(region) = choice else {
        return None;
    };
    let (columns, rows) = region.within(pixels.width(), pixels.height())?;
    Some(Rect {
        left: columns.start as f32,
        top: rows.start as f32,
        right: columns.end as f32,
        bottom: rows.end as f32,
    })
}

/// Whether enough of something lies within a rectangle.
pub(super) fn is_within(inside: f32, all: f32) -> bool {
    inside >= WITHIN_SHARE * all
}

/// Whom a matte shows.
pub(super) struct People<'a> {
    /// The masks of all that were found.
    pub masks: Vec<&'a PersonMask>,
    /// Which of them are the subject.
    pub chosen: Vec<usize>,
}

/// What is kept of a matte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// All of it.
    All,
    /// Nothing of it.
    Nothing,
    /// What is 255 and not 0 in these weights, which have the matte's size.
    Some(Vec<u8>),
}

/// What of a matte over `frame` is the subject.
pub(super) fn kept(
    matte: &Mask,
    frame: &Frame,
    pixels: &Raster,
    choice: &SubjectChoice,
    people: &People<'_>,
) -> Kept {
    if choice.is_all() {
        return Kept::All;
    }
    let parts = Parts::of(matte, frame, people);
    let is_kept = parts.chosen(matte, frame, pixels, choice, people);
    if is_kept.iter().all(|kept| *kept) && !is_kept.is_empty() {
        return Kept::All;
    }
    if !is_kept.contains(&true) {
        return Kept::Nothing;
    }
    let weight = |owner: &u16| {
        let kept = is_kept.get(usize::from(*owner)).copied().unwrap_or(false);
        if kept { 255 } else { 0 }
    };
    Kept::Some(parts.owners.iter().map(weight).collect())
}

/// A matte taken apart into people and things.
struct Parts {
    /// Whose each pixel is: a person's number, or that of a thing, counted on from the people.
    owners: Vec<u16>,
    people: usize,
    things: usize,
}

impl Parts {
    fn of(matte: &Mask, frame: &Frame, people: &People<'_>) -> Self {
        let (width, height) = (matte.width as usize, matte.height as usize);
        let mut owners = vec![NOBODY; matte.alpha.len()];
        for (place, owner) in owners.iter_mut().enumerate() {
            if matte.alpha[place] < THERE {
                continue;
            }
            let (x, y) = frame.place(place % width, place / width, matte.width, matte.height);
            let shares = people.masks.iter().map(|mask| mask.at(x, y));
            let most = (0_u16..)
                .zip(shares)
                .max_by(|one, other| one.1.total_cmp(&other.1));
            if let Some((person, share)) = most
                && share >= CLAIMED
            {
                *owner = person;
            }
        }
        // How far from the nearest person, and who that is.
        let mut nearest = owners.clone();
        let steps = spread(&mut nearest, width, height, |_| true);
        let reach = (REACH_SHARE * width.max(height) as f32).max(1.0) as u32;
        let components = components(&matte.alpha, width, height);
        let largest = components.iter().map(Vec::len).max().unwrap_or(0) as f32;
        let mut things = 0;
        for component in &components {
            if component.iter().any(|place| owners[*place] != NOBODY) {
                continue;
            }
            let closest = component.iter().min_by_key(|place| steps[**place]);
            let owner = match closest {
                Some(place) if nearest[*place] != NOBODY && steps[*place] <= reach => {
                    nearest[*place]
                }
                _ if (component.len() as f32) < CRUMB_SHARE * largest => continue,
                _ => {
                    things += 1;
                    (people.masks.len() + things - 1).min(usize::from(NOBODY) - 1) as u16
                }
            };
            for place in component {
                owners[*place] = owner;
            }
        }
        // First along the matte, then what is left to whoever is nearest.
        spread(&mut owners, width, height, |place| {
            matte.alpha[place] >= TRACE
        });
        spread(&mut owners, width, height, |_| true);
        Self {
            owners,
            people: people.masks.len(),
            things,
        }
    }

    /// Which of the people and things are the subject.
    fn chosen(
        &self,
        matte: &Mask,
        frame: &Frame,
        pixels: &Raster,
        choice: &SubjectChoice,
        people: &People<'_>,
    ) -> Vec<bool> {
        let mut is_chosen = vec![false; self.people + self.things];
        for person in &people.chosen {
            is_chosen[*person] = true;
        }
        let rectangle = rectangle(choice, pixels);
        let mut sizes = vec![Size::default(); is_chosen.len()];
        for (place, owner) in self.owners.iter().enumerate() {
            if matte.alpha[place] < THERE {
                continue;
            }
            if let Some(size) = sizes.get_mut(usize::from(*owner)) {
                let (x, y) = (place % matte.width as usize, place / matte.width as usize);
                size.add(
                    frame.place(x, y, matte.width, matte.height),
                    rectangle.as_ref(),
                );
            }
        }
        let things = self.people..is_chosen.len();
        match choice {
            SubjectChoice::Within(_) => {
                for thing in things {
                    let size = &sizes[thing];
                    is_chosen[thing] = size.inside > 0.0 && is_within(size.inside, size.all);
                }
            }
            _ if people.chosen.is_empty() => {
                let main = things.max_by(|one, other| {
                    let prominence = |thing: usize| {
                        let size = &sizes[thing];
                        prominence(size.all, size.middle(), pixels)
                    };
                    prominence(*one).total_cmp(&prominence(*other))
                });
                if let Some(main) = main {
                    is_chosen[main] = true;
                }
            }
            _ => {}
        }
        is_chosen
    }
}

/// How large something is, where its middle is, and how much of it lies in a rectangle; in pixels of the matte.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    all: f32,
    inside: f32,
    x_sum: f64,
    y_sum: f64,
}

impl Size {
    fn add(&mut self, (x, y): (f32, f32), rectangle: Option<&Rect>) {
        self.all += 1.0;
        self.x_sum += f64::from(x);
        self.y_sum += f64::from(y);
        let is_inside = rectangle.is_some_and(|rect| {
            (rect.left..rect.right).contains(&x) && (rect.top..rect.bottom).contains(&y)
        });
        self.inside += if is_inside { 1.0 } else { 0.0 };
    }

    fn middle(&self) -> (f32, f32) {
        let count = f64::from(self.all.max(1.0));
        ((self.x_sum / count) as f32, (self.y_sum / count) as f32)
    }
}

/// The neighbours of a place in a raster of that size.
fn neighbours(place: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (place % width, place / width);
    [
        (x > 0).then(|| place - 1),
        (x + 1 < width).then(|| place + 1),
        (y > 0).then(|| place - width),
        (y + 1 < height).then(|| place + width),
    ]
    .into_iter()
    .flatten()
}

/// Gives every place that can be reached to the owner with the shortest way there; answers with the lengths of the ways.
fn spread(
    owners: &mut [u16],
    width: usize,
    height: usize,
    is_way: impl Fn(usize) -> bool,
) -> Vec<u32> {
    let mut steps = vec![u32::MAX; owners.len()];
    let mut waiting = VecDeque::new();
    for (place, owner) in owners.iter().enumerate() {
        if *owner != NOBODY {
            steps[place] = 0;
            waiting.push_back(place);
        }
    }
    while let Some(place) = waiting.pop_front() {
        for next in neighbours(place, width, height) {
            if steps[next] == u32::MAX && is_way(next) {
                steps[next] = steps[place] + 1;
                owners[next] = owners[place];
                waiting.push_back(next);
            }
        }
    }
    steps
}

/// The connected parts of what is there.
pub(super) fn components(alpha: &[u8], width: usize, height: usize) -> Vec<Vec<usize>> {
    let mut is_seen = vec![false; alpha.len()];
    let mut found = Vec::new();
    for start in 0..alpha.len() {
        if is_seen[start] || alpha[start] < THERE {
            continue;
        }
        is_seen[start] = true;
        let mut component = vec![start];
        let mut next = 0;
        while let Some(place) = component.get(next).copied() {
            next += 1;
            for neighbour in neighbours(place, width, height) {
                if !is_seen[neighbour] && alpha[neighbour] >= THERE {
                    is_seen[neighbour] = true;
                    component.push(neighbour);
                }
            }
        }
        found.push(component);
    }
    found
}

#[cfg(test)]
mod tests {
    use atelier_models::BodySquare;
    use atelier_stores::raster::Channels;

    use super::*;

    const WIDTH: usize = 100;
    const HEIGHT: usize = 50;

    fn pixels() -> Raster {
        let pixels = vec![0; WIDTH * HEIGHT];
        Raster::new(WIDTH as u32, HEIGHT as u32, Channels::Gray, pixels).unwrap()
    }

    /// A matte that is there in these columns and rows.
    fn matte(parts: &[(std::ops::Range<usize>, std::ops::Range<usize>)]) -> Mask {
        let is_there = |place: usize| {
            let (x, y) = (place % WIDTH, place / WIDTH);
            parts
                .iter()
                .any(|(columns, rows)| columns.contains(&x) && rows.contains(&y))
        };
        let alpha = |place| if is_there(place) { 255 } else { 0 };
        Mask {
            width: WIDTH as u32,
            height: HEIGHT as u32,
            alpha: (0..WIDTH * HEIGHT).map(alpha).collect(),
        }
    }

    /// Somebody who fills these columns.
    fn person(columns: std::ops::Range<f32>) -> PersonMask {
        let square = BodySquare {
            left: 0.0,
            top: -25.0,
            side: 100.0,
        };
        let share = |place: usize| {
            let x = ((place % 256) as f32 + 0.5) * 100.0 / 256.0;
            if columns.contains(&x) { 255 } else { 0 }
        };
        PersonMask::new(square, (0..256 * 256).map(share).collect()).unwrap()
    }

    /// The columns of row 35 that are kept.
    fn row(kept: Kept) -> Vec<usize> {
        let Kept::Some(weights) = kept else {
            panic!("{kept:?}")
        };
        (0..WIDTH)
            .filter(|x| weights[35 * WIDTH + x] == 255)
            .collect()
    }

    fn of(matte: &Mask, choice: &str, masks: &[PersonMask], chosen: &[usize]) -> Kept {
        let people = People {
            masks: masks.iter().collect(),
            chosen: chosen.to_vec(),
        };
        let choice: SubjectChoice = choice.parse().unwrap();
        kept(matte, &Frame::whole(&pixels()), &pixels(), &choice, &people)
    }

    #[test]
    fn two_who_touch_are_told_apart_and_a_bag_goes_with_its_person() {
        // A bag, a small gap, two people side by side, and something by itself.
        let matte = matte(&[(4..8, 30..40), (10..80, 5..45), (92..97, 5..45)]);
        let two = [person(10.0..45.0), person(45.0..80.0)];
        let left = row(of(&matte, "main", &two, &[0]));
        assert!((4..8).chain(10..44).all(|x| left.contains(&x)), "{left:?}");
        assert!(left.iter().all(|x| *x <= 45), "{left:?}");
        let right = row(of(&matte, "main", &two, &[1]));
        assert!((46..80).all(|x| right.contains(&x)), "{right:?}");
        assert!((0..44).all(|x| !right.contains(&x)) && !right.contains(&94));
    }

    #[test]
    fn a_bag_that_nobody_claims_belongs_to_whom_it_hangs_on() {
        let matte = matte(&[(10..40, 5..45), (40..60, 30..40), (70..95, 5..45)]);
        let two = [person(10.0..40.0), person(70.0..95.0)];
        let left = row(of(&matte, "main", &two, &[0]));
        assert!((10..60).all(|x| left.contains(&x)), "{left:?}");
        assert!(!left.contains(&80));
    }

    #[test]
    fn of_things_the_largest_in_the_middle_is_the_main_one() {
        let matte = matte(&[(2..12, 25..45), (40..60, 20..45), (88..97, 25..45)]);
        let main = row(of(&matte, "main", &[], &[]));
        assert!((40..60).all(|x| main.contains(&x)));
        assert!(!main.contains(&5) && !main.contains(&90), "{main:?}");
        let alone = super::tests::matte(&[(40..60, 20..45)]);
        assert_eq!(of(&alone, "main", &[], &[]), Kept::All);
    }

    #[test]
    fn a_rectangle_takes_things_whole_or_not_at_all() {
        let matte = matte(&[(2..22, 25..45), (40..60, 20..45)]);
        // Two thirds of the first and nothing of the second.
        let boxed = row(of(&matte, "0px 0px 16px 50px", &[], &[]));
        assert!((2..22).all(|x| boxed.contains(&x)), "{boxed:?}");
        assert!((40..60).all(|x| !boxed.contains(&x)), "{boxed:?}");
        assert_eq!(of(&matte, "0px 0px 8px 50px", &[], &[]), Kept::Nothing);
        assert_eq!(of(&matte, "70px 0px 100px 50px", &[], &[]), Kept::Nothing);
        assert_eq!(of(&matte, "0% 0% 100% 100%", &[], &[]), Kept::All);
        assert_eq!(of(&matte, "all", &[], &[]), Kept::All);
    }

    #[test]
    fn crumbs_go_with_what_is_nearest() {
        let matte = matte(&[(30..60, 10..45), (70..71, 35..37), (80..98, 10..45)]);
        let main = row(of(&matte, "main", &[], &[]));
        assert!(main.contains(&50) && !main.contains(&90));
        let boxed = row(of(&matte, "75% 0% 100% 100%", &[], &[]));
        assert!(boxed.contains(&90) && !boxed.contains(&50), "{boxed:?}");
    }

    #[test]
    fn a_picture_of_nothing_keeps_nothing() {
        assert_eq!(of(&matte(&[]), "main", &[], &[]), Kept::Nothing);
    }

    #[test]
    fn the_middle_counts_more_than_the_edge() {
        let middle = prominence(100.0, (50.0, 25.0), &pixels());
        let edge = prominence(100.0, (0.0, 25.0), &pixels());
        assert_eq!((middle, edge), (100.0, 50.0));
    }
}
