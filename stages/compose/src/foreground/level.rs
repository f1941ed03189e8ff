//! One level of the pyramid: its picture, its cells, and the relaxation of them.

use std::borrow::Cow;

use atelier_stores::Raster;
use rayon::prelude::*;

use super::band::{Band, Span};

/// Holds the neighbours together where alpha is flat.
const REGULARIZATION: f32 = 1e-5;
/// And this much more for a step of alpha from 0 to 1.
const GRADIENT_WEIGHT: f32 = 1.0;
/// Rows that one task of the thread pool takes at least.
const MIN_ROWS_PER_TASK: usize = 8;

/// Foreground and background colour of a pixel, each red, green, blue (0–255) and a lane that is not used: four lanes
/// are one vector register.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    pub foreground: [f32; 4],
    pub background: [f32; 4],
}

/// The full-size picture and matte.
pub(super) struct Picture<'a> {
    pub width: usize,
    pub height: usize,
    stride: usize,
    colors: &'a [u8],
    matte: &'a [u8],
}

impl<'a> Picture<'a> {
    pub(super) fn new(raster: &'a Raster, matte: &'a [u8]) -> Self {
        Self {
            width: raster.width() as usize,
            height: raster.height() as usize,
            stride: raster.channels().count(),
            colors: raster.data(),
            matte,
        }
    }

    fn color(&self, x: usize, y: usize) -> [f32; 4] {
        let start = (y * self.width + x) * self.stride;
        match self.colors.get(start..start + 3) {
            Some([red, green, blue]) => [f32::from(*red), f32::from(*green), f32::from(*blue), 0.0],
            _ => [0.0; 4],
        }
    }

    /// Mean colour of what is surely subject and of what is surely not, from a grid of samples.
    pub(super) fn mean_colors(&self) -> Cell {
        const SAMPLES_A_SIDE: usize = 128;
        let (step_x, step_y) = (
            self.width.div_ceil(SAMPLES_A_SIDE),
            self.height.div_ceil(SAMPLES_A_SIDE),
        );
        let mut sums = [([0.0_f32; 4], 0.0_f32); 2];
        for y in (0..self.height).step_by(step_y) {
            for x in (0..self.width).step_by(step_x) {
                let slot = match self.matte[y * self.width + x] {
                    230.. => 0,
                    ..26 => 1,
                    _ => continue,
                };
                let (sum, count) = &mut sums[slot];
                let color = self.color(x, y);
                sum.iter_mut()
                    .zip(color)
                    .for_each(|(sum, value)| *sum += value);
                *count += 1.0;
            }
        }
        let [foreground, background] =
            sums.map(|(sum, count)| sum.map(|value| value / count.max(1.0)));
        Cell {
            foreground,
            background,
        }
    }
}

/// The picture at one size, by taking the nearest pixel.
pub(super) struct Level<'a> {
    pub width: usize,
    pub height: usize,
    /// Which column of the full picture a column stands for.
    full_x: Vec<usize>,
    full_y: Vec<usize>,
    matte: Cow<'a, [u8]>,
}

impl<'a> Level<'a> {
    pub(super) fn new(picture: &Picture<'a>, width: usize, height: usize) -> Self {
        let full_x: Vec<usize> = (0..width).map(|x| x * picture.width / width).collect();
        let full_y: Vec<usize> = (0..height).map(|y| y * picture.height / height).collect();
        let matte = if (width, height) == (picture.width, picture.height) {
            Cow::Borrowed(picture.matte)
        } else {
            let rows = full_y.iter().map(|y| &picture.matte[y * picture.width..]);
            Cow::Owned(
                rows.flat_map(|row| full_x.iter().map(|x| row[*x]))
                    .collect(),
            )
        };
        Self {
            width,
            height,
            full_x,
            full_y,
            matte,
        }
    }

    pub(super) fn matte(&self) -> &[u8] {
        &self.matte
    }

