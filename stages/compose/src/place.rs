//! Where on the canvas a picture's pixels go: crop, margin, canvas size, scale and position brought into one scaling and shift.

use atelier_schemas::{
    OutputOptions,
    events::SubjectBox,
    output::{CanvasSize, Crop, MAX_CANVAS_PIXELS},
    placement::{Length, Margin, Position, Scale},
};
use atelier_stores::Raster;

use crate::{
    ComposeError,
    resample::{self, Part},
};

/// A rectangle in pixels of the upright picture; it may reach beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub left: i64,
    pub top: i64,
    pub width: u32,
    pub height: u32,
}

impl Frame {
    /// The whole of `raster`.
    pub fn of(raster: &Raster) -> Self {
        Self {
            left: 0,
            top: 0,
            width: raster.width(),
            height: raster.height(),
        }
    }

    /// Between these edges; at least one pixel wide and high.
    pub fn between(left: i64, top: i64, right: i64, bottom: i64) -> Self {
        let side = |from: i64, to: i64| (to - from).clamp(1, i64::from(u32::MAX)) as u32;
        Self {
            left,
            top,
            width: side(left, right),
            height: side(top, bottom),
        }
    }

    /// One past the last column.
    pub fn right(&self) -> i64 {
        self.left + i64::from(self.width)
    }

    /// One past the last row.
    pub fn bottom(&self) -> i64 {
        self.top + i64::from(self.height)
    }

    /// The longer side in pixels.
    pub fn longer_side_px(&self) -> f32 {
        self.width.max(self.height) as f32
    }

    /// The smallest that holds both.
    pub fn with(&self, other: &Self) -> Self {
        Self::between(
            self.left.min(other.left),
            self.top.min(other.top),
            self.right().max(other.right()),
            self.bottom().max(other.bottom()),
        )
    }

    /// What both share; `None` where that is nothing.
    pub fn shared(&self, other: &Self) -> Option<Self> {
        let (left, top) = (self.left.max(other.left), self.top.max(other.top));
        let (right, bottom) = (
            self.right().min(other.right()),
            self.bottom().min(other.bottom()),
        );
        (left < right && top < bottom).then(|| Self::between(left, top, right, bottom))
    }

    /// Larger by so many pixels on every side.
    pub fn wider(&self, x_px: i64, y_px: i64) -> Self {
        Self::between(
            self.left - x_px,
            self.top - y_px,
            self.right() + x_px,
            self.bottom() + y_px,
        )
    }
}

/// The part of the picture that the canvas is about: all of it, or the subject with its shadow and margin.
pub(crate) fn frame(
    whole: Frame,
    subject: Option<Frame>,
    shadow: Option<Frame>,
    output: &OutputOptions,
) -> Frame {
    let (Crop::Subject, Some(subject)) = (output.crop, subject) else {
        return whole;
    };
    let content = shadow.map_or(subject, |shadow| subject.with(&shadow));
    let margin = output
        .crop_margin
        .unwrap_or_else(|| Margin::even(Length::Px(output.crop_margin_px as f32)));
    let [top, right, bottom, left] = margin.sides();
    let pixels = |length: Length, side_px: u32| length.of(side_px as f32).round() as i64;
    Frame::between(
        content.left - pixels(left, subject.width),
        content.top - pixels(top, subject.height),
        content.right() + pixels(right, subject.width),
        content.bottom() + pixels(bottom, subject.height),
    )
}

/// Which pixel of the canvas shows which of the picture: canvas = picture × `scale` + shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placement {
    pub width: u32,
    pub height: u32,
    pub frame: Frame,
    scale: f64,
    shift_x: f64,
    shift_y: f64,
}

