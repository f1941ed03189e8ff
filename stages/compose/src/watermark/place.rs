//! How large a mark is and where it lies: once, or repeated over the canvas.

use atelier_schemas::{
    Watermark,
    watermark::{Position, Tile},
};
use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use crate::ComposeError;

/// Width of a mark that names no scale, as a share of the canvas's.
const DEFAULT_SCALE: f32 = 0.25;
/// Space between a mark at a named place and the border, as a share of the canvas's shorter side.
const MARGIN: f32 = 0.02;

/// What a mark must fit, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// How wide it shall be.
    pub width_px: f32,
    /// The canvas's width.
    pub max_width_px: f32,
    /// The canvas's height.
    pub max_height_px: f32,
}

impl Limits {
    pub fn of(canvas: &Raster, mark: &Watermark) -> Self {
        let max_width_px = canvas.width() as f32;
        Self {
            width_px: max_width_px * mark.scale.unwrap_or(DEFAULT_SCALE),
            max_width_px,
            max_height_px: canvas.height() as f32,
        }
    }
}

/// `mark` (RGBA) as wide as `limits` say.
pub(super) fn fitted(mark: &Raster, limits: Limits) -> Result<Raster, ComposeError> {
    let (own_width, own_height) = (mark.width() as f32, mark.height() as f32);
    let factor = (limits.width_px / own_width).min(limits.max_height_px / own_height);
    let length = |own: f32| (own * factor).round().max(1.0) as u32;
    let (width, height) = (length(own_width), length(own_height));
    if (width, height) == (mark.width(), mark.height()) {
        return Ok(mark.clone());
    }
    let failed = |error: &dyn std::fmt::Display| ComposeError::WatermarkUnusable {
        message: error.to_string(),
    };
    let source = ImageRef::new(mark.width(), mark.height(), mark.data(), PixelType::U8x4)
        .map_err(|error| failed(&error))?;
    let mut target = Image::new(width, height, PixelType::U8x4);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| failed(&error))?;
    Ok(Raster::new(
        width,
        height,
        Channels::Rgba,
        target.into_vec(),
    )?)
}

/// A mark at its place.
pub(super) struct Placed<'a> {
    mark: &'a Raster,
    place: Place,
}

enum Place {
    /// Its left upper corner.
    Once { left: i64, top: i64 },
    /// Over and over.
    Tiled {
        /// From one mark to the next, along both axes, in pixels.
        step: (f64, f64),
        /// Sine and cosine of the angle.
        turn: (f64, f64),
        /// A point of the canvas where the middle of a mark lies.
        middle: (f64, f64),
    },
}

impl<'a> Placed<'a> {
    /// `mark` (RGBA) on `canvas`.
    pub fn new(mark: &'a Raster, canvas: &Raster, wanted: &Watermark) -> Self {
        let place = match wanted.tile {
            Some(tile) => tiled(mark, canvas, tile),
            None => once(mark, canvas, wanted.position.unwrap_or_default()),
        };
        Self { mark, place }
    }

    /// The mark's colour at a pixel of the canvas, straight RGBA from 0 to 1; `None` where it is not.
    pub fn at(&self, x: usize, y: usize) -> Option<[f32; 4]> {
        match self.place {
            Place::Once { left, top } => self.pixel(x as i64 - left, y as i64 - top),
            Place::Tiled {
                step,
                turn: (sine, cosine),
                middle,
            } => {
                let (right, down) = (x as f64 + 0.5 - middle.0, y as f64 + 0.5 - middle.1);
                let along = right * cosine + down * sine + f64::from(self.mark.width()) / 2.0;
                let across = down * cosine - right * sine + f64::from(self.mark.height()) / 2.0;
                self.between(
                    along.rem_euclid(step.0) - 0.5,
                    across.rem_euclid(step.1) - 0.5,
                )
            }
        }
    }

    fn pixel(&self, x: i64, y: i64) -> Option<[f32; 4]> {
        let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
        if x >= self.mark.width() || y >= self.mark.height() {
            return None;
        }
        let pixel = self.mark.row(y).as_chunks::<4>().0.get(x as usize)?;
        Some(pixel.map(|value| f32::from(value) / 255.0))
    }

    /// The colour between four pixels, each with as much weight as it can be seen.
    fn between(&self, x: f64, y: f64) -> Option<[f32; 4]> {
        let (left, top) = (x.floor(), y.floor());
        let (share_x, share_y) = ((x - left) as f32, (y - top) as f32);
        let mut sum = [0.0; 4];
        for (by, share_y) in [(0, 1.0 - share_y), (1, share_y)] {
            for (along, share_x) in [(0, 1.0 - share_x), (1, share_x)] {
                let pixel = self.pixel(left as i64 + along, top as i64 + by);
                let Some([red, green, blue, alpha]) = pixel else {
                    continue;
                };
                let weight = share_x * share_y * alpha;
                for (sum, value) in sum.iter_mut().zip([red, green, blue, 1.0]) {
                    *sum += weight * value;
                }
            }
        }
        let alpha = sum[3];
        (alpha > 0.0).then(|| [sum[0] / alpha, sum[1] / alpha, sum[2] / alpha, alpha])
    }
}

fn once(mark: &Raster, canvas: &Raster, position: Position) -> Place {
    let (percent, margin_px) = match position {
        Position::Named(anchor) => {
            let shorter = canvas.width().min(canvas.height()) as f32;
            (anchor.percent(), (shorter * MARGIN).round())
        }
        Position::Percent(percent) => (percent, 0.0),
    };
    let start = |canvas_px: u32, mark_px: u32, percent: f32| {
        let free_px = canvas_px as f32 - mark_px as f32;
        let margin_px = margin_px.min((free_px / 2.0).max(0.0));
        (margin_px + (free_px - 2.0 * margin_px) * percent / 100.0).round() as i64
    };
    Place::Once {
        left: start(canvas.width(), mark.width(), percent.x),
        top: start(canvas.height(), mark.height(), percent.y),
    }
}

fn tiled(mark: &Raster, canvas: &Raster, tile: Tile) -> Place {
    let space_px = f64::from((tile.spacing * mark.width() as f32).round());
    let (sine, cosine) = f64::from(tile.angle_degrees).to_radians().sin_cos();
    // Whole pixels, so that marks that are not turned stay as sharp as they are.
    let middle = |canvas_px: u32, mark_px: u32| {
        let start = (f64::from(canvas_px) - f64::from(mark_px)) / 2.0;
        start.floor() + f64::from(mark_px) / 2.0
    };
    Place::Tiled {
        step: (
            f64::from(mark.width()) + space_px,
            f64::from(mark.height()) + space_px,
        ),
        turn: (sine, cosine),
        middle: (
            middle(canvas.width(), mark.width()),
            middle(canvas.height(), mark.height()),
        ),
    }
}
