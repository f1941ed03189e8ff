//! What marks the finished canvas, after everything else: a picture or a text that is seen, and a payload that is not.
//!
//! Invariants: what is seen is laid on first, so that the payload lies over it; on a transparent canvas a visible mark is part of
//! the picture, with an alpha of its own.

mod blend;
pub mod invisible;
mod place;
mod text;

use atelier_schemas::Watermark;
use atelier_stores::{Raster, raster::Channels};

use crate::{ComposeError, ComposeOptions, background};

/// The opacity of a mark that names none.
const DEFAULT_OPACITY: f32 = 0.5;

/// What to mark a picture with.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'a> {
    /// What was asked for.
    pub watermark: &'a Watermark,
    /// The mark's picture, where it has one.
    pub file: Option<&'a [u8]>,
}

impl Mark<'_> {
    /// Marks `canvas`. Blocks, and uses all cores.
    ///
    /// # Errors
    /// [`ComposeError`], all of them permanent.
    pub(crate) fn lay_on(
        &self,
        canvas: Raster,
        options: &ComposeOptions,
    ) -> Result<Raster, ComposeError> {
        let Some(invisible) = &self.watermark.invisible else {
            return self.lay_visible_on(canvas, options);
        };
        let payload = invisible
            .bytes()
            .map_err(|message| ComposeError::PayloadUnusable { message })?;
        let canvas = self.lay_visible_on(canvas, options)?;
        Ok(invisible::embed(&canvas, &payload)?)
    }

    fn lay_visible_on(
        &self,
        canvas: Raster,
        options: &ComposeOptions,
    ) -> Result<Raster, ComposeError> {
        let mark = self.watermark;
        let limits = place::Limits::of(&canvas, mark);
        let picture = if let Some(text) = &mark.text {
            let color = mark.text_rgba().unwrap_or([255; 4]);
            text::draw(
                text,
                mark.text_size_px,
                color,
                limits,
                &options.watermark_fonts,
            )?
        } else if mark.is_visible() {
            let file = self.file.ok_or(ComposeError::WatermarkMissing)?;
            place::fitted(&decoded(file, options)?, limits)?
        } else {
            return Ok(canvas);
        };
        let opacity = mark.opacity.unwrap_or(DEFAULT_OPACITY);
        let placed = place::Placed::new(&picture, &canvas, mark);
        Ok(blend::blend(canvas, &placed, mark.blend, opacity)?)
    }
}

/// The mark's picture as RGBA.
fn decoded(file: &[u8], options: &ComposeOptions) -> Result<Raster, ComposeError> {
    let picture = background::decode(file, options.max_background_pixels);
    let picture = picture.map_err(|error| match error {
        ComposeError::BackgroundUnusable { message } => ComposeError::WatermarkUnusable { message },
        ComposeError::BackgroundTooLarge { message } => ComposeError::WatermarkTooLarge { message },
        other => other,
    })?;
    let (width, height) = (picture.width(), picture.height());
    let pixels = picture.into_rgba8().into_raw();
    Ok(Raster::new(width, height, Channels::Rgba, pixels)?)
}
