//! Lengths and places as remove.bg writes them: `30px`, `10%`, `center`, `0% 0% 100% 50%`. Each type is a text on the wire, and
//! what parses is within its bounds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest length, in pixels.
const MAX_LENGTH_PX: f32 = 10_000.0;
/// Largest share, in percent.
const MAX_PERCENT: f32 = 100.0;

/// Makes a type a text on the wire, with the pattern that its schema names.
macro_rules! as_text {
    ($type:ident, $pattern:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "description": $description,
                })
            }
        }
    };
}
pub(crate) use as_text;

/// A length: pixels of the picture, or a share of something that the option names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Pixels of the picture.
    Px(f32),
    /// Percent.
    Percent(f32),
}

as_text!(
    Length,
    "^-?[0-9]+([.][0-9]+)?(px|%)?$",
    "A length: `30px` or `10%`."
);

impl Length {
    /// In pixels, where 100 % are `whole_px`.
    pub fn of(self, whole_px: f32) -> f32 {
        match self {
            Self::Px(pixels) => pixels,
            Self::Percent(percent) => percent / 100.0 * whole_px,
        }
    }

    fn number(self) -> f32 {
        match self {
            Self::Px(number) | Self::Percent(number) => number,
        }
    }

    /// Whether it is no less than nothing.
    pub fn is_distance(self) -> bool {
        self.number() >= 0.0
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a length: write it as 30px or 10%");
        let (digits, limit, unit): (_, _, fn(f32) -> Self) =
            if let Some(digits) = text.strip_suffix('%') {
                (digits, MAX_PERCENT, Self::Percent)
            } else {
                let digits = text.strip_suffix("px").unwrap_or(text);
                (digits, MAX_LENGTH_PX, Self::Px)
            };
        if digits.is_empty()
            || !digits
                .bytes()
                .all(|sign| sign.is_ascii_digit() || matches!(sign, b'.' | b'-'))
        {
            return Err(wrong());
        }
        let number: f32 = digits.parse().map_err(|_| wrong())?;
        if number.abs() > limit {
            return Err(format!("`{text}` is more than {limit}"));
        }
        Ok(unit(number))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Px(pixels) => write!(formatter, "{pixels}px"),
            Self::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

/// The border kept around a subject: one, two (top and bottom, left and right) or four lengths (top, right, bottom, left);
/// percent are of the subject's height or width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// Above.
    pub top: Length,
    /// To the right.
    pub right: Length,
    /// Below.
    pub bottom: Length,
    /// To the left.
    pub left: Length,
}

as_text!(
    Margin,
    "^[0-9.]+(px|%)?( [0-9.]+(px|%)?){0,3}$",
    "A margin: `30px`, `10% 5%` (top and bottom, left and right) or four lengths (top, right, bottom, left)."
);

impl Margin {
    /// The same on every side.
    pub fn even(length: Length) -> Self {
        Self {
            top: length,
            right: length,
            bottom: length,
            left: length,
        }
    }

    /// Its sides: top, right, bottom, left.
    pub fn sides(&self) -> [Length; 4] {
        [self.top, self.right, self.bottom, self.left]
    }
}

impl FromStr for Margin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lengths = lengths(text)?;
        let (top, right, bottom, left) = match *lengths.as_slice() {
            [all] => (all, all, all, all),
            [vertical, horizontal] => (vertical, horizontal, vertical, horizontal),
            [top, right, bottom, left] => (top, right, bottom, left),
            _ => {
                return Err(format!(
                    "`{text}` is no margin: give one, two or four lengths"
                ));
            }
        };
        if !lengths.iter().all(|length| length.is_distance()) {
            return Err(format!(
                "`{text}` is no margin: none of its lengths may be negative"
            ));
        }
        Ok(Self {
            top,
            right,
            bottom,
            left,
        })
    }
}

impl fmt::Display for Margin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [top, right, bottom, left] = self.sides();
        if self.sides().iter().all(|side| *side == top) {
            write!(formatter, "{top}")
        } else {
            write!(formatter, "{top} {right} {bottom} {left}")
        }
    }
}

