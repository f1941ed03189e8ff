//! Conjugate gradients behind a factorisation (Hestenes, Stiefel: Methods of Conjugate Gradients for Solving Linear Systems, 1952).

use super::{factor::Factor, matrix::Lower};

/// The left side of linear equations: symmetric and positive definite.
pub(super) trait Equations {
    /// Writes it times `vector` to `product`.
    fn times(&self, vector: &[f64], product: &mut [f64]);
}

impl Equations for Lower {
    fn times(&self, vector: &[f64], product: &mut [f64]) {
        self.multiply(vector, product);
    }
}

/// Most steps.
pub(super) const MAX_STEPS: usize = 2_000;

/// It ends where the residual is this share of the right side: far below what a level of alpha shows.
const GOOD_RESIDUAL: f64 = 1e-7;

/// What is worse than this after all steps is no solution.
pub(super) const WORST_RESIDUAL: f64 = 1e-3;

/// What was found.
pub(super) struct Conjugate {
    pub solution: Vec<f64>,
    /// What is left over, as a share of the right side.
    pub residual: f64,
}

/// Solves `equations` times the solution is `right`, beginning with `solution`. `factor` is that of a matrix which is like the
/// equations.
pub(super) fn solve(
    equations: &impl Equations,
    factor: &Factor,
    right: &[f64],
    mut solution: Vec<f64>,
) -> Conjugate {
    let size = length(right);
    // Nothing pulls any of them away from 0.
    if size <= 0.0 {
        solution.fill(0.0);
        return Conjugate {
            solution,
            residual: 0.0,
        };
    }
    let mut product = vec![0.0; right.len()];
    equations.times(&solution, &mut product);
    let differences = right.iter().zip(&product);
    let mut rest: Vec<f64> = differences
        .map(|(right, product)| right - product)
        .collect();
    let mut conditioned = rest.clone();
    factor.solve(&mut conditioned);
    let mut direction = conditioned.clone();
    let mut fall = dot(&rest, &conditioned);
    for _ in 0..MAX_STEPS {
        if length(&rest) <= GOOD_RESIDUAL * size {
            break;
        }
        equations.times(&direction, &mut product);
        let step = fall / dot(&direction, &product);
        for (solution, direction) in solution.iter_mut().zip(&direction) {
            *solution += step * direction;
        }
        for (rest, product) in rest.iter_mut().zip(&product) {
            *rest -= step * product;
        }
        conditioned.copy_from_slice(&rest);
        factor.solve(&mut conditioned);
        let next_fall = dot(&rest, &conditioned);
        let turn = next_fall / fall;
        fall = next_fall;
        for (direction, conditioned) in direction.iter_mut().zip(&conditioned) {
            *direction = conditioned + turn * *direction;
        }
    }
    Conjugate {
        residual: length(&rest) / size,
        solution,
    }
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn length(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}