    fn matte_row(&self, y: usize) -> &[u8] {
        &self.matte[y * self.width..(y + 1) * self.width]
    }
}

/// The cells of a band, even and odd rows apart, so that one half can be written while the other is read.
pub(super) struct Solution {
    pub band: Band,
    halves: [Vec<Cell>; 2],
    /// Place of each row's first cell in its half.
    row_starts: Vec<usize>,
}

impl Solution {
    /// Every cell the same.
    pub(super) fn uniform(cell: Cell, band: Band) -> Self {
        let mut lengths = [0; 2];
        let row_starts = (0..band.height())
            .map(|y| {
                let start = lengths[y % 2];
                lengths[y % 2] += band.cells_in_row(y);
                start
            })
            .collect();
        Self {
            halves: lengths.map(|length| vec![cell; length]),
            row_starts,
            band,
        }
    }

    /// Every cell as the nearest one of the coarser level.
    pub(super) fn from_coarser(coarser: &Self, band: Band) -> Self {
        let mut finer = Self::uniform(Cell::default(), band);
        let (width, height) = (finer.band.width(), finer.band.height());
        let (coarse_width, coarse_height) = (coarser.band.width(), coarser.band.height());
        for y in 0..height {
            let coarse_y = y * coarse_height / height;
            let mut source =
                RowCursor::new(coarser.band.row(coarse_y), coarser.row_cells(coarse_y));
            let start = finer.row_starts[y];
            let row = &mut finer.halves[y % 2][start..];
            for span in finer.band.row(y) {
                for x in span.start..span.end {
                    if let Some(cell) = source.at(x * coarse_width / width) {
                        row[span.first_cell + x - span.start] = *cell;
                    }
                }
            }
        }
        finer
    }

    fn row_cells(&self, y: usize) -> &[Cell] {
        let start = self.row_starts[y];
        &self.halves[y % 2][start..start + self.band.cells_in_row(y)]
    }

    /// One round: even rows, then odd rows.
    pub(super) fn relax(&mut self, picture: &Picture, level: &Level) {
        let Self {
            band,
            halves: [even, odd],
            row_starts,
        } = self;
        relax_half(picture, level, band, row_starts, 0, even, odd);
        relax_half(picture, level, band, row_starts, 1, odd, even);
    }

    /// Calls `visit` with place and foreground of every pixel of the band whose matte is not sure: where it is, the
    /// picture's own colour is the subject's.
    pub(super) fn for_each_unsure_pixel(
        &self,
        matte: &[u8],
        mut visit: impl FnMut(usize, [u8; 3]),
    ) {
        for y in 0..self.band.height() {
            let cells = self.row_cells(y);
            for span in self.band.row(y) {
                for (x, cell) in (span.start..span.end).zip(&cells[span.first_cell..]) {
                    let index = y * self.band.width() + x;
                    if matte[index] < 255 {
                        let [red, green, blue, _] =
                            cell.foreground.map(|value| (value + 0.5) as u8);
                        visit(index, [red, green, blue]);
                    }
                }
            }
        }
    }
}

fn relax_half(
    picture: &Picture,
    level: &Level,
    band: &Band,
    row_starts: &[usize],
    parity: usize,
    own: &mut [Cell],
    other: &[Cell],
) {
    let mut rows = Vec::with_capacity(level.height / 2 + 1);
    let mut rest = own;
    for y in (parity..level.height).step_by(2) {
        let (row, after) = rest.split_at_mut(band.cells_in_row(y));
        rest = after;
        if !row.is_empty() {
            rows.push((y, row));
        }
    }
    let neighbour = |y: Option<usize>| {
        let y = y.filter(|y| *y < level.height)?;
        let start = row_starts[y];
        Some((
            RowCursor::new(band.row(y), &other[start..start + band.cells_in_row(y)]),
            level.matte_row(y),
        ))
    };
    rows.into_par_iter()
        .with_min_len(MIN_ROWS_PER_TASK)
        .for_each(|(y, row)| {
            relax_row(
                picture,
                level,
                y,
                band.row(y),
                row,
                [neighbour(y.checked_sub(1)), neighbour(Some(y + 1))],
            );
        });
}

