//! One picture from pixels and matte to three files.

use std::borrow::Cow;

use atelier_schemas::{
    Background, ImageFormat, OutputOptions,
    request::{Channels as Contents, Crop},
};
use atelier_stores::{Raster, raster::Channels};
use rayon::prelude::*;

use crate::{
    ComposeError, ComposeOptions, Mark, background,
    canvas::{self, Area, Backdrop},
    encode::{self, Encoded},
    smooth,
};

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
    compose_marked(picture, matte, output, background_file, None, options)
}

/// As [`compose`], and marks the finished canvas with `mark`.
///
/// # Errors
/// [`ComposeError`], all of them permanent.
pub fn compose_marked(
    picture: &Raster,
    matte: &Raster,
    output: &OutputOptions,
    background_file: Option<&[u8]>,
    mark: Option<Mark<'_>>,
    options: &ComposeOptions,
) -> Result<Composed, ComposeError> {
    check(picture, matte)?;
    let matte = within_own_alpha(picture, matte)?;
    let sigma_px = output.edge_smoothing_px.clamp(0.0, 20.0);
    let (alpha, reach_px) = if sigma_px > 0.0 {
        let smooth = smooth::gaussian(
            matte.data(),
            matte.width() as usize,
            matte.height() as usize,
            sigma_px,
        );
        (
            Cow::Owned(Raster::new(
                matte.width(),
                matte.height(),
                Channels::Gray,
                smooth,
            )?),
            smooth::reach_px(sigma_px),
        )
    } else {
        (Cow::Borrowed(matte.as_ref()), 0)
    };
    let area = match output.crop {
        Crop::None => None,
        Crop::Subject => canvas::subject_area(&alpha, output.crop_margin_px),
    };
    let canvas = match output.channels {
        Contents::Alpha => canvas::crop(alpha.as_ref().clone(), area)?,
        Contents::Rgba => {
            // Colours of a picture that brought this alpha itself are the subject's own already.
            let mixed = !has_alpha_of_its_own(picture, &matte);
            let cut_out =
                canvas::cut_out(picture, mixed.then_some(matte.as_ref()), &alpha, reach_px)?;
            lay_behind(
                canvas::crop(cut_out, area)?,
                output,
                background_file,
                options,
            )?
        }
    };
    let canvas = match mark {
        Some(mark) => mark.lay_on(canvas, options)?,
        None => canvas,
    };
    let quality = output.encoding_quality.unwrap_or(options.default_quality);
    let (result, (alpha, thumbnail)) = rayon::join(
        || encode::encode_picture(&canvas, output.format, quality, options),
        || {
            rayon::join(
                || encode::encode_alpha_png(&alpha),
                || encode::thumbnail(&canvas, options),
            )
        },
    );
    Ok(Composed {
        result: result?,
        alpha: alpha?,
        thumbnail: thumbnail?,
    })
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

fn lay_behind(
    cut_out: Raster,
    output: &OutputOptions,
    background_file: Option<&[u8]>,
    options: &ComposeOptions,
) -> Result<Raster, ComposeError> {
    let canvas_area = Area {
        left: 0,
        top: 0,
        width: cut_out.width(),
        height: cut_out.height(),
    };
    let backdrop = match &output.background {
        Background::Transparent => None,
        Background::Color(color) => Some(Backdrop::Color(*color)),
        Background::Url(_) | Background::Blob(_) => {
            let file = background_file.ok_or(ComposeError::BackgroundMissing)?;
            let (width, height) = (canvas_area.width, canvas_area.height);
            Some(Backdrop::Picture(background::cover(
                file,
                width,
                height,
                options.max_background_pixels,
            )?))
        }
    };
    let canvas = match backdrop {
        Some(backdrop) => canvas::lay_over(cut_out, &backdrop)?,
        None => cut_out,
    };
    // JPEG has no alpha: what would shine through becomes white.
    if output.format == ImageFormat::Jpeg && canvas.channels() == Channels::Rgba {
        return Ok(canvas::lay_over(canvas, &Backdrop::Color(WHITE))?);
    }
    Ok(canvas)
}
