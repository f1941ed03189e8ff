//! The shadow under a subject, as a request asks for it and as a result tells of it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{background::Color, placement::Length, request::Kind};

/// The shadow under a subject: a name (`"drop"`) or an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, transform = or_name)]
pub struct Shadow {
    /// Which shadow.
    #[serde(rename = "type")]
    pub kind: ShadowKind,
    /// How dark it is where it is darkest, from 0 to 1; 0.5 where it is absent. Of a kept one: the factor on what was found, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub opacity: Option<f32>,
    /// How soft a drawn one is, as a standard deviation; percent are of the longer side of the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur: Option<Length>,
    /// How far to the right a dropped one is; percent are of the longer side of the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_x: Option<Length>,
    /// How far down a dropped one is; percent are of the longer side of the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_y: Option<Length>,
    /// Its colour; black where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
}

/// Which shadow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ShadowKind {
    /// None.
    #[default]
    None,
    /// The picture's own, as a dark layer: where the background around the subject is even enough to tell it.
    Keep,
    /// The subject's outline, out of focus and moved.
    Drop,
    /// On the ground, where the subject touches it.
    Contact,
    /// `contact` for a portrait, `drop` for everything else.
    Auto,
}

/// What became of the shadow that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ShadowOutcome {
    /// It was drawn.
    Drawn,
    /// The picture's own was kept.
    Kept,
    /// The picture has none that is attached to the subject.
    NotFound,
    /// The subject is cut off by the lower border of the picture: there is no ground for a contact shadow.
    NoGround,
    /// The background is too busy to tell a shadow from it: there is none.
    BackgroundTooBusy,
}

/// The short form of a shadow is its name alone.
fn or_name(schema: &mut schemars::Schema) {
    let object = schema.clone();
    *schema = schemars::json_schema!({
        "anyOf": [{ "enum": ["none", "keep", "drop", "contact", "auto"] }, object]
    });
}

impl Shadow {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.kind == ShadowKind::None
    }

    /// The kind that is meant for a picture of `kind`.
    pub fn kind_for(&self, kind: Kind) -> ShadowKind {
        match (self.kind, kind) {
            (ShadowKind::Auto, Kind::Portrait) => ShadowKind::Contact,
            (ShadowKind::Auto, Kind::Product | Kind::Graphic) => ShadowKind::Drop,
            (named, _) => named,
        }
    }

    /// Checks what parsing cannot say.
    ///
    /// # Errors
    /// Where under the shadow the fault is, and what is wrong.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(opacity) = self.opacity
            && !(0.0..=1.0).contains(&opacity)
        {
            return Err(("/opacity", format!("{opacity} is not from 0 to 1")));
        }
        if self.blur.is_some_and(|blur| !blur.is_distance()) {
            return Err(("/blur", "a blur cannot be negative".into()));
        }
        let drawn = [
            ("/blur", self.blur.is_some()),
            ("/offsetX", self.offset_x.is_some()),
            ("/offsetY", self.offset_y.is_some()),
            ("/color", self.color.is_some()),
        ];
        let unused = match self.kind {
            ShadowKind::None => drawn.iter().find(|(_, given)| *given),
            ShadowKind::Keep => drawn[..3].iter().find(|(_, given)| *given),
            ShadowKind::Contact => drawn[1..3].iter().find(|(_, given)| *given),
            ShadowKind::Drop | ShadowKind::Auto => None,
        };
        match unused {
            Some((pointer, _)) => Err((
                pointer,
                format!("a shadow of type {:?} has none of these", self.kind).to_lowercase(),
            )),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Shadow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            #[serde(rename = "type")]
            kind: ShadowKind,
            opacity: Option<f32>,
            blur: Option<Length>,
            offset_x: Option<Length>,
            offset_y: Option<Length>,
            color: Option<Color>,
        }
        struct NameOrObject;
        impl<'de> de::Visitor<'de> for NameOrObject {
            type Value = Shadow;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("none, keep, drop, contact, auto, or an object with `type`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Shadow, E> {
                let kind = ShadowKind::deserialize(de::value::StrDeserializer::<E>::new(name))?;
                Ok(Shadow {
                    kind,
                    ..Shadow::default()
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Shadow, A::Error> {
                let Fields {
                    kind,
                    opacity,
                    blur,
                    offset_x,
                    offset_y,
                    color,
                } = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Shadow {
                    kind,
                    opacity,
                    blur,
                    offset_x,
                    offset_y,
                    color,
                })
            }
        }
        deserializer.deserialize_any(NameOrObject)
    }
}