/// A row above or below, with its matte.
type Neighbour<'a> = Option<(RowCursor<'a>, &'a [u8])>;

fn relax_row(
    picture: &Picture,
    level: &Level,
    y: usize,
    spans: &[Span],
    row: &mut [Cell],
    mut neighbours: [Neighbour; 2],
) {
    let matte = level.matte_row(y);
    let full_y = level.full_y[y];
    for span in spans {
        for x in span.start..span.end {
            let index = span.first_cell + x - span.start;
            let mut equations = Equations::new(matte[x], picture.color(level.full_x[x], full_y));
            // What lies outside the band or the picture is taken to be like the pixel itself.
            let own = row[index];
            let left = if x > span.start {
                Some((&row[index - 1], matte[x - 1]))
            } else {
                None
            };
            equations.hold_to(left, &own);
            let right = if x + 1 < span.end {
                Some((&row[index + 1], matte[x + 1]))
            } else {
                None
            };
            equations.hold_to(right, &own);
            for neighbour in &mut neighbours {
                let found = neighbour
                    .as_mut()
                    .and_then(|(cursor, matte)| Some((cursor.at(x)?, matte[x])));
                equations.hold_to(found, &own);
            }
            row[index] = equations.solve();
        }
    }
}

/// The two-by-two system of one pixel, with its right-hand sides for all channels.
struct Equations {
    alpha: f32,
    pull: f32,
    foreground: [f32; 4],
    background: [f32; 4],
}

impl Equations {
    fn new(alpha: u8, color: [f32; 4]) -> Self {
        let alpha = f32::from(alpha) * (1.0 / 255.0);
        Self {
            alpha,
            pull: 0.0,
            foreground: color.map(|value| alpha * value),
            background: color.map(|value| (1.0 - alpha) * value),
        }
    }

    #[inline(always)]
    fn hold_to(&mut self, neighbour: Option<(&Cell, u8)>, own: &Cell) {
        let (cell, step) = match neighbour {
            Some((cell, alpha)) => (cell, (self.alpha - f32::from(alpha) * (1.0 / 255.0)).abs()),
            None => (own, 0.0),
        };
        let pull = REGULARIZATION + GRADIENT_WEIGHT * step;
        self.pull += pull;
        for channel in 0..4 {
            self.foreground[channel] += pull * cell.foreground[channel];
            self.background[channel] += pull * cell.background[channel];
        }
    }

    #[inline(always)]
    fn solve(&self) -> Cell {
        let rest = 1.0 - self.alpha;
        let (a00, a01, a11) = (
            self.alpha * self.alpha + self.pull,
            self.alpha * rest,
            rest * rest + self.pull,
        );
        let inverse = 1.0 / (a00 * a11 - a01 * a01);
        let mut cell = Cell::default();
        for channel in 0..4 {
            let (foreground, background) = (self.foreground[channel], self.background[channel]);
            cell.foreground[channel] =
                ((a11 * foreground - a01 * background) * inverse).clamp(0.0, 255.0);
            cell.background[channel] =
                ((a00 * background - a01 * foreground) * inverse).clamp(0.0, 255.0);
        }
        cell
    }
}

/// Finds the cells of a row for columns that only grow.
struct RowCursor<'a> {
    spans: &'a [Span],
    cells: &'a [Cell],
}

impl<'a> RowCursor<'a> {
    fn new(spans: &'a [Span], cells: &'a [Cell]) -> Self {
        Self { spans, cells }
    }

    #[inline(always)]
    fn at(&mut self, x: usize) -> Option<&'a Cell> {
        while let Some((span, rest)) = self.spans.split_first() {
            if x < span.end {
                return (x >= span.start)
                    .then(|| self.cells.get(span.first_cell + x - span.start))
                    .flatten();
            }
            self.spans = rest;
        }
        None
    }
}
