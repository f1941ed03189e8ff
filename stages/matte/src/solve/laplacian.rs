//! The equations: the matting Laplacian of all windows that have an unknown pixel, known pixels brought to the right side.

use super::{matrix::Lower, shrink::Shrunk};

/// Keeps a window of one colour from being taken at its word (ε of the paper, over colours from 0 to 1). The published
/// implementations use the same; more blurs hair, less follows noise.
const EPSILON: f64 = 1e-7;

/// Places of a pixel's later neighbours, by row and column; itself first. Two pixels of a window are at most two apart.
const REACH: usize = 13;

/// No unknown of this place.
const KNOWN: u32 = u32::MAX;

/// Linear equations: `matrix` times the unknown alphas is `right`.
pub(super) struct System {
    pub matrix: Lower,
    pub right: Vec<f64>,
    /// Where in the picture each unknown is.
    pub places: Vec<u32>,
}

/// The equations of a picture.
pub(super) fn system(picture: &Shrunk<'_>) -> System {
    let mut unknowns = vec![KNOWN; picture.trimap.len()];
    let mut places = Vec::new();
    for (place, level) in picture.trimap.iter().enumerate() {
        if !matches!(level, 0 | 255) {
            unknowns[place] = places.len() as u32;
            places.push(place as u32);
        }
    }
    let mut equations = Equations {
        picture,
        stencils: vec![[0.0; REACH]; places.len()],
        right: vec![0.0; places.len()],
        unknowns,
    };
    for rows in spans(picture.height) {
        for columns in spans(picture.width) {
            equations.add_window(&Window::new(picture.width, columns, rows.clone()));
        }
    }
    let Equations {
        stencils,
        right,
        unknowns,
        ..
    } = equations;
    System {
        matrix: to_matrix(picture.width, &stencils, &unknowns, &places),
        right,
        places,
    }
}

/// The columns (or rows) of every window: three beside each other, or all where there are fewer.
fn spans(side: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let width = side.min(3);
    (0..=side - width).map(move |first| first..first + width)
}

/// The places of a window, in the picture's order.
struct Window {
    places: [usize; 9],
    count: usize,
}

impl Window {
    fn new(width: usize, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> Self {
        let mut window = Self {
            places: [0; 9],
            count: 0,
        };
        for y in rows {
            for x in columns.clone() {
                window.places[window.count] = y * width + x;
                window.count += 1;
            }
        }
        window
    }

    fn places(&self) -> &[usize] {
        &self.places[..self.count]
    }
}

struct Equations<'a> {
    picture: &'a Shrunk<'a>,
    /// The unknown of each place, or [`KNOWN`].
    unknowns: Vec<u32>,
    /// For each unknown, the matrix's values for it and those that come later.
    stencils: Vec<[f64; REACH]>,
    right: Vec<f64>,
}

impl Equations<'_> {
    fn add_window(&mut self, window: &Window) {
        let places = window.places();
        if places.iter().all(|place| self.unknowns[*place] == KNOWN) {
            return;
        }
        let count = places.len() as f64;
        let mut colors = [[0.0; 3]; 9];
        let mut mean = [0.0; 3];
        for (color, place) in colors.iter_mut().zip(places) {
            *color = self.picture.color(*place);
            for (mean, color) in mean.iter_mut().zip(color) {
                *mean += *color / count;
            }
        }
        let mut covariance = [[0.0; 3]; 3];
        for color in &mut colors[..places.len()] {
            for (color, mean) in color.iter_mut().zip(&mean) {
                *color -= mean;
            }
            for (i, row) in covariance.iter_mut().enumerate() {
                for (j, value) in row.iter_mut().enumerate() {
                    *value += color[i] * color[j] / count;
                }
            }
        }
        for (i, row) in covariance.iter_mut().enumerate() {
            row[i] += EPSILON / count;
        }
        let inverse = inverse(&covariance);
        for (later, later_place) in places.iter().enumerate() {
            let weighted = inverse.map(|row| dot(&row, &colors[later]));
            for (earlier, earlier_place) in places[..=later].iter().enumerate() {
                let shared = (1.0 + dot(&colors[earlier], &weighted)) / count;
                self.add_pair(*earlier_place, *later_place, shared);
            }
        }
    }

    /// Two pixels of one window that depend on each other by `shared`; they may be one.
    fn add_pair(&mut self, earlier: usize, later: usize, shared: f64) {
        let known = |place: usize| f64::from(self.picture.trimap[place]) / 255.0;
        match (self.unknowns[earlier], self.unknowns[later]) {
            (KNOWN, KNOWN) => {}
            (unknown, KNOWN) => self.right[unknown as usize] += shared * known(later),
            (KNOWN, unknown) => self.right[unknown as usize] += shared * known(earlier),
            (unknown, _) if earlier == later => self.stencils[unknown as usize][0] += 1.0 - shared,
            (unknown, _) => {
                let slot = slot(self.picture.width, earlier, later);
                self.stencils[unknown as usize][slot] -= shared;
            }
        }
    }
}

