//! Holes of which the networks are in doubt: what is seen of the background through a ring or a frame.
//!
//! The networks see most handles and rings for what they are. Where one of them is in doubt of a region that the subject encloses, colours
//! decide: a hole shows what is also to be seen outside nearby, the subject around it shows nothing of that, and there is an edge all
//! around. A light stripe of a dress on a light bed has another one beside it, or ends at the outline, or no network doubts it.

use super::{Mask, Picture, SegmentError, distance::distances_px, interior::outside, preprocess};

/// From this on a coarse matte is sure that the subject is there.
const SURE: u8 = 230;

/// From this on the subject is there for the surest of the mattes.
const THERE: u8 = 128;

/// Below this it is not, for any of them.
const NOT_THERE: u8 = 26;

/// A region that is smaller than this share of the picture is none.
const LEAST_SHARE: f32 = 0.0005;

/// And so is one of fewer pixels.
const LEAST_PIXELS: usize = 30;

/// How far from its rim a region is looked at, and the subject around it: between, colours are mixed. A share of the longest side.
const GAP_SHARE: f32 = 0.004;

/// How far around a region the ground is looked at: in diameters, and at least this share of the longest side.
const GROUND_DIAMETERS: f32 = 3.0;

/// See [`GROUND_DIAMETERS`].
const GROUND_SHARE: f32 = 0.1;

/// Share of a hole that has colours of the ground.
const LIKE_GROUND: f32 = 0.8;

/// Share of the subject around that may have them.
const SUBJECT_LIKE_GROUND: f32 = 0.03;

/// Share of a hole's rim that lies at an edge.
const EDGE_SHARE: f32 = 0.9;

/// By how many levels a colour changes over two pixels at an edge.
const EDGE_LEVELS: u8 = 24;

/// A colour counts where at least this share of the pixels have it or one beside it.
const COLOR_SHARE: f32 = 0.002;

/// More holes than these are a pattern.
const MOST_HOLES: usize = 4;

/// Most regions that are looked at, the largest first.
const MOST_REGIONS: usize = 16;

/// The pixels of holes that coarse mattes of a picture, of one size, leave half closed.
///
/// # Errors
/// The pixels are not what the picture says.
pub(super) fn find(
    picture: &Picture<'_>,
    first: &Mask,
    second: Option<&Mask>,
) -> Result<Vec<usize>, SegmentError> {
    let mattes = Mattes::of(first, second);
    let regions = mattes.doubtful_regions();
    if regions.is_empty() {
        return Ok(Vec::new());
    }
    let resized = preprocess::resize(picture, first.width, first.height)?;
    let colors: Vec<Color> = resized
        .buffer()
        .chunks_exact(picture.channels)
        .map(|pixel| match *pixel {
            [red, green, blue, ..] => [red, green, blue],
            _ => [pixel[0]; 3],
        })
        .collect();
    let outside = outside(&mattes.surest, mattes.width, mattes.height);
    let scene = Scene {
        mattes,
        outside,
        colors,
    };
    let holes = regions.into_iter().filter(|region| scene.is_hole(region));
    let holes: Vec<Region> = holes.collect();
    if holes.len() > MOST_HOLES {
        return Ok(Vec::new());
    }
    Ok(holes.into_iter().flatten().collect())
}

/// Red, green and blue.
type Color = [u8; 3];

/// Places of a raster.
type Region = Vec<usize>;

/// What the coarse mattes say of each pixel.
struct Mattes {
    width: usize,
    height: usize,
    /// The most of what they say.
    surest: Vec<u8>,
    /// Whether the subject is there for one of them, and another is in doubt, or the same.
    is_doubtful: Vec<bool>,
}

/// The same with the picture.
struct Scene {
    mattes: Mattes,
    /// Which pixels are outside of the subject, and not in a hole.
    outside: Vec<bool>,
    colors: Vec<Color>,
}

impl Mattes {
    fn of(first: &Mask, second: Option<&Mask>) -> Self {
        let second = second.unwrap_or(first);
        let pairs = || first.alpha.iter().zip(&second.alpha);
        let surest: Vec<u8> = pairs().map(|(one, other)| *one.max(other)).collect();
        let doubts = pairs().map(|(one, other)| *one.min(other) < SURE);
        let is_doubtful = doubts
            .zip(&surest)
            .map(|(doubts, surest)| doubts && *surest >= THERE)
            .collect();
        Self {
            width: first.width as usize,
            height: first.height as usize,
            surest,
            is_doubtful,
        }
    }

