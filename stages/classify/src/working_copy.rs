//! The one small copy of a picture that every network is fed from.
//!
//! Invariants: at most [`MAX_SIDE_PX`] pixels a side, three colours, nothing see-through; what is fed to a network knows
//! how to bring a box back to the picture's own pixels.

use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use crate::{ClassifyError, boxes::Rect};

/// The largest network input; more pixels would be thrown away again.
pub(crate) const MAX_SIDE_PX: u32 = 640;
/// What see-through pixels are laid over: neither black nor white things vanish on it.
const GROUND_LEVEL: u32 = 128;

/// A small opaque RGB copy of a picture.
pub(crate) struct WorkingCopy {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    original_width: u32,
    original_height: u32,
}

/// The copy, made to fit a square, with bars where it is not square.
pub(crate) struct Letterbox {
    /// RGB, row after row.
    pub(crate) rgb: Vec<u8>,
    left_px: f32,
    top_px: f32,
    /// Picture pixels for one pixel of the square.
    scale_x: f32,
    scale_y: f32,
    original_width: f32,
    original_height: f32,
}

impl WorkingCopy {
    /// The copy of `raster`.
    pub(crate) fn of(raster: &Raster) -> Result<Self, ClassifyError> {
        let (original_width, original_height) = (raster.width(), raster.height());
        let (width, height) = fit(
            original_width,
            original_height,
            MAX_SIDE_PX.min(original_width.max(original_height)),
        );
        let pixel_type = match raster.channels() {
            Channels::Gray => PixelType::U8,
            Channels::Rgb => PixelType::U8x3,
            Channels::Rgba => PixelType::U8x4,
        };
        let data = if (width, height) == (original_width, original_height) {
            raster.data().to_vec()
        } else {
            // Transparent pixels are weighed by their alpha, so their colour does not bleed.
            resize(
                raster.data(),
                (original_width, original_height),
                (width, height),
                pixel_type,
            )?
        };
        let rgb = match raster.channels() {
            Channels::Rgb => data,
            Channels::Gray => data.into_iter().flat_map(|gray| [gray; 3]).collect(),
            Channels::Rgba => over_ground(&data),
        };
        Ok(Self {
            width,
            height,
            rgb,
            original_width,
            original_height,
        })
    }

    /// Width in pixels.
    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub(crate) fn height(&self) -> u32 {
        self.height
    }

    /// The colours, row after row.
    pub(crate) fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The copy within a square of `side_px`, its longest side `content_px`, in the middle, with bars of `bar_level`.
    pub(crate) fn letterbox(
        &self,
        side_px: u32,
        content_px: u32,
        bar_level: u8,
    ) -> Result<Letterbox, ClassifyError> {
        let (width, height) = fit(self.width, self.height, content_px.min(side_px));
        let content = if (width, height) == (self.width, self.height) {
            std::borrow::Cow::Borrowed(&self.rgb)
        } else {
            std::borrow::Cow::Owned(resize(
                &self.rgb,
                (self.width, self.height),
                (width, height),
                PixelType::U8x3,
            )?)
        };
        let (left, top) = ((side_px - width) / 2, (side_px - height) / 2);
        let mut rgb = vec![bar_level; (side_px * side_px * 3) as usize];
        let row_bytes = (width * 3) as usize;
        for (y, row) in content.chunks_exact(row_bytes).enumerate() {
            let start = ((top as usize + y) * side_px as usize + left as usize) * 3;
            rgb[start..start + row_bytes].copy_from_slice(row);
        }
        Ok(Letterbox {
            rgb,
            left_px: left as f32,
            top_px: top as f32,
            scale_x: self.original_width as f32 / width as f32,
            scale_y: self.original_height as f32 / height as f32,
            original_width: self.original_width as f32,
            original_height: self.original_height as f32,
        })
    }

    /// The whole copy as a square of `side_px`, its proportions not kept.
    pub(crate) fn stretched(&self, side_px: u32) -> Result<Vec<u8>, ClassifyError> {
        resize(
            &self.rgb,
            (self.width, self.height),
            (side_px, side_px),
            PixelType::U8x3,
        )
    }
}

impl Letterbox {
    /// A box of the square in pixels of the picture, cut at its edges.
    pub(crate) fn to_picture(&self, rect: &Rect) -> Rect {
        Rect {
            left: (rect.left - self.left_px) * self.scale_x,
            top: (rect.top - self.top_px) * self.scale_y,
            right: (rect.right - self.left_px) * self.scale_x,
            bottom: (rect.bottom - self.top_px) * self.scale_y,
        }
        .clipped(self.original_width, self.original_height)
    }
}

