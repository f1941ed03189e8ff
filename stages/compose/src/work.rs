//! One picture from pixels and matte to three files.

use std::borrow::Cow;

use atelier_schemas::{
    Background, ImageFormat, OutputOptions, events::SubjectBox, output::Channels as Contents,
    shadow::ShadowOutcome,
};
use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::FilterType;
use rayon::prelude::*;

use crate::{
    ComposeError, ComposeOptions, Mark, background,
    canvas::{self, Backdrop},
    encode::{self, Encoded},
    gradient,
    place::{self, Frame, Placement},
    resample, restrict, shadow, smooth,
};

/// Alpha from which a pixel of a mask is white.
const MASK_ALPHA: u8 = 128;
const WHITE: [u8; 4] = [255; 4];

/// The files of a finished picture.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The finished picture.
    pub result: Encoded,
    /// The matte of the whole picture, smoothed as the result is, as a grey PNG.
    pub alpha: Encoded,
    /// A small WebP of the result.
    pub thumbnail: Encoded,
    /// Where in the result the subject is; absent where there is none.
    pub subject: Option<SubjectBox>,
    /// What became of the shadow, where one was asked for.
    pub shadow: Option<ShadowOutcome>,
}

/// What a finished picture is made of. All rasters have one size.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The upright picture, RGB or straight RGBA.
    pub picture: &'a Raster,
    /// Its matte, grey.
    pub matte: &'a Raster,
    /// The subject in its own colours (straight RGBA), where they are known; they are estimated otherwise.
    pub foreground: Option<&'a Raster>,
    /// The file of the picture to lay behind, where one was asked for.
    pub background_file: Option<&'a [u8]>,
    /// What to mark the finished canvas with.
    pub mark: Option<Mark<'a>>,
}

impl<'a> Parts<'a> {
    /// A picture and its matte, and nothing else.
    pub fn of(picture: &'a Raster, matte: &'a Raster) -> Self {
        Self {
            picture,
            matte,
            foreground: None,
            background_file: None,
            mark: None,
        }
    }
}

/// Composes `picture` (RGB or straight RGBA) with `matte` (grey, of the same size) as `output` says. `background_file`
/// is the picture to lay behind, where `output` asks for one. Blocks, and uses all cores.
///
/// # Errors
/// [`ComposeError`], all of them permanent.
pub fn compose(
    picture: &Raster,
    matte: &Raster,
    output: &OutputOptions,
    background_file: Option<&[u8]>,
    options: &ComposeOptions,
) -> Result<Composed, ComposeError> {
    let parts = Parts {
        background_file,
        ..Parts::of(picture, matte)
    };
    compose_parts(&parts, output, options)
}

/// Composes `parts` as `output` says. Blocks, and uses all cores.
///
/// # Errors
/// [`ComposeError`], all of them permanent.
pub fn compose_parts(
    parts: &Parts<'_>,
    output: &OutputOptions,
    options: &ComposeOptions,
) -> Result<Composed, ComposeError> {
    let picture = parts.picture;
    // A subject whose own colours are known already carries its matte as alpha: nothing is estimated then.
    let colors = parts.foreground.unwrap_or(picture);
    check(picture, parts.matte)?;
    check(colors, parts.matte)?;
    let mut matte = within_own_alpha(colors, parts.matte)?;
    if !output.semitransparency {
        matte = Cow::Owned(restrict::opaque_inside(&matte)?);
    }
    let (alpha, reach_px) = smoothed(&matte, output.edge_smoothing_px)?;
    let whole = Frame::of(picture);
    let found = canvas::visible_area(&alpha, canvas::SUBJECT_ALPHA);
    let (shadow, shadow_outcome) = shadow::layer(picture, &alpha, found, &output.shadow)?;
    let shadow_frame = shadow.as_ref().and_then(shadow::Layer::visible);
    let frame = place::frame(whole, found, shadow_frame, output);
    let placement = Placement::plan(whole, frame, found.unwrap_or(frame), output)?;
    let layer = match output.channels {
        Contents::Alpha | Contents::Mask => alpha.as_ref().clone(),
        Contents::Rgba => {
            // Colours of a picture that brought this alpha itself are the subject's own already.
            let mixed = !has_alpha_of_its_own(colors, &matte);
            canvas::cut_out(colors, mixed.then_some(matte.as_ref()), &alpha, reach_px)?
        }
    };
    let mut canvas = placement.draw(layer, whole)?;
    if let Some(shadow) = shadow {
        canvas = shadow.under(canvas, &placement)?;
    }
    if output.channels == Contents::Rgba {
        let behind = backdrop(
            picture,
            &alpha,
            output,
            &placement,
            parts.background_file,
            options,
        )?;
        canvas = lay_behind(canvas, behind.as_ref(), output.format)?;
    }
    let canvas = finished(canvas, output)?;
    let canvas = match parts.mark {
        Some(mark) => mark.lay_on(canvas, options)?,
        None => canvas,
    };
    let subject =
        found.and_then(|subject| placement.shown(subject, canvas.width(), canvas.height()));
    let (result, alpha, thumbnail) = files(&canvas, &alpha, output, options)?;
    Ok(Composed {
        result,
        alpha,
        thumbnail,
        subject,
        shadow: shadow_outcome,
    })
}

