//! The marks of a finished picture: one that is seen (a picture or a text) and one that is only read (`atelier watermark read`).
//!
//! Invariant: a [`Watermark`] that was checked has at most one of `url`, `blob` and `text`, and marks the picture somehow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BlobRef;

/// Most letters of a text mark.
pub const MAX_TEXT_LETTERS: usize = 200;
/// Bits of an invisible mark: whole bytes, from this many …
pub const MIN_PAYLOAD_BITS: usize = 32;
/// … to this many.
pub const MAX_PAYLOAD_BITS: usize = 64;

/// What marks the finished picture, after everything else: exactly one of `url`, `blob` and `text`, or `invisible` alone, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Watermark {
    /// Where the mark's picture is, http or https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The mark's picture, already uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRef>,
    /// The mark as one line of text, 1 to 200 letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub text: Option<String>,
    /// Where it goes; `bottomRight` where it is absent. Means nothing to a tiled mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// From 0 (not seen) to 1; 0.5 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub opacity: Option<f32>,
    /// The mark's width as a share of the canvas's width, 0.01 to 1; 0.25 where it is absent. A mark that would be higher than
    /// the canvas is made smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub scale: Option<f32>,
    /// Repeats the mark over the whole canvas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tile: Option<Tile>,
    /// How it is mixed with the picture.
    #[serde(skip_serializing_if = "is_default")]
    pub blend: Blend,
    /// Height of a text's line in pixels, 4 to 2,000, instead of `scale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4.0, max = 2000.0))]
    pub text_size_px: Option<f32>,
    /// Colour of a text: `#rgb`, `#rrggbb` or `#rrggbbaa`; white where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})$"))]
    pub text_color: Option<String>,
    /// A mark that is not seen, and survives compression, halving, cropping and brightening.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invisible: Option<InvisibleMark>,
}

fn is_default(blend: &Blend) -> bool {
    *blend == Blend::default()
}

/// A mark that a program reads back: `atelier watermark read`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InvisibleMark {
    /// What it says: 32, 40, 48, 56 or 64 bits, in hexadecimal.
    #[schemars(regex(pattern = "^([0-9a-fA-F]{2}){4,8}$"))]
    pub payload: String,
}

impl InvisibleMark {
    /// The bytes that `payload` writes.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let digits = self.payload.as_bytes();
        let expected = || {
            format!(
                "`{}` is no payload: write {MIN_PAYLOAD_BITS} to {MAX_PAYLOAD_BITS} bits in whole bytes as {} to {} hexadecimal digits",
                self.payload.chars().take(40).collect::<String>(),
                MIN_PAYLOAD_BITS / 4,
                MAX_PAYLOAD_BITS / 4,
            )
        };
        let bits = digits.len() * 4;
        if !(MIN_PAYLOAD_BITS..=MAX_PAYLOAD_BITS).contains(&bits) || !bits.is_multiple_of(8) {
            return Err(expected());
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(expected);
        let pair = |pair: &[u8; 2]| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
        digits.as_chunks::<2>().0.iter().map(pair).collect()
    }
}

/// A mark that is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tile {
    /// Empty space between two marks as a share of the mark's width, 0 to 10.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub spacing: f32,
    /// Turns the rows, clockwise, −180 to 180 degrees.
    #[schemars(range(min = -180.0, max = 180.0))]
    pub angle_degrees: f32,
}

impl Default for Tile {
    fn default() -> Self {
        Self {
            spacing: 0.5,
            angle_degrees: 0.0,
        }
    }
}

/// How a mark is mixed with the picture under it, as the CSS blend modes of these names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Blend {
    /// Laid over it.
    #[default]
    Normal,
    /// Darkens it.
    Multiply,
    /// Lightens it.
    Screen,
    /// Darkens the dark and lightens the light.
    Overlay,
}

/// Where a mark goes: one of nine places, or percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected topLeft, top, topRight, left, center, right, bottomLeft, bottom, bottomRight, or {\"x\": percent, \"y\": percent}"
)]
pub enum Position {
    /// A place by name, with a small margin to the border.
    Named(Anchor),
    /// A place in percent, without margin.
    Percent(PercentPosition),
}

impl Default for Position {
    fn default() -> Self {
        Self::Named(Anchor::BottomRight)
    }
}

/// The point of the mark that is at `x` and `y` percent of it lies at `x` and `y` percent of the canvas, so that 0 touches the
/// left and the upper border and 100 the right and the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PercentPosition {
    /// From the left, 0 to 100.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub x: f32,
    /// From above, 0 to 100.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub y: f32,
}

/// The nine named places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Anchor {
    /// The upper left corner.
    TopLeft,
    /// The middle of the upper border.
    Top,
    /// The upper right corner.
    TopRight,
    /// The middle of the left border.
    Left,
    /// The middle.
    Center,
    /// The middle of the right border.
    Right,
    /// The lower left corner.
    BottomLeft,
    /// The middle of the lower border.
    Bottom,
    /// The lower right corner.
    BottomRight,
}

