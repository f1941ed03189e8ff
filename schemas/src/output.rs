//! What a finished picture is like: its background, crop, channels and file format, as a request's `options.output` says it.
//! Whatever parses and passes [`check_output`] can be made; what contradicts itself is refused with its JSON pointer.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{BlobRef, ErrorBody};

/// The finished picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutputOptions {
    /// File format.
    pub format: ImageFormat,
    /// What lies behind the subject. JPEG has no alpha: there, transparent becomes white.
    pub background: Background,
    /// Encoder quality from 1 to 100, for WebP, AVIF and JPEG; 90 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub encoding_quality: Option<u8>,
    /// Standard deviation of a smoothing of the matte's edge, in pixels of the picture, 0 to 20.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0, max = 20.0))]
    pub edge_smoothing_px: f32,
    /// Whether to crop to the subject.
    pub crop: Crop,
    /// Empty border kept around the subject when cropping, in pixels of the picture, 0 to 10,000.
    #[serde(skip_serializing_if = "is_zero_u32")]
    #[schemars(range(min = 0, max = 10_000))]
    pub crop_margin_px: u32,
    /// What the file holds.
    pub channels: Channels,
}

// serde's skip_serializing_if hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// Whether to crop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Crop {
    /// The whole picture.
    #[default]
    None,
    /// To the box around the subject.
    Subject,
}

/// What the finished file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Channels {
    /// Colour with alpha.
    #[default]
    Rgba,
    /// The matte alone, as grey.
    Alpha,
}

/// File formats of a finished picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImageFormat {
    /// PNG, lossless.
    #[default]
    Png,
    /// WebP, lossy with alpha.
    Webp,
    /// JPEG, no alpha.
    #[serde(alias = "jpg")]
    Jpeg,
    /// AVIF, lossy with alpha.
    Avif,
}

impl ImageFormat {
    /// Media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Jpeg => "image/jpeg",
            Self::Avif => "image/avif",
        }
    }

    /// File name extension without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Jpeg => "jpg",
            Self::Avif => "avif",
        }
    }
}

/// What lies behind the subject: `"transparent"`, a colour `"#rgb"`, `"#rrggbb"` or `"#rrggbbaa"`, an address of a
/// picture, or `{"blob":…}` of one already uploaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Background {
    /// Nothing.
    #[default]
    Transparent,
    /// One colour, straight (not premultiplied) sRGB with alpha.
    Color([u8; 4]),
    /// A picture to fetch; it covers the canvas, centred.
    Url(String),
    /// A picture already stored.
    Blob(BlobRef),
}

impl Background {
    /// Reads the string form.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn from_text(text: &str) -> Result<Self, String> {
        if text == "transparent" {
            return Ok(Self::Transparent);
        }
        if let Some(hex) = text.strip_prefix('#') {
            return parse_hex_color(hex).map(Self::Color).ok_or_else(|| {
                format!("`{text}` is not a colour: write #rgb, #rrggbb or #rrggbbaa")
            });
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::Url(text.to_owned()));
        }
        Err(format!(
            "`{text}` is no background: write `transparent`, a colour such as #ffffff, or an http(s) address"
        ))
    }
}

fn parse_hex_color(hex: &str) -> Option<[u8; 4]> {
    if !hex.is_ascii() {
        return None;
    }
    let digit = |index: usize| u8::from_str_radix(hex.get(index..=index)?, 16).ok();
    let pair = |index: usize| Some(digit(index)? * 16 + digit(index + 1)?);
    match hex.len() {
        3 => Some([digit(0)? * 17, digit(1)? * 17, digit(2)? * 17, 255]),
        6 => Some([pair(0)?, pair(2)?, pair(4)?, 255]),
        8 => Some([pair(0)?, pair(2)?, pair(4)?, pair(6)?]),
        _ => None,
    }
}

impl JsonSchema for Background {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Background".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "What lies behind the subject.",
            "anyOf": [
                { "const": "transparent" },
                { "type": "string", "pattern": "^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})$" },
                { "type": "string", "format": "uri", "pattern": "^https?://" },
                {
                    "type": "object",
                    "required": ["blob"],
                    "properties": { "blob": generator.subschema_for::<BlobRef>() },
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl Serialize for Background {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        match self {
            Self::Transparent => serializer.serialize_str("transparent"),
            Self::Color([red, green, blue, 255]) => {
                serializer.serialize_str(&format!("#{red:02x}{green:02x}{blue:02x}"))
            }
            Self::Color([red, green, blue, alpha]) => {
                serializer.serialize_str(&format!("#{red:02x}{green:02x}{blue:02x}{alpha:02x}"))
            }
            Self::Url(url) => serializer.serialize_str(url),
            Self::Blob(blob) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("blob", blob)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Background {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            blob: BlobRef,
        }
        struct StringOrBlob;
        impl<'de> de::Visitor<'de> for StringOrBlob {
            type Value = Background;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("`transparent`, a colour such as #ffffff, an http(s) address, or an object with `blob`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Background, E> {
                Background::from_text(text).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Background, A::Error> {
                Fields::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|fields| Background::Blob(fields.blob))
            }
        }
        deserializer.deserialize_any(StringOrBlob)
    }
}

/// Checks what types alone cannot say; `invalid` makes the error of a pointer and a message.
pub(crate) fn check_output(
    output: &OutputOptions,
    invalid: impl Fn(&str, String) -> Box<ErrorBody>,
) -> Result<(), Box<ErrorBody>> {
    if let Some(quality) = output.encoding_quality
        && !(1..=100).contains(&quality)
    {
        return Err(invalid(
            "/options/output/encodingQuality",
            format!("{quality} is not from 1 to 100"),
        ));
    }
    if !(0.0..=20.0).contains(&output.edge_smoothing_px) {
        let message = format!("{} is not from 0 to 20", output.edge_smoothing_px);
        return Err(invalid("/options/output/edgeSmoothingPx", message));
    }
    if output.crop_margin_px > 10_000 {
        return Err(invalid(
            "/options/output/cropMarginPx",
            format!("{} is more than 10000", output.crop_margin_px),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backgrounds_round_trip() {
        for text in [
            "transparent",
            "#ff8000",
            "#ff800080",
            "https://a.example/b.png",
        ] {
            let background = Background::from_text(text).unwrap();
            assert_eq!(serde_json::to_value(&background).unwrap(), text);
        }
        assert_eq!(
            Background::from_text("#fff").unwrap(),
            Background::Color([255; 4])
        );
        for text in ["white", "#ffff", "#ggg", "file:///etc/passwd", "#é1"] {
            assert!(Background::from_text(text).is_err(), "{text}");
        }
    }
}
