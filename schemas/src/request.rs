//! What a task asks for. Two published forms parse into one [`TaskRequest`]:
//! the short one, `{"images":["https://…"],"type":"auto","quality":"high"}`, and the long one with `taskId` and `options`.
//! Unknown fields are refused: a misspelt option that is silently ignored would be worse than an error.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use crate::{
    BlobRef, ErrorBody, ErrorCode,
    urgency::{self, Priority},
    watermark::Watermark,
};

/// Most images one task may carry.
pub const MAX_IMAGES_PER_TASK: usize = 1_000;

/// A task: images and what to do with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskRequest {
    /// The task's id; one is made where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Uuid>,
    /// The pictures, at least one.
    pub images: Vec<ImageSource>,
    /// Short form of `options.type`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindChoice>,
    /// Short form of `options.quality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Short form of `options.watermark.url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// The long form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<TaskOptions>,
    /// Where to send the answer when the task ends. Not built yet: refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// Until when the pictures are worth making. What no stage has begun by then ends as failed (`deadlineExceeded`); what
    /// is done stays.
    #[serde(
        default,
        deserialize_with = "urgency::deadline",
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<DateTime<Utc>>,
    /// Whether somebody waits for it.
    #[serde(default, skip_serializing_if = "Priority::is_interactive")]
    pub priority: Priority,
}

/// A task that goes through the pipeline again with other options: the same as a [`TaskRequest`], but that its pictures are
/// there already.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepeatRequest {
    /// The ids of the task's images to repeat, each once; all of them where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<Uuid>>,
    /// Short form of `options.type`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindChoice>,
    /// Short form of `options.quality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// What to do this time; what is not said has its default, whatever it was the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<TaskOptions>,
    /// As of every task.
    #[serde(
        default,
        deserialize_with = "urgency::deadline",
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<DateTime<Utc>>,
    /// As of every task.
    #[serde(default, skip_serializing_if = "Priority::is_interactive")]
    pub priority: Priority,
}

impl RepeatRequest {
    /// The task that it is, over `images`.
    pub fn of(self, images: Vec<ImageSource>) -> TaskRequest {
        TaskRequest {
            task_id: None,
            images,
            kind: self.kind,
            quality: self.quality,
            watermark: None,
            options: self.options,
            callback: None,
            deadline: self.deadline,
            priority: self.priority,
        }
    }
}

/// One picture: an address, or a blob that was already uploaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, transform = or_address)]
pub struct ImageSource {
    /// Where to fetch it, http or https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The file's name, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its size in bytes, as the sender says; a hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// A blob that was already uploaded, instead of `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRef>,
    /// The image that this is another version of; `blob` is then that image's original, as its end named it
    /// (`result.original`). It becomes a version where the ledger knows the image with this original, and is a picture of its
    /// own otherwise. It opens nothing that `blob` alone does not: whoever may publish tasks may read pictures. Over HTTP it
    /// is made by `POST /api/v1/tasks/{id}/repeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_of: Option<RepeatOf>,
}

/// An image that another one repeats with other options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepeatOf {
    /// Its task.
    pub task_id: Uuid,
    /// The image.
    pub image_id: Uuid,
}

/// The short form of an image is its address alone.
fn or_address(schema: &mut schemars::Schema) {
    let object = schema.clone();
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string", "format": "uri" }, object] });
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            url: Option<String>,
            name: Option<String>,
            size: Option<u64>,
            blob: Option<BlobRef>,
            repeat_of: Option<RepeatOf>,
        }
        struct StringOrObject;
        impl<'de> de::Visitor<'de> for StringOrObject {
            type Value = ImageSource;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an address, or an object with `url` or `blob`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<ImageSource, E> {
                Ok(ImageSource {
                    url: Some(url.to_owned()),
                    ..ImageSource::default()
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ImageSource, A::Error> {
                let Fields {
                    url,
                    name,
                    size,
                    blob,
                    repeat_of,
                } = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(ImageSource {
                    url,
                    name,
                    size,
                    blob,
                    repeat_of,
                })
            }
        }
        deserializer.deserialize_any(StringOrObject)
    }
}

/// What kind of picture to treat it as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KindChoice {
    /// What `classify` finds.
    #[default]
    Auto,
    /// A person.
    Portrait,
    /// A thing.
    Product,
    /// A logo, an icon, a drawing.
    Graphic,
}

