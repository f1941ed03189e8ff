//! Links between unknown pixels and those that look like them, wherever in the picture these are.
//!
//! Windows carry what is known from pixel to pixel. Where an unknown area is cut off from all that is known, or has only one side of
//! it, such as the ground seen through hair or a net, nothing of that arrives, and the closed form gives it the alpha of what is
//! around. A pixel of the same colour elsewhere says more there (Chen, Li, Tang: KNN Matting, CVPR 2012).

use rayon::prelude::*;

use super::{
    conjugate::Equations,
    matrix::Lower,
    shrink::Shrunk,
    tree::{Features, Tree},
};

/// How many pixels each unknown one is linked with.
const NEIGHBOURS: usize = 7;

/// How much a picture's diagonal counts beside a colour's whole range.
const PLACE_WEIGHT: f32 = 0.1;

/// How much all links of a pixel count together beside its windows: enough where those say nothing, and little elsewhere.
const STRENGTH: f64 = 0.01;

/// Most pixels among which neighbours are looked for. All unknown ones are; of the others as many as there is room for, evenly.
const MAX_CANDIDATES: usize = 800_000;

/// The equations of the windows and of the links together.
pub(super) struct Linked<'a> {
    windows: &'a Lower,
    /// What the links add to the diagonal.
    diagonal: Vec<f64>,
    /// Pairs of unknowns and how strongly they are linked.
    links: Vec<(u32, u32, f64)>,
    /// The right side: of the windows, and of links with what is known.
    pub right: Vec<f64>,
}

impl<'a> Linked<'a> {
    /// Adds links to the equations of a picture's windows. `places` are where its unknowns are.
    pub fn new(picture: &Shrunk<'_>, places: &[u32], windows: &'a Lower, right: &[f64]) -> Self {
        let mut linked = Self {
            windows,
            diagonal: vec![0.0; places.len()],
            links: Vec::with_capacity(places.len() * NEIGHBOURS),
            right: right.to_vec(),
        };
        let tree = Tree::new(candidates(picture, places.len()));
        let found: Vec<_> = places
            .par_iter()
            .map(|place| tree.nearest::<NEIGHBOURS>(&features(picture, *place), *place))
            .collect();
        for (unknown, (place, nearest)) in places.iter().zip(&found).enumerate() {
            let own = features(picture, *place);
            for neighbour in nearest.places() {
                let weight = STRENGTH / (2 * NEIGHBOURS) as f64
                    * likeness(&own, &features(picture, neighbour));
                linked.diagonal[unknown] += weight;
                match picture.trimap[neighbour as usize] {
                    0 => {}
                    255 => linked.right[unknown] += weight,
                    _ => {
                        // `places` ascends.
                        let Ok(other) = places.binary_search(&neighbour) else {
                            continue;
                        };
                        linked.diagonal[other] += weight;
                        linked.links.push((unknown as u32, other as u32, weight));
                    }
                }
            }
        }
        linked
    }
}

impl Equations for Linked<'_> {
    fn times(&self, vector: &[f64], product: &mut [f64]) {
        self.windows.times(vector, product);
        for ((product, vector), diagonal) in product.iter_mut().zip(vector).zip(&self.diagonal) {
            *product += diagonal * vector;
        }
        for (one, other, weight) in &self.links {
            let (one, other) = (*one as usize, *other as usize);
            product[one] -= weight * vector[other];
            product[other] -= weight * vector[one];
        }
    }
}

/// The pixels among which neighbours are looked for.
fn candidates(picture: &Shrunk<'_>, unknowns: usize) -> Vec<(Features, u32)> {
    let known = picture.trimap.len() - unknowns;
    let room = MAX_CANDIDATES.saturating_sub(unknowns).max(1);
    let every = known.div_ceil(room).max(1);
    let mut known_so_far = 0;
    let mut chosen = Vec::with_capacity(unknowns + known / every + 1);
    for (place, level) in (0_u32..).zip(picture.trimap.iter()) {
        if matches!(level, 0 | 255) {
            known_so_far += 1;
            if known_so_far % every != 0 {
                continue;
            }
        }
        chosen.push((features(picture, place), place));
    }
    chosen
}

/// Colour and place of a pixel.
fn features(picture: &Shrunk<'_>, place: u32) -> Features {
    let diagonal = (picture.width as f32).hypot(picture.height as f32);
    let share = |at: usize| PLACE_WEIGHT * at as f32 / diagonal;
    let place = place as usize;
    let [red, green, blue] = picture.color(place).map(|level| level as f32);
    let (x, y) = (place % picture.width, place / picture.width);
    [red, green, blue, share(x), share(y)]
}

/// 1 for pixels that are the same, less for others.
fn likeness(one: &Features, other: &Features) -> f64 {
    let pairs = one.iter().zip(other);
    let apart: f32 = pairs.map(|(one, other)| (one - other).abs()).sum();
    f64::from((1.0 - apart / one.len() as f32).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_one_colour_pull_each_other() {
        // Two colours side by side; the last of each row is unknown.
        let width = 20;
        let pixel = |place: usize| if place % width < 10 { 200 } else { 40 };
        let pixels: Vec<u8> = (0..2 * width).map(pixel).collect();
        let mut trimap: Vec<u8> = (0..2 * width)
            .map(|place| if place % width < 10 { 255 } else { 0 })
            .collect();
        trimap[0] = 128;
        trimap[2 * width - 1] = 128;
        let picture = Shrunk {
            width,
            height: 2,
            channels: 1,
            pixels: pixels.into(),
            trimap: trimap.into(),
        };
        let nothing = Lower {
            starts: vec![0, 1, 2],
            rows: vec![0, 1],
            values: vec![0.0, 0.0],
        };
        let places = [0, 2 * width as u32 - 1];
        let linked = Linked::new(&picture, &places, &nothing, &[0.0, 0.0]);
        // All that the first is linked with is the subject, all that the second is linked with background.
        assert!((linked.right[0] - linked.diagonal[0]).abs() < 1e-12);
        assert!(linked.right[1] == 0.0 && linked.diagonal[1] > 0.0);
        assert!(linked.links.is_empty());
        let mut product = [0.0; 2];
        linked.times(&[1.0, 1.0], &mut product);
        assert_eq!(product, [linked.diagonal[0], linked.diagonal[1]]);
    }
}
