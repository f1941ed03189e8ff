//! What a finished picture is like: its background, crop, channels and file format, as a request's `options.output` says it.
//! Whatever parses and passes the check of its request can be made; what contradicts itself is refused with its JSON pointer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::background::Background;
use crate::{
    ErrorBody,
    placement::{Margin, Position, Scale},
    shadow::Shadow,
};

/// Largest canvas, in pixels.
pub const MAX_CANVAS_PIXELS: u64 = 50_000_000;
/// Longest side of a canvas, in pixels.
const MAX_CANVAS_SIDE_PX: u32 = 16_000;

/// The finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutputOptions {
    /// File format.
    pub format: ImageFormat,
    /// What lies behind the subject. JPEG has no alpha: there, transparent becomes white.
    pub background: Background,
    /// Encoder quality from 1 to 100, for WebP, AVIF, JPEG and the colours of a ZIP; 90 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub encoding_quality: Option<u8>,
    /// Largest file, in bytes: the encoder's quality is lowered until it is met. A PNG has no quality: one that is larger even
    /// when packed tightly is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<u64>,
    /// Most pixels of the finished picture: a larger one is made smaller, its proportions kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_pixels: Option<u64>,
    /// Standard deviation of a smoothing of the matte's edge, in pixels of the picture, 0 to 20.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0, max = 20.0))]
    pub edge_smoothing_px: f32,
    /// Whether what is inside of the subject may be transparent in part, such as glass; if not, only its edge is.
    #[serde(skip_serializing_if = "is_true")]
    pub semitransparency: bool,
    /// Whether to crop to the subject and its shadow.
    pub crop: Crop,
    /// Empty border kept around the subject when cropping, in pixels of the picture, 0 to 10,000.
    #[serde(skip_serializing_if = "is_zero_u32")]
    #[schemars(range(min = 0, max = 10_000))]
    pub crop_margin_px: u32,
    /// The same side by side, in pixels or percent of the subject; instead of `cropMarginPx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_margin: Option<Margin>,
    /// The canvas; as large as the picture, or as what a crop leaves of it, where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<CanvasSize>,
    /// How large the subject is on the canvas; `fit` where a `size` is given, else `original`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Where on the canvas the subject is; `center` where a `size` or a `scale` is given, else `original`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The shadow under the subject, over the background. On a transparent one it is part of the alpha.
    #[serde(skip_serializing_if = "Shadow::is_none")]
    pub shadow: Shadow,
    /// What the file holds.
    pub channels: Channels,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            format: ImageFormat::default(),
            background: Background::default(),
            encoding_quality: None,
            max_bytes: None,
            max_pixels: None,
            edge_smoothing_px: 0.0,
            semitransparency: true,
            crop: Crop::default(),
            crop_margin_px: 0,
            crop_margin: None,
            size: None,
            scale: None,
            position: None,
            shadow: Shadow::default(),
            channels: Channels::default(),
        }
    }
}

/// The size of a canvas, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CanvasSize {
    /// From left to right.
    #[schemars(range(min = 1, max = 16_000))]
    pub width: u32,
    /// From top to bottom.
    #[schemars(range(min = 1, max = 16_000))]
    pub height: u32,
}

// serde's skip_serializing_if hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true(value: &bool) -> bool {
    *value
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
    /// The alpha alone, as grey.
    Alpha,
    /// The alpha alone, black or white.
    Mask,
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
    /// `color.jpg` and `alpha.png` in one ZIP file: together what a PNG would hold, in a fraction of its bytes.
    Zip,
}

impl ImageFormat {
    /// Media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Jpeg => "image/jpeg",
            Self::Avif => "image/avif",
            Self::Zip => "application/zip",
        }
    }

    /// File name extension without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Jpeg => "jpg",
            Self::Avif => "avif",
            Self::Zip => "zip",
        }
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
    if let Err((pointer, message)) = check_canvas(output) {
        return Err(invalid(&format!("/options/output{pointer}"), message));
    }
    if let Err((pointer, message)) = output.background.check() {
        return Err(invalid(
            &format!("/options/output/background{pointer}"),
            message,
        ));
    }
    output
        .shadow
        .check()
        .map_err(|(pointer, message)| invalid(&format!("/options/output/shadow{pointer}"), message))
}

