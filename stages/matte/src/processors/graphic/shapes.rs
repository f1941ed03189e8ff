//! Outlines of the subject's flat regions as SVG paths.
//!
//! A region is connected and of one cluster's colour; its path has the outer outline and those of its holes. Outlines follow the
//! pixels that are more than half covered, simplified; a large picture is looked at in steps, so that its outlines cost no more
//! than those of a picture of a megapixel.

use std::{cmp::Reverse, fmt::Write as _};

use atelier_schemas::matting::{PATH_BYTES_LIMIT, ShapePath, Shapes};
use rayon::prelude::*;
use visioncortex::{
    BinaryImage, CompoundPathElement, PathSimplifyMode, PointI32, clusters::Cluster,
};

use super::{
    cut::hex,
    palette::{Swatch, nearest, oklab},
    pixels::Pixels,
};

/// Most pixels that are looked at.
const MAX_SAMPLES: usize = 1 << 20;
/// Regions of fewer samples are edges of others.
const MIN_REGION_SAMPLES: usize = 6;
/// How far a simplified outline may be from the pixels', in samples.
const TOLERANCE: f64 = 0.7;
const NOTHING: u8 = u8::MAX;

/// The outlines in `rgba` (straight, of the picture's size) in the colours of `swatches`.
pub(super) fn outlines(pixels: Pixels<'_>, rgba: &[u8], swatches: &[Swatch]) -> Shapes {
    let step = pixels.count().div_ceil(MAX_SAMPLES).isqrt();
    let step = if step * step * MAX_SAMPLES < pixels.count() {
        step + 1
    } else {
        step
    };
    let (width, height) = (pixels.width.div_ceil(step), pixels.height.div_ceil(step));
    let labels = labels(pixels, rgba, swatches, step);
    let mut regions: Vec<(usize, Cluster)> = (0..swatches.len())
        .into_par_iter()
        .flat_map_iter(|label| {
            let mut image = BinaryImage::new_w_h(width, height);
            for (index, found) in labels.iter().enumerate() {
                if usize::from(*found) == label {
                    image.set_pixel(index % width, index / width, true);
                }
            }
            let large = |cluster: &Cluster| cluster.size() >= MIN_REGION_SAMPLES;
            let clusters = image.to_clusters(false).clusters;
            clusters
                .into_iter()
                .filter(large)
                .map(move |cluster| (label, cluster))
        })
        .collect();
    regions.sort_by_key(|(label, cluster)| (Reverse(cluster.size()), *label));
    let paths: Vec<ShapePath> = regions
        .par_iter()
        .map(|(label, cluster)| ShapePath {
            color: hex(swatches[*label].color),
            area_px: (cluster.size() * step * step) as u64,
            path: path(cluster, step),
        })
        .collect();
    let mut shapes = Shapes {
        count: paths.len() as u32,
        path_bytes: paths.iter().map(|shape| shape.path.len() as u64).sum(),
        paths: Vec::new(),
    };
    let mut left_bytes = PATH_BYTES_LIMIT;
    for shape in paths {
        if shape.path.len() <= left_bytes {
            left_bytes -= shape.path.len();
            shapes.paths.push(shape);
        }
    }
    shapes
}

/// Which swatch each sample looks like; [`NOTHING`] where the subject covers less than half of it.
fn labels(pixels: Pixels<'_>, rgba: &[u8], swatches: &[Swatch], step: usize) -> Vec<u8> {
    let centers: Vec<[f32; 3]> = swatches.iter().map(|swatch| oklab(swatch.color)).collect();
    let rows: Vec<usize> = (0..pixels.height).step_by(step).collect();
    rows.into_par_iter()
        .flat_map_iter(|y| {
            let centers = &centers;
            let mut known: Option<([u8; 3], u8)> = None;
            (0..pixels.width).step_by(step).map(move |x| {
                let at = (y * pixels.width + x) * 4;
                let color = [rgba[at], rgba[at + 1], rgba[at + 2]];
                if rgba[at + 3] < 128 || centers.is_empty() {
                    return NOTHING;
                }
                // Most pixels of a flat picture are as the one before.
                if let Some((last, label)) = known
                    && last == color
                {
                    return label;
                }
                let label = nearest(color, centers) as u8;
                known = Some((color, label));
                label
            })
        })
        .collect()
}

/// The `d` of a region's path, in pixels of the picture.
fn path(cluster: &Cluster, step: usize) -> String {
    // The last three numbers are for curves.
    let outline = cluster.to_compound_path(PathSimplifyMode::Polygon, 0.0, 0.0, 0, 0.0);
    let mut text = String::new();
    for element in outline.iter() {
        let CompoundPathElement::PathI32(outline) = element else {
            continue;
        };
        let is_closed = outline.path.len() > 3 && outline.path.first() == outline.path.last();
        let reduced = is_closed.then(|| outline.reduce(TOLERANCE)).flatten();
        let points: &[PointI32] = match &reduced {
            Some(reduced) => &reduced.path,
            None => &outline.path,
        };
        // The last point is the first one again.
        let Some((_, open)) = points.split_last() else {
            continue;
        };
        for (index, point) in open.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let [x, y] = [point.x, point.y].map(|value| i64::from(value) * step as i64);
            // Writing to a String cannot fail.
            let _ = write!(text, "{letter}{x} {y}");
        }
        text.push('Z');
    }
    text
}
