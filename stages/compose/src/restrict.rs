//! What a request says of the matte itself: where the subject is, and whether it may be transparent inside.

use atelier_schemas::placement::Region;
use atelier_stores::{Raster, RasterError, raster::Channels};

/// Alpha below which a pixel is background.
const BACKGROUND_BELOW: u8 = 16;
/// How wide the soft edge of an opaque subject may be, as a share of the matte's longer side.
const EDGE_SHARE: f32 = 0.004;
/// The same at least, in pixels.
const MIN_EDGE_PX: u16 = 2;

/// The matte with nothing outside of `region`.
///
/// # Errors
/// None that a matte of grey pixels can have.
pub fn to_region(matte: Raster, region: &Region) -> Result<Raster, RasterError> {
    let (width, height) = (matte.width(), matte.height());
    let Some((columns, rows)) = region.within(width, height) else {
        let nothing = vec![0; matte.data().len()];
        return Raster::new(width, height, Channels::Gray, nothing);
    };
    let mut data = matte.into_data();
    for (y, row) in data.chunks_exact_mut(width as usize).enumerate() {
        if rows.contains(&(y as u32)) {
            row[..columns.start as usize].fill(0);
            row[columns.end as usize..].fill(0);
        } else {
            row.fill(0);
        }
    }
    Raster::new(width, height, Channels::Gray, data)
}

/// The matte with everything opaque that is not within the soft edge: what is transparent in part and far from the background
/// is glass, cloth or doubt, and is asked to be solid. Real holes stay holes.
pub(crate) fn opaque_inside(matte: &Raster) -> Result<Raster, RasterError> {
    let (width, height) = (matte.width(), matte.height());
    let edge_px = ((width.max(height) as f32 * EDGE_SHARE).round() as u16).max(MIN_EDGE_PX);
    let distances = distances_px(matte, edge_px);
    let data = matte
        .data()
        .iter()
        .zip(distances)
        .map(|(alpha, distance_px)| {
            if distance_px == 0 {
                return *alpha;
            }
            // Grows to 255 with the distance, so that no new edge is seen.
            let solid = u32::from(distance_px - 1) * 255 / u32::from(edge_px);
            (*alpha).max(solid.min(255) as u8)
        })
        .collect();
    Raster::new(width, height, Channels::Gray, data)
}

/// How far each pixel is from the background, in steps to a neighbour, no further than just beyond `limit_px`.
fn distances_px(matte: &Raster, limit_px: u16) -> Vec<u16> {
    let (width, height) = (matte.width() as usize, matte.height() as usize);
    let far = limit_px + 1;
    let mut distances: Vec<u16> = matte
        .data()
        .iter()
        .map(|alpha| if *alpha < BACKGROUND_BELOW { 0 } else { far })
        .collect();
    let relax = |distances: &mut [u16], at: usize, from: usize| {
        distances[at] = distances[at].min(distances[from] + 1);
    };
    for at in 0..distances.len() {
        if at % width > 0 {
            relax(&mut distances, at, at - 1);
        }
        if at >= width {
            relax(&mut distances, at, at - width);
        }
    }
    for at in (0..distances.len()).rev() {
        if at % width + 1 < width {
            relax(&mut distances, at, at + 1);
        }
        if at / width + 1 < height {
            relax(&mut distances, at, at + width);
        }
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, data: Vec<u8>) -> Raster {
        Raster::new(width, data.len() as u32 / width, Channels::Gray, data).unwrap()
    }

    #[test]
    fn outside_of_the_region_nothing_is_left() {
        let region: Region = "50% 0% 100% 2px".parse().unwrap();
        let matte = to_region(gray(4, vec![200; 12]), &region).unwrap();
        assert_eq!(matte.data(), [0, 0, 200, 200, 0, 0, 200, 200, 0, 0, 0, 0]);
        let beyond: Region = "90px 0% 95px 100%".parse().unwrap();
        assert_eq!(
            to_region(gray(4, vec![200; 12]), &beyond).unwrap().data(),
            [0; 12]
        );
    }

    #[test]
    fn glass_becomes_solid_and_edges_and_holes_stay() {
        // A pane of 40 × 40 half transparent in a margin of 10, with a hole of 6 × 6 in it.
        let side = 60;
        let alpha_at = |index: usize| {
            let (x, y) = (index % side, index / side);
            let hole = (27..33).contains(&x) && (27..33).contains(&y);
            if (10..50).contains(&x) && (10..50).contains(&y) && !hole {
                120
            } else {
                0
            }
        };
        let matte = gray(side as u32, (0..side * side).map(alpha_at).collect());
        let solid = opaque_inside(&matte).unwrap();
        let at = |x: usize, y: usize| solid.data()[y * side + x];
        assert_eq!(at(20, 20), 255, "inside");
        assert_eq!(at(30, 30), 0, "the hole");
        assert_eq!(at(5, 5), 0, "outside");
        assert_eq!(at(10, 20), 120, "the outermost pixel keeps its softness");
    }
}
