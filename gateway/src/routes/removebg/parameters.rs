//! The parameters of remove.bg, brought into a task's options. What this pipeline does works; what it does not do yet is
//! refused, so that nobody gets another picture than the one asked for.

use std::collections::BTreeMap;

use atelier_schemas::{
    Background, BlobRef, ImageFormat, KindChoice, OutputOptions, Quality, TaskOptions,
    request::{Channels, Crop},
};

use super::{colors, error::Refused};

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
    /// Most pixels of the answer; the pipeline's own size where it is absent.
    pub max_pixels: Option<u64>,
    /// How finely `X-Type` tells kinds apart; `None` leaves it out.
    pub type_level: Option<u8>,
}

impl Wanted {
    /// Reads the parameters. `background` is an uploaded `bg_image_file`.
    ///
    /// # Errors
    /// 400 with the parameter's name.
    pub fn read(fields: &Fields, background: Option<BlobRef>) -> Result<Self, Refused> {
        if let Some(unknown) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            let shown: String = unknown.chars().take(80).collect();
            return Err(Refused::request(
                "unknown_parameter",
                format!("Unknown parameter {shown}"),
                format!("known are {}", KNOWN.join(", ")),
            ));
        }
        refuse_what_is_not_built(fields)?;
        let channels = channels(fields)?;
        let background = read_background(fields, background)?;
        let (crop, crop_margin_px) = crop(fields)?;
        let format = format(fields, channels, &background)?;
        let output = OutputOptions {
            format,
            background,
            crop,
            crop_margin_px,
            channels,
            ..OutputOptions::default()
        };
        let options = TaskOptions {
            kind: kind(fields)?,
            quality: Quality::High,
            output,
            ..TaskOptions::default()
        };
        Ok(Self {
            options,
            max_pixels: max_pixels(fields)?,
            type_level: type_level(fields)?,
        })
    }
}

fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str)
}

/// Parameters that the pipeline has no stage for yet; the values that mean "as it is" pass.
fn refuse_what_is_not_built(fields: &Fields) -> Result<(), Refused> {
    let neutral: [(&str, &[&str]); 7] = [
        ("roi", &["0% 0% 100% 100%"]),
        ("scale", &["original", "100%"]),
        ("position", &["original"]),
        ("add_shadow", &["false", "0"]),
        ("shadow_type", &["none"]),
        ("semitransparency", &["true", "1"]),
        ("test", &["false", "0"]),
    ];
    for (name, accepted) in neutral {
        if let Some(found) = value(fields, name)
            && !accepted.contains(&found)
        {
            return Err(Refused::not_built(name, found));
        }
    }
    for name in ["shadow_opacity", "preset"] {
        if let Some(found) = value(fields, name) {
            return Err(Refused::not_built(name, found));
        }
    }
    Ok(())
}

fn max_pixels(fields: &Fields) -> Result<Option<u64>, Refused> {
    match value(fields, "size").unwrap_or("preview") {
        "preview" | "small" | "regular" => Ok(Some(250_000)),
        "medium" => Ok(Some(1_500_000)),
        "hd" => Ok(Some(4_000_000)),
        "auto" | "full" | "4k" | "50MP" => Ok(None),
        other => Err(Refused::invalid(
            "size",
            other,
            "preview, medium, hd, full, 50MP or auto",
        )),
    }
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
    let see_through = match background {
        Background::Transparent => true,
        Background::Color([_, _, _, alpha]) => *alpha < 255,
        Background::Url(_) | Background::Blob(_) => false,
    };
    match value(fields, "format").unwrap_or("auto") {
        "auto" if see_through || channels == Channels::Alpha => Ok(ImageFormat::Png),
        "auto" | "jpg" | "jpeg" => Ok(ImageFormat::Jpeg),
        "png" => Ok(ImageFormat::Png),
        "webp" => Ok(ImageFormat::Webp),
        "zip" => Err(Refused::not_built("format", "zip")),
        other => Err(Refused::invalid("format", other, "auto, png, jpg or webp")),
    }
}

fn crop(fields: &Fields) -> Result<(Crop, u32), Refused> {
    let crop = match value(fields, "crop").unwrap_or("false") {
        "true" | "1" => Crop::Subject,
        "false" | "0" => Crop::None,
        other => return Err(Refused::invalid("crop", other, "true or false")),
    };
    let margin = match value(fields, "crop_margin") {
        None => 0,
        Some(relative) if relative.contains('%') || relative.trim().contains(' ') => {
            return Err(Refused::not_built("crop_margin", relative));
        }
        Some(absolute) => {
            let pixels = absolute
                .strip_suffix("px")
                .unwrap_or(absolute)
                .parse::<u32>()
                .ok()
                .filter(|pixels| *pixels <= 500);
            pixels.ok_or_else(|| Refused::invalid("crop_margin", absolute, "0px to 500px"))?
        }
    };
    // Without a crop there is nothing that could have a margin.
    Ok(if crop == Crop::None {
        (Crop::None, 0)
    } else {
        (crop, margin)
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

    #[test]
    fn the_defaults_are_those_of_the_published_api() {
        let wanted = read(&[]).unwrap();
        assert_eq!(wanted.max_pixels, Some(250_000));
        assert_eq!(wanted.options.output.format, ImageFormat::Png);
        assert_eq!(wanted.options.kind, KindChoice::Auto);
    }

    #[test]
    fn what_the_pipeline_does_is_understood() {
        let wanted = read(&[
            ("size", "auto"),
            ("type", "person"),
            ("bg_color", "81d4fa"),
            ("crop", "true"),
            ("crop_margin", "30px"),
        ])
        .unwrap();
        assert_eq!(wanted.max_pixels, None);
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
        assert_eq!(
            (
                wanted.options.output.crop,
                wanted.options.output.crop_margin_px
            ),
            (Crop::Subject, 30)
        );
        assert_eq!(
            read(&[("channels", "alpha")])
                .unwrap()
                .options
                .output
                .format,
            ImageFormat::Png
        );
        assert_eq!(
            read(&[("bg_color", "00ff0080")])
                .unwrap()
                .options
                .output
                .format,
            ImageFormat::Png
        );
    }

    #[test]
    fn what_it_does_not_do_is_refused() {
        for field in [
            ("size", "huge"),
            ("type", "planet"),
            ("format", "zip"),
            ("format", "bmp"),
            ("roi", "0% 0% 50% 50%"),
            ("scale", "80%"),
            ("position", "center"),
            ("add_shadow", "true"),
            ("crop_margin", "10%"),
            ("crop_margin", "501px"),
            ("bg_color", "greenish"),
            ("bg_image_url", "file:///etc/passwd"),
            ("semitransparency", "false"),
            ("colour", "red"),
        ] {
            assert!(read(&[field]).is_err(), "{field:?}");
        }
        assert!(
            read(&[
                ("bg_color", "fff"),
                ("bg_image_url", "https://a.example/b.png")
            ])
            .is_err()
        );
    }
}
