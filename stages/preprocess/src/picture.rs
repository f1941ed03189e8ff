//! One file from bytes to a finished raster with its measurements.

use std::panic::{AssertUnwindSafe, catch_unwind};

use atelier_schemas::events::Measurements;
use atelier_stores::{Raster, raster::Channels};
use fast_image_resize::FilterType;

use crate::{
    DecodeError, Limits, color,
    decode::{self, Source},
    measure, orientation,
};

/// A decoded picture: upright, sRGB, eight bits a channel.
#[derive(Debug)]
pub struct Prepared {
    /// The pixels: RGB, or straight RGBA where some pixel is not opaque.
    pub raster: Raster,
    /// What was measured.
    pub measurements: Measurements,
}

/// Decodes `file`. `max_side_px` makes larger pictures smaller; 0 keeps every size. Blocks: not for async threads.
///
/// # Errors
/// [`DecodeError`]; a panicking decoder is [`DecodeError::DecoderPanicked`].
pub fn prepare(file: &[u8], limits: &Limits, max_side_px: u32) -> Result<Prepared, DecodeError> {
    // Nothing outlives the closure but its result, so no broken state can be seen afterwards.
    catch_unwind(AssertUnwindSafe(|| {
        prepare_unguarded(file, limits, max_side_px)
    }))
    .unwrap_or_else(|panic| {
        Err(DecodeError::DecoderPanicked {
            message: panic_message(panic.as_ref()),
        })
    })
}

fn prepare_unguarded(
    file: &[u8],
    limits: &Limits,
    max_side_px: u32,
) -> Result<Prepared, DecodeError> {
    let mut source = decode::decode(file, limits)?;
    let converted = color::to_srgb(&mut source);
    let Source {
        width,
        height,
        orientation,
        frames,
        color_model,
        ..
    } = source;
    let (data, channels) = keep_meaningful_alpha(converted.data, converted.has_alpha_channel);
    let (data, width, height) = match channels {
        Channels::Rgba => orientation::apply::<4>(data, width, height, orientation),
        Channels::Rgb | Channels::Gray => orientation::apply::<3>(data, width, height, orientation),
    };
    let mut raster = Raster::new(width, height, channels, data)
        .map_err(|error| DecodeError::broken("picture", error))?;
    if max_side_px > 0
        && let Some(smaller) = measure::resize_to_side(&raster, max_side_px, FilterType::Lanczos3)
    {
        raster = smaller;
    }
    let measurements = Measurements {
        sharpness: measure::sharpness(&raster),
        noise: measure::noise(&raster),
        has_alpha: channels == Channels::Rgba,
        orientation,
        color_model,
        profile_converted: converted.profile_converted,
        frames,
    };
    Ok(Prepared {
        raster,
        measurements,
    })
}

/// An alpha channel that is opaque everywhere says nothing and is left out.
fn keep_meaningful_alpha(mut data: Vec<u8>, has_alpha_channel: bool) -> (Vec<u8>, Channels) {
    if !has_alpha_channel {
        return (data, Channels::Rgb);
    }
    if data
        .as_chunks::<4>()
        .0
        .iter()
        .any(|[_, _, _, alpha]| *alpha < 255)
    {
        return (data, Channels::Rgba);
    }
    let pixels = data.len() / 4;
    for index in 0..pixels {
        data.copy_within(index * 4..index * 4 + 3, index * 3);
    }
    data.truncate(pixels * 3);
    // The quarter that is no longer used would stay taken as long as the raster is cached.
    data.shrink_to_fit();
    (data, Channels::Rgb)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it gave no reason")
        .chars()
        .take(200)
        .collect()
}
