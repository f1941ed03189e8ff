//! JPEG, by `zune-jpeg`: baseline and progressive, grey, RGB, YCbCr, CMYK and YCCK.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::{DecodeError, Depth, Layout, Source};
use crate::{Limits, orientation};

const FORMAT: &str = "JPEG";

/// Real progressive files have some ten scans; each costs a pass over the whole picture.
const MAX_SCANS: usize = 64;

pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Source, DecodeError> {
    let markers = Markers::read(file)?;
    // A progressive picture keeps 16-bit coefficients of every component beside the pixels.
    let coefficients = if markers.progressive {
        2 * u64::from(markers.components)
    } else {
        0
    };
    let output = u64::from(markers.components.max(3));
    limits.check(
        u32::from(markers.width),
        u32::from(markers.height),
        coefficients + output,
    )?;
    if !markers.complete {
        return Err(DecodeError::Truncated { format: FORMAT });
    }

    let side = limits.max_dimension_px as usize;
    let options = DecoderOptions::new_fast()
        .set_strict_mode(false)
        .set_max_width(side)
        .set_max_height(side)
        .jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder
        .decode_headers()
        .map_err(|error| DecodeError::broken(FORMAT, error))?;
    let info = decoder
        .info()
        .ok_or_else(|| DecodeError::broken(FORMAT, "it has no header"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    limits.check(width, height, coefficients + output)?;
    let input = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    // Four components are taken as they are: their meaning depends on Adobe's marker.
    let (output, layout, color_model) = match input {
        ColorSpace::Luma => (ColorSpace::Luma, Layout::Gray, "gray8"),
        ColorSpace::CMYK => (ColorSpace::CMYK, Layout::Cmyk, "cmyk8"),
        ColorSpace::YCCK => (ColorSpace::YCCK, Layout::Cmyk, "ycck8"),
        ColorSpace::RGB => (ColorSpace::RGB, Layout::Rgb, "rgb8"),
        ColorSpace::YCbCr => (ColorSpace::RGB, Layout::Rgb, "ycbcr8"),
        other => {
            return Err(DecodeError::UnsupportedFeature {
                format: FORMAT,
                feature: format!("the colour model {other:?}"),
            });
        }
    };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let length = width as usize * height as usize * layout.samples();
    let mut bytes = vec![0; length];
    decoder
        .decode_into(&mut bytes)
        .map_err(|error| DecodeError::broken(FORMAT, error))?;
    match input {
        ColorSpace::CMYK if markers.adobe => bytes.iter_mut().for_each(|ink| *ink = 255 - *ink),
        ColorSpace::YCCK => ycck_to_cmyk(&mut bytes),
        _ => {}
    }
    Ok(Source {
        width,
        height,
        layout,
        depth: Depth::Eight,
        premultiplied: false,
        bytes,
        icc_profile: decoder.icc_profile(),
        orientation: decoder.exif().map_or(1, |exif| orientation::of_exif(exif)),
        frames: 1,
        color_model: color_model.to_owned(),
    })
}

/// Adobe's YCCK holds inverted inks: the YCbCr part is that of an RGB picture, and K is 255 without ink.
fn ycck_to_cmyk(bytes: &mut [u8]) {
    for [first, second, third, black] in bytes.as_chunks_mut::<4>().0 {
        let [red, green, blue] = ycbcr_to_rgb(*first, *second, *third);
        (*first, *second, *third, *black) = (red, green, blue, 255 - *black);
    }
}

/// Full-range BT.601, as JFIF has it.
pub(super) fn ycbcr_to_rgb(luma: u8, blue_difference: u8, red_difference: u8) -> [u8; 3] {
    let luma = f32::from(luma);
    let (cb, cr) = (
        f32::from(blue_difference) - 128.0,
        f32::from(red_difference) - 128.0,
    );
    // `as` saturates, which is the clamping that is wanted.
    [
        luma + 1.402 * cr,
        luma - 0.344_136 * cb - 0.714_136 * cr,
        luma + 1.772 * cb,
    ]
    .map(|value| (value + 0.5) as u8)
}

/// What the decoder does not tell, read from the markers themselves.
struct Markers {
    width: u16,
    height: u16,
    components: u8,
    progressive: bool,
    /// Whether Adobe's marker is there: then four components are inverted inks.
    adobe: bool,
    /// Whether an end-of-image marker follows the first scan. Without it the decoder would fill what is missing with
    /// grey, and a cut-out of that would be wrong without anybody being told.
    complete: bool,
}

impl Markers {
    fn read(file: &[u8]) -> Result<Self, DecodeError> {
        let mut markers = Self {
            width: 0,
            height: 0,
            components: 0,
            progressive: false,
            adobe: false,
            complete: false,
        };
        let mut position = 2;
        while let Some(&[0xff, marker]) = file.get(position..position + 2) {
            if marker == 0xff {
                position += 1;
                continue;
            }
            position += 2;
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                continue;
            }
            let Some(&[high, low]) = file.get(position..position + 2) else {
                break;
            };
            let length = usize::from(u16::from_be_bytes([high, low])).max(2);
            let segment = file
                .get(position + 2..position + length)
                .unwrap_or_default();
            match marker {
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    markers.frame(marker, segment);
                }
                0xee if segment.starts_with(b"Adobe") => markers.adobe = true,
                0xda => {
                    let scan = file.get(position..).unwrap_or_default();
                    markers.complete = scan.windows(2).rev().any(|pair| pair == [0xff, 0xd9]);
                    break;
                }
                _ => {}
            }
            position += length;
        }
        if markers.components == 0 {
            return Err(DecodeError::broken(FORMAT, "it has no frame header"));
        }
        Ok(markers)
    }

    fn frame(&mut self, marker: u8, segment: &[u8]) {
        if let Some(
            &[
                _,
                height_high,
                height_low,
                width_high,
                width_low,
                components,
            ],
        ) = segment.get(..6)
        {
            self.height = u16::from_be_bytes([height_high, height_low]);
            self.width = u16::from_be_bytes([width_high, width_low]);
            self.components = components;
            self.progressive = marker == 0xc2;
        }
    }
}
