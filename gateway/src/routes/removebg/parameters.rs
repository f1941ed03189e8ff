//! The parameters of remove.bg, brought into a task's options as its documentation says. What this pipeline does not do is
//! refused, so that nobody gets another picture than the one asked for.

use std::collections::BTreeMap;

use atelier_schemas::{
    Background, BlobRef, ImageFormat, KindChoice, OutputOptions, Quality, TaskOptions,
    output::{Channels, Crop},
    placement::{Length, Margin, Position, Region, Scale},
    shadow::{Shadow, ShadowKind},
};

use super::{colors, error::Refused};

/// Most megapixels of a PNG.
const MAX_PNG_PIXELS: u64 = 10_000_000;
/// Widest margin on a side: in pixels, and in percent of the subject.
const MAX_MARGIN: (f32, f32) = (500.0, 50.0);

/// The text parameters of a request, by name; empty ones are left out.
pub type Fields = BTreeMap<String, String>;

/// Every text parameter of the published API.
const KNOWN: [&str; 20] = [
    "image_url",
    "image_file_b64",
    "size",
    "type",
    "type_level",
    "format",
    "roi",
    "crop",
    "crop_margin",
    "scale",
    "position",
    "channels",
    "add_shadow",
    "shadow_type",
    "shadow_opacity",
    "semitransparency",
    "bg_color",
    "bg_image_url",
    "preset",
    "test",
];

/// What is to be done with the picture.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    /// The task's options.
    pub options: TaskOptions,
    /// How finely `X-Type` tells kinds apart; `None` leaves it out.
    pub type_level: Option<u8>,
}

impl Wanted {
    /// Reads the parameters. `background` is an uploaded `bg_image_file`.
    ///
    /// # Errors
    /// 400 with the parameter's name.
    pub fn read(fields: &Fields, background: Option<BlobRef>) -> Result<Self, Refused> {
        refuse_what_is_not_built(fields)?;
        if let Some(unknown) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            let shown: String = unknown.chars().take(80).collect();
            return Err(Refused::request(
                "unknown_parameter",
                format!("Unknown parameter {shown}"),
                format!("known are {}", KNOWN.join(", ")),
            ));
        }
        let channels = channels(fields)?;
        let background = read_background(fields, background)?;
        let (crop, crop_margin) = crop(fields)?;
        let format = format(fields, channels, &background)?;
        let output = OutputOptions {
            format,
            background,
            crop,
            crop_margin,
            channels,
            max_pixels: Some(max_pixels(fields, format)?),
            scale: parsed(fields, "scale", "original or 10% to 100%", scale)?,
            position: parsed(
                fields,
                "position",
                "original, center or one or two shares from 0% to 100%",
                position,
            )?,
            semitransparency: flag(fields, "semitransparency", true)?,
            shadow: shadow(fields)?,
            ..OutputOptions::default()
        };
        let options = TaskOptions {
            kind: kind(fields)?,
            quality: Quality::High,
            roi: parsed(
                fields,
                "roi",
                "four lengths in px or %, x1 y1 x2 y2",
                |text| text.parse::<Region>().ok(),
            )?,
            output,
            ..TaskOptions::default()
        };
        Ok(Self {
            options,
            type_level: type_level(fields)?,
        })
    }
}

fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str)
}

/// Reads a parameter that may be absent; `expected` says what it has to be.
fn parsed<T>(
    fields: &Fields,
    name: &str,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refused> {
    value(fields, name)
        .map(|text| read(text).ok_or_else(|| Refused::invalid(name, text, expected)))
        .transpose()
}

fn flag(fields: &Fields, name: &str, usual: bool) -> Result<bool, Refused> {
    let read = |text: &str| match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    };
    Ok(parsed(fields, name, "true or false", read)?.unwrap_or(usual))
}

/// What the pipeline cannot do; the values that mean "as it is" pass. A shadow of its own for each type of foreground
/// (`shadow_type[car]=…`) needs types that no model here tells apart.
fn refuse_what_is_not_built(fields: &Fields) -> Result<(), Refused> {
    let by_type =
        |name: &&String| name.starts_with("shadow_type[") || name.starts_with("shadow_opacity[");
    if let Some(name) = fields.keys().find(by_type) {
        return Err(Refused::not_built(name, &fields[name]));
    }
    if let Some(preset) = value(fields, "preset") {
        return Err(Refused::not_built("preset", preset));
    }
    match value(fields, "test") {
        Some(test) if !["false", "0"].contains(&test) => Err(Refused::not_built("test", test)),
        _ => Ok(()),
    }
}

