//! What lies behind a subject. On the wire it is a text where that says it all, an object otherwise; every text that style
//! sheets have for the same thing (`linear-gradient(…)`, `blur(…)`) is read too.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    BlobRef,
    placement::{Length, as_text},
};

/// Most stops of a gradient.
const MAX_STOPS: usize = 16;
/// Widest blur, as its standard deviation in pixels.
const MAX_BLUR_PX: f32 = 500.0;

/// What lies behind the subject: `"transparent"`, a colour `"#rgb"`, `"#rrggbb"` or `"#rrggbbaa"`, an address of a
/// picture, `{"blob":…}` of one already uploaded, `{"gradient":…}`, or `{"blur":…}`, the picture itself out of focus.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Background {
    /// Nothing.
    #[default]
    Transparent,
    /// One colour, straight (not premultiplied) sRGB with alpha.
    Color([u8; 4]),
    /// Colours that go over into each other.
    Gradient(Gradient),
    /// The picture's own background, out of focus: the standard deviation of the blur in pixels of the picture.
    Blur(f32),
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
        if text.starts_with('#') {
            return text.parse().map(|Color(color)| Self::Color(color));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::Url(text.to_owned()));
        }
        if let Some(blur) = text
            .strip_prefix("blur(")
            .and_then(|rest| rest.strip_suffix(')'))
        {
            return match blur.parse() {
                Ok(Length::Px(sigma_px)) => Ok(Self::Blur(sigma_px)),
                _ => Err(format!("`{text}` is no blur: write it as blur(12px)")),
            };
        }
        if text.contains("-gradient(") {
            return Gradient::from_text(text).map(Self::Gradient);
        }
        Err(format!(
            "`{text}` is no background: write `transparent`, a colour such as #ffffff, an http(s) address, \
             linear-gradient(180deg, #fff, #888), radial-gradient(#fff, #888) or blur(12px)"
        ))
    }

    /// Whether something of what is laid over it could shine through to what is behind.
    pub fn is_see_through(&self) -> bool {
        match self {
            Self::Transparent => true,
            Self::Color([_, _, _, alpha]) => *alpha < 255,
            Self::Gradient(gradient) => gradient.stops.iter().any(|stop| stop.color.0[3] < 255),
            Self::Blur(_) | Self::Url(_) | Self::Blob(_) => false,
        }
    }

    /// Checks what parsing cannot say.
    ///
    /// # Errors
    /// Where under the background the fault is, and what is wrong.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        match self {
            Self::Blur(sigma_px) if !(*sigma_px > 0.0 && *sigma_px <= MAX_BLUR_PX) => Err((
                "/blur",
                format!("{sigma_px} is not from 0 (excluded) to {MAX_BLUR_PX} pixels"),
            )),
            Self::Gradient(gradient) => gradient.check(),
            _ => Ok(()),
        }
    }
}

/// A colour, straight (not premultiplied) sRGB with alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub [u8; 4]);

as_text!(
    Color,
    "^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})$",
    "A colour: `#rgb`, `#rrggbb` or `#rrggbbaa`."
);

impl FromStr for Color {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix('#')
            .and_then(parse_hex_color)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a colour: write #rgb, #rrggbb or #rrggbbaa"))
    }
}

impl fmt::Display for Color {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue, alpha] = self.0;
        write!(formatter, "#{red:02x}{green:02x}{blue:02x}")?;
        if alpha < 255 {
            write!(formatter, "{alpha:02x}")?;
        }
        Ok(())
    }
}

pub(crate) fn parse_hex_color(hex: &str) -> Option<[u8; 4]> {
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

/// Colours that go over into each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gradient {
    /// Along a line, or outwards from the middle to the farthest corner.
    #[serde(rename = "type", default)]
    pub kind: GradientKind,
    /// Where a linear gradient goes: 0 upwards, 90 to the right, 180 (the default) downwards.
    #[serde(default = "downwards", skip_serializing_if = "is_downwards")]
    #[schemars(range(min = -360.0, max = 360.0))]
    pub angle_degrees: f32,
    /// Its colours in order.
    #[schemars(length(min = 2, max = 16))]
    pub stops: Vec<GradientStop>,
}

fn downwards() -> f32 {
    180.0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_downwards(angle: &f32) -> bool {
    *angle == downwards()
}

/// The form of a gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GradientKind {
    /// Along a line.
    #[default]
    Linear,
    /// Outwards from the middle.
    Radial,
}

/// A colour of a gradient and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GradientStop {
    /// The colour.
    pub color: Color,
    /// Its place, from 0 (the beginning) to 1 (the end).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub at: f32,
}

