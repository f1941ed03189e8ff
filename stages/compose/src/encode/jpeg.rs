//! Baseline JPEG, by `jpeg-encoder`.

use atelier_stores::{Raster, raster::Channels};
use jpeg_encoder::{ColorType, Encoder};

use super::check_side;
use crate::ComposeError;

const FORMAT: &str = "JPEG";
/// The format has sixteen bits for a side.
const MAX_SIDE_PX: u32 = 65_535;

pub(super) fn encode(picture: &Raster, quality: u8) -> Result<Vec<u8>, ComposeError> {
    check_side(picture, FORMAT, MAX_SIDE_PX, "PNG")?;
    let color_type = match picture.channels() {
        Channels::Gray => ColorType::Luma,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => {
            let found = "RGBA, which JPEG does not hold".to_owned();
            return Err(ComposeError::WrongChannels {
                what: "picture",
                found,
            });
        }
    };
    let mut file = Vec::with_capacity(picture.data().len() / 8 + 1024);
    // Checked above: both sides fit sixteen bits.
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    Encoder::new(&mut file, quality)
        .encode(picture.data(), width, height, color_type)
        .map_err(|error| ComposeError::EncodingFailed {
            format: FORMAT,
            message: error.to_string(),
        })?;
    Ok(file)
}
