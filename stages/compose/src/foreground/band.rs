//! The pixels that have to be solved, as runs within rows.

use rayon::prelude::*;

/// A run of pixels in one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// Place of its first pixel among the cells of its row.
    pub first_cell: usize,
}

/// Runs of pixels, row by row.
#[derive(Clone, Debug)]
pub(super) struct Band {
    width: usize,
    rows: Vec<Vec<Span>>,
}

impl Band {
    /// Every pixel.
    pub(super) fn whole(width: usize, height: usize) -> Self {
        Self {
            width,
            rows: vec![
                vec![Span {
                    start: 0,
                    end: width,
                    first_cell: 0
                }];
                height
            ],
        }
    }

    /// All pixels no further than `reach` from a pixel whose alpha is partial or differs from a neighbour's, and all
    /// that `finer` (a band of the next level) starts from.
    pub(super) fn around_edges(
        matte: &[u8],
        width: usize,
        height: usize,
        reach: usize,
        finer: Option<&Self>,
    ) -> Self {
        let mut edges = vec![0_u8; width * height];
        edges
            .par_chunks_exact_mut(width)
            .enumerate()
            .for_each(|(y, edges)| mark_edges(matte, width, height, y, edges));
        let mut wide = vec![0_u8; width * height];
        wide.par_chunks_exact_mut(width)
            .zip(edges.par_chunks_exact(width))
            .for_each(|(wide, edges)| widen(edges, wide, reach));
        let mut seeds: Vec<Vec<usize>> = vec![Vec::new(); height];
        if let Some(finer) = finer {
            finer.project_onto(width, height, &mut seeds);
        }
        let rows = seeds
            .into_par_iter()
            .enumerate()
            .map(|(y, seeds)| {
                let mut marked = vec![0_u8; width];
                for neighbour in y.saturating_sub(reach)..(y + reach + 1).min(height) {
                    let row = &wide[neighbour * width..(neighbour + 1) * width];
                    marked
                        .iter_mut()
                        .zip(row)
                        .for_each(|(mark, other)| *mark |= other);
                }
                for x in seeds {
                    marked[x] = 1;
                }
                spans(&marked)
            })
            .collect();
        Self { width, rows }
    }

    /// Which pixels of a coarser level of `width × height` this band's pixels start from.
    fn project_onto(&self, width: usize, height: usize, seeds: &mut [Vec<usize>]) {
        for (y, spans) in self.rows.iter().enumerate() {
            let seeds = &mut seeds[y * height / self.height()];
            for span in spans {
                let (first, last) = (
                    span.start * width / self.width,
                    (span.end - 1) * width / self.width,
                );
                seeds.extend(first..=last);
            }
            // Several fine rows project onto one coarse row; what they share is kept once.
            seeds.sort_unstable();
            seeds.dedup();
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn row(&self, y: usize) -> &[Span] {
        self.rows.get(y).map_or(&[], Vec::as_slice)
    }

    /// Pixels of the band in a row.
    pub(super) fn cells_in_row(&self, y: usize) -> usize {
        self.row(y)
            .last()
            .map_or(0, |span| span.first_cell + span.end - span.start)
    }
}

fn mark_edges(matte: &[u8], width: usize, height: usize, y: usize, edges: &mut [u8]) {
    let row_at = |y: usize| &matte[y * width..(y + 1) * width];
    let row = row_at(y);
    let (above, below) = (row_at(y.saturating_sub(1)), row_at((y + 1).min(height - 1)));
    for (((edge, alpha), above), below) in edges.iter_mut().zip(row).zip(above).zip(below) {
        // 1 to 254 become 0 to 253.
        let partial = alpha.wrapping_sub(1) < 254;
        *edge = u8::from(partial | (alpha != above) | (alpha != below));
    }
    for x in 1..row.len() {
        let differs = u8::from(row[x - 1] != row[x]);
        edges[x - 1] |= differs;
        edges[x] |= differs;
    }
}

fn widen(edges: &[u8], wide: &mut [u8], reach: usize) {
    wide.copy_from_slice(edges);
    for distance in 1..=reach.min(edges.len().saturating_sub(1)) {
        let last = edges.len() - distance;
        wide[distance..]
            .iter_mut()
            .zip(&edges[..last])
            .for_each(|(mark, edge)| *mark |= edge);
        wide[..last]
            .iter_mut()
            .zip(&edges[distance..])
            .for_each(|(mark, edge)| *mark |= edge);
    }
}

fn spans(marked: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    let (mut x, mut first_cell) = (0, 0);
    while let Some(skipped) = marked[x..].iter().position(|mark| *mark != 0) {
        let start = x + skipped;
        let end = marked[start..]
            .iter()
            .position(|mark| *mark == 0)
            .map_or(marked.len(), |length| start + length);
        spans.push(Span {
            start,
            end,
            first_cell,
        });
        first_cell += end - start;
        x = end;
    }
    spans
}
