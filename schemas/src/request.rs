//! What a task asks for. Two published forms parse into one [`TaskRequest`]:
//! the short one, `{"images":["https://…"],"type":"auto","quality":"high"}`, and the long one with `taskId` and `options`.
//! Unknown fields are refused: a misspelt option that is silently ignored would be worse than an error.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use crate::{
    BlobRef, ErrorBody, ErrorCode,
    output::{OutputOptions, check_output},
    placement::Region,
    subject::SubjectChoice,
    trimap::Trimap,
    urgency::{self, Priority},
    watermark::Watermark,
};

pub use crate::output::{Background, Channels, Crop, ImageFormat};

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
    /// What the sender knows of its matte. A repeat over HTTP has the trimap of the image that it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trimap: Option<Trimap>,
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
            trimap: Option<Trimap>,
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
                    trimap,
                } = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(ImageSource {
                    url,
                    name,
                    size,
                    blob,
                    repeat_of,
                    trimap,
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
    /// IS-Net at 1024 × 1024, U²-Netp where that is in doubt, and a network that refines what they give.
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
    /// What is the subject, where several people or things stand out.
    #[serde(skip_serializing_if = "SubjectChoice::is_all")]
    pub subject: SubjectChoice,
    /// What marks the finished picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// Where in the upright picture the subject is: what lies outside is background. Two corners, `x1 y1 x2 y2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roi: Option<Region>,
    /// The finished picture.
    pub output: OutputOptions,
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
        if options.watermark.is_some() && options.output.channels != Channels::Rgba {
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
            if let Some(Err(message)) = image.trimap.as_ref().map(Trimap::check) {
                return Err(invalid(&format!("/images/{index}/trimap"), message));
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
    fn the_subject_is_chosen_in_words_or_by_a_rectangle() {
        let of = |options: &str| {
            let json = format!(r#"{{"images":["https://a.example/1.jpg"],"options":{options}}}"#);
            from_json::<TaskRequest>(json.as_bytes())
        };
        let options = |json: &str| of(json).unwrap().validate("gateway").unwrap().options;
        assert_eq!(options("{}").subject, SubjectChoice::All);
        assert_eq!(
            options(r#"{"subject":"main"}"#).subject,
            SubjectChoice::Main
        );
        let boxed = options(r#"{"subject":"0% 0% 50% 100%"}"#);
        assert!(matches!(boxed.subject, SubjectChoice::Within(_)));
        assert_eq!(
            serde_json::to_value(&boxed).unwrap()["subject"],
            "0% 0% 50% 100%"
        );
        assert!(of(r#"{"subject":"everybody"}"#).is_err());
    }

    #[test]
    fn what_is_not_built_is_refused_with_its_pointer() {
        let json = r#"{"images":["https://a.example/1.jpg"],"callback":"https://b.example"}"#;
        let error = request(json).validate("gateway").unwrap_err();
        assert_eq!(error.code, ErrorCode::OptionNotSupported);
        assert_eq!(error.details.pointer.as_deref(), Some("/callback"));
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
                r#"{"images":[{"url":"https://a.example/1.jpg","trimap":{}}]}"#,
                "/images/0/trimap",
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
}