/// What a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A person.
    Portrait,
    /// A thing.
    Product,
    /// A logo, an icon, a drawing.
    Graphic,
}

impl Kind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Portrait => "portrait",
            Self::Product => "product",
            Self::Graphic => "graphic",
        }
    }
}

/// How much time a cut-out may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Quality {
    /// IS-Net at 1024 × 1024.
    #[default]
    High,
    /// U²-Net at 320 × 320.
    Medium,
    /// U²-Netp at 320 × 320.
    Low,
}

/// Everything that may be chosen for a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TaskOptions {
    /// Kind of picture.
    #[serde(rename = "type")]
    pub kind: KindChoice,
    /// Time against precision.
    pub quality: Quality,
    /// A matting model of the catalogue by name, instead of the one that `quality` stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What marks the finished picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// The finished picture.
    pub output: OutputOptions,
}

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

impl TaskRequest {
    /// The options of either form.
    pub fn effective_options(&self) -> TaskOptions {
        let mut options = self.options.clone().unwrap_or_default();
        options.kind = self.kind.unwrap_or(options.kind);
        options.quality = self.quality.unwrap_or(options.quality);
        if let Some(url) = &self.watermark {
            options.watermark = Some(Watermark::from_url(url));
        }
        options
    }

    /// Brings either form into the long one and checks what types alone cannot say. `stage` names who checks.
    ///
    /// # Errors
    /// An [`ErrorBody`] with the JSON pointer of the first fault.
    pub fn validate(self, stage: &str) -> Result<ValidRequest, Box<ErrorBody>> {
        let invalid = |pointer: &str, message: String| {
            Box::new(
                ErrorBody::new(ErrorCode::InvalidRequest, stage, "InvalidRequest", message)
                    .at(pointer),
            )
        };
        let unsupported = |pointer: &str, what: &str| {
            let message = format!("`{what}` is not built yet and is refused rather than ignored");
            Box::new(
                ErrorBody::new(
                    ErrorCode::OptionNotSupported,
                    stage,
                    "OptionNotSupported",
                    message,
                )
                .at(pointer),
            )
        };
        if self.callback.is_some() {
            return Err(unsupported("/callback", "callback"));
        }
        let short_form = [
            ("/type", self.kind.is_some()),
            ("/quality", self.quality.is_some()),
            ("/watermark", self.watermark.is_some()),
        ];
        if self.options.is_some()
            && let Some((pointer, _)) = short_form.iter().find(|(_, is_there)| *is_there)
        {
            return Err(invalid(
                pointer,
                "give either the short form's `type`, `quality` and `watermark` or `options`, not both".into(),
            ));
        }
        let options = self.effective_options();
        if let Some(watermark) = &options.watermark
            && let Err(fault) = watermark.check()
        {
            let pointer = match self.watermark {
                Some(_) => "/watermark".to_owned(),
                None => format!("/options/watermark{}", fault.pointer),
            };
            return Err(invalid(&pointer, fault.message));
        }
        if options.watermark.is_some() && options.output.channels == Channels::Alpha {
            let message =
                "a matte alone takes no watermark: leave it out, or take `rgba`".to_owned();
            return Err(invalid("/options/output/channels", message));
        }
        check_output(&options.output, invalid)?;
        if self.images.is_empty() {
            return Err(invalid("/images", "a task needs at least one image".into()));
        }
        if self.images.len() > MAX_IMAGES_PER_TASK {
            let message = format!(
                "{} images in one task, at most {MAX_IMAGES_PER_TASK} are taken",
                self.images.len()
            );
            return Err(Box::new(
                ErrorBody::new(ErrorCode::TooManyImages, stage, "TooManyImages", message)
                    .at("/images"),
            ));
        }
        for (index, image) in self.images.iter().enumerate() {
            if image.url.is_some() == image.blob.is_some() {
                let message = "an image needs exactly one of `url` and `blob`".to_owned();
                return Err(invalid(&format!("/images/{index}"), message));
            }
            if image.repeat_of.is_some() && image.blob.is_none() {
                let message =
                    "an image that repeats another names its original as `blob`".to_owned();
                return Err(invalid(&format!("/images/{index}/repeatOf"), message));
            }
        }
        Ok(ValidRequest {
            task_id: self.task_id,
            images: self.images,
            options,
            deadline: self.deadline,
            priority: self.priority,
        })
    }
}

