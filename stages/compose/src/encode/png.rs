//! PNG by the `png` crate, with its fast deflate for filtered pictures.

use ::png::{
    BitDepth, ColorType, Compression, Encoder, EncodingError, Filter, SrgbRenderingIntent,
};
use atelier_stores::{Raster, raster::Channels};

use crate::ComposeError;

const FORMAT: &str = "PNG";

/// How hard to try. `benches/png.rs` has the figures of every way.
#[derive(Clone, Copy)]
pub(super) enum Effort {
    /// One filter for every row: as small as choosing the best of five for each, in a quarter of the time.
    Fast,
    /// A quarter smaller, in fifty times the time: where a limit in bytes has to be met.
    Small,
}

pub(super) fn encode(picture: &Raster, effort: Effort) -> Result<Vec<u8>, ComposeError> {
    // Photographs come out at about half their size; cut-outs at less.
    let mut file = Vec::with_capacity(picture.data().len() / 2 + 1024);
    write(picture, effort, &mut file).map_err(|error| ComposeError::EncodingFailed {
        format: FORMAT,
        message: error.to_string(),
    })?;
    Ok(file)
}

fn write(picture: &Raster, effort: Effort, file: &mut Vec<u8>) -> Result<(), EncodingError> {
    let mut encoder = Encoder::new(file, picture.width(), picture.height());
    encoder.set_color(match picture.channels() {
        Channels::Gray => ColorType::Grayscale,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    let (compression, filter) = match effort {
        Effort::Fast => (Compression::Fast, Filter::Paeth),
        Effort::Small => (Compression::Balanced, Filter::Adaptive),
    };
    encoder.set_compression(compression);
    encoder.set_filter(filter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.data())?;
    writer.finish()
}