/// The size in the same proportions whose longest side is `side_px`; no side is less than one pixel.
fn fit(width: u32, height: u32, side_px: u32) -> (u32, u32) {
    let longest = u64::from(width.max(height));
    let scaled = |side: u32| {
        let rounded = (u64::from(side) * u64::from(side_px) + longest / 2) / longest;
        u32::try_from(rounded).unwrap_or(side_px).max(1)
    };
    (scaled(width), scaled(height))
}

fn resize(
    data: &[u8],
    from: (u32, u32),
    to: (u32, u32),
    pixel_type: PixelType,
) -> Result<Vec<u8>, ClassifyError> {
    let failed = |reason: String| ClassifyError::Resize {
        width: to.0,
        height: to.1,
        reason,
    };
    let source = ImageRef::new(from.0, from.1, data, pixel_type)
        .map_err(|error| failed(error.to_string()))?;
    let mut target = Image::new(to.0, to.1, pixel_type);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| failed(error.to_string()))?;
    Ok(target.into_vec())
}

fn over_ground(rgba: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for [red, green, blue, alpha] in rgba.as_chunks::<4>().0 {
        let alpha = u32::from(*alpha);
        let blend = |level: &u8| {
            ((u32::from(*level) * alpha + GROUND_LEVEL * (255 - alpha) + 127) / 255) as u8
        };
        rgb.extend([blend(red), blend(green), blend(blue)]);
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32, pixel: &[u8]) -> Raster {
        let channels = match pixel.len() {
            1 => Channels::Gray,
            3 => Channels::Rgb,
            _ => Channels::Rgba,
        };
        Raster::new(
            width,
            height,
            channels,
            pixel.repeat((width * height) as usize),
        )
        .unwrap()
    }

    #[test]
    fn large_pictures_become_small_and_small_ones_stay() {
        let large = WorkingCopy::of(&plain(3_000, 1_500, &[1, 2, 3])).unwrap();
        assert_eq!((large.width(), large.height()), (640, 320));
        let small = WorkingCopy::of(&plain(30, 50, &[9])).unwrap();
        assert_eq!(
            (small.width(), small.height(), &small.rgb()[..3]),
            (30, 50, &[9, 9, 9][..])
        );
        let thin = WorkingCopy::of(&plain(5_000, 1, &[1, 2, 3])).unwrap();
        assert_eq!((thin.width(), thin.height()), (640, 1));
    }

    #[test]
    fn see_through_pixels_are_laid_over_grey() {
        let clear = WorkingCopy::of(&plain(4, 4, &[255, 0, 0, 0])).unwrap();
        assert!(clear.rgb().iter().all(|level| *level == 128));
        let half = WorkingCopy::of(&plain(4, 4, &[255, 0, 128, 51])).unwrap();
        assert_eq!(half.rgb()[..3], [153, 102, 128]);
    }

    #[test]
    fn a_letterbox_has_bars_and_finds_back() {
        let copy = WorkingCopy::of(&plain(1_280, 640, &[200, 100, 50])).unwrap();
        let letterbox = copy.letterbox(320, 320, 7).unwrap();
        let at = |x: usize, y: usize| &letterbox.rgb[(y * 320 + x) * 3..][..3];
        assert_eq!(at(160, 79), [7, 7, 7]);
        assert_eq!(at(160, 80), [200, 100, 50]);
        assert_eq!(at(0, 239), [200, 100, 50]);
        assert_eq!(at(0, 240), [7, 7, 7]);
        let whole = letterbox.to_picture(&Rect {
            left: 0.0,
            top: 80.0,
            right: 320.0,
            bottom: 240.0,
        });
        assert_eq!(
            whole,
            Rect {
                left: 0.0,
                top: 0.0,
                right: 1_280.0,
                bottom: 640.0
            }
        );
        let beyond = letterbox.to_picture(&Rect {
            left: -9.0,
            top: 0.0,
            right: 10.0,
            bottom: 100.0,
        });
        assert_eq!(
            beyond,
            Rect {
                left: 0.0,
                top: 0.0,
                right: 40.0,
                bottom: 80.0
            }
        );
    }

    #[test]
    fn content_may_be_smaller_than_the_square() {
        let copy = WorkingCopy::of(&plain(100, 100, &[200, 100, 50])).unwrap();
        let letterbox = copy.letterbox(640, 320, 0).unwrap();
        let whole = letterbox.to_picture(&Rect {
            left: 160.0,
            top: 160.0,
            right: 480.0,
            bottom: 480.0,
        });
        assert_eq!(
            whole,
            Rect {
                left: 0.0,
                top: 0.0,
                right: 100.0,
                bottom: 100.0
            }
        );
        assert_eq!(copy.stretched(20).unwrap().len(), 20 * 20 * 3);
    }
}
