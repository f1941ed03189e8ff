//! The shadow under a subject: drawn from the matte, or the picture's own.
//!
//! Invariant: a shadow is a layer of its own, a colour and a mask in pixels of the upright picture, which may reach beyond it.
//! It lies under the subject and over the background.

mod draw;
mod keep;

use atelier_schemas::shadow::{Shadow, ShadowKind, ShadowOutcome};
use atelier_stores::{Raster, raster::Channels};
use rayon::prelude::*;

use crate::{
    ComposeError, canvas,
    place::{Frame, Placement},
};

/// How dark a drawn shadow is where nothing else was asked for.
const DRAWN_OPACITY: f32 = 0.5;
/// Mask from which a shadow counts as visible when cropping: its tails are much wider than anybody sees.
const VISIBLE: u8 = 8;

/// A shadow.
pub(crate) struct Layer {
    /// How dark it is, as grey.
    mask: Raster,
    /// Where the mask lies.
    frame: Frame,
    color: [u8; 3],
}

/// The shadow that was asked for, and what became of it. `subject` is the box of `alpha`.
pub(crate) fn layer(
    picture: &Raster,
    alpha: &Raster,
    subject: Option<Frame>,
    wanted: &Shadow,
) -> Result<(Option<Layer>, Option<ShadowOutcome>), ComposeError> {
    if wanted.is_none() {
        return Ok((None, None));
    }
    let Some(subject) = subject else {
        return Ok((None, Some(ShadowOutcome::NotFound)));
    };
    let (mask, frame, usual_opacity, outcome) = match wanted.kind {
        ShadowKind::Keep => match keep::estimate(picture, alpha)? {
            keep::Estimate::Found(mask) => {
                let frame = Frame::of(&mask);
                (mask, frame, 1.0, ShadowOutcome::Kept)
            }
            keep::Estimate::None => return Ok((None, Some(ShadowOutcome::NotFound))),
            keep::Estimate::TooBusy => {
                return Ok((None, Some(ShadowOutcome::BackgroundTooBusy)));
            }
        },
        ShadowKind::Contact if subject.bottom() >= i64::from(alpha.height()) => {
            return Ok((None, Some(ShadowOutcome::NoGround)));
        }
        ShadowKind::Contact => {
            let (mask, frame) = draw::contact(alpha, subject, wanted)?;
            (mask, frame, DRAWN_OPACITY, ShadowOutcome::Drawn)
        }
        ShadowKind::None | ShadowKind::Drop | ShadowKind::Auto => {
            let (mask, frame) = draw::drop(alpha, subject, wanted)?;
            (mask, frame, DRAWN_OPACITY, ShadowOutcome::Drawn)
        }
    };
    let [red, green, blue, alpha] = wanted.color.map_or([0, 0, 0, 255], |color| color.0);
    let opacity =
        wanted.opacity.unwrap_or(usual_opacity).clamp(0.0, 1.0) * f32::from(alpha) / 255.0;
    let (width, height) = (mask.width(), mask.height());
    let mut data = mask.into_data();
    data.par_iter_mut()
        .for_each(|value| *value = (f32::from(*value) * opacity).round() as u8);
    let layer = Layer {
        mask: Raster::new(width, height, Channels::Gray, data)?,
        frame,
        color: [red, green, blue],
    };
    Ok((Some(layer), Some(outcome)))
}

impl Layer {
    /// The box of what is seen of it.
    pub fn visible(&self) -> Option<Frame> {
        canvas::visible_area(&self.mask, VISIBLE).map(|area| Frame {
            left: self.frame.left + area.left,
            top: self.frame.top + area.top,
            ..area
        })
    }

    /// `drawn` (RGBA or grey alpha, on the canvas of `placement`) with the shadow under it.
    pub fn under(self, drawn: Raster, placement: &Placement) -> Result<Raster, ComposeError> {
        let shadow = placement.draw(self.mask, self.frame)?;
        let (width, height, channels) = (drawn.width(), drawn.height(), drawn.channels());
        let [red, green, blue] = self.color;
        let mut data = drawn.into_data();
        if channels == Channels::Gray {
            data.par_iter_mut()
                .zip(shadow.data())
                .for_each(|(alpha, shadow)| {
                    *alpha = canvas::over([0, 0, 0, *alpha], [0, 0, 0, *shadow])[3];
                });
        } else {
            data.as_chunks_mut::<4>()
                .0
                .par_iter_mut()
                .zip(shadow.data())
                .for_each(|(pixel, shadow)| {
                    *pixel = canvas::over(*pixel, [red, green, blue, *shadow]);
                });
        }
        Ok(Raster::new(width, height, channels, data)?)
    }
}