impl Placement {
    /// The placement that `output` asks for.
    ///
    /// # Errors
    /// [`ComposeError::CanvasTooLarge`].
    pub fn plan(
        whole: Frame,
        frame: Frame,
        subject: Frame,
        output: &OutputOptions,
    ) -> Result<Self, ComposeError> {
        let canvas = output.size.unwrap_or(CanvasSize {
            width: frame.width,
            height: frame.height,
        });
        let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height);
        let limit = MAX_CANVAS_PIXELS.max(pixels(whole.width, whole.height));
        if pixels(canvas.width, canvas.height) > limit {
            return Err(ComposeError::CanvasTooLarge {
                width: canvas.width,
                height: canvas.height,
                limit,
            });
        }
        let scale = output.scale.unwrap_or(match output.size {
            Some(_) => Scale::Fit,
            None => Scale::Original,
        });
        let position = output.position.unwrap_or(match (output.size, scale) {
            (None, Scale::Original) => Position::Original,
            _ => Position::CENTER,
        });
        let placed = if scale == Scale::Fit { frame } else { subject };
        let filling = (f64::from(canvas.width) / f64::from(placed.width))
            .min(f64::from(canvas.height) / f64::from(placed.height));
        let scale = match scale {
            Scale::Original => 1.0,
            Scale::Fit => filling,
            Scale::Percent(percent) => filling * f64::from(percent) / 100.0,
        };
        let (x_share, y_share) = match position {
            Position::Original => (None, None),
            Position::At {
                x_percent,
                y_percent,
            } => (Some(x_percent), Some(y_percent)),
        };
        Ok(Self {
            width: canvas.width,
            height: canvas.height,
            frame,
            scale,
            shift_x: shift(
                x_share,
                scale,
                canvas.width,
                (placed.left, placed.width),
                (frame.left, frame.width),
            ),
            shift_y: shift(
                y_share,
                scale,
                canvas.height,
                (placed.top, placed.height),
                (frame.top, frame.height),
            ),
        })
    }

    /// Where `frame` is on the canvas, with what lies beyond its border.
    fn on_canvas(&self, frame: Frame) -> Frame {
        let at = |edge: i64, shift: f64| (edge as f64 * self.scale + shift).round() as i64;
        Frame::between(
            at(frame.left, self.shift_x),
            at(frame.top, self.shift_y),
            at(frame.right(), self.shift_x),
            at(frame.bottom(), self.shift_y),
        )
    }

    /// What of `subject` the finished picture shows, where the canvas is made `width × height` in the end.
    pub fn shown(&self, subject: Frame, width: u32, height: u32) -> Option<SubjectBox> {
        let whole = Frame::between(0, 0, i64::from(self.width), i64::from(self.height));
        let shown = self.on_canvas(subject).shared(&whole)?;
        let scaled = |edge: i64, side: u32, of: u32| {
            (edge as f64 * f64::from(side) / f64::from(of)).round() as u32
        };
        let (left, top) = (
            scaled(shown.left, width, self.width),
            scaled(shown.top, height, self.height),
        );
        Some(SubjectBox {
            left: left.min(width.saturating_sub(1)),
            top: top.min(height.saturating_sub(1)),
            width: (scaled(shown.right(), width, self.width) - left).max(1),
            height: (scaled(shown.bottom(), height, self.height) - top).max(1),
        })
    }

    /// The canvas with `layer` on it, whose pixels are those of `frame`; transparent beyond it.
    pub fn draw(&self, layer: Raster, frame: Frame) -> Result<Raster, ComposeError> {
        let canvas = Frame::between(0, 0, i64::from(self.width), i64::from(self.height));
        let target = self.on_canvas(frame);
        if target == canvas && self.scale == 1.0 {
            return Ok(layer);
        }
        let Some(shown) = target.shared(&canvas) else {
            return laid(None, canvas, &layer);
        };
        let (from_x, from_y) = (
            (shown.left - target.left) as u32,
            (shown.top - target.top) as u32,
        );
        if self.scale == 1.0 {
            return laid(Some((shown, from_x, from_y)), canvas, &layer);
        }
        let per_x = f64::from(layer.width()) / f64::from(target.width);
        let per_y = f64::from(layer.height()) / f64::from(target.height);
        let (left, top) = (f64::from(from_x) * per_x, f64::from(from_y) * per_y);
        let part = Part {
            left,
            top,
            // Rounding must not reach beyond the picture.
            width: (f64::from(shown.width) * per_x).min(f64::from(layer.width()) - left),
            height: (f64::from(shown.height) * per_y).min(f64::from(layer.height()) - top),
        };
        let scaled = resample::part_to_size(&layer, part, shown.width, shown.height)?;
        laid(Some((shown, 0, 0)), canvas, &scaled)
    }
}

/// An empty canvas with the part of `source` that begins at the two numbers laid on `shown`.
fn laid(
    what: Option<(Frame, u32, u32)>,
    canvas: Frame,
    source: &Raster,
) -> Result<Raster, ComposeError> {
    let bytes = source.channels().count();
    let mut data = vec![0; canvas.width as usize * canvas.height as usize * bytes];
    if let Some((shown, from_x, from_y)) = what {
        let stride = canvas.width as usize * bytes;
        let length = shown.width as usize * bytes;
        let rows = data
            .chunks_exact_mut(stride)
            .skip(shown.top as usize)
            .take(shown.height as usize);
        for (y, row) in rows.enumerate() {
            let begin = from_x as usize * bytes;
            let colors = source.row(from_y + y as u32);
            let at = shown.left as usize * bytes;
            row[at..at + length].copy_from_slice(&colors[begin..begin + length]);
        }
    }
    Ok(Raster::new(
        canvas.width,
        canvas.height,
        source.channels(),
        data,
    )?)
}

/// The part of `source` under `frame`, empty where it reaches beyond it.
pub(crate) fn cut(source: &Raster, frame: Frame) -> Result<Raster, ComposeError> {
    let shown = frame.shared(&Frame::of(source)).map(|shared| {
        let on_canvas = Frame {
            left: shared.left - frame.left,
            top: shared.top - frame.top,
            ..shared
        };
        (on_canvas, shared.left as u32, shared.top as u32)
    });
    laid(shown, frame, source)
}

