//! Shadows that are drawn from the matte alone.

use atelier_schemas::{placement::Length, shadow::Shadow};
use atelier_stores::{Raster, raster::Channels};

use crate::{
    ComposeError,
    place::{self, Frame},
    soften::soften,
};

/// What percent are of: the longer side of the subject.
const USUAL_DROP_BLUR: Length = Length::Percent(2.0);
const USUAL_DROP_OFFSET_X: Length = Length::Percent(1.5);
const USUAL_DROP_OFFSET_Y: Length = Length::Percent(2.5);
const USUAL_CONTACT_BLUR: Length = Length::Percent(0.8);
/// Widest blur, as a share of the longer side of the subject.
const MAX_BLUR_SHARE: f32 = 0.25;
/// Alpha from which the subject stands on the ground rather than floats over it as a haze.
const SOLID_ALPHA: u8 = 128;
/// How far above its lowest point a subject still touches the ground, as a share of its height.
const CONTACT_BAND_SHARE: f32 = 0.08;
/// Half of the thickness of what touches the ground, as shares of the subject's width and height.
const THICKNESS_SHARES: (f32, f32) = (0.010, 0.006);
/// The soft part of a contact shadow is so much wider than the dark one, from left to right and from top to bottom.
const SOFT_PART: (f32, f32) = (5.0, 2.0);
/// The ground is seen at a slant: a blur is so much narrower from top to bottom.
const SLANT: f32 = 0.5;
/// How much of a contact shadow is its dark part.
const DARK_SHARE: f32 = 0.6;

fn blur_px(subject: Frame, shadow: &Shadow, usual: Length) -> f32 {
    let longer_px = subject.longer_side_px();
    shadow
        .blur
        .unwrap_or(usual)
        .of(longer_px)
        .clamp(0.0, longer_px * MAX_BLUR_SHARE)
}

/// The outline of the subject, out of focus and moved.
pub(super) fn drop(
    alpha: &Raster,
    subject: Frame,
    shadow: &Shadow,
) -> Result<(Raster, Frame), ComposeError> {
    let sigma_px = blur_px(subject, shadow, USUAL_DROP_BLUR);
    let offset = |length: Option<Length>, usual: Length| {
        length.unwrap_or(usual).of(subject.longer_side_px()).round() as i64
    };
    let reach_px = (3.0 * sigma_px).ceil() as i64 + 1;
    let outline = subject.wider(reach_px, reach_px);
    let mask = soften(&place::cut(alpha, outline)?, sigma_px, sigma_px)?;
    let frame = Frame {
        left: outline.left + offset(shadow.offset_x, USUAL_DROP_OFFSET_X),
        top: outline.top + offset(shadow.offset_y, USUAL_DROP_OFFSET_Y),
        ..outline
    };
    Ok((mask, frame))
}

/// A dark line with a soft surrounding, flat on the ground, where the lowest part of the subject touches it.
pub(super) fn contact(
    alpha: &Raster,
    subject: Frame,
    shadow: &Shadow,
) -> Result<(Raster, Frame), ComposeError> {
    let sigma_px = blur_px(subject, shadow, USUAL_CONTACT_BLUR).max(0.5);
    let (soft_x, soft_y) = (sigma_px * SOFT_PART.0, sigma_px * SLANT * SOFT_PART.1);
    let (width, height) = (subject.width as f32, subject.height as f32);
    let band_px = (height * CONTACT_BAND_SHARE).ceil().max(2.0) as i64;
    let thickness_px = (width * THICKNESS_SHARES.0 + height * THICKNESS_SHARES.1)
        .round()
        .max(1.0) as i64;
    let (reach_x, reach_y) = ((3.0 * soft_x).ceil() as i64, (3.0 * soft_y).ceil() as i64);
    let frame = Frame::between(
        subject.left - reach_x,
        subject.bottom() - band_px - thickness_px - reach_y,
        subject.right() + reach_x,
        subject.bottom() + thickness_px + reach_y,
    );
    let mut touching = vec![0; frame.width as usize * frame.height as usize];
    for x in subject.left..subject.right() {
        let band = (subject.bottom() - band_px).max(subject.top)..subject.bottom();
        let Some(foot) = band
            .rev()
            .find(|y| alpha.row(*y as u32)[x as usize] >= SOLID_ALPHA)
        else {
            continue;
        };
        let above = (subject.bottom() - 1 - foot) as f32 / band_px as f32;
        let value = ((1.0 - above) * 255.0).round() as u8;
        for y in foot - thickness_px..=foot + thickness_px {
            let at = (y - frame.top) as usize * frame.width as usize + (x - frame.left) as usize;
            touching[at] = value;
        }
    }
    let touching = Raster::new(frame.width, frame.height, Channels::Gray, touching)?;
    let dark = soften(&touching, sigma_px, sigma_px * SLANT)?;
    let soft = soften(&touching, soft_x, soft_y)?;
    let (dark_peak, soft_peak) = (peak(&dark), peak(&soft));
    let mask = dark
        .data()
        .iter()
        .zip(soft.data())
        .map(|(dark, soft)| {
            let mixed = f32::from(*dark) / dark_peak * DARK_SHARE
                + f32::from(*soft) / soft_peak * (1.0 - DARK_SHARE);
            (mixed * 255.0).round().min(255.0) as u8
        })
        .collect();
    let mask = Raster::new(frame.width, frame.height, Channels::Gray, mask)?;
    Ok((mask, frame))
}

/// The darkest value, and 1 where there is nothing.
fn peak(mask: &Raster) -> f32 {
    f32::from(mask.data().iter().copied().max().unwrap_or(0).max(1))
}
