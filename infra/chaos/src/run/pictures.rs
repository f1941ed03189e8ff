//! The pictures that clients send.

use crate::{check::Picture, plan::Kind};

const PHOTOGRAPH: &[u8] = include_bytes!("../../../../samples/jacket.jpg");
const SIDE_PX: u32 = 48;

impl Kind {
    /// What is promised of it.
    pub(super) fn promise(self) -> Picture {
        match self {
            Self::Drawing(_) | Self::Photograph => Picture::Good,
            Self::Truncated(_) | Self::Nonsense => Picture::Broken,
        }
    }

    /// The last part of its address.
    pub(super) fn name(self) -> String {
        match self {
            Self::Drawing(number) => format!("drawing-{number}"),
            Self::Photograph => "photograph".to_owned(),
            Self::Truncated(number) => format!("truncated-{number}"),
            Self::Nonsense => "nonsense".to_owned(),
        }
    }

    /// The picture at an address.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.split_once('-') {
            Some(("drawing", number)) => number.parse().ok().map(Self::Drawing),
            Some(("truncated", number)) => number.parse().ok().map(Self::Truncated),
            None if name == "photograph" => Some(Self::Photograph),
            None if name == "nonsense" => Some(Self::Nonsense),
            _ => None,
        }
    }

    /// Its file.
    pub(super) fn bytes(self) -> anyhow::Result<Vec<u8>> {
        Ok(match self {
            Self::Drawing(number) => drawing(number)?,
            Self::Photograph => PHOTOGRAPH.to_vec(),
            Self::Truncated(number) => {
                let mut bytes = drawing(number)?;
                bytes.truncate(bytes.len() / 2);
                bytes
            }
            Self::Nonsense => b"GIF89a, and then nothing".to_vec(),
        })
    }
}

/// A disc on a see-through ground, in a colour of its own.
fn drawing(number: u32) -> anyhow::Result<Vec<u8>> {
    let [_, red, green, blue] = number.to_be_bytes();
    let half = i64::from(SIDE_PX / 2);
    let pixels = (0..SIDE_PX * SIDE_PX).flat_map(|place| {
        let (x, y) = (
            i64::from(place % SIDE_PX) - half,
            i64::from(place / SIDE_PX) - half,
        );
        let inside = x * x + y * y < (half - 4) * (half - 4);
        // Not flat, so that half of the file is not half of nothing.
        [
            red,
            green.wrapping_add(place as u8),
            blue,
            if inside { 255 } else { 0 },
        ]
    });
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE_PX, SIDE_PX);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels.collect::<Vec<u8>>())?;
    writer.finish()?;
    Ok(file)
}
