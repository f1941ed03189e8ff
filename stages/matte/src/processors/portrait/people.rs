//! The people in a picture: where they are by what `classify` found, and what of the picture is theirs by the pose network.

use atelier_models::{
    BodySquare, Mask, PersonMask, Pose,
    pose::Point,
    segment::{NetworkRun, distances_px},
};
use atelier_schemas::{
    SubjectChoice,
    events::{Detection, Evidence},
    matting::KeyPoint,
};
use atelier_stores::Raster;

use super::{
    super::{
        frame::{Frame, Rect},
        general::rect,
        networks::Bodies,
        subject::{is_within, prominence, rectangle},
    },
    hair::Head,
};
use crate::MatteError;

/// COCO's name of a person, in `classify`'s evidence.
const PERSON: &str = "person";

/// Most people that are looked at, the most prominent first: each takes some 20 ms.
const MOST_PEOPLE: usize = 8;

/// Most people whose points are told.
const MOST_TOLD: usize = 4;

/// Least score of the pose network, 0 to 1, for somebody to be a person, and least confidence of a point to be told.
const LEAST_SCORE: f32 = 0.5;

/// Two looks of which one's mask lies within the other's by more than this share are of one person.
const SAME_PERSON: f32 = 0.6;

/// Who is less than this share as tall as the tallest is a passer-by.
const PASSER_BY_SHARE: f32 = 0.4;

/// Share of a person that the networks have to see for them to be what stands out.
const SEEN_SHARE: f32 = 0.5;

/// How far from the edge of a person's mask it is sure, as a share of the person's height: the mask is coarse.
const SURE_SHARE: f32 = 0.05;

/// Both sides of the grid on which masks are compared.
const GRID: usize = 96;

/// A person.
pub(in super::super) struct Person {
    score: f32,
    points: Vec<Point>,
    mask: PersonMask,
    /// Around what of the mask is theirs, in pixels of the picture.
    bounds: Rect,
    /// Pixels of the picture that are theirs.
    area: f32,
}

/// All of them, the most prominent first.
#[derive(Default)]
pub(in super::super) struct Crowd {
    pub people: Vec<Person>,
    /// The runs of the pose network.
    pub runs: Vec<NetworkRun>,
}

/// Where somebody may be: around the boxes of persons, the most prominent first, and below faces that are in none of them.
pub(in super::super) fn candidates(evidence: &Evidence, pixels: &Raster) -> Vec<BodySquare> {
    let mut bodies: Vec<&Detection> = evidence
        .objects
        .iter()
        .filter(|object| object.label == PERSON)
        .collect();
    let size = |found: &Detection| {
        let middle = (found.x + found.width / 2.0, found.y + found.height / 2.0);
        found.score * prominence(found.width * found.height, middle, pixels)
    };
    bodies.sort_by(|one, other| size(other).total_cmp(&size(one)));
    let mut squares: Vec<BodySquare> = bodies
        .iter()
        .map(|body| BodySquare::around_person(body.x, body.y, body.width, body.height))
        .collect();
    for face in &evidence.faces {
        let below = BodySquare::below_face(face.x, face.y, face.width, face.height);
        let around = rect(face);
        let is_in = |body: &Detection| rect(body).common(&around).area() > around.area() / 2.0;
        let of_body = (0..bodies.len())
            .filter(|index| is_in(bodies[*index]))
            .min_by(|one, other| {
                let area = |index: usize| rect(bodies[index]).area();
                area(*one).total_cmp(&area(*other))
            });
        match of_body {
            // The picture ends above the feet: the body is larger than what is seen of it.
            Some(index) if below.side > squares[index].side => squares[index] = below,
            Some(_) => {}
            None => squares.push(below),
        }
    }
    squares.truncate(MOST_PEOPLE);
    squares
}

impl Crowd {
    /// Looks at each candidate; who is seen twice is one, and what is no person is none. Blocking.
    pub fn find(
        pose: &Pose,
        candidates: &[BodySquare],
        pixels: &Raster,
    ) -> Result<Self, MatteError> {
        let frame = Frame::whole(pixels);
        let picture = frame.picture(pixels.data(), pixels.channels().count());
        let mut crowd = Self::default();
        for square in candidates {
            let look = pose.look(&picture, *square)?;
            crowd.runs.push(look.run);
            if look.score >= LEAST_SCORE
                && let Some(person) = Person::of(look.score, look.points, look.mask, pixels)
                && !crowd.people.iter().any(|known| known.is(&person))
            {
                crowd.people.push(person);
            }
        }
        let size = |person: &Person| prominence(person.area, person.middle(), pixels);
        crowd
            .people
            .sort_by(|one, other| size(other).total_cmp(&size(one)));
        Ok(crowd)
    }

