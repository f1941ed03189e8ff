//! The finished picture before it is encoded: cut out, cropped, laid over its background.

use atelier_stores::{Raster, RasterError, raster::Channels};
use rayon::prelude::*;

use crate::{foreground, place::Frame};

/// Alpha from which a pixel counts as part of the subject: mattes have a faint haze far from it.
pub(crate) const SUBJECT_ALPHA: u8 = 16;
/// Rows that one task of the thread pool takes at least.
const MIN_ROWS_PER_TASK: usize = 16;

/// The box around all of `mask` (grey) that is no less than `least`; `None` without any.
pub(crate) fn visible_area(mask: &Raster, least: u8) -> Option<Frame> {
    let is_visible = |value: &u8| *value >= least;
    let rows = || 0..mask.height();
    let top = rows().find(|y| mask.row(*y).iter().any(is_visible))?;
    let bottom = rows().rev().find(|y| mask.row(*y).iter().any(is_visible))?;
    let left = (top..=bottom)
        .filter_map(|y| mask.row(y).iter().position(is_visible))
        .min()? as u32;
    let right = (top..=bottom)
        .filter_map(|y| mask.row(y).iter().rposition(is_visible))
        .max()? as u32;
    Some(Frame {
        left: i64::from(left),
        top: i64::from(top),
        width: right - left + 1,
        height: bottom - top + 1,
    })
}

/// The picture with the subject's own colours and `alpha` as its alpha; black where nothing can be seen.
/// `matte` is the one that the picture was taken apart by: `alpha` may reach `reach_px` beyond its edge.
pub(crate) fn cut_out(
    picture: &Raster,
    matte: Option<&Raster>,
    alpha: &Raster,
    reach_px: usize,
) -> Result<Raster, RasterError> {
    let width = picture.width() as usize;
    let stride = picture.channels().count();
    let mut data = vec![0; picture.pixels() as usize * 4];
    data.par_chunks_exact_mut(width * 4)
        .zip(picture.data().par_chunks_exact(width * stride))
        .zip(alpha.data().par_chunks_exact(width))
        .with_min_len(MIN_ROWS_PER_TASK)
        .for_each(|((output, colors), alphas)| {
            for ((output, color), alpha) in output
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .zip(colors.chunks_exact(stride))
                .zip(alphas)
            {
                if *alpha > 0
                    && let [red, green, blue, ..] = color
                {
                    *output = [*red, *green, *blue, *alpha];
                }
            }
        });
    if let Some(matte) = matte {
        foreground::clean_colors(picture, matte.data(), reach_px, &mut data);
    }
    Raster::new(picture.width(), picture.height(), Channels::Rgba, data)
}

/// What lies behind.
pub(crate) enum Backdrop {
    /// One colour with alpha.
    Color([u8; 4]),
    /// A picture of the canvas's size.
    Picture(Raster),
}

/// Lays `cut_out` (RGBA) over `backdrop`; RGB where nothing can shine through any more.
pub(crate) fn lay_over(cut_out: Raster, backdrop: &Backdrop) -> Result<Raster, RasterError> {
    let (width, height) = (cut_out.width(), cut_out.height());
    let mut data = cut_out.into_data();
    let row_bytes = width as usize * 4;
    let rows = data
        .par_chunks_exact_mut(row_bytes)
        .with_min_len(MIN_ROWS_PER_TASK);
    let opaque = match backdrop {
        Backdrop::Color(color) => {
            rows.for_each(|row| {
                row.as_chunks_mut::<4>()
                    .0
                    .iter_mut()
                    .for_each(|pixel| *pixel = over(*pixel, *color));
            });
            color[3] == 255
        }
        Backdrop::Picture(picture) => {
            let stride = picture.channels().count();
            rows.zip(picture.data().par_chunks_exact(width as usize * stride))
                .for_each(|(row, under)| {
                    for (pixel, under) in row
                        .as_chunks_mut::<4>()
                        .0
                        .iter_mut()
                        .zip(under.chunks_exact(stride))
                    {
                        let under = match under {
                            [red, green, blue, alpha] => [*red, *green, *blue, *alpha],
                            [red, green, blue] => [*red, *green, *blue, 255],
                            _ => [0; 4],
                        };
                        *pixel = over(*pixel, under);
                    }
                });
            picture.channels() == Channels::Rgb
        }
    };
    if !opaque {
        return Raster::new(width, height, Channels::Rgba, data);
    }
    let mut colors = vec![0; width as usize * height as usize * 3];
    colors
        .par_chunks_exact_mut(width as usize * 3)
        .zip(data.par_chunks_exact(row_bytes))
        .with_min_len(MIN_ROWS_PER_TASK)
        .for_each(|(colors, row)| {
            let pixels = row.as_chunks::<4>().0;
            colors
                .as_chunks_mut::<3>()
                .0
                .iter_mut()
                .zip(pixels)
                .for_each(|(color, [red, green, blue, _])| {
                    *color = [*red, *green, *blue];
                });
        });
    Raster::new(width, height, Channels::Rgb, colors)
}

/// Porter and Duff's `over`, straight alpha, in the encoded values.
pub(crate) fn over(upper: [u8; 4], under: [u8; 4]) -> [u8; 4] {
    let alpha = u32::from(upper[3]);
    let rest = 255 - alpha;
    if under[3] == 255 {
        let mix = |channel: usize| {
            ((u32::from(upper[channel]) * alpha + u32::from(under[channel]) * rest + 127) / 255)
                as u8
        };
        return [mix(0), mix(1), mix(2), 255];
    }
    // In units of 1 / 255².
    let under_share = u32::from(under[3]) * rest;
    let total = alpha * 255 + under_share;
    if total == 0 {
        return [0; 4];
    }
    let mix = |channel: usize| {
        ((u32::from(upper[channel]) * alpha * 255
            + u32::from(under[channel]) * under_share
            + total / 2)
            / total) as u8
    };
    [mix(0), mix(1), mix(2), ((total + 127) / 255) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_is_exact_at_its_ends() {
        assert_eq!(
            over([10, 20, 30, 255], [200, 200, 200, 255]),
            [10, 20, 30, 255]
        );
        assert_eq!(
            over([10, 20, 30, 0], [200, 100, 50, 255]),
            [200, 100, 50, 255]
        );
        assert_eq!(over([0, 0, 0, 0], [200, 100, 50, 128]), [200, 100, 50, 128]);
        assert_eq!(over([0; 4], [1, 2, 3, 0]), [0; 4]);
        assert_eq!(over([255, 0, 0, 128], [0, 0, 255, 255]), [128, 0, 127, 255]);
        // Half red over half blue: three quarters seen, two thirds of it red.
        assert_eq!(over([255, 0, 0, 128], [0, 0, 255, 128]), [170, 0, 85, 192]);
    }

    #[test]
    fn the_subject_is_found_and_haze_is_not() {
        let mut data = vec![0; 20 * 10];
        data[4 * 20 + 7] = 255;
        data[6 * 20 + 9] = 200;
        data[0] = SUBJECT_ALPHA - 1;
        let matte = Raster::new(20, 10, Channels::Gray, data).unwrap();
        assert_eq!(
            visible_area(&matte, SUBJECT_ALPHA),
            Some(Frame::between(7, 4, 10, 7))
        );
        let nothing = Raster::new(20, 10, Channels::Gray, vec![0; 200]).unwrap();
        assert_eq!(visible_area(&nothing, SUBJECT_ALPHA), None);
    }
}