    fn gap_px(&self) -> f32 {
        (GAP_SHARE * self.width.max(self.height) as f32)
            .round()
            .max(2.0)
    }

    /// The connected regions that are doubtful, without the thin ones: along an outline every matte is in doubt.
    fn doubtful_regions(&self) -> Vec<Region> {
        const THIN_PX: f32 = 2.0;
        let least = LEAST_PIXELS.max((LEAST_SHARE * self.surest.len() as f32) as usize);
        if self.is_doubtful.iter().filter(|doubts| **doubts).count() < least {
            return Vec::new();
        }
        let is_sure: Vec<bool> = self.is_doubtful.iter().map(|doubts| !doubts).collect();
        let depths_px = distances_px(&is_sure, self.width);
        let mut is_open: Vec<bool> = depths_px.iter().map(|depth| *depth > THIN_PX).collect();
        let mut regions = Vec::new();
        for start in 0..is_open.len() {
            if !std::mem::replace(&mut is_open[start], false) {
                continue;
            }
            let mut region = vec![start];
            let mut next = 0;
            while let Some(place) = region.get(next).copied() {
                next += 1;
                for neighbour in self.neighbours(place) {
                    if std::mem::replace(&mut is_open[neighbour], false) {
                        region.push(neighbour);
                    }
                }
            }
            if region.len() >= least {
                regions.push(region);
            }
        }
        regions.sort_by_key(|region| std::cmp::Reverse(region.len()));
        regions.truncate(MOST_REGIONS);
        let with_rim = |region: Region| -> Region {
            let window = Window::around(&region, THIN_PX + 1.0, self);
            let beyond_px = distances_px(&window.holds(&region), window.width);
            let places = window.places().zip(beyond_px);
            let near = places.filter(|(_, beyond)| *beyond <= THIN_PX + 0.5);
            near.map(|(place, _)| place)
                .filter(|place| self.is_doubtful[*place])
                .collect()
        };
        regions.into_iter().map(with_rim).collect()
    }

    fn neighbours(&self, place: usize) -> impl Iterator<Item = usize> + use<> {
        let (x, y) = (place % self.width, place / self.width);
        [
            (x > 0).then(|| place - 1),
            (x + 1 < self.width).then(|| place + 1),
            (y > 0).then(|| place - self.width),
            (y + 1 < self.height).then(|| place + self.width),
        ]
        .into_iter()
        .flatten()
    }
}

impl Scene {
    fn is_hole(&self, region: &[usize]) -> bool {
        let gap_px = self.mattes.gap_px();
        let diameter_px = (region.len() as f32).sqrt();
        let around_px = (2.0 * gap_px).max(diameter_px / 4.0);
        let window = Window::around(region, gap_px + around_px + 1.0, &self.mattes);
        let is_region = window.holds(region);
        let is_other: Vec<bool> = is_region.iter().map(|is_region| !is_region).collect();
        let beyond_px = distances_px(&is_region, window.width);
        let within_px = distances_px(&is_other, window.width);

        let is_rim = |place: usize| within_px[place] == 1.0;
        let (mut inside, mut around) = (Vec::new(), Vec::new());
        let mut is_edge = Vec::with_capacity(beyond_px.len());
        for (local, place) in window.places().enumerate() {
            let (beyond_px, within_px) = (beyond_px[local], within_px[local]);
            let is_near = beyond_px <= gap_px;
            if is_near && (self.outside[place] || self.is_at_border(place)) {
                return false;
            }
            if within_px > gap_px {
                inside.push(self.colors[place]);
            } else if !is_near
                && beyond_px <= gap_px + around_px
                && self.mattes.surest[place] >= THERE
            {
                around.push(self.colors[place]);
            }
            is_edge.push(beyond_px <= gap_px + 1.0 && self.changes_at(place));
        }
        let ground_px = (GROUND_DIAMETERS * diameter_px)
            .max(GROUND_SHARE * self.mattes.width.max(self.mattes.height) as f32);
        let ground = Window::around(region, ground_px, &self.mattes);
        let ground = ground
            .places()
            .filter(|place| self.outside[*place] && self.mattes.surest[*place] < NOT_THERE)
            .map(|place| self.colors[place]);
        let ground: Vec<Color> = ground.collect();
        if [&inside, &around, &ground].map(Vec::len).contains(&0) {
            return false;
        }
        let palette = Palette::of(&ground);
        if palette.share_of(&inside) < LIKE_GROUND
            || palette.share_of(&around) > SUBJECT_LIKE_GROUND
        {
            return false;
        }
        let edges_px = distances_px(&is_edge, window.width);
        let rim: Vec<usize> = (0..is_region.len())
            .filter(|place| is_rim(*place))
            .collect();
        let at_edge = rim.iter().filter(|place| edges_px[**place] <= 1.5 * gap_px);
        at_edge.count() as f32 >= EDGE_SHARE * rim.len() as f32
    }