/// Which of the later neighbours of `earlier` the place `later` is.
fn slot(width: usize, earlier: usize, later: usize) -> usize {
    let down = later / width - earlier / width;
    let right = later % width + 2 - earlier % width;
    match down {
        0 => right - 2,
        _ => 5 * down + right - 2,
    }
}

/// The place of a later neighbour; the reverse of [`slot`], `None` beyond the picture's sides.
fn neighbour(width: usize, earlier: usize, slot: usize) -> Option<usize> {
    let (down, right) = match slot {
        0..3 => (0, slot + 2),
        _ => ((slot + 2) / 5, (slot + 2) % 5),
    };
    let x = (earlier % width + right).checked_sub(2)?;
    (x < width).then(|| (earlier / width + down) * width + x)
}

fn to_matrix(width: usize, stencils: &[[f64; REACH]], unknowns: &[u32], places: &[u32]) -> Lower {
    let mut matrix = Lower {
        starts: Vec::with_capacity(places.len() + 1),
        rows: Vec::with_capacity(places.len() * REACH),
        values: Vec::with_capacity(places.len() * REACH),
    };
    matrix.starts.push(0);
    for (stencil, place) in stencils.iter().zip(places) {
        for (slot, value) in stencil.iter().enumerate() {
            let row = neighbour(width, *place as usize, slot)
                .and_then(|later| unknowns.get(later).copied());
            // A neighbour that is known has gone to the right side.
            if let Some(row) = row
                && row != KNOWN
            {
                matrix.rows.push(row);
                matrix.values.push(*value);
            }
        }
        matrix.starts.push(matrix.rows.len());
    }
    matrix
}

fn dot(one: &[f64; 3], other: &[f64; 3]) -> f64 {
    one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
}

/// The inverse of a symmetric positive definite matrix, by its cofactors.
fn inverse(matrix: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let [[a, b, c], [_, d, e], [_, _, f]] = *matrix;
    let cofactors = [
        [d * f - e * e, c * e - b * f, b * e - c * d],
        [c * e - b * f, a * f - c * c, b * c - a * e],
        [b * e - c * d, b * c - a * e, a * d - b * b],
    ];
    let determinant = a * cofactors[0][0] + b * cofactors[0][1] + c * cofactors[0][2];
    cofactors.map(|row| row.map(|cofactor| cofactor / determinant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_slots_are_each_others_reverse() {
        let width = 9;
        for slot_wanted in 0..REACH {
            let earlier = 4 * width + 4;
            let later = neighbour(width, earlier, slot_wanted).unwrap();
            assert_eq!(slot(width, earlier, later), slot_wanted);
            assert!(later >= earlier);
        }
        assert_eq!(neighbour(width, 0, 3), None);
        assert_eq!(neighbour(width, 8, 1), None);
    }

    #[test]
    fn an_inverse_is_one() {
        let matrix = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]];
        let inverse = inverse(&matrix);
        for (i, row) in matrix.iter().enumerate() {
            for j in [0, 1, 2] {
                let column = inverse.map(|row| row[j]);
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot(row, &column) - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_matte_that_is_the_same_everywhere_satisfies_the_equations() {
        // Rows of the Laplacian add up to nothing, so with all known pixels at 1 every unknown one is 1.
        let pixels: Vec<u8> = (0..8 * 7 * 3)
            .map(|place: u32| (place.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut trimap = vec![128; 8 * 7];
        trimap[..8].fill(255);
        let picture = Shrunk {
            width: 8,
            height: 7,
            channels: 3,
            pixels: pixels.into(),
            trimap: trimap.into(),
        };
        let system = system(&picture);
        assert_eq!((system.places.len(), system.places[0]), (48, 8));
        let mut product = vec![0.0; 48];
        system.matrix.multiply(&[1.0; 48], &mut product);
        for (product, right) in product.iter().zip(&system.right) {
            assert!((product - right).abs() < 1e-9, "{product} {right}");
        }
    }
}