fn check_output(
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

/// A request that was checked, in the long form.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRequest {
    /// The task's id, where the sender gave one.
    pub task_id: Option<Uuid>,
    /// The pictures, at least one, each with exactly one of `url` and `blob`.
    pub images: Vec<ImageSource>,
    /// The options.
    pub options: TaskOptions,
    /// Until when the pictures are worth making.
    pub deadline: Option<DateTime<Utc>>,
    /// Whether somebody waits for it.
    pub priority: Priority,
}

impl From<ValidRequest> for TaskRequest {
    fn from(valid: ValidRequest) -> Self {
        Self {
            task_id: valid.task_id,
            images: valid.images,
            kind: None,
            quality: None,
            watermark: None,
            options: Some(valid.options),
            callback: None,
            deadline: valid.deadline,
            priority: valid.priority,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::from_json;

    fn request(json: &str) -> TaskRequest {
        from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn both_forms_are_the_same_task() {
        let short =
            request(r#"{"images":["https://a.example/1.jpg"],"type":"product","quality":"low"}"#);
        let long = request(
            r#"{"images":[{"url":"https://a.example/1.jpg"}],"options":{"type":"product","quality":"low"}}"#,
        );
        assert_eq!(
            short.validate("gateway").unwrap(),
            long.validate("gateway").unwrap()
        );
    }

    #[test]
    fn what_is_not_built_is_refused_with_its_pointer() {
        for (json, pointer) in [(
            r#"{"images":["https://a.example/1.jpg"],"callback":"https://b.example"}"#,
            "/callback",
        )] {
            let error = request(json).validate("gateway").unwrap_err();
            assert_eq!(error.code, ErrorCode::OptionNotSupported);
            assert_eq!(error.details.pointer.as_deref(), Some(pointer));
        }
    }

    #[test]
    fn limits_are_checked() {
        let many = format!(
            r#"{{"images":[{}]}}"#,
            vec![r#""https://a.example/1.jpg""#; 10_000].join(",")
        );
        assert_eq!(
            request(&many).validate("gateway").unwrap_err().code,
            ErrorCode::TooManyImages
        );
        for (json, pointer) in [
            (r#"{"images":[]}"#, "/images"),
            (r#"{"images":[{"name":"x"}]}"#, "/images/0"),
            (
                r#"{"images":[{"url":"https://a.example/1.jpg","repeatOf":{"taskId":"6f9619ff-8b86-4011-b42d-00c04fc964ff","imageId":"6f9619ff-8b86-4011-b42d-00c04fc964ff"}}]}"#,
                "/images/0/repeatOf",
            ),
            (
                r#"{"images":["https://a.example/1.jpg"],"options":{"output":{"encodingQuality":0}}}"#,
                "/options/output/encodingQuality",
            ),
            (
                r#"{"images":["https://a.example/1.jpg"],"options":{"output":{"edgeSmoothingPx":-1}}}"#,
                "/options/output/edgeSmoothingPx",
            ),
        ] {
            assert_eq!(
                request(json)
                    .validate("gateway")
                    .unwrap_err()
                    .details
                    .pointer
                    .as_deref(),
                Some(pointer)
            );
        }
    }

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
