//! The background: the one colour that the border shows, wherever the picture has it.
//!
//! A part that the subject encloses (a letter's counter, the inside of a ring) is background where it has exactly that
//! colour and a sharp rim, as the outside has. What crosses the colour within a soft shading is not.

use super::{
    cut::NotFlat,
    pixels::{Pixels, apart},
};

/// Levels within which pixels of the border are taken together to find their common colour.
const BORDER_SPREAD: u8 = 12;
/// At least this share of the border has the background's colour; the rest may be a subject that leaves the picture.
pub(super) const MIN_BORDER_SHARE: f32 = 0.4;
/// Deviations up to here may be a codec's; what deviates more belongs to the subject.
const MAX_NOISE: u8 = 16;
/// At least this share of what looks like background differs by no more than [`EXACT`] from its colour: a photographed wall is
/// uneven everywhere, a codec moves pixels near edges.
pub(super) const MIN_EXACT_SHARE: f32 = 0.3;
const EXACT: u8 = 1;
/// What stands out less than this many levels from the background at its rim is a shading, not an edge.
const MIN_RIM_CONTRAST: u8 = 24;
/// How far around an enclosed part its rim is looked at, in pixels.
const RIM_PX: usize = 2;
/// Enclosed parts of fewer pixels are chance.
const MIN_HOLE_PX: usize = 2;

/// Where the background is.
pub(super) struct Ground {
    pub color: [u8; 3],
    /// Levels that its pixels may differ from it: 0 in a picture that no lossy codec has touched.
    pub tolerance: u8,
    /// Share of the border that it takes, 0 to 1.
    pub border_share: f32,
    /// By pixel: whether it is background.
    pub is_ground: Vec<bool>,
    /// Pixels of the background.
    pub count: usize,
}

/// Finds the background.
///
/// # Errors
/// The border has no common colour, or the background is not flat.
pub(super) fn find(pixels: Pixels<'_>) -> Result<Ground, NotFlat> {
    let (color, border_share) = border_color(pixels);
    if border_share < MIN_BORDER_SHARE {
        return Err(NotFlat::Border { border_share });
    }
    let Deviation {
        tolerance,
        exact_share,
    } = deviation(pixels, color);
    if exact_share < MIN_EXACT_SHARE {
        return Err(NotFlat::Ground { exact_share });
    }
    let mut ground = Ground {
        color,
        tolerance,
        border_share,
        is_ground: vec![false; pixels.count()],
        count: 0,
    };
    ground.flood(pixels);
    Ok(ground)
}

/// The most frequent colour of the border, and the share of the border that is close to it.
fn border_color(pixels: Pixels<'_>) -> ([u8; 3], f32) {
    // Counted in boxes first: an exact colour that is frequent may be one of many in a ramp.
    let mut border: Vec<[u8; 3]> = pixels.border().map(|index| pixels.color(index)).collect();
    border.sort_unstable();
    let boxed = |color: &[u8; 3]| color.map(|value| value / BORDER_SPREAD);
    let mut boxes: Vec<[u8; 3]> = border.iter().map(boxed).collect();
    boxes.sort_unstable();
    let fullest = most_frequent(&boxes);
    let members: Vec<[u8; 3]> = border
        .iter()
        .filter(|color| boxed(color) == fullest)
        .copied()
        .collect();
    let color = most_frequent(&members);
    let close = border
        .iter()
        .filter(|other| apart(**other, color) <= BORDER_SPREAD)
        .count();
    (color, close as f32 / border.len() as f32)
}

/// The value with the longest run in sorted values.
fn most_frequent(sorted: &[[u8; 3]]) -> [u8; 3] {
    sorted
        .chunk_by(|left, right| left == right)
        .max_by_key(|run| run.len())
        .map_or([0; 3], |run| run[0])
}

/// How the background's pixels differ from its colour.
struct Deviation {
    /// How far a codec has moved them, in levels; 0 where none has.
    tolerance: u8,
    /// Share of them that no codec and no light has moved, 0 to 1.
    exact_share: f32,
}

fn deviation(pixels: Pixels<'_>, color: [u8; 3]) -> Deviation {
    let is_close = |index: usize| apart(pixels.color(index), color) <= MAX_NOISE;
    let mut moved = [0_u64; MAX_NOISE as usize + 1];
    let (mut edges, mut exact) = (0_u64, 0_u64);
    let close = connected_to_border(pixels, is_close);
    for index in close.iter().map(|index| *index as usize) {
        let own = apart(pixels.color(index), color);
        exact += u64::from(own <= EXACT);
        // Edges mix pixels of the subject with background: an anti-aliased one has something strong beside it.
        if !neighbours(pixels, index).all(is_close) {
            edges += 1;
        } else if is_ripple(pixels, index, color) {
            moved[usize::from(own)] += 1;
        }
    }
    let sum: u64 = moved.iter().sum();
    let is_clean = 4 * sum <= edges;
    Deviation {
        tolerance: if is_clean { 0 } else { reach(&moved) },
        exact_share: exact as f32 / close.len().max(1) as f32,
    }
}