/// The most pixels of a size; a PNG has no more than ten megapixels whatever the size.
fn max_pixels(fields: &Fields, format: ImageFormat) -> Result<u64, Refused> {
    let of_size = match value(fields, "size").unwrap_or("preview") {
        "preview" | "small" | "regular" => 250_000,
        "medium" => 1_500_000,
        "hd" => 4_000_000,
        "auto" | "full" | "4k" => 25_000_000,
        "50MP" => 50_000_000,
        other => {
            return Err(Refused::invalid(
                "size",
                other,
                "preview, medium, hd, full, 50MP or auto",
            ));
        }
    };
    Ok(match format {
        ImageFormat::Png => of_size.min(MAX_PNG_PIXELS),
        _ => of_size,
    })
}

fn scale(text: &str) -> Option<Scale> {
    match text.parse() {
        Ok(Scale::Percent(percent)) if percent < 10.0 => None,
        Ok(Scale::Fit) | Err(_) => None,
        Ok(scale) => Some(scale),
    }
}

/// The names of sides are the pipeline's own, not the dialect's.
fn position(text: &str) -> Option<Position> {
    let known = matches!(text, "original" | "center") || text.contains('%');
    known.then(|| text.parse().ok()).flatten()
}

/// A car's shadow is on the ground below it, and so is what remove.bg calls 3D: both are the pipeline's contact shadow.
fn shadow(fields: &Fields) -> Result<Shadow, Refused> {
    let of_type = match value(fields, "type").unwrap_or("auto") {
        "auto" => ShadowKind::Auto,
        "car" | "person" | "transportation" => ShadowKind::Contact,
        _ => ShadowKind::Drop,
    };
    let is_car = value(fields, "type") == Some("car");
    // Deprecated there; it means a shadow under cars, and none under anything else.
    let usual = if flag(fields, "add_shadow", false)? && is_car {
        "car"
    } else {
        "none"
    };
    let kind = match value(fields, "shadow_type").unwrap_or(usual) {
        "none" => ShadowKind::None,
        "auto" => of_type,
        "drop" => ShadowKind::Drop,
        "car" | "3D" => ShadowKind::Contact,
        other => {
            return Err(Refused::invalid(
                "shadow_type",
                other,
                "auto, drop, 3D, car or none",
            ));
        }
    };
    let is_opacity = |text: &str| match text {
        "auto" => Some(None),
        _ => {
            let percent: f32 = text.parse().ok()?;
            (0.0..=100.0)
                .contains(&percent)
                .then_some(Some(percent / 100.0))
        }
    };
    let opacity = parsed(fields, "shadow_opacity", "auto or 0 to 100", is_opacity)?.flatten();
    if kind == ShadowKind::None {
        return Ok(Shadow::default());
    }
    let usual_opacity = if is_car { 0.9 } else { 0.5 };
    Ok(Shadow {
        kind,
        opacity: Some(opacity.unwrap_or(usual_opacity)),
        ..Shadow::default()
    })
}

fn kind(fields: &Fields) -> Result<KindChoice, Refused> {
    match value(fields, "type").unwrap_or("auto") {
        "auto" | "other" => Ok(KindChoice::Auto),
        "person" => Ok(KindChoice::Portrait),
        "product" | "car" | "animal" | "transportation" => Ok(KindChoice::Product),
        "graphic" | "graphics" => Ok(KindChoice::Graphic),
        other => Err(Refused::invalid(
            "type",
            other,
            "auto, person, product, car, animal, graphic, transportation or other",
        )),
    }
}

fn type_level(fields: &Fields) -> Result<Option<u8>, Refused> {
    match value(fields, "type_level").unwrap_or("1") {
        "none" => Ok(None),
        "1" => Ok(Some(1)),
        "2" | "latest" => Ok(Some(2)),
        other => Err(Refused::invalid(
            "type_level",
            other,
            "none, 1, 2 or latest",
        )),
    }
}

