//! A line of text as a picture: the letters one by one with their kerning, from left to right.
//!
//! Invariant: every sign is drawn or refused by name; there are no boxes for signs that no font has.

use std::path::{Path, PathBuf};

use ab_glyph::{Font as _, FontVec, Glyph, GlyphId, OutlinedGlyph, PxScale, ScaleFont as _, point};
use atelier_stores::{Raster, raster::Channels};

use super::place::Limits;
use crate::ComposeError;

/// Latin, Greek and Cyrillic; where it is from stands beside it.
const SHIPPED_FONT: &[u8] = include_bytes!("../../fonts/DejaVuSans-subset.ttf");
/// The size that a text is measured at, in pixels.
const MEASURED_AT_PX: f32 = 100.0;
const MIN_SIZE_PX: f32 = 1.0;
/// Scripts whose letters join, stack or run to the left, from the first to the last: they need more than letters side by side.
const JOINED_SCRIPTS: [(char, char); 7] = [
    ('\u{0590}', '\u{08ff}'),
    ('\u{0900}', '\u{109f}'),
    ('\u{1780}', '\u{18af}'),
    ('\u{1900}', '\u{1cff}'),
    ('\u{200c}', '\u{200f}'),
    ('\u{a800}', '\u{abff}'),
    ('\u{fb1d}', '\u{fdff}'),
];

/// Draws `text` in `color`: its line `size_px` high, or as wide as `limits` say, and never larger than they allow.
/// `more_fonts` are looked into for what the shipped font has not.
pub(super) fn draw(
    text: &str,
    size_px: Option<f32>,
    color: [u8; 4],
    limits: Limits,
    more_fonts: &[PathBuf],
) -> Result<Raster, ComposeError> {
    let line = Line::new(text, more_fonts)?;
    let measured = line.outlines(MEASURED_AT_PX);
    let ink = ink(&measured).ok_or(ComposeError::WatermarkEmpty)?;
    let wanted = size_px.unwrap_or(MEASURED_AT_PX * limits.width_px / ink.width());
    let fitting = (limits.max_width_px / ink.width()).min(limits.max_height_px / ink.height());
    let outlines = line.outlines(wanted.min(MEASURED_AT_PX * fitting).max(MIN_SIZE_PX));
    rastered(&outlines, color, limits)
}

/// What there is to be seen, in pixels.
fn ink(outlines: &[OutlinedGlyph]) -> Option<ab_glyph::Rect> {
    let bounds = outlines.iter().map(OutlinedGlyph::px_bounds);
    bounds.reduce(|all, next| ab_glyph::Rect {
        min: point(all.min.x.min(next.min.x), all.min.y.min(next.min.y)),
        max: point(all.max.x.max(next.max.x), all.max.y.max(next.max.y)),
    })
}

fn rastered(
    outlines: &[OutlinedGlyph],
    color: [u8; 4],
    limits: Limits,
) -> Result<Raster, ComposeError> {
    let ink = ink(outlines).ok_or(ComposeError::WatermarkEmpty)?;
    let length = |px: f32, most: f32| (px.ceil().max(1.0) as u32).min(most as u32);
    let width = length(ink.width(), limits.max_width_px);
    let height = length(ink.height(), limits.max_height_px);
    let mut coverages = vec![0.0_f32; width as usize * height as usize];
    for outline in outlines {
        let corner = outline.px_bounds().min;
        let (left, top) = ((corner.x - ink.min.x) as u32, (corner.y - ink.min.y) as u32);
        outline.draw(|x, y, coverage| {
            let (x, y) = (left + x, top + y);
            if x < width && y < height {
                // Letters that overlap cover no more than everything.
                let sum = &mut coverages[y as usize * width as usize + x as usize];
                *sum = (*sum + coverage).min(1.0);
            }
        });
    }
    let [red, green, blue, alpha] = color;
    let pixels = coverages.iter().flat_map(|coverage| {
        [
            red,
            green,
            blue,
            (coverage * f32::from(alpha)).round() as u8,
        ]
    });
    Ok(Raster::new(
        width,
        height,
        Channels::Rgba,
        pixels.collect(),
    )?)
}

/// Signs with the font that each is drawn by.
struct Line {
    fonts: Vec<FontVec>,
    signs: Vec<(usize, GlyphId)>,
}

