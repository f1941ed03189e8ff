//! A ZIP with `color.jpg` and `alpha.png`, as remove.bg's: together they are what a PNG would hold.

use std::io::{Cursor, Write as _};

use ::zip::{CompressionMethod, DateTime, ZipWriter, result::ZipError, write::SimpleFileOptions};
use atelier_stores::{Raster, raster::Channels};

use super::{jpeg, png};
use crate::ComposeError;

const FORMAT: &str = "ZIP";
/// JPEG's largest block with colours at half the resolution.
const BLOCK_PX: usize = 16;

pub(super) fn encode(picture: &Raster, quality: u8) -> Result<Vec<u8>, ComposeError> {
    let (colors, alpha) = taken_apart(picture)?;
    let color_file = jpeg::encode(&colors, quality)?;
    let alpha_file = png::encode(&alpha, png::Effort::Fast)?;
    packed(&color_file, &alpha_file).map_err(|error| ComposeError::EncodingFailed {
        format: FORMAT,
        message: error.to_string(),
    })
}

/// Both files are compressed already. Their time is the format's first, so that the same picture gives the same bytes.
fn packed(color_file: &[u8], alpha_file: &[u8]) -> Result<Vec<u8>, ZipError> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, file) in [("color.jpg", color_file), ("alpha.png", alpha_file)] {
        archive.start_file(name, options)?;
        archive.write_all(file)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Colours and alpha. What cannot be seen gets the colour of what is visible near it: a jump there would be seen at the edge
/// after JPEG, and would cost bytes.
fn taken_apart(picture: &Raster) -> Result<(Raster, Raster), ComposeError> {
    let (width, height) = (picture.width(), picture.height());
    let opaque = || {
        Raster::new(
            width,
            height,
            Channels::Gray,
            vec![255; picture.pixels() as usize],
        )
    };
    match picture.channels() {
        Channels::Rgb => Ok((picture.clone(), opaque()?)),
        Channels::Gray => Ok((
            Raster::new(
                width,
                height,
                Channels::Rgb,
                super::gray_to_rgb(picture.data()),
            )?,
            opaque()?,
        )),
        Channels::Rgba => {
            let pixels = picture.data().as_chunks::<4>().0;
            let alpha = pixels.iter().map(|pixel| pixel[3]).collect();
            let mut colors: Vec<[u8; 3]> = pixels.iter().map(|[r, g, b, _]| [*r, *g, *b]).collect();
            let side = width as usize;
            for top in (0..height as usize).step_by(BLOCK_PX) {
                for left in (0..side).step_by(BLOCK_PX) {
                    let rows = top..(top + BLOCK_PX).min(height as usize);
                    let columns = left..(left + BLOCK_PX).min(side);
                    let block = || {
                        rows.clone()
                            .flat_map(|y| columns.clone().map(move |x| y * side + x))
                    };
                    let Some(mean) = mean_color(block().map(|index| pixels[index])) else {
                        continue;
                    };
                    block()
                        .filter(|index| pixels[*index][3] == 0)
                        .for_each(|index| colors[index] = mean);
                }
            }
            Ok((
                Raster::new(width, height, Channels::Rgb, colors.into_flattened())?,
                Raster::new(width, height, Channels::Gray, alpha)?,
            ))
        }
    }
}

/// The mean of what is visible, weighted by alpha; `None` where nothing is.
fn mean_color(pixels: impl Iterator<Item = [u8; 4]>) -> Option<[u8; 3]> {
    let mut sums = [0_u32; 3];
    let mut total = 0_u32;
    for [red, green, blue, alpha] in pixels {
        let alpha = u32::from(alpha);
        total += alpha;
        for (sum, value) in sums.iter_mut().zip([red, green, blue]) {
            *sum += u32::from(value) * alpha;
        }
    }
    (total > 0).then(|| sums.map(|sum| ((sum + total / 2) / total) as u8))
}