/// What contradicts itself or is too large, by its place under the output.
fn check_canvas(output: &OutputOptions) -> Result<(), (&'static str, String)> {
    if output.crop_margin.is_some() && output.crop == Crop::None {
        return Err(("/cropMargin", "a margin needs `crop`: \"subject\"".into()));
    }
    if output.crop_margin.is_some() && output.crop_margin_px > 0 {
        let message = "give either `cropMargin` or `cropMarginPx`, not both".to_owned();
        return Err(("/cropMargin", message));
    }
    if let Some(CanvasSize { width, height }) = output.size {
        let sides = 1..=MAX_CANVAS_SIDE_PX;
        if !sides.contains(&width) || !sides.contains(&height) {
            let message =
                format!("{width} × {height}: a side has 1 to {MAX_CANVAS_SIDE_PX} pixels");
            return Err(("/size", message));
        }
        if u64::from(width) * u64::from(height) > MAX_CANVAS_PIXELS {
            let message = format!("{width} × {height} is more than {MAX_CANVAS_PIXELS} pixels");
            return Err(("/size", message));
        }
    }
    if output.max_bytes == Some(0) {
        return Err(("/maxBytes", "a file has at least one byte".into()));
    }
    if output.max_pixels == Some(0) {
        return Err(("/maxPixels", "a picture has at least one pixel".into()));
    }
    if output.channels != Channels::Rgba {
        if output.background != Background::Transparent {
            let message = "alpha alone has no background: leave it out, or ask for `rgba`".into();
            return Err(("/background", message));
        }
        if output.format == ImageFormat::Zip {
            let message =
                "a ZIP holds colours and alpha: ask for `rgba`, or for another format".into();
            return Err(("/channels", message));
        }
    }
    if output.channels == Channels::Mask && !output.shadow.is_none() {
        return Err(("/shadow", "a mask has no shadow".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, from_json};

    fn fault(output: &str) -> Option<String> {
        let output: OutputOptions = from_json(output.as_bytes()).unwrap();
        check_output(&output, |pointer, message| {
            let body = ErrorBody::new(ErrorCode::InvalidRequest, "test", "InvalidRequest", message);
            Box::new(body.at(pointer))
        })
        .err()
        .and_then(|error| error.details.pointer.clone())
    }

    #[test]
    fn what_contradicts_itself_is_refused_where_it_does() {
        for (output, pointer) in [
            (r#"{"cropMargin":"10%"}"#, "/cropMargin"),
            (
                r#"{"crop":"subject","cropMargin":"10%","cropMarginPx":3}"#,
                "/cropMargin",
            ),
            (r#"{"size":{"width":0,"height":5}}"#, "/size"),
            (r#"{"size":{"width":16000,"height":16000}}"#, "/size"),
            (r#"{"maxBytes":0}"#, "/maxBytes"),
            (
                r##"{"channels":"alpha","background":"#fff"}"##,
                "/background",
            ),
            (r#"{"channels":"mask","shadow":"drop"}"#, "/shadow"),
            (r#"{"channels":"mask","format":"zip"}"#, "/channels"),
            (r#"{"background":{"blur":0}}"#, "/background/blur"),
            (
                r##"{"background":{"gradient":{"stops":[{"color":"#fff","at":0}]}}}"##,
                "/background/gradient/stops",
            ),
            (
                r#"{"shadow":{"type":"drop","opacity":1.5}}"#,
                "/shadow/opacity",
            ),
            (r#"{"shadow":{"type":"keep","blur":"3px"}}"#, "/shadow/blur"),
            (
                r#"{"shadow":{"type":"contact","offsetX":"3px"}}"#,
                "/shadow/offsetX",
            ),
        ] {
            assert_eq!(
                fault(output),
                Some(format!("/options/output{pointer}")),
                "{output}"
            );
        }
    }

    #[test]
    fn everything_at_once_is_read_and_written() {
        let text = r##"{"format":"zip","background":{"gradient":{"type":"radial","stops":[{"color":"#fff","at":0},
            {"color":"#888","at":1}]}},"maxBytes":90000,"maxPixels":250000,"semitransparency":false,"crop":"subject",
            "cropMargin":"10% 5%","size":{"width":800,"height":600},"scale":"80%","position":"bottom","channels":"rgba",
            "shadow":{"type":"drop","opacity":0.4,"blur":"2%","offsetX":"-3px","offsetY":"1%","color":"#102030"}}"##;
        assert_eq!(fault(text), None);
        let output: OutputOptions = from_json(text.as_bytes()).unwrap();
        let written = serde_json::to_vec(&output).unwrap();
        assert_eq!(from_json::<OutputOptions>(&written).unwrap(), output);
        assert_eq!(
            from_json::<OutputOptions>(br#"{"shadow":"contact"}"#)
                .unwrap()
                .shadow
                .kind,
            crate::shadow::ShadowKind::Contact
        );
        assert!(from_json::<OutputOptions>(br#"{"shadow":"none","scale":"200%"}"#).is_err());
    }

    #[test]
    fn what_was_not_asked_for_is_not_written() {
        let written = serde_json::to_value(OutputOptions::default()).unwrap();
        let mut names: Vec<&String> = written.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["background", "channels", "crop", "format"]);
    }
}