impl Anchor {
    /// The same place in percent.
    pub fn percent(self) -> PercentPosition {
        let x = match self {
            Self::TopLeft | Self::Left | Self::BottomLeft => 0.0,
            Self::Top | Self::Center | Self::Bottom => 50.0,
            Self::TopRight | Self::Right | Self::BottomRight => 100.0,
        };
        let y = match self {
            Self::TopLeft | Self::Top | Self::TopRight => 0.0,
            Self::Left | Self::Center | Self::Right => 50.0,
            Self::BottomLeft | Self::Bottom | Self::BottomRight => 100.0,
        };
        PercentPosition { x, y }
    }
}

/// What is wrong with a mark, and at which of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkFault {
    /// JSON pointer within the mark; empty for the mark as a whole.
    pub pointer: &'static str,
    /// For people.
    pub message: String,
}

impl Watermark {
    /// The mark that the short form stands for.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            ..Self::default()
        }
    }

    /// Whether there is a mark to be seen.
    pub fn is_visible(&self) -> bool {
        self.url.is_some() || self.blob.is_some() || self.text.is_some()
    }

    /// The colour of a text, straight sRGB with alpha.
    pub fn text_rgba(&self) -> Option<[u8; 4]> {
        let Some(color) = &self.text_color else {
            return Some([255; 4]);
        };
        crate::background::parse_hex_color(color.strip_prefix('#')?)
    }

    /// Checks what the types alone cannot say.
    ///
    /// # Errors
    /// The first [`WatermarkFault`].
    pub fn check(&self) -> Result<(), WatermarkFault> {
        self.check_source()?;
        self.check_looks()?;
        if let Some(invisible) = &self.invisible {
            let fault = |message| WatermarkFault {
                pointer: "/invisible/payload",
                message,
            };
            invisible.bytes().map_err(fault)?;
        }
        Ok(())
    }

    fn check_source(&self) -> Result<(), WatermarkFault> {
        let fault = |pointer, message: String| Err(WatermarkFault { pointer, message });
        let sources = [self.url.is_some(), self.blob.is_some(), self.text.is_some()];
        match sources.iter().filter(|is_there| **is_there).count() {
            0 if self.invisible.is_none() => {
                return fault(
                    "",
                    "a watermark needs one of `url`, `blob`, `text` and `invisible`".into(),
                );
            }
            0 | 1 => {}
            _ => {
                return fault(
                    "",
                    "a watermark has exactly one of `url`, `blob` and `text`".into(),
                );
            }
        }
        if let Some(url) = &self.url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            let url: String = url.chars().take(80).collect();
            return fault("/url", format!("`{url}` is no http(s) address"));
        }
        if let Some(text) = &self.text {
            let letters = text.chars().count();
            if text.trim().is_empty() || letters > MAX_TEXT_LETTERS {
                let message =
                    format!("a text mark has 1 to {MAX_TEXT_LETTERS} letters, this one {letters}");
                return fault("/text", message);
            }
            if text.chars().any(char::is_control) {
                return fault(
                    "/text",
                    "a text mark is one line without control characters".into(),
                );
            }
        }
        Ok(())
    }

    fn check_looks(&self) -> Result<(), WatermarkFault> {
        let percent = match self.position {
            Some(Position::Percent(percent)) => Some(percent),
            _ => None,
        };
        for (pointer, value, least, most) in [
            ("/opacity", self.opacity, 0.0, 1.0),
            ("/scale", self.scale, 0.01, 1.0),
            ("/textSizePx", self.text_size_px, 4.0, 2000.0),
            (
                "/tile/spacing",
                self.tile.map(|tile| tile.spacing),
                0.0,
                10.0,
            ),
            (
                "/tile/angleDegrees",
                self.tile.map(|tile| tile.angle_degrees),
                -180.0,
                180.0,
            ),
            ("/position/x", percent.map(|percent| percent.x), 0.0, 100.0),
            ("/position/y", percent.map(|percent| percent.y), 0.0, 100.0),
        ] {
            if let Some(value) = value
                && !(least..=most).contains(&value)
            {
                let message = format!("{value} is not from {least} to {most}");
                return Err(WatermarkFault { pointer, message });
            }
        }
        let only_text = |pointer, name| WatermarkFault {
            pointer,
            message: format!("`{name}` means nothing without `text`"),
        };
        if self.text.is_none() && self.text_size_px.is_some() {
            return Err(only_text("/textSizePx", "textSizePx"));
        }
        if self.text.is_none() && self.text_color.is_some() {
            return Err(only_text("/textColor", "textColor"));
        }
        if self.text_rgba().is_none() {
            let color = self.text_color.as_deref().unwrap_or_default();
            return Err(WatermarkFault {
                pointer: "/textColor",
                message: format!("`{color}` is not a colour: write #rgb, #rrggbb or #rrggbbaa"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TaskRequest, from_json};

    fn request(watermark: &str) -> String {
        format!(r#"{{"images":["https://a.example/1.jpg"],"options":{{"watermark":{watermark}}}}}"#)
    }

    /// The pointer that is named, whether parsing or checking finds the fault.
    fn pointer_of(json: &str) -> Option<String> {
        let error = match from_json::<TaskRequest>(json.as_bytes()) {
            Err(error) => return error.pointer().map(str::to_owned),
            Ok(request) => request.validate("gateway").err()?,
        };
        error.details.pointer.clone()
    }

    #[test]
    fn the_short_form_is_the_address_of_the_long_one() {
        let parse = |json: &str| {
            let request: TaskRequest = from_json(json.as_bytes()).unwrap();
            request.validate("gateway").unwrap().options
        };
        let short = parse(
            r#"{"images":["https://a.example/1.jpg"],"watermark":"https://a.example/mark.png"}"#,
        );
        assert_eq!(
            short,
            parse(&request(r#"{"url":"https://a.example/mark.png"}"#))
        );
        assert_eq!(
            short.watermark,
            Some(Watermark::from_url("https://a.example/mark.png"))
        );
    }

    #[test]
    fn every_fault_is_named_by_its_pointer() {
        for (watermark, pointer) in [
            ("{}", ""),
            (r#"{"opacity":0.5}"#, ""),
            (r#"{"url":"https://a.example/m.png","text":"©"}"#, ""),
            (r#"{"url":"file:///etc/passwd"}"#, "/url"),
            (r#"{"text":"  "}"#, "/text"),
            (r#"{"text":"a\nb"}"#, "/text"),
            (r#"{"text":"©","opacity":1.5}"#, "/opacity"),
            (r#"{"text":"©","scale":0}"#, "/scale"),
            (r#"{"text":"©","textSizePx":1}"#, "/textSizePx"),
            (
                r#"{"url":"https://a.example/m.png","textSizePx":9}"#,
                "/textSizePx",
            ),
            (
                r##"{"url":"https://a.example/m.png","textColor":"#fff"}"##,
                "/textColor",
            ),
            (r#"{"text":"©","textColor":"white"}"#, "/textColor"),
            (r#"{"text":"©","tile":{"spacing":-1}}"#, "/tile/spacing"),
            (
                r#"{"text":"©","tile":{"angleDegrees":200}}"#,
                "/tile/angleDegrees",
            ),
            (r#"{"text":"©","position":"middle"}"#, "/position"),
            (r#"{"text":"©","position":{"x":10,"y":101}}"#, "/position/y"),
            (r#"{"text":"©","blend":"dissolve"}"#, "/blend"),
            (r#"{"text":"©","colour":"red"}"#, "/colour"),
            (
                r#"{"invisible":{"payload":"c0ffee"}}"#,
                "/invisible/payload",
            ),
            (
                r#"{"invisible":{"payload":"c0ffeec0f"}}"#,
                "/invisible/payload",
            ),
            (
                r#"{"invisible":{"payload":"00112233445566778"}}"#,
                "/invisible/payload",
            ),
            (
                r#"{"invisible":{"payload":"xyzwxyzw"}}"#,
                "/invisible/payload",
            ),
            (r#"{"invisible":{"payload":"éééé"}}"#, "/invisible/payload"),
        ] {
            assert_eq!(
                pointer_of(&request(watermark)).as_deref(),
                Some(format!("/options/watermark{pointer}").as_str()),
                "{watermark}"
            );
        }
        let matte = r#"{"images":["https://a.example/1.jpg"],"options":{"watermark":{"text":"©"},"output":{"channels":"alpha"}}}"#;
        assert_eq!(
            pointer_of(matte).as_deref(),
            Some("/options/output/channels")
        );
        let short = r#"{"images":["https://a.example/1.jpg"],"watermark":"ftp://a.example/m.png"}"#;
        assert_eq!(pointer_of(short).as_deref(), Some("/watermark"));
        let both = r#"{"images":["https://a.example/1.jpg"],"watermark":"https://a.example/m.png","options":{}}"#;
        assert_eq!(pointer_of(both).as_deref(), Some("/watermark"));
    }

    #[test]
    fn payloads_of_whole_bytes_from_32_to_64_bits_are_taken() {
        for (payload, bytes) in [
            ("C0ffee01", vec![0xc0, 0xff, 0xee, 0x01]),
            ("0011223344", vec![0, 0x11, 0x22, 0x33, 0x44]),
            ("ffffffffffffffff", vec![0xff; 8]),
        ] {
            let mark = InvisibleMark {
                payload: payload.into(),
            };
            assert_eq!(mark.bytes(), Ok(bytes));
        }
    }

    #[test]
    fn positions_are_names_or_percent() {
        let parse = |json: &str| serde_json::from_str::<Position>(json).unwrap();
        assert_eq!(parse(r#""topRight""#), Position::Named(Anchor::TopRight));
        let percent = PercentPosition { x: 10.0, y: 90.0 };
        assert_eq!(parse(r#"{"x":10,"y":90}"#), Position::Percent(percent));
        assert_eq!(
            Anchor::TopRight.percent(),
            PercentPosition { x: 100.0, y: 0.0 }
        );
    }
}