    /// Which of them are the subject.
    pub fn chosen(&self, choice: &SubjectChoice, pixels: &Raster) -> Vec<usize> {
        let tallest = self
            .people
            .iter()
            .map(|person| person.bounds.longest())
            .fold(0.0, f32::max);
        let people = self.people.iter().enumerate();
        let is_chosen = |person: &Person| match choice {
            SubjectChoice::All => person.bounds.longest() >= PASSER_BY_SHARE * tallest,
            SubjectChoice::Main => false,
            SubjectChoice::Within(_) => rectangle(choice, pixels)
                .is_some_and(|rect| is_within(person.area_within(&rect), person.area)),
        };
        if *choice == SubjectChoice::Main {
            return people.map(|(index, _)| index).take(1).collect();
        }
        people
            .filter(|(_, person)| is_chosen(person))
            .map(|(index, _)| index)
            .collect()
    }

    /// All of them.
    pub fn everybody(&self) -> Vec<usize> {
        (0..self.people.len()).collect()
    }

    /// Around all of these.
    pub fn bounds(&self, chosen: &[usize]) -> Option<Rect> {
        chosen
            .iter()
            .map(|index| self.people[*index].bounds)
            .reduce(|one, other| one.around(&other))
    }

    /// Those of these whom a matte over `frame` shows.
    pub fn seen(&self, chosen: &[usize], matte: &Mask, frame: &Frame) -> Vec<usize> {
        let mut sums = vec![(0_u64, 0_u64); chosen.len()];
        for (place, alpha) in matte.alpha.iter().enumerate() {
            let width = matte.width as usize;
            let (x, y) = frame.place(place % width, place / width, matte.width, matte.height);
            for (index, (sum, count)) in chosen.iter().zip(&mut sums) {
                if self.people[*index].mask.at(x, y) >= 0.5 {
                    *sum += u64::from(*alpha);
                    *count += 255;
                }
            }
        }
        let is_seen =
            |(sum, count): &(u64, u64)| *count > 0 && *sum as f32 >= SEEN_SHARE * *count as f32;
        let pairs = chosen.iter().zip(&sums);
        pairs
            .filter(|(_, sums)| is_seen(sums))
            .map(|(index, _)| *index)
            .collect()
    }

    /// What is known of each pixel of a matte over `frame` by those of `chosen` whom the matte shows; `None` where it shows none of them:
    /// then people are not what stands out, and bodies say nothing about it.
    pub fn evidence(&self, chosen: &[usize], matte: &Mask, frame: &Frame) -> Option<Bodies> {
        let seen = self.seen(chosen, matte, frame);
        let width = matte.width as usize;
        let is_body: Vec<bool> = (0..matte.alpha.len())
            .map(|place| {
                let (x, y) = frame.place(place % width, place / width, matte.width, matte.height);
                let mut masks = seen.iter().map(|index| &self.people[*index].mask);
                masks.any(|mask| mask.at(x, y) >= 0.5)
            })
            .collect();
        let tallest = seen
            .iter()
            .map(|index| self.people[*index].bounds.longest())
            .reduce(f32::max)?;
        let sure_px = SURE_SHARE * tallest * matte.width as f32 / frame.width as f32;
        let is_none: Vec<bool> = is_body.iter().map(|is_body| !is_body).collect();
        let (within, beyond) = (distances_px(&is_none, width), distances_px(&is_body, width));
        let pairs = within.iter().zip(&beyond);
        Some(Bodies {
            surely: pairs
                .map(|(within, beyond)| ((within - beyond) / sure_px).clamp(-1.0, 1.0))
                .collect(),
            hair_px: self.hair_px(&seen, matte, frame),
        })
    }

    /// How far from the outside each pixel of a matte over `frame` may be seen through, because it may be hair of one of these. Empty
    /// where no face is to be seen.
    pub fn hair_px(&self, seen: &[usize], matte: &Mask, frame: &Frame) -> Vec<f32> {
        let heads: Vec<Head> = seen
            .iter()
            .filter_map(|index| Head::of(&self.people[*index].points))
            .collect();
        if heads.is_empty() {
            return Vec::new();
        }
        let scale = matte.width as f32 / frame.width as f32;
        let width = matte.width as usize;
        (0..matte.alpha.len())
            .map(|place| {
                let (x, y) = frame.place(place % width, place / width, matte.width, matte.height);
                let bands = heads.iter().map(|head| head.band_px(x, y));
                scale * bands.fold(0.0, f32::max)
            })
            .collect()
    }

