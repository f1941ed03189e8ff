//! An incomplete Cholesky factorisation: a lower triangle whose product with its transpose is nearly the matrix.
//!
//! Values that are small do not fill in (Saad: Iterative Methods for Sparse Linear Systems, 2nd edition, section 10.8.3), so that
//! memory stays bounded. Where that leaves a pivot that is not positive, the diagonal is raised and all begins again.

use super::matrix::Lower;

/// Smaller values are left out. With a tenth of it the steps of the solver are a third and memory is half as much again; both take
/// the same time.
const THRESHOLD: f64 = 1e-3;

/// Most values of a column, the diagonal counted; the largest stay.
const MAX_PER_COLUMN: usize = 64;

/// By how much the diagonal is raised, one after the other.
const SHIFTS: [f64; 5] = [0.0, 1e-4, 1e-3, 1e-2, 1e-1];

const NONE: u32 = u32::MAX;

/// The triangle.
pub(super) struct Factor(Lower);

impl Factor {
    /// Of a matrix; `None` where it is not positive definite, raised or not.
    pub fn of(matrix: &Lower) -> Option<Self> {
        SHIFTS
            .iter()
            .find_map(|shift| Self::shifted(matrix, *shift))
    }

    fn shifted(matrix: &Lower, shift: f64) -> Option<Self> {
        let side = matrix.side();
        let mut triangle = Lower {
            starts: Vec::with_capacity(side + 1),
            rows: Vec::with_capacity(matrix.rows.len()),
            values: Vec::with_capacity(matrix.rows.len()),
        };
        triangle.starts.push(0);
        let mut waiting = Waiting::new(side);
        let mut column = Column::new(side);
        for index in 0..side {
            for (row, value) in matrix.column(index) {
                let raised = if row == index {
                    value * (1.0 + shift)
                } else {
                    value
                };
                column.add(row, raised);
            }
            // Every earlier column that has a value in this row takes its part off.
            let mut next = waiting.take(index);
            while let Some(earlier) = next {
                next = waiting.following(earlier);
                let at = waiting.cursors[earlier];
                let end = triangle.starts[earlier + 1];
                let factor = triangle.values[at];
                for entry in at..end {
                    let row = triangle.rows[entry] as usize;
                    column.add(row, -factor * triangle.values[entry]);
                }
                waiting.advance(earlier, at + 1, end, &triangle.rows);
            }
            let pivot = column.sums[index];
            // Not a number is no pivot either.
            if pivot.is_nan() || pivot <= f64::EPSILON {
                return None;
            }
            column.store(index, pivot.sqrt(), &mut triangle);
            let begin = triangle.starts[index];
            let end = triangle.rows.len();
            triangle.starts.push(end);
            waiting.advance(index, begin + 1, end, &triangle.rows);
        }
        Some(Self(triangle))
    }

    /// Solves the triangle, and then its transpose, for `vector`, in place.
    pub fn solve(&self, vector: &mut [f64]) {
        let Lower {
            starts,
            rows,
            values,
        } = &self.0;
        let side = self.0.side();
        for column in 0..side {
            let entries = starts[column]..starts[column + 1];
            let (rows, values) = (&rows[entries.clone()], &values[entries]);
            let solved = vector[column] / values[0];
            vector[column] = solved;
            for (row, value) in rows[1..].iter().zip(&values[1..]) {
                vector[*row as usize] -= value * solved;
            }
        }
        for column in (0..side).rev() {
            let entries = starts[column]..starts[column + 1];
            let (rows, values) = (&rows[entries.clone()], &values[entries]);
            let mut sum = vector[column];
            for (row, value) in rows[1..].iter().zip(&values[1..]) {
                sum -= value * vector[*row as usize];
            }
            vector[column] = sum / values[0];
        }
    }
}

/// Which columns have their next value in which row: a linked list for each row.
struct Waiting {
    heads: Vec<u32>,
    links: Vec<u32>,
    /// Where each column's next value is.
    cursors: Vec<usize>,
}

impl Waiting {
    fn new(side: usize) -> Self {
        Self {
            heads: vec![NONE; side],
            links: vec![NONE; side],
            cursors: vec![0; side],
        }
    }

    fn take(&mut self, row: usize) -> Option<usize> {
        let head = std::mem::replace(&mut self.heads[row], NONE);
        (head != NONE).then_some(head as usize)
    }