/// How far scaled pixels are moved along one axis, so that what is `placed` (from, length) lies at `share` percent of the room
/// that it leaves of `canvas` pixels, or in proportion where it lay in `frame`.
fn shift(
    share: Option<f32>,
    scale: f64,
    canvas: u32,
    placed: (i64, u32),
    frame: (i64, u32),
) -> f64 {
    let (from, length) = (placed.0 as f64, f64::from(placed.1));
    let begins = match share {
        Some(percent) => f64::from(percent) / 100.0 * (f64::from(canvas) - scale * length),
        None => {
            let middle = from + length / 2.0 - frame.0 as f64;
            middle * (f64::from(canvas) / f64::from(frame.1)) - scale * length / 2.0
        }
    };
    let shift = begins - scale * from;
    // Unscaled pixels fall on pixels: nothing is resampled.
    if scale == 1.0 { shift.round() } else { shift }
}

#[cfg(test)]
mod tests {
    use atelier_stores::raster::Channels;

    use super::*;

    fn planned(output: &str) -> (Placement, Frame) {
        let output: OutputOptions = serde_json::from_str(output).unwrap();
        let whole = Frame::between(0, 0, 100, 80);
        let subject = Frame::between(20, 30, 40, 70);
        let frame = frame(whole, Some(subject), None, &output);
        (
            Placement::plan(whole, frame, subject, &output).unwrap(),
            subject,
        )
    }

    fn shown(output: &str) -> ((u32, u32), (u32, u32, u32, u32)) {
        let (placement, subject) = planned(output);
        let size = (placement.width, placement.height);
        let found = placement.shown(subject, size.0, size.1).unwrap();
        (size, (found.left, found.top, found.width, found.height))
    }

    #[test]
    fn the_subject_is_where_it_was_asked_to_be() {
        for (output, canvas, subject) in [
            ("{}", (100, 80), (20, 30, 20, 40)),
            (r#"{"crop":"subject"}"#, (20, 40), (0, 0, 20, 40)),
            (
                r#"{"crop":"subject","cropMargin":"10% 5px 25% 50%"}"#,
                (35, 54),
                (10, 4, 20, 40),
            ),
            (
                r#"{"crop":"subject","cropMarginPx":50}"#,
                (120, 140),
                (50, 50, 20, 40),
            ),
            (r#"{"position":"center"}"#, (100, 80), (40, 20, 20, 40)),
            (r#"{"position":"0%"}"#, (100, 80), (0, 0, 20, 40)),
            (
                r#"{"position":"bottom-right"}"#,
                (100, 80),
                (80, 40, 20, 40),
            ),
            (r#"{"scale":"100%"}"#, (100, 80), (30, 0, 40, 80)),
            (
                r#"{"scale":"50%","position":"100% 0%"}"#,
                (100, 80),
                (80, 0, 20, 40),
            ),
            (
                r#"{"scale":"25%","position":"original"}"#,
                (100, 80),
                (25, 40, 10, 20),
            ),
            (
                r#"{"size":{"width":200,"height":200}}"#,
                (200, 200),
                (40, 80, 40, 80),
            ),
            (
                r#"{"crop":"subject","size":{"width":300,"height":100},"position":"left"}"#,
                (300, 100),
                (0, 0, 50, 100),
            ),
            (
                r#"{"size":{"width":60,"height":60},"scale":"original"}"#,
                (60, 60),
                (20, 10, 20, 40),
            ),
        ] {
            assert_eq!(shown(output), (canvas, subject), "{output}");
        }
    }

    #[test]
    fn drawing_moves_every_pixel_and_leaves_the_rest_empty() {
        let data: Vec<u8> = (0..80_u32)
            .flat_map(|y| (0..100_u32).map(move |x| (x + y) as u8 + 1))
            .collect();
        let layer = Raster::new(100, 80, Channels::Gray, data).unwrap();
        let (placement, _) = planned(r#"{"crop":"subject","cropMarginPx":50}"#);
        let canvas = placement.draw(layer.clone(), Frame::of(&layer)).unwrap();
        // The frame begins 30 to the left of the picture and 20 above it.
        assert_eq!(canvas.row(20)[30], layer.row(0)[0]);
        assert_eq!(canvas.row(99)[119], layer.row(79)[89]);
        assert_eq!(
            (canvas.row(20)[29], canvas.row(19)[30], canvas.row(100)[40]),
            (0, 0, 0)
        );
        let (placement, _) = planned(r#"{"scale":"50%","position":"0%"}"#);
        let canvas = placement.draw(layer.clone(), Frame::of(&layer)).unwrap();
        assert_eq!((canvas.width(), canvas.height()), (100, 80));
        assert_eq!(canvas.row(0)[0], layer.row(30)[20]);
    }
}
