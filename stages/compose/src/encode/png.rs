//! PNG by the `png` crate, with its fast deflate for filtered pictures.

use ::png::{BitDepth, ColorType, Compression, Encoder, EncodingError, Filter};
use atelier_stores::{Raster, raster::Channels};

use crate::ComposeError;

const FORMAT: &str = "PNG";

pub(super) fn encode(picture: &Raster) -> Result<Vec<u8>, ComposeError> {
    // Photographs come out at about half their size; cut-outs at less.
    let mut file = Vec::with_capacity(picture.data().len() / 2 + 1024);
    write(picture, &mut file).map_err(|error| ComposeError::EncodingFailed {
        format: FORMAT,
        message: error.to_string(),
    })?;
    Ok(file)
}

fn write(picture: &Raster, file: &mut Vec<u8>) -> Result<(), EncodingError> {
    let mut encoder = Encoder::new(file, picture.width(), picture.height());
    encoder.set_color(match picture.channels() {
        Channels::Gray => ColorType::Grayscale,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::Adaptive);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.data())?;
    writer.finish()
}