impl Line {
    fn new(text: &str, more_fonts: &[PathBuf]) -> Result<Self, ComposeError> {
        let mut fonts = vec![font(SHIPPED_FONT.to_vec(), Path::new("the shipped font"))?];
        let mut waiting = more_fonts.iter();
        let mut signs = Vec::new();
        for sign in text.chars() {
            if JOINED_SCRIPTS
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&sign))
            {
                return Err(ComposeError::WatermarkScript { sign });
            }
            let found = loop {
                let has_it = |(index, font): (usize, &FontVec)| {
                    let glyph = font.glyph_id(sign);
                    (glyph != GlyphId(0)).then_some((index, glyph))
                };
                if let Some(found) = fonts.iter().enumerate().find_map(has_it) {
                    break found;
                }
                let path = waiting.next().ok_or(ComposeError::WatermarkSign { sign })?;
                let bytes = std::fs::read(path);
                let bytes = bytes.map_err(|error| unusable(path, &error))?;
                fonts.push(font(bytes, path)?);
            };
            signs.push(found);
        }
        Ok(Self { fonts, signs })
    }

    /// The outlines of everything that can be seen, in a line of `size_px`.
    fn outlines(&self, size_px: f32) -> Vec<OutlinedGlyph> {
        let scale = PxScale::from(size_px);
        let mut outlines = Vec::with_capacity(self.signs.len());
        let mut x = 0.0;
        let mut last = None;
        for (index, id) in &self.signs {
            let font = &self.fonts[*index];
            let scaled = font.as_scaled(scale);
            if let Some((last_index, last_id)) = last
                && last_index == *index
            {
                x += scaled.kern(last_id, *id);
            }
            let glyph = Glyph {
                id: *id,
                scale,
                position: point(x, 0.0),
            };
            outlines.extend(font.outline_glyph(glyph));
            x += scaled.h_advance(*id);
            last = Some((*index, *id));
        }
        outlines
    }
}

fn font(bytes: Vec<u8>, path: &Path) -> Result<FontVec, ComposeError> {
    FontVec::try_from_vec(bytes).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> ComposeError {
    ComposeError::WatermarkFont {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        width_px: 200.0,
        max_width_px: 400.0,
        max_height_px: 300.0,
    };

    #[test]
    fn a_text_is_as_wide_as_asked_for_and_has_its_colour() {
        for text in ["© Atelier 2026", "Ñandú Žluť", "Ателье", "Ατελιέ №5"] {
            let drawn = draw(text, None, [10, 20, 30, 255], LIMITS, &[]).unwrap();
            assert!(
                drawn.width().abs_diff(200) <= 3,
                "{text}: {}",
                drawn.width()
            );
            let pixels = drawn.data().as_chunks::<4>().0;
            assert!(pixels.iter().all(|pixel| pixel[..3] == [10, 20, 30]));
            let inked = pixels.iter().filter(|pixel| pixel[3] > 128).count();
            assert!(
                inked * 20 > pixels.len() * 3 && inked * 10 < pixels.len() * 7,
                "{text}: {inked}"
            );
        }
    }

    #[test]
    fn a_text_that_is_too_large_is_made_smaller() {
        let drawn = draw("Atelier", Some(2000.0), [0, 0, 0, 255], LIMITS, &[]).unwrap();
        assert!(
            drawn.width() <= 400 && drawn.width() > 390,
            "{}",
            drawn.width()
        );
        let low = Limits {
            max_height_px: 10.0,
            ..LIMITS
        };
        assert!(draw("Ä", None, [0, 0, 0, 255], low, &[]).unwrap().height() <= 10);
    }

    #[test]
    fn a_sign_that_no_font_has_is_named() {
        let refused = |text: &str, fonts: &[PathBuf]| {
            draw(text, None, [0; 4], LIMITS, fonts)
                .unwrap_err()
                .to_string()
        };
        assert!(refused("Atelier 服", &[]).contains("`服`"));
        assert!(refused("سلام", &[]).contains("`س`"));
        assert!(refused("服", &["/no/such/font.ttf".into()]).contains("/no/such/font.ttf"));
        assert_eq!(refused(" ", &[]), ComposeError::WatermarkEmpty.to_string());
    }
}