fn lengths(text: &str) -> Result<Vec<Length>, String> {
    text.split_ascii_whitespace().map(str::parse).collect()
}

/// Where on its canvas the subject is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Position {
    /// Where it is in the picture.
    #[default]
    Original,
    /// This share of the free room is to the left of it and above it, in percent: 0 is the left or upper edge, 50 the middle.
    At {
        /// From the left.
        x_percent: f32,
        /// From above.
        y_percent: f32,
    },
}

as_text!(
    Position,
    "^(original|(center|top|bottom|left|right|[0-9.]+%)([ -](center|top|bottom|left|right|[0-9.]+%))?)$",
    "Where the subject is: `original`, `center`, `bottom`, `top-left`, `30%` (of the free room, both ways) or `30% 100%` (horizontal, vertical)."
);

impl Position {
    /// In the middle.
    pub const CENTER: Self = Self::At {
        x_percent: 50.0,
        y_percent: 50.0,
    };
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "original" {
            return Ok(Self::Original);
        }
        let wrong = || {
            format!(
                "`{text}` is no position: write original, center, top-left or the like, or one or two shares from 0% to 100%"
            )
        };
        // A hyphen joins names (`top-left`); before a number it would be a sign.
        let joints: &[char] = if text.contains('%') {
            &[' ']
        } else {
            &[' ', '-']
        };
        let words: Vec<&str> = text.split(joints).filter(|word| !word.is_empty()).collect();
        let share = |word: &str| match word.parse() {
            Ok(Length::Percent(percent)) if percent >= 0.0 => Some(percent),
            _ => None,
        };
        let shares: Option<Vec<f32>> = words.iter().map(|word| share(word)).collect();
        let (x_percent, y_percent) = match (shares.as_deref(), words.as_slice()) {
            (Some([both]), _) => (*both, *both),
            (Some([x, y]), _) => (*x, *y),
            (_, [] | [_, _, _, ..]) => return Err(wrong()),
            (_, words) => named(words).ok_or_else(wrong)?,
        };
        Ok(Self::At {
            x_percent,
            y_percent,
        })
    }
}

/// The share to the left and above that one or two names say; `None` where they are no names, or of one direction both.
fn named(words: &[&str]) -> Option<(f32, f32)> {
    let (mut x_percent, mut y_percent) = (None, None);
    for word in words {
        let (axis, percent) = match *word {
            "left" => (&mut x_percent, 0.0),
            "right" => (&mut x_percent, 100.0),
            "top" => (&mut y_percent, 0.0),
            "bottom" => (&mut y_percent, 100.0),
            "center" => continue,
            _ => return None,
        };
        if axis.replace(percent).is_some() {
            return None;
        }
    }
    Some((x_percent.unwrap_or(50.0), y_percent.unwrap_or(50.0)))
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Original => formatter.write_str("original"),
            Self::At {
                x_percent,
                y_percent,
            } => write!(formatter, "{x_percent}% {y_percent}%"),
        }
    }
}

/// How large the subject is on its canvas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// A pixel of the picture is a pixel of the canvas.
    Original,
    /// What is not cropped off is made as large as the canvas holds.
    Fit,
    /// The subject takes this share of the canvas, in percent, by its longer side.
    Percent(f32),
}

as_text!(
    Scale,
    "^(original|fit|[0-9.]+%)$",
    "How large the subject is: `original`, `fit` (what is not cropped off fills the canvas) or the share of the canvas that it takes, such as `80%`."
);

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "original" => return Ok(Self::Original),
            "fit" => return Ok(Self::Fit),
            _ => {}
        }
        match text.parse() {
            Ok(Length::Percent(percent)) if percent >= 1.0 => Ok(Self::Percent(percent)),
            _ => Err(format!(
                "`{text}` is no scale: write original, fit, or 1% to 100%"
            )),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Original => formatter.write_str("original"),
            Self::Fit => formatter.write_str("fit"),
            Self::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

/// A rectangle of the upright picture by two of its corners, the upper left and the lower right one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Left edge.
    pub x1: Length,
    /// Upper edge.
    pub y1: Length,
    /// Right edge.
    pub x2: Length,
    /// Lower edge.
    pub y2: Length,
}

