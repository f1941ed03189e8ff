//! A sparse symmetric matrix of which only the diagonal and what lies below it is kept, column by column.

/// Each column begins with its diagonal; its rows ascend.
pub(super) struct Lower {
    /// Where each column begins; one more at the end.
    pub starts: Vec<usize>,
    /// The row of each value.
    pub rows: Vec<u32>,
    /// The values.
    pub values: Vec<f64>,
}

impl Lower {
    /// Number of rows and columns.
    pub fn side(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Rows and values of one column.
    pub fn column(&self, column: usize) -> impl Iterator<Item = (usize, f64)> {
        let entries = self.starts[column]..self.starts[column + 1];
        let rows = self.rows[entries.clone()].iter();
        rows.zip(&self.values[entries])
            .map(|(row, value)| (*row as usize, *value))
    }

    /// Writes the whole symmetric matrix times `vector` to `product`.
    pub fn multiply(&self, vector: &[f64], product: &mut [f64]) {
        product.fill(0.0);
        for column in 0..self.side() {
            let mut sum = 0.0;
            for (row, value) in self.column(column) {
                if row == column {
                    sum += value * vector[column];
                } else {
                    sum += value * vector[row];
                    product[row] += value * vector[column];
                }
            }
            product[column] += sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_diagonal_counts_too() {
        // 2 −1 0 / −1 3 5 / 0 5 7
        let matrix = Lower {
            starts: vec![0, 2, 4, 5],
            rows: vec![0, 1, 1, 2, 2],
            values: vec![2.0, -1.0, 3.0, 5.0, 7.0],
        };
        let mut product = [9.0; 3];
        matrix.multiply(&[1.0, 2.0, 3.0], &mut product);
        assert_eq!(product, [0.0, 20.0, 31.0]);
    }
}