/// The finished picture, its matte and its thumbnail as files.
fn files(
    canvas: &Raster,
    alpha: &Raster,
    output: &OutputOptions,
    options: &ComposeOptions,
) -> Result<(Encoded, Encoded, Encoded), ComposeError> {
    let quality = output.encoding_quality.unwrap_or(options.default_quality);
    let (result, (alpha, thumbnail)) = rayon::join(
        || encode::encode_within(canvas, output.format, quality, output.max_bytes, options),
        || {
            rayon::join(
                || encode::encode_alpha_png(alpha),
                || encode::thumbnail(canvas, options),
            )
        },
    );
    Ok((result?, alpha?, thumbnail?))
}

/// The matte with its edge smoothed, and how far that reaches in pixels.
fn smoothed<'a>(
    matte: &'a Raster,
    sigma_px: f32,
) -> Result<(Cow<'a, Raster>, usize), ComposeError> {
    let sigma_px = sigma_px.clamp(0.0, 20.0);
    if sigma_px == 0.0 {
        return Ok((Cow::Borrowed(matte), 0));
    }
    let (width, height) = (matte.width(), matte.height());
    let smooth = smooth::gaussian(matte.data(), width as usize, height as usize, sigma_px);
    let smooth = Raster::new(width, height, Channels::Gray, smooth)?;
    Ok((Cow::Owned(smooth), smooth::reach_px(sigma_px)))
}

/// No more pixels than were asked for, and a mask black or white.
fn finished(canvas: Raster, output: &OutputOptions) -> Result<Raster, ComposeError> {
    let (width, height) = (canvas.width(), canvas.height());
    let smaller = output
        .max_pixels
        .and_then(|max_pixels| resample::smaller_size(width, height, max_pixels));
    let canvas = match smaller {
        Some((width, height)) => resample::to_size(&canvas, width, height, FilterType::Hamming)?,
        None => canvas,
    };
    if output.channels != Contents::Mask {
        return Ok(canvas);
    }
    let (width, height) = (canvas.width(), canvas.height());
    let mut data = canvas.into_data();
    data.par_iter_mut()
        .for_each(|alpha| *alpha = if *alpha >= MASK_ALPHA { 255 } else { 0 });
    Ok(Raster::new(width, height, Channels::Gray, data)?)
}

fn check(picture: &Raster, matte: &Raster) -> Result<(), ComposeError> {
    if matte.channels() != Channels::Gray {
        return Err(ComposeError::WrongChannels {
            what: "matte",
            found: format!("{:?}", matte.channels()),
        });
    }
    if picture.channels() == Channels::Gray {
        return Err(ComposeError::WrongChannels {
            what: "picture",
            found: format!("{:?}", picture.channels()),
        });
    }
    if (picture.width(), picture.height()) != (matte.width(), matte.height()) {
        return Err(ComposeError::MatteSize {
            width: picture.width(),
            height: picture.height(),
            matte_width: matte.width(),
            matte_height: matte.height(),
        });
    }
    Ok(())
}

/// What was invisible in the original stays so, whatever the matte says.
fn within_own_alpha<'a>(
    picture: &Raster,
    matte: &'a Raster,
) -> Result<Cow<'a, Raster>, ComposeError> {
    if picture.channels() != Channels::Rgba {
        return Ok(Cow::Borrowed(matte));
    }
    let own = picture.data().as_chunks::<4>().0;
    let data = own
        .par_iter()
        .zip(matte.data())
        .map(|([_, _, _, own], matte)| *own.min(matte))
        .collect();
    Ok(Cow::Owned(Raster::new(
        matte.width(),
        matte.height(),
        Channels::Gray,
        data,
    )?))
}

fn has_alpha_of_its_own(picture: &Raster, matte: &Raster) -> bool {
    picture.channels() == Channels::Rgba
        && picture
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .zip(matte.data())
            .all(|([_, _, _, own], matte)| own == matte)
}

/// What was asked to lie behind, of the canvas's size.
fn backdrop(
    picture: &Raster,
    alpha: &Raster,
    output: &OutputOptions,
    placement: &Placement,
    background_file: Option<&[u8]>,
    options: &ComposeOptions,
) -> Result<Option<Backdrop>, ComposeError> {
    let (width, height) = (placement.width, placement.height);
    Ok(match &output.background {
        Background::Transparent => None,
        Background::Color(color) => Some(Backdrop::Color(*color)),
        Background::Gradient(gradient) => {
            Some(Backdrop::Picture(gradient::draw(gradient, width, height)?))
        }
        Background::Blur(sigma_px) => Some(Backdrop::Picture(background::out_of_focus(
            picture,
            alpha,
            placement.frame,
            *sigma_px,
            (width, height),
        )?)),
        Background::Url(_) | Background::Blob(_) => {
            let file = background_file.ok_or(ComposeError::BackgroundMissing)?;
            Some(Backdrop::Picture(background::cover(
                file,
                width,
                height,
                options.max_background_pixels,
            )?))
        }
    })
}

fn lay_behind(
    cut_out: Raster,
    backdrop: Option<&Backdrop>,
    format: ImageFormat,
) -> Result<Raster, ComposeError> {
    let canvas = match backdrop {
        Some(backdrop) => canvas::lay_over(cut_out, backdrop)?,
        None => cut_out,
    };
    // JPEG has no alpha: what would shine through becomes white.
    if format == ImageFormat::Jpeg && canvas.channels() == Channels::Rgba {
        return Ok(canvas::lay_over(canvas, &Backdrop::Color(WHITE))?);
    }
    Ok(canvas)
}