/// The deviation that hardly any of the counted pixels exceeds, and a little more.
fn reach(moved: &[u64]) -> u8 {
    let sum: u64 = moved.iter().sum();
    let mut above = sum;
    for (level, count) in moved.iter().enumerate() {
        above -= count;
        if above * 50 <= sum {
            return (level as u8 + 2).min(MAX_NOISE);
        }
    }
    MAX_NOISE
}

/// Whether a pixel deviates from the background while the background goes on around it. A faint edge deviates too, but more and
/// more from its outside to its inside.
fn is_ripple(pixels: Pixels<'_>, index: usize, color: [u8; 3]) -> bool {
    let deviation = |index: usize| apart(pixels.color(index), color);
    let (own, x) = (deviation(index), index % pixels.width);
    if own <= EXACT {
        return false;
    }
    let lower_beside =
        x > 0 && x + 1 < pixels.width && deviation(index - 1) < own && deviation(index + 1) < own;
    let lower_above = index >= pixels.width
        && index + pixels.width < pixels.count()
        && deviation(index - pixels.width) < own
        && deviation(index + pixels.width) < own;
    (lower_beside || lower_above)
        && pixels
            .around(index, RIM_PX)
            .any(|other| deviation(other) <= EXACT)
}

/// The pixels that are connected to the border by others like them.
fn connected_to_border(pixels: Pixels<'_>, belongs: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut seen = vec![false; pixels.count()];
    let mut found: Vec<u32> = Vec::new();
    for start in pixels.border() {
        if !seen[start] && belongs(start) {
            seen[start] = true;
            found.push(start as u32);
        }
    }
    let mut next = 0;
    while let Some(index) = found.get(next).map(|index| *index as usize) {
        next += 1;
        for other in neighbours(pixels, index) {
            if !seen[other] && belongs(other) {
                seen[other] = true;
                found.push(other as u32);
            }
        }
    }
    found
}

/// The pixels beside, above and below.
fn neighbours(pixels: Pixels<'_>, index: usize) -> impl Iterator<Item = usize> {
    let (x, y, width) = (index % pixels.width, index / pixels.width, pixels.width);
    [
        (x > 0).then(|| index - 1),
        (x + 1 < width).then(|| index + 1),
        (y > 0).then(|| index - width),
        (y + 1 < pixels.height).then(|| index + width),
    ]
    .into_iter()
    .flatten()
}

impl Ground {
    fn has_its_color(&self, pixels: Pixels<'_>, index: usize) -> bool {
        apart(pixels.color(index), self.color) <= self.tolerance
    }

    /// Marks every part of the background's colour that is background.
    fn flood(&mut self, pixels: Pixels<'_>) {
        let mut seen = vec![false; pixels.count()];
        let mut part: Vec<u32> = Vec::new();
        let starts = pixels.border().chain(0..pixels.count());
        for start in starts {
            if seen[start] || !self.has_its_color(pixels, start) {
                continue;
            }
            part.clear();
            part.push(start as u32);
            seen[start] = true;
            let mut touches_border = false;
            let mut next = 0;
            while let Some(index) = part.get(next).map(|index| *index as usize) {
                next += 1;
                touches_border |= pixels.is_on_border(index);
                for other in neighbours(pixels, index) {
                    if !seen[other] && self.has_its_color(pixels, other) {
                        seen[other] = true;
                        part.push(other as u32);
                    }
                }
            }
            if touches_border || self.is_hole(pixels, &part) {
                self.count += part.len();
                for index in &part {
                    self.is_ground[*index as usize] = true;
                }
            }
        }
    }

    /// Whether an enclosed part has the rim of a hole: what is around it stands out sharply.
    fn is_hole(&self, pixels: Pixels<'_>, part: &[u32]) -> bool {
        if part.len() < MIN_HOLE_PX * (1 + usize::from(self.tolerance)) {
            return false;
        }
        let contrast = MIN_RIM_CONTRAST.max(self.tolerance.saturating_mul(3));
        let (mut rim, mut sharp) = (0_usize, 0_usize);
        for index in part.iter().map(|index| *index as usize) {
            if neighbours(pixels, index).all(|other| self.has_its_color(pixels, other)) {
                continue;
            }
            rim += 1;
            let stands_out = |other: usize| apart(pixels.color(other), self.color) >= contrast;
            sharp += usize::from(pixels.around(index, RIM_PX).any(stands_out));
        }
        // A hole in a shading has a rim that fades here and there.
        10 * sharp >= 9 * rim
    }
}