    /// The masks of all of them.
    pub fn masks(&self) -> Vec<&PersonMask> {
        self.people.iter().map(|person| &person.mask).collect()
    }

    /// Their boxes, for the report; where nobody was looked for, those that `classify` found.
    pub fn boxes(&self, evidence: &Evidence) -> Vec<Detection> {
        if self.runs.is_empty() {
            let objects = evidence.objects.iter();
            return objects
                .filter(|object| object.label == PERSON)
                .cloned()
                .collect();
        }
        let told = |person: &Person| Detection {
            label: PERSON.to_owned(),
            score: person.score,
            x: person.bounds.left,
            y: person.bounds.top,
            width: person.bounds.width(),
            height: person.bounds.height(),
        };
        self.people.iter().map(told).collect()
    }

    /// Their points within the picture that are to be seen, for the report; of the most prominent few, because a report travels in events.
    pub fn key_points(&self, pixels: &Raster) -> Vec<KeyPoint> {
        let (width, height) = (pixels.width() as f32, pixels.height() as f32);
        let told = (0_u32..).zip(&self.people).take(MOST_TOLD);
        told.flat_map(|(index, person)| {
            let seen = person.points.iter().filter(move |point| {
                let is_within = (0.0..width).contains(&point.x) && (0.0..height).contains(&point.y);
                is_within && point.confidence >= LEAST_SCORE
            });
            seen.map(move |point| KeyPoint {
                person: index,
                name: point.name.to_owned(),
                x: point.x,
                y: point.y,
                confidence: point.confidence,
            })
        })
        .collect()
    }
}

impl Person {
    /// `None` where nothing of the picture is theirs.
    fn of(score: f32, points: Vec<Point>, mask: PersonMask, pixels: &Raster) -> Option<Self> {
        let mut theirs = Vec::new();
        for (x, y) in grid(&mask) {
            let is_inside = (0.0..pixels.width() as f32).contains(&x)
                && (0.0..pixels.height() as f32).contains(&y);
            if is_inside && mask.at(x, y) >= 0.5 {
                theirs.push((x, y));
            }
        }
        let half = mask.square().side / GRID as f32 / 2.0;
        let cell = |(x, y): &(f32, f32)| Rect {
            left: (x - half).max(0.0),
            top: (y - half).max(0.0),
            right: (x + half).min(pixels.width() as f32),
            bottom: (y + half).min(pixels.height() as f32),
        };
        let bounds = theirs
            .iter()
            .map(cell)
            .reduce(|one, other| one.around(&other))?;
        Some(Self {
            score,
            points,
            bounds,
            area: theirs.len() as f32 * (2.0 * half).powi(2),
            mask,
        })
    }

    fn middle(&self) -> (f32, f32) {
        (
            (self.bounds.left + self.bounds.right) / 2.0,
            (self.bounds.top + self.bounds.bottom) / 2.0,
        )
    }

    /// Whether this is the same person: most of one mask lies within the other.
    fn is(&self, other: &Self) -> bool {
        let (smaller, larger) = if self.area < other.area {
            (self, other)
        } else {
            (other, self)
        };
        let (mut both, mut all) = (0_u32, 0_u32);
        for (x, y) in grid(&smaller.mask) {
            if smaller.mask.at(x, y) >= 0.5 {
                all += 1;
                both += u32::from(larger.mask.at(x, y) >= 0.5);
            }
        }
        both as f32 > SAME_PERSON * all as f32
    }

    /// Pixels of the picture that are theirs and lie in a rectangle.
    fn area_within(&self, rect: &Rect) -> f32 {
        let cell = self.mask.square().side / GRID as f32;
        let is_theirs = |(x, y): &(f32, f32)| {
            (rect.left..rect.right).contains(x)
                && (rect.top..rect.bottom).contains(y)
                && self.mask.at(*x, *y) >= 0.5
        };
        grid(&self.mask).filter(is_theirs).count() as f32 * cell * cell
    }
}

/// Places all over a mask, in pixels of the picture.
fn grid(mask: &PersonMask) -> impl Iterator<Item = (f32, f32)> + use<> {
    let square = mask.square();
    let step = square.side / GRID as f32;
    (0..GRID * GRID).map(move |cell| {
        (
            square.left + ((cell % GRID) as f32 + 0.5) * step,
            square.top + ((cell / GRID) as f32 + 0.5) * step,
        )
    })
}