impl Gradient {
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no gradient: write linear-gradient(90deg, #fff, #888 30%, #000) or radial-gradient(#fff, #888)"
            )
        };
        let (kind, rest) = if let Some(rest) = text.strip_prefix("linear-gradient(") {
            (GradientKind::Linear, rest)
        } else if let Some(rest) = text.strip_prefix("radial-gradient(") {
            (GradientKind::Radial, rest)
        } else {
            return Err(wrong());
        };
        let mut parts: Vec<&str> = rest
            .strip_suffix(')')
            .ok_or_else(wrong)?
            .split(',')
            .map(str::trim)
            .collect();
        let mut angle_degrees = downwards();
        if let Some(angle) = parts.first().and_then(|part| part.strip_suffix("deg")) {
            angle_degrees = angle.parse().map_err(|_| wrong())?;
            parts.remove(0);
        }
        let last = parts.len().saturating_sub(1).max(1) as f32;
        let stop = |(index, part): (usize, &&str)| {
            let (color, at) = match part.split_once(' ') {
                Some((color, at)) => match at.trim().parse() {
                    Ok(Length::Percent(percent)) => (color, percent / 100.0),
                    _ => return Err(wrong()),
                },
                None => (*part, index as f32 / last),
            };
            Ok(GradientStop {
                color: color.parse()?,
                at,
            })
        };
        Ok(Self {
            kind,
            angle_degrees,
            stops: parts
                .iter()
                .enumerate()
                .map(stop)
                .collect::<Result<_, _>>()?,
        })
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if !(-360.0..=360.0).contains(&self.angle_degrees) {
            let message = format!("{} is not from -360 to 360", self.angle_degrees);
            return Err(("/gradient/angleDegrees", message));
        }
        if !(2..=MAX_STOPS).contains(&self.stops.len()) {
            let message = format!("{} stops; give 2 to {MAX_STOPS}", self.stops.len());
            return Err(("/gradient/stops", message));
        }
        let in_order = self.stops.windows(2).all(|pair| pair[0].at <= pair[1].at);
        let in_bounds = self.stops.iter().all(|stop| (0.0..=1.0).contains(&stop.at));
        if !in_order || !in_bounds {
            let message = "the stops must be in order, from 0 to 1".to_owned();
            return Err(("/gradient/stops", message));
        }
        Ok(())
    }
}

impl JsonSchema for Background {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Background".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let object = |name: &str, schema: schemars::Schema| {
            schemars::json_schema!({
                "type": "object",
                "required": [name],
                "properties": { (name): schema },
                "additionalProperties": false,
            })
        };
        let blur = schemars::json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": MAX_BLUR_PX });
        schemars::json_schema!({
            "description": "What lies behind the subject. `blur` is the picture itself out of focus: the standard deviation in pixels.",
            "anyOf": [
                { "const": "transparent" },
                { "type": "string", "pattern": "^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})$" },
                { "type": "string", "format": "uri", "pattern": "^https?://" },
                { "type": "string", "pattern": "^(linear-gradient|radial-gradient|blur)[(].*[)]$" },
                object("blob", generator.subschema_for::<BlobRef>()),
                object("gradient", generator.subschema_for::<Gradient>()),
                object("blur", blur),
            ],
        })
    }
}

impl Serialize for Background {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        fn object<S: Serializer>(
            serializer: S,
            name: &str,
            value: &impl Serialize,
        ) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(name, value)?;
            map.end()
        }
        match self {
            Self::Transparent => serializer.serialize_str("transparent"),
            Self::Color(color) => Color(*color).serialize(serializer),
            Self::Url(url) => serializer.serialize_str(url),
            Self::Blob(blob) => object(serializer, "blob", blob),
            Self::Gradient(gradient) => object(serializer, "gradient", gradient),
            Self::Blur(sigma_px) => object(serializer, "blur", sigma_px),
        }
    }
}

impl<'de> Deserialize<'de> for Background {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The objects that a background can be.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        enum Object {
            Blob(BlobRef),
            Gradient(Gradient),
            Blur(f32),
        }
        struct StringOrObject;
        impl<'de> de::Visitor<'de> for StringOrObject {
            type Value = Background;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(
                    "`transparent`, a colour such as #ffffff, an http(s) address, or an object with `blob`, `gradient` or `blur`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Background, E> {
                Background::from_text(text).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Background, A::Error> {
                let object = Object::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(match object {
                    Object::Blob(blob) => Background::Blob(blob),
                    Object::Gradient(gradient) => Background::Gradient(gradient),
                    Object::Blur(sigma_px) => Background::Blur(sigma_px),
                })
            }
        }
        deserializer.deserialize_any(StringOrObject)
    }
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

    #[test]
    fn gradients_and_blurs_have_a_text_and_an_object() {
        for (text, object) in [
            (
                "linear-gradient(90deg, #fff, #888 30%, #000)",
                serde_json::json!({"gradient": {"type": "linear", "angleDegrees": 90.0, "stops": [
                    {"color": "#ffffff", "at": 0.0}, {"color": "#888888", "at": 0.3}, {"color": "#000000", "at": 1.0}]}}),
            ),
            (
                "radial-gradient(#fff, #00000080)",
                serde_json::json!({"gradient": {"type": "radial", "stops": [
                    {"color": "#ffffff", "at": 0.0}, {"color": "#00000080", "at": 1.0}]}}),
            ),
            ("blur(12px)", serde_json::json!({"blur": 12.0})),
        ] {
            let background = Background::from_text(text).unwrap();
            assert!(background.check().is_ok(), "{text}");
            let read: Background = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(read, background);
            let again: Background =
                serde_json::from_value(serde_json::to_value(&background).unwrap()).unwrap();
            assert_eq!(again, background);
        }
        for text in [
            "linear-gradient(#fff)",
            "linear-gradient(#fff 50%, #000 20%)",
            "blur(0)",
        ] {
            assert!(
                Background::from_text(text).unwrap().check().is_err(),
                "{text}"
            );
        }
        for text in [
            "conic-gradient(#fff, #000)",
            "linear-gradient(#fff, #000",
            "blur(5%)",
        ] {
            assert!(Background::from_text(text).is_err(), "{text}");
        }
    }
}
