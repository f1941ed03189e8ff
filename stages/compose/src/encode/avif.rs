//! AVIF with alpha, by `ravif` (rav1e).

use atelier_stores::{Raster, raster::Channels};
use ravif::{Encoder, Img};
use rgb::{RGB8, RGBA8};

use super::{check_side, gray_to_rgb};
use crate::ComposeError;

const FORMAT: &str = "AVIF";
/// AV1 has sixteen bits for a side.
const MAX_SIDE_PX: u32 = 65_535;
/// The encoder cuts the picture into as many tiles as it has threads: a fixed number gives the same file everywhere.
const THREADS: usize = 4;

pub(super) fn encode(picture: &Raster, quality: u8, speed: u8) -> Result<Vec<u8>, ComposeError> {
    check_side(picture, FORMAT, MAX_SIDE_PX, "PNG")?;
    let quality = f32::from(quality);
    let encoder = Encoder::new()
        .with_quality(quality)
        .with_alpha_quality(quality)
        .with_speed(speed.clamp(1, 10))
        .with_num_threads(Some(THREADS));
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let encoded = match picture.channels() {
        Channels::Gray => encoder.encode_rgb(Img::new(
            &rgb_pixels(&gray_to_rgb(picture.data())),
            width,
            height,
        )),
        Channels::Rgb => encoder.encode_rgb(Img::new(&rgb_pixels(picture.data()), width, height)),
        Channels::Rgba => {
            let pixels: Vec<RGBA8> = picture
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|[r, g, b, a]| RGBA8::new(*r, *g, *b, *a))
                .collect();
            encoder.encode_rgba(Img::new(&pixels, width, height))
        }
    };
    encoded
        .map(|image| image.avif_file)
        .map_err(|error| ComposeError::EncodingFailed {
            format: FORMAT,
            message: error.to_string(),
        })
}

fn rgb_pixels(data: &[u8]) -> Vec<RGB8> {
    data.as_chunks::<3>()
        .0
        .iter()
        .map(|[red, green, blue]| RGB8::new(*red, *green, *blue))
        .collect()
}