    fn following(&self, column: usize) -> Option<usize> {
        let link = self.links[column];
        (link != NONE).then_some(link as usize)
    }

    /// The column's next value is at `at`, if that is before `end`.
    fn advance(&mut self, column: usize, at: usize, end: usize, rows: &[u32]) {
        self.cursors[column] = at;
        if at < end {
            let row = rows[at] as usize;
            self.links[column] = self.heads[row];
            self.heads[row] = column as u32;
        }
    }
}

/// The column that is being made.
struct Column {
    /// Its value in each row; only those of `rows` count.
    sums: Vec<f64>,
    is_there: Vec<bool>,
    rows: Vec<u32>,
    kept: Vec<(u32, f64)>,
}

impl Column {
    fn new(side: usize) -> Self {
        Self {
            sums: vec![0.0; side],
            is_there: vec![false; side],
            rows: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn add(&mut self, row: usize, value: f64) {
        if !self.is_there[row] {
            self.is_there[row] = true;
            self.sums[row] = 0.0;
            self.rows.push(row as u32);
        }
        self.sums[row] += value;
    }

    /// Appends what is large enough to the triangle, and begins anew.
    fn store(&mut self, diagonal: usize, root: f64, triangle: &mut Lower) {
        self.kept.clear();
        for row in self.rows.drain(..) {
            self.is_there[row as usize] = false;
            let value = self.sums[row as usize] / root;
            if row as usize != diagonal && value.abs() > THRESHOLD {
                self.kept.push((row, value));
            }
        }
        if self.kept.len() >= MAX_PER_COLUMN {
            let larger = |one: &(u32, f64), other: &(u32, f64)| {
                other
                    .1
                    .abs()
                    .total_cmp(&one.1.abs())
                    .then(one.0.cmp(&other.0))
            };
            self.kept.select_nth_unstable_by(MAX_PER_COLUMN - 1, larger);
            self.kept.truncate(MAX_PER_COLUMN - 1);
        }
        self.kept.sort_unstable_by_key(|(row, _)| *row);
        triangle.rows.push(diagonal as u32);
        triangle.values.push(root);
        for (row, value) in &self.kept {
            triangle.rows.push(*row);
            triangle.values.push(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 1 0 2 / 1 5 1 0 / 0 1 6 1 / 2 0 1 7, and what it makes of 1 2 3 4.
    fn matrix() -> Lower {
        Lower {
            starts: vec![0, 3, 5, 7, 8],
            rows: vec![0, 1, 3, 1, 2, 2, 3, 3],
            values: vec![4.0, 1.0, 2.0, 5.0, 1.0, 6.0, 1.0, 7.0],
        }
    }

    #[test]
    fn what_is_not_small_is_factorised_exactly() {
        let factor = Factor::of(&matrix()).unwrap();
        let mut vector = [0.0; 4];
        matrix().multiply(&[1.0, 2.0, 3.0, 4.0], &mut vector);
        factor.solve(&mut vector);
        for (found, expected) in vector.iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert!((found - expected).abs() < 1e-12, "{vector:?}");
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        let mut matrix = matrix();
        matrix.values[0] = -1.0;
        assert!(Factor::of(&matrix).is_none());
    }

    #[test]
    fn columns_are_bounded() {
        // Everything depends on the first unknown, and fills in with everything else.
        let side = 3 * MAX_PER_COLUMN;
        let mut matrix = Lower {
            starts: vec![0],
            rows: Vec::new(),
            values: Vec::new(),
        };
        for column in 0..side {
            matrix.rows.push(column as u32);
            matrix.values.push(side as f64);
            if column == 0 {
                for row in 1..side {
                    matrix.rows.push(row as u32);
                    matrix.values.push(1.0 + row as f64 / side as f64);
                }
            }
            matrix.starts.push(matrix.rows.len());
        }
        let Factor(triangle) = Factor::of(&matrix).unwrap();
        let lengths = triangle.starts.windows(2).map(|pair| pair[1] - pair[0]);
        assert_eq!(lengths.max(), Some(MAX_PER_COLUMN));
        // The largest stayed, in their order.
        assert_eq!(triangle.rows[MAX_PER_COLUMN - 1], side as u32 - 1);
    }
}