fn channels(fields: &Fields) -> Result<Channels, Refused> {
    match value(fields, "channels").unwrap_or("rgba") {
        "rgba" => Ok(Channels::Rgba),
        "alpha" => Ok(Channels::Alpha),
        other => Err(Refused::invalid("channels", other, "rgba or alpha")),
    }
}

fn read_background(fields: &Fields, uploaded: Option<BlobRef>) -> Result<Background, Refused> {
    let color = value(fields, "bg_color");
    let url = value(fields, "bg_image_url");
    if usize::from(color.is_some()) + usize::from(url.is_some()) + usize::from(uploaded.is_some())
        > 1
    {
        return Err(Refused::request(
            "multiple_backgrounds",
            "Multiple backgrounds given",
            "give one of bg_color, bg_image_url and bg_image_file",
        ));
    }
    if let Some(color) = color {
        let parsed = colors::parse(color).ok_or_else(|| {
            Refused::invalid(
                "bg_color",
                color,
                "a hex code such as 81d4fa, fff or 81d4fa77, or a name such as green",
            )
        })?;
        return Ok(if parsed[3] == 0 {
            Background::Transparent
        } else {
            Background::Color(parsed)
        });
    }
    if let Some(url) = url {
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            return Err(Refused::invalid(
                "bg_image_url",
                url,
                "an http or https address",
            ));
        }
        return Ok(Background::Url(url.to_owned()));
    }
    Ok(uploaded.map_or(Background::Transparent, Background::Blob))
}

fn format(
    fields: &Fields,
    channels: Channels,
    background: &Background,
) -> Result<ImageFormat, Refused> {
    let see_through = background.is_see_through();
    match value(fields, "format").unwrap_or("auto") {
        "auto" if see_through || channels == Channels::Alpha => Ok(ImageFormat::Png),
        "auto" | "jpg" | "jpeg" => Ok(ImageFormat::Jpeg),
        "png" => Ok(ImageFormat::Png),
        "webp" => Ok(ImageFormat::Webp),
        "zip" if channels == Channels::Rgba => Ok(ImageFormat::Zip),
        "zip" => Err(Refused::invalid(
            "format",
            "zip",
            "png, jpg or webp with channels=alpha",
        )),
        other => Err(Refused::invalid(
            "format",
            other,
            "auto, png, jpg, webp or zip",
        )),
    }
}