    fn is_at_border(&self, place: usize) -> bool {
        self.mattes.neighbours(place).count() < 4
    }

    /// Whether the colour changes much between the neighbours of a place.
    fn changes_at(&self, place: usize) -> bool {
        let (width, height) = (self.mattes.width, self.mattes.height);
        let (x, y) = (place % width, place / width);
        let row = y * width;
        let pairs = [
            (row + x.saturating_sub(1), row + (x + 1).min(width - 1)),
            (
                y.saturating_sub(1) * width + x,
                (y + 1).min(height - 1) * width + x,
            ),
        ];
        pairs.into_iter().any(|(one, other)| {
            let (one, other) = (self.colors[one], self.colors[other]);
            let mut levels = one.into_iter().zip(other);
            levels.any(|(one, other)| one.abs_diff(other) >= EDGE_LEVELS)
        })
    }
}

/// A rectangle of a raster.
struct Window {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    /// Pixels of a row of the raster.
    stride: usize,
}

impl Window {
    /// Around a region, with that room on all sides as far as the raster goes.
    fn around(region: &[usize], room_px: f32, mattes: &Mattes) -> Self {
        let room = room_px.ceil() as usize;
        let (mut left, mut top, mut right, mut bottom) = (usize::MAX, usize::MAX, 0, 0);
        for place in region {
            let (x, y) = (place % mattes.width, place / mattes.width);
            (left, top) = (left.min(x), top.min(y));
            (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
        }
        let (left, top) = (left.saturating_sub(room), top.saturating_sub(room));
        Self {
            left,
            top,
            width: (right + room).min(mattes.width) - left,
            height: (bottom + room).min(mattes.height) - top,
            stride: mattes.width,
        }
    }

    /// The raster's places in it, in rows.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let (left, width, stride) = (self.left, self.width, self.stride);
        (self.top..self.top + self.height)
            .flat_map(move |y| (left..left + width).map(move |x| y * stride + x))
    }

    /// Which of its places are in a region.
    fn holds(&self, region: &[usize]) -> Vec<bool> {
        let mut holds = vec![false; self.width * self.height];
        for place in region {
            let (x, y) = (
                place % self.stride - self.left,
                place / self.stride - self.top,
            );
            holds[y * self.width + x] = true;
        }
        holds
    }
}

/// The colours of some pixels, in steps of [`Palette::STEP`] levels.
struct Palette(Vec<bool>);

impl Palette {
    const STEP: usize = 16;
    const STEPS: usize = 256 / Self::STEP;

    /// The colours that enough of these have, and those beside them.
    fn of(colors: &[Color]) -> Self {
        let mut counts = vec![0_u32; Self::STEPS.pow(3)];
        for color in colors {
            counts[Self::place(*color)] += 1;
        }
        let least = COLOR_SHARE * colors.len() as f32;
        let mut has = vec![false; counts.len()];
        for (place, _) in counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0 && **count as f32 >= least)
        {
            let steps = [
                place / Self::STEPS / Self::STEPS,
                place / Self::STEPS % Self::STEPS,
                place % Self::STEPS,
            ];
            let [reds, greens, blues] =
                steps.map(|step| step.saturating_sub(1)..(step + 2).min(Self::STEPS));
            for red in reds {
                for green in greens.clone() {
                    for blue in blues.clone() {
                        has[(red * Self::STEPS + green) * Self::STEPS + blue] = true;
                    }
                }
            }
        }
        Self(has)
    }

    fn place(color: Color) -> usize {
        let [red, green, blue] = color.map(|level| usize::from(level) / Self::STEP);
        (red * Self::STEPS + green) * Self::STEPS + blue
    }

    /// The share of these that it has.
    fn share_of(&self, colors: &[Color]) -> f32 {
        let found = colors.iter().filter(|color| self.0[Self::place(**color)]);
        found.count() as f32 / colors.len().max(1) as f32
    }
}

#[cfg(test)]
mod tests;
