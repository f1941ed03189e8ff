//! Finds the pixels that are most like one: a k-d tree (Bentley: Multidimensional Binary Search Trees, CACM 1975) over colour and
//! place.

/// Numbers by which pixels are compared.
pub(super) const DIMENSIONS: usize = 5;

/// A pixel's numbers.
pub(super) type Features = [f32; DIMENSIONS];

/// Points of a leaf.
const LEAF: usize = 12;

/// The tree. Points lie in the order of their leaves; a branch halves its range.
pub(super) struct Tree {
    points: Vec<(Features, u32)>,
    /// Dimension and value at which each branch parts its points, in the order of a heap.
    branches: Vec<(u8, f32)>,
}

/// Neighbours that were found, the nearest first.
pub(super) struct Nearest<const COUNT: usize> {
    /// Squared distance and place.
    found: [(f32, u32); COUNT],
    count: usize,
}

impl<const COUNT: usize> Nearest<COUNT> {
    /// Places, the nearest first.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        self.found[..self.count].iter().map(|(_, place)| *place)
    }

    fn worst(&self) -> f32 {
        if self.count < COUNT {
            f32::INFINITY
        } else {
            self.found[COUNT - 1].0
        }
    }

    fn offer(&mut self, distance: f32, place: u32) {
        if distance >= self.worst() {
            return;
        }
        let mut at = self.count.min(COUNT - 1);
        while at > 0 && self.found[at - 1].0 > distance {
            self.found[at] = self.found[at - 1];
            at -= 1;
        }
        self.found[at] = (distance, place);
        self.count = (self.count + 1).min(COUNT);
    }
}

impl Tree {
    /// Over points and the places that they stand for.
    pub fn new(mut points: Vec<(Features, u32)>) -> Self {
        let leaves = points.len().div_ceil(LEAF).next_power_of_two();
        let mut branches = vec![(0, 0.0); leaves - 1];
        part(&mut points, &mut branches, 0);
        Self { points, branches }
    }

    /// The points nearest to `wanted`, but for `itself`.
    pub fn nearest<const COUNT: usize>(&self, wanted: &Features, itself: u32) -> Nearest<COUNT> {
        let mut nearest = Nearest {
            found: [(f32::INFINITY, 0); COUNT],
            count: 0,
        };
        self.search(&self.points, 0, wanted, itself, &mut nearest);
        nearest
    }

    fn search<const COUNT: usize>(
        &self,
        points: &[(Features, u32)],
        branch: usize,
        wanted: &Features,
        itself: u32,
        nearest: &mut Nearest<COUNT>,
    ) {
        let Some((dimension, value)) = self.branches.get(branch) else {
            for (features, place) in points {
                if *place != itself {
                    nearest.offer(squared_distance(features, wanted), *place);
                }
            }
            return;
        };
        let (below, above) = points.split_at(points.len() / 2);
        let beyond = wanted[usize::from(*dimension)] - value;
        let (near, far) = ((below, 2 * branch + 1), (above, 2 * branch + 2));
        let (near, far) = if beyond < 0.0 {
            (near, far)
        } else {
            (far, near)
        };
        self.search(near.0, near.1, wanted, itself, nearest);
        if beyond * beyond < nearest.worst() {
            self.search(far.0, far.1, wanted, itself, nearest);
        }
    }
}

fn squared_distance(one: &Features, other: &Features) -> f32 {
    let pairs = one.iter().zip(other);
    pairs
        .map(|(one, other)| (one - other) * (one - other))
        .sum()
}

/// Parts points in half along the dimension in which they spread most, and so on.
fn part(points: &mut [(Features, u32)], branches: &mut [(u8, f32)], branch: usize) {
    if branch >= branches.len() || points.is_empty() {
        return;
    }
    let (mut least, mut largest) = ([f32::INFINITY; DIMENSIONS], [f32::NEG_INFINITY; DIMENSIONS]);
    for (features, _) in points.iter() {
        for (dimension, value) in features.iter().enumerate() {
            least[dimension] = least[dimension].min(*value);
            largest[dimension] = largest[dimension].max(*value);
        }
    }
    let mut widest = 0;
    for dimension in 1..DIMENSIONS {
        if largest[dimension] - least[dimension] > largest[widest] - least[widest] {
            widest = dimension;
        }
    }
    let half = points.len() / 2;
    points.select_nth_unstable_by(half, |(one, first), (other, second)| {
        let by_value = one[widest].total_cmp(&other[widest]);
        // The same picture is to give the same tree.
        by_value.then(first.cmp(second))
    });
    branches[branch] = (widest as u8, points[half].0[widest]);
    let (below, above) = points.split_at_mut(half);
    part(below, branches, 2 * branch + 1);
    part(above, branches, 2 * branch + 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(count: u32) -> Vec<(Features, u32)> {
        let feature = |seed: u32| (seed.wrapping_mul(2_654_435_761) >> 20) as f32 / 4_096.0;
        let features = |place| std::array::from_fn(|at| feature(place * 7 + at as u32 * 131 + 1));
        (0..count).map(|place| (features(place), place)).collect()
    }

    #[test]
    fn the_nearest_are_those_that_looking_at_all_finds() {
        let points = points(1_000);
        let tree = Tree::new(points.clone());
        for (wanted, itself) in points.iter().step_by(37) {
            let mut all: Vec<f32> = points
                .iter()
                .filter(|(_, place)| place != itself)
                .map(|(features, _)| squared_distance(features, wanted))
                .collect();
            all.sort_by(f32::total_cmp);
            let nearest = tree.nearest::<7>(wanted, *itself);
            let distance = |place: u32| squared_distance(&points[place as usize].0, wanted);
            let found: Vec<f32> = nearest.places().map(distance).collect();
            assert_eq!(found, all[..7]);
        }
    }

    #[test]
    fn few_points_and_equal_ones_are_found_too() {
        assert_eq!(
            Tree::new(Vec::new())
                .nearest::<3>(&[0.0; 5], 0)
                .places()
                .count(),
            0
        );
        let equal = vec![([0.5; 5], 1), ([0.5; 5], 2), ([0.5; 5], 3)];
        let tree = Tree::new(equal);
        assert_eq!(tree.nearest::<7>(&[0.5; 5], 2).places().count(), 2);
        let many: Vec<_> = (0..10_000).map(|place| ([0.5; 5], place)).collect();
        assert_eq!(
            Tree::new(many).nearest::<7>(&[0.5; 5], 2).places().count(),
            7
        );
    }
}