fn crop(fields: &Fields) -> Result<(Crop, Option<Margin>), Refused> {
    let is_margin = |text: &str| {
        let margin: Margin = text.parse().ok()?;
        let within = |length: Length| match length {
            Length::Px(pixels) => pixels <= MAX_MARGIN.0,
            Length::Percent(percent) => percent <= MAX_MARGIN.1,
        };
        margin.sides().into_iter().all(within).then_some(margin)
    };
    let expected = "one, two or four lengths up to 500px or 50%";
    let margin = parsed(fields, "crop_margin", expected, is_margin)?;
    // Without a crop there is nothing that could have a margin: there it has no effect.
    Ok(if flag(fields, "crop", false)? {
        (Crop::Subject, margin)
    } else {
        (Crop::None, None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Wanted, Refused> {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Wanted::read(&fields, None)
    }

    fn output(fields: &[(&str, &str)]) -> OutputOptions {
        read(fields).unwrap().options.output
    }

    #[test]
    fn the_defaults_are_those_of_the_published_api() {
        let wanted = read(&[]).unwrap();
        assert_eq!(
            wanted.options.output,
            OutputOptions {
                max_pixels: Some(250_000),
                ..OutputOptions::default()
            }
        );
        assert_eq!(wanted.options.kind, KindChoice::Auto);
        assert_eq!((wanted.options.roi, wanted.type_level), (None, Some(1)));
    }

    #[test]
    fn every_size_has_its_pixels() {
        for (size, format, expected) in [
            ("small", "png", 250_000),
            ("regular", "zip", 250_000),
            ("medium", "png", 1_500_000),
            ("hd", "png", 4_000_000),
            ("full", "png", 10_000_000),
            ("auto", "webp", 25_000_000),
            ("4k", "jpg", 25_000_000),
            ("50MP", "zip", 50_000_000),
            ("50MP", "png", 10_000_000),
        ] {
            let found = output(&[("size", size), ("format", format)]).max_pixels;
            assert_eq!(found, Some(expected), "{size} as {format}");
        }
    }

    #[test]
    fn what_the_pipeline_does_is_understood() {
        let wanted = read(&[
            ("type", "person"),
            ("bg_color", "81d4fa"),
            ("crop", "true"),
            ("crop_margin", "30px 10%"),
            ("roi", "0% 10px 100% 90%"),
        ])
        .unwrap();
        assert_eq!(wanted.options.kind, KindChoice::Portrait);
        assert_eq!(
            wanted.options.output.format,
            ImageFormat::Jpeg,
            "auto with a colour behind is JPEG"
        );
        assert_eq!(
            wanted.options.output.background,
            Background::Color([0x81, 0xd4, 0xfa, 255])
        );
        assert_eq!(wanted.options.output.crop, Crop::Subject);
        assert_eq!(wanted.options.output.crop_margin, "30px 10%".parse().ok());
        assert_eq!(wanted.options.roi, "0% 10px 100% 90%".parse().ok());
        assert_eq!(
            output(&[("crop_margin", "30px")]).crop_margin,
            None,
            "no crop, no margin"
        );
        assert_eq!(output(&[("channels", "alpha")]).format, ImageFormat::Png);
        assert_eq!(output(&[("bg_color", "00ff0080")]).format, ImageFormat::Png);
        assert_eq!(
            output(&[("scale", "80%")]).scale,
            Some(Scale::Percent(80.0))
        );
        assert_eq!(
            output(&[("position", "10% 90%")]).position,
            "10% 90%".parse().ok()
        );
        assert!(!output(&[("semitransparency", "false")]).semitransparency);
    }

    #[test]
    fn every_shadow_has_its_type_and_opacity() {
        for (fields, expected) in [
            (&[("shadow_type", "none")][..], None),
            (&[("add_shadow", "true")], None),
            (
                &[("add_shadow", "true"), ("type", "car")],
                Some((ShadowKind::Contact, 0.9)),
            ),
            (&[("shadow_type", "auto")], Some((ShadowKind::Auto, 0.5))),
            (
                &[("shadow_type", "auto"), ("type", "animal")],
                Some((ShadowKind::Drop, 0.5)),
            ),
            (
                &[("shadow_type", "auto"), ("type", "person")],
                Some((ShadowKind::Contact, 0.5)),
            ),
            (
                &[("shadow_type", "drop"), ("shadow_opacity", "25")],
                Some((ShadowKind::Drop, 0.25)),
            ),
            (
                &[("shadow_type", "3D"), ("shadow_opacity", "auto")],
                Some((ShadowKind::Contact, 0.5)),
            ),
        ] {
            let shadow = output(fields).shadow;
            let found = (!shadow.is_none()).then(|| (shadow.kind, shadow.opacity.unwrap()));
            assert_eq!(found, expected, "{fields:?}");
        }
    }

    #[test]
    fn what_it_does_not_do_is_refused() {
        for field in [
            ("size", "huge"),
            ("type", "planet"),
            ("format", "bmp"),
            ("roi", "0% 0% 50%"),
            ("roi", "50% 0% 50% 100%"),
            ("scale", "5%"),
            ("scale", "fit"),
            ("position", "left"),
            ("position", "10% 10% 10%"),
            ("add_shadow", "perhaps"),
            ("shadow_type", "neon"),
            ("shadow_type[car]", "car"),
            ("shadow_opacity", "101"),
            ("crop_margin", "51%"),
            ("crop_margin", "501px"),
            ("bg_color", "greenish"),
            ("bg_image_url", "file:///etc/passwd"),
            ("semitransparency", "perhaps"),
            ("preset", "mine"),
            ("colour", "red"),
        ] {
            assert!(read(&[field]).is_err(), "{field:?}");
        }
        for fields in [
            [
                ("bg_color", "fff"),
                ("bg_image_url", "https://a.example/b.png"),
            ],
            [("format", "zip"), ("channels", "alpha")],
        ] {
            assert!(read(&fields).is_err(), "{fields:?}");
        }
    }
}