as_text!(
    Region,
    "^[0-9.]+(px|%)?( [0-9.]+(px|%)?){3}$",
    "A rectangle of the upright picture, `x1 y1 x2 y2`, each in pixels (`30px`) or as a share of its width or height (`10%`)."
);

impl Region {
    /// The columns and rows that it takes of a picture of this size; `None` where nothing is left.
    pub fn within(
        &self,
        width: u32,
        height: u32,
    ) -> Option<(std::ops::Range<u32>, std::ops::Range<u32>)> {
        let edge = |length: Length, side: u32| {
            // Nothing is lost: a side has less than 24 bits.
            (length.of(side as f32).round() as u32).min(side)
        };
        let columns = edge(self.x1, width)..edge(self.x2, width);
        let rows = edge(self.y1, height)..edge(self.y2, height);
        (!columns.is_empty() && !rows.is_empty()).then_some((columns, rows))
    }
}

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [x1, y1, x2, y2] = *lengths(text)?.as_slice() else {
            return Err(format!(
                "`{text}` is no region: give four lengths, x1 y1 x2 y2"
            ));
        };
        let region = Self { x1, y1, x2, y2 };
        if ![x1, y1, x2, y2].iter().all(|length| length.is_distance()) {
            return Err(format!(
                "`{text}` is no region: none of its lengths may be negative"
            ));
        }
        let reversed = |from: Length, to: Length| match (from, to) {
            (Length::Px(from), Length::Px(to)) | (Length::Percent(from), Length::Percent(to)) => {
                from >= to
            }
            _ => false,
        };
        if reversed(x1, x2) || reversed(y1, y2) {
            return Err(format!(
                "`{text}` is an empty region: x2 and y2 must be greater than x1 and y1"
            ));
        }
        Ok(region)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { x1, y1, x2, y2 } = self;
        write!(formatter, "{x1} {y1} {x2} {y2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: FromStr<Err = String> + fmt::Display + PartialEq + fmt::Debug>(
        text: &str,
        shown: &str,
    ) {
        let parsed: T = text.parse().unwrap();
        assert_eq!(parsed.to_string(), shown);
        assert_eq!(shown.parse::<T>().unwrap(), parsed);
    }

    #[test]
    fn what_is_written_is_read_again() {
        round_trip::<Length>("30", "30px");
        round_trip::<Length>("-2.5%", "-2.5%");
        round_trip::<Margin>("30px", "30px");
        round_trip::<Margin>("10% 20px", "10% 20px 10% 20px");
        round_trip::<Position>("original", "original");
        round_trip::<Position>("center", "50% 50%");
        round_trip::<Position>("bottom-right", "100% 100%");
        round_trip::<Position>("top", "50% 0%");
        round_trip::<Position>("30%", "30% 30%");
        round_trip::<Scale>("fit", "fit");
        round_trip::<Scale>("80%", "80%");
        round_trip::<Region>("10px 0% 100% 50%", "10px 0% 100% 50%");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["", "px", "1e3", "inf", "101%", "10001px", "1-", "ten"] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
        for text in ["", "-1px", "1 2 3", "1 2 3 4 5"] {
            assert!(text.parse::<Margin>().is_err(), "{text}");
        }
        for text in [
            "",
            "middle",
            "left left",
            "30px",
            "10% top",
            "1% 2% 3%",
            "-5%",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        for text in ["0%", "80", "80px", "huge"] {
            assert!(text.parse::<Scale>().is_err(), "{text}");
        }
        for text in ["1 2 3", "50% 0% 50% 100%", "-1% 0% 5% 5%"] {
            assert!(text.parse::<Region>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_region_is_cut_at_the_picture() {
        let region: Region = "25% 10px 100% 900px".parse().unwrap();
        assert_eq!(region.within(80, 60), Some((20..80, 10..60)));
        assert_eq!(
            "90px 0% 95px 100%"
                .parse::<Region>()
                .unwrap()
                .within(80, 60),
            None
        );
    }
}
